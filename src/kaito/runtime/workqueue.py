"""The work queue between event handlers and workers: one class that does all a controller needs.

Event handlers add keys, workers get them. In between the queue removes duplicates, holds keys back until
their time has come, keeps urgent work ahead of bulk work and never hands one key to two workers. client-go
stacks three queues and a goroutine for that and controller-runtime adds a fourth; within one event loop a
dict, a line per priority, a heap of times, one timer and a deque of waiting workers are enough, and nothing
has to be locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Hashable, Iterable
from itertools import count
from typing import Generic, TypeVar

import msgspec

from kaito.runtime.clock import Clock, TimerHandle
from kaito.runtime.metrics import QueueMetrics
from kaito.runtime.queue_lines import Entry, Line, is_current
from kaito.runtime.ratelimit import ItemExponential, RateLimiter

K = TypeVar("K", bound=Hashable)

DEFAULT_PRIORITY = 0
LOW_PRIORITY = -100
"""Objects of an initial list and updates that changed nothing wait behind real changes (controller-runtime).
"""
_SLACK = 64
"""Stale places, and empty priorities, below this number are not worth a compaction."""


class Item(msgspec.Struct, Generic[K], frozen=True, gc=False):
    """What a worker gets: the key, and the priority to hand back when it is added again."""

    key: K
    priority: int


class WorkQueue(Generic[K]):
    """A priority queue of keys with dedupe, delays, rate limits and per-key exclusion.

    Invariants (tests are named after them):

    1. *One entry per key*: adding a queued key merges into its entry: highest priority, earliest time; ready
       beats waiting.
    2. *One holder per key*: a key that was handed out is not handed out again before `done`; an add meanwhile
       is kept and becomes available with `done`.
    3. *A held key blocks nobody*: other keys go on.
    4. *Order*: highest priority first; within one priority in the order in which keys became ready. Raising
       the priority, and becoming ready, put a key at the tail of its class.
    5. *Never early, never late*: a delayed key is handed out at its time, not before.
    6. *An event absorbs a pending delay*: a plain add of a waiting key makes it ready, and the delayed run is
    gone.
    7. *No lost wake-up*: while a key is available no worker waits, also when a woken worker is cancelled.
    8. *Nothing is kept of a finished key*: memory is bounded by what is queued and held.
    9. `len` counts what could be handed out now or after `done`, not what still waits for its time.
    """

    def __init__(
        self, clock: Clock, *, limiter: RateLimiter | None = None, metrics: QueueMetrics | None = None
    ) -> None:
        self._clock = clock
        self._limiter = limiter if limiter is not None else ItemExponential()
        self._metrics = metrics if metrics is not None else QueueMetrics()
        self._depth = self._metrics.depth
        self._entries: dict[K, Entry] = {}
        self._classes: list[Line] = []  # highest priority first
        self._by_priority: dict[int, Line] = {}
        self._waiting: list[tuple[float, int, Entry]] = []  # heap of (ready_at, counter, entry)
        self._stale = 0  # entries in `_classes` that only wait to be skipped
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._timer: TimerHandle | None = None
        self._timer_at = 0.0
        self._next_counter = count(1).__next__
        self._closed = False  # takes nothing more
        self._stopped = False  # hands out nothing more
        self._metrics.starts = self._starts

    def __len__(self) -> int:
        return sum(self._depth.values())

    @property
    def shutting_down(self) -> bool:
        """True once either kind of shutdown began; adds are ignored from then on."""
        return self._closed

    def add(
        self,
        key: K,
        *,
        after: float | None = None,
        rate_limited: bool = False,
        priority: int = DEFAULT_PRIORITY,
    ) -> None:
        """Queues `key`: now, in `after` seconds, or when the rate limiter allows (with both: the shorter
        delay).
        """
        if self._closed:
            return
        if rate_limited:
            delay = self._limiter.when(key)
            after = delay if after is None else min(delay, after)
        if after is not None and after > 0:
            self._metrics.retries += 1
            self._add_waiting(key, self._clock.now() + after, priority)
            return
        entry = self._entries.get(key)
        if entry is None:
            entry = Entry(key, priority, self._next_counter(), self._clock.now())
            self._entries[key] = entry
            self._became_ready(entry)
        elif not entry.queued:
            entry.priority = priority
            self._promote(entry)
        elif entry.ready_at is not None:
            entry.priority = max(entry.priority, priority)
            self._promote(entry)
            self._compact_waiting()
        elif priority > entry.priority:
            self._raise_priority(entry, priority)

    def forget(self, key: K) -> None:
        """Wipes the failure history of `key`; says nothing about whether it is queued."""
        self._limiter.forget(key)

    def failures(self, key: K) -> int:
        """How many rate-limited adds `key` had since it was last forgotten."""
        return self._limiter.failures(key)

    def get_nowait(self) -> Item[K] | None:
        """The next key if one is available, else None. Call `done(key)` when through with it."""
        for ready in self._classes:
            entry = ready.pop()
            if entry is None:
                continue
            now = self._clock.now()
            entry.queued = False
            entry.started = now
            priority = entry.priority
            self._depth[priority] -= 1
            self._metrics.queue_duration.observe(now - entry.since)
            return Item(entry.key, priority)
        return None

    async def get(self) -> Item[K] | None:
        """The next key, as soon as there is one; None after a shutdown. Call `done(key)` when through with
        it.
        """
        while True:
            item = self.get_nowait()
            if item is not None:
                return item
            if self._stopped or (self._closed and not self._entries):
                return None
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.cancelled():
                    with contextlib.suppress(ValueError):
                        self._waiters.remove(waiter)  # or polling with a time limit would pile them up
                elif waiter.done():
                    self._wake()  # the wake-up was meant for whoever takes the key
                raise

    def done(self, key: K) -> float:
        """Gives `key` back; returns the seconds for which it was held. Added meanwhile, it becomes available now."""
        entry = self._entries.get(key)
        if entry is None or entry.started is None:
            raise ValueError(f"done({key!r}): the key is not handed out")
        held = self._clock.now() - entry.started
        self._metrics.work_duration.observe(held)
        self._let_go(entry)
        return held

    def put_back(self, item: Item[K], after: float) -> None:
        """Gives a key back that was not worked on: it is handed out again in `after` seconds, or when added.

        Neither a retry nor work done, so neither is counted.
        """
        entry = self._entries.get(item.key)
        if entry is None or entry.started is None:
            raise ValueError(f"put_back({item.key!r}): the key is not handed out")
        if not self._closed:
            self._add_waiting(item.key, self._clock.now() + after, item.priority)
        self._let_go(entry)

    def shutdown(self) -> None:
        """Ends the queue: what is queued is dropped, every `get` returns None at once. Also ends a drain."""
        self._closed = self._stopped = True
        self._drop([entry for entry in self._entries.values() if entry.queued])
        self._classes.clear()
        self._by_priority.clear()
        self._check_drained()
        self._wake_all()

    async def shutdown_with_drain(self) -> None:
        """Takes nothing more, hands out what is ready, and returns when nothing is queued or held any more.

        Keys that still wait for their time are dropped. `shutdown()` meanwhile makes this return at once.
        """
        self._closed = True
        self._drop([entry for entry in self._entries.values() if entry.ready_at is not None])
        if self._stopped or not self._entries:
            self._wake_all()
            return
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    # -- adding ----------------------------------------------------------------------------------------------

    def _add_waiting(self, key: K, ready_at: float, priority: int) -> None:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key, priority, 0, 0.0)
            self._wait_until(entry, ready_at)
        elif not entry.queued:
            entry.queued = True
            entry.priority = priority
            self._wait_until(entry, ready_at)
        elif entry.ready_at is None:
            if priority > entry.priority:
                self._raise_priority(entry, priority)
        else:
            entry.priority = max(entry.priority, priority)
            if ready_at < entry.ready_at:
                self._wait_until(entry, ready_at)

    def _promote(self, entry: Entry) -> None:
        """Waiting, or only held, becomes ready, at the tail of its priority."""
        entry.queued = True
        entry.ready_at = None
        entry.counter = self._next_counter()
        entry.since = self._clock.now()
        self._became_ready(entry)

    def _became_ready(self, entry: Entry) -> None:
        self._metrics.adds += 1
        self._depth[entry.priority] += 1
        if entry.started is None:
            self._make_available(entry)

    def _make_available(self, entry: Entry) -> None:
        ready = self._by_priority.get(entry.priority)
        if ready is None:
            ready = self._open_class(entry.priority)
        ready.push(entry)
        if self._waiters:
            self._wake()

    def _raise_priority(self, entry: Entry, priority: int) -> None:
        self._depth[entry.priority] -= 1
        self._depth[priority] += 1
        if entry.started is not None:
            entry.priority = priority
            entry.counter = self._next_counter()
            return
        entry.stale = True
        self._stale += 1
        if self._stale > 2 * len(self._entries) + _SLACK:
            self._compact_classes()
        moved = Entry(entry.key, priority, self._next_counter(), entry.since)
        self._entries[entry.key] = moved
        self._make_available(moved)

    def _open_class(self, priority: int) -> Line:
        ready = self._by_priority[priority] = Line(priority)
        if len(self._classes) > _SLACK:
            self._compact_classes()
        self._classes.append(ready)
        self._classes.sort(key=lambda each: -each.priority)
        return ready

    def _compact_classes(self) -> None:
        """Drops what only waits to be skipped, and priorities that nothing has any more."""
        self._stale = 0
        for ready in self._classes:
            ready.drop_stale()
        self._classes = [ready for ready in self._classes if ready.line or ready.returned]
        self._by_priority = {ready.priority: ready for ready in self._classes}

    # -- giving back -----------------------------------------------------------------------------------------

    def _let_go(self, entry: Entry) -> None:
        entry.started = None
        if not entry.queued:
            del self._entries[entry.key]
        elif entry.ready_at is None:
            self._make_available(entry)
        if self._closed:
            self._check_drained()

    def _drop(self, entries: Iterable[Entry]) -> None:
        """Forgets that these are queued; those that are held stay held."""
        for entry in entries:
            if entry.ready_at is None:
                self._depth[entry.priority] -= 1
            entry.queued, entry.ready_at, entry.stale = False, None, entry.started is None
            if entry.started is None:
                del self._entries[entry.key]
        self._waiting.clear()
        self._cancel_timer()

    def _check_drained(self) -> None:
        if self._stopped or not self._entries:
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
            self._wake_all()

    def _wake(self) -> None:
        waiters = self._waiters
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._waiters:
            self._wake()

    def _starts(self) -> list[float]:
        """Clock readings at which the keys that are held were handed out."""
        return [entry.started for entry in self._entries.values() if entry.started is not None]

    # -- the clock -------------------------------------------------------------------------------------------

    def _wait_until(self, entry: Entry, ready_at: float) -> None:
        entry.ready_at = ready_at
        entry.counter = self._next_counter()
        heapq.heappush(self._waiting, (ready_at, entry.counter, entry))
        self._compact_waiting()
        self._arm()

    def _arm(self) -> None:
        """One timer, for the earliest waiting key."""
        while self._waiting and not is_current(self._waiting[0]):
            heapq.heappop(self._waiting)
        if not self._waiting:
            self._cancel_timer()
            return
        at = self._waiting[0][0]
        if self._timer is None or at < self._timer_at:
            self._cancel_timer()
            self._timer_at = at
            self._timer = self._clock.call_later(max(0.0, at - self._clock.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock.now()
        due = max(now, self._timer_at)  # a timer that fires a rounding error early has still fired
        while self._waiting and self._waiting[0][0] <= due:
            place = heapq.heappop(self._waiting)
            if is_current(place):
                self._promote(place[2])
        self._arm()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _compact_waiting(self) -> None:
        """A key that is promoted and delayed again and again must not pile up stale timers."""
        if len(self._waiting) > 2 * len(self._entries) + _SLACK:
            self._waiting = [place for place in self._waiting if is_current(place)]
            heapq.heapify(self._waiting)
