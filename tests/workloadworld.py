"""A small world for the workload controllers: an API server, and a kubelet that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fakeapi import FakeApi
from kaito.embedded import workloads
from kaito.runtime.client import Client
from kaito.runtime.clock import rfc3339
from kaito.runtime.errors import Conflict, NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import EVENTS, NODES, PODS, ObjectKey, Resource
from kaito.runtime.testing.virtual import VirtualClock

Tree = dict[str, Any]


class Kubelet:
    """Makes pods with a node Running and Ready after `delay` seconds, and lets deleted ones go after `grace`.

    `outcome` maps a pod's name to the phase it ends in instead; `unready` holds name parts of pods that never get
    ready.
    """

    def __init__(self, client: Client, clock: VirtualClock) -> None:
        self.client = client
        self.clock = clock
        self.delay = 1.0
        self.grace = 2.0
        self.unready: set[str] = set()
        self.outcome: dict[str, str] = {}
        self._seen: set[tuple[str, bool]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses = 0

    async def run(self) -> None:
        try:
            while True:
                for pod in await self.client.list(PODS):
                    self._consider(pod)
                await self.clock.sleep(0.25)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _consider(self, pod: Tree) -> None:
        uid, deleting = pod["metadata"]["uid"], "deletionTimestamp" in pod["metadata"]
        if not pod["spec"].get("nodeName") or (uid, deleting) in self._seen:
            return
        self._seen.add((uid, deleting))
        task = asyncio.ensure_future(self._kill(pod) if deleting else self._start(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, pod: Tree) -> None:
        await self.clock.sleep(self.delay)
        self._addresses += 1
        name = pod["metadata"]["name"]
        ready = not any(part in name for part in self.unready)
        phase = next((phase for part, phase in self.outcome.items() if part in name), "Running")
        now = rfc3339(self.clock.wall())
        await self.set_status(
            pod,
            {
                "phase": phase,
                "podIP": f"10.244.0.{self._addresses}",
                "conditions": [
                    *(await self._scheduled(pod)),
                    {
                        "type": "Ready",
                        "status": "True" if ready and phase == "Running" else "False",
                        "lastTransitionTime": now,
                    },
                ],
                "containerStatuses": [
                    {
                        "name": "main",
                        "state": {} if phase == "Running" else {"terminated": {"finishedAt": now}},
                    }
                ],
            },
        )

    async def _scheduled(self, pod: Tree) -> list[Tree]:
        """What the scheduler wrote stays."""
        try:
            live = await self.client.get(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"])
        except NotFound:
            return []
        conditions = (live.get("status") or {}).get("conditions") or []
        return [each for each in conditions if each["type"] == "PodScheduled"]

    async def _kill(self, pod: Tree) -> None:
        await self.clock.sleep(self.grace)
        await self.client.delete(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"], grace_period=0)

    async def set_status(self, pod: Tree, status: Tree) -> None:
        try:
            await self.client.patch_status(
                PODS, pod["metadata"]["name"], pod["metadata"]["namespace"], status
            )
        except (NotFound, Conflict):
            return


class Cluster:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.client = self.api.client("user")
        self.manager = Manager(self.api.client("workloads"), clock=clock)
        self.kubelet = Kubelet(self.api.client("kubelet"), clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        workloads.setup(self.manager)
        stop = asyncio.Event()
        manager = asyncio.create_task(self.manager.run(stop))
        kubelet = asyncio.create_task(self.kubelet.run())
        try:
            yield
        finally:
            stop.set()
            await manager
            kubelet.cancel()
            await asyncio.gather(kubelet, return_exceptions=True)

    def node(self, name: str = "n1", *, allocatable: Tree | None = None, **more: Any) -> Tree:
        room = {"cpu": "8", "memory": "32Gi", "pods": "110", **(allocatable or {})}
        return self.api.put(
            NODES,
            {
                "metadata": {"name": name, "labels": more.pop("labels", {})},
                "spec": more,
                "status": {"allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
            },
        )

    def get(self, resource: Resource, name: str, namespace: str = "default") -> Tree:
        tree = self.api.get(resource, name, namespace)
        assert tree is not None, f"no {resource} {ObjectKey(namespace, name)}"
        return tree

    def pods(self) -> list[Tree]:
        return sorted(self.api.all(PODS), key=lambda pod: pod["metadata"]["name"])

    def pod_names(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods()]

    def events(self, reason: str) -> list[str]:
        return [event["message"] for event in self.api.all(EVENTS) if event["reason"] == reason]

    def requests(self, agent: str = "workloads") -> list[str]:
        """Requests of the controllers, events aside."""
        return [
            f"{method} {path}"
            for method, path, user_agent in self.api.requests
            if user_agent == agent and "/events" not in path
        ]


def template(app: str = "web", **spec: Any) -> Tree:
    containers = [{"name": "main", "image": "img:1", "ports": [{"name": "http", "containerPort": 5000}]}]
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": containers, **spec}}


def workload(name: str = "web", **spec: Any) -> Tree:
    """A Deployment, ReplicaSet or StatefulSet."""
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name),
            **spec,
        },
    }
