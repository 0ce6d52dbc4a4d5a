"""A pod's status from its records: pure, so that a whole pod's life can be read off a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.embedded.kubelet import lifecycle
from kaito.embedded.kubelet.records import ContainerRecord, Object, Role
from kaito.runtime.clock import rfc3339

HOST_IP = "127.0.0.1"
OWNED_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the status says beside the containers."""

    pod_ip: str
    started_at: datetime
    sandbox_ready: bool = True
    reason: str = ""
    message: str = ""
    phase: str = ""
    """Overrides the phase that follows from the records (DeadlineExceeded, refused pods)."""


def _condition(
    kind: str, ok: bool, previous: Mapping[str, Object], now: datetime, reason: str = "", message: str = ""
) -> Object:
    status = "True" if ok else "False"
    before = previous.get(kind, {})
    same = before.get("status") == status
    body: Object = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": before.get("lastTransitionTime") if same else rfc3339(now),
    }
    if not ok or reason == "PodCompleted":
        if reason:
            body["reason"] = reason
        if message:
            body["message"] = message
    return body


def _readiness(records: Mapping[str, ContainerRecord], phase: str) -> tuple[bool, str, str]:
    """Whether all containers are ready, with the reason and message for when they are not."""
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    unready = [r.name for r in records.values() if r.role is not Role.INIT and not r.ready]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: {lifecycle.names(unready)}"
    return True, "", ""


def conditions(
    records: Mapping[str, ContainerRecord],
    phase: str,
    facts: PodFacts,
    previous: Sequence[Object],
    now: datetime,
    gates: Sequence[str] = (),
) -> list[Object]:
    """The pod's conditions; those of other writers (readiness gates) are kept as they are."""
    before = {c["type"]: c for c in previous}
    incomplete = lifecycle.incomplete_inits(records)
    over = phase in ("Succeeded", "Failed")
    ready, reason, message = _readiness(records, phase)
    gate_missing = next((g for g in gates if before.get(g, {}).get("status") != "True"), None)
    ready_reason, ready_message = reason, message
    if ready and gate_missing:
        ready_reason = "ReadinessGatesNotReady"
        ready_message = (
            f'corresponding condition of pod readiness gate "{gate_missing}" does not exist or is not True.'
        )
    result = [
        _condition("PodReadyToStartContainers", facts.sandbox_ready and not over, before, now),
        _condition(
            "Initialized",
            not incomplete,
            before,
            now,
            "ContainersNotInitialized" if incomplete else ("PodCompleted" if phase == "Succeeded" else ""),
            f"containers with incomplete status: {lifecycle.names(incomplete)}" if incomplete else "",
        ),
        _condition("Ready", ready and not gate_missing, before, now, ready_reason, ready_message),
        _condition("ContainersReady", ready, before, now, reason, message),
        before.get("PodScheduled") or _condition("PodScheduled", True, before, now),
    ]
    return result + [c for c in previous if c["type"] not in OWNED_CONDITIONS]


def pod_status(
    records: Mapping[str, ContainerRecord],
    facts: PodFacts,
    previous: Mapping[str, Any],
    now: datetime,
    gates: Sequence[str] = (),
) -> Object:
    """The part of `status` that the kubelet writes. `previous` is the status as last seen."""
    phase = facts.phase or lifecycle.phase(records)
    status: Object = {
        "phase": phase,
        "conditions": conditions(records, phase, facts, previous.get("conditions") or (), now, gates),
        "hostIP": HOST_IP,
        "hostIPs": [{"ip": HOST_IP}],
        "podIP": facts.pod_ip,
        "podIPs": [{"ip": facts.pod_ip}],
        "startTime": rfc3339(facts.started_at),
        "containerStatuses": [r.to_status() for r in records.values() if r.role is Role.MAIN],
    }
    inits = [r.to_status() for r in records.values() if r.role is not Role.MAIN]
    if inits:
        status["initContainerStatuses"] = inits
    if facts.reason:
        status["reason"] = facts.reason
    if facts.message:
        status["message"] = facts.message
    return status


def changed(desired: Mapping[str, Any], live: Mapping[str, Any]) -> Object:
    """The top-level entries of the status that have to be written; empty when nothing differs."""
    return {key: value for key, value in desired.items() if live.get(key) != value}
