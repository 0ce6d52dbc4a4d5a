"""The work queue: its invariants by name. client-go's and controller-runtime's own cases, and a model to compare
with, are in `conformance/`.
"""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kaito.runtime.metrics import QueueMetrics
from kaito.runtime.ratelimit import ItemExponential
from kaito.runtime.workqueue import LOW_PRIORITY, Item, WorkQueue


class _Timer:
    def __init__(self, at: float, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.at, self.callback, self.args = at, callback, args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandClock:
    """A clock that only moves when told to, and runs what has become due on the way."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[_Timer] = []

    def now(self) -> float:
        return self.time

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> _Timer:
        timer = _Timer(self.time + delay, callback, args)
        self.timers.append(timer)
        return timer

    def pending(self) -> list[_Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        target = self.time + seconds
        while due := [timer for timer in self.pending() if timer.at <= target]:
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.time = max(self.time, first.at)
            first.callback(*first.args)
        self.time = target


class Rig:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.metrics = QueueMetrics()
        self.queue: WorkQueue[Any] = WorkQueue(
            self.clock,  # type: ignore[arg-type]
            limiter=ItemExponential(1, 1000),
            metrics=self.metrics,
        )

    def take(self) -> Any:
        """The key that a worker would get without waiting; None when it would have to wait."""
        item = self.queue.get_nowait()
        return None if item is None else item.key

    def drain(self) -> list[Any]:
        keys = []
        while (key := self.take()) is not None:
            keys.append(key)
        return keys

    def depth(self) -> dict[int, int]:
        return {priority: count for priority, count in self.metrics.depth.items() if count}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.queue.shutdown()


async def turn() -> None:
    """Lets every task that can run do so."""
    for _ in range(5):
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def test_one_entry_per_key(rig: Rig) -> None:
    rig.queue.add("a")
    rig.queue.add("a")
    assert len(rig.queue) == 1
    assert rig.metrics.adds == 1
    assert rig.drain() == ["a"]


async def test_one_entry_per_key_keeps_the_highest_priority_in_both_orders(rig: Rig) -> None:
    rig.queue.add("up", priority=1)
    rig.queue.add("up", priority=2)
    rig.queue.add("down", priority=2)
    rig.queue.add("down", priority=1)
    assert rig.depth() == {2: 2}
    assert await rig.queue.get() == Item("up", 2)
    assert await rig.queue.get() == Item("down", 2)


@pytest.mark.parametrize("delays", [(5, 2), (2, 5)])
async def test_one_entry_per_key_keeps_the_earliest_time_in_both_orders(
    rig: Rig, delays: tuple[float, float]
) -> None:
    for delay in delays:
        rig.queue.add("a", after=delay)
    rig.clock.advance(1.999)
    assert rig.take() is None
    rig.clock.advance(0.001)
    assert rig.take() == "a"
    rig.queue.done("a")
    rig.clock.advance(100)
    assert rig.take() is None, "the later of two delays fired as well"
    assert rig.metrics.adds == 1


async def test_one_entry_per_key_ready_beats_waiting(rig: Rig) -> None:
    rig.queue.add("a")
    rig.queue.add("a", after=10, priority=3)
    assert rig.depth() == {3: 1}
    assert rig.take() == "a"
    rig.queue.done("a")
    rig.clock.advance(20)
    assert rig.take() is None


async def test_one_holder_per_key(rig: Rig) -> None:
    rig.queue.add("a")
    assert rig.take() == "a"
    rig.queue.add("a")
    rig.queue.add("a")
    assert len(rig.queue) == 1
    assert rig.take() is None
    rig.queue.done("a")
    assert rig.take() == "a"
    rig.queue.done("a")
    assert rig.take() is None
    assert rig.metrics.adds == 2


async def test_one_holder_per_key_also_for_a_delay_that_ends_meanwhile(rig: Rig) -> None:
    rig.queue.add("a")
    rig.take()
    rig.queue.add("a", after=1)
    rig.clock.advance(2)
    assert rig.take() is None
    rig.queue.done("a")
    assert rig.take() == "a"


async def test_a_held_key_blocks_nobody(rig: Rig) -> None:
    rig.queue.add("held")
    rig.take()
    rig.queue.add("held", priority=9)
    rig.queue.add("other", priority=-5)
    assert rig.take() == "other"


async def test_order_is_priority_then_arrival(rig: Rig) -> None:
    for key, priority in (("a", 0), ("low", LOW_PRIORITY), ("b", 0), ("high", 5), ("c", 0)):
        rig.queue.add(key, priority=priority)
    assert rig.drain() == ["high", "a", "b", "c", "low"]


async def test_order_raising_the_priority_puts_a_key_at_the_tail_of_its_new_class(rig: Rig) -> None:
    for key in ("a", "b", "c"):
        rig.queue.add(key)
    rig.queue.add("d", priority=1)
    rig.queue.add("a", priority=1)
    assert rig.depth() == {0: 2, 1: 2}
    assert rig.metrics.adds == 4
    assert rig.drain() == ["d", "a", "b", "c"]


async def test_order_becoming_ready_puts_a_key_at_the_tail_but_priority_still_wins(rig: Rig) -> None:
    rig.queue.add("waited", after=1)
    rig.queue.add("urgent", after=1, priority=1)
    rig.queue.add("a")
    rig.clock.advance(1)
    assert rig.drain() == ["urgent", "a", "waited"]


async def test_never_early_never_late(rig: Rig) -> None:
    rig.queue.add("third", after=3)
    rig.queue.add("second", after=2)
    rig.queue.add("first", after=1)
    assert len(rig.queue) == 0
    for key in ("first", "second", "third"):
        rig.clock.advance(0.99)
        assert rig.take() is None
        rig.clock.advance(0.01)
        assert rig.take() == key


async def test_never_early_never_late_with_one_timer(rig: Rig) -> None:
    for delay in (30, 20, 10, 25, 10):
        rig.queue.add(delay, after=delay)
    assert [timer.at for timer in rig.clock.pending()] == [10]
    rig.clock.advance(10)
    assert [timer.at for timer in rig.clock.pending()] == [20]


async def test_never_early_never_late_for_a_waiting_worker(rig: Rig) -> None:
    worker = asyncio.ensure_future(rig.queue.get())
    rig.queue.add("a", after=5)
    await turn()
    rig.clock.advance(4.9)
    await turn()
    assert not worker.done()
    rig.clock.advance(0.1)
    assert await worker == Item("a", 0)


async def test_an_event_absorbs_a_pending_delay(rig: Rig) -> None:
    rig.queue.add("a", after=10)
    rig.queue.add("a")
    assert rig.take() == "a"
    rig.queue.done("a")
    rig.clock.advance(60)
    assert rig.take() is None


@pytest.mark.parametrize("delay", [0, -1])
async def test_a_delay_of_nothing_is_a_plain_add(rig: Rig, delay: float) -> None:
    rig.queue.add("a", after=delay)
    assert rig.take() == "a"
    assert rig.metrics.retries == 0


async def test_no_lost_wake_up_when_a_woken_worker_is_cancelled(rig: Rig) -> None:
    first, second = (asyncio.ensure_future(rig.queue.get()) for _ in range(2))
    await turn()
    rig.queue.add("a")
    first.cancel()
    assert await second == Item("a", 0)
    assert first.cancelled()


async def test_no_lost_wake_up_when_a_waiting_worker_was_cancelled(rig: Rig) -> None:
    first, second = (asyncio.ensure_future(rig.queue.get()) for _ in range(2))
    await turn()
    first.cancel()
    await turn()
    rig.queue.add("a")
    assert await second == Item("a", 0)


async def test_nothing_is_kept_of_workers_that_waited_in_vain(rig: Rig) -> None:
    for _ in range(10):
        worker = asyncio.ensure_future(rig.queue.get())
        await turn()
        worker.cancel()
        await turn()
    assert len(rig.queue._waiters) == 0


async def test_no_lost_wake_up_for_the_best_key_of_a_burst(rig: Rig) -> None:
    worker = asyncio.ensure_future(rig.queue.get())
    await turn()
    rig.queue.add("low", priority=LOW_PRIORITY)
    rig.queue.add("high", priority=1)
    assert await worker == Item("high", 1)


async def test_nothing_is_kept_of_a_finished_key() -> None:
    class Key:
        pass

    rig = Rig()
    key = Key()
    gone = weakref.ref(key)
    rig.queue.add(key, rate_limited=True)
    rig.queue.add(key)
    assert rig.take() is key
    rig.queue.done(key)
    rig.queue.forget(key)
    del key
    rig.clock.advance(10)
    gc.collect()
    assert gone() is None


async def test_nothing_is_kept_of_delays_that_events_absorbed(rig: Rig) -> None:
    for _ in range(10_000):
        rig.queue.add("a", after=36_000)
        rig.queue.add("a")
        rig.take()
        rig.queue.done("a")
    assert len(rig.queue._waiting) < 200
    for priority in range(10_000):
        rig.queue.add("a", priority=priority)
    assert sum(len(ready.line) for ready in rig.queue._classes) < 200
    assert len(rig.queue._classes) < 200


async def test_rate_limited_adds_wait_as_the_limiter_says(rig: Rig) -> None:
    for expected in (1, 2, 4):
        rig.queue.add("a", rate_limited=True)
        rig.clock.advance(expected - 0.5)
        assert rig.take() is None
        rig.clock.advance(0.5)
        assert rig.take() == "a"
        rig.queue.done("a")
    assert rig.queue.failures("a") == 3
    assert rig.metrics.retries == 3
    rig.queue.forget("a")
    assert rig.queue.failures("a") == 0


@pytest.mark.parametrize(("after", "expected"), [(0.5, 0.5), (7, 1)])
async def test_rate_limited_with_after_takes_the_shorter_delay(
    rig: Rig, after: float, expected: float
) -> None:
    rig.queue.add("a", rate_limited=True, after=after)
    rig.clock.advance(expected - 0.25)
    assert rig.take() is None
    rig.clock.advance(0.25)
    assert rig.take() == "a"


async def test_done_without_get_is_an_error(rig: Rig) -> None:
    rig.queue.add("a")
    with pytest.raises(ValueError, match="not handed out"):
        rig.queue.done("a")


async def test_shutdown_drops_everything_and_wakes_every_worker(rig: Rig) -> None:
    workers = [asyncio.ensure_future(rig.queue.get()) for _ in range(3)]
    await turn()
    rig.queue.add("later", after=5)
    rig.queue.shutdown()
    rig.queue.add("after shutdown")
    assert await asyncio.gather(*workers) == [None, None, None]
    assert await rig.queue.get() is None
    assert len(rig.queue) == 0
    assert rig.clock.pending() == []
    assert rig.depth() == {}
    rig.queue.shutdown()  # twice is fine


async def test_shutdown_returns_with_work_in_flight(rig: Rig) -> None:
    rig.queue.add("a")
    rig.take()
    rig.queue.add("a")
    rig.queue.shutdown()
    rig.queue.done("a")
    assert await rig.queue.get() is None


async def test_drain_hands_out_what_is_ready_and_waits_for_what_is_held(rig: Rig) -> None:
    rig.queue.add("held")
    rig.take()
    rig.queue.add("held")  # dirty again
    rig.queue.add("ready")
    rig.queue.add("waiting", after=5)
    drain = asyncio.ensure_future(rig.queue.shutdown_with_drain())
    await turn()
    rig.queue.add("refused")
    assert await rig.queue.get() == Item("ready", 0)
    rig.queue.done("ready")
    last = asyncio.ensure_future(rig.queue.get())
    await turn()
    assert not drain.done()
    assert not last.done()
    rig.queue.done("held")
    assert await last == Item("held", 0)
    idle = asyncio.ensure_future(rig.queue.get())
    await turn()
    assert not drain.done()
    rig.queue.done("held")
    await drain
    assert await idle is None


async def test_drain_of_an_idle_queue_returns_at_once(rig: Rig) -> None:
    await rig.queue.shutdown_with_drain()
    assert await rig.queue.get() is None


async def test_shutdown_ends_a_drain(rig: Rig) -> None:
    rig.queue.add("a")
    rig.take()
    drain = asyncio.ensure_future(rig.queue.shutdown_with_drain())
    await turn()
    assert not drain.done()
    rig.queue.shutdown()
    await drain
    rig.queue.done("a")


async def test_metrics_follow_the_clock(rig: Rig) -> None:
    rig.queue.add("a")
    rig.clock.advance(0.05)
    rig.take()
    assert rig.metrics.queue_duration.sum == pytest.approx(0.05)
    rig.clock.advance(2)
    rig.queue.add("a")
    assert rig.metrics.adds == 2
    assert [rig.clock.now() - start for start in rig.metrics.starts()] == [pytest.approx(2)]
    rig.queue.done("a")
    assert rig.metrics.work_duration.sum == pytest.approx(2)
    assert list(rig.metrics.starts()) == []
    rig.clock.advance(3)
    rig.take()
    assert rig.metrics.queue_duration.count == 2
    assert rig.metrics.queue_duration.sum == pytest.approx(3.05), (
        "a key waits for its next run from the add on, held or not"
    )


async def test_many_producers_and_workers_each_key_once(rig: Rig) -> None:
    held: set[int] = set()
    seen: Counter[int] = Counter()
    rng = random.Random(7)

    async def work() -> None:
        while (item := await rig.queue.get()) is not None:
            assert item.key not in held
            held.add(item.key)
            await turn_once()
            held.discard(item.key)
            seen[item.key] += 1
            rig.queue.done(item.key)

    async def turn_once() -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        await future

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(work())
        for key in range(500):
            rig.queue.add(key, priority=rng.randint(-3, 3), after=rng.choice([None, 1.0, 2.0]))
        rig.clock.advance(5)
        await rig.queue.shutdown_with_drain()
    assert seen == Counter(range(500))


async def test_a_key_put_back_is_neither_a_retry_nor_work(rig: Rig) -> None:
    rig.queue.add("a", priority=3)
    item = rig.queue.get_nowait()
    assert item is not None
    rig.queue.put_back(item, 5)
    assert (rig.metrics.retries, rig.metrics.work_duration.count) == (0, 0)
    assert rig.take() is None
    rig.clock.advance(5)
    assert rig.queue.get_nowait() == Item("a", 3)
    with pytest.raises(ValueError, match="not handed out"):
        rig.queue.put_back(Item("b", 0), 1)


@pytest.mark.parametrize(("priority", "expected"), [(1, 3), (7, 7)])
async def test_a_key_put_back_that_was_added_meanwhile_is_available_at_once(
    rig: Rig, priority: int, expected: int
) -> None:
    rig.queue.add("a", priority=3)
    item = rig.queue.get_nowait()
    assert item is not None
    rig.queue.add("a", priority=priority)
    rig.queue.put_back(item, 5)
    assert rig.queue.get_nowait() == Item("a", expected)


async def test_a_key_put_back_after_the_shutdown_is_gone(rig: Rig) -> None:
    rig.queue.add("a")
    item = rig.queue.get_nowait()
    assert item is not None
    drain = asyncio.ensure_future(rig.queue.shutdown_with_drain())
    await turn()
    rig.queue.put_back(item, 5)
    await drain
    assert await rig.queue.get() is None


async def test_done_tells_for_how_long_a_key_was_held(rig: Rig) -> None:
    rig.queue.add("a")
    rig.take()
    rig.clock.advance(2.5)
    assert rig.queue.done("a") == 2.5


async def test_keys_added_while_held_keep_their_place_in_line(rig: Rig) -> None:
    for key in ("a", "b"):
        rig.queue.add(key)
    rig.take()
    rig.take()
    for key in ("b", "x", "a", "y"):
        rig.queue.add(key)
    rig.queue.done("a")
    rig.queue.done("b")
    assert rig.drain() == ["b", "x", "a", "y"]
