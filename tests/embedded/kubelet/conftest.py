"""A cluster for each test that asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
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
async def bare_cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """API server with a Node object, and nobody who looks after it."""
    clock = LoopClock()
    server = ApiServer(ApiServerOptions(clock=clock, kubelet_token=TOKEN))
    await server.start()
    kubeconfig = tmp_path / "kubeconfig"
    server.write_kubeconfig(kubeconfig)
    connection = Connection.from_kubeconfig(kubeconfig)
    client = Client(connection.transport, clock=clock)
    try:
        await client.create(NODES, node(NODE, **{"nvidia.com/gpu.count": "2"}))
        yield Cluster(client, clock, kubeconfig, tmp_path)
    finally:
        await connection.close()
        await server.stop()


@pytest.fixture
async def cluster(bare_cluster: Cluster) -> AsyncIterator[Cluster]:
    """API server and kubelet with one node that is Ready."""
    manager = Manager(bare_cluster.client, clock=bare_cluster.clock)
    directory = bare_cluster.directory / "kubelet"
    kubelet = setup(
        manager, KubeletOptions(directory, TOKEN, python_images(bare_cluster.directory), stop_grace=0.5)
    )
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await bare_cluster.node_ready()
        yield replace(bare_cluster, kubelet=kubelet)
    finally:
        stop.set()
        await running
