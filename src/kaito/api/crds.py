"""All CustomResourceDefinitions of KAITO, made from the models."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, Final

from kaito.api.adapter import ADAPTER_CRD
from kaito.api.machine import MACHINE_CRD
from kaito.api.nodeclaim import NODECLAIM_CRD
from kaito.api.workspace import WORKSPACE_CRD
from kaito.runtime.crd import CustomResource

CUSTOM_RESOURCES: Final[tuple[CustomResource, ...]] = (WORKSPACE_CRD, ADAPTER_CRD, MACHINE_CRD, NODECLAIM_CRD)


def crd_manifests() -> list[dict[str, Any]]:
    """The CRDs as dicts, ready to be applied; the caller's own."""
    return copy.deepcopy(_manifests())


@cache
def _manifests() -> list[dict[str, Any]]:
    return [crd.manifest() for crd in CUSTOM_RESOURCES]


def file_name(crd: CustomResource) -> str:
    """Name of a CRD's file: `kaito.sh_workspaces.yaml`."""
    return f"{crd.group}_{crd.plural}.yaml"
