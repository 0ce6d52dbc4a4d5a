"""What to do next with a pod's containers: pure functions over their records.

The rules are the kubelet's: init containers in order, restart by policy, back-off of 10 s doubling to 5 min which is
forgotten after 10 min of running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kaito.embedded.kubelet.records import ContainerRecord, Role

CRASH_BACK_OFF = 10.0
"""Seconds before the second restart; the first one is immediate. Doubles up to `MAX_BACK_OFF`."""
MAX_BACK_OFF = 300.0
BACK_OFF_RESET = 600.0
"""A container that ran this long (seconds) starts again with a clean slate."""
PULL_BACK_OFF = 10.0
ERR_PULL_SHOWN = 1.0
"""Seconds that ErrImagePull is shown before it becomes ImagePullBackOff."""

Records = Mapping[str, ContainerRecord]


def next_back_off(previous: float, ran_seconds: float, restarts: int) -> float:
    """Seconds to wait before a container is started again.

    `previous` is the delay before the run that just ended, `restarts` how often it has been restarted.
    """
    if ran_seconds >= BACK_OFF_RESET or (restarts == 0 and previous == 0):
        return 0.0
    return min(MAX_BACK_OFF, previous * 2) if previous else CRASH_BACK_OFF


def pull_back_off(attempts: int) -> float:
    """Seconds from the `attempts`-th failed pull to the next try."""
    return min(MAX_BACK_OFF, PULL_BACK_OFF * float(1 << (attempts - 1)))


def restarts(record: ContainerRecord) -> bool:
    """Whether a terminated container is to be started again."""
    if record.terminated is None:
        return False
    match record.restart_policy:
        case "Always":
            return True
        case "OnFailure":
            return record.terminated.exit_code != 0
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start now, what to stop because the pod is over, and when to look again (clock seconds)."""

    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    back_off: tuple[str, ...] = ()
    """Terminated containers that now begin to wait for their restart."""
    wake_at: float | None = None


def _passed(record: ContainerRecord) -> bool:
    """Whether the init container no longer holds back the next one."""
    return record.started if record.role is Role.SIDECAR else record.succeeded


def incomplete_inits(records: Records) -> list[str]:
    """Names of init containers and sidecars that still hold back the main containers.

    Once a main container has run, they no longer do: a sidecar that crashes does not undo the initialisation.
    """
    mains_began = any(r.role is Role.MAIN and (r.container_id or r.terminated) for r in records.values())
    return [
        r.name
        for r in records.values()
        if r.role is not Role.MAIN and not _passed(r) and not (mains_began and r.role is Role.SIDECAR)
    ]


def init_failed(records: Records) -> bool:
    """Whether an init container failed for good."""
    return any(
        r.role is Role.INIT and r.terminated is not None and not r.succeeded and not restarts(r)
        for r in records.values()
    )


def mains_over(records: Records) -> bool:
    """Whether every main container ended and none will be restarted."""
    mains = [r for r in records.values() if r.role is Role.MAIN]
    return bool(mains) and all(r.terminated is not None and not restarts(r) for r in mains)


def plan(records: Records, now: float) -> Plan:
    """The next step for a pod that is meant to run. `now` is the clock's."""
    if init_failed(records) or mains_over(records):
        return Plan(stop=tuple(r.name for r in records.values() if r.running))
    start: list[str] = []
    waits: list[str] = []
    wake: list[float] = []
    for record in _candidates(records):
        if record.running or (record.terminated is not None and not restarts(record)):
            continue
        if record.retry_at > now:
            wake.append(record.retry_at)
            if record.terminated is not None:
                waits.append(record.name)
        else:
            start.append(record.name)
    return Plan(tuple(start), (), tuple(waits), min(wake, default=None))


def _candidates(records: Records) -> list[ContainerRecord]:
    """Containers whose turn has come, in order."""
    held = set(incomplete_inits(records))
    due: list[ContainerRecord] = []
    for record in records.values():
        if record.role is Role.MAIN and held:
            continue
        due.append(record)
        if record.name in held:
            break
    return due


def phase(records: Records) -> str:
    """`status.phase`."""
    if init_failed(records):
        return "Failed"
    if incomplete_inits(records):
        return "Pending"
    mains = [r for r in records.values() if r.role is Role.MAIN]
    if any(not r.running and r.terminated is None and r.last is None for r in mains):
        return "Pending"
    if not mains_over(records):
        return "Running"
    return "Succeeded" if all(r.succeeded for r in mains) else "Failed"


def names(records: Sequence[str]) -> str:
    """Names as the kubelet lists them in messages: `[a b]`."""
    return f"[{' '.join(records)}]"
