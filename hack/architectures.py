"""Makes src/kaito/catalog/hub/architectures.json: the architectures that the engines' own tables of models name.

    pip download --no-deps --only-binary :all: vllm==… transformers==…
    python hack/architectures.py vllm-*.whl transformers-*.whl

Only the wheels' source is read; nothing of them runs. Versions are those that the images pin.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[1] / "src" / "kaito" / "catalog" / "hub" / "architectures.json"
TABLES: Final = {
    "vllm": ("vllm/model_executor/models/registry.py", ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")),
    "transformers": (
        "transformers/models/auto/modeling_auto.py",
        ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",),
    ),
}
"""Package: file in its wheel, and the tables in it of what generates text."""


def main(wheels: list[str]) -> int:
    found: dict[str, Any] = {}
    for wheel in map(Path, wheels):
        package, version = wheel.name.split("-")[:2]
        path, names = TABLES[package]
        with zipfile.ZipFile(wheel) as archive:
            tree = ast.parse(archive.read(path))
        found[package] = {
            "version": version,
            "wheel": wheel.name,
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
            "architectures": sorted({each for name in names for each in architectures(tree, name)}),
        }
    missing = TABLES.keys() - found.keys()
    if missing:
        print(f"give the wheels of {' and '.join(sorted(missing))} too", file=sys.stderr)
        return 2
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    return 0


def architectures(tree: ast.Module, table: str) -> Iterator[str]:
    """vLLM maps architectures to where they are; transformers maps kinds of models to architectures."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and table in {ast.unparse(each) for each in statement.targets}:
            if isinstance(statement.value, ast.Dict):
                keys = (each for each in statement.value.keys if isinstance(each, ast.Constant))
                yield from (each.value for each in keys)  # type: ignore[misc] # a constant may be of any type
            elif isinstance(statement.value, ast.Call):
                for pair in ast.literal_eval(statement.value.args[0]):
                    yield from [pair[1]] if isinstance(pair[1], str) else pair[1]
            return
    raise SystemExit(f"the table {table} is not where it was")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
