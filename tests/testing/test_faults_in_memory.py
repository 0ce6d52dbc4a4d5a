"""Rules, scripts and chaos, in memory and virtual time: exact requests at exact moments."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.client import Client
from kaito.runtime.errors import Conflict, Gone, TooManyRequests, TransportError
from kaito.runtime.informer import Informer
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.reflector import Selection
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.testing import VirtualClock
from kaito.runtime.transport import Request
from kaito.testing.faults import (
    Answer,
    ApiCall,
    Chaos,
    CutWatch,
    Delay,
    DelayEvents,
    DropWatch,
    Faults,
    FaultyTransport,
    HalfOpenWatch,
    HoldEvents,
    LateAnswer,
    LoseAnswer,
    Match,
    NoAnswer,
    NoBookmarks,
    Pass,
    Refuse,
    Slow,
    Truncate,
    WatchError,
)


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "what"),
    [
        ("GET", "/api/v1/namespaces/n/pods", {}, "list", ("", "pods", "", "n", "")),
        ("GET", "/api/v1/pods", {"watch": "1"}, "watch", ("", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces/n/pods", {"watch": "True"}, "watch", ("", "pods", "", "n", "")),
        ("GET", "/api/v1/namespaces/n/pods/p/log", {}, "get", ("", "pods", "log", "n", "p")),
        ("PUT", "/apis/g.io/v1/namespaces/n/ws/w/status", {}, "update", ("g.io", "ws", "status", "n", "w")),
        ("DELETE", "/apis/g.io/v1/ws", {}, "deletecollection", ("g.io", "ws", "", "", "")),
        ("DELETE", "/api/v1/nodes/a", {}, "delete", ("", "nodes", "", "", "a")),
        ("GET", "/api/v1/namespaces/n", {}, "get", ("", "namespaces", "", "", "n")),
        ("PUT", "/api/v1/namespaces/n/finalize", {}, "update", ("", "namespaces", "finalize", "", "n")),
        ("POST", "/api/v1/namespaces", {}, "create", ("", "namespaces", "", "", "")),
        ("PATCH", "/apis/g.io/v1/ws/w", {}, "patch", ("g.io", "ws", "", "", "w")),
        ("GET", "/apis/g.io/v1", {}, "get", ("", "", "", "", "")),
        ("GET", "/healthz", {}, "get", ("", "", "", "", "")),
    ],
)
def test_requests_are_understood(
    method: str, path: str, query: dict[str, str], verb: str, what: tuple[str, ...]
) -> None:
    call = ApiCall.of(Request(method, path, tuple(query.items()), {"user-agent": "me/1"}))
    assert (call.verb, call.user_agent) == (verb, "me/1")
    assert (call.group, call.resource, call.subresource, call.namespace, call.name) == what


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        (Match(), True),
        (Match(verb="get|list", resource="wid*"), True),
        (Match(resource="widgets.g.io"), True),
        (Match(resource="widgets.other.io"), False),
        (Match(namespace="n", name=""), True),
        (Match(namespace=""), False),
        (Match(user_agent="me/*", method="GET", path="/apis/*"), True),
        (Match(verb="watch"), False),
        (Match(subresource="status"), False),
    ],
)
def test_matches(match: Match, fits: bool) -> None:
    request = Request("GET", "/apis/g.io/v1/namespaces/n/widgets", (), {"User-Agent": "me/1"})
    assert match.fits(ApiCall.of(request)) is fits


class World:
    """An API server, a client that meets the faults, and one that does not."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.server = ApiServer(ApiServerOptions(clock=clock))
        self.faults = Faults(clock)
        memory = MemoryTransport(self.server.handle, clock)
        self.transport = FaultyTransport(memory, self.faults, clock)
        self.client = Client(self.transport, clock=clock, user_agent="operator/1")
        self.admin = Client(memory, clock=clock, user_agent="admin")

    async def create(self, *names: str) -> None:
        for name in names:
            await self.admin.create(CONFIGMAPS, {"metadata": {"name": name, "namespace": "default"}})

    async def send(self, **query: str) -> bytes:
        """A LIST as raw bytes."""
        response = await self.transport.send(
            Request("GET", "/api/v1/configmaps", tuple(query.items())), timeout=30
        )
        assert response.status == 200
        return await response.read()

    async def watch(self, seconds: float = 10) -> list[tuple[float, str]]:
        """When which lines of a watch came; how it ended is the last."""
        query = (("watch", "1"), ("allowWatchBookmarks", "true"))
        response = await self.transport.send(Request("GET", "/api/v1/configmaps", query), stream=True)
        told: list[tuple[float, str]] = []

        async def read() -> str:
            try:
                async for chunk in response.chunks():
                    told.extend((self.clock.now(), _describe(line)) for line in chunk.splitlines())
            except TransportError:
                return "broken"
            return "closed"

        reading = asyncio.ensure_future(read())
        done, _ = await asyncio.wait({reading}, timeout=seconds)
        told.append((self.clock.now(), reading.result() if done else "open"))
        if not done:
            reading.cancel()
            await asyncio.wait({reading})
        await response.close()
        return told


