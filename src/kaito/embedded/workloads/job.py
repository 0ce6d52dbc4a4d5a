"""Job: pods until enough of them succeeded, or too many failed, or the time is up.

`decide` is a pure function of the Job, its pods and the time; the rules are kube-controller-manager's (pkg/controller/
job) for NonIndexed Jobs. Counts of finished pods never go down, so deleting a finished pod does not start another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kaito.embedded.workloads.pods import PodView, Tree, find_condition
from kaito.runtime.clock import parse_time, rfc3339

BACKOFF_BASE = 10.0
BACKOFF_CAP = 600.0
"""Seconds before a failed pod is replaced: 10 s, doubling with each failure, at most 10 minutes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one Job."""

    create: int = 0
    delete: tuple[PodView, ...] = ()
    status: Tree | None = None
    remove: bool = False
    """The Job has outlived its ttlSecondsAfterFinished."""
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Counts:
    active: int
    ready: int
    terminating: int
    succeeded: int
    failed: int


def unsupported(job: Tree) -> str:
    """What this controller does not implement of a Job, as a sentence; "" where it implements all of it."""
    spec = job["spec"]
    if spec.get("completionMode") == "Indexed":
        return "spec.completionMode Indexed is not implemented here: use NonIndexed"
    if spec.get("podFailurePolicy"):
        return "spec.podFailurePolicy is not implemented here: remove it; spec.backoffLimit is honoured"
    return ""


def finished(job: Tree) -> Tree:
    """The condition that ended the Job, or an empty dict."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next(
        (each for each in conditions if each["type"] in ("Complete", "Failed") and each["status"] == "True"),
        {},
    )


def decide(job: Tree, pods: Sequence[PodView], now: datetime) -> Plan:
    """`pods` are those that the Job controls."""
    done = finished(job)
    if done:
        return _after(job, done, pods, now)
    spec, before = job["spec"], job.get("status") or {}
    counts = _count(before, pods)
    started = parse_time(before["startTime"]) if before.get("startTime") else now
    active = [pod for pod in pods if pod.is_active]
    verdict = _verdict(job, counts, pods, started, now)
    if verdict is not None:
        kind, reason, message = verdict
        ended = counts.active == 0 and counts.terminating == 0
        conditions = _end(before, kind, reason, message, now, ended=ended)
        status = _status(before, counts, started, conditions)
        if kind == "Complete" and ended:
            status["completionTime"] = rfc3339(now)
        return Plan(delete=tuple(active), status=status)
    if spec.get("suspend"):
        conditions = _with(before, "Suspended", "True", "JobSuspended", "Job suspended", now)
        status = {**_status(before, counts, None, conditions), "startTime": None}
        return Plan(delete=tuple(active), status=status)
    conditions = list(before.get("conditions") or [])
    if find_condition(before, "Suspended").get("status") == "True":
        conditions = _with(before, "Suspended", "False", "JobResumed", "Job resumed", now)
    status = _status(before, counts, started, conditions)
    wanted = _wanted(job, counts)
    waits = [
        _until(started + timedelta(seconds=limit), now)
        for limit in [spec.get("activeDeadlineSeconds")]
        if limit
    ]
    pause = _backoff(pods, counts, now)
    if wanted > counts.active and pause > 0:
        return Plan(status=status, requeue_after=min([pause, *waits]))
    surplus = sorted(active, key=lambda pod: (pod.ready, bool(pod.node), pod.name))[
        : max(0, counts.active - wanted)
    ]
    missing = max(0, wanted - counts.active - counts.terminating)
    return Plan(missing, tuple(surplus), status, requeue_after=min(waits, default=None))


def _count(before: Tree, pods: Sequence[PodView]) -> _Counts:
    active = [pod for pod in pods if pod.is_active]
    return _Counts(
        active=len(active),
        ready=sum(pod.ready for pod in active),
        terminating=sum(pod.terminating and not pod.is_finished for pod in pods),
        succeeded=max(before.get("succeeded") or 0, sum(pod.phase == "Succeeded" for pod in pods)),
        failed=max(before.get("failed") or 0, sum(pod.phase == "Failed" for pod in pods)),
    )


