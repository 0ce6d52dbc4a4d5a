"""A cluster in one event loop and in virtual time: the API server, the operator under test, stand-ins for the rest.

The stand-ins do what a machine controller, an adapter controller and the workload controllers do to the objects that
the workspace controller reads: they write status, make nodes and take their finalizers away. They are written with the
same runtime and speak to the same API server under other names.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kaito.api.crds import crd_manifests
from kaito.api.labels import NODE_SLOT_LABEL
from kaito.api.resources import ADAPTERS, MACHINES, WORKSPACES
from kaito.controllers.workspace import WorkspaceConfig, setup
from kaito.controllers.workspace.decide.claims import instance_type
from kaito.controllers.workspace.needs import Lookup
from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.controller import Controller
from kaito.runtime.errors import AlreadyExists, ApiError, Conflict, NotFound, TransportError
from kaito.runtime.finalizers import add_finalizer, remove_finalizer
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import (
    CRDS,
    DEPLOYMENTS,
    NODES,
    PODDISRUPTIONBUDGETS,
    SERVICES,
    STATEFULSETS,
    ObjectKey,
    Resource,
)
from kaito.runtime.result import Result
from kaito.runtime.transport import Request, Response, Transport

Object = dict[str, Any]

OPERATOR = "kaito-workspace/"
KILL_NOW = ManagerOptions(grace_period=0.0)
FINALIZER = "tests.kaito.sh/machine"
STAGES = ("MachineLaunched", "MachineRegistered", "MachineInitialized", "Ready")


class Wire:
    """The operator's connection: counts its requests, and goes dead before or after a chosen write."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.requests: Counter[str] = Counter()
        self.writes: list[str] = []
        self.kill_at: int | None = None
        self.kill_before = False
        self.dead = asyncio.Event()

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        if self.dead.is_set():
            raise TransportError("the operator was killed")
        agent = request.headers.get("User-Agent", "")
        watch = dict(request.query).get("watch") in ("1", "true")
        if not agent.startswith(OPERATOR) or watch:
            return await self._transport.send(request, timeout=timeout, stream=stream)
        self.requests[request.method] += 1
        if request.method == "GET" or request.path.endswith("/events") or "/events/" in request.path:
            return await self._transport.send(request, timeout=timeout, stream=stream)
        self.writes.append(f"{request.method} {request.path}")
        fatal = len(self.writes) == self.kill_at
        if fatal and self.kill_before:
            self.dead.set()
            raise TransportError("the operator was killed before the write")
        response = await self._transport.send(request, timeout=timeout, stream=stream)
        if fatal:
            self.dead.set()
            raise TransportError("the operator was killed after the write")
        return response

    async def close(self) -> None:
        """The transport is the cluster's."""


@dataclass
class Cluster:
    """Everything; `client` is the user."""

    server: ApiServer
    transport: MemoryTransport
    client: Client
    clock: Clock
    config: WorkspaceConfig
    fail_launches: int = 0
    """Machines that are refused for good before one is launched."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    """GPUs of a machine size, where it is not one."""
    hold_pods: bool = False
    """Workloads do not become ready."""
    lookups: dict[str, Lookup] = field(default_factory=dict)
    """What the operator asks beyond the cluster, by the kind of the need."""
    adapter_facts: Object = field(
        default_factory=lambda: {"baseModel": "tiny-phi-3", "rank": 8, "dtype": "float32"}
    )

    def wire(self) -> Wire:
        return Wire(self.transport)

    async def until(self, done: Callable[[], bool], what: str, seconds: float = 900.0) -> None:
        """Wait in virtual time."""
        deadline = self.clock.now() + seconds
        while not done():
            assert self.clock.now() < deadline, f"{what} did not come true; status: {self.statuses()}"
            await self.clock.sleep(0.25)

    def find(self, resource: Resource, name: str, namespace: str | None = "default") -> Object | None:
        """A stored object, or None."""
        try:
            return self.server.find(resource.name, namespace if resource.namespaced else None, name)
        except NotFound:
            return None

    def status(self, name: str = "phi") -> Object:
        """The Workspace's status as it is stored."""
        return (self.find(WORKSPACES, name) or {}).get("status") or {}

    def statuses(self) -> Object:
        return self.status()

    def holds(self, type: str, name: str = "phi") -> bool:
        """Whether the Workspace has that condition with status True."""
        return any(
            each["type"] == type and each["status"] == "True"
            for each in self.status(name).get("conditions") or ()
        )

    async def names(self, resource: Resource) -> list[str]:
        return sorted(each["metadata"]["name"] for each in await self.client.list(resource))

    @contextlib.asynccontextmanager
    async def operator(self, wire: Wire) -> AsyncIterator[asyncio.Task[None]]:
        """The operator, until the block ends or its wire is cut."""
        client = Client(wire, clock=self.clock, user_agent="kaito-cache/1")
        manager = Manager(client, clock=self.clock, options=KILL_NOW)
        setup(manager, self.config, lookups=self.lookups)
        async with running(manager) as task:
            yield task


