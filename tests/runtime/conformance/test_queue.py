"""client-go's tests of its work queues, in virtual time and with exact moments."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kaito.runtime.metrics import QueueMetrics, RuntimeMetrics
from kaito.runtime.ratelimit import ItemExponential, ItemFastSlow, MaxOf, MaxWait, RateLimiter
from kaito.runtime.testing import VirtualClock
from kaito.runtime.workqueue import Item, WorkQueue


class Bench:
    """A queue and consumers that note what they got and when."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.metrics = QueueMetrics()
        self.queue: WorkQueue[Any] = WorkQueue(clock, limiter=ItemExponential(1, 1000), metrics=self.metrics)
        self.got: list[tuple[float, Any]] = []

    async def consume(self, hold: float = 0.0) -> None:
        while (item := await self.queue.get()) is not None:
            self.got.append((self.clock.now(), item.key))
            await self.clock.sleep(hold)
            self.queue.done(item.key)

    async def take(self) -> Any:
        item = await self.queue.get()
        assert item is not None
        return item.key


@pytest.fixture
async def bench(virtual_clock: VirtualClock) -> AsyncIterator[Bench]:
    bench = Bench(virtual_clock)
    yield bench
    bench.queue.shutdown()


@pytest.mark.conforms("client-go workqueue TestBasic")
@pytest.mark.parametrize("drain", [False, True])
async def test_every_key_once_whatever_the_shutdown(bench: Bench, drain: bool) -> None:
    async def produce(producer: int) -> None:
        for number in range(20):
            bench.queue.add(f"{producer}-{number}")
            await bench.clock.sleep(0.001)

    consumers = [asyncio.create_task(bench.consume(0.003)) for _ in range(10)]
    await asyncio.gather(*(produce(number) for number in range(50)))
    if drain:
        await bench.queue.shutdown_with_drain()
    else:
        await bench.clock.sleep(10)
        bench.queue.shutdown()
    bench.queue.add("added after shutdown")
    await asyncio.gather(*consumers)
    counted = Counter(key for _, key in bench.got)
    assert set(counted.values()) == {1}
    assert len(counted) == 1000


@pytest.mark.conforms("client-go workqueue TestAddWhileProcessing")
async def test_a_key_added_while_held_comes_again(bench: Bench) -> None:
    runs: list[float] = []

    async def consume() -> None:
        while (item := await bench.queue.get()) is not None:
            runs.append(bench.clock.now())
            if len(runs) < 5:
                bench.queue.add(item.key)
            await bench.clock.sleep(1)
            bench.queue.done(item.key)

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    bench.queue.add("a")
    await bench.clock.sleep(20)
    bench.queue.shutdown()
    await asyncio.gather(*consumers)
    assert runs == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.conforms("client-go workqueue TestLen", "client-go workqueue TestCollapse")
async def test_equal_adds_are_one_entry(bench: Bench) -> None:
    bench.queue.add("a")
    assert len(bench.queue) == 1
    bench.queue.add("b")
    assert len(bench.queue) == 2
    bench.queue.add("a")
    assert len(bench.queue) == 2
    assert [await bench.take(), await bench.take()] == ["a", "b"]
    assert bench.queue.get_nowait() is None


@pytest.mark.conforms("client-go workqueue TestReinsert", "client-go workqueue TestCollapseWhileProcessing")
@pytest.mark.parametrize("adds", [1, 5])
async def test_adds_while_held_are_one_more_run_after_done(bench: Bench, adds: int) -> None:
    bench.queue.add("a")
    assert await bench.take() == "a"
    for _ in range(adds):
        bench.queue.add("a")
    assert bench.queue.get_nowait() is None
    bench.queue.done("a")
    assert await bench.take() == "a"
    bench.queue.done("a")
    assert bench.queue.get_nowait() is None
    assert len(bench.queue) == 0


@pytest.mark.conforms("client-go workqueue TestQueueDrainageUsingShutDownWithDrain")
async def test_a_drain_waits_for_what_is_held(bench: Bench) -> None:
    for key in ("a", "b"):
        bench.queue.add(key)
    held = [await bench.take(), await bench.take()]
    bench.clock.call_later(3, bench.queue.done, held[0])
    bench.clock.call_later(7, bench.queue.done, held[1])
    await bench.queue.shutdown_with_drain()
    assert bench.clock.now() == 7.0


