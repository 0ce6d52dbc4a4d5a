"""Pods whose node is gone: nobody is left to stop them, so they are removed after a while (as PodGC does)."""

from __future__ import annotations

from kaito.embedded.workloads.pods import view
from kaito.embedded.workloads.scheduler import BY_NODE, by_node
from kaito.runtime.clock import Clock
from kaito.runtime.controller import Controller, ControllerOptions, Watch
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import Event, EventType
from kaito.runtime.resources import NODES, PODS, ObjectKey
from kaito.runtime.result import Result

QUARANTINE = 40.0
"""Seconds that a node has to be missing before its pods are removed; it may only have been made anew."""
WORKERS = 4


class PodGarbageCollector:
    def __init__(self, manager: Manager) -> None:
        self.client = manager.client
        self.clock: Clock = manager.clock
        self.pods = manager.cache.informer(PODS)
        self.pods.add_indexer(BY_NODE, by_node)
        self.nodes = manager.cache.lister(NODES)
        self._missing_since: dict[str, float] = {}

    def on_node(self, node: CachedObject) -> list[ObjectKey]:
        """The pods of a node that came or went."""
        return [pod.key for pod in self.pods.lister.by_index(BY_NODE, node.meta.name)]

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self.pods.lister.get(key.name, key.namespace)
        node = view(found).node if found else ""
        if found is None or not node:
            return None
        if self.nodes.get(node) is not None:
            self._missing_since.pop(node, None)
            return None
        now = self.clock.now()
        wait = self._missing_since.setdefault(node, now) + QUARANTINE - now
        if wait > 0:
            return Result(requeue_after=wait)
        await self.client.delete(PODS, key.name, key.namespace, uid=found.meta.uid, grace_period=0)
        return None


def _matters(event: Event) -> bool:
    """Pods that got a node, and nodes that came or went."""
    if event.type is not EventType.UPDATE or event.old is None:
        return True
    return event.obj.resource == PODS and event.old.cached_view(by_node) != event.obj.cached_view(by_node)


def setup(manager: Manager) -> None:
    collector = PodGarbageCollector(manager)
    manager.add(
        Controller(
            "pod-garbage-collector",
            collector.reconcile,
            primary=PODS,
            watches=[Watch(NODES, collector.on_node)],
            predicates=[_matters],
            options=ControllerOptions(workers=WORKERS),
        )
    )
