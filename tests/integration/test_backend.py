"""What both backends promise: a private kubeconfig, one address for life, restarts that lose no data."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest

from kaito.runtime.errors import TransportError
from kaito.runtime.resources import CONFIGMAPS, NODES
from kaito.testing.backends import READY_NODES
from support.cluster import World


@pytest.mark.needs("api")
async def test_only_the_kubeconfig_opens_the_door(world: World) -> None:
    backend = world.backend
    assert backend.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert backend.url.startswith("https://127.0.0.1:")
    assert "api" in backend.offers
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as stranger:
        async with stranger.get(f"{backend.url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with stranger.get(f"{backend.url}/api/v1/secrets", headers=headers) as answer:
                assert answer.status in (401, 403)


@pytest.mark.needs("api")
async def test_a_restart_cuts_refuses_and_forgets_nothing(world: World) -> None:
    backend, client = world.backend, world.client
    before = backend.url
    made = await client.create(CONFIGMAPS, {"metadata": world.meta("a"), "data": {"k": "v"}})
    stream = await client.stream(CONFIGMAPS.path(world.namespace), query=[("watch", "1")])

    async def drain() -> None:
        async for _ in stream.chunks():
            pass

    watching = asyncio.ensure_future(drain())
    restarting = asyncio.ensure_future(backend.restart(outage=1.0))
    with pytest.raises(TransportError):
        await watching
    await stream.close()
    with pytest.raises(TransportError):
        await client.get(CONFIGMAPS, "a", world.namespace)
    await restarting
    assert backend.url == before
    found = await client.get(CONFIGMAPS, "a", world.namespace)
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


@pytest.mark.needs("ready-pods")
async def test_ready_pods_bring_nodes_and_workloads(world: World) -> None:
    assert {"api", "workloads", "ready-pods"} <= world.backend.offers
    nodes = {each["metadata"]["name"]: each for each in await world.client.list(NODES)}
    assert set(READY_NODES) <= set(nodes)
    assert "nvidia.com/gpu" not in nodes[READY_NODES[0]]["status"]["allocatable"]


@pytest.mark.needs("processes")
async def test_processes_are_the_embedded_backends_own(world: World) -> None:
    assert world.backend.name == "embedded"
    assert "processes" in world.backend.offers
