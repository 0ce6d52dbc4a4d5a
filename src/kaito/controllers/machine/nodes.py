"""What the life cycle asks of a Node and writes onto it. Pure functions over decoded objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kaito.api import labels
from kaito.api.conditions import is_true
from kaito.controllers.machine.shapes import ClaimShape, is_positive, requests
from kaito.provisioner.cloud import EXISTING_SCHEME

Object = Mapping[str, Any]

EPHEMERAL_TAINTS: Final = (
    ("node.kubernetes.io/not-ready", "NoSchedule"),
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoSchedule"),
    ("node.cloudprovider.kubernetes.io/uninitialized", "NoSchedule"),
    (labels.UNREGISTERED_TAINT, "NoExecute"),
)
"""Taints that Kubernetes itself takes away once a node is usable."""
READINESS_TAINTS: Final = "readiness.k8s.io/"
"""Keys that begin so are taken away by a controller of node readiness, once the node is usable."""
NOT_CHECKED: Final = frozenset({"storage"})
"""Requested resources that never appear in a node's allocatable: `storage` sizes the disk."""
NOT_COPIED: Final = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
EXCLUDE_VALUE: Final = "karpenter"


def provider_key(provider_id: str) -> str:
    """The same for all spellings of one id: clouds do not tell upper from lower case in them."""
    return provider_id.lower()


def is_disrupted(node: Object) -> bool:
    """Whether the node already carries the taint of a node that is going away."""
    return any(taint.get("key") == labels.DISRUPTED_TAINT for taint in _taints(node))


def cordon_patch(node: Object) -> dict[str, Any]:
    """No new pods, no traffic from load balancers."""
    taints = [*_taints(node), {"key": labels.DISRUPTED_TAINT, "effect": "NoSchedule"}]
    return {
        "metadata": {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "labels": {labels.EXCLUDE_FROM_LB_LABEL: EXCLUDE_VALUE},
        },
        "spec": {"taints": taints},
    }


def registration_patch(
    shape: ClaimShape, claim: Object, node: Object, *, again: bool = False
) -> dict[str, Any] | None:
    """What makes the Node the claim's own; None when it is already.

    Finalizer, owner, the claim's labels and annotations, its taints and startup taints (unless the node's owner asked
    not to sync them), the mark of an unregistered node taken away. A Node that is lent gets no finalizer and no owner:
    it must not go with the claim.

    again: the claim was registered before. Startup taints are not put on a second time then.
    """
    metadata, wanted = node["metadata"], claim["metadata"]
    found_labels = metadata.get("labels") or {}
    if found_labels.get(labels.REGISTERED_LABEL) == "true":
        return _class_patch(shape, claim, node)
    annotations = {
        key: value for key, value in (wanted.get("annotations") or {}).items() if key not in NOT_COPIED
    }
    taints = _taints(node)
    if found_labels.get(labels.DO_NOT_SYNC_TAINTS_LABEL) != "true":
        spec = claim.get("spec") or {}
        startup = () if again else spec.get("startupTaints") or ()
        taints = _with(taints, [*(spec.get("taints") or ()), *startup])
    patch: dict[str, Any] = {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "labels": {**(wanted.get("labels") or {}), labels.REGISTERED_LABEL: "true"},
            "annotations": annotations,
        },
        "spec": {"taints": [taint for taint in taints if taint["key"] != labels.UNREGISTERED_TAINT]},
    }
    if not is_lent(claim):
        patch["metadata"] |= _belongings(shape, wanted, metadata)
    return patch


