"""Writes `manifests/crd/*.yaml` from the models: `python -m kaito.api.generate [--check] DIRECTORY`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kaito.api.crds import CUSTOM_RESOURCES, file_name
from kaito.runtime.crd import to_yaml

HEADER = "# Made from src/kaito/api by `python -m kaito.api.generate manifests/crd`; change the models instead.\n---\n"


def rendered() -> dict[str, str]:
    """File name to contents."""
    return {file_name(crd): HEADER + to_yaml(crd.manifest()) for crd in CUSTOM_RESOURCES}


def drift(directory: Path) -> list[str]:
    """Names of files that differ from the models, are missing, or have no model."""
    wanted = rendered()
    there = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.yaml")}
    return sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))


def write(directory: Path) -> list[str]:
    """Makes the directory equal to the models; returns the names that changed."""
    changed = drift(directory)
    wanted = rendered()
    directory.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (directory / name).write_text(wanted[name], encoding="utf-8")
        else:
            (directory / name).unlink()
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m kaito.api.generate", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("manifests/crd"))
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail where files and models differ"
    )
    options = parser.parse_args(arguments)
    changed = drift(options.directory) if options.check else write(options.directory)
    for name in changed:
        print(f"{'differs' if options.check else 'wrote'}: {options.directory / name}")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
