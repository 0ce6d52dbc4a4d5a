"""ReplicaSet: so many pods of one template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.embedded.workloads.pods import (
    PodView,
    Tree,
    delete_pod,
    differs,
    find_condition,
    in_batches,
    owned_by,
    owned_informer,
    pod_from_template,
    view,
    wait_seen,
)
from kaito.runtime.clock import rfc3339
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.errors import ApiError
from kaito.runtime.events import EventRecorder
from kaito.runtime.manager import Manager
from kaito.runtime.resources import PODS, REPLICASETS, ObjectKey
from kaito.runtime.result import Result

WORKERS = 16
BURST = 500
"""Pods that one reconcile creates or deletes at most, as in kube-controller-manager."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one ReplicaSet."""

    create: int
    delete: Sequence[PodView]
    status: Tree
    requeue_after: float | None


def decide(replicaset: Tree, pods: Sequence[PodView], now: datetime, *, failure: str = "") -> Plan:
    """`pods` are those that the ReplicaSet controls; `failure` says why creating one failed a moment ago."""
    spec = replicaset["spec"]
    active = [pod for pod in pods if pod.is_active]
    wanted = 0 if replicaset["metadata"].get("deletionTimestamp") else spec.get("replicas", 1)
    missing = wanted - len(active)
    surplus = sorted(active, key=_worth)[: max(0, -missing)]
    min_ready = spec.get("minReadySeconds") or 0
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": len(active),
        "readyReplicas": sum(pod.ready for pod in active),
        "availableReplicas": sum(pod.is_available(min_ready, now) for pod in active),
        "observedGeneration": replicaset["metadata"].get("generation", 0),
        "conditions": _conditions(replicaset.get("status") or {}, failure, now),
    }
    waits = [
        (since - now).total_seconds()
        for pod in active
        if (since := pod.available_at(min_ready)) is not None and min_ready and since > now
    ]
    return Plan(min(max(0, missing), BURST), surplus[:BURST], status, min(waits, default=None))


def _worth(pod: PodView) -> tuple[Any, ...]:
    """Sort key: pods that are cheapest to lose come first (kube-controller-manager's order)."""
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    since = pod.ready_since.timestamp() if pod.ready and pod.ready_since else 0.0
    return (
        bool(pod.node),
        phases.get(pod.phase, 0),
        pod.ready,
        pod.deletion_cost,
        -since,
        -pod.restarts,
        _newest_first(pod.created),
        pod.name,
    )


def _newest_first(created: str) -> tuple[int, ...]:
    return tuple(-ord(character) for character in created)


def _conditions(status: Tree, failure: str, now: datetime) -> list[Tree]:
    others = [each for each in status.get("conditions") or () if each.get("type") != "ReplicaFailure"]
    if not failure:
        return others
    since = find_condition(status, "ReplicaFailure").get("lastTransitionTime") or rfc3339(now)
    return [
        *others,
        {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": failure,
            "lastTransitionTime": since,
        },
    ]


class ReplicaSetReconciler:
    def __init__(self, manager: Manager, recorder: EventRecorder) -> None:
        self.client = manager.client
        self.clock = manager.clock
        self.recorder = recorder
        self.replicasets = manager.cache.informer(REPLICASETS)
        self.pods = owned_informer(manager.cache, PODS)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self.replicasets.lister.get(key.name, key.namespace)
        if found is None or found.meta.deletion_timestamp is not None:
            return None
        replicaset = found.decode()
        plan = self._decide(replicaset)
        failure: ApiError | None = None
        if plan.create or plan.delete:
            failure = await self._act(replicaset, plan)
            plan = self._decide(replicaset, failure="" if failure is None else failure.message)
        if differs(plan.status, replicaset):
            written = await self.client.patch_status(REPLICASETS, key.name, key.namespace, plan.status)
            await wait_seen(self.replicasets, [written])
        if failure is not None:
            raise failure
        return Result(requeue_after=plan.requeue_after)

    def _decide(self, replicaset: Tree, *, failure: str = "") -> Plan:
        pods = [view(pod) for pod in owned_by(self.pods, replicaset["metadata"]["uid"])]
        return decide(replicaset, pods, self.clock.wall(), failure=failure)

    async def _act(self, replicaset: Tree, plan: Plan) -> ApiError | None:
        """Creates and deletes; returns what the API server had against it."""
        namespace = replicaset["metadata"]["namespace"]
        made: list[Tree] = []

        async def create(pod: Tree) -> None:
            made.append(await self.client.create(PODS, pod))
            name = made[-1]["metadata"]["name"]
            self.recorder.event(replicaset, "Normal", "SuccessfulCreate", f"Created pod: {name}")

        async def delete(pod: PodView) -> None:
            await delete_pod(self.client, namespace, pod)
            self.recorder.event(replicaset, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.name}")

        template = replicaset["spec"]["template"]
        try:
            await in_batches(
                [pod_from_template(replicaset, REPLICASETS, template) for _ in range(plan.create)], create
            )
            await in_batches(plan.delete, delete)
        except ApiError as error:
            self.recorder.event(replicaset, "Warning", "FailedCreate", f"Error creating: {error.message}")
            return error
        finally:
            await wait_seen(self.pods, made)
        return None


def setup(manager: Manager, recorder: EventRecorder) -> None:
    reconciler = ReplicaSetReconciler(manager, recorder)
    manager.add(
        Controller(
            "replicaset",
            reconciler.reconcile,
            primary=REPLICASETS,
            owns=[PODS],
            options=ControllerOptions(workers=WORKERS),
        )
    )
