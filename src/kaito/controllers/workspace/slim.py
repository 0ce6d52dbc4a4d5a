"""What of others' objects the caches keep: as much as this controller reads, for thousands of them.

A kubelet's Node lists its images, a Pod repeats its template and its volumes, both many times what is read here. The
functions are informers' transforms: they run once for each version, before anything is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from kaito.api.labels import GPU_RESOURCE, STAND_IN_WEIGHTS_ANNOTATION, WORKSPACE_LABEL
from kaito.api.resources import NODEPOOLS, WORKSPACES
from kaito.controllers.workspace.decide.settings import CONFIG_FILE, faults, settings_in, unreadable
from kaito.runtime.objects import CachedObject

_IDENTITY: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "ownerReferences",
)

WEIGHTS_CONTAINER: Final = "weights"
"""Name of the init container for weights; one of several has `-1-of-4` and so on behind it."""

_PROGRAM: Final = ("name", "image", "command", "args")


def hashed(config_map: CachedObject) -> CachedObject:
    """The ConfigMap with a hash in the place of its contents, what sizing looks at, and why nobody can read it."""
    tree = config_map.decode()
    contents = orjson.dumps([tree.get("data"), tree.get("binaryData")], option=orjson.OPT_SORT_KEYS)
    kept: dict[str, Any] = {
        "metadata": _picked(tree["metadata"], _IDENTITY),
        "hash": hashlib.sha256(contents).hexdigest()[:16],
    }
    text = (tree.get("data") or {}).get(CONFIG_FILE)
    if text is None and CONFIG_FILE not in (tree.get("binaryData") or {}):
        kept["empty"] = True
    if settings := settings_in(text):
        kept["settings"] = settings
    if fault := unreadable(text):
        kept["unreadable"] = fault
    if refused := faults(text):
        kept["faults"] = refused
    return CachedObject.from_dict(kept, config_map.resource)


def config_fault(config: Mapping[str, Any] | None) -> str:
    """Why no server can read the ConfigMap that `hashed` made this of, as what follows the file's name."""
    if config is None:
        return ""
    if config.get("empty"):
        return "is not there; write the settings under that key"
    return str(config.get("unreadable", ""))


def slim_node(node: CachedObject) -> CachedObject:
    """The Node's identity, what keeps pods off it, whether it is ready, and its GPUs."""
    tree = node.decode()
    spec, status = tree.get("spec") or {}, tree.get("status") or {}
    kept = {
        "metadata": _picked(tree["metadata"], _IDENTITY),
        "spec": _picked(spec, ("taints", "unschedulable")),
        "status": {
            "conditions": [each for each in status.get("conditions") or () if each.get("type") == "Ready"],
            **{
                amounts: _picked(status.get(amounts), (GPU_RESOURCE,))
                for amounts in ("allocatable", "capacity")
            },
        },
    }
    for condition in kept["status"]["conditions"]:
        condition.pop("lastHeartbeatTime", None)
    return CachedObject.from_dict(kept, node.resource)


def slim_pod(pod: CachedObject) -> CachedObject:
    """The Pod's identity, its node, and what is wrong with it: nothing of what is right."""
    tree = pod.decode()
    metadata, status = tree["metadata"], tree.get("status") or {}
    kept = {
        "metadata": _picked(metadata, _IDENTITY),
        "spec": _picked(tree.get("spec"), ("nodeName",)),
        "status": _picked(status, ("reason", "message")),
    }
    annotations = _picked(metadata.get("annotations"), (STAND_IN_WEIGHTS_ANNOTATION,))
    if annotations:
        kept["metadata"]["annotations"] = annotations
    waits = [
        each
        for each in status.get("conditions") or ()
        if each.get("type") == "PodScheduled" and each.get("status") != "True"
    ]
    if waits:
        kept["status"]["conditions"] = waits
    for field in ("initContainerStatuses", "containerStatuses"):
        troubled = [each for each in status.get(field) or () if not each.get("ready") or _tells(each)]
        if any(not each.get("ready") for each in troubled):
            kept["status"][field] = troubled
    return CachedObject.from_dict(kept, pod.resource)


