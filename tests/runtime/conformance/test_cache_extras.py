"""What a cache in one event loop over HTTP/1.1 needs beyond what the reference systems' tests assert."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from aiohttp import web

from kaito.runtime.aiohttp_transport import AioHttpTransport, Authentication, watchful_socket
from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.controller import Controller
from kaito.runtime.garbage import LARGE_LIST, CollectorCare
from kaito.runtime.manager import Manager
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.objects import CachedObject
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import CONFIGMAPS, NODES, ObjectKey
from kaito.runtime.result import Result
from kaito.runtime.store import Store
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock, watch_line
from kaito.runtime.transport import Request, Response, StreamedResponse
from runtime.sockets import serving
from runtime.support import LIST, STREAM, Recorder, World, bookmark, config_map, listed, watched


@pytest.mark.conforms("kaito bookmark-less server")
@pytest.mark.parametrize("draw", [0.0, 0.5])
async def test_without_bookmarks_silence_may_last_as_long_as_the_watch(
    virtual_clock: VirtualClock, draw: float
) -> None:
    world = World(
        virtual_clock,
        [listed(10), watched(watch_line("ADDED", config_map("a", 11)), hold=True), watched(hold=True)],
    )
    world.informer._reflector._draw = lambda: draw
    async with world.running(500):
        assert world.requests[2] == (300 * (1 + draw) + 5, "WATCH", "11")
        assert world.server.calls[1].query["timeoutSeconds"] == str(int(300 * (1 + draw)))
        assert world.informer.stats.silences == 1
        assert world.informer.stats.failures == 0


@pytest.mark.conforms("kaito bookmarks are remembered")
async def test_bookmarks_count_for_every_informer_of_the_resource(virtual_clock: VirtualClock) -> None:
    """Informer two has never seen one itself; nodes have not either, and keep their long limit."""
    server = ScriptedServer(virtual_clock, otherwise=watched(hold=True))
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    cache = InformerCache(client, watch_list=False)
    calls: dict[str, list[float]] = {}
    for selector in ("a=1", "a=2"):
        informer = cache.informer(CONFIGMAPS, label_selector=selector)
        informer._reflector._draw = lambda: 0.0
    cache.informer(NODES)._reflector._draw = lambda: 0.0
    bookmarked = False

    async def handle(request: Request) -> Response:
        nonlocal bookmarked
        query = dict(request.query)
        if not query.get("watch"):
            return await ScriptedServer(virtual_clock, [listed_anywhere(10)]).handle(request)
        who = request.path.rpartition("/")[2] + query.get("labelSelector", "")
        calls.setdefault(who, []).append(virtual_clock.now())
        first = not bookmarked and who == "configmapsa=1"
        bookmarked = bookmarked or first
        return StreamedResponse(200, stream(first))

    async def stream(with_bookmark: bool) -> AsyncGenerator[bytes, None]:
        if with_bookmark:
            await virtual_clock.sleep(60)
            yield bookmark(11)
        await virtual_clock.sleep(1e9)

    client.transport = MemoryTransport(handle, virtual_clock)
    task = asyncio.ensure_future(cache.run())
    await virtual_clock.sleep(500)
    task.cancel()
    await asyncio.wait([task])
    assert calls["configmapsa=1"] == [0.0, 135.0, 210.0, 285.0, 360.0, 435.0]
    assert calls["configmapsa=2"] == [0.0, 305.0, 380.0, 455.0], "the limit is that of its next watch"
    assert calls["nodes"] == [0.0, 305.0]


def listed_anywhere(version: int) -> Exchange:
    return Exchange(body={"metadata": {"resourceVersion": str(version)}, "items": []})


@pytest.mark.conforms("kaito half-open connection")
async def test_a_half_open_connection_is_left_after_exactly_75_seconds(virtual_clock: VirtualClock) -> None:
    """The peer is gone without a word: an event, a bookmark, then nothing for ever."""
    world = World(
        virtual_clock,
        [
            watched(
                *(bookmark(10, initial_end="true"), 30.0, watch_line("ADDED", config_map("a", 11))),
                *(12.5, bookmark(15)),
                hold=True,
            ),
            watched(watch_line("ADDED", config_map("b", 16)), hold=True, query={"resourceVersion": "15"}),
        ],
        STREAM,
    )
    async with world.running(117.4):
        assert (len(world.requests), world.names) == (1, ["a"])
        await virtual_clock.sleep(0.2)
        assert world.requests[1] == (117.5, "WATCH", "15")
        assert world.names == ["a", "b"]
        assert world.transport.open_streams == 1


class Hurried(LoopClock):
    """A clock that passes a hundred times as fast, so that a test over sockets need not take minutes."""

    def now(self) -> float:
        return super().now() * 100

    async def sleep(self, delay: float) -> None:
        await super().sleep(delay / 100)

    def timeout(self, delay: float | None) -> _HurriedTimeout:  # type: ignore[override]
        return _HurriedTimeout(super().timeout(None if delay is None else delay / 100))


class _HurriedTimeout:
    def __init__(self, inner: asyncio.Timeout) -> None:
        self._inner = inner

    def reschedule(self, when: float | None) -> None:
        self._inner.reschedule(None if when is None else when / 100)

    async def __aenter__(self) -> _HurriedTimeout:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> bool | None:
        return await self._inner.__aexit__(*details)  # type: ignore[arg-type]


@pytest.mark.conforms("kaito half-open connection")
async def test_a_half_open_connection_over_a_real_socket() -> None:
    """A proxy that goes on holding both connections and carries nothing any more."""
    watches: list[str] = []
    silent = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "1":
            return web.json_response({"metadata": {"resourceVersion": "10"}, "items": [config_map("a", 1)]})
        watches.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(asyncio.CancelledError, ConnectionResetError):
            if len(watches) == 1:
                await response.write(bookmark(12))
                await silent.wait()
                await response.write(watch_line("ADDED", config_map("never-arrives", 13)))
            else:
                await response.write(watch_line("ADDED", config_map("b", 14)))
            await asyncio.Event().wait()
        return response

    async with serving(handler) as url, half_open_proxy(url, silent) as proxied:
        clock: Clock = Hurried()
        client = Client(AioHttpTransport(proxied, clock=LoopClock()), clock=clock, timeout=3000)
        cache = InformerCache(client, watch_list=False)
        informer = cache.informer(CONFIGMAPS)
        task = asyncio.ensure_future(cache.run())
        assert await informer.wait_seen("12", timeout=3000)
        silent.set()
        assert await informer.wait_seen("14", timeout=3000)
        assert watches == ["10", "12"]
        assert sorted(obj.key.name for obj in informer.lister.list()) == ["a", "b"]
        assert (informer.stats.lists, informer.stats.silences) == (1, 1)
        task.cancel()
        await asyncio.wait([task])
        await client.transport.close()


@contextlib.asynccontextmanager
async def half_open_proxy(url: str, silent: asyncio.Event) -> AsyncGenerator[str, None]:
    """Carries bytes to `url`; connections that are there when `silent` is set carry none from then on."""
    host, _, port = url.removeprefix("http://").partition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, born: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if silent.is_set() and not born:
                    await asyncio.Event().wait()
                writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        born = silent.is_set()
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(carry(reader, up_writer, born), carry(up_reader, writer, born))
        except asyncio.CancelledError:
            pass
        finally:
            up_writer.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.conforms("kaito kernel watches connections")
def test_sockets_watch_their_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    with watchful_socket(info) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        for name, value in (
            ("TCP_KEEPIDLE", 30),
            ("TCP_KEEPALIVE", 30),
            ("TCP_KEEPINTVL", 5),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 45_000),
        ):
            option = getattr(socket, name, None)
            assert option is None or sock.getsockopt(socket.IPPROTO_TCP, option) == value, name
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(socket, name, raising=False)
    monkeypatch.setattr(socket, "TCP_KEEPALIVE", 0x7FFF, raising=False)  # no kernel knows it
    with watchful_socket(info) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0


async def test_the_transport_uses_such_sockets() -> None:
    seen: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="x")

    async with serving(handler) as url:
        transport = AioHttpTransport(url)
        response = await transport.send(Request("GET", "/watch"), timeout=10, stream=True)
        connection = response._response.connection  # type: ignore[attr-defined]
        assert connection is not None or await response.read() == b"x"
        if connection is not None and connection.transport is not None:
            sock = connection.transport.get_extra_info("socket")
            seen.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        await response.close()
        await transport.close()
    assert all(seen)


@pytest.mark.conforms("kaito token rotated in mid-watch")
async def test_a_token_is_rotated_in_mid_watch() -> None:
    """The watch goes on with the connection it has; the next one shows the new token, after one refusal."""
    valid = ["old"]
    shown: list[tuple[str, str]] = []
    first_watch_ends = asyncio.Event()

    class Rotating:
        token = "old"

        async def current(self) -> Authentication:
            return Authentication(header=f"Bearer {self.token}")

        def rejected(self) -> None:
            self.token = valid[0]

    async def handler(request: web.Request) -> web.StreamResponse:
        kind = "WATCH" if request.query.get("watch") else "LIST"
        token = request.headers["Authorization"].removeprefix("Bearer ")
        shown.append((kind, token))
        if token not in valid:
            return web.json_response({"kind": "Status", "reason": "Unauthorized", "code": 401}, status=401)
        if kind == "LIST":
            return web.json_response({"metadata": {"resourceVersion": "10"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        watches = sum(each == ("WATCH", token) for each in shown)
        if token == "old" and watches == 1:
            await response.write(watch_line("ADDED", config_map("a", 11)))
            await first_watch_ends.wait()
            await response.write(watch_line("ADDED", config_map("b", 12)))
            return response
        await response.write(watch_line("ADDED", config_map("c", 13)))
        with contextlib.suppress(asyncio.CancelledError, ConnectionResetError):
            await asyncio.Event().wait()
        return response

    async with serving(handler) as url:
        clock = LoopClock()
        client = Client(AioHttpTransport(url, credentials=Rotating()), clock=clock)
        cache = InformerCache(client, watch_list=False)
        informer = cache.informer(CONFIGMAPS)
        informer._reflector._draw = lambda: 0.0
        task = asyncio.ensure_future(cache.run())
        assert await informer.wait_seen("11", timeout=20)
        valid[:] = ["new"]
        first_watch_ends.set()
        assert await informer.wait_seen("13", timeout=20)
        assert sorted(obj.key.name for obj in informer.lister.list()) in (["a", "b", "c"], ["c"])
        assert shown[2:4] == [("WATCH", "old"), ("LIST", "new")]
        assert informer.last_error is None
        task.cancel()
        await asyncio.wait([task])
        await client.transport.close()


@pytest.mark.conforms("kaito events of any size")
@pytest.mark.parametrize("options", [LIST, STREAM], ids=["list", "stream"])
async def test_objects_beyond_4_mib_are_read(virtual_clock: VirtualClock, options: ReflectorOptions) -> None:
    large = [
        {**config_map(name, 1 + index), "data": {"blob": "x" * (5 << 20)}} for index, name in enumerate("ab")
    ]
    script = [listed(10, *large), watched(hold=True)]
    if options is STREAM:
        lines = b"".join(watch_line("ADDED", each) for each in large)
        script = [watched(*chunked(lines), bookmark(10, initial_end="true"), hold=True)]
    world = World(virtual_clock, script, options)
    async with world.running(1):
        assert {len(obj.decode()["data"]["blob"]) for obj in world.informer.lister.list()} == {5 << 20}
        assert world.names == ["a", "b"]


def chunked(body: bytes, size: int = 1 << 16) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@pytest.mark.parametrize("where", ["list", "stream", "watch"])
async def test_beyond_the_cap_is_an_error_that_heals(virtual_clock: VirtualClock, where: str) -> None:
    """Said with the resource's name, counted, retried with growing waits; what is held stays."""
    small, large = config_map("a", 1), {**config_map("b", 11), "data": {"blob": "x" * 5000}}
    lists = [
        listed(10, small),
        watched(hold=True) if where != "watch" else watched(watch_line("ADDED", large), hold=True),
    ]
    too_large = {"list": [listed(12, small, large)], "watch": lists, "stream": []}[where]
    if where == "stream":
        too_large = [watched(watch_line("ADDED", large), hold=True), listed(12, small, large)]
    healed = (
        watched(bookmark(20, initial_end="true"), hold=True)
        if where == "stream"
        else listed(20, config_map("c", 15))
    )
    world = World(
        virtual_clock,
        [*too_large, healed, *([] if where == "stream" else [watched(hold=True)])],
        ReflectorOptions(watch_list=where == "stream", max_event_bytes=4096),
    )
    async with world.running(0.1):
        assert "larger than 4096 bytes" in str(world.informer.last_error)
        assert world.names == (["a"] if where == "watch" else [])
        await virtual_clock.sleep(10)
        assert world.informer.last_error is None
        assert world.informer.stats.failures == (2 if where == "stream" else 1)
        assert world.names == ([] if where == "stream" else ["c"])
    world.server.assert_done()


