"""Which existing node a claim may have, what is written onto it, and how that is undone. Pure functions over Nodes.

Whatever a claim changes on a Node is written down in an annotation of the Node before it is changed, with what was
there: the node can be given back by any process at any time, and looks as it did.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kaito.api import labels
from kaito.api.conditions import is_true
from kaito.catalog import Catalog, GpuSku
from kaito.provisioner.cloud import ClaimSpec

Object = Mapping[str, Any]

CLAIM_LABEL: Final = "kaito.sh/claim"
"""On a lent Node: name of the Machine or NodeClaim that has it."""
RESTORE_ANNOTATION: Final = "kaito.sh/restore"
"""On a lent Node: JSON of what giving it back puts in place again: `labels` and `annotations` with their values of
before (null: there was none), `taints` that were added."""
NOT_COPIED: Final = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
MEMORY_TOLERANCE: Final = 0.9
"""Drivers report somewhat less than a GPU's nominal memory."""
NAMED_NODES: Final = 5
"""Nodes that a refusal names; more are counted."""


def essentials(node: Object) -> dict[str, Any]:
    """A Node without what these rules never read, images and heartbeats above all; read once for each version."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    return {
        "metadata": {
            key: metadata[key]
            for key in ("name", "resourceVersion", "labels", "annotations", "deletionTimestamp")
            if key in metadata
        },
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": {
            "conditions": [each for each in status.get("conditions") or () if each.get("type") == "Ready"],
            "allocatable": status.get("allocatable") or {},
        },
    }


def is_free(node: Object) -> bool:
    """Whether no claim and no Workspace has it."""
    metadata = node["metadata"]
    taken = (labels.WORKSPACE_LABEL, labels.REGISTERED_LABEL, labels.RAGENGINE_LABEL)
    return not claim_uid(node) and not any(key in (metadata.get("labels") or {}) for key in taken)


def claim_uid(node: Object) -> str:
    """Uid of the claim that the Node is lent to; empty where it is not."""
    uid: str = (node["metadata"].get("annotations") or {}).get(labels.CLAIM_UID_ANNOTATION, "")
    return uid


def fitting_type(node: Object, claim: ClaimSpec, catalog: Catalog) -> tuple[str, str]:
    """The instance type that this Node can stand for, or "" and why it cannot have the claim."""
    if (obstacle := _obstacle(node, claim)) is not None:
        return "", obstacle
    own = _labels(node).get(labels.INSTANCE_TYPE_LABEL, "")
    if catalog.sku(own) is not None:
        # A word that is no machine size (k3s writes "k3s") is replaced while the claim has the node.
        same = [name for name in claim.instance_types if name.lower() == own.lower()]
        if not same:
            return "", f"is a {own}, not {_either(claim.instance_types)}"
        return same[0], _gpu_obstacle(node, catalog.sku(own)) or ""
    reason = ""
    for name in claim.instance_types:
        reason = _gpu_obstacle(node, catalog.sku(name)) or ""
        if not reason:
            return name, ""
    return "", reason


def _obstacle(node: Object, claim: ClaimSpec) -> str | None:
    if "deletionTimestamp" in node["metadata"]:
        return "is being deleted"
    if not is_free(node):
        owner = (
            _labels(node).get(CLAIM_LABEL)
            or _labels(node).get(labels.WORKSPACE_LABEL)
            or "another controller"
        )
        return f"is taken by {owner}"
    if not is_true((node.get("status") or {}).get("conditions"), "Ready"):
        return "is not Ready"
    if (node.get("spec") or {}).get("unschedulable"):
        return "is cordoned"
    for key, value in sorted(claim.labels.items()):
        found = _labels(node).get(key, value)
        if found != value and key != labels.INSTANCE_TYPE_LABEL:
            return f"has the label {key}={found}, not {value}"
    allocatable = _allocatable(node)
    for resource in sorted(claim.requests):
        if resource != "storage" and resource not in allocatable:
            return f"offers no {resource}"
    return None


def _gpu_obstacle(node: Object, sku: GpuSku | None) -> str | None:
    if sku is None or not sku.nvidia:
        return None
    offered = str(_allocatable(node).get(labels.GPU_RESOURCE, "0"))
    count = int(offered) if offered.isdecimal() else 0
    if count < sku.gpus:
        return f"offers {count} of {sku.gpus} {labels.GPU_RESOURCE}"
    memory = _labels(node).get(labels.GPU_MEMORY_LABEL, "")
    wanted = sku.memory_per_gpu_gib * 1024
    if memory.isdecimal() and int(memory) < wanted * MEMORY_TOLERANCE:
        return f"has GPUs of {memory} MiB, and those of {sku.name} have {wanted:.0f}"
    return None


def affinity(node: Object, claim: ClaimSpec) -> tuple[int, str]:
    """Sorts nodes that fit: those that have most of the claim's labels already come first, then by name."""
    present = sum(_labels(node).get(key) == value for key, value in claim.labels.items())
    return -present, node["metadata"]["name"]


