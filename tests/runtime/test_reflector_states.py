"""The reflector's decisions, one transition at a time, without a server or a clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kaito.runtime.errors import (
    ApiError,
    Forbidden,
    Gone,
    InternalError,
    Invalid,
    ServerTimeout,
    TooManyRequests,
    TransportError,
    from_status,
)
from kaito.runtime.reflector_rules import first_state, next_request, on_event, silence_limit
from kaito.runtime.reflector_states import (
    Action,
    Changed,
    Closed,
    Event,
    Failed,
    Listed,
    Listing,
    ListRequest,
    Marked,
    Memory,
    Opened,
    ReflectorOptions,
    Silent,
    State,
    StreamingList,
    Wait,
    Waited,
    Waiting,
    Watching,
    WatchRequest,
)
from kaito.runtime.wire import MalformedStream

PLAIN = ReflectorOptions(watch_list=False)
SEEN = Memory(PLAIN, resource_version="10")
STREAMED = Memory(ReflectorOptions(), resource_version="10")

TOO_LARGE = (
    ServerTimeout("t", details={"causes": [{"reason": "ResourceVersionTooLarge", "message": "whatever"}]}),
    InternalError("t", details={"causes": [{"message": "Too large resource version"}]}),
    from_status(
        504, {"kind": "Status", "reason": "Timeout", "message": "Too large resource version: 20, current: 3"}
    ),
)


def play(state: State, *events: Event) -> State:
    for event in events:
        state, _ = on_event(state, event)
    return state


def query(state: State) -> dict[str, str]:
    request = next_request(state)
    assert isinstance(request, ListRequest | WatchRequest)
    return dict(request.query)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        pytest.param(Memory(PLAIN), {"resourceVersion": "0", "limit": "500"}, id="very first"),
        pytest.param(SEEN, {"resourceVersion": "10"}, id="after watch trouble"),
        pytest.param(
            replace(SEEN, paginated=True), {"resourceVersion": "10", "limit": "500"}, id="no watch cache"
        ),
        pytest.param(replace(SEEN, unavailable=True), {"limit": "500"}, id="version unavailable"),
        pytest.param(
            replace(SEEN, options=ReflectorOptions(page_size=4, watch_list=False)),
            {"resourceVersion": "10", "limit": "4"},
            id="explicit page size",
        ),
    ],
)
def test_which_version_a_list_asks_for(memory: Memory, expected: dict[str, str]) -> None:
    waiting, _ = on_event(Watching(memory), Failed(0, Gone("expired")))
    state, _ = on_event(waiting, Waited(1))
    assert isinstance(state, Listing)
    assert query(state) == expected


def test_success_adopts_the_version_of_the_first_page_and_clears_the_flag() -> None:
    state = play(
        Listing(replace(SEEN, unavailable=True), "", 500), Listed(0, "20", "more"), Listed(0, "99", "")
    )
    assert state == Watching(replace(SEEN, resource_version="20"))


def test_pages_in_answer_to_version_0_are_remembered() -> None:
    state = play(first_state(PLAIN), Listed(0, "20", "more"), Listed(0, "20", ""))
    assert state.memory.paginated
    state = play(Listing(SEEN, "10", 0), Listed(0, "20", "more"), Listed(0, "20", ""))
    assert not state.memory.paginated


@pytest.mark.parametrize("error", [Gone("x"), Gone("x", reason="Gone"), *TOO_LARGE])
def test_an_unavailable_version_is_retried_once_at_once(error: ApiError) -> None:
    state = play(Listing(SEEN, "10", 0), Failed(0, error))
    assert query(state) == {"limit": "500"}
    assert isinstance(play(state, Failed(0, error)), Waiting)


@pytest.mark.parametrize(
    "error", [Forbidden("no"), InternalError("x"), TransportError("refused"), MalformedStream("x")]
)
def test_any_other_list_failure_backs_off_and_lists_again(error: Any) -> None:
    state = play(Listing(SEEN, "10", 0), Failed(0, error))
    assert state == Waiting(0.8, Listing(replace(SEEN, failures=1, last_failure=0), "10", 0))
    assert next_request(state) == Wait(0.8, 0.0)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(Closed(50), Watching(SEEN), id="normal close"),
        pytest.param(Silent(50), Watching(SEEN), id="silence"),
        pytest.param(Failed(50, TransportError("reset")), Watching(SEEN), id="broken"),
    ],
)
def test_an_ended_watch_goes_on_at_once(event: Event, expected: State) -> None:
    assert play(Watching(SEEN), Opened(0), event) == expected


@pytest.mark.parametrize(
    ("event", "then"),
    [
        pytest.param(Failed(0.5, TransportError("refused")), Watching, id="refused at start"),
        pytest.param(Failed(0.5, TooManyRequests("x")), Watching, id="429"),
        pytest.param(Failed(0.5, Gone("x")), Listing, id="410"),
        pytest.param(Failed(0.5, InternalError("StoreReadError")), Listing, id="500"),
        pytest.param(Failed(0.5, Forbidden("x")), Listing, id="403"),
        pytest.param(Failed(0.5, MalformedStream("x")), Listing, id="malformed"),
        pytest.param(Closed(0.5), Listing, id="very short"),
    ],
)
def test_a_failed_watch_backs_off(event: Event, then: type) -> None:
    state = play(Watching(SEEN), Opened(0), event)
    assert isinstance(state, Waiting)
    assert isinstance(state.then, then)
    assert not state.memory.unavailable, "only a LIST may declare the version unavailable"


def test_retry_after_is_the_least_wait() -> None:
    state = play(Watching(SEEN), Failed(0, TooManyRequests("x", retry_after=9)))
    assert next_request(state) == Wait(0.8, 9)


def test_an_event_makes_a_short_watch_normal() -> None:
    assert play(Watching(SEEN), Opened(0), Changed(0.1, "11"), Closed(0.2)) == Watching(
        replace(SEEN, resource_version="11")
    )


def test_events_and_bookmarks_move_the_version() -> None:
    state, action = on_event(Watching(SEEN), Changed(0, "20"))
    assert (state.memory.resource_version, action) == ("20", Action.APPLY)
    state, action = on_event(state, Marked(0, "30", initial_end=False))
    assert (state.memory.resource_version, action) == ("30", Action.BOOKMARK)
    assert query(state) == {"resourceVersion": "30", "allowWatchBookmarks": "true"}


def test_bookmarks_shorten_the_silence_limit_over_reconnects() -> None:
    assert silence_limit(Watching(SEEN), 300) == 305
    state = play(Watching(SEEN), Marked(0, "11", initial_end=False), Silent(75))
    assert silence_limit(state, 300) == 75
    assert silence_limit(StreamingList(SEEN), 300) == 30


def test_streaming_list_request() -> None:
    assert query(first_state()) == {
        "resourceVersionMatch": "NotOlderThan",
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
    }
    assert query(StreamingList(STREAMED))["resourceVersion"] == "10"
    assert "resourceVersion" not in query(StreamingList(replace(STREAMED, unavailable=True)))


def test_streaming_list_ends_at_its_mark_only() -> None:
    state: State = StreamingList(STREAMED)
    state, action = on_event(state, Changed(0, "3"))
    assert action is Action.COLLECT
    state, action = on_event(state, Marked(0, "20", initial_end=False))
    assert (type(state), action) == (StreamingList, Action.NONE)
    assert state.memory.resource_version == "10"
    state, action = on_event(state, Marked(0, "20", initial_end=True))
    assert (type(state), action) == (Watching, Action.COMMIT)
    assert state.memory.resource_version == "20"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(Failed(0, TransportError("refused")), Waiting, id="refused"),
        pytest.param(Failed(0, TooManyRequests("x")), Waiting, id="429"),
        pytest.param(Failed(0, Gone("x")), StreamingList, id="expired"),
        pytest.param(Failed(0, Invalid("sendInitialEvents is forbidden")), Listing, id="422"),
        pytest.param(Failed(0, Forbidden("x")), Listing, id="403"),
        pytest.param(Silent(30), Listing, id="silent"),
        pytest.param(Closed(60), StreamingList, id="closed before the mark"),
        pytest.param(Closed(0.1), Waiting, id="closed at once"),
        pytest.param(Failed(0, MalformedStream("x")), Waiting, id="malformed"),
    ],
)
def test_streaming_list_troubles(event: Event, expected: type) -> None:
    assert type(play(StreamingList(STREAMED), Opened(0), event)) is expected


def test_the_next_round_tries_to_stream_again() -> None:
    state = play(
        StreamingList(STREAMED), Failed(0, Invalid("x")), Listed(0, "20", ""), Failed(5, Gone("x")), Waited(6)
    )
    assert isinstance(state, StreamingList)


def test_back_off_grows_to_its_cap_and_starts_anew_after_calm() -> None:
    state: State = Watching(SEEN)
    seconds = []
    at = 0.0
    for _ in range(8):
        state = play(state, Failed(at, TransportError("refused")))
        assert isinstance(state, Waiting)
        seconds.append(state.seconds)
        at += state.seconds
        state = play(state, Waited(at))
    assert seconds == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    last = at - 30.0
    state = play(state, Failed(last + 119, TransportError("refused")))
    assert isinstance(state, Waiting)
    assert state.seconds == 30.0
    state = play(state, Waited(last + 149), Failed(last + 119 + 121, TransportError("refused")))
    assert isinstance(state, Waiting)
    assert state.seconds == 0.8
