"""Keeps a sink equal to a collection on the server: LIST once, then WATCH for ever.

All decisions are in two pure functions over frozen states, `next_request(state)` and `on_event(state,
event)`; `Reflector` below only carries requests out and feeds back what happened. The rules (which
resourceVersion to ask for, what to do about each failure) are client-go's, with these differences:

- back-off is reset after a calm period without failures, not at fixed intervals during an outage;
- any broken connection resumes the watch where it was, and a silent one counts as broken;
- a streaming list that falls silent before its end mark is replaced by a plain LIST.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf
from typing import TypeAlias

from kaito.runtime.errors import (
    ApiError,
    Gone,
    TooManyRequests,
    TransportError,
    is_too_large_resource_version,
)
from kaito.runtime.wire import MalformedStream

PAGE_SIZE = 500
"""Objects per LIST page (client-go)."""

BACKOFF_BASE, BACKOFF_CAP, BACKOFF_JITTER = 0.8, 30.0, 1.0
"""Seconds of the first and the longest delay; each is multiplied by 1 + jitter * [0, 1) (client-go)."""

CALM = 120.0
"""Seconds without a failure after which the back-off starts anew (kube-rs)."""

SHORT_WATCH = 1.0
"""A watch that closes within so many seconds without an event is a failure (client-go)."""

WATCH_TIMEOUT = (300.0, 600.0)
"""Bounds in seconds of the uniformly drawn time after which the server ends a watch (client-go)."""

SILENCE_WITH_BOOKMARKS = 75.0
"""Seconds without a byte after which a watch is dead where bookmarks come (servers send them each minute)."""

SILENCE_MARGIN = 5.0
"""Seconds beyond the server-side timeout after which a watch without bookmarks is dead (kube-rs)."""

SILENCE_INITIAL = 30.0
"""Seconds without a byte after which a streaming list is given up for a plain LIST."""


@dataclass(frozen=True, slots=True)
class ReflectorOptions:
    """`page_size` None means the default, and no paging where the server can answer from its watch cache.

    `watch_list` asks for the initial list as a stream and falls back to LIST where the server refuses.
    """

    page_size: int | None = None
    watch_list: bool = True


@dataclass(frozen=True, slots=True)
class Memory:
    """What survives from one request to the next."""

    options: ReflectorOptions = field(default_factory=ReflectorOptions)
    resource_version: str = ""
    unavailable: bool = False  # the server said Expired or "too large": ask for the newest state instead
    paginated: bool = False  # a LIST at version 0 came back in pages: there is no watch cache to spare
    bookmarks: bool = False  # bookmarks have been seen for this resource
    failures: int = 0
    last_failure: float = -inf


# States


@dataclass(frozen=True, slots=True)
class Listing:
    """Fetching pages. `token` continues a list whose version is `list_version`."""

    memory: Memory
    resource_version: str
    limit: int
    token: str = ""
    list_version: str = ""


@dataclass(frozen=True, slots=True)
class StreamingList:
    """Receiving the initial list as watch events."""

    memory: Memory
    opened_at: float | None = None
    events: int = 0


@dataclass(frozen=True, slots=True)
class Watching:
    """Receiving changes since `memory.resource_version`."""

    memory: Memory
    opened_at: float | None = None
    events: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Backing off before `then`; at least `at_least` seconds because the server said so."""

    seconds: float
    then: Listing | StreamingList | Watching
    at_least: float = 0.0

    @property
    def memory(self) -> Memory:
        return self.then.memory


State: TypeAlias = Listing | StreamingList | Watching | Waiting


# Requests


