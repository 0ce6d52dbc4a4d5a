"""Kustomizations of `manifests/` as kubectl renders them."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from kaito.cli.kubectl import find_kubectl

Object = dict[str, Any]

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = ("default", *(f"overlays/{each.name}" for each in sorted((MANIFESTS / "overlays").iterdir())))
"""What users apply."""


def kustomizations() -> list[str]:
    """Folders below `manifests/` that can be applied."""
    files = sorted(MANIFESTS.rglob("kustomization.yaml"))
    return [
        file.parent.relative_to(MANIFESTS).as_posix()
        for file in files
        if yaml.safe_load(file.read_text())["kind"] == "Kustomization"
    ]


@functools.cache
def _rendered(folder: Path) -> str:
    done = subprocess.run([find_kubectl(), "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sys.stderr.write(done.stderr)  # warnings, of fields that kustomize calls deprecated
    assert not done.stderr
    return done.stdout


def render(folder: str | Path) -> list[Object]:
    """The objects that a folder, below `manifests/` or elsewhere, stands for; the caller's own."""
    return [each for each in yaml.safe_load_all(_rendered(MANIFESTS / folder)) if each]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def key(item: Object) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    meta = item["metadata"]
    return item["kind"], meta.get("namespace", ""), meta["name"]
