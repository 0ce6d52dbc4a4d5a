"""Events: what `kubectl describe` shows under an object.

`EventRecorder.event` never waits and never fails a reconcile: it puts the event into a bounded queue that the
recorder's own task empties. On the way an object that repeats itself is tamed as client-go does it
(tools/record): a repeated event raises the `count` of the first one, many similar ones become one combined
event, and an object that floods is cut off by a token bucket.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Generic, Literal, TypeVar

from kaito.runtime.client import Client, PatchType
from kaito.runtime.clock import Clock, rfc3339
from kaito.runtime.errors import ApiError, NotFound, TransportError
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.ratelimit import Bucket
from kaito.runtime.resources import EVENTS

EventTypeName = Literal["Normal", "Warning"]

MESSAGE_LIMIT = 1024
"""Characters of a message; the API refuses longer ones."""
COMBINED = "(combined from similar events): "

Reference = tuple[tuple[str, str], ...]


def per_object(regarding: Reference, type: EventTypeName, reason: str) -> Hashable:
    """The usual `spam_key`: an object has one allowance for all its events."""
    return regarding


@dataclass(frozen=True, slots=True)
class EventOptions:
    """How repeated and many events are tamed; the defaults are client-go's."""

    cache_size: int = 4096
    """Objects and events remembered for counting; the least recently used go first. Default 4096."""
    similar_limit: int = 10
    """Different messages of one object, type and reason before they are combined into one event. Default 10."""
    similar_window: float = 600.0
    """Seconds without a similar event after which combining starts afresh. Default 600."""
    burst: int = 25
    """Events of one object before the spam filter cuts in. Default 25."""
    refill_interval: float = 300.0
    """Seconds in which the spam filter lets one more event of an object pass. Default 300."""
    spam_key: Callable[[Reference, EventTypeName, str], Hashable] = per_object
    """What the spam filter counts together, of object, type and reason. Default: all events of an object."""
    queue_size: int = 1000
    """Events that may wait for the API server; further ones are dropped, with a log line. Default 1000."""
    tries: int = 12
    """Tries of one event while the API server cannot be reached. Default 12."""
    retry_delay: float = 10.0
    """Seconds between those tries; the first delay is a random part of it. Default 10."""
    flush_timeout: float = 2.0
    """Seconds that the recorder goes on writing after it was stopped. Default 2."""


_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

log = get_logger(__name__)
V = TypeVar("V")


