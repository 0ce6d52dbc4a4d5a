"""Keeps a sink equal to a collection on the server.

The I/O around the state machine of `kaito.runtime.reflector_states`: carries out what `next_request` says,
decodes as little as possible of what comes back, and reports it to `on_event`. Whatever the server sends, the
loop goes on: what cannot be understood is logged, counted and skipped, or makes it list again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, MalformedObject, NotFound, TransportError, from_status
from kaito.runtime.objects import CachedObject, Envelope, decode_envelope
from kaito.runtime.reflector_states import (
    BACKOFF_JITTER,
    WATCH_TIMEOUT,
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
    Silent,
    Wait,
    Waited,
    Waiting,
    WatchRequest,
    first_state,
    next_request,
    relist,
    silence_limit,
)
from kaito.runtime.reflector_states import on_event as decide
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.selectors import label_selector, parse_field_selector
from kaito.runtime.transport import Response
from kaito.runtime.wire import (
    INITIAL_EVENTS_END,
    LineSplitter,
    MalformedStream,
    WatchEvent,
    decode_event,
    decode_page,
)

log = logging.getLogger(__name__)

YIELD_EVERY = 200
"""Objects handled between two turns of the event loop, which keeps its stalls below 5 ms."""

LIST_TIMEOUT = 120.0
"""Seconds for one LIST page: a server may ignore the limit and send everything."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource. `metadata_only` asks for PartialObjectMetadata."""

    resource: Resource
    namespace: str | None = None
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False

    @property
    def query(self) -> tuple[tuple[str, str], ...]:
        return (
            *((("labelSelector", self.label_selector),) if self.label_selector else ()),
            *((("fieldSelector", self.field_selector),) if self.field_selector else ()),
        )

    def accept(self, *, watch: bool) -> str:
        if not self.metadata_only:
            return "application/json"
        kind = "PartialObjectMetadata" if watch else "PartialObjectMetadataList"
        return f"application/json;as={kind};g=meta.k8s.io;v=v1,application/json"

    def covers(self, resource: Resource, key: ObjectKey, labels: Mapping[str, str]) -> bool:
        """Whether an object with this key and these labels certainly is among the selected."""
        if (resource.group, resource.plural) != (self.resource.group, self.resource.plural):
            return False
        if self.namespace is not None and key.namespace != self.namespace:
            return False
        if self.label_selector and not label_selector(self.label_selector).matches(labels):
            return False
        known = {"metadata.name": key.name, "metadata.namespace": key.namespace or ""}
        fields = parse_field_selector(self.field_selector).requirements
        return all((known.get(each.path) == each.value) == each.equal for each in fields) and all(
            each.path in known for each in fields
        )

    def check(self) -> None:
        """Raises SelectorError for a selector that no server would understand."""
        label_selector(self.label_selector)
        parse_field_selector(self.field_selector)

    def fits(self, envelope: Envelope) -> bool:
        """Whether the object is of the kind that was asked for; items of lists do not say."""
        return self.metadata_only or envelope.kind in ("", self.resource.kind)


class Sink(Protocol):
    """What a reflector keeps up to date. All methods but `commit` return at once and do not raise."""

    def begin(self) -> None:
        """A new list starts: forget what was collected."""

    def collect(self, obj: CachedObject, deleted: bool = False) -> None:
        """The list being received has this object, or after all has not."""

    async def commit(self, resource_version: str) -> None:
        """The list is complete."""

    def apply(self, obj: CachedObject, deleted: bool) -> None:
        """One object changed."""

    def bookmark(self, resource_version: str) -> None:
        """Everything up to this version has been seen."""


@dataclass
class ReflectorStats:
    """Counts since the start."""

    lists: int = 0
    watches: int = 0
    events: int = 0
    failures: int = 0
    skipped: int = 0


