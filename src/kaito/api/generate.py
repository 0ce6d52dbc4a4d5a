"""Writes the CRDs' files from the models: `python -m kaito.api.generate [--check] DIRECTORY`.

`crd/` has what every cluster needs. `crd-karpenter/` has the kinds shared with Karpenter, which a cluster with a
Karpenter has already and in a version of its own: the two are never installed together by accident.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kaito.api.crds import KAITO_CRDS, KARPENTER_CRDS, crd_manifest, file_name
from kaito.runtime.crd import to_yaml

HEADER: Final = (
    "# Made from src/kaito/api by `python -m kaito.api.generate`; change the models instead.\n---\n"
)
FOLDERS: Final = {"crd": KAITO_CRDS, "crd-karpenter": KARPENTER_CRDS}
"""Folder of `manifests/` to the CRDs in it."""
KUSTOMIZATION: Final = "kustomization.yaml"


def rendered() -> dict[str, str]:
    """Path below `manifests/` to contents."""
    files: dict[str, str] = {}
    for folder, crds in FOLDERS.items():
        names = [file_name(crd) for crd in crds]
        files[f"{folder}/{KUSTOMIZATION}"] = _kustomization(names)
        for crd, name in zip(crds, names, strict=True):
            files[f"{folder}/{name}"] = HEADER + to_yaml(crd_manifest(crd))
    return files


def _kustomization(names: Sequence[str]) -> str:
    resources = "".join(f"  - {name}\n" for name in sorted(names))
    return (
        f"{HEADER}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{resources}"
    )


def drift(directory: Path) -> list[str]:
    """Paths of files that differ from the models, are missing, or have no model."""
    wanted = rendered()
    there = {
        path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in (directory / folder).glob("*.yaml")
    }
    return sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))


def write(directory: Path) -> list[str]:
    """Makes the folders in the directory equal to the models; returns the paths that changed."""
    changed = drift(directory)
    wanted = rendered()
    for name in changed:
        path = directory / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m kaito.api.generate", description=__doc__)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("manifests"))
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
