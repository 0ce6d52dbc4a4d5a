"""The floor under a convergence: how long the same children take when nobody has to decide anything.

Writes objects with one client over 32 connections, and waits until all pods that they lead to are Ready. No operator
runs meanwhile. Seconds are from the first write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kaito.api.resources import MACHINES, NODECLAIMS
from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.informer import Informer
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
    Resource,
)

CHILDREN: tuple[Resource, ...] = (
    MACHINES,
    NODECLAIMS,
    NODES,
    CONFIGMAPS,
    SERVICES,
    STATEFULSETS,
    DEPLOYMENTS,
)
"""What the operator makes, in the order in which it comes about."""
CONNECTIONS = 32
"""Requests in flight of the client that writes."""
SWEPT = (PODS, REPLICASETS, DEPLOYMENTS, SERVICES, ENDPOINTSLICES)
"""What garbage collection takes longest to remove."""
QUIET = 5.0
"""Seconds of rest between two runs."""
LIMIT = 900.0
"""Seconds after which a run is given up."""

Tree = dict[str, Any]


def stripped(tree: Tree, resource: Resource) -> Tree:
    """An object as its author wrote it: without what the server or a status writer added."""
    meta = tree["metadata"]
    kept = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
    kept["annotations"] = {
        key: value
        for key, value in (kept.get("annotations") or {}).items()
        if not key.startswith("deployment.kuber")
    }
    body = {key: value for key, value in tree.items() if key not in ("metadata", "status")}
    if resource == SERVICES:
        body["spec"] = {
            key: value for key, value in body["spec"].items() if key not in ("clusterIP", "clusterIPs")
        }
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body, "metadata": kept}


async def in_parallel(items: Sequence[Any], do: Callable[[Any], Awaitable[object]]) -> None:
    """`do` for each item, 32 at a time."""
    queue = list(reversed(items))

    async def work() -> None:
        while queue:
            await do(queue.pop())

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())


class Watcher:
    """Counts the objects of an informer that have arrived, and remembers when each did."""

    def __init__(self, informer: Informer, arrived: Callable[[CachedObject], bool]) -> None:
        self._arrived = arrived
        self._changed = asyncio.Event()
        self.times: dict[str, float] = {}
        informer.add_handler(self)

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._look(obj)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._look(new)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self.times.pop(str(obj.key), None)
        self._changed.set()

    def _look(self, obj: CachedObject) -> None:
        if str(obj.key) not in self.times and self._arrived(obj):
            self.times[str(obj.key)] = time.perf_counter()
            self._changed.set()

    async def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Until `condition`. Raises TimeoutError after `LIMIT` seconds."""
        try:
            async with asyncio.timeout(LIMIT):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{what}: only {len(self.times)} within {LIMIT:g} s") from None


def pod_is_ready(pod: CachedObject) -> bool:
    status = pod.decode().get("status") or {}
    return any(
        each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()
    )


def pods_of(children: Sequence[Tree]) -> int:
    """How many pods these children lead to."""
    return sum(
        each["spec"].get("replicas", 1) for each in children if each["kind"] in ("Deployment", "StatefulSet")
    )


async def until_quiet(client: Client, namespace: str) -> None:
    """Until nothing of an earlier run is left that anybody would still have to remove, and a moment longer."""
    deadline = time.perf_counter() + LIMIT
    while left := [len(await client.list(resource, namespace)) for resource in SWEPT]:
        if not any(left):
            break
        if time.perf_counter() > deadline:
            raise TimeoutError(f"of an earlier run are still there: {left}")
        await asyncio.sleep(0.5)
    await asyncio.sleep(QUIET)


async def measure(client: Client, children: Sequence[Tree]) -> Tree:
    """Writes them, waits, and removes them again."""
    resources = {resource.kind: resource for resource in CHILDREN}
    namespaces = {each["metadata"].get("namespace") for each in children} - {None}
    cache = InformerCache(client)
    informer = cache.informer(PODS, namespace=namespaces.pop() if len(namespaces) == 1 else None)
    ready = Watcher(informer, pod_is_ready)
    running = asyncio.create_task(cache.run())
    try:
        await cache.wait_synced()
        already, wanted = len(ready.times), pods_of(children)

        async def write(child: Tree) -> None:
            await client.create(resources[child["kind"]], child)

        started = time.perf_counter()
        await in_parallel(children, write)
        written = time.perf_counter() - started
        await ready.wait(lambda: len(ready.times) >= already + wanted, "pods Ready")
        seconds = max(ready.times.values()) - started

        async def remove(child: Tree) -> None:
            meta = child["metadata"]
            await client.delete(resources[child["kind"]], meta["name"], meta.get("namespace"))

        await in_parallel([each for each in children if each["metadata"].get("namespace")], remove)
        await ready.wait(lambda: len(informer.store) == already, "pods gone")
        await in_parallel([each for each in children if not each["metadata"].get("namespace")], remove)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return {
        "seconds": round(seconds, 3),
        "written": round(written, 3),
        "objects": len(children),
        "pods": wanted,
    }
