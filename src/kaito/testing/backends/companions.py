"""What runs beside the embedded API server: workload controllers, scheduler, kubelets.

Apart from the server, because it takes longer to load than the server to start, and most tests want the API alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from kaito.embedded import kubelet, workloads
from kaito.embedded.apiserver.server import ApiServer
from kaito.embedded.kubelet import KubeletOptions, simulated
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import NODES
from kaito.testing.backends.base import PROCESSES, READY_NODES, READY_PODS, simulated_node
from kaito.testing.backends.waiting import nodes_are_ready

_LOCAL_NODE = "local"
"""The node with PROCESSES whose pods are processes of this machine."""


class Companions:
    """The controllers that are needed, in this process. They reach the server without sockets, so a restart of it does
    not touch them."""

    def __init__(self, server: ApiServer, pods: Path, clock: Clock) -> None:
        self._server = server
        self._pods = pods
        self._clock = clock
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self, needs: frozenset[str]) -> None:
        """Returns when all of it works."""
        transport = MemoryTransport(self._server.handle, self._clock)
        client = Client(transport, clock=self._clock, user_agent="kaito-backend")
        manager = Manager(client, clock=self._clock, options=ManagerOptions(grace_period=1.0))
        workloads.setup(manager)
        nodes: list[str] = []
        if PROCESSES in needs:
            kubelet.setup(manager, KubeletOptions(self._pods, self._server.options.kubelet_token))
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
        """Ends all of it, also what a start that failed has left."""
        self._stop.set()
        if self._running is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None


def _local_node() -> dict[str, object]:
    labels = {
        "kaito.sh/instant-cloud": "true",
        "kubernetes.io/hostname": _LOCAL_NODE,
        "kubernetes.io/os": "linux",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": _LOCAL_NODE, "labels": labels}}
