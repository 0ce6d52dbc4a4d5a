"""What a reflector does next: two pure functions over frozen states, `next_request(state)` and
`on_event(state, event)`.

The rules (which resourceVersion to ask for, what to do about each failure) are client-go's, with these
differences:

- back-off is reset after a calm period without failures, not at fixed intervals during an outage;
- any broken connection resumes the watch where it was, and a silent one counts as broken;
- a streaming list that falls silent before its end mark is replaced by a plain LIST;
- a list older than what is held is not believed: the newest state is asked for. If that is older still, the
  server's history has begun anew (a restored backup), and the list is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kaito.runtime.errors import (
    ApiError,
    Gone,
    InternalError,
    NotFound,
    TooManyRequests,
    TransportError,
    is_too_large_resource_version,
)
from kaito.runtime.objects import is_older
from kaito.runtime.reflector_states import (
    PAGE_SIZE,
    WATCH_TIMEOUT,
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
    NextRequest,
    Opened,
    ReflectorOptions,
    Silent,
    State,
    StreamingList,
    Wait,
    Waiting,
    Watching,
    WatchRequest,
)
from kaito.runtime.wire import MalformedStream

SHORT_WATCH = 1.0
"""A watch that closes within so many seconds without an event is a failure (client-go)."""

SILENCE_WITH_BOOKMARKS = 75.0
"""Seconds without a byte after which a watch is dead where bookmarks come (servers send them each minute)."""

SILENCE_MARGIN = 5.0
"""Seconds beyond the server-side timeout after which a watch without bookmarks is dead (kube-rs)."""

SILENCE_INITIAL = 30.0
"""Seconds without a byte after which a streaming list is given up for a plain LIST."""

MISSING_RETRY = 10.0
"""Most seconds between two attempts, jitter included, while a resource has never been there: its definition is usually
being installed right now (controller-runtime)."""

INTERNAL_ERROR_CALM = 60.0
"""Seconds without an internal error after which the window for immediate retries opens anew (client-go)."""


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


def watch_timeout(options: ReflectorOptions, draw: float) -> int:
    """Whole seconds after which the server is asked to end a watch; `draw` is a random number in [0, 1)."""
    least = max(WATCH_TIMEOUT, options.min_watch_timeout)
    return int(least * (1 + draw))


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
            return _listing(state, event)
        case Waiting():
            return state.then, Action.NONE


def _version(version: str) -> tuple[tuple[str, str], ...]:
    return (("resourceVersion", version),) if version else ()


def _listing(state: Listing, event: Event) -> tuple[State, Action]:
    memory = state.memory
    match event:
        case Listed(_, version, token):
            list_version = state.list_version or version
            if not token:
                if _is_stale(memory, list_version, newest=not state.resource_version):
                    return plain_list(replace(memory, unavailable=True)), Action.NONE
                memory, action = _completed(memory, list_version)
                return Watching(memory), action
            if state.resource_version == "0":
                memory = replace(memory, paginated=True)
            return replace(state, memory=memory, token=token, list_version=list_version), Action.NONE
        case Failed(at, error):
            if state.token and isinstance(error, Gone):
                return Listing(memory, state.resource_version, limit=0), Action.NONE
            if _version_unavailable(error) and not memory.unavailable:
                return plain_list(replace(memory, unavailable=True)), Action.NONE
            return _back_off(memory, at, relist, error), Action.NONE
    return state, Action.NONE


def _is_stale(memory: Memory, version: str, *, newest: bool) -> bool:
    """Whether a whole list is not to be believed. `newest`: the newest state had been asked for."""
    return not newest and is_older(version, memory.resource_version)


def _completed(memory: Memory, version: str) -> tuple[Memory, Action]:
    action = Action.RESTART if is_older(version, memory.resource_version) else Action.COMMIT
    return replace(memory, resource_version=version, unavailable=False), action


def _streaming(state: StreamingList, event: Event) -> tuple[State, Action]:
    memory = state.memory
    match event:
        case Changed(_, _, count):
            return StreamingList(memory, state.opened_at, state.events + count), Action.COLLECT
        case Marked(_, version, initial_end):
            memory = replace(memory, bookmarks=True)
            if initial_end:
                if _is_stale(memory, version, newest=memory.unavailable):
                    return StreamingList(replace(memory, unavailable=True)), Action.REOPEN
                memory, action = _completed(memory, version)
                return Watching(memory, state.opened_at, state.events + 1), action
            return replace(state, memory=memory), Action.NONE
        case Opened(at, bookmarks):
            return StreamingList(_with_bookmarks(memory, bookmarks), at), Action.NONE
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
        case Changed(_, version, count):
            memory = _at_version(memory, version)
            return Watching(memory, state.opened_at, state.events + count), Action.APPLY
        case Marked(_, version):
            memory = replace(_at_version(memory, version), bookmarks=True)
            return Watching(memory, state.opened_at, state.events + 1), Action.BOOKMARK
        case Opened(at, bookmarks):
            return Watching(_with_bookmarks(memory, bookmarks), at), Action.NONE
        case Silent():
            return Watching(memory), Action.NONE
        case Closed(at):
            return (_back_off(memory, at, relist) if _was_short(state, at) else Watching(memory)), Action.NONE
        case Failed(at, error):
            return _watching_failed(state, at, error), Action.NONE
    return state, Action.NONE


def _watching_failed(state: Watching, at: float, error: Exception) -> State:
    memory = state.memory
    if isinstance(error, TransportError) and state.opened_at is not None and not _was_short(state, at):
        return Watching(memory)
    if isinstance(error, TransportError | TooManyRequests):
        return _back_off(memory, at, Watching, error)
    if isinstance(error, InternalError) and error.reason == "InternalError" and state.opened_at is not None:
        first = at if at - memory.last_internal >= INTERNAL_ERROR_CALM else memory.first_internal
        memory = replace(memory, first_internal=first, last_internal=at)
        if memory.options.internal_error_window and at - first <= memory.options.internal_error_window:
            return Watching(memory)
    return _back_off(memory, at, relist, error)


def _was_short(state: StreamingList | Watching, at: float) -> bool:
    return state.events == 0 and (state.opened_at is None or at - state.opened_at < SHORT_WATCH)


def _at_version(memory: Memory, version: str) -> Memory:
    if not version or is_older(version, memory.resource_version):
        return memory
    return replace(memory, resource_version=version)


def _with_bookmarks(memory: Memory, bookmarks: bool) -> Memory:
    return replace(memory, bookmarks=True) if bookmarks and not memory.bookmarks else memory


def _version_unavailable(error: Exception) -> bool:
    return isinstance(error, Gone) or (isinstance(error, ApiError) and is_too_large_resource_version(error))


def _back_off(
    memory: Memory,
    at: float,
    then: Callable[[Memory], Listing | StreamingList | Watching],
    error: Exception | None = None,
) -> Waiting:
    backoff = memory.options.backoff
    failures = 0 if at - memory.last_failure > backoff.calm else memory.failures
    seconds = backoff.seconds(failures)
    if isinstance(error, NotFound) and not memory.resource_version:
        seconds = min(seconds, MISSING_RETRY / (1 + backoff.jitter))
    memory = replace(memory, failures=failures + 1, last_failure=at)
    asked = error.retry_after if isinstance(error, ApiError) else None
    return Waiting(seconds, then(memory), asked or 0.0)