@contextlib.asynccontextmanager
async def running(manager: Manager) -> AsyncIterator[asyncio.Task[None]]:
    """The manager in a task of its own, cancelled when the block ends."""
    task = asyncio.create_task(manager.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def cluster(clock: Clock, config: WorkspaceConfig | None = None) -> AsyncIterator[Cluster]:
    """A running cluster without an operator."""
    server = ApiServer(ApiServerOptions(clock=clock))
    transport = MemoryTransport(server.handle, clock)
    client = Client(transport, clock=clock, user_agent="user/1", field_manager="user")
    for crd in crd_manifests():
        await client.create(CRDS, crd)
    found = Cluster(server, transport, client, clock, config or WorkspaceConfig())
    others = Client(transport, clock=clock, user_agent="others/1", field_manager="others")
    manager = Manager(others, clock=clock, options=KILL_NOW)
    _stand_ins(manager, found)
    try:
        async with running(manager):
            yield found
    finally:
        await transport.close()
        await server.stop()


def _stand_ins(manager: Manager, cluster: Cluster) -> None:
    client = manager.client
    machines, workloads = (
        manager.cache.lister(MACHINES),
        {
            DEPLOYMENTS: manager.cache.lister(DEPLOYMENTS),
            STATEFULSETS: manager.cache.lister(STATEFULSETS),
        },
    )
    adapters = manager.cache.lister(ADAPTERS)

    async def machine(key: ObjectKey) -> Result | None:
        found = machines.get(key.name)
        if found is None:
            return None
        name = f"node-{key.name}"
        if found.meta.deletion_timestamp is not None:
            await client.delete(NODES, name)
            await remove_finalizer(client, MACHINES, found, FINALIZER)
            return None
        if FINALIZER not in found.meta.finalizers:
            await add_finalizer(client, MACHINES, found, FINALIZER)
            return None
        tree = found.decode()
        if (tree.get("status") or {}).get("conditions"):
            return None
        if cluster.fail_launches > 0:
            cluster.fail_launches -= 1
            refusal = {"reason": "InsufficientCapacity", "message": "none left", "type": "MachineLaunched"}
            await client.patch_status(
                MACHINES, key.name, None, {"conditions": [{**refusal, "status": "False"}]}
            )
            return None
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": tree["metadata"]["labels"]},
            "spec": {"taints": tree["spec"]["taints"]},
        }
        with contextlib.suppress(AlreadyExists):
            await client.create(NODES, node)
        gpus = str(cluster.gpus.get(instance_type(tree) or "", 1))
        ready = {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "x"}],
            "capacity": {"nvidia.com/gpu": gpus},
            "allocatable": {"nvidia.com/gpu": gpus},
        }
        await client.patch_status(NODES, name, None, ready)
        conditions = [{"type": type, "status": "True", "reason": type, "message": ""} for type in STAGES]
        await client.patch_status(MACHINES, key.name, None, {"nodeName": name, "conditions": conditions})
        return None

    def workload(resource: Resource) -> Callable[[ObjectKey], Any]:
        async def reconcile(key: ObjectKey) -> Result | None:
            found = workloads[resource].get(key.name, key.namespace)
            if found is None or found.meta.deletion_timestamp is not None or cluster.hold_pods:
                return Result(requeue_after=1) if found is not None and cluster.hold_pods else None
            tree = found.decode()
            replicas = tree["spec"]["replicas"]
            status = {
                "observedGeneration": found.meta.generation,
                "replicas": replicas,
                "updatedReplicas": replicas,
                "readyReplicas": replicas,
                "availableReplicas": replicas,
            }
            if {key: (tree.get("status") or {}).get(key) for key in status} != status:
                with contextlib.suppress(NotFound, Conflict):
                    await client.patch_status(resource, key.name, key.namespace, status)
            return None

        return reconcile

    async def adapter(key: ObjectKey) -> Result | None:
        found = adapters.get(key.name, key.namespace)
        if found is None:
            return None
        tree = found.decode()
        now = "2026-11-21T13:00:00Z"
        ready = {"type": "Ready", "status": "True", "reason": "Readable", "message": "read"}
        condition = {**ready, "lastTransitionTime": now, "observedGeneration": found.meta.generation}
        status = {**cluster.adapter_facts, "conditions": [condition]}
        if (tree.get("status") or {}) != status:
            with contextlib.suppress(ApiError):
                await client.patch_status(ADAPTERS, key.name, key.namespace, status)
        return None

    manager.add(Controller("machine", machine, primary=MACHINES))
    manager.add(Controller("deployment", workload(DEPLOYMENTS), primary=DEPLOYMENTS))
    manager.add(Controller("statefulset", workload(STATEFULSETS), primary=STATEFULSETS))
    manager.add(Controller("adapter", adapter, primary=ADAPTERS))


WATCHED = (WORKSPACES, ADAPTERS, MACHINES, NODES, DEPLOYMENTS, STATEFULSETS, SERVICES, PODDISRUPTIONBUDGETS)


async def snapshot(cluster: Cluster) -> dict[str, Object]:
    """Everything that is there, without what differs between two equal worlds: uids, versions, times, claims' names."""
    found: dict[str, Object] = {}
    for resource in WATCHED:
        for each in await cluster.client.list(resource):
            meta = each["metadata"]
            name = (
                f"slot {meta['labels'][NODE_SLOT_LABEL]}" if resource in (MACHINES, NODES) else meta["name"]
            )
            assert f"{resource.kind} {name}" not in found, f"two of {resource.kind} {name}"
            found[f"{resource.kind} {name}"] = _normal(each)
    return found


VOLATILE = frozenset(
    {
        "uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "observedGeneration",
        "lastTransitionTime", "claimUID", "claimName", "nodeName", "workerNodes", "clusterIP", "clusterIPs", "endpoint",
        "kaito.sh/workspace-uid", "kaito.sh/desired-hash", "selfLink",
    }
)  # fmt: skip


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _normal(each)
            for key, each in value.items()
            if key not in VOLATILE and not (key == "name" and str(each).startswith(("ws", "node-ws")))
        }
    if isinstance(value, list):
        return [_normal(each) for each in value]
    return value
