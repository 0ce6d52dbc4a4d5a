"""A cluster for each test that asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.embedded.kubelet import KubeletOptions, setup
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES
from support.kubelet_cluster import NODE, TOKEN, Cluster, node, python_images


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """API server and kubelet with one node that is Ready."""
    clock = LoopClock()
    server = ApiServer(ApiServerOptions(clock=clock, kubelet_token=TOKEN))
    await server.start()
    kubeconfig = tmp_path / "kubeconfig"
    server.write_kubeconfig(kubeconfig)
    connection = Connection.from_kubeconfig(kubeconfig)
    client = Client(connection.transport, clock=clock)
    manager = Manager(client, clock=clock)
    kubelet = setup(manager, KubeletOptions(tmp_path / "kubelet", TOKEN, python_images(), stop_grace=0.5))
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    made = Cluster(client, clock, kubeconfig, tmp_path, kubelet)
    try:
        await client.create(NODES, node(NODE, **{"nvidia.com/gpu.count": "2"}))

        async def node_ready() -> bool:
            status = (await client.get(NODES, NODE)).get("status", {})
            return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))

        await made.until(node_ready, what="the node is Ready")
        yield made
    finally:
        stop.set()
        await running
        await connection.close()
        await server.stop()
