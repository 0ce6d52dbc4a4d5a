"""Workspaces for the tests of admission."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kaito.api.resources import WORKSPACES, WORKSPACES_V1ALPHA1
from kaito.runtime.errors import Invalid
from kaito.runtime.resources import Resource
from support.control_plane import ControlPlane

VERSIONS = (WORKSPACES_V1ALPHA1, WORKSPACES)
SELECTOR = {"labelSelector": {"matchLabels": {"apps": "phi-3"}}}
PRESET = {"preset": {"name": "phi-3-mini-4k-instruct"}}
TUNING = {
    "preset": {"name": "phi-3-mini-4k-instruct"},
    "method": "QLoRA",
    "input": {"urls": ["https://example.com/data.parquet?download=true"]},
    "output": {"image": "registry.example/out:1", "imagePushSecret": "push"},
}
ADAPTER = {"source": {"name": "friendly", "image": "registry.example/a:1"}, "strength": "0.5"}
Object = dict[str, Any]


async def create(world: ControlPlane, resource: Resource, body: Object) -> Object:
    return await world.client.create(
        resource, {**body, "apiVersion": resource.api_version, "kind": resource.kind}
    )


def workspace(**changes: Any) -> Object:
    """A valid Workspace; a block set to None is left out."""
    made = {
        "metadata": {"name": "ws", "namespace": "default"},
        "resource": {"instanceType": "Standard_NC6s_v3", **SELECTOR},
        "inference": PRESET,
        **changes,
    }
    return {key: copy.deepcopy(value) for key, value in made.items() if value is not None}


async def refusal(world: ControlPlane, body: Object, resource: Resource = WORKSPACES) -> dict[str, str]:
    """Field to message of each cause."""
    with pytest.raises(Invalid) as caught:
        await create(world, resource, body)
    return {cause["field"]: cause["message"] for cause in caught.value.details["causes"]}


def adapters(*entries: Object) -> Object:
    return {"inference": {**PRESET, "adapters": list(entries)}}


def tuning(**changes: Any) -> Object:
    block = {key: value for key, value in {**TUNING, **changes}.items() if value is not None}
    return {"inference": None, "tuning": block}


def weighed(**weights: Any) -> Object:
    """Changes of `workspace`: a preset with weights of the user's own."""
    return {"inference": {"preset": {**PRESET["preset"], "weights": weights}}}


EVERYTHING: Object = {
    "resource": {
        "count": 1,
        "instanceTypes": ["Standard_NC6s_v3", "Standard_NC24ads_A100_v4"],
        "preferredNodes": ["a"],
        "labelSelector": {
            "matchLabels": {"apps": "x"},
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}],
        },
    },
    "inference": {
        "preset": {
            "name": "phi-3",
            "accessMode": "private",
            "presetOptions": {"image": "x/y:1", "imagePullSecrets": ["s"], "modelAccessSecret": "hf"},
            "weights": {"volumeSource": {"persistentVolumeClaim": {"claimName": "c", "odd": {"deep": [1]}}}},
        },
        "config": "my-config",
        "adapters": [
            ADAPTER,
            {"adapterRef": {"name": "shared"}},
            {"source": {"name": "disk", "volumeSource": {"hostPath": {"path": "/a", "odd": {"deep": [1]}}}}},
        ],
    },
}
STATUS: Object = {
    "state": "Ready",
    "reason": "Ready",
    "workerNodes": ["n"],
    "targetNodeCount": 1,
    "instanceType": "Standard_NC6s_v3",
    "endpoint": "http://10.96.0.5",
    "nodes": [
        {
            "slot": 0, "attempt": 2, "claimName": "ws1", "claimUID": "u", "nodeName": "n", "instanceType": "t",
            "state": "Ready", "reason": "Ready", "message": "m", "failedAt": "2026-11-21T12:00:00Z",
        }
    ],
    "adapters": [{"name": "friendly", "adapter": "ws-friendly", "state": "Ready", "reason": "Fits", "message": ""}],
    "performance": {"metrics": {"tps": {"description": "d", "value": "1", "unit": "t/s", "config": {"a": "b"}}}},
    "resolved": {"anything": {"deep": [1, {"x": "y"}]}},
    "conditions": [
        {
            "type": "ResourceReady", "status": "True", "reason": "ok", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-11-21T12:00:00Z",
        }
    ],
}  # fmt: skip

STORED_INVALID: list[tuple[str, Object]] = [
    ("neither", {"inference": None}),
    ("both", {"tuning": TUNING}),
    ("no resource", {"resource": None}),
    ("no selector", {"resource": {"instanceType": "a"}}),
    ("adapter twice", adapters(ADAPTER, ADAPTER)),
    ("adapter without source", adapters({"strength": "7"})),
    ("preset and template", {"inference": {**PRESET, "template": {}}}),
    ("type and types", {"resource": {**SELECTOR, "instanceType": "a", "instanceTypes": ["b"]}}),
    ("tuning on two nodes", {**tuning(), "resource": {**SELECTOR, "count": 2}}),
    ("name", {"metadata": {"name": "3phi", "namespace": "default"}}),
    ("reserved labels", {"resource": {"labelSelector": {"matchLabels": {"kaito.sh/workspace": "x"}}}}),
    ("adapters with template", {"inference": {"template": {}, "adapters": [ADAPTER]}}),
    ("an adapter named base", adapters({"source": {"name": "base", "image": "x/y:1"}})),
    ("a reference to base", adapters({"adapterRef": {"name": "base"}})),
    ("odd profile", {"resource": {**SELECTOR, "partition": {"mode": "mig", "profile": "small"}}}),
    ("tuning of nothing", tuning(preset=None, method="full", input={}, output={"image": "x/y:1"})),
    ("tuning without anything", tuning(preset=None, method=None, input=None, output=None)),
    ("tuning to nowhere", tuning(output={})),
    (
        "tuning a part",
        {**tuning(), "resource": {**SELECTOR, "partition": {"mode": "mig", "profile": "1g.5gb"}}},
    ),
    ("a type twice", {"resource": {**SELECTOR, "instanceTypes": ["b", "b"]}}),
    ("odd partition", {"resource": {**SELECTOR, "partition": {"mode": "accelerator"}}}),
    (
        "odd selector",
        {"resource": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}},
    ),
    ("neither preset nor template", {"inference": {}}),
    ("adapter without name", adapters({"source": {"image": "x/y:1"}})),
    ("adapter of a bad name", adapters({"source": {"name": "My Adapter", "image": "x/y:1"}})),
    ("adapter from nowhere", adapters({"source": {"name": "a"}})),
    ("weights from two places", weighed(huggingFace="a/b", path="/models")),
    ("weights of no repository", weighed(huggingFace="phi-3", revision="-")),
    ("weights up the tree", weighed(path="/models/../etc", revision="main", storageClassName="nvme")),
    ("adapter from URLs", adapters({"source": {"name": "a", "urls": ["https://x"]}})),
]
"""For each rule that looks at an object as it is, one that breaks it."""


def strip_rules(node: Any) -> None:
    """Takes the CEL rules out of a schema, as an older release had it."""
    if isinstance(node, dict):
        node.pop("x-kubernetes-validations", None)
        for child in node.values():
            strip_rules(child)
