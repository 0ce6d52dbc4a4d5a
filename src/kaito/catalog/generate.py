"""Writes the catalogue's JSON schema from the models: `python -m kaito.catalog.generate [--check] [DIRECTORY]`.

Editors check the YAML files against it while they are written, and so can users theirs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kaito.api import generated
from kaito.catalog.models import Catalog

FILE: Final = "catalog.schema.json"
DIRECTORY: Final = Path("presets/catalog")


def rendered() -> dict[str, str]:
    """File name to contents."""
    schema = Catalog.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A file of KAITO's catalogue: presets and GPU SKUs"
    schema["$comment"] = "Made from src/kaito/catalog/models.py by `python -m kaito.catalog.generate`."
    return {FILE: json.dumps(schema, indent=2, sort_keys=True) + "\n"}


def drift(directory: Path) -> list[str]:
    """Names of files that differ from the models or are missing."""
    return generated.drift(directory, rendered(), directory.glob("*.schema.json"))


def write(directory: Path) -> list[str]:
    """Makes the file equal to the models; returns the names of what changed."""
    return generated.write(directory, rendered(), drift(directory))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when `--check` finds a difference."""
    return generated.command("kaito.catalog.generate", __doc__, DIRECTORY, drift, write, arguments)


if __name__ == "__main__":
    sys.exit(main())
