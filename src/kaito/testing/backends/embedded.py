"""The backend that is always there: the embedded Kubernetes, in the event loop that asks for it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from kaito.embedded import kubelet, workloads
from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.embedded.kubelet import KubeletOptions, simulated
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import NODES
from kaito.testing.backends.base import (
    API,
    CONTEXT,
    PROCESSES,
    READY_NODES,
    READY_PODS,
    SERVICE_NETWORK,
    WORKLOADS,
    simulated_node,
)
from kaito.testing.backends.waiting import nodes_are_ready

_LOCAL_NODE = "local"
"""The node with PROCESSES whose pods are processes of this machine."""


class EmbeddedBackend:
    """An `ApiServer` on loopback, and the controllers that were asked for beside it.

    The controllers are in this process and reach the server without sockets, so a restart does not touch them.
    """

    name = "embedded"

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._server = ApiServer(ApiServerOptions(clock=clock, service_cidr=SERVICE_NETWORK, context=CONTEXT))
        self._offers: frozenset[str] = frozenset({API})
        self._url = ""
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def kubeconfig(self) -> Path:
        return self._directory / "kubeconfig"

    @property
    def offers(self) -> frozenset[str]:
        return self._offers

    async def start(self, needs: frozenset[str]) -> None:
        """Starts the server and what is needed beside it; returns when all of it works."""
        await self._server.start()
        self._url = self._server.url
        self._server.write_kubeconfig(self.kubeconfig)
        if not needs & {WORKLOADS, READY_PODS, PROCESSES}:
            return
        self._offers |= needs | {WORKLOADS}
        transport = MemoryTransport(self._server.handle, self._clock)
        client = Client(transport, clock=self._clock, user_agent="kaito-backend")
        manager = Manager(client, clock=self._clock, options=ManagerOptions(grace_period=1.0))
        workloads.setup(manager)
        nodes: list[str] = []
        if PROCESSES in needs:
            options = KubeletOptions(self._directory / "pods", self._server.options.kubelet_token)
            kubelet.setup(manager, options)
            nodes.append(_LOCAL_NODE)
        elif READY_PODS in needs:
            simulated.setup(manager)
        self._running = asyncio.create_task(manager.run(self._stop), name="embedded-backend")
        if PROCESSES in needs:
            await client.create(NODES, _local_node())
        if READY_PODS in needs:
            for name in READY_NODES:
                await client.create(NODES, simulated_node(name))
            nodes += READY_NODES
        await nodes_are_ready(client, nodes, self._clock)

    async def stop(self) -> None:
        """Ends everything. What was stored is gone."""
        self._stop.set()
        if self._running is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None
        await self._server.stop()

    async def restart(self, outage: float = 0.0) -> None:
        """See `Backend.restart`."""
        await self._server.crash()
        if outage:
            await self._clock.sleep(outage)
        await self._server.start()

    async def compact(self) -> None:
        """See `Backend.compact`."""
        self._server.core.store.compact()
        await self.restart()

    def last_words(self) -> str:
        """Nothing: what runs in this process logs with the test."""
        return ""


def _local_node() -> dict[str, object]:
    labels = {
        "kaito.sh/instant-cloud": "true",
        "kubernetes.io/hostname": _LOCAL_NODE,
        "kubernetes.io/os": "linux",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": _LOCAL_NODE, "labels": labels}}
