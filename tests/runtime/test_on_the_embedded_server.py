"""Client, cache and connection against the embedded API server: in memory with virtual time, and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client, PatchType, RequestRecord
from kaito.runtime.connection import Connection
from kaito.runtime.errors import AlreadyExists, Conflict, Invalid, NotFound, TransportError, Unauthorized
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import CONFIGMAPS, NODES
from kaito.runtime.testing import VirtualClock
from kaito.runtime.transport import Request


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "labels": {"app": name}}, "data": data}


@contextlib.asynccontextmanager
async def running(cache: InformerCache) -> AsyncIterator[None]:
    task = asyncio.ensure_future(cache.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def is_watch(request: Request) -> bool:
    return ("watch", "1") in request.query


@pytest.mark.parametrize("watch_list", [True, False], ids=["stream", "list"])
async def test_a_cache_follows_through_faults(virtual_clock: VirtualClock, watch_list: bool) -> None:
    server = ApiServer(ApiServerOptions(clock=virtual_clock))
    faults = FaultScript()
    faults.add(Fault(refuse="connection refused"))
    faults.add(Fault(stall_after=3), matches=is_watch)
    records: list[RequestRecord] = []
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    reader = Client(
        MemoryTransport(server.handle, virtual_clock, faults), clock=virtual_clock, observer=records.append
    )
    cache = InformerCache(reader, watch_list=watch_list)
    informer = cache.informer(CONFIGMAPS, namespace="default", label_selector="app in (a, b)")
    first = await client.create(CONFIGMAPS, config_map("a", k="1"))
    async with running(cache):
        await cache.wait_synced()
        cached = informer.lister.get("a", "default")
        assert cached is not None
        del first["metadata"]["managedFields"]  # not kept
        assert cached.decode() == first
        for name in ("b", "c"):
            written = await client.create(CONFIGMAPS, config_map(name))
        await client.patch(CONFIGMAPS, "a", "default", patch={"data": {"k": "2"}})
        written = await client.patch(CONFIGMAPS, "b", "default", patch={"metadata": {"labels": {"app": "x"}}})
        # The stalled watch is noticed and replaced; nothing of what happened meanwhile is missing.
        assert await informer.wait_seen(written["metadata"]["resourceVersion"], timeout=700)
        assert {obj.key.name: obj.decode()["data"] for obj in informer.lister.list()} == {"a": {"k": "2"}}
        await client.delete(CONFIGMAPS, "a", "default")
        await virtual_clock.sleep(120)
        assert not informer.lister.list()
        before = len(records)
        await virtual_clock.sleep(250)
        assert len(records) - before <= 1, "a healthy watch is left alone"
    await server.stop()


async def test_errors_and_preconditions(virtual_clock: VirtualClock) -> None:
    server = ApiServer(ApiServerOptions(clock=virtual_clock))
    client = Client(
        MemoryTransport(server.handle, virtual_clock),
        clock=virtual_clock,
        user_agent="t/1",
        field_manager="t",
    )
    made = await client.create(CONFIGMAPS, config_map("a", k="1"))
    with pytest.raises(AlreadyExists):
        await client.create(CONFIGMAPS, config_map("a"))
    with pytest.raises(NotFound):
        await client.get(NODES, "absent")
    await client.update(CONFIGMAPS, {**made, "data": {"k": "2"}})
    with pytest.raises(Conflict):
        await client.update(CONFIGMAPS, {**made, "data": {"k": "3"}})
    with pytest.raises(Invalid):
        await client.create(CONFIGMAPS, config_map("Not_A_Name"))
    operations = [
        {"op": "test", "path": "/data/k", "value": "2"},
        {"op": "add", "path": "/data/j", "value": "x"},
    ]
    patched = await client.patch(CONFIGMAPS, "a", "default", patch=operations, patch_type=PatchType.JSON)
    assert patched["data"] == {"k": "2", "j": "x"}
    applied = await client.apply(CONFIGMAPS, config_map("b", k="1"))
    again = await client.apply(CONFIGMAPS, config_map("b", k="1"))
    assert again["metadata"]["resourceVersion"] == applied["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await client.delete(CONFIGMAPS, "a", "default", uid="another")
    assert await client.delete(CONFIGMAPS, "a", "default") is not None
    assert await client.delete(CONFIGMAPS, "a", "default") is None
    names = {item["metadata"]["name"] for item in await client.list(CONFIGMAPS, "default", limit=1)}
    assert names >= {"b"}
    await server.stop()


@pytest.mark.processes
async def test_over_tls_with_the_kubeconfig_that_the_server_writes(tmp_path: Path) -> None:
    server = ApiServer(ApiServerOptions())
    await server.start()
    try:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        connection = Connection.from_kubeconfig(tmp_path / "kubeconfig")
        client = Client(connection.transport, clock=server.options.clock)
        cache = InformerCache(client)
        informer = cache.informer(CONFIGMAPS)
        async with running(cache):
            await cache.wait_synced()
            made = await client.create(CONFIGMAPS, config_map("a", k="1"))
            assert await informer.wait_seen(made["metadata"]["resourceVersion"], timeout=20)
            assert informer.lister.get("a", "default") is not None
        await connection.close()
        text = (tmp_path / "kubeconfig").read_text().replace(server.options.token, "wrong")
        (tmp_path / "wrong").write_text(text)
        stranger = Connection.from_kubeconfig(tmp_path / "wrong")
        with pytest.raises(Unauthorized):
            await Client(stranger.transport, clock=server.options.clock).list(CONFIGMAPS)
        await stranger.close()
    finally:
        await server.stop()
    late = Connection.from_kubeconfig(tmp_path / "kubeconfig")
    with pytest.raises(TransportError):
        await Client(late.transport, clock=server.options.clock).list(CONFIGMAPS)
    await late.close()
