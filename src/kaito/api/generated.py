"""Files that are made from code and kept beside it: found different, written, checked."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

Find = Callable[[Path], list[str]]
"""Names of files of a directory: those that differ, or that were changed."""


def drift(directory: Path, wanted: Mapping[str, str], there: Iterable[Path]) -> list[str]:
    """Names of files that differ from what is wanted, are missing, or are wanted by nothing."""
    found = {path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8") for path in there}
    return sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))


def write(directory: Path, wanted: Mapping[str, str], changed: list[str]) -> list[str]:
    """Writes those that changed, and removes those that are wanted by nothing; returns their names."""
    for name in changed:
        path = directory / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def command(
    module: str, about: str | None, default: Path, check: Find, write: Find, arguments: Sequence[str] | None
) -> int:
    """`python -m MODULE [--check] [DIRECTORY]`. Exit status 0; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("directory", type=Path, nargs="?", default=default)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail where files and code differ"
    )
    options = parser.parse_args(arguments)
    changed = check(options.directory) if options.check else write(options.directory)
    for name in changed:
        print(f"{'differs' if options.check else 'wrote'}: {options.directory / name}")
    return 1 if options.check and changed else 0