@pytest.mark.conforms("kaito loop stall")
def test_50_000_objects_leave_turns_to_others() -> None:
    """No slice of the work is larger than a few hundred objects, whichever step it belongs to."""
    store = Store()
    store.add_index("half", lambda obj: [str(int(obj.meta.resource_version) % 2)])
    metas = [CachedObject.from_dict(config_map(f"cm-{index}", index + 1)) for index in range(5_000)]
    objects = {
        ObjectKey("ns", f"{index}-{copy}"): _renamed(obj, f"{index}-{copy}")
        for index, obj in enumerate(metas)
        for copy in range(10)
    }
    assert len(objects) == 50_000
    work = 0
    for slices in (
        _slices(store, dict(objects), "60000"),
        _slices(store, dict(objects), "60001"),
        _slices(store, {}, "60002"),
    ):
        assert slices >= 50_000 // 500
        work += slices
    assert len(store) == 0


def _renamed(obj: CachedObject, name: str) -> CachedObject:
    copy = CachedObject(obj.raw, obj.resource, obj.meta)
    copy.key = ObjectKey("ns", name)
    return copy


def _slices(store: Store, objects: dict[ObjectKey, CachedObject], version: str) -> int:
    swap = store.swap(objects, version)
    return sum(1 for _ in swap) + sum(1 for _ in swap.let_go())


