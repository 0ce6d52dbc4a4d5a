"""What Go KAITO leaves in a cluster (see fixtures/gokaito): as one Workspace's world, and as objects to create."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from kaito.controllers.workspace import Observed

Object = dict[str, Any]

FOLDER: Final = Path(__file__).parents[1] / "fixtures" / "gokaito"
CASES: Final = ("single-node", "multi-node", "template", "inference-set", "machine-era")
"""Installations whose model is served; `starting` is one that has no workload yet."""
UID: Final = "8d1f8c3e-0000-4000-8000-000000000001"


def objects(case: str, uid: str = UID) -> list[Object]:
    """The case's objects, as the API server hands them out."""
    text = (FOLDER / f"{case}.yaml").read_text(encoding="utf-8").replace("WORKSPACE_UID", uid)
    found: list[Object] = list(yaml.safe_load_all(text))
    for each in found:
        each["metadata"].setdefault("resourceVersion", "7")
    return found


def kind(found: Sequence[Object], *kinds: str) -> list[Object]:
    """Those of these kinds."""
    return [each for each in found if each["kind"] in kinds]


def observed(case: str, uid: str = UID) -> Observed:
    """The case as the caches show it."""
    found = objects(case, uid)
    (workspace,) = kind(found, "Workspace")
    services = {each["metadata"]["name"]: each for each in kind(found, "Service")}
    name = workspace["metadata"]["name"]
    return Observed(
        workspace=workspace,
        claims=tuple(kind(found, "NodeClaim", "Machine")),
        nodes={each["metadata"]["name"]: each for each in kind(found, "Node")},
        deployment=next(iter(kind(found, "Deployment")), None),
        stateful_set=next(iter(kind(found, "StatefulSet")), None),
        service=services.get(name),
        headless=services.get(f"{name}-headless"),
        pods=tuple(kind(found, "Pod")),
    )
