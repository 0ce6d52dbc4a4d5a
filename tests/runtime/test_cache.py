"""One informer per collection, whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS, NODES, PODS
from kaito.runtime.testing import VirtualClock, json_response
from kaito.runtime.transport import Request, Response, StreamedResponse
from runtime.support import config_map


class Server:
    """Lists one object per resource; its watches stay silent."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.requests: list[Request] = []

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        if dict(request.query).get("watch"):
            return StreamedResponse(200, self._silence())
        return json_response({"metadata": {"resourceVersion": "5"}, "items": [config_map("a", 1)]})

    async def _silence(self) -> AsyncGenerator[bytes, None]:
        await self.clock.sleep(1e9)
        yield b""


@contextlib.asynccontextmanager
async def running(cache: InformerCache) -> AsyncIterator[None]:
    task = asyncio.ensure_future(cache.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def make(clock: VirtualClock) -> tuple[Server, InformerCache]:
    server = Server(clock)
    client = Client(MemoryTransport(server.handle, clock), clock=clock, user_agent="cache/1")
    return server, InformerCache(client, watch_list=False)


def shrink(obj: CachedObject) -> CachedObject:
    return obj


async def test_the_same_selection_is_the_same_informer(virtual_clock: VirtualClock) -> None:
    _, cache = make(virtual_clock)
    informer = cache.informer(CONFIGMAPS)
    assert cache.informer(CONFIGMAPS) is informer
    assert cache.informer(CONFIGMAPS, namespace="") is informer
    assert cache.lister(CONFIGMAPS) is informer.lister
    assert cache.informer(NODES, namespace="ns") is cache.informer(NODES)
    others = [
        cache.informer(CONFIGMAPS, namespace="ns"),
        cache.informer(CONFIGMAPS, label_selector="a=b"),
        cache.informer(CONFIGMAPS, field_selector="metadata.name=a"),
        cache.informer(CONFIGMAPS, metadata_only=True),
        cache.informer(CONFIGMAPS, transform=shrink),
    ]
    assert len({id(each) for each in [informer, *others]}) == 6


async def test_informers_made_before_and_after_the_start_run(virtual_clock: VirtualClock) -> None:
    server, cache = make(virtual_clock)
    early = cache.informer(CONFIGMAPS)
    assert not cache.has_synced
    async with running(cache):
        await cache.wait_synced()
        assert early.has_synced
        late = cache.informer(PODS, namespace="ns", label_selector="a=b", metadata_only=True)
        assert not cache.has_synced
        async with virtual_clock.timeout(10):
            await cache.wait_synced()
        assert [obj.key.name for obj in late.lister.list()] == ["a"]
        with pytest.raises(RuntimeError, match="already running"):
            await cache.run()
    assert {request.header("user-agent") for request in server.requests} == {"cache/1"}
    last = server.requests[-1]
    assert last.path == "/api/v1/namespaces/ns/pods"
    assert dict(last.query)["labelSelector"] == "a=b"
    assert (
        last.header("Accept")
        == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
    )


async def test_reading_makes_no_requests(virtual_clock: VirtualClock) -> None:
    server, cache = make(virtual_clock)
    lister = cache.lister(CONFIGMAPS)
    async with running(cache):
        await cache.wait_synced()
        before = len(server.requests)
        for _ in range(100):
            assert lister.get("a", "ns") is not None
            lister.list("ns", "app")
        await virtual_clock.sleep(100)
        assert len(server.requests) == before


async def test_an_empty_cache_runs(virtual_clock: VirtualClock) -> None:
    _, cache = make(virtual_clock)
    async with running(cache):
        await cache.wait_synced()
        assert cache.has_synced
        assert cache.informers == ()