@pytest.mark.conforms("kaito loop stall")
async def test_reading_and_telling_leave_turns_to_others(virtual_clock: VirtualClock) -> None:
    objects = [config_map(f"cm-{index}", index + 1) for index in range(5000)]
    world = World(virtual_clock, [listed(9000, *objects), watched(hold=True)])
    turns = told = 0
    worst = 0

    async def watch_turns() -> None:
        nonlocal turns, told, worst
        while not world.informer.has_synced:
            turns += 1
            worst = max(worst, len(world.recorder.events) - told)
            told = len(world.recorder.events)
            await virtual_clock.sleep(0)

    watching = asyncio.ensure_future(watch_turns())
    async with world.running(1):
        await watching
    assert len(world.recorder.events) == 5000
    assert turns >= 5000 // 64 + 5000 // 500 + 5000 // 100
    assert worst <= 200, "two slices, when the order within a moment is unlucky"


PROGRAM = """
import gc, sys, weakref
sys.path.insert(0, sys.argv[1])
from runtime.conformance.test_cache_extras import check_frozen_objects
check_frozen_objects()
"""


@pytest.mark.conforms("kaito frozen objects")
def test_objects_out_of_the_collectors_sight_are_freed() -> None:
    """In a process of its own, because the collector belongs to the whole process."""
    subprocess.run([sys.executable, "-c", PROGRAM, str(Path(__file__).parents[2])], check=True, timeout=60)