@pytest.mark.conforms("client-go workqueue TestNoQueueDrainageUsingShutDown")
async def test_a_shutdown_returns_with_work_in_flight(bench: Bench) -> None:
    bench.queue.add("a")
    await bench.take()
    bench.queue.shutdown()
    assert bench.clock.now() == 0.0
    assert await bench.queue.get() is None
    bench.queue.done("a")


@pytest.mark.conforms("client-go workqueue TestForceQueueShutdownUsingShutDown")
async def test_a_shutdown_ends_a_drain(bench: Bench) -> None:
    bench.queue.add("a")
    await bench.take()
    bench.clock.call_later(5, bench.queue.shutdown)
    await bench.queue.shutdown_with_drain()
    assert bench.clock.now() == 5.0


@pytest.mark.conforms("client-go workqueue TestQueueDrainageUsingShutDownWithDrainWithDirtyItem")
async def test_a_drain_waits_for_keys_added_again_while_held(bench: Bench) -> None:
    bench.queue.add("a")
    await bench.take()
    bench.queue.add("a")
    consumer = asyncio.create_task(bench.consume(hold=4))
    bench.clock.call_later(3, bench.queue.done, "a")
    await bench.queue.shutdown_with_drain()
    assert bench.clock.now() == 7.0
    assert bench.got == [(3.0, "a")]
    await consumer


@pytest.mark.conforms("client-go workqueue TestGarbageCollection")
async def test_a_finished_key_is_let_go(bench: Bench) -> None:
    class Key:
        pass

    key = Key()
    gone = weakref.ref(key)
    bench.queue.add(key, rate_limited=True)
    assert await bench.take() is key
    bench.queue.add(key, after=3)
    bench.queue.done(key)
    assert await bench.take() is key
    bench.queue.done(key)
    bench.queue.forget(key)
    del key
    gc.collect()
    assert gone() is None


@pytest.mark.conforms("client-go workqueue TestSimpleQueue")
async def test_a_delayed_key_comes_at_its_time_and_once(bench: Bench) -> None:
    bench.queue.add("a", after=0.05)
    assert bench.queue.get_nowait() is None
    assert await bench.take() == "a"
    assert bench.clock.now() == 0.05
    bench.queue.done("a")
    await bench.clock.sleep(100)
    assert bench.queue.get_nowait() is None


@pytest.mark.conforms("client-go workqueue TestDeduping")
@pytest.mark.parametrize("delays", [(0.05, 0.07), (0.07, 0.05)])
async def test_the_earlier_of_two_delays_counts_and_only_once(
    bench: Bench, delays: tuple[float, float]
) -> None:
    consumer = asyncio.create_task(bench.consume())
    for delay in delays:
        bench.queue.add("a", after=delay)
    await bench.clock.sleep(10)
    assert bench.got == [(0.05, "a")]
    bench.queue.shutdown()
    await consumer


@pytest.mark.conforms("client-go workqueue TestAddTwoFireEarly")
async def test_a_shorter_delay_added_later_comes_first(bench: Bench) -> None:
    consumer = asyncio.create_task(bench.consume())
    bench.queue.add("first", after=1)
    bench.queue.add("second", after=0.05)
    await bench.clock.sleep(0.5)
    bench.queue.add("third", after=2)
    await bench.clock.sleep(10)
    assert bench.got == [(0.05, "second"), (1.0, "first"), (2.5, "third")]
    bench.queue.shutdown()
    await consumer


@pytest.mark.conforms("client-go workqueue TestCopyShifting")
async def test_keys_delayed_in_reverse_order_come_by_time(bench: Bench) -> None:
    for name, delay in (("third", 1), ("second", 0.5), ("first", 0.25)):
        bench.queue.add(name, after=delay)
    await bench.clock.sleep(2)
    assert [await bench.take() for _ in range(3)] == ["first", "second", "third"]


@pytest.mark.conforms("client-go workqueue TestItemExponentialFailureRateLimiter")
def test_delays_double_up_to_the_cap() -> None:
    limiter = ItemExponential(0.001, 1.0)
    assert [limiter.when("one") for _ in range(5)] == [0.001, 0.002, 0.004, 0.008, 0.016]
    assert [limiter.when("two") for _ in range(2)] == [0.001, 0.002]
    assert (limiter.failures("one"), limiter.failures("two")) == (5, 2)
    limiter.forget("one")
    assert limiter.failures("one") == 0
    assert limiter.when("one") == 0.001
    assert max(limiter.when("two") for _ in range(30)) == 1.0


