"""The way out: first the workload, then the claims, and the finalizer only when both are really gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from kaito.api.labels import WORKSPACE_FINALIZER, WORKSPACE_UID_LABEL
from kaito.api.resources import NODEPOOLS
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.children import ours
from kaito.controllers.workspace.decide.claims import describe
from kaito.controllers.workspace.decide.pool import of_pool, whose
from kaito.controllers.workspace.decide.status import deleting_status
from kaito.controllers.workspace.model import (
    Decision,
    Deletion,
    Object,
    Observed,
    deleting,
    labels_of,
    metadata,
)
from kaito.runtime.clock import parse_time
from kaito.runtime.resources import DEPLOYMENTS, STATEFULSETS, Resource

PATIENCE: Final = 300.0
"""Seconds that claims wait for the workload to stop. Pods of a dead node never stop: without an end to the wait its
claim, and so the Workspace, would stay for ever."""


def decide_deletion(observed: Observed, config: WorkspaceConfig, now: datetime) -> Decision:
    """The next step of a Workspace's deletion."""
    workspace = observed.workspace
    if WORKSPACE_FINALIZER not in (metadata(workspace).get("finalizers") or ()):
        return Decision()
    running, deletions = _workload(observed)
    left = PATIENCE - (now - parse_time(metadata(workspace)["deletionTimestamp"])).total_seconds()
    if running and left > 0:
        status = deleting_status(workspace, _list(running), now)
        return Decision(deletions=tuple(deletions), status=status, requeue_after=left)
    claims, pool = _claims(observed), _pool(observed)
    resource = config.node_provisioner.claims
    if resource is not None:
        for claim in claims:
            if not deleting(claim) and not of_pool(claim, pool):  # a pool's go with it
                meta = metadata(claim)
                deletions.append(Deletion(resource, None, meta["name"], meta["uid"]))
    if pool is not None and not deleting(pool):
        deletions.append(Deletion(NODEPOOLS, None, metadata(pool)["name"], metadata(pool)["uid"]))
    left_over = [*([pool] if pool is not None else []), *claims]
    waits = [*running, *map(describe, left_over)]
    if waits:
        return Decision(deletions=tuple(deletions), status=deleting_status(workspace, _list(waits), now))
    return Decision(finalizer="remove")


def orphans(claims: Iterable[Object], resource: Resource) -> tuple[Deletion, ...]:
    """Claims, or pools, to end whose Workspace is gone without having waited for them: its finalizer was taken away by
    hand.

    Only those with our uid label: others were made by somebody else, or by the Go KAITO, which looks after its own.
    """
    return tuple(
        Deletion(resource, None, metadata(claim)["name"], metadata(claim)["uid"])
        for claim in claims
        if labels_of(claim).get(WORKSPACE_UID_LABEL) and not deleting(claim)
    )


def _workload(observed: Observed) -> tuple[list[str], list[Deletion]]:
    """What of the workload is still there, and what of it is yet to be deleted."""
    there: list[str] = []
    deletions: list[Deletion] = []
    for resource, child in ((DEPLOYMENTS, observed.deployment), (STATEFULSETS, observed.stateful_set)):
        if child is None or not ours(child, observed.workspace):
            continue
        meta = metadata(child)
        there.append(f"{resource.kind} {meta['name']}")
        if not deleting(child):
            deletions.append(Deletion(resource, meta["namespace"], meta["name"], meta["uid"], "Foreground"))
    pods = [metadata(pod)["name"] for pod in observed.pods if _of_workload(pod, observed.workspace)]
    if pods:
        there.append(f"Pod {pods[0]}" + (f" and {len(pods) - 1} more" if len(pods) > 1 else ""))
    return there, deletions


def _of_workload(pod: Object, workspace: Object) -> bool:
    """Whether the pod comes from our Deployment or StatefulSet, and not from somebody who used its label."""
    name = metadata(workspace)["name"]
    return any(
        owner.get("kind") in ("ReplicaSet", "StatefulSet")
        and (owner.get("name") == name or str(owner.get("name")).startswith(f"{name}-"))
        for owner in metadata(pod).get("ownerReferences") or ()
    )


def _claims(observed: Observed) -> list[Object]:
    uid = metadata(observed.workspace)["uid"]
    return [claim for claim in observed.claims if labels_of(claim).get(WORKSPACE_UID_LABEL) in (uid, None)]


def _pool(observed: Observed) -> Object | None:
    """The Workspace's own pool."""
    pool = observed.pool
    return pool if pool is not None and whose(pool, observed.workspace) == "ours" else None


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