class _Lru(Generic[V]):
    """A dict that forgets what was not used for longest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: Hashable, value: V) -> V:
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._size:
            self._items.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class _Report:
    """One call of `event`, as it waits in the queue."""

    regarding: Reference
    related: Reference
    type: EventTypeName
    reason: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class _Plan:
    """A report after counting and combining; `key` says what counts as the same event."""

    report: _Report
    message: str
    key: Hashable


@dataclass(slots=True)
class _Similar:
    """Messages of one object, type and reason within the window."""

    last: float
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Written:
    """An event that exists on the server."""

    namespace: str
    name: str
    count: int


class EventRecorder:
    """Writes core/v1 events. Add it to the manager: it runs until the last controller has stopped."""

    needs_leader_election = False

    def __init__(
        self,
        client: Client,
        component: str,
        clock: Clock,
        *,
        options: EventOptions = EventOptions(),
        random: Random | None = None,
    ) -> None:
        """`component` names the source that users see, e.g. `workspace-controller`."""
        self._client = client
        self._component = component
        self._clock = clock
        self._options = options
        self._random = Random() if random is None else random
        self._queue: deque[_Report] = deque()
        self._arrived = asyncio.Event()
        self._similar: _Lru[_Similar] = _Lru(options.cache_size)
        self._written: _Lru[_Written] = _Lru(options.cache_size)
        self._buckets: _Lru[Bucket] = _Lru(options.cache_size)
        self._last_stamp = 0
        self._under_way: _Plan | None = None

    def event(
        self,
        regarding: Mapping[str, Any] | CachedObject,
        type: EventTypeName,
        reason: str,
        message: str,
        *,
        related: Mapping[str, Any] | CachedObject | None = None,
    ) -> None:
        """Records that `reason` (a CamelCase word) befell `regarding`; `message` is for people.

        `related` is a second object that has to do with it. The event lives in the namespace of `regarding`, in
        `default` where that has none. Raises ValueError for a type that Kubernetes does not know; otherwise never
        raises and never waits.
        """
        if type not in ("Normal", "Warning"):
            raise ValueError(f"event type {type!r} must be Normal or Warning")
        if len(self._queue) >= self._options.queue_size:
            log.warning("event dropped, too many are waiting", reason=reason, text=message)
            return
        if len(message) > MESSAGE_LIMIT:
            message = message[: MESSAGE_LIMIT - 1] + "…"
        other = () if related is None else _reference(related)
        report = _Report(_reference(regarding), other, type, reason, message, self._clock.wall())
        self._queue.append(report)
        self._arrived.set()

    async def run(self) -> None:
        """Until cancelled; what is waiting then is still written, for at most `flush_timeout` seconds."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._queue:
                    self._under_way = self._plan(self._queue[0])
                    if self._under_way is not None:
                        await self._write(self._under_way)
                        self._under_way = None
                    self._queue.popleft()
        except asyncio.CancelledError:
            await self._flush()
            raise

    async def _flush(self) -> None:
        """Each event that waits has one more try; the first without an answer ends it."""
        try:
            async with self._clock.timeout(self._options.flush_timeout):
                while self._queue:
                    plan = self._under_way or self._plan(self._queue[0])
                    if plan is not None:
                        await self._try(plan)
                    self._under_way = None
                    self._queue.popleft()
        except (TransportError, TimeoutError):
            log.warning("events lost at the end: no answer from the API server", events=len(self._queue))

    async def _write(self, plan: _Plan) -> None:
        options = self._options
        for attempt in range(1, options.tries + 1):
            try:
                await self._try(plan)
                return
            except TransportError as error:
                if attempt == options.tries:
                    log.warning(
                        "event lost: no answer from the API server",
                        reason=plan.report.reason,
                        cause=str(error),
                    )
                    return
                share = self._random.random() if attempt == 1 else 1.0
                await self._clock.sleep(options.retry_delay * share)

    async def _try(self, plan: _Plan) -> None:
        """One attempt. Only a missing answer raises: what is refused once, or cannot be sent, is so for ever."""
        written = self._written.get(plan.key)
        try:
            if written is not None and await self._count(plan, written):
                return
            self._written.put(plan.key, await self._create(plan))
        except ApiError as error:
            log.warning("event refused by the API server", reason=plan.report.reason, cause=str(error))
        except (TypeError, ValueError) as error:
            log.warning("event cannot be written", reason=plan.report.reason, cause=str(error))

    def _plan(self, report: _Report) -> _Plan | None:
        """What to write, decided once however often it is tried; None where the spam filter cuts it off."""
        message, key = self._combine(report)
        if self._written.get(key) is None and not self._allowed(report):
            return None
        return _Plan(report, message, key)

    def _combine(self, report: _Report) -> tuple[str, Hashable]:
        """The message to write and what counts as the same event: many similar ones all count as one."""
        key = (report.regarding, report.type, report.reason)
        similar, now = self._similar.get(key), self._clock.now()
        if similar is None or now - similar.last > self._options.similar_window:
            similar = self._similar.put(key, _Similar(now))
        similar.last = now
        if report.message not in similar.messages:
            if len(similar.messages) >= self._options.similar_limit:
                return COMBINED + report.message, key
            similar.messages.add(report.message)
        return report.message, (*key, report.message)

    def _allowed(self, report: _Report) -> bool:
        options = self._options
        key = options.spam_key(report.regarding, report.type, report.reason)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets.put(key, Bucket(1 / options.refill_interval, options.burst, self._clock))
        return bucket.try_take()

    async def _count(self, plan: _Plan, written: _Written) -> bool:
        """Raises the count of an event; False when it is gone in the meantime."""
        stamp = rfc3339(plan.report.at)
        patch = {"count": written.count + 1, "lastTimestamp": stamp, "message": plan.message}
        try:
            await self._client.patch(
                EVENTS, written.name, written.namespace, patch=patch, patch_type=PatchType.STRATEGIC
            )
        except NotFound:
            return False
        written.count += 1
        return True

    async def _create(self, plan: _Plan) -> _Written:
        report = plan.report
        regarding = dict(report.regarding)
        namespace = regarding.get("namespace") or "default"
        name = self._name(regarding.get("name", ""), report.at)
        stamp = rfc3339(report.at)
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": regarding,
            "type": report.type,
            "reason": report.reason,
            "message": plan.message,
            **({"related": dict(report.related)} if report.related else {}),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        await self._client.create(EVENTS, body, namespace)
        return _Written(namespace, name, 1)

    def _name(self, name: str, at: datetime) -> str:
        """`<object>.<hex nanoseconds>`, or a UUID where the object's name is no DNS name."""
        self._last_stamp = max(self._last_stamp + 1, int(at.timestamp() * 1_000_000) * 1000)
        full = f"{name}.{self._last_stamp:x}"
        return full if _DNS_NAME.fullmatch(full) and len(full) <= 253 else str(uuid.uuid4())


def _reference(regarding: Mapping[str, Any] | CachedObject) -> Reference:
    """`involvedObject` as pairs, so that it can be a key."""
    tree = regarding.decode() if isinstance(regarding, CachedObject) else regarding
    metadata = tree.get("metadata") or {}
    fields = {
        "apiVersion": tree.get("apiVersion"),
        "kind": tree.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
    }
    return tuple((name, str(value)) for name, value in fields.items() if value)
