"""Pods: the STATUS column tells what a person needs to know first, so it takes some digging."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kaito.embedded.apiserver.strategy import Object
from kaito.embedded.apiserver.tables.durations import age
from kaito.embedded.apiserver.tables.printer import Cells, Printer, age_of, columns, dig, name_of

_COLUMNS = columns("Name|Ready|Status|Restarts|Age|*IP|*Node|*Nominated Node|*Readiness Gates")


def _init_reason(pod: Object) -> str:
    """What holds the pod in its initialisation, or "" once that is over."""
    specs: list[dict[str, Any]] = dig(pod, "spec", "initContainers", default=[])
    restartable = {each.get("name") for each in specs if each.get("restartPolicy") == "Always"}
    for index, container in enumerate(dig(pod, "status", "initContainerStatuses", default=[])):
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated and not terminated.get("exitCode"):
            continue
        if container.get("name") in restartable and container.get("started"):
            continue
        if terminated:
            return "Init:" + (terminated.get("reason") or _exit_text(terminated))
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(specs)}"
    return ""


def _exit_text(terminated: dict[str, Any]) -> str:
    signal = terminated.get("signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode', 0)}"


def _container_reason(pod: Object, reason: str) -> str:
    running = False
    for container in reversed(dig(pod, "status", "containerStatuses", default=[])):
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            reason = terminated.get("reason") or _exit_text(terminated)
        elif container.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        ready = any(
            each.get("type") == "Ready" and each.get("status") == "True"
            for each in dig(pod, "status", "conditions", default=[])
        )
        return "Running" if ready else "NotReady"
    return reason


def pod_reason(pod: Object) -> str:
    """The text of the STATUS column."""
    reason = str(dig(pod, "status", "reason") or dig(pod, "status", "phase", default=""))
    for each in dig(pod, "status", "conditions", default=[]):
        if each.get("type") == "PodScheduled" and each.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    reason = _init_reason(pod) or _container_reason(pod, reason)
    if pod["metadata"].get("deletionTimestamp"):
        if dig(pod, "status", "reason") == "NodeLost":
            return "Unknown"
        if dig(pod, "status", "phase") not in ("Succeeded", "Failed"):
            return "Terminating"
    return reason


def _restarts(pod: Object, now: datetime) -> str:
    statuses = [
        *dig(pod, "status", "initContainerStatuses", default=[]),
        *dig(pod, "status", "containerStatuses", default=[]),
    ]
    if not _init_reason(pod):
        statuses = dig(pod, "status", "containerStatuses", default=[])
    count = sum(each.get("restartCount") or 0 for each in statuses)
    finished = [
        stamp
        for each in statuses
        if (stamp := dig(each, "lastState", "terminated", "finishedAt")) is not None
    ]
    return f"{count} ({age(max(finished), now)} ago)" if count and finished else str(count)


def _cells(pod: Object, now: datetime) -> Cells:
    statuses = dig(pod, "status", "containerStatuses", default=[])
    ready = sum(1 for each in statuses if each.get("ready") and "running" in (each.get("state") or {}))
    sidecars = {
        each.get("name")
        for each in dig(pod, "spec", "initContainers", default=[])
        if each.get("restartPolicy") == "Always"
    }
    ready += sum(
        1
        for each in dig(pod, "status", "initContainerStatuses", default=[])
        if each.get("name") in sidecars and each.get("ready")
    )
    total = len(dig(pod, "spec", "containers", default=[])) + len(sidecars)
    gates = dig(pod, "spec", "readinessGates", default=[])
    passed = {
        each.get("type")
        for each in dig(pod, "status", "conditions", default=[])
        if each.get("status") == "True"
    }
    gate_text = f"{sum(1 for each in gates if each.get('conditionType') in passed)}/{len(gates)}"
    addresses = dig(pod, "status", "podIPs", default=[])
    address = addresses[0].get("ip") if addresses else dig(pod, "status", "podIP")
    return [
        name_of(pod),
        f"{ready}/{total}",
        pod_reason(pod),
        _restarts(pod, now),
        age_of(pod, now),
        address or "<none>",
        dig(pod, "spec", "nodeName") or "<none>",
        dig(pod, "status", "nominatedNodeName") or "<none>",
        gate_text if gates else "<none>",
    ]


PODS = Printer(_COLUMNS, _cells)
