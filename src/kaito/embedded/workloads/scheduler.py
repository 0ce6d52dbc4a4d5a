"""The scheduler: finds a node for each pod that has none, and says why where there is none.

Several workers bind at the same time; a decision is made without waiting for anything, and is remembered ("assumed")
until the pod's binding shows in the cache, so two pods never get the same room. A pod that fits nowhere waits: it is
looked at again when a node that could take it changes, or when a pod leaves such a node.
"""

from __future__ import annotations

from collections.abc import Iterable

from kaito.embedded.workloads.pods import Tree, find_condition
from kaito.embedded.workloads.scheduling import (
    NodeOffer,
    PodNeeds,
    Score,
    explain,
    explain_gates,
    misfit,
    node_offer,
    pod_needs,
    score,
    shortages,
)
from kaito.runtime.clock import rfc3339
from kaito.runtime.controller import Controller, ControllerOptions, Watch
from kaito.runtime.errors import ApiError, Conflict, NotFound
from kaito.runtime.events import EventRecorder
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import Event, EventType, changed
from kaito.runtime.resources import NODES, PODS, ObjectKey
from kaito.runtime.result import Result

NAME = "default-scheduler"
WORKERS = 8
UNSCHEDULABLE = "Unschedulable"
GATED = "SchedulingGated"
"""Reasons of the condition PodScheduled, as kube-scheduler and kube-apiserver write them."""
BY_NODE = "workloads-node"
"""Index of pods that take up room, by node; those without a node are under ""."""


def by_node(pod: CachedObject) -> Iterable[str]:
    needs = pod.cached_view(pod_needs)
    return (needs.node,) if needs.counts else ()


