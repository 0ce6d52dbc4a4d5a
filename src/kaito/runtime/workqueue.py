"""The work queue between event handlers and workers: one class that does all a controller needs.

Event handlers add keys, workers get them. In between the queue removes duplicates, holds keys back until
their time has come, keeps urgent work ahead of bulk work and never hands one key to two workers. client-go
stacks three queues and a goroutine for that and controller-runtime adds a fourth; within one event loop a
dict, two heaps, one timer and a deque of waiting workers are enough, and nothing has to be locked.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from kaito.runtime.clock import Clock, TimerHandle
from kaito.runtime.metrics import QueueMetrics
from kaito.runtime.ratelimit import ItemExponential, RateLimiter

K = TypeVar("K", bound=Hashable)

DEFAULT_PRIORITY = 0
LOW_PRIORITY = -100
"""Objects of an initial list and updates that changed nothing wait behind real changes (controller-runtime).
"""
_SLACK = 64
"""Stale heap entries below this number are not worth a compaction."""


class Item(NamedTuple, Generic[K]):
    """What a worker gets: the key, and the priority to hand back when it is added again."""

    key: K
    priority: int


class _Entry:
    """A queued key. `ready_at` None: may be handed out; else the clock reading at which it may be."""

    __slots__ = ("counter", "priority", "ready_at", "since")

    def __init__(self, priority: int, counter: int, ready_at: float | None, since: float) -> None:
        self.priority = priority
        self.counter = counter
        self.ready_at = ready_at
        self.since = since


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
        self._entries: dict[K, _Entry] = {}
        self._ready: list[tuple[int, int, K]] = []  # (-priority, counter, key); counters never repeat
        self._waiting: list[tuple[float, int, K]] = []  # (ready_at, counter, key)
        self._held: dict[K, float] = {}  # key -> when it was handed out
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._timer: TimerHandle | None = None
        self._timer_at = 0.0
        self._counter = 0
        self._length = 0
        self._closed = False  # takes nothing more
        self._stopped = False  # hands out nothing more
        self._metrics.starts = self._held.values

    def __len__(self) -> int:
        return self._length

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
        delay = self._limiter.when(key) if rate_limited else 0.0
        if after is not None:
            delay = min(delay, after) if rate_limited else after
        if delay > 0:
            self._metrics.retries += 1
            self._add_waiting(key, self._clock.now() + delay, priority)
        else:
            self._add_ready(key, priority)

    def forget(self, key: K) -> None:
        """Wipes the failure history of `key`; says nothing about whether it is queued."""
        self._limiter.forget(key)

    def failures(self, key: K) -> int:
        """How many rate-limited adds `key` had since it was last forgotten."""
        return self._limiter.failures(key)

    async def get(self) -> Item[K] | None:
        """The next key, as soon as there is one; None after a shutdown. Call `done(key)` when through with
        it.
        """
        while True:
            if self._stopped:
                return None
            item = self._pop()
            if item is not None:
                return item
            if self._closed and not self._undelivered():
                return None
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the wake-up was meant for whoever takes the key
                raise

    def done(self, key: K) -> None:
        """Gives `key` back. Added meanwhile, it becomes available now."""
        start = self._held.pop(key, None)
        if start is None:
            raise ValueError(f"done({key!r}): the key is not handed out")
        self._metrics.work_duration.observe(self._clock.now() - start)
        entry = self._entries.get(key)
        if entry is not None and entry.ready_at is None:
            heapq.heappush(self._ready, (-entry.priority, entry.counter, key))
            self._wake()
        if self._closed:
            self._check_drained()

    def put_back(self, item: Item[K], after: float) -> None:
        """Gives a key back that was not worked on: it is handed out again in `after` seconds, or when added.

        Neither a retry nor work done, so neither is counted.
        """
        key, priority = item
        if self._held.pop(key, None) is None:
            raise ValueError(f"put_back({key!r}): the key is not handed out")
        entry = self._entries.get(key)
        if entry is not None and entry.ready_at is None:
            if priority > entry.priority:
                self._raise_priority(key, entry, priority)
            else:
                heapq.heappush(self._ready, (-entry.priority, entry.counter, key))
            self._wake()
        elif not self._closed:
            self._add_waiting(key, self._clock.now() + after, priority)
        if self._closed:
            self._check_drained()

    def shutdown(self) -> None:
        """Ends the queue: what is queued is dropped, every `get` returns None at once. Also ends a drain."""
        self._closed = self._stopped = True
        for key in list(self._entries):
            self._drop(key)
        self._ready.clear()
        self._waiting.clear()
        self._cancel_timer()
        self._check_drained()
        self._wake_all()

    async def shutdown_with_drain(self) -> None:
        """Takes nothing more, hands out what is ready, and returns when nothing is queued or held any more.

        Keys that still wait for their time are dropped. `shutdown()` meanwhile makes this return at once.
        """
        self._closed = True
        for key in [key for key, entry in self._entries.items() if entry.ready_at is not None]:
            self._drop(key)
        self._waiting.clear()
        self._cancel_timer()
        if self._stopped or not self._undelivered():
            self._wake_all()
            return
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def _undelivered(self) -> bool:
        return bool(self._entries or self._held)

    def _check_drained(self) -> None:
        if self._stopped or not self._undelivered():
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
            self._wake_all()

    # -- adding ----------------------------------------------------------------------------------------------

    def _next_counter(self) -> int:
        self._counter += 1
        return self._counter

    def _add_ready(self, key: K, priority: int) -> None:
        entry = self._entries.get(key)
        if entry is None:
            entry = _Entry(priority, self._next_counter(), None, self._clock.now())
            self._entries[key] = entry
            self._became_ready(key, entry)
        elif entry.ready_at is not None:
            entry.priority = max(entry.priority, priority)
            self._promote(key, entry)
        elif priority > entry.priority:
            self._raise_priority(key, entry, priority)

    def _add_waiting(self, key: K, ready_at: float, priority: int) -> None:
        entry = self._entries.get(key)
        if entry is None:
            entry = _Entry(priority, self._next_counter(), ready_at, 0.0)
            self._entries[key] = entry
            self._schedule(key, entry, ready_at)
        elif entry.ready_at is None:
            if priority > entry.priority:
                self._raise_priority(key, entry, priority)
        else:
            entry.priority = max(entry.priority, priority)
            if ready_at < entry.ready_at:
                entry.ready_at = ready_at
                entry.counter = self._next_counter()
                self._schedule(key, entry, ready_at)

    def _promote(self, key: K, entry: _Entry) -> None:
        """Waiting becomes ready, at the tail of its priority."""
        entry.ready_at = None
        entry.counter = self._next_counter()
        entry.since = self._clock.now()
        self._became_ready(key, entry)
        self._compact_waiting()

    def _became_ready(self, key: K, entry: _Entry) -> None:
        self._metrics.adds += 1
        self._count(entry.priority, 1)
        if key not in self._held:
            heapq.heappush(self._ready, (-entry.priority, entry.counter, key))
            self._wake()

    def _raise_priority(self, key: K, entry: _Entry, priority: int) -> None:
        self._count(entry.priority, -1)
        self._count(priority, 1)
        entry.priority = priority
        entry.counter = self._next_counter()
        if key not in self._held:
            heapq.heappush(self._ready, (-priority, entry.counter, key))
            if len(self._ready) > 2 * len(self._entries) + _SLACK:
                self._ready = [item for item in self._ready if self._is_current(item[2], item[1])]
                heapq.heapify(self._ready)

    # -- handing out -----------------------------------------------------------------------------------------

    def _pop(self) -> Item[K] | None:
        ready = self._ready
        while ready:
            _, counter, key = heapq.heappop(ready)
            entry = self._entries.get(key)
            if entry is None or entry.counter != counter:
                continue  # lazy deletion: the key was raised or dropped since
            del self._entries[key]
            self._count(entry.priority, -1)
            now = self._clock.now()
            self._held[key] = now
            self._metrics.queue_duration.observe(now - entry.since)
            return Item(key, entry.priority)
        return None

    def _is_current(self, key: K, counter: int) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.counter == counter

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key)
        if entry.ready_at is None:
            self._count(entry.priority, -1)

    def _count(self, priority: int, change: int) -> None:
        """Keeps the number of ready keys: in all, and by priority for the depth gauge."""
        self._length += change
        depth = self._metrics.depth
        depth[priority] = depth.get(priority, 0) + change

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

    # -- the clock -------------------------------------------------------------------------------------------

    def _schedule(self, key: K, entry: _Entry, ready_at: float) -> None:
        heapq.heappush(self._waiting, (ready_at, entry.counter, key))
        self._compact_waiting()
        self._arm()

    def _arm(self) -> None:
        """One timer, for the earliest waiting key."""
        while self._waiting and not self._is_current(self._waiting[0][2], self._waiting[0][1]):
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
            _, counter, key = heapq.heappop(self._waiting)
            if self._is_current(key, counter):
                self._promote(key, self._entries[key])
        self._arm()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _compact_waiting(self) -> None:
        """A key that is promoted and delayed again and again must not pile up stale timers."""
        if len(self._waiting) > 2 * len(self._entries) + _SLACK:
            self._waiting = [item for item in self._waiting if self._is_current(item[2], item[1])]
            heapq.heapify(self._waiting)
