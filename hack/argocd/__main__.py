"""`python -m hack.argocd [--check]`."""

from __future__ import annotations

import sys

from hack.argocd.files import ROOT, stale, write


def main() -> int:
    if "--check" in sys.argv[1:]:
        old = stale()
        for path in old:
            print(f"{path.relative_to(ROOT)} is stale: run `make manifests`", file=sys.stderr)
        return 1 if old else 0
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
