"""Claims and nodes as the tests of this folder need them."""

from __future__ import annotations

from typing import Any

from kaito.api import labels
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.controllers.machine.conditions import ConditionSet

CREATED = "2026-11-21T12:00:00Z"
NC6 = "Standard_NC6s_v3"
GPU_TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}


def claim(
    shape: ClaimShape = NODECLAIM_SHAPE,
    *,
    name: str = "ws123456789",
    types: tuple[str, ...] = (NC6,),
    **changes: Any,
) -> dict[str, Any]:
    """A claim as the workspace controller writes it; keywords replace parts of metadata and spec."""
    spec: dict[str, Any] = {
        "requirements": [
            {"key": labels.NODEPOOL_LABEL, "operator": "In", "values": ["kaito"]},
            {"key": labels.INSTANCE_TYPE_LABEL, "operator": "In", "values": list(types)},
            {"key": labels.OS_LABEL, "operator": "In", "values": ["linux"]},
        ],
        "taints": [GPU_TAINT],
        "resources": {"requests": {"storage": "50Gi"}},
    }
    if shape is NODECLAIM_SHAPE:
        spec |= {
            "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
            "expireAfter": "Never",
        }
    metadata = {
        "name": name,
        "labels": {
            labels.WORKSPACE_LABEL: "ws",
            labels.WORKSPACE_NAMESPACE_LABEL: "default",
            "apps": "phi-3",
        },
        **changes.pop("metadata", {}),
    }
    spec |= changes.pop("spec", {})
    return {
        "apiVersion": shape.resource.api_version,
        "kind": shape.resource.kind,
        "metadata": metadata,
        "spec": spec,
        **changes,
    }


def stored(shape: ClaimShape = NODECLAIM_SHAPE, **changes: Any) -> dict[str, Any]:
    """The same as the server has it once the finalizer and labels are on."""
    made = claim(shape, **changes)
    made["metadata"] = {
        "uid": "claim-uid",
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": CREATED,
        "finalizers": [labels.TERMINATION_FINALIZER],
        **made["metadata"],
    }
    made["metadata"]["labels"] = {
        **made["metadata"]["labels"],
        labels.INSTANCE_TYPE_LABEL: NC6,
        labels.OS_LABEL: "linux",
        **({labels.NODE_CLASS_LABEL: "default"} if shape is NODECLAIM_SHAPE else {}),
    }
    return made


def launched(
    shape: ClaimShape = NODECLAIM_SHAPE, *true: str, at: str = CREATED, **changes: Any
) -> dict[str, Any]:
    """A launched claim; `true` names further conditions that are True."""
    made = stored(shape, **changes)
    conditions = ConditionSet.read(
        (), shape.dependents, generation=1, created=CREATED, now=at, with_generation=shape.with_generation
    ).set_true(shape.launched)
    for type in true:
        conditions = conditions.set_true(type)
    made["status"] = {
        "providerID": "instant://ws123456789",
        "capacity": {labels.GPU_RESOURCE: "1"},
        "conditions": conditions.as_list(),
    }
    if shape.registered in true:
        made["status"]["nodeName"] = made["metadata"]["name"]
    return made


def node(**changes: Any) -> dict[str, Any]:
    """A Node that joined, is Ready and shows its GPU, but is not registered yet."""
    metadata = {
        "name": "ws123456789",
        "uid": "node-uid",
        "resourceVersion": "9",
        "labels": {labels.INSTANCE_TYPE_LABEL: NC6},
        **changes.pop("metadata", {}),
    }
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "allocatable": {labels.GPU_RESOURCE: "1", "cpu": "6"},
        "capacity": {labels.GPU_RESOURCE: "1", "cpu": "6"},
        **changes.pop("status", {}),
    }
    taints = [GPU_TAINT, {"key": labels.UNREGISTERED_TAINT, "effect": "NoExecute"}]
    spec = {"providerID": "instant://ws123456789", "taints": taints, **changes.pop("spec", {})}
    return {"metadata": metadata, "spec": spec, "status": status}


def registered_node(*extra_labels: str, **changes: Any) -> dict[str, Any]:
    """A Node that belongs to the claim."""
    metadata = {
        "finalizers": [labels.TERMINATION_FINALIZER],
        "labels": {
            labels.INSTANCE_TYPE_LABEL: NC6,
            labels.REGISTERED_LABEL: "true",
            labels.NODE_CLASS_LABEL: "default",
            **dict.fromkeys(extra_labels, "true"),
        },
        **changes.pop("metadata", {}),
    }
    return node(metadata=metadata, spec={"taints": [GPU_TAINT], **changes.pop("spec", {})}, **changes)


SHAPES = (MACHINE_SHAPE, NODECLAIM_SHAPE)