@dataclass(frozen=True, slots=True)
class ListRequest:
    """GET with these parameters; `first` starts a new list."""

    query: tuple[tuple[str, str], ...]
    first: bool


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """GET with watch=1, these parameters and a drawn timeoutSeconds; `initial` starts a new list."""

    query: tuple[tuple[str, str], ...]
    initial: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Sleep for `seconds * (1 + BACKOFF_JITTER * random)`, at least `at_least`."""

    seconds: float
    at_least: float


NextRequest: TypeAlias = ListRequest | WatchRequest | Wait


# Events (`at` is in clock seconds)


@dataclass(frozen=True, slots=True)
class Listed:
    """A LIST page arrived; its items are in the scratch area."""

    at: float
    resource_version: str
    continue_token: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A watch was accepted."""

    at: float


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was added, modified or deleted."""

    at: float
    resource_version: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A bookmark; `initial_end` ends a streaming list."""

    at: float
    resource_version: str
    initial_end: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The server ended the watch normally."""

    at: float


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing came for longer than `silence_limit`."""

    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The request or the stream failed; also an ERROR event in the stream."""

    at: float
    error: ApiError | TransportError | MalformedStream


@dataclass(frozen=True, slots=True)
class Waited:
    """The back-off is over."""

    at: float


Event: TypeAlias = Listed | Opened | Changed | Marked | Closed | Silent | Failed | Waited


class Action(Enum):
    """What the event means for the sink."""

    NONE = 0
    COLLECT = 1  # the object belongs to the list being received
    COMMIT = 2  # the list is complete: swap it in at memory.resource_version
    APPLY = 3  # the object changes the store
    BOOKMARK = 4  # only memory.resource_version has moved


def first_state(options: ReflectorOptions | None = None) -> State:
    """Where every reflector starts."""
    return relist(Memory(options or ReflectorOptions()))


def relist(memory: Memory) -> StreamingList | Listing:
    """The state that fetches everything anew, as a stream where that is wanted."""
    return StreamingList(memory) if memory.options.watch_list else plain_list(memory)


def plain_list(memory: Memory) -> Listing:
    """A LIST: version "0" (any) at first, then not older than what was seen, "" (newest) after trouble."""
    version = "" if memory.unavailable else memory.resource_version or "0"
    limit = memory.options.page_size
    if limit is None:
        limit = PAGE_SIZE if version in ("", "0") or memory.paginated else 0
    return Listing(memory, version, limit)


def next_request(state: State) -> NextRequest:
    """What to do now."""
    match state:
        case Waiting(seconds, _, at_least):
            return Wait(seconds, at_least)
        case Listing(token=token, limit=limit, resource_version=version):
            paging = (("limit", str(limit)),) if limit else ()
            if token:
                return ListRequest((*paging, ("continue", token)), first=False)
            return ListRequest((*_version(version), *paging), first=True)
        case StreamingList(memory):
            version = "" if memory.unavailable else memory.resource_version
            query = (
                *_version(version),
                ("resourceVersionMatch", "NotOlderThan"),
                ("sendInitialEvents", "true"),
                ("allowWatchBookmarks", "true"),
            )
            return WatchRequest(query, initial=True)
        case Watching(memory):
            return WatchRequest(
                (*_version(memory.resource_version), ("allowWatchBookmarks", "true")), initial=False
            )


def silence_limit(state: State, timeout_seconds: float) -> float:
    """Seconds without a byte after which the stream of this state counts as dead."""
    if isinstance(state, StreamingList):
        return SILENCE_INITIAL
    return SILENCE_WITH_BOOKMARKS if state.memory.bookmarks else timeout_seconds + SILENCE_MARGIN


def on_event(state: State, event: Event) -> tuple[State, Action]:
    """The state after the event, and what it means for the sink."""
    match state:
        case Watching():
            return _watching(state, event)
        case StreamingList():
            return _streaming(state, event)
        case Listing():
            return _listing(state, event), Action.COMMIT if _is_last_page(event) else Action.NONE
        case Waiting():
            return state.then, Action.NONE


def _version(version: str) -> tuple[tuple[str, str], ...]:
    return (("resourceVersion", version),) if version else ()


def _is_last_page(event: Event) -> bool:
    return isinstance(event, Listed) and not event.continue_token


def _listing(state: Listing, event: Event) -> State:
    memory = state.memory
    match event:
        case Listed(_, version, token):
            list_version = state.list_version or version
            if token:
                if state.resource_version == "0":
                    memory = replace(memory, paginated=True)
                return replace(state, memory=memory, token=token, list_version=list_version)
            return Watching(replace(memory, resource_version=list_version, unavailable=False))
        case Failed(at, error):
            if state.token and isinstance(error, Gone):
                return Listing(memory, state.resource_version, limit=0)
            if _version_unavailable(error) and not memory.unavailable:
                return plain_list(replace(memory, unavailable=True))
            return _back_off(memory, at, relist, error)
    return state


def _streaming(state: StreamingList, event: Event) -> tuple[State, Action]:
    memory = state.memory
    match event:
        case Changed():
            return StreamingList(memory, state.opened_at, state.events + 1), Action.COLLECT
        case Marked(_, version, initial_end):
            memory = replace(memory, bookmarks=True)
            if initial_end:
                memory = replace(memory, resource_version=version, unavailable=False)
                return Watching(memory, state.opened_at, state.events + 1), Action.COMMIT
            return replace(state, memory=memory), Action.NONE
        case Opened(at):
            return replace(state, opened_at=at), Action.NONE
        case Silent():
            return plain_list(memory), Action.NONE
        case Closed(at):
            return (
                _back_off(memory, at, StreamingList) if _was_short(state, at) else StreamingList(memory)
            ), Action.NONE
        case Failed(at, error):
            return _streaming_failed(memory, at, error), Action.NONE
    return state, Action.NONE


def _streaming_failed(memory: Memory, at: float, error: Exception) -> State:
    if isinstance(error, TransportError | TooManyRequests):
        return _back_off(memory, at, StreamingList, error)
    if _version_unavailable(error):
        if memory.unavailable:
            return _back_off(memory, at, StreamingList, error)
        return StreamingList(replace(memory, unavailable=True))
    if isinstance(error, MalformedStream):
        return _back_off(memory, at, plain_list, error)
    return plain_list(memory)


def _watching(state: Watching, event: Event) -> tuple[State, Action]:
    memory = state.memory
    match event:
        case Changed(_, version):
            return Watching(_at_version(memory, version), state.opened_at, state.events + 1), Action.APPLY
        case Marked(_, version):
            memory = replace(memory, resource_version=version or memory.resource_version, bookmarks=True)
            return Watching(memory, state.opened_at, state.events + 1), Action.BOOKMARK
        case Opened(at):
            return Watching(memory, at), Action.NONE
        case Silent():
            return Watching(memory), Action.NONE
        case Closed(at):
            return (_back_off(memory, at, relist) if _was_short(state, at) else Watching(memory)), Action.NONE
        case Failed(at, error):
            return _watching_failed(state, at, error), Action.NONE
    return state, Action.NONE


def _watching_failed(state: Watching, at: float, error: Exception) -> State:
    if isinstance(error, TransportError) and state.opened_at is not None and not _was_short(state, at):
        return Watching(state.memory)
    if isinstance(error, TransportError | TooManyRequests):
        return _back_off(state.memory, at, Watching, error)
    return _back_off(state.memory, at, relist, error)


def _was_short(state: StreamingList | Watching, at: float) -> bool:
    return state.events == 0 and (state.opened_at is None or at - state.opened_at < SHORT_WATCH)


def _at_version(memory: Memory, version: str) -> Memory:
    """A copy made by hand: this runs for every event, and dataclasses.replace costs three times as much."""
    return Memory(
        memory.options,
        version or memory.resource_version,
        memory.unavailable,
        memory.paginated,
        memory.bookmarks,
        memory.failures,
        memory.last_failure,
    )


def _version_unavailable(error: Exception) -> bool:
    return isinstance(error, Gone) or (isinstance(error, ApiError) and is_too_large_resource_version(error))


def _back_off(
    memory: Memory,
    at: float,
    then: Callable[[Memory], Listing | StreamingList | Watching],
    error: Exception | None = None,
) -> Waiting:
    failures = 0 if at - memory.last_failure > CALM else memory.failures
    seconds = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(failures, 16))
    memory = replace(memory, failures=failures + 1, last_failure=at)
    asked = error.retry_after if isinstance(error, ApiError) else None
    return Waiting(seconds, then(memory), asked or 0.0)