def _wanted(job: Tree, counts: _Counts) -> int:
    """Pods that should run now."""
    spec = job["spec"]
    parallelism: int = spec.get("parallelism", 1)
    completions: int | None = spec.get("completions")
    if completions is None:  # a work queue: the first success ends the creation of pods
        return counts.active if counts.succeeded else parallelism
    return max(0, min(parallelism, completions - counts.succeeded))


def _verdict(
    job: Tree, counts: _Counts, pods: Sequence[PodView], started: datetime, now: datetime
) -> tuple[str, str, str] | None:
    """How the Job ends, if it ends: condition type, reason, message."""
    spec, before = job["spec"], job.get("status") or {}
    for kind, target in (("Failed", "FailureTarget"), ("Complete", "SuccessCriteriaMet")):
        condition = find_condition(before, target)
        if condition.get("status") == "True":
            return kind, condition.get("reason", ""), condition.get("message", "")
    limit = spec.get("backoffLimit", 6)
    restarts = sum(pod.restarts for pod in pods if pod.is_active) if _restarts(job) else 0
    if counts.failed > limit or (_restarts(job) and restarts > 0 and restarts >= limit):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not spec.get("suspend") and (now - started).total_seconds() >= deadline:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    completions = spec.get("completions")
    enough = (
        counts.succeeded >= completions if completions is not None else counts.succeeded and not counts.active
    )
    return ("Complete", "CompletionsReached", "Reached expected number of succeeded pods") if enough else None


def _restarts(job: Tree) -> bool:
    return bool(job["spec"]["template"]["spec"].get("restartPolicy") == "OnFailure")


def _backoff(pods: Sequence[PodView], counts: _Counts, now: datetime) -> float:
    """Seconds that the next pod still has to wait because of failures."""
    failures = [pod.finished_at for pod in pods if pod.phase == "Failed" and pod.finished_at is not None]
    if not failures or counts.failed == 0:
        return 0.0
    delay: float = min(BACKOFF_BASE * 2.0 ** min(counts.failed - 1, 10), BACKOFF_CAP)
    return max(0.0, _until(max(failures) + timedelta(seconds=delay), now))


def _status(before: Tree, counts: _Counts, started: datetime | None, conditions: list[Tree]) -> Tree:
    status: Tree = {
        "active": counts.active,
        "ready": counts.ready,
        "terminating": counts.terminating,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "conditions": conditions,
    }
    if started is not None:
        status["startTime"] = before.get("startTime") or rfc3339(started)
    return status


def _end(before: Tree, kind: str, reason: str, message: str, now: datetime, *, ended: bool) -> list[Tree]:
    """Conditions of a Job that is over; the final one only when no pod is left running."""
    target = "FailureTarget" if kind == "Failed" else "SuccessCriteriaMet"
    conditions = _with(before, target, "True", reason, message, now)
    return _with({"conditions": conditions}, kind, "True", reason, message, now) if ended else conditions


def _with(before: Tree, kind: str, value: str, reason: str, message: str, now: datetime) -> list[Tree]:
    """The conditions with one set; it keeps its times where it says the same already."""
    current = find_condition(before, kind)
    others = [each for each in before.get("conditions") or () if each["type"] != kind]
    if (current.get("status"), current.get("reason")) == (value, reason):
        return list(before["conditions"])
    stamp = rfc3339(now)
    times = {"lastProbeTime": stamp, "lastTransitionTime": stamp}
    return [*others, {"type": kind, "status": value, "reason": reason, "message": message, **times}]


def _after(job: Tree, done: Tree, pods: Sequence[PodView], now: datetime) -> Plan:
    """A finished Job only waits to be removed."""
    leftovers = tuple(pod for pod in pods if pod.is_active)
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None:
        return Plan(delete=leftovers)
    wait = _until(parse_time(done["lastTransitionTime"]) + timedelta(seconds=ttl), now)
    return Plan(delete=leftovers, remove=True) if wait <= 0 else Plan(delete=leftovers, requeue_after=wait)


def _until(moment: datetime, now: datetime) -> float:
    return (moment - now).total_seconds()
