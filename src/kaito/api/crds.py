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

KAITO_CRDS: Final[tuple[CustomResource, ...]] = (WORKSPACE_CRD, ADAPTER_CRD)
KARPENTER_CRDS: Final[tuple[CustomResource, ...]] = (MACHINE_CRD, NODECLAIM_CRD)
"""Karpenter's kinds, for clusters without a Karpenter: there they are Karpenter's to install and to upgrade."""
CUSTOM_RESOURCES: Final[tuple[CustomResource, ...]] = (*KAITO_CRDS, *KARPENTER_CRDS)

KEPT: Final = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "client.lifecycle.config.k8s.io/deletion": "detach",
    "helm.sh/resource-policy": "keep",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""Annotations by which Argo CD, kpt and Config Sync, Helm, and Flux leave an object alone when it disappears from
what they apply. Deleting a definition deletes every object of its kind: with these, only a person does that."""
LABELS: Final = {"app.kubernetes.io/name": "kaito", "app.kubernetes.io/part-of": "kaito"}
"""Labels of all that comes from `manifests/`: by them `kaito uninstall` tells these definitions from a Karpenter's."""


def crd_manifests() -> list[dict[str, Any]]:
    """The CRDs as dicts, ready to be applied; the caller's own."""
    return copy.deepcopy(_manifests())


def crd_manifest(crd: CustomResource) -> dict[str, Any]:
    """One CRD as it is applied: with the annotations that keep it, and labels. Raises `CrdError`."""
    manifest = crd.manifest()
    manifest["metadata"] |= {"labels": dict(LABELS), "annotations": dict(KEPT)}
    return manifest


@cache
def _manifests() -> list[dict[str, Any]]:
    return [crd_manifest(crd) for crd in CUSTOM_RESOURCES]


def file_name(crd: CustomResource) -> str:
    """Name of a CRD's file: `kaito.sh_workspaces.yaml`."""
    return f"{crd.group}_{crd.plural}.yaml"