def refusal(obstacles: Iterable[tuple[str, str]], selector: str) -> str:
    """The sentence for a claim that no node fits, from names of nodes and what is in the way."""
    found = sorted(obstacles)
    if not found:
        return (
            f"no node has the label {selector}; `kubectl label node NAME {selector}` lends one to Workspaces"
        )
    named = "; ".join(f"{name} {obstacle}" for name, obstacle in found[:NAMED_NODES])
    more = f"; and {len(found) - NAMED_NODES} more" if len(found) > NAMED_NODES else ""
    return f"none of the nodes with the label {selector} fits: {named}{more}"


def lending_patch(node: Object, claim: ClaimSpec, instance_type: str) -> dict[str, Any]:
    """Marks the Node as the claim's and gives it the instance type; writes down all that the claim will change.

    The claim's labels, annotations and taints follow when the machine controller registers the Node.
    """
    metadata = node["metadata"]
    written = {
        **claim.labels,
        labels.INSTANCE_TYPE_LABEL: instance_type,
        labels.REGISTERED_LABEL: "true",
        labels.INITIALIZED_LABEL: "true",
    }
    copied = {key: value for key, value in claim.annotations.items() if key not in NOT_COPIED}
    found_annotations = metadata.get("annotations") or {}
    restore = {
        "labels": _before(_labels(node), written),
        "annotations": _before(found_annotations, copied),
        "taints": [
            {"key": taint["key"], "effect": taint["effect"]}
            for taint in (*claim.taints, *claim.startup_taints)
            if not any(_same_taint(taint, each) for each in _taints(node))
        ],
    }
    return {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "labels": {labels.INSTANCE_TYPE_LABEL: instance_type, CLAIM_LABEL: claim.name},
            "annotations": {
                labels.CLAIM_UID_ANNOTATION: claim.uid,
                RESTORE_ANNOTATION: json.dumps(restore, sort_keys=True),
            },
        }
    }


def returning_patch(node: Object) -> dict[str, Any]:
    """Gives the Node back: what `lending_patch` wrote down is put in place again."""
    metadata = node["metadata"]
    restore = _restore(node)
    added = restore.get("taints", [])
    kept = [taint for taint in _taints(node) if not any(_same_taint(taint, each) for each in added)]
    patch: dict[str, Any] = {
        "metadata": {
            "resourceVersion": metadata["resourceVersion"],
            "labels": {**restore.get("labels", {}), CLAIM_LABEL: None},
            "annotations": {
                **restore.get("annotations", {}),
                labels.CLAIM_UID_ANNOTATION: None,
                RESTORE_ANNOTATION: None,
            },
        }
    }
    if len(kept) != len(_taints(node)):
        patch["spec"] = {"taints": kept}
    return patch


def _restore(node: Object) -> dict[str, Any]:
    """What was written down; without it, what a claim writes on every Node."""
    text = (node["metadata"].get("annotations") or {}).get(RESTORE_ANNOTATION, "")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    ours = (*sorted(labels.RESERVED_LABELS), labels.REGISTERED_LABEL, labels.INITIALIZED_LABEL)
    return {"labels": {key: None for key in ours if key in _labels(node)}}


def _before(found: Mapping[str, str], written: Mapping[str, str]) -> dict[str, str | None]:
    return {key: found.get(key) for key, value in written.items() if found.get(key) != value}


def _labels(node: Object) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _allocatable(node: Object) -> Mapping[str, Any]:
    return (node.get("status") or {}).get("allocatable") or {}


def _taints(node: Object) -> list[Mapping[str, Any]]:
    return list((node.get("spec") or {}).get("taints") or ())


def _same_taint(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.get("key") == other.get("key") and one.get("effect") == other.get("effect")


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)