def slim_look(pod: CachedObject) -> CachedObject:
    """Of a pod that looks at weights: its identity, whether and when it found a node, and how it ended."""
    tree = pod.decode()
    status = tree.get("status") or {}
    ended = [
        {"state": {"terminated": _picked(terminated, ("exitCode", "reason", "message"))}}
        for each in status.get("containerStatuses") or ()
        if (terminated := (each.get("state") or {}).get("terminated"))
    ]
    placed = [
        _picked(each, ("type", "status", "reason", "message", "lastTransitionTime"))
        for each in status.get("conditions") or ()
        if each.get("type") == "PodScheduled"
    ]
    kept = {
        "metadata": _picked(tree["metadata"], _IDENTITY),
        "status": {
            **_picked(status, ("phase", "reason", "message")),
            **({"containerStatuses": ended} if ended else {}),
            **({"conditions": placed} if placed else {}),
        },
    }
    return CachedObject.from_dict(kept, pod.resource)


def is_for_weights(container: str) -> bool:
    """Whether an init container of that name fetches or checks weights (`decide.weights` gives the names)."""
    return container == WEIGHTS_CONTAINER or container.startswith(f"{WEIGHTS_CONTAINER}-")


def _tells(container: Mapping[str, Any]) -> bool:
    """Whether a container that ended well left a sentence about the weights: those after it still fetch."""
    ended = (container.get("state") or {}).get("terminated") or {}
    return bool(ended.get("message")) and is_for_weights(str(container.get("name")))


def slim_pool(pool: CachedObject) -> CachedObject:
    """The NodePool's identity, whom its nodes are for, how many it has, and what it says is wrong."""
    tree = pool.decode()
    spec = tree.get("spec") or {}
    template = spec.get("template") or {}
    kept = {
        "kind": NODEPOOLS.kind,
        "metadata": _picked(tree["metadata"], _IDENTITY),
        "spec": {
            **_picked(spec, ("replicas",)),
            "template": {
                "metadata": _picked(template.get("metadata"), ("labels",)),
                "spec": _picked(template.get("spec"), ("nodeClassRef",)),
            },
        },
        "status": _picked(tree.get("status"), ("conditions",)),
    }
    return CachedObject.from_dict(kept, pool.resource)


def slim_child(child: CachedObject) -> CachedObject:
    """A workload or Service. What may be a Workspace's is kept but for its conditions; of all others it is enough that
    they are there, whose they are, and which programs they run (`kaito.cli.beside`)."""
    tree = child.decode()
    if may_be_ours(child):
        if (tree.get("status") or {}).pop("conditions", None) is None:
            return child
        return CachedObject.from_dict(tree, child.resource)
    spec = tree.get("spec") or {}
    kept: dict[str, Any] = {
        "metadata": _picked(tree["metadata"], _IDENTITY),
        "spec": _picked(spec, ("replicas",)),
    }
    pod = (spec.get("template") or {}).get("spec") or {}
    if programs := [_picked(each, _PROGRAM) for each in pod.get("containers") or ()]:
        kept["spec"]["template"] = {"spec": {"containers": programs}}
    return CachedObject.from_dict(kept, child.resource)


def slim_budget(budget: CachedObject) -> CachedObject:
    """A PodDisruptionBudget without its status, which changes with every pod; of others' only the selector."""
    tree = budget.decode()
    tree.pop("status", None)
    if not may_be_ours(budget):
        kept = {
            "metadata": _picked(tree["metadata"], _IDENTITY),
            "spec": _picked(tree.get("spec"), ("selector",)),
        }
        return CachedObject.from_dict(kept, budget.resource)
    return CachedObject.from_dict(tree, budget.resource)


def may_be_ours(child: CachedObject) -> bool:
    """Whether the child says of itself that it is a Workspace's."""
    owners = child.meta.owner_references
    return WORKSPACE_LABEL in child.meta.labels or any(owner.kind == WORKSPACES.kind for owner in owners)


def apart_from_version(obj: CachedObject) -> bytes:
    """All that is kept of an object except its version: what of it is news."""
    return obj.raw.replace(b'"resourceVersion":"' + obj.meta.resource_version.encode() + b'"', b"", 1)


def _picked(tree: Mapping[str, Any] | None, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: tree[key] for key in keys if key in tree} if tree else {}
