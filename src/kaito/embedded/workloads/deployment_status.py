"""The status of a Deployment: counts, and the conditions Available and Progressing as kubectl's rollout reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kaito.embedded.workloads.pods import Tree, find_condition
from kaito.runtime.clock import parse_time, rfc3339

UNLIMITED = 2**31 - 1
"""progressDeadlineSeconds that means: never."""
COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def decide(
    deployment: Tree,
    new: Tree | None,
    old: Sequence[Tree],
    now: datetime,
    max_unavailable: int,
    *,
    created: Tree | None,
) -> Tree:
    """The whole status. `created` is the new ReplicaSet if it is made in this very step."""
    everything = [*old, *([new] if new else [])]
    replicas = deployment["spec"].get("replicas", 1)
    wanted = sum(each["spec"].get("replicas", 1) for each in (*everything, *([created] if created else [])))
    available = _sum(everything, "availableReplicas")
    before: Tree = deployment.get("status") or {}
    status: Tree = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": _sum(everything, "replicas"),
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(everything, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted - available),
    }
    if before.get("collisionCount"):
        status["collisionCount"] = before["collisionCount"]
    enough = available >= replicas - max_unavailable
    conditions = [
        _condition(
            before,
            "Available",
            "True" if enough else "False",
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"Deployment {'has' if enough else 'does not have'} minimum availability.",
            now,
        )
    ]
    progressing = _progressing(deployment, status, new, now, created=created)
    if progressing is not None:
        conditions.append(progressing)
    failure = next(
        (
            each
            for rs in everything
            for each in [find_condition(rs.get("status") or {}, "ReplicaFailure")]
            if each
        ),
        None,
    )
    if failure is not None:
        conditions.append(
            _condition(before, "ReplicaFailure", "True", failure["reason"], failure["message"], now)
        )
    status["conditions"] = conditions
    return status


def is_complete(deployment: Tree, status: Tree) -> bool:
    """Everything runs the new template and is available."""
    replicas = deployment["spec"].get("replicas", 1)
    return bool(
        status["updatedReplicas"] == replicas
        and status["replicas"] == replicas
        and status["availableReplicas"] == replicas
        and status["observedGeneration"] >= deployment["metadata"].get("generation", 0)
    )


def deadline(deployment: Tree, status: Tree) -> datetime | None:
    """When lack of progress becomes a failure; None where it never does, or already is."""
    seconds = _deadline_seconds(deployment)
    condition = find_condition(status, "Progressing")
    if (
        seconds is None
        or condition.get("status") != "True"
        or condition["reason"] == "NewReplicaSetAvailable"
    ):
        return None
    return parse_time(condition["lastUpdateTime"]) + timedelta(seconds=seconds)


def _deadline_seconds(deployment: Tree) -> int | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    return None if seconds is None or seconds >= UNLIMITED else int(seconds)


def _progressing(
    deployment: Tree, status: Tree, new: Tree | None, now: datetime, *, created: Tree | None
) -> Tree | None:
    before: Tree = deployment.get("status") or {}
    current = find_condition(before, "Progressing")
    if _deadline_seconds(deployment) is None:
        return None
    if deployment["spec"].get("paused"):
        return _condition(before, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now)
    if new is None and not created:
        return current or None
    latest = new or created
    name = f'ReplicaSet "{latest["metadata"]["name"] if latest else ""}"'
    if is_complete(deployment, status):
        message = f"{name} has successfully progressed."
        return _condition(before, "Progressing", "True", "NewReplicaSetAvailable", message, now)
    moved = (
        _has_progressed(before, status) or before.get("observedGeneration") != status["observedGeneration"]
    )
    if created or not current:
        reason = "NewReplicaSetCreated" if created else "ReplicaSetUpdated"
        message = (
            f'Created new replica set "{created["metadata"]["name"]}"'
            if created
            else f"{name} is progressing."
        )
        return _condition(before, "Progressing", "True", reason, message, now, touch=True)
    if moved or current["reason"] in ("NewReplicaSetAvailable", "DeploymentPaused"):
        # The update time moves on with each step, so that the deadline counts from the last one.
        return _condition(
            before, "Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing.", now, touch=True
        )
    due = deadline(deployment, before)
    if due is not None and due <= now:
        message = f"{name} has timed out progressing."
        return _condition(before, "Progressing", "False", "ProgressDeadlineExceeded", message, now)
    return current


def _has_progressed(before: Tree, status: Tree) -> bool:
    def count(tree: Tree, name: str) -> int:
        return int(tree.get(name) or 0)

    old_before = count(before, "replicas") - count(before, "updatedReplicas")
    old_now = status["replicas"] - status["updatedReplicas"]
    return bool(
        status["updatedReplicas"] > count(before, "updatedReplicas")
        or old_now < old_before
        or status["readyReplicas"] > count(before, "readyReplicas")
        or status["availableReplicas"] > count(before, "availableReplicas")
    )


def _condition(
    before: Tree, kind: str, value: str, reason: str, message: str, now: datetime, *, touch: bool = False
) -> Tree:
    """The condition with its times: unchanged ones keep theirs, unless it is to be touched."""
    current = find_condition(before, kind)
    same = (current.get("status"), current.get("reason"), current.get("message")) == (value, reason, message)
    if same and not touch:
        return current
    stamp = rfc3339(now)
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastUpdateTime": stamp,
        "lastTransitionTime": current["lastTransitionTime"] if current.get("status") == value else stamp,
    }


def _sum(replicasets: Sequence[Tree], name: str) -> int:
    return sum(int((each.get("status") or {}).get(name) or 0) for each in replicasets)