def _describe(line: bytes) -> str:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "half a line"
    body = event["object"]
    name = body["reason"] if event["type"] == "ERROR" else body["metadata"].get("name", "")
    return f"{event['type']} {name}".strip()


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> Any:
    made = World(virtual_clock)
    yield made
    await made.transport.close()
    await made.server.stop()


async def test_a_script_in_its_order_and_then_nothing(world: World) -> None:
    rule = world.faults.script(Match(verb="get"), Answer(409), Pass(), Answer(410))
    await world.create("a")
    with pytest.raises(Conflict, match="injected fault"):
        await world.client.get(CONFIGMAPS, "a", "default")
    await world.client.get(CONFIGMAPS, "a", "default")
    with pytest.raises(AssertionError, match=r"met 2 requests, expected at least 3"):
        world.faults.assert_all_used()
    with pytest.raises(Gone) as raised:
        await world.client.get(CONFIGMAPS, "a", "default")
    assert raised.value.reason == "Expired"
    await world.client.get(CONFIGMAPS, "a", "default")
    assert rule.spent
    world.faults.assert_all_used()
    assert [str(each) for each in world.faults.injected][1].endswith(
        "for get configmaps default/a by operator/1"
    )


async def test_the_client_waits_as_long_as_it_is_told(world: World) -> None:
    world.faults.script(Match(verb="list"), Answer(429, retry_after=7), Answer(503, retry_after=2))
    assert await world.client.list(CONFIGMAPS) == []
    assert world.clock.now() == 9
    assert [each.at for each in world.faults.injected] == [0, 7]


async def test_the_nth_request_and_so_many_times(world: World) -> None:
    rule = world.faults.add(Match(verb="list"), Answer(500), times=2, skip=1)
    told = []
    for _ in range(5):
        response = await world.transport.send(Request("GET", "/api/v1/configmaps"))
        told.append(response.status)
    assert told == [200, 500, 500, 200, 200]
    assert rule.uses == 2


async def test_the_first_rule_that_fits_is_the_one(world: World) -> None:
    first = world.faults.add(Match(resource="configmaps"), Refuse(), times=None)
    second = world.faults.add(Match(), TEAPOT, times=None)
    with pytest.raises(TransportError):
        await world.send()
    first.remove()
    with pytest.raises(AssertionError):
        await world.send()
    world.faults.heal()
    await world.send()
    assert (first.uses, second.uses) == (1, 1)


TEAPOT = Answer(418)


async def test_what_reaches_the_server_and_what_comes_back(world: World) -> None:
    body = {"metadata": {"name": "a", "namespace": "default"}}
    world.faults.script(Match(verb="create"), Refuse(), LoseAnswer())
    with pytest.raises(TransportError):
        await world.client.create(CONFIGMAPS, body)
    assert await world.admin.list(CONFIGMAPS) == []
    with pytest.raises(TransportError, match="lost"):
        await world.client.create(CONFIGMAPS, body)
    assert len(await world.admin.list(CONFIGMAPS)) == 1


async def timed(clock: VirtualClock, action: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    begun = clock.now()
    result = await action()
    return clock.now() - begun, result


async def test_late_requests_and_late_answers(world: World) -> None:
    world.faults.script(Match(verb="list"), Delay(3), LateAnswer(4))
    for seconds, seen in ((3.0, 1), (4.0, 0)):
        listing = asyncio.ensure_future(timed(world.clock, lambda: world.client.list(CONFIGMAPS)))
        await world.clock.sleep(1)
        await world.create("a")
        took, items = await listing
        assert (took, len(items)) == (seconds, seen), "one was read after the write, the other before"
        await world.admin.delete(CONFIGMAPS, "a", "default")


async def test_slow_truncated_and_silent(world: World) -> None:
    await world.create("a")
    whole = await world.send()
    world.faults.script(Match(verb="list"), Slow(size=100, pause=0.5), Truncate(after=20), NoAnswer())
    took, body = await timed(world.clock, world.send)
    assert took == 0.5 * -(-len(whole) // 100)
    assert body == whole
    with pytest.raises(TransportError, match="cut off"):
        await world.send()
    begun = world.clock.now()
    with pytest.raises(TransportError, match="no answer within 30 s"):
        await world.send()
    assert world.clock.now() == begun + 30


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (DropWatch(after_events=1), [(0, "ADDED a"), (0, "closed")]),
        (DropWatch(), [(0, "closed")]),
        (CutWatch(after_events=1), [(0, "ADDED a"), (0, "half a line"), (0, "broken")]),
        (
            WatchError(410, after_events=2),
            [(0, "ADDED a"), (0, "ADDED b"), (0, "ERROR Expired"), (0, "closed")],
        ),
        (WatchError(500), [(0, "ERROR InternalError"), (0, "closed")]),
        (HalfOpenWatch(after_events=1), [(0, "ADDED a"), (100, "open")]),
        (DelayEvents(4), [(4, "ADDED a"), (4, "ADDED b"), (64, "BOOKMARK"), (100, "open")]),
        (NoBookmarks(), [(0, "ADDED a"), (0, "ADDED b"), (100, "open")]),
        (Pass(), [(0, "ADDED a"), (0, "ADDED b"), (60, "BOOKMARK"), (100, "open")]),
    ],
    ids=str,
)
async def test_what_happens_to_a_watch(world: World, action: Any, expected: list[tuple[float, str]]) -> None:
    await world.create("a", "b")
    world.faults.add(Match(verb="watch"), action)
    assert await world.watch(100) == expected


