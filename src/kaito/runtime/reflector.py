"""Keeps a sink equal to a collection on the server.

The I/O around the rules of `kaito.runtime.reflector_rules`: carries out what `next_request` says, decodes as
little as possible of what comes back, and reports it to `on_event`. Whatever the server sends, the loop goes on:
what cannot be understood is logged, counted and skipped, or makes it list again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Protocol

from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, MalformedObject, NotFound, TransportError
from kaito.runtime.intake import Intake, where
from kaito.runtime.objects import CachedObject, Envelope, decode_envelope
from kaito.runtime.reflector_health import ReflectorHealth
from kaito.runtime.reflector_rules import first_state, next_request, relist, silence_limit, watch_timeout
from kaito.runtime.reflector_rules import on_event as decide
from kaito.runtime.reflector_states import (
    Action,
    Changed,
    Closed,
    Event,
    Failed,
    Listed,
    ListRequest,
    Marked,
    Opened,
    ReflectorOptions,
    ReflectorStats,
    Silent,
    StreamingList,
    Wait,
    Waited,
    Waiting,
    Watching,
    WatchRequest,
)
from kaito.runtime.resources import Resource
from kaito.runtime.selection import Selection
from kaito.runtime.transport import Response
from kaito.runtime.wire import (
    INITIAL_EVENTS_END,
    LineSplitter,
    ListPage,
    MalformedStream,
    PageSplitter,
    WatchEvent,
    decode_event,
    stream_error,
)

__all__ = ["Reflector", "ReflectorStats", "Selection", "Sink"]

log = logging.getLogger(__name__)

SLICE_BYTES = 256 * 1024
"""Bytes of JSON handled between two turns of the event loop: less than a millisecond."""

SLICE_FLOOR = 4096
"""Bytes that even the smallest object counts for: its handlers take time too."""

LIST_SILENCE = 60.0
"""Seconds without a byte after which a LIST is given up. A server may ignore the limit and send everything."""

MARK_REMINDER = 10.0
"""Seconds between two warnings while the end of a streaming list is late (client-go)."""


class Sink(Protocol):
    """What a reflector keeps up to date. All methods but `commit` return at once and do not raise."""

    def begin(self) -> None:
        """A new list starts: forget what was collected."""

    def collect(self, obj: CachedObject, deleted: bool = False) -> None:
        """The list being received has this object, or after all has not."""

    async def commit(self, resource_version: str, *, restart: bool) -> None:
        """The list is complete. `restart`: it counts although it is older than what is held."""

    def apply(self, obj: CachedObject, deleted: bool) -> None:
        """One object changed."""

    def bookmark(self, resource_version: str) -> None:
        """Everything up to this version has been seen."""


class _Reopen(Exception):
    """This stream is of no use."""


class Reflector:
    """Runs the state machine against a server until cancelled.

    `transform` may make an object smaller before it is stored. `keep_managed_fields`: leave them in the bytes that
    are kept. `bookmarked` is shared by the informers of one server: resources for which it has sent bookmarks.
    `on_error` is called with every failure. `draw` gives random numbers in [0, 1).
    """

    def __init__(
        self,
        client: Client,
        selection: Selection,
        sink: Sink,
        *,
        options: ReflectorOptions | None = None,
        transform: Callable[[CachedObject], CachedObject] | None = None,
        keep_managed_fields: bool = False,
        bookmarked: set[Resource] | None = None,
        on_error: Callable[[Exception], None] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.state = first_state(options)
        self.health = ReflectorHealth()
        self.selection = selection
        self._options = self.state.memory.options
        self._client = client
        self._clock = client.clock
        self._sink = sink
        self.stats = ReflectorStats()
        self._intake = Intake(self.stats, transform, keep_managed_fields=keep_managed_fields)
        self._bookmarked: set[Resource] = set() if bookmarked is None else bookmarked
        self._on_error = on_error
        self._draw = draw
        self._slice = 0  # bytes handled since the last turn of the loop
        self._unreported = 0  # objects handed on that the rules do not know of yet
        self._last_version = ""
        self._following: asyncio.Future[None] | None = None
        self._restarting = False  # the server's history began anew, and the sink has not taken its list yet

    def reselect(self, selection: Selection) -> None:
        """Follow this selection instead: what is under way is given up, and everything is listed anew."""
        self.selection = selection
        self._unreported = 0
        self.state = relist(self.state.memory)
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        """Never returns; cancel it."""
        while True:
            following = self._following = asyncio.ensure_future(self._follow())
            try:
                await following
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling() or not following.cancelled():
                    raise
            finally:
                self._following = None

    async def _follow(self) -> None:
        while True:
            match next_request(self.state):
                case Wait(seconds, at_least):
                    delay = seconds * (1 + self._options.backoff.jitter * self._draw())
                    await self._clock.sleep(max(delay, at_least))
                    await self._step(Waited(self._clock.now()))
                case ListRequest() as request:
                    await self._list(request)
                case WatchRequest() as request:
                    await self._watch(request)

    # LIST

    async def _list(self, request: ListRequest) -> None:
        self.stats.lists += 1
        if request.first:
            self._sink.begin()
        try:
            page = await self._fetch_page(request)
        except (ApiError, TransportError, MalformedStream) as error:
            await self._failed(error)
            return
        await self._step(
            Listed(self._clock.now(), page.metadata.resource_version, page.metadata.continue_token)
        )

    async def _fetch_page(self, request: ListRequest) -> ListPage:
        """Collects the items of one page as they arrive."""
        response = await self._client.stream(
            self.selection.path,
            query=(*self.selection.query, *request.query),
            accept=self.selection.accept(watch=False),
            head_timeout=LIST_SILENCE,
        )
        splitter = PageSplitter(self._options.max_event_bytes)
        try:
            async with self._clock.timeout(LIST_SILENCE) as guard:
                async for chunk in response.chunks():
                    self.health.last_byte = self._clock.now()
                    guard.reschedule(None)
                    for item in splitter.feed(chunk):
                        await self._collect(item.object, item.envelope)
                    guard.reschedule(self.health.last_byte + LIST_SILENCE)
        except TimeoutError:
            raise TransportError(f"the answer to LIST fell silent for {LIST_SILENCE:g} s") from None
        finally:
            await response.close()
        self.health.last_byte = self._clock.now()
        page = splitter.finish()
        for raw in page.items or ():
            await self._collect(bytes(raw), None)
        return page

    async def _collect(self, raw: bytes, envelope: Envelope | None) -> None:
        obj = self._intake.take(raw, envelope, self.selection)
        if obj is not None:
            self._sink.collect(obj)
        await self._breathe(len(raw))

    # WATCH

    async def _watch(self, request: WatchRequest) -> None:
        self.stats.watches += 1
        if request.initial:
            self._sink.begin()
        seconds = watch_timeout(self._options, self._draw())
        response: Response | None = None
        try:
            response = await self._client.stream(
                self.selection.path,
                query=(
                    *self.selection.query,
                    ("watch", "1"),
                    *request.query,
                    ("timeoutSeconds", str(seconds)),
                ),
                accept=self.selection.accept(watch=True),
            )
            await self._step(Opened(self._clock.now(), self.selection.resource in self._bookmarked))
            async with self._clock.timeout(None) as guard:
                await self._consume(response, guard, seconds)
            await self._step(Closed(self._clock.now()))
        except TimeoutError:
            self._fell_silent()
            await self._step(Silent(self._clock.now()))
        except (ApiError, TransportError, MalformedStream) as error:
            await self._failed(error)
        except _Reopen:
            pass
        finally:
            if response is not None:
                await response.close()

    async def _consume(self, response: Response, guard: Any, seconds: int) -> None:
        """Feed the stream to the rules. `guard` raises TimeoutError when nothing comes any more."""
        splitter = LineSplitter(self._options.max_event_bytes)
        self.health.last_byte = self._clock.now()
        guard.reschedule(self.health.last_byte + silence_limit(self.state, seconds))
        reminder = _MarkReminder(self)
        try:
            async for chunk in response.chunks():
                self.health.last_byte = self._clock.now()
                guard.reschedule(None)  # no silence while there is something to handle
                for line in splitter.feed(chunk):
                    await self._line(decode_event(line))
                    await self._breathe(len(line))
                await self._report()
                guard.reschedule(self.health.last_byte + silence_limit(self.state, seconds))
        finally:
            reminder.cancel()
        if splitter.rest().strip():
            raise TransportError("connection lost in the middle of a watch event")

    async def _line(self, line: WatchEvent) -> None:
        match line.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                obj = self._intake.take(line.object, line.envelope, self.selection)
                if obj is not None:
                    self._hand_on(obj, line.type == "DELETED")
            case "BOOKMARK":
                try:
                    meta = (line.envelope or decode_envelope(line.object)).metadata
                except MalformedObject as error:
                    self._intake.skip(f"bookmark: {error}", self.selection)
                    return
                self._bookmarked.add(self.selection.resource)
                meta.source = line.object
                ends = meta.annotations.get(INITIAL_EVENTS_END) == "true"
                await self._step(Marked(self._clock.now(), meta.resource_version, ends))
            case "ERROR":
                raise stream_error(line.object)
            case _:
                self._intake.skip(f"unknown event type {line.type!r}", self.selection)

    def _hand_on(self, obj: CachedObject, deleted: bool) -> None:
        """Give an object to the sink; the rules learn of many at a time (see `_report`)."""
        self.stats.events += 1
        self._unreported += 1
        self._last_version = obj.meta.resource_version
        if isinstance(self.state, Watching):
            self._sink.apply(obj, deleted)
        else:
            self._sink.collect(obj, deleted)

    async def _report(self) -> None:
        """Tell the rules of the objects handed on since the last time."""
        if self._unreported:
            count, self._unreported = self._unreported, 0
            await self._step(Changed(self._clock.now(), self._last_version, count))

    # Decisions

    async def _step(self, event: Event) -> None:
        if not isinstance(event, Changed):
            await self._report()
        self.state, action = decide(self.state, event)
        match event:
            case Opened(at):
                self.health.opened(at)
            case Changed() | Marked():
                self.health.came_to_life()
            case Closed():
                self.health.closed()
        match action:
            case Action.COMMIT | Action.RESTART:
                self.health.came_to_life()
                if action is Action.RESTART:
                    self._restarting = True
                    log.warning(
                        "the server's history began anew, taking its state", extra=where(self.selection)
                    )
                await self._sink.commit(self.state.memory.resource_version, restart=self._restarting)
                self._restarting = False
            case Action.BOOKMARK:
                self._sink.bookmark(self.state.memory.resource_version)
            case Action.REOPEN:
                raise _Reopen

    def _fell_silent(self) -> None:
        self.stats.silences += 1
        log.info("watch fell silent, reconnecting", extra=where(self.selection))
        silence = self.health.fell_silent(self._clock.now(), bookmarks=self.state.memory.bookmarks)
        if silence is not None:
            log.warning("cannot follow %s: %s", self.selection, silence, extra=where(self.selection))

    async def _failed(self, error: ApiError | TransportError | MalformedStream) -> None:
        now = self._clock.now()
        self.stats.failures += 1
        self.health.failed(now, error)
        await self._step(Failed(now, error))
        self._log_failure(error)
        if self._on_error is not None:
            try:
                self._on_error(error)
            except Exception:
                log.exception("error hook failed", extra=where(self.selection))

    def _log_failure(self, error: Exception) -> None:
        level = logging.WARNING
        if isinstance(error, ApiError) and not isinstance(self.state, Waiting):
            # Another way is tried at once, such as LIST after a refused stream; if that fails too, it is told then.
            level = logging.INFO if error.status == 410 else logging.DEBUG
        pause = f", next try in {self.state.seconds:g} s or more" if isinstance(self.state, Waiting) else ""
        hint = " (is its CustomResourceDefinition installed?)" if isinstance(error, NotFound) else ""
        log.log(
            level, "cannot follow %s: %s%s%s", self.selection, error, hint, pause, extra=where(self.selection)
        )

    async def _breathe(self, size: int) -> None:
        self._slice += max(size, SLICE_FLOOR)
        if self._slice >= SLICE_BYTES:
            self._slice = 0
            await self._clock.sleep(0)


class _MarkReminder:
    """Warns again and again while a streaming list does not come to its end."""

    def __init__(self, reflector: Reflector) -> None:
        self._reflector = reflector
        self._clock = reflector._clock
        self._timer = None if not self._late() else self._clock.call_later(MARK_REMINDER, self._remind)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _late(self) -> bool:
        return isinstance(self._reflector.state, StreamingList)

    def _remind(self) -> None:
        self._timer = None
        reflector = self._reflector
        if self._late():
            silent = self._clock.now() - (reflector.health.last_byte or 0.0)
            log.warning(
                "still waiting for the end of the streaming list of %s; the last event came %g s ago",
                *(reflector.selection, silent),
                extra=where(reflector.selection),
            )
            self._timer = self._clock.call_later(MARK_REMINDER, self._remind)
