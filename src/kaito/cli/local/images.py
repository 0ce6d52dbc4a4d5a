"""Which images the local mode can run, and what they hold.

There is no container engine: an image is an entry in a table, with the command lines it knows, its environment and
folders that stand for its content. KAITO's own images run from the installed `kaito_presets` package.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from kaito.cli.errors import CliError

OCI_PREFIX = "oci:"


def parse_image_map(options: Iterable[str]) -> dict[str, Path]:
    """`REF=oci:PATH` options as a mapping from reference to the folder of an OCI image layout.

    Raises:
        CliError: an option has another form, or there is no image layout at its path.
    """
    mapped: dict[str, Path] = {}
    for option in options:
        reference, equals, target = option.partition("=")
        if not equals or not reference or not target.startswith(OCI_PREFIX):
            raise CliError(
                f"--image {option}: write REF=oci:PATH, for example registry.example.com/a:1=oci:./layout"
            )
        path = Path(target[len(OCI_PREFIX) :]).expanduser().resolve()
        if not (path / "oci-layout").is_file() or not (path / "index.json").is_file():
            raise CliError(
                f"--image {option}: {path} is not an OCI image layout (it has no oci-layout and index.json)."
            )
        mapped[reference] = path
    return mapped


def image_map_options(mapped: Mapping[str, Path]) -> list[str]:
    """The mapping as arguments for a child process."""
    return [f"--image={reference}={OCI_PREFIX}{path}" for reference, path in mapped.items()]


def image_map_json(mapped: Mapping[str, Path]) -> str:
    """The mapping as the puller in a pod reads it from its environment."""
    return json.dumps(
        {reference: f"{OCI_PREFIX}{path}" for reference, path in mapped.items()}, sort_keys=True
    )


def require_presets() -> None:
    """Raises CliError when the package that runs in the pods is not installed."""
    if importlib.util.find_spec("kaito_presets") is None:
        raise CliError(
            "The local mode needs the kaito-presets package: install kaito with its `local` extra."
        )
