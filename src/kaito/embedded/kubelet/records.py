"""What the kubelet remembers about each container of a pod.

One record per container, changed only by the pod's worker. Everything that is decided about a pod (start, restart,
phase, conditions) is a pure function of its spec and these records, so it can be tested by tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from kaito.runtime.clock import parse_time, rfc3339

Object = dict[str, Any]


class Role(StrEnum):
    """How a container takes part in its pod's life."""

    INIT = "init"
    """Runs to its end before the next one starts."""
    SIDECAR = "sidecar"
    """An init container with restartPolicy Always: starts in order, then runs beside the main ones."""
    MAIN = "main"


@dataclass(frozen=True, slots=True)
class Termination:
    """How a container ended: `state.terminated`."""

    exit_code: int
    reason: str
    finished_at: datetime
    started_at: datetime | None = None
    signal: int = 0
    message: str = ""
    container_id: str = ""

    @property
    def ran_seconds(self) -> float:
        """How long it had run, seconds."""
        return (self.finished_at - self.started_at).total_seconds() if self.started_at else 0.0

    def to_dict(self) -> Object:
        body: Object = {
            "exitCode": self.exit_code,
            "reason": self.reason,
            "finishedAt": rfc3339(self.finished_at),
        }
        body["startedAt"] = rfc3339(self.started_at or self.finished_at)
        if self.signal:
            body["signal"] = self.signal
        if self.message:
            body["message"] = self.message
        if self.container_id:
            body["containerID"] = self.container_id
        return body


@dataclass(slots=True)
class ContainerRecord:
    """State of one container.

    Exactly one of three holds: running (`running_since` set), terminated (`terminated` set), else waiting for
    `waiting_reason`. `retry_at` (clock seconds) holds a start back; `back_off` is the last delay (seconds).
    """

    name: str
    image: str
    role: Role
    restart_policy: str
    waiting_reason: str = "ContainerCreating"
    waiting_message: str = ""
    running_since: datetime | None = None
    terminated: Termination | None = None
    last: Termination | None = None
    restart_count: int = 0
    started: bool = False
    ready: bool = False
    container_id: str = ""
    retry_at: float = 0.0
    back_off: float = 0.0
    pull_attempts: int = 0
    ports: dict[int, int] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.running_since is not None

    @property
    def succeeded(self) -> bool:
        """Ended with exit code 0 and stays so."""
        return self.terminated is not None and self.terminated.exit_code == 0

    def wait(self, reason: str, message: str = "") -> None:
        """Become waiting; a termination moves to `last`."""
        if self.terminated is not None:
            self.last, self.terminated = self.terminated, None
        self.running_since, self.started, self.ready = None, False, False
        self.waiting_reason, self.waiting_message = reason, message

    def run(self, at: datetime, container_id: str) -> None:
        """Become running (not started nor ready yet: probes, or their absence, decide that)."""
        if self.terminated is not None or self.last is not None:
            self.restart_count += 1
        self.wait("")
        self.running_since, self.container_id = at, container_id

    def end(self, termination: Termination) -> None:
        """Become terminated."""
        self.running_since, self.started, self.ready = None, False, False
        self.terminated = termination

    def simulate(self, at: datetime) -> None:
        """Become what a container is that has long been well: ended (init) or running and ready."""
        if self.role is Role.INIT:
            self.end(Termination(0, "Completed", at, at))
        else:
            self.run(at, "")
            self.started = self.ready = True

    def to_status(self) -> Object:
        """The entry of `containerStatuses`."""
        state: Object
        if self.running_since is not None:
            state = {"running": {"startedAt": rfc3339(self.running_since)}}
        elif self.terminated is not None:
            state = {"terminated": self.terminated.to_dict()}
        else:
            state = {"waiting": {"reason": self.waiting_reason}}
            if self.waiting_message:
                state["waiting"]["message"] = self.waiting_message
        body: Object = {
            "name": self.name,
            "state": state,
            "lastState": {"terminated": self.last.to_dict()} if self.last else {},
            "ready": self.succeeded if self.role is Role.INIT else self.ready,
            "restartCount": self.restart_count,
            "image": self.image,
            "imageID": self.image if self.container_id else "",
            "started": self.started,
        }
        if self.container_id:
            body["containerID"] = self.container_id
        return body


def records_of(spec: Mapping[str, Any]) -> dict[str, ContainerRecord]:
    """Fresh records for a pod's containers, init containers first, by name."""
    policy = str(spec.get("restartPolicy") or "Always")
    inits: Sequence[Object] = spec.get("initContainers") or ()
    first_reason = "PodInitializing" if inits else "ContainerCreating"
    records: dict[str, ContainerRecord] = {}
    for container in inits:
        sidecar = container.get("restartPolicy") == "Always"
        # A failing init container is tried again under restartPolicy Always as under OnFailure.
        records[container["name"]] = ContainerRecord(
            container["name"],
            str(container.get("image", "")),
            Role.SIDECAR if sidecar else Role.INIT,
            "Always" if sidecar else ("Never" if policy == "Never" else "OnFailure"),
            waiting_reason="PodInitializing",
        )
    for container in spec.get("containers") or ():
        records[container["name"]] = ContainerRecord(
            container["name"], str(container.get("image", "")), Role.MAIN, policy, waiting_reason=first_reason
        )
    return records


def _termination(body: Mapping[str, Any]) -> Termination:
    started = body.get("startedAt")
    finished = body.get("finishedAt") or started
    if not finished:
        raise ValueError("terminated state without finishedAt")
    return Termination(
        exit_code=int(body.get("exitCode", 0)),
        reason=str(body.get("reason", "")),
        finished_at=parse_time(finished),
        started_at=parse_time(started) if started else None,
        signal=int(body.get("signal", 0)),
        message=str(body.get("message", "")),
        container_id=str(body.get("containerID", "")),
    )


def restore(records: Mapping[str, ContainerRecord], status: Mapping[str, Any], now: datetime) -> None:
    """Take over what an earlier kubelet wrote into the pod's status.

    Its processes ended with it (their lifeline broke), so whatever was running counts as ended with exit code 137,
    as a real kubelet reports containers it can no longer find.
    """
    entries = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for entry in entries:
        record = records.get(entry.get("name", ""))
        if record is None:
            continue
        record.restart_count = int(entry.get("restartCount", 0))
        record.container_id = str(entry.get("containerID", ""))
        state: Mapping[str, Any] = entry.get("state") or {}
        last = (entry.get("lastState") or {}).get("terminated")
        record.last = _termination(last) if last else None
        if "terminated" in state:
            record.terminated = _termination(state["terminated"])
        elif "running" in state:
            started = state["running"].get("startedAt")
            record.terminated = Termination(
                137,
                "ContainerStatusUnknown",
                now,
                parse_time(started) if started else None,
                message="the kubelet that ran this container has ended, and the container with it",
                container_id=record.container_id,
            )
