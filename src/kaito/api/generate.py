"""Writes the CRDs' files from the models: `python -m kaito.api.generate [--check] DIRECTORY`.

`crd/` has what every cluster needs. `crd-karpenter/` has the kinds shared with Karpenter, which a cluster with a
Karpenter has already and in a version of its own: the two are never installed together by accident.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kaito.api import generated
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
    there = (path for folder in FOLDERS for path in (directory / folder).glob("*.yaml"))
    return generated.drift(directory, rendered(), there)


def write(directory: Path) -> list[str]:
    """Makes the folders in the directory equal to the models; returns the paths that changed."""
    return generated.write(directory, rendered(), drift(directory))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when `--check` finds a difference."""
    return generated.command("kaito.api.generate", __doc__, Path("manifests"), drift, write, arguments)


if __name__ == "__main__":
    sys.exit(main())
