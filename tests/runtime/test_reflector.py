"""Reflectors against a scripted server in virtual time: what is asked, when, and what comes of it."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

from kaito.runtime.errors import Forbidden, Gone, Invalid, NotFound, TooManyRequests, TransportError
from kaito.runtime.testing import Exchange, VirtualClock, watch_line
from runtime.support import STREAM, World, bookmark, config_map, listed, status_event, watched


async def test_list_then_watch(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(
                10, config_map("a", 1), config_map("b", 2), query={"resourceVersion": "0", "limit": "500"}
            ),
            watched(
                5.0,
                watch_line("ADDED", config_map("c", 11)),
                watch_line("MODIFIED", config_map("a", 12)) + watch_line("DELETED", config_map("b", 13)),
                hold=True,
                query={"resourceVersion": "10", "allowWatchBookmarks": "true", "timeoutSeconds": "300"},
            ),
        ],
    )
    async with world.running(6):
        assert world.recorder.events == [
            ("add", "a", "1", "initial"),
            ("add", "b", "2", "initial"),
            ("add", "c", "11", ""),
            ("update", "a", "1", "12"),
            ("delete", "b", "13", ""),
        ]
        assert world.names == ["a", "c"]
        assert world.informer.store.resource_version == "13"
    world.server.assert_done()
    assert world.transport.open_streams == 0


async def test_streaming_list_goes_on_as_the_watch(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            watched(
                watch_line("ADDED", config_map("a", 1)),
                watch_line("ADDED", config_map("b", 2)),
                watch_line("DELETED", config_map("b", 3)),
                bookmark(20, initial_end="false"),
                1.0,
                bookmark(20, initial_end="true"),
                1.0,
                watch_line("ADDED", config_map("c", 21)),
                hold=True,
                query={
                    "sendInitialEvents": "true",
                    "resourceVersionMatch": "NotOlderThan",
                    "resourceVersion": None,
                    "allowWatchBookmarks": "true",
                },
            )
        ],
        STREAM,
    )
    async with world.running(0.5):
        assert world.names == []
        assert world.recorder.events == []
        await virtual_clock.sleep(2)
        assert world.informer.has_synced
        assert world.recorder.events == [("add", "a", "1", "initial"), ("add", "c", "21", "")]
    assert len(world.server.calls) == 1


@pytest.mark.conforms("kube-rs idle_timeout", "kopf test_inactivity_reconnects_with_last_resource_version")
async def test_a_silent_watch_is_resumed_after_75_seconds_where_bookmarks_come(
    virtual_clock: VirtualClock,
) -> None:
    world = World(
        virtual_clock,
        [listed(10), watched(bookmark(11), hold=True), watched(hold=True), watched(hold=True)],
    )
    async with world.running(151):
        assert world.requests == [
            (0.0, "LIST", "0"),
            (0.0, "WATCH", "10"),
            (75.0, "WATCH", "11"),
            (150.0, "WATCH", "11"),
        ]
    assert world.transport.open_streams == 0


@pytest.mark.conforms("kopf test_bookmark_resets_inactivity")
async def test_bytes_postpone_the_silence_limit(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [listed(10), watched(bookmark(11), 60.0, bookmark(12), 60.0, b"\n", hold=True), watched(hold=True)],
    )
    async with world.running(200):
        assert world.requests[-1] == (195.0, "WATCH", "12")


async def test_without_bookmarks_silence_lasts_until_the_servers_own_timeout(
    virtual_clock: VirtualClock,
) -> None:
    world = World(virtual_clock, [listed(10), watched(hold=True), watched(hold=True)])
    async with world.running(400):
        assert world.requests[1:] == [(0.0, "WATCH", "10"), (305.0, "WATCH", "10")]


async def test_normal_close_resumes_at_once_without_list(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [listed(10), watched(watch_line("ADDED", config_map("a", 11))), watched(3.0), watched(hold=True)],
    )
    async with world.running(10):
        assert world.requests == [
            (0.0, "LIST", "0"),
            (0.0, "WATCH", "10"),
            (0.0, "WATCH", "11"),
            (3.0, "WATCH", "11"),
        ]


async def test_a_very_short_watch_without_events_backs_off_and_lists(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10), watched(0.5), listed(12), watched(hold=True)])
    async with world.running(10):
        assert world.requests == [
            (0.0, "LIST", "0"),
            (0.0, "WATCH", "10"),
            (1.3, "LIST", "10"),
            (1.3, "WATCH", "12"),
        ]


async def test_expired_watch_relists_not_older_then_newest(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), config_map("b", 2)),
            watched(status_event(410, "Expired")),
            Exchange(query={"resourceVersion": "10", "limit": None}, error=Gone("too old")),
            listed(
                30, config_map("b", 2), config_map("c", 29), query={"resourceVersion": None, "limit": "500"}
            ),
            watched(hold=True, query={"resourceVersion": "30"}),
        ],
    )
    async with world.running(10):
        assert world.recorder.events[2:] == [("delete", "a", "1", "stale"), ("add", "c", "29", "")]
        assert [round(at, 6) for at, *_ in world.requests] == [0, 0, 0.8, 0.8, 0.8]
    world.server.assert_done()


async def test_a_relist_keeps_the_objects_that_have_not_changed(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), config_map("b", 2)),
            watched(status_event(410, "Gone")),
            listed(20, config_map("a", 1), config_map("b", 15)),
            watched(hold=True),
        ],
    )
    async with world.running(0.5):
        before = world.informer.lister.get("a", "ns")
        await virtual_clock.sleep(5)
        assert world.informer.lister.get("a", "ns") is before
        assert world.recorder.events[2:] == [("update", "b", "2", "15")]


async def test_an_object_made_anew_under_the_same_name_is_deleted_and_added(
    virtual_clock: VirtualClock,
) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(status_event(410, "Gone")),
            listed(20, config_map("a", 15, uid="other")),
            watched(hold=True),
        ],
    )
    async with world.running(5):
        assert world.recorder.events[1:] == [("delete", "a", "1", "stale"), ("add", "a", "15", "")]


@pytest.mark.conforms("kube-rs backoff_should_reset_when_timer_expires")
async def test_back_off_doubles_to_its_cap_and_starts_anew_after_calm(virtual_clock: VirtualClock) -> None:
    refusals = [Exchange(refuse="connection refused") for _ in range(8)]
    world = World(
        virtual_clock,
        [
            listed(10),
            watched(2.0),
            *refusals,
            watched(200.0, query={"resourceVersion": "10"}),
            Exchange(refuse="connection refused"),
            watched(hold=True),
        ],
    )
    async with world.running(600):
        times = [at for at, *_ in world.requests[2:]]
        gaps = [round(later - earlier, 6) for earlier, later in pairwise(times)]
        assert gaps == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 200.0, 0.8]
    world.server.assert_done()


async def test_too_many_requests_waits_as_long_as_the_server_asks(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10),
            Exchange(query={"watch": "1"}, error=TooManyRequests("later", retry_after=7)),
            watched(1.0, status_event(429, "TooManyRequests")),
            watched(hold=True),
        ],
    )
    async with world.running(30):
        assert world.requests[1:] == [
            (0.0, "WATCH", "10"),
            (7.0, "WATCH", "10"),
            (9.6, "WATCH", "10"),
        ]


async def test_a_broken_stream_resumes_where_it_was(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10),
            watched(
                watch_line("ADDED", config_map("a", 11)),
                b'{"type":"ADDED","obj',
                TransportError("connection reset"),
            ),
            watched(2.0, TransportError("connection reset")),
            watched(hold=True),
        ],
    )
    async with world.running(30):
        assert world.requests[1:] == [(0.0, "WATCH", "10"), (0.0, "WATCH", "11"), (2.0, "WATCH", "11")]


async def test_an_event_cut_off_by_the_end_of_the_stream_is_not_lost(virtual_clock: VirtualClock) -> None:
    line = watch_line("ADDED", config_map("b", 12))
    world = World(
        virtual_clock,
        [listed(10), watched(watch_line("ADDED", config_map("a", 11)), line[:-20]), watched(line, hold=True)],
    )
    async with world.running(30):
        assert world.names == ["a", "b"]
        assert world.requests[-1] == (0.0, "WATCH", "11")


@pytest.mark.parametrize(
    "garbage",
    [b"not json\n", b'{"type": "ADDED"}\n', b"[1,2]\n", b'{"type":"ADDED","object":{"metadata":\xff}}\n'],
)
async def test_a_malformed_line_leads_to_a_new_list(virtual_clock: VirtualClock, garbage: bytes) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(garbage, hold=True),
            listed(20, config_map("b", 15)),
            watched(hold=True),
        ],
    )
    async with world.running(30):
        assert world.names == ["b"]


async def test_what_is_not_an_object_of_this_kind_is_skipped(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, {"metadata": {}}, {"data": {}}, config_map("a", 1)),
            watched(
                watch_line("ADDED", {"metadata": {"resourceVersion": "11"}}),
                watch_line("ADDED", {"kind": "Table", **config_map("table", 12)}),
                watch_line("PAINTED", config_map("x", 13)),
                watch_line("BOOKMARK", {"no": "metadata"}),
                watch_line("ADDED", config_map("b", 14)),
                hold=True,
            ),
        ],
    )
    async with world.running(5):
        assert world.names == ["a", "b"]
        assert world.informer.stats.skipped == 6
        assert len(world.requests) == 2


async def test_nulls_in_metadata_are_tolerated(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock, [listed(10, config_map("a", 1, labels=None, finalizers=None)), watched(hold=True)]
    )
    async with world.running(1):
        found = world.informer.lister.get("a", "ns")
        assert found is not None
        assert found.meta.labels == {}


async def test_pages_are_collected_and_their_tokens_carry_no_version(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), token="t1"),
            listed(
                99,
                config_map("b", 2),
                token="t2",
                query={"continue": "t1", "resourceVersion": None, "limit": "500"},
            ),
            listed(99, config_map("c", 3), query={"continue": "t2"}),
            watched(status_event(410, "Expired"), query={"resourceVersion": "10"}),
            listed(20, config_map("c", 3), query={"resourceVersion": "10", "limit": "500"}),
            watched(hold=True, query={"resourceVersion": "20"}),
        ],
    )
    async with world.running(0.5):
        assert world.names == ["a", "b", "c"]
        await virtual_clock.sleep(5)
        assert world.names == ["c"]
    world.server.assert_done()


async def test_an_expired_page_falls_back_to_one_full_list(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), token="t1"),
            Exchange(query={"continue": "t1"}, error=Gone("token expired")),
            listed(12, config_map("b", 2), query={"resourceVersion": "0", "limit": None, "continue": None}),
            watched(hold=True, query={"resourceVersion": "12"}),
        ],
    )
    async with world.running(1):
        assert world.names == ["b"]
        assert world.requests[-1][0] == 0.0


async def test_a_server_without_streaming_lists_is_listed(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            Exchange(
                query={"sendInitialEvents": "true"},
                error=Invalid("resourceVersionMatch is forbidden for watch"),
            ),
            listed(10, config_map("a", 1)),
            watched(hold=True, query={"sendInitialEvents": None, "resourceVersion": "10"}),
        ],
        STREAM,
    )
    async with world.running(1):
        assert world.names == ["a"]


async def test_a_streaming_list_that_never_ends_is_replaced_by_a_list(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            watched(watch_line("ADDED", config_map("old", 1)), hold=True),
            listed(10, config_map("a", 1)),
            watched(hold=True),
        ],
        STREAM,
    )
    async with world.running(31):
        assert world.requests[1:] == [(30.0, "LIST", "0"), (30.0, "WATCH", "10")]
        assert world.names == ["a"]


async def test_a_missing_resource_definition_is_suspected_by_name(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(
        virtual_clock,
        [
            Exchange(error=NotFound("the server could not find the requested resource")),
            listed(10),
            watched(hold=True),
        ],
    )
    async with world.running(2):
        assert world.informer.has_synced
    assert "cannot follow configmaps: GET /api/v1/configmaps: the server could not find" in caplog.text
    assert "(is its CustomResourceDefinition installed?), next try in 0.8 s or more" in caplog.text


async def test_a_refused_stream_is_not_told_beside_the_refused_list(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    streamed = watched(0.0, bookmark(10, initial_end="true"), hold=True)
    forbidden = Exchange(error=Forbidden("configmaps is forbidden"))
    world = World(virtual_clock, [forbidden, forbidden, streamed], STREAM)
    async with world.running(2):
        assert world.informer.has_synced
        assert world.informer.stats.failures == 2
    (warning,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.INFO]
    assert warning.endswith("next try in 0.8 s or more")
