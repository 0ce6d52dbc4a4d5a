"""The command of programs that write files of the repository: write them, or with `--check` say which are stale."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(stale: Callable[[], Sequence[Path]], write: Callable[[], object]) -> int:
    """Exit status 1 where `--check` finds a stale file."""
    if "--check" not in sys.argv[1:]:
        write()
        return 0
    old = stale()
    for path in old:
        print(f"{path.relative_to(ROOT)} is stale: run `make manifests`", file=sys.stderr)
    return 1 if old else 0