async def test_a_rule_for_watches_passes_over_everything_else(world: World) -> None:
    rule = world.faults.add(Match(resource="configmaps"), DropWatch())
    await world.client.list(CONFIGMAPS)
    assert rule.uses == 0
    assert await world.watch() == [(0, "closed")]


async def test_held_events_come_all_at_once(world: World) -> None:
    hold = HoldEvents()
    world.faults.add(Match(verb="watch"), hold, NoBookmarks())
    await world.create("a", "b")
    world.clock.call_later(30, hold.release)
    assert await world.watch(100) == [(30, "ADDED a"), (30, "ADDED b"), (100, "open")]


async def test_a_cut_breaks_an_open_watch(world: World) -> None:
    world.clock.call_later(5, lambda: world.faults.cut(Match(resource="configmaps")))
    assert await world.watch(100) == [(5, "broken")]


async def test_a_partition_takes_its_clients_alone(world: World) -> None:
    partition = world.faults.partition(Match(user_agent="operator/*"))
    with pytest.raises(TransportError):
        await world.client.list(CONFIGMAPS)
    other = Client(world.transport, clock=world.clock, user_agent="other")
    assert await other.list(CONFIGMAPS) == []
    partition.remove()
    assert await world.client.list(CONFIGMAPS) == []
    with pytest.raises(ValueError, match="name who is cut off"):
        world.faults.partition(Match())


async def test_an_unused_rule_fails_the_test_unless_it_is_allowed(world: World) -> None:
    world.faults.add(Match(verb="watch"), DropWatch(), at_least=0)
    world.faults.assert_all_used()
    world.faults.add(Match(resource="gadgets"), Answer(503))
    with pytest.raises(AssertionError, match=r"Answer\(status=503.*resource=gadgets: met 0 requests"):
        world.faults.assert_all_used()
    for empty in (lambda: world.faults.add(Match()), lambda: world.faults.script(Match())):
        with pytest.raises(ValueError, match="does nothing"):
            empty()


@pytest.mark.parametrize("seed", range(8))
async def test_an_informer_survives_chaos_with_nothing_lost(world: World, seed: int) -> None:
    chaos = Chaos(seed, budget=20, rate=0.5, match=Match(user_agent="operator/*"))
    world.faults.stand(chaos)
    informer = Informer(world.client, Selection(CONFIGMAPS))
    async with running(informer):
        for number in range(60):
            await world.create(f"c{number}")
            if number % 3 == 0:
                await world.admin.delete(CONFIGMAPS, f"c{number}", "default")
            await world.clock.sleep(20)
            world.faults.cut(Match(verb="watch"))
        await world.clock.sleep(400)
        assert chaos.spent, "the budget was used up, so the end is calm"
        stored = {item["metadata"]["name"]: item for item in await world.admin.list(CONFIGMAPS)}
        cached = {obj.key.name: obj.decode() for obj in informer.lister.list()}
    assert len(stored) == 40
    assert cached == {name: {**item, **_TYPE} for name, item in stored.items()}


@contextlib.asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[None]:
    task = asyncio.ensure_future(informer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


_TYPE = {"kind": "ConfigMap", "apiVersion": "v1"}


async def draws(clock: VirtualClock, seed: int) -> list[str]:
    """What chaos does to a hundred LISTs."""
    world = World(clock)
    world.faults.stand(Chaos(seed, budget=20, rate=0.3))
    for _ in range(100):
        with contextlib.suppress(TransportError, AssertionError, TooManyRequests):
            await world.send()
    await world.server.stop()
    return [str(each.actions) for each in world.faults.injected]


async def test_a_seed_means_the_same_chaos_again(virtual_clock: VirtualClock) -> None:
    once, again, other = [await draws(virtual_clock, seed) for seed in (1, 1, 2)]
    assert once == again != other
    assert len(once) == 20
