"""Defaults of pods that depend on more than one field; constant ones are in the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kaito.embedded.apiserver.kinds import quantity
from kaito.embedded.apiserver.strategy import Object
from kaito.runtime.errors import Forbidden

PRIORITIES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_EVICTION_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_EVICTION_SECONDS = 300


def default_pod_spec(spec: Object) -> None:
    """What holds for the spec of a pod and of a pod template."""
    for volume in spec.get("volumes") or ():
        if len(volume) == 1:
            volume["emptyDir"] = {}
    for container in containers(spec):
        if not container.get("imagePullPolicy"):
            container["imagePullPolicy"] = _pull_policy(container.get("image", ""))
        if spec.get("hostNetwork"):
            for port in container.get("ports") or ():
                port.setdefault("hostPort", port.get("containerPort", 0))
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account


def default_pod(pod: Object) -> None:
    """What holds for pods only: requests follow limits, service links."""
    spec = pod["spec"]
    spec.setdefault("enableServiceLinks", True)
    for container in containers(spec):
        resources = container.get("resources") or {}
        for name, amount in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, amount)


def admit_pod(pod: Object, priority_of: Callable[[str], int | None]) -> None:
    """What the admission plug-ins of a default cluster add to a new pod.

    ServiceAccount (without its token volume: no token would be accepted here), Priority, DefaultTolerationSeconds.
    """
    spec = pod["spec"]
    if not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"] = "default"
    _admit_priority(pod, priority_of)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    admit_tolerations(spec)


def _admit_priority(pod: Object, priority_of: Callable[[str], int | None]) -> None:
    spec = pod["spec"]
    name = spec.get("priorityClassName", "")
    priority = priority_of(name) if name else 0
    if priority is None:
        raise _forbidden(pod, f"no PriorityClass with name {name} was found")
    if spec.get("priority", priority) != priority:
        text = f"the integer value of priority ({spec['priority']}) must not be provided in pod spec"
        raise _forbidden(
            pod, f"{text}; priority admission controller computed {priority} from the given PriorityClass"
        )
    spec["priority"] = priority


def _forbidden(pod: Object, why: str) -> Forbidden:
    name = pod["metadata"].get("name", "")
    return Forbidden(f'pods "{name}" is forbidden: {why}', details={"name": name, "kind": "pods"})


def admit_tolerations(spec: Object) -> None:
    """How long a pod stays on a node that is lost (DefaultTolerationSeconds)."""
    tolerations = list(spec.get("tolerations") or ())
    for key in _EVICTION_TAINTS:
        if not any(_tolerates(item, key) for item in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _EVICTION_SECONDS,
                }
            )
    spec["tolerations"] = tolerations


def containers(spec: Object) -> list[Any]:
    """Init containers and containers of a pod spec."""
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from cpu and memory of all containers."""
    guaranteed, anything = True, False
    for container in containers(spec):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = limits.get(name), requests.get(name)
            wanted = [item for item in (limit, request) if item is not None and quantity.parse(item) > 0]
            anything = anything or bool(wanted)
            if limit is None or request != limit:
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _pull_policy(image: str) -> str:
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _tolerates(toleration: Object, key: str) -> bool:
    return bool(toleration.get("key", key) == key and toleration.get("effect", "NoExecute") == "NoExecute")
