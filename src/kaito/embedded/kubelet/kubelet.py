"""The process kubelet: one for all nodes of the instant cloud.

Keeps a worker per pod bound to such a node, and the servers that the API server and the containers talk to.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping

import aiohttp

from kaito.embedded.kubelet.deps import Deps
from kaito.embedded.kubelet.nodes import Machine, NodeKeeper, machine_amounts
from kaito.embedded.kubelet.options import KubeletOptions
from kaito.embedded.kubelet.proxy import HttpProxy, Upstream
from kaito.embedded.kubelet.resolve import Directory, PodView
from kaito.embedded.kubelet.sandbox import remove_directory, remove_temporary
from kaito.embedded.kubelet.server import KubeletServer
from kaito.embedded.kubelet.simulated import node_name
from kaito.embedded.kubelet.worker import PodWorker
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.controller import Controller
from kaito.runtime.errors import ApiError, Conflict, TransportError
from kaito.runtime.events import EventRecorder
from kaito.runtime.informer import Informer
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import PODS, ObjectKey

log = get_logger(__name__)

WORKER_RETRY = 5.0
"""Seconds before a pod whose worker failed is taken up again."""


class Kubelet:
    """A runnable. `pods`, `nodes` and `services` are the manager's informers."""

    needs_leader_election = False

    def __init__(
        self,
        client: Client,
        clock: Clock,
        recorder: EventRecorder,
        options: KubeletOptions,
        machine: Machine,
        keeper: NodeKeeper,
        node_controller: Controller,
        *,
        pods: Informer,
        nodes: Informer,
        services: Informer,
    ) -> None:
        self._client = client
        self._clock = clock
        self._recorder = recorder
        self._options = options
        self._machine = machine
        self._keeper = keeper
        self._node_controller = node_controller
        self._pods, self._nodes, self._services = pods, nodes, services
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._uids: dict[ObjectKey, str] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._deps: Deps | None = None
        self._turn = itertools.count()
        self._directory = Directory(
            lambda: (service.cached_view(CachedObject.decode) for service in services.lister.list()),
            self._views,
            lambda count: next(self._turn) % count,
            options.service_network,
        )
        upstream = options.upstream_proxy
        self._proxy = HttpProxy(self._directory.resolve, clock, Upstream.of(upstream) if upstream else None)
        self.port = 0
        """Of the kubelet's HTTP server, once it runs."""

    async def run(self) -> None:
        """Serve until cancelled; then every container is stopped."""
        self._options.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with aiohttp.ClientSession(trust_env=False, auto_decompress=False) as session:
            server = KubeletServer(self.find, self._options.token, session, self._clock)
            await self._proxy.start()
            await server.start()
            self.port = self._keeper.port = server.port
            self._deps = self._make_deps(session)
            registrations = []
            try:
                for informer in (self._pods, self._nodes, self._services):
                    await informer.wait_synced()
                self._clean_up()
                registrations = [
                    self._pods.add_handler(_PodEvents(self)),
                    self._nodes.add_handler(_NodeEvents(self)),
                ]
                for node in self._nodes.lister.list():
                    self._node_controller.enqueue(node.key)
                await asyncio.Event().wait()
            finally:
                for registration in registrations:
                    registration.remove()
                await self._stop_workers()
                await server.stop()
                await self._proxy.stop()

    def _make_deps(self, session: aiohttp.ClientSession) -> Deps:
        return Deps(
            self._client,
            self._clock,
            self._recorder,
            self._options.images,
            self._options.directory,
            session,
            self._proxy.url,
            self._allocatable,
            self._options.environment,
            bool(self._options.upstream_proxy),
        )

    def _allocatable(self, node: str) -> Mapping[str, str]:
        return machine_amounts(self._machine, self._nodes.lister.get(node))

    def _clean_up(self) -> None:
        """Delete what pods left that went away while no kubelet ran, and keep the addresses of those that did not."""
        known = {pod.meta.uid for pod in self._pods.lister.list()}
        directory = self._options.directory / "pods"
        for path in directory.iterdir() if directory.is_dir() else ():
            if path.name not in known:
                remove_directory(path)
        assert self._deps is not None
        for pod in self._pods.lister.list():
            address = (pod.decode().get("status") or {}).get("podIP")
            if address:
                self._deps.addresses.reserve(address)

    # Pods

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod, for the HTTP server."""
        return self._workers.get(self._uids.get(ObjectKey(namespace, name), ""))

    def mine(self, pod: CachedObject) -> bool:
        return self._keeper.mine(self._nodes.lister.get(pod.cached_view(node_name)))

    def observe(self, pod: CachedObject) -> None:
        """A pod is there or has changed."""
        before = self._uids.get(pod.key)
        if before is not None and before != pod.meta.uid:
            self.lost(pod.key, before)
        worker = self._workers.get(pod.meta.uid)
        if worker is not None:
            worker.update(pod)
        elif self.mine(pod):
            self._begin(pod)

    def lost(self, key: ObjectKey, uid: str) -> None:
        """A pod's object is gone."""
        if self._uids.get(key) == uid:
            del self._uids[key]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.forget()

    def _begin(self, pod: CachedObject) -> None:
        assert self._deps is not None
        uid = pod.meta.uid
        worker = self._workers[uid] = PodWorker(pod, self._deps)
        self._uids[pod.key] = uid
        task = self._tasks[uid] = asyncio.create_task(worker.run(), name=f"pod {pod.key}")
        task.add_done_callback(lambda done: self._ended(pod.key, uid, done))

    def _ended(self, key: ObjectKey, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        if self._uids.get(key) == uid:
            del self._uids[key]
        if not task.cancelled() and task.exception() is not None:
            log.error("pod worker failed, trying again", pod=str(key), error=task.exception())
            self._clock.call_later(WORKER_RETRY, self._again, key)

    def _again(self, key: ObjectKey) -> None:
        pod = self._pods.lister.get(key.name, key.namespace)
        if pod is not None and self._deps is not None:
            self.observe(pod)

    # Nodes

    def node_changed(self, node: CachedObject) -> None:
        """A node is there: so may be pods that were bound to it before it was known."""
        if self._keeper.mine(node):
            for pod in self._pods.lister.list():
                if pod.meta.uid not in self._workers and pod.cached_view(node_name) == node.meta.name:
                    self.observe(pod)

    def node_gone(self, node: CachedObject) -> None:
        """A machine is gone, and its pods with it."""
        for worker in list(self._workers.values()):
            if worker.pod["spec"].get("nodeName") == node.meta.name:
                self.lost(worker.key, worker.uid)
                task = asyncio.create_task(self._delete(worker), name=f"delete {worker.key}")
                self._background.add(task)
                task.add_done_callback(self._background.discard)

    async def _delete(self, worker: PodWorker) -> None:
        key = worker.key
        try:
            await self._client.delete(PODS, key.name, key.namespace, uid=worker.uid, grace_period=0)
        except Conflict:
            return
        except (ApiError, TransportError) as error:
            log.warning("pod of a node that is gone was not deleted", pod=str(key), cause=str(error))

    # Names

    def _views(self) -> Iterable[PodView]:
        return (worker.view() for worker in self._workers.values())

    # The end

    async def _stop_workers(self) -> None:
        """SIGTERM to all at once, then whatever is left is killed."""
        tasks, workers = list(self._tasks.values()), list(self._workers.values())
        await asyncio.gather(*(worker.stop_all(self._options.stop_grace) for worker in workers))
        for task in [*tasks, *self._background]:
            task.cancel()
        await asyncio.gather(*tasks, *self._background, return_exceptions=True)
        for worker in workers:
            remove_temporary(worker.sandbox.directory)
        self._deps = None


class _PodEvents:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._kubelet.observe(obj)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._kubelet.observe(new)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._kubelet.lost(obj.key, obj.meta.uid)


class _NodeEvents:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._kubelet.node_changed(obj)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._kubelet.node_changed(new)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._kubelet.node_gone(obj)
