"""One informer per collection, whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from kaito.runtime.cache import CacheOptions, InformerCache
from kaito.runtime.client import Client
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.namespaces import UnknownNamespace
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS, NODES, PODS
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock, json_response
from kaito.runtime.transport import Request, Response, StreamedResponse
from runtime.support import LIST, Recorder, World, config_map, listed, watched


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


async def test_a_removed_informer_stops_and_can_be_had_again(virtual_clock: VirtualClock) -> None:
    server, cache = make(virtual_clock)
    async with running(cache):
        first = cache.informer(CONFIGMAPS)
        await cache.wait_synced()
        cache.remove(first)
        cache.remove(first)
        await virtual_clock.sleep(1)
        assert first.is_stopped
        assert cache.informers == ()
        assert len(server.requests) == 2
        await virtual_clock.sleep(1000)
        assert len(server.requests) == 2, "nothing is followed any more"
        second = cache.informer(CONFIGMAPS)
        assert second is not first
        await cache.wait_synced()
        assert second.lister.get("a", "ns") is not None
    never_started = cache.informer(PODS)
    cache.remove(never_started)
    await never_started.wait_synced()
    assert not never_started.has_synced


async def test_an_informer_with_another_selection_now_is_not_given_out_for_the_old_one(
    virtual_clock: VirtualClock,
) -> None:
    _, cache = make(virtual_clock)
    mine = cache.informer(CONFIGMAPS, label_selector="a=1")
    mine.reselect(label_selector="a=2")
    assert cache.informer(CONFIGMAPS, label_selector="a=2") is mine
    assert cache.informer(CONFIGMAPS, label_selector="a=1") is not mine


async def test_several_namespaces_are_read_as_one(virtual_clock: VirtualClock) -> None:
    def handle(namespace: str) -> list[dict[str, object]]:
        labels = {"app": namespace}
        return [
            config_map(f"{namespace}-{each}", each, namespace=namespace, labels=labels) for each in (1, 2)
        ]

    class Several(Server):
        async def handle(self, request: Request) -> Response:
            self.requests.append(request)
            if dict(request.query).get("watch"):
                return StreamedResponse(200, self._silence())
            namespace = request.path.split("/")[4]
            return json_response({"metadata": {"resourceVersion": "5"}, "items": handle(namespace)})

    server = Several(virtual_clock)
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    cache = InformerCache(client, watch_list=False)
    view = cache.namespaces(CONFIGMAPS, ["one", "two", "one"])
    recorder = Recorder()
    first, second = view.add_handler(recorder)
    view.add_indexer("app", lambda obj: [obj.meta.labels["app"]])
    assert not view.has_synced
    async with running(cache):
        await view.wait_synced()
        assert view.has_synced
        assert first.has_synced
        assert second.has_synced
        assert sorted(obj.key.name for obj in view.list()) == ["one-1", "one-2", "two-1", "two-2"]
        assert [obj.key.name for obj in view.list("two")] == ["two-1", "two-2"]
        assert [obj.key.name for obj in view.list(selector="app=one")] == ["one-1", "one-2"]
        assert [obj.key.name for obj in view.by_index("app", "two")] == ["two-1", "two-2"]
        assert view.get("one-1", "one") is not None
        assert view.get("one-1", "two") is None
        assert len(recorder.events) == 4
        for read in (lambda: view.list("three"), lambda: view.get("x", "three")):
            with pytest.raises(UnknownNamespace, match="'three' is not followed; these are: one, two"):
                read()
    assert view.informers["one"] is cache.informer(CONFIGMAPS, namespace="one")
    for res, names in ((CONFIGMAPS, []), (CONFIGMAPS, [""]), (NODES, ["one"])):
        with pytest.raises(ValueError, match="name at least one namespace"):
            cache.namespaces(res, names)


@pytest.mark.parametrize("keep", [False, True])
async def test_managed_fields_are_kept_on_request_only(virtual_clock: VirtualClock, keep: bool) -> None:
    managed = [{"manager": "m", "fieldsV1": {"f:data": {}}}]
    body = {"metadata": {"resourceVersion": "5"}, "items": [config_map("a", 1, managedFields=managed)]}
    server = ScriptedServer(virtual_clock, [Exchange(body=body), Exchange(hold=True)])
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    cache = InformerCache(client, options=CacheOptions(LIST, keep_managed_fields=keep))
    informer = cache.informer(CONFIGMAPS)
    async with running(cache):
        await cache.wait_synced()
        (obj,) = informer.lister.list()
        assert obj.decode()["metadata"].get("managedFields") == (managed if keep else None)


async def test_selectors_are_answered_from_an_index_of_their_label(virtual_clock: VirtualClock) -> None:
    objects = [
        config_map(f"cm-{each}", each + 1, labels={"app": f"a{each % 10}", "odd": str(each % 2)})
        for each in range(100)
    ]
    world = World(virtual_clock, [listed(200, *objects), watched(hold=True)])
    async with world.running(1):
        lister = world.informer.lister
        selectors = ("app=a3", "app in (a1,a2),odd=1", "odd=1,app=a4", "app", "app!=a1", "!app", "app=none")
        before = [lister.list(selector=each) for each in selectors]
        world.informer.add_label_index("app")
        world.informer.add_label_index("app")
        assert [set(lister.list(selector=each)) for each in selectors] == [set(each) for each in before]
        assert set(lister.list("ns", "app=a3")) == set(before[0])
        assert not lister.list("other", "app=a3")