class Reflector:
    """Runs the state machine against a server until cancelled.

    `transform` may make an object smaller before it is stored. `draw` gives random numbers in [0, 1).
    """

    def __init__(
        self,
        client: Client,
        selection: Selection,
        sink: Sink,
        *,
        options: ReflectorOptions | None = None,
        transform: Callable[[CachedObject], CachedObject] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.state = first_state(options)
        self.stats = ReflectorStats()
        self.last_error: Exception | None = None
        self.last_byte: float | None = None
        self._client = client
        self._clock = client.clock
        self._selection = selection
        self._path = selection.resource.path(selection.namespace)
        self._sink = sink
        self._transform = transform
        self._draw = draw
        self._since_yield = 0
        self._following: asyncio.Future[None] | None = None

    @property
    def selection(self) -> Selection:
        return self._selection

    def reselect(self, selection: Selection) -> None:
        """Follow this selection instead: what is under way is given up, and everything is listed anew."""
        self._selection = selection
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
                    delay = seconds * (1 + BACKOFF_JITTER * self._draw())
                    await self._clock.sleep(max(delay, at_least))
                    await self._step(Waited(self._clock.now()))
                case ListRequest() as request:
                    await self._list(request)
                case WatchRequest() as request:
                    await self._watch(request)

    async def _list(self, request: ListRequest) -> None:
        self.stats.lists += 1
        if request.first:
            self._sink.begin()
        try:
            page = decode_page(
                await self._client.request(
                    "GET",
                    self._path,
                    query=(*self._selection.query, *request.query),
                    accept=self._selection.accept(watch=False),
                    timeout=LIST_TIMEOUT,
                )
            )
        except (ApiError, TransportError, MalformedStream) as error:
            await self._failed(error)
            return
        self.last_byte = self._clock.now()
        for item in page.items or ():
            obj = self._object(bytes(item))
            if obj is not None:
                self._sink.collect(obj)
            await self._breathe()
        await self._step(
            Listed(self._clock.now(), page.metadata.resource_version, page.metadata.continue_token)
        )

    async def _watch(self, request: WatchRequest) -> None:
        self.stats.watches += 1
        if request.initial:
            self._sink.begin()
        low, high = WATCH_TIMEOUT
        seconds = int(low + (high - low) * self._draw())
        response: Response | None = None
        try:
            response = await self._client.stream(
                self._path,
                query=(
                    *self._selection.query,
                    ("watch", "1"),
                    *request.query,
                    ("timeoutSeconds", str(seconds)),
                ),
                accept=self._selection.accept(watch=True),
            )
            await self._step(Opened(self._clock.now()))
            async with self._clock.timeout(None) as guard:
                await self._consume(response, guard, seconds)
            await self._step(Closed(self._clock.now()))
        except TimeoutError:
            log.info("watch fell silent, reconnecting", extra=self._where())
            await self._step(Silent(self._clock.now()))
        except (ApiError, TransportError, MalformedStream) as error:
            await self._failed(error)
        finally:
            if response is not None:
                await response.close()

    async def _consume(self, response: Response, guard: Any, seconds: int) -> None:
        """Feed the stream to the state machine. `guard` raises TimeoutError when nothing comes any more."""
        splitter = LineSplitter()
        self.last_byte = self._clock.now()
        guard.reschedule(self.last_byte + silence_limit(self.state, seconds))
        async for chunk in response.chunks():
            self.last_byte = self._clock.now()
            guard.reschedule(None)  # no silence while there is something to handle
            for line in splitter.feed(chunk):
                await self._line(decode_event(line))
                await self._breathe()
            guard.reschedule(self.last_byte + silence_limit(self.state, seconds))
        if splitter.rest().strip():
            raise TransportError("connection lost in the middle of a watch event")

    async def _line(self, line: WatchEvent) -> None:
        match line.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                obj = self._object(line.object, line.envelope)
                if obj is not None:
                    self.stats.events += 1
                    await self._step(
                        Changed(self._clock.now(), obj.meta.resource_version), obj, line.type == "DELETED"
                    )
            case "BOOKMARK":
                try:
                    meta = (line.envelope or decode_envelope(line.object)).metadata
                except MalformedObject as error:
                    self._skip(f"bookmark: {error}")
                    return
                ends = meta.annotations.get(INITIAL_EVENTS_END) == "true"
                await self._step(Marked(self._clock.now(), meta.resource_version, ends))
            case "ERROR":
                raise _stream_error(line.object)
            case _:
                self._skip(f"unknown event type {line.type!r}")

    async def _step(self, event: Event, obj: CachedObject | None = None, deleted: bool = False) -> None:
        self.state, action = decide(self.state, event)
        if isinstance(event, Opened):
            self.last_error = None
        if obj is not None and action is Action.APPLY:
            self._sink.apply(obj, deleted)
        elif obj is not None and action is Action.COLLECT:
            self._sink.collect(obj, deleted)
        elif action is Action.COMMIT:
            self.last_error = None
            await self._sink.commit(self.state.memory.resource_version)
        elif action is Action.BOOKMARK:
            self._sink.bookmark(self.state.memory.resource_version)

    async def _failed(self, error: ApiError | TransportError | MalformedStream) -> None:
        self.stats.failures += 1
        self.last_error = error
        await self._step(Failed(self._clock.now(), error))
        level = logging.INFO if isinstance(error, ApiError) and error.status == 410 else logging.WARNING
        pause = f", next try in {self.state.seconds:g} s or more" if isinstance(self.state, Waiting) else ""
        hint = " (is its CustomResourceDefinition installed?)" if isinstance(error, NotFound) else ""
        log.log(
            level,
            "cannot follow %s: %s%s%s",
            self._selection.resource,
            error,
            hint,
            pause,
            extra=self._where(),
        )

    def _object(self, raw: bytes, envelope: Envelope | None = None) -> CachedObject | None:
        """The object to store; None (and a line in the log) when these bytes are not one."""
        try:
            envelope = envelope or decode_envelope(raw)
        except MalformedObject as error:
            self._skip(str(error))
            return None
        if not envelope.metadata.name:
            self._skip("object without a name")
            return None
        if not self._selection.fits(envelope):
            self._skip(f"expected {self._selection.resource.kind}, got {envelope.kind}")
            return None
        obj = CachedObject(raw, self._selection.resource, envelope.metadata)
        if self._transform is None:
            return obj
        try:
            return self._transform(obj)
        except Exception:
            log.exception("transform failed, keeping the object as it came", extra=self._where())
            return obj

    def _skip(self, problem: str) -> None:
        self.stats.skipped += 1
        log.warning("skipping what %s sent: %s", self._selection.resource, problem, extra=self._where())

    async def _breathe(self) -> None:
        self._since_yield += 1
        if self._since_yield >= YIELD_EVERY:
            self._since_yield = 0
            await self._clock.sleep(0)

    def _where(self) -> dict[str, str]:
        return {"resource": str(self._selection.resource), "path": self._path}


def _stream_error(raw: bytes) -> ApiError:
    """The ApiError for the Status object of an ERROR event."""
    try:
        status = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedStream(f"an ERROR event holds no Status: {error}") from error
    code = status.get("code") if isinstance(status, dict) else None
    return from_status(code if isinstance(code, int) else 500, status if isinstance(status, dict) else None)