class Scheduler:
    def __init__(self, manager: Manager, recorder: EventRecorder) -> None:
        self.client = manager.client
        self.clock = manager.clock
        self.recorder = recorder
        self.nodes = manager.cache.informer(NODES)
        self.pods = manager.cache.informer(PODS)
        self.pods.add_indexer(BY_NODE, by_node)
        self._assumed: dict[str, dict[str, PodNeeds]] = {}  # node -> pod uid -> needs

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self.pods.lister.get(key.name, key.namespace)
        if found is None or found.meta.deletion_timestamp is not None:
            return None
        pod = found.cached_view(pod_needs)
        if pod.node or not pod.counts:
            return None
        tree = found.decode()
        if tree["spec"].get("schedulerName", NAME) != NAME:
            return None
        if pod.gates:
            return await self._tell_unscheduled(found, tree, GATED, explain_gates(pod.gates))
        if pod.refusal:
            return await self._tell_unscheduled(found, tree, UNSCHEDULABLE, pod.refusal)
        node, reasons = self._choose(pod)
        if node is None:
            message = explain(len(self.nodes.store), reasons)
            return await self._tell_unscheduled(found, tree, UNSCHEDULABLE, message)
        await self._bind(found, tree, pod, node)
        return None

    def _choose(self, pod: PodNeeds) -> tuple[NodeOffer | None, list[str]]:
        """The best node, or why each one is not possible. Does not wait, so nothing changes in between."""
        best: tuple[Score, NodeOffer] | None = None
        reasons: list[str] = []
        for obj in self.nodes.lister.list():
            node = obj.cached_view(node_offer)
            if reason := misfit(pod, node):
                reasons.append(reason)
                continue
            others = self._on(node.name)
            if lacking := shortages(pod, node, others):
                reasons += lacking
                continue
            rank = score(pod, node, others)
            if best is None or rank > best[0]:
                best = rank, node
        return (None if best is None else best[1]), reasons

    def _on(self, node: str) -> list[PodNeeds]:
        """Pods on a node: those in the cache, and those that are about to be."""
        there = {pod.meta.uid: pod.cached_view(pod_needs) for pod in self.pods.lister.by_index(BY_NODE, node)}
        return [
            *there.values(),
            *(pod for uid, pod in self._assumed.get(node, {}).items() if uid not in there),
        ]

    async def _bind(self, found: CachedObject, tree: Tree, pod: PodNeeds, node: NodeOffer) -> None:
        name, namespace = found.meta.name, found.meta.namespace
        self._assumed.setdefault(node.name, {})[pod.uid] = pod
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node.name},
        }
        try:
            await self.client.create(PODS, body, namespace, subresource="binding")
        except (NotFound, Conflict):
            self._forget(node.name, pod.uid)  # gone, or bound already
            return
        except ApiError as error:
            self._forget(node.name, pod.uid)
            self.recorder.event(tree, "Warning", "FailedScheduling", f"binding failed: {error.message}")
            raise
        except BaseException:
            self._forget(node.name, pod.uid)
            raise
        message = f"Successfully assigned {namespace}/{name} to {node.name}"
        self.recorder.event(tree, "Normal", "Scheduled", message)

    def _forget(self, node: str, uid: str) -> None:
        assumed = self._assumed.get(node)
        if assumed is not None:
            assumed.pop(uid, None)
            if not assumed:
                del self._assumed[node]

    async def _tell_unscheduled(
        self, found: CachedObject, tree: Tree, reason: str, message: str
    ) -> Result | None:
        """Condition PodScheduled=False and, where the pod does not merely wait for its gates, an event; once each."""
        status = tree.get("status") or {}
        current = find_condition(status, "PodScheduled")
        told = (current.get("status"), current.get("reason"), current.get("message"))
        if told == ("False", reason, message):
            return None
        since = current.get("lastTransitionTime") if current.get("status") == "False" else None
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": since or rfc3339(self.clock.wall()),
        }
        others = [each for each in status.get("conditions") or () if each["type"] != "PodScheduled"]
        try:
            await self.client.patch_status(
                PODS,
                found.meta.name,
                found.meta.namespace,
                {"conditions": [*others, condition]},
                resource_version=found.meta.resource_version,
            )
            if reason != GATED:
                self.recorder.event(tree, "Warning", "FailedScheduling", message)
        except Conflict:
            return Result(requeue_after=0)  # our copy is old
        except NotFound:
            pass
        return None

    # Which waiting pods a change concerns

    def for_node(self, obj: CachedObject) -> list[ObjectKey]:
        """Waiting pods that could run on this node."""
        node = obj.cached_view(node_offer)
        return [
            pod.key
            for pod in self.pods.lister.by_index(BY_NODE, "")
            if not misfit(pod.cached_view(pod_needs), node)
        ]

    def for_pod(self, obj: CachedObject) -> list[ObjectKey]:
        """Waiting pods that could use the room that this one leaves on its node."""
        needs = obj.cached_view(pod_needs)
        if not needs.node:
            return []
        self._forget(needs.node, needs.uid)  # the cache counts it now, or it is gone
        node = self.nodes.lister.get(needs.node)
        left = not needs.counts or self.pods.lister.get(obj.meta.name, obj.meta.namespace) is None
        return self.for_node(node) if left and node is not None else []


def _node_matters(obj: CachedObject) -> str:
    return repr(obj.cached_view(node_offer))


def _matters(event: Event) -> bool:
    """Drops the many updates of pods that only report how their containers are."""
    if event.old is None or event.obj.resource != PODS:
        return True
    before, now = event.old, event.obj
    return (
        before.cached_view(pod_needs) != now.cached_view(pod_needs)
        or before.meta.deletion_timestamp != now.meta.deletion_timestamp
    )


def _leaves_or_settles(event: Event) -> bool:
    """Pods that got a node or gave one up."""
    if event.type is EventType.DELETE or event.old is None:
        return True
    before, now = event.old.cached_view(pod_needs), event.obj.cached_view(pod_needs)
    return (before.node, before.counts) != (now.node, now.counts)


def setup(manager: Manager, recorder: EventRecorder) -> None:
    scheduler = Scheduler(manager, recorder)
    manager.add(
        Controller(
            "scheduler",
            scheduler.reconcile,
            primary=PODS,
            watches=[
                Watch(NODES, scheduler.for_node, predicates=[changed(_node_matters)]),
                Watch(PODS, scheduler.for_pod, predicates=[_leaves_or_settles]),
            ],
            predicates=[_matters],
            options=ControllerOptions(workers=WORKERS),
        )
    )