def _class_patch(shape: ClaimShape, claim: Object, node: Object) -> dict[str, Any] | None:
    """The node class's label for a Node that was registered without it, by an older version or by another provisioner.

    Not for a Node that is lent: nobody would take it off again."""
    found = node["metadata"].get("labels") or {}
    missing = {key: value for key, value in shape.class_labels(claim).items() if key not in found}
    if not missing or is_lent(claim):
        return None
    return {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"], "labels": missing}}


def is_lent(claim: Object) -> bool:
    """Whether the claim's Node was there before it and stays after it."""
    return str((claim.get("status") or {}).get("providerID", "")).startswith(EXISTING_SCHEME)


def is_lent_to(node: Object, claim: Object) -> bool:
    """Whether a lent Node still carries the mark of this claim; whoever takes it off takes the node back."""
    found = (node["metadata"].get("annotations") or {}).get(labels.CLAIM_UID_ANNOTATION)
    return bool(found == claim["metadata"]["uid"])


def _belongings(shape: ClaimShape, claim: Object, node: Object) -> dict[str, Any]:
    """Finalizer and owner of a Node that lives and dies with its claim; both arguments are metadata."""
    owner = {
        "apiVersion": shape.resource.api_version,
        "kind": shape.resource.kind,
        "name": claim["name"],
        "uid": claim["uid"],
        "blockOwnerDeletion": True,
    }
    others = [each for each in node.get("ownerReferences") or () if each["uid"] != claim["uid"]]
    return {
        "finalizers": _once([*(node.get("finalizers") or ()), labels.TERMINATION_FINALIZER]),
        "ownerReferences": [*others, owner],
    }


def patched(node: Object, patch: Mapping[str, Any]) -> dict[str, Any]:
    """The node as it will be after such a merge patch; enough for deciding what comes next."""
    metadata = {**node["metadata"], **patch["metadata"]}
    for key in ("labels", "annotations"):
        metadata[key] = {**(node["metadata"].get(key) or {}), **(patch["metadata"].get(key) or {})}
    return {**node, "metadata": metadata, "spec": {**(node.get("spec") or {}), **(patch.get("spec") or {})}}


def not_initialized(claim: Object, node: Object) -> tuple[str, str] | None:
    """Reason and message of the first thing the node lacks; None when it can take the claim's pods."""
    status = node.get("status") or {}
    if not is_true(status.get("conditions"), "Ready"):
        return "NodeNotReady", "Node status is NotReady"
    taints = _taints(node)
    for taint in (claim.get("spec") or {}).get("startupTaints") or ():
        if _has(taints, taint):
            return "StartupTaintsExist", f'StartupTaint "{_text(taint)}" still exists'
    for taint in taints:
        kind = str(taint.get("key")), str(taint.get("effect"))
        if kind in EPHEMERAL_TAINTS or kind[0].startswith(READINESS_TAINTS):
            return "KnownEphemeralTaintsExist", f'KnownEphemeralTaint "{":".join(kind)}" still exists'
    allocatable = status.get("allocatable") or {}
    for name in expected_resources(claim):
        if not is_positive(allocatable.get(name, "0")):
            return (
                "ResourceNotRegistered",
                f'Resource "{name}" was requested but not registered{_advice(name, node)}',
            )
    return None


def _advice(resource: str, node: Object) -> str:
    """What to look at while GPUs are missing: drivers take minutes, a missing device plugin for ever."""
    if resource != labels.GPU_RESOURCE:
        return ""
    name = node["metadata"]["name"]
    return f" by the node {name}: its driver may still be starting; if not, does the NVIDIA device plugin run there?"


def expected_resources(claim: Object) -> list[str]:
    """Resources that must be there: those requested, and the GPUs its size is known to have."""
    capacity = (claim.get("status") or {}).get("capacity") or {}
    gpus = [name for name, amount in capacity.items() if "/" in name and is_positive(amount)]
    return sorted({*(name for name in requests(claim) if name not in NOT_CHECKED), *gpus})


def missing_gpus(claim: Object, node: Object) -> str | None:
    """`4 nvidia.com/gpu`, when the claim's size has GPUs and the Node shows none of them."""
    capacity = (claim.get("status") or {}).get("capacity") or {}
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    for name in expected_resources(claim):
        if name in capacity and not is_positive(allocatable.get(name, "0")):
            return f"{capacity[name]} {name}"
    return None


def _taints(node: Object) -> list[dict[str, Any]]:
    return [dict(taint) for taint in (node.get("spec") or {}).get("taints") or ()]


def _has(taints: Iterable[Object], taint: Object) -> bool:
    return any(each.get("key") == taint["key"] and each.get("effect") == taint["effect"] for each in taints)


def _with(taints: list[dict[str, Any]], more: Iterable[Object]) -> list[dict[str, Any]]:
    return [*taints, *(dict(taint) for taint in more if not _has(taints, taint))]


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _text(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"
