"""Reflectors as client-go's own tests expect them, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import replace
from typing import Any

import pytest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.cache import CacheOptions, InformerCache
from kaito.runtime.client import Client
from kaito.runtime.errors import (
    ApiError,
    Gone,
    InternalError,
    Invalid,
    TooManyRequests,
    TransportError,
    from_status,
)
from kaito.runtime.informer import Informer
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.objects import CachedObject
from kaito.runtime.reflector_rules import next_request, on_event, watch_timeout
from kaito.runtime.reflector_states import (
    Backoff,
    Failed,
    Listing,
    Memory,
    Opened,
    ReflectorOptions,
    State,
    StreamingList,
    Wait,
    Waited,
    Watching,
)
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock, watch_line
from runtime.support import LIST, STREAM, World, bookmark, config_map, listed, status_event, watched

TOO_LARGE = (
    {"status": 504, "details": {"causes": [{"reason": "ResourceVersionTooLarge", "message": "x"}]}},
    {"status": 500, "details": {"causes": [{"message": "Too large resource version"}]}},
    {"status": 504, "reason": "Timeout", "message": "Too large resource version: 20, current: 10"},
)
REFUSED = Exchange(refuse="connection refused")


def too_large(dialect: dict[str, Any]) -> ApiError:
    return from_status(dialect["status"], {"kind": "Status", "reason": "Timeout", **dialect})


async def stop(running: asyncio.Future[None]) -> None:
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


@pytest.mark.conforms("client-go reflector TestRunUntil")
async def test_cancelling_ends_the_run_and_closes_the_watch(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10), watched(hold=True)])
    running = asyncio.ensure_future(world.informer.run())
    await virtual_clock.sleep(1)
    assert world.transport.open_streams == 1
    await stop(running)
    assert world.transport.open_streams == 0


@pytest.mark.conforms("client-go reflector TestReflectorStopWatch")
async def test_a_run_cancelled_before_its_first_turn_asks_for_nothing(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10, config_map("a", 1))])
    running = asyncio.ensure_future(world.informer.run())
    await stop(running)
    assert (world.requests, world.names) == ([], [])


@pytest.mark.conforms("client-go reflector TestCloseWatchChannelOnError")
async def test_an_error_event_closes_its_stream(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10), watched(2.0, status_event(403, "Forbidden"), hold=True)])
    async with world.running(1):
        assert world.transport.open_streams == 1
        await virtual_clock.sleep(1.5)
        assert world.transport.open_streams == 0
        assert "(HTTP 403, Forbidden)" in str(world.informer.last_error)


@pytest.mark.conforms("client-go reflector TestReflectorHandleWatchStopped")
@pytest.mark.parametrize("after", [0.5, 1.5, 3.0], ids=["while opening", "while open", "after its end"])
async def test_stopping_at_any_moment_closes_every_stream(virtual_clock: VirtualClock, after: float) -> None:
    world = World(virtual_clock, [listed(10), watched(1.0), watched(hold=True)])
    closed: list[int] = []
    original = world.transport.send

    async def slow(request: Any, **arguments: Any) -> Any:
        if dict(request.query).get("watch"):
            await virtual_clock.sleep(1)
        response = await original(request, **arguments)
        close = response.close

        async def counted() -> None:
            closed.append(id(response))
            await close()

        response.close = counted  # type: ignore[method-assign]
        return response

    world.transport.send = slow  # type: ignore[method-assign]
    running = asyncio.ensure_future(world.informer.run())
    await virtual_clock.sleep(after)
    await stop(running)
    assert world.transport.open_streams == 0
    assert len(closed) == len(set(closed))


@pytest.mark.conforms("client-go reflector TestReflectorWatchHandler")
async def test_events_of_another_kind_are_skipped_and_others_applied(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("foo", 1), config_map("bar", 2)),
            watched(
                watch_line("ADDED", {"kind": "Service", **config_map("wrong", 11)}),
                watch_line("DELETED", config_map("foo", 12)),
                watch_line("MODIFIED", config_map("bar", 55)),
                watch_line("ADDED", config_map("baz", 32)),
                hold=True,
            ),
        ],
    )
    async with world.running(1):
        assert world.names == ["bar", "baz"]
        assert world.informer.store.resource_version == "55"
        assert world.informer.stats.skipped == 1


@pytest.mark.conforms("client-go reflector TestReflectorListAndWatch")
@pytest.mark.parametrize("options", [LIST, STREAM], ids=["list", "stream"])
async def test_lists_and_watches_ask_with_the_options_of_their_mode(
    virtual_clock: VirtualClock, options: ReflectorOptions
) -> None:
    events = [watch_line("ADDED", config_map(name, 4 + index)) for index, name in enumerate("abc")]
    plain = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "300"}
    if options is LIST:
        script = [listed(3), watched(*events, hold=True)]
        expected = [{"resourceVersion": "0", "limit": "500"}, {**plain, "resourceVersion": "3"}]
    else:
        script = [watched(bookmark(3, initial_end="true"), *events, hold=True)]
        expected = [{**plain, "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}]
    world = World(virtual_clock, script, options)
    async with world.running(1):
        assert [dict(call.query) for call in world.server.calls] == expected
        assert world.names == ["a", "b", "c"]
        assert world.informer.store.resource_version == "6"


@pytest.mark.conforms("client-go reflector TestReflectorListAndWatchWithErrors")
async def test_whatever_fails_the_store_is_right_in_the_end(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            Exchange(error=InternalError("LIST failed")),
            listed(1),
            watched(watch_line("ADDED", config_map("foo", 2)), watch_line("ADDED", config_map("bar", 3))),
            Exchange(error=InternalError("WATCH failed")),
            listed(3, config_map("foo", 2), config_map("bar", 3)),
            watched(watch_line("ADDED", config_map("baz", 4)), TransportError("stream broke")),
            watched(watch_line("DELETED", config_map("foo", 5)), status_event(500, "x")),
            listed(9, config_map("bar", 3), config_map("baz", 8)),
            watched(hold=True),
        ],
    )
    async with world.running(60):
        held = {obj.key.name: obj.meta.resource_version for obj in world.informer.lister.list()}
        assert held == {"bar": "3", "baz": "8"}
        assert world.recorder.events == [
            ("add", "foo", "2", ""),
            ("add", "bar", "3", ""),
            ("add", "baz", "4", ""),
            ("delete", "foo", "5", ""),
            ("update", "baz", "4", "8"),
        ]
    world.server.assert_done()


@pytest.mark.conforms("client-go reflector TestReflectorListAndWatchInitConnBackoff")
@pytest.mark.parametrize(("draw", "factor"), [(0.0, 1), (0.5, 1.5)])
async def test_refused_connections_are_tried_again_with_doubling_waits(
    virtual_clock: VirtualClock, draw: float, factor: float
) -> None:
    """Five refusals with a base of 1 ms take 31 ms and jitter; forty reach the cap and stay there."""
    options = ReflectorOptions(watch_list=False, backoff=Backoff(base=0.001, cap=0.050))
    for refusals, seconds in ((5, 0.031), (40, 0.063 + 34 * 0.050)):
        server = ScriptedServer(
            virtual_clock, [*(REFUSED for _ in range(refusals)), listed(1), watched(hold=True)]
        )
        client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
        informer = InformerCache(client, options=CacheOptions(options)).informer(CONFIGMAPS)
        informer._reflector._draw = lambda: draw
        started = virtual_clock.now()
        running = asyncio.ensure_future(informer.run())
        await informer.wait_synced()
        assert virtual_clock.now() - started == pytest.approx(factor * seconds)
        await stop(running)


@pytest.mark.conforms("client-go reflector TestNewReflectorWithCustomBackoff")
async def test_base_factor_and_cap_of_the_waits_are_options(virtual_clock: VirtualClock) -> None:
    backoff = Backoff(base=0.010, cap=0.100, factor=2.0, jitter=0.0)
    world = World(
        virtual_clock,
        [*(REFUSED for _ in range(5)), listed(1), watched(hold=True)],
        ReflectorOptions(watch_list=False, backoff=backoff),
    )
    async with world.running(1):
        assert world.requests[-1][0] == pytest.approx(0.010 + 0.020 + 0.040 + 0.080 + 0.100)


@pytest.mark.conforms("client-go reflector TestBackoffOnTooManyRequests")
async def test_429_at_the_start_and_in_the_stream_are_a_wait_each(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10),
            Exchange(error=TooManyRequests("busy")),
            watched(status_event(429, "TooManyRequests")),
            watched(watch_line("ADDED", config_map("a", 11)), hold=True),
        ],
    )
    async with world.running(5):
        assert [at for at, *_ in world.requests] == pytest.approx([0.0, 0.0, 0.8, 2.4])
        assert {version for _, kind, version in world.requests if kind == "WATCH"} == {"10"}
        assert world.informer.stats.lists == 1


@pytest.mark.conforms("client-go reflector TestRetryInternalError")
@pytest.mark.parametrize(
    ("window", "pause_after", "retries"),
    [(0.0, None, 0), (30.0, None, 31), (30.0, 9, 40)],
    ids=["off", "30 s", "opened anew after a calm minute"],
)
def test_internal_errors_are_retried_at_once_while_the_window_is_open(
    window: float, pause_after: int | None, retries: int
) -> None:
    """One error a second; after `pause_after` of them none for a minute."""
    memory = Memory(ReflectorOptions(watch_list=False, internal_error_window=window), resource_version="10")
    state: State = Watching(memory)
    at, count = 0.0, 0
    while True:
        state, _ = on_event(state, Opened(at))
        if count == pause_after:
            at += 60.0
        state, _ = on_event(state, Failed(at, InternalError("storage is restarting")))
        if not isinstance(state, Watching):
            break
        count += 1
        at += 1.0
    assert count == retries
    assert isinstance(on_event(state, Waited(at))[0], Listing)


@pytest.mark.conforms("client-go reflector TestReflectorWatchListPageSize")
async def test_a_given_page_size_is_used_and_all_pages_come(virtual_clock: VirtualClock) -> None:
    objects = [config_map(f"cm-{index}", index + 1) for index in range(10)]
    world = World(
        virtual_clock,
        [
            listed(10, *objects[:4], token="C1", query={"limit": "4", "resourceVersion": "0"}),
            listed(10, *objects[4:8], token="C2", query={"limit": "4", "continue": "C1"}),
            listed(10, *objects[8:], query={"limit": "4", "continue": "C2"}),
            watched(hold=True),
        ],
        ReflectorOptions(watch_list=False, page_size=4),
    )
    async with world.running(1):
        assert len(world.names) == 10


@pytest.mark.conforms("client-go reflector TestReflectorNotPaginatingNotConsistentReads")
def test_a_list_at_a_known_version_has_no_limit() -> None:
    state, _ = on_event(Watching(Memory(LIST, "10")), Failed(0, Gone("x")))
    state, _ = on_event(state, Waited(1))
    assert next_request(state).query == (("resourceVersion", "10"),)  # type: ignore[union-attr]


@pytest.mark.conforms("client-go reflector TestReflectorPaginatingNonConsistentReadsIfWatchCacheDisabled")
async def test_pages_in_answer_to_version_0_make_later_lists_paged(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), token="C1", query={"limit": "500", "resourceVersion": "0"}),
            listed(10, config_map("b", 2), query={"continue": "C1"}),
            watched(status_event(410, "Expired")),
            listed(12, config_map("b", 2), query={"limit": "500", "resourceVersion": "10"}),
            watched(hold=True),
        ],
    )
    async with world.running(5):
        assert world.names == ["b"]
    world.server.assert_done()


@pytest.mark.conforms(
    "client-go reflector TestReflectorResyncWithResourceVersion",
    "client-go reflector TestReflectorFullListIfExpired",
)
async def test_a_relist_asks_for_what_was_seen_then_for_the_newest(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10),
            watched(status_event(500, "x")),
            Exchange(error=Gone("The resourceVersion for the provided list is too old")),
            listed(10),
            watched(status_event(500, "x")),
            listed(11),
            watched(hold=True),
        ],
    )
    async with world.running(30):
        lists = [version for _, kind, version in world.requests if kind == "LIST"]
        assert lists == ["0", "10", None, "10"]


@pytest.mark.conforms("client-go reflector TestReflectorFullListIfTooLarge")
async def test_a_version_that_the_server_has_not_reached_is_given_up(virtual_clock: VirtualClock) -> None:
    script = [listed(20), watched(status_event(500, "x"))]
    for dialect, version in zip(TOO_LARGE, (30, 40, 50), strict=True):
        script += [Exchange(error=too_large(dialect)), listed(version), watched(status_event(500, "x"))]
    world = World(virtual_clock, [*script, listed(60), watched(hold=True)])
    async with world.running(60):
        lists = [version for _, kind, version in world.requests if kind == "LIST"]
        assert lists == ["0", "20", None, "30", None, "40", None, "50"]


@pytest.mark.conforms("client-go reflector TestWatchTimeout")
def test_the_server_is_asked_to_end_watches_after_5_to_10_minutes() -> None:
    for minimum, least in ((0.0, 300), (60.0, 300), (300.0, 300), (900.0, 900)):
        options = ReflectorOptions(min_watch_timeout=minimum)
        assert watch_timeout(options, 0.0) == least
        assert watch_timeout(options, 0.5) == 1.5 * least
        assert watch_timeout(options, 0.999) < 2 * least


@pytest.mark.conforms("client-go reflector TestReflectorResourceVersionUpdate")
async def test_the_version_follows_events_and_bookmarks(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(1),
            watched(
                *(1.0, watch_line("ADDED", config_map("a", 10))),
                *(1.0, watch_line("MODIFIED", config_map("a", 20))),
                *(1.0, watch_line("DELETED", config_map("a", 30))),
                *(1.0, bookmark(40)),
                hold=True,
            ),
        ],
    )
    seen = []
    async with world.running(0.5):
        for _ in range(5):
            seen.append(
                (
                    world.informer.store.resource_version,
                    world.informer._reflector.state.memory.resource_version,
                )
            )
            await virtual_clock.sleep(1)
    assert seen == [(each, each) for each in ("1", "10", "20", "30", "40")]


@pytest.mark.conforms("client-go reflector TestReflectorListExtract")
@pytest.mark.parametrize("options", [LIST, STREAM], ids=["list", "stream"])
async def test_one_kept_object_does_not_keep_its_page(
    virtual_clock: VirtualClock, options: ReflectorOptions
) -> None:
    """Of each page and line only copies of its parts may live on."""
    managed = [{"manager": "m", "fieldsV1": {"f:data": {}}}]
    objects = [config_map(f"cm-{index}", index + 1, managedFields=managed) for index in range(20)]
    script = [listed(30, *objects), watched(hold=True)]
    if options is STREAM:
        lines = [watch_line("ADDED", each) for each in objects]
        script = [watched(b"".join(lines), bookmark(30, initial_end="true"), hold=True)]
    world = World(virtual_clock, script, options)
    async with world.running(1):
        kept = world.informer.lister.list()
        assert len(kept) == 20
        for obj in kept:
            reachable = [each for each in gc.get_referents(obj, obj.meta) if isinstance(each, bytes)]
            assert {id(each) for each in reachable} == {id(obj.raw)}
            assert bytes(obj.meta.managed_fields) == b""  # type: ignore[attr-defined]
            assert len(obj.raw) < 300


@pytest.mark.conforms("client-go reflector TestReflectorReplacesStoreOnUnsafeDelete")
async def test_an_object_that_cannot_be_read_any_more_is_removed(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("foo", 1), config_map("bar", 2)),
            watched(2.0, status_event(500, "StoreReadError", "corrupt object has been deleted")),
            listed(20, config_map("foo", 1), query={"resourceVersion": "10"}),
            watched(hold=True),
        ],
        ReflectorOptions(watch_list=False, internal_error_window=30.0),
    )
    async with world.running(5):
        assert world.names == ["foo"]
        assert world.recorder.events[-1] == ("delete", "bar", "2", "stale")


@pytest.mark.conforms("client-go reflector TestIsUnsupportedTableObject")
async def test_tables_are_no_objects_and_no_lists(virtual_clock: VirtualClock) -> None:
    table = {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "9"},
        "rows": [],
    }
    world = World(
        virtual_clock,
        [Exchange(body=table), listed(10), watched(watch_line("ADDED", table), bookmark(12), hold=True)],
    )
    async with world.running(0.5):
        assert "is a Table, not a list" in str(world.informer.last_error)
        assert not world.informer.has_synced
        await virtual_clock.sleep(1)
        assert world.informer.has_synced
        assert world.informer.stats.skipped == 1


@pytest.mark.conforms("client-go reflector TestWatchList bookmark")
@pytest.mark.parametrize("value", ["false", "", "yes", None])
async def test_only_the_mark_that_says_true_completes_a_streaming_list(
    virtual_clock: VirtualClock, value: str | None
) -> None:
    world = World(
        virtual_clock,
        [
            watched(
                watch_line("ADDED", config_map("a", 1)),
                bookmark(10, initial_end=value),
                5.0,
                bookmark(10, initial_end="true"),
                hold=True,
            )
        ],
        STREAM,
    )
    async with world.running(4):
        assert (world.informer.has_synced, world.names) == (False, [])
        await virtual_clock.sleep(2)
        assert (world.informer.has_synced, world.names) == (True, ["a"])


@pytest.mark.conforms("client-go reflector TestWatchList fallback")
@pytest.mark.parametrize(
    "error", [Invalid("sendInitialEvents is forbidden"), InternalError("x"), ApiError("x", status=418)]
)
async def test_a_refused_streaming_list_is_replaced_by_list_and_watch(
    virtual_clock: VirtualClock, error: ApiError
) -> None:
    world = World(
        virtual_clock, [Exchange(error=error), listed(10, config_map("a", 1)), watched(hold=True)], STREAM
    )
    async with world.running(1):
        assert [(at, kind) for at, kind, _ in world.requests] == [(0, "WATCH"), (0, "LIST"), (0, "WATCH")]
        assert world.names == ["a"]


@pytest.mark.conforms("client-go reflector TestWatchList updates and deletes")
async def test_changes_while_a_list_streams_are_right_at_its_end(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            watched(
                watch_line("ADDED", config_map("a", 1)),
                watch_line("ADDED", config_map("b", 2)),
                watch_line("MODIFIED", config_map("a", 3)),
                watch_line("DELETED", config_map("b", 4)),
                bookmark(5, initial_end="true"),
                hold=True,
            )
        ],
        STREAM,
    )
    async with world.running(1):
        assert world.recorder.events == [("add", "a", "3", "initial")]
        assert world.informer.store.resource_version == "5"


@pytest.mark.conforms("client-go reflector TestWatchList stream life")
async def test_the_life_of_a_streaming_list(virtual_clock: VirtualClock) -> None:
    first = watch_line("ADDED", config_map("gone-meanwhile", 1))
    a, b, c = (watch_line("ADDED", config_map(name, 4 + index)) for index, name in enumerate("abc"))
    world = World(
        virtual_clock,
        [
            Exchange(error=TooManyRequests("busy")),
            watched(first, 2.0),  # ends before its mark
            watched(a, bookmark(5, initial_end="true"), b),  # ends after it
            watched(
                c, status_event(410, "Expired"), query={"sendInitialEvents": None, "resourceVersion": "5"}
            ),
            watched(
                *(a, b, c, bookmark(9, initial_end="true")),
                query={"sendInitialEvents": "true", "resourceVersion": "6"},
                hold=True,
            ),
        ],
        STREAM,
    )
    async with world.running(20):
        assert world.names == ["a", "b", "c"]
        assert [event[1] for event in world.recorder.events] == ["a", "b", "c"]
        assert [at for at, *_ in world.requests] == pytest.approx([0, 0.8, 2.8, 2.8, 4.4])
    world.server.assert_done()


@pytest.mark.conforms("client-go reflector TestInitialEventsEndBookmarkTicker")
async def test_a_late_end_is_warned_of_until_it_comes(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(
        virtual_clock,
        [
            watched(
                *(5.0, watch_line("ADDED", config_map("a", 1))),
                *(20.0, bookmark(9, initial_end="true")),
                hold=True,
            )
        ],
        STREAM,
    )
    async with world.running(60):
        pass
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert [text.partition("; ")[2] for text in warnings] == [
        "the last event came 5 s ago",
        "the last event came 15 s ago",
    ]


@pytest.mark.conforms("client-go reflector TestReflectorDataConsistencyDetector")
async def test_a_streaming_list_holds_what_list_answers(virtual_clock: VirtualClock) -> None:
    server = ApiServer(ApiServerOptions(clock=virtual_clock))
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    for index in range(700):
        await client.create(
            CONFIGMAPS,
            {"metadata": {"name": f"cm-{index}", "namespace": "default"}, "data": {"k": f"{index}"}},
        )

    async def contents(options: ReflectorOptions) -> tuple[str, dict[str, CachedObject]]:
        informer = InformerCache(client, options=CacheOptions(options)).informer(CONFIGMAPS)
        running = asyncio.ensure_future(informer.run())
        await informer.wait_synced()
        await stop(running)
        return informer.store.resource_version, _by_name(informer)

    paged, streamed = await contents(LIST), await contents(replace(STREAM))
    assert paged[0] == streamed[0]
    assert len(paged[1]) == 700
    assert {name: obj.decode() for name, obj in paged[1].items()} == {
        name: obj.decode() for name, obj in streamed[1].items()
    }


def _by_name(informer: Informer) -> dict[str, CachedObject]:
    return {obj.key.name: obj for obj in informer.lister.list()}


def test_waits_are_bounded_however_long_the_outage() -> None:
    assert Backoff().seconds(10_000) == 30.0
    state, _ = on_event(StreamingList(Memory()), Failed(0.0, TransportError("refused")))
    assert next_request(state) == Wait(0.8, 0.0)