class Node:
    """Part of a cycle."""

    other: Node


def check_frozen_objects() -> None:
    gc.set_threshold(700, 10, 10)
    care, reader = CollectorCare(), object()
    care.begin(reader)
    care.begin(reader)
    assert gc.get_threshold()[0] > 700
    store = Store()
    for index in range(2 * LARGE_LIST):
        store.put(CachedObject.from_dict(config_map(f"cm-{index}", index + 1)))
    care.end(reader, len(store))
    assert gc.get_threshold() == (700, 10, 10)
    frozen = gc.get_freeze_count()
    assert frozen >= 2 * LARGE_LIST
    tracked = weakref.WeakSet[Node]()
    for round_ in range(1, 4):  # churn: every object is replaced, each time
        for index in range(2 * LARGE_LIST):
            store.put(CachedObject.from_dict(config_map(f"cm-{index}", index + 1 + round_ * 10_000)))
        one, two = Node(), Node()
        one.other, two.other = two, one
        tracked.update((one, two))
        del one, two
        gc.collect()
        assert len(tracked) == 0
    assert gc.get_freeze_count() <= frozen - 2 * LARGE_LIST, "what was frozen has been freed"


@pytest.mark.conforms("kaito virtual clock through the whole manager")
async def test_a_whole_manager_runs_in_virtual_time(virtual_clock: VirtualClock) -> None:
    server = ScriptedServer(
        virtual_clock,
        [watched(watch_line("ADDED", config_map("a", 1)), bookmark(10, initial_end="true"), hold=True)],
        otherwise=watched(hold=True),
    )
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    manager = Manager(client, clock=virtual_clock)
    runs: list[float] = []

    async def reconcile(key: ObjectKey) -> Result:
        runs.append(virtual_clock.now())
        return Result(requeue_after=3600)

    manager.add(Controller("hourly", reconcile, primary=CONFIGMAPS))
    stop = asyncio.Event()
    virtual_clock.call_later(3 * 3600 + 1, stop.set)
    await manager.run(stop)
    assert runs == [0.0, 3600.0, 7200.0, 10800.0]


async def test_a_handler_added_while_a_list_is_swapped_is_told_once(virtual_clock: VirtualClock) -> None:
    objects = [config_map(f"cm-{index}", index + 1) for index in range(1500)]
    world = World(virtual_clock, [listed(9000, *objects), watched(hold=True)])
    late: list[Recorder] = []

    async def keep_adding() -> None:
        while not world.informer.has_synced:
            late.append(Recorder())
            world.informer.add_handler(late[-1])
            await virtual_clock.sleep(0)

    adding = asyncio.ensure_future(keep_adding())
    async with world.running(1):
        await adding
    assert len(late) > 10
    assert {len(recorder.events) for recorder in late} == {1500}