@pytest.mark.conforms("client-go workqueue TestItemExponentialFailureRateLimiterOverFlow")
@pytest.mark.parametrize(("base", "cap"), [(0.001, 1000.0), (60.0, 1000.0), (1e-9, 1e9)])
def test_thousands_of_failures_wait_for_the_cap(base: float, cap: float) -> None:
    limiter = ItemExponential(base, cap)
    for _ in range(5000):
        limiter.when("a")
    assert limiter.when("a") == cap


@pytest.mark.conforms("client-go workqueue TestItemFastSlowRateLimiter")
def test_three_fast_tries_then_slow_ones() -> None:
    limiter = ItemFastSlow(0.005, 10.0, 3)
    assert [limiter.when("one") for _ in range(5)] == [0.005, 0.005, 0.005, 10.0, 10.0]
    assert [limiter.when("two") for _ in range(2)] == [0.005, 0.005]
    limiter.forget("one")
    assert (limiter.failures("one"), limiter.when("one")) == (0, 0.005)


@pytest.mark.conforms("client-go workqueue TestMaxOfRateLimiter")
def test_the_longest_of_several_delays() -> None:
    limiter = MaxOf(ItemFastSlow(0.005, 3.0, 3), ItemExponential(0.001, 1.0))
    assert [limiter.when("one") for _ in range(5)] == [0.005, 0.005, 0.005, 3.0, 3.0]
    assert limiter.failures("one") == 5
    limiter.forget("one")
    assert (limiter.failures("one"), limiter.when("one")) == (0, 0.005)


@pytest.mark.conforms("client-go workqueue TestWithMaxWaitRateLimiter")
def test_a_delay_that_is_cut_off() -> None:
    inner: RateLimiter = ItemExponential(5.0, 1000.0)
    limiter = MaxWait(inner, 20.0)
    assert [limiter.when("a") for _ in range(4)] == [5.0, 10.0, 20.0, 20.0]
    assert limiter.failures("a") == 4


@pytest.mark.conforms("client-go workqueue TestRateLimitingQueue")
async def test_rate_limited_adds_wait_and_forget_starts_anew(bench: Bench) -> None:
    moments = []
    for _ in range(4):
        bench.queue.add("a", rate_limited=True)
        await bench.take()
        moments.append(bench.clock.now())
        bench.queue.done("a")
    assert moments == [1.0, 3.0, 7.0, 15.0]
    assert bench.queue.failures("a") == 4
    bench.queue.forget("a")
    bench.queue.add("a", rate_limited=True)
    await bench.take()
    assert bench.clock.now() == 16.0


@pytest.mark.conforms("client-go workqueue TestMetrics")
async def test_metrics_follow_the_clock(virtual_clock: VirtualClock) -> None:
    numbers = RuntimeMetrics(virtual_clock.now)
    queue: WorkQueue[str] = WorkQueue(virtual_clock, metrics=numbers.queue("test"))

    def sample(name: str) -> float:
        wanted = f"workqueue_{name}"
        return sum(
            each.value
            for family in numbers.collect()
            for each in family.samples
            if each.name == wanted and each.labels["name"] == "test"
        )

    queue.add("a")
    assert (sample("adds_total"), sample("depth")) == (1, 1)
    await virtual_clock.sleep(0.25)
    await queue.get()
    assert (sample("depth"), sample("queue_duration_seconds_sum")) == (0, 0.25)
    queue.add("a")
    queue.add("a")
    assert (sample("adds_total"), sample("depth")) == (2, 1)
    await virtual_clock.sleep(2)
    assert sample("unfinished_work_seconds") == 2.0
    assert sample("longest_running_processor_seconds") == 2.0
    queue.add("b")
    await queue.get()
    await virtual_clock.sleep(1)
    assert sample("unfinished_work_seconds") == 4.0
    assert sample("longest_running_processor_seconds") == 3.0
    queue.done("a")
    assert sample("work_duration_seconds_sum") == 3.0
    assert sample("work_duration_seconds_count") == 1
    assert sample("unfinished_work_seconds") == 1.0
    assert await queue.get() == Item("a", 0)
    assert sample("queue_duration_seconds_sum") == 3.25
    queue.shutdown()
