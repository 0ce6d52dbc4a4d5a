"""controller-runtime's tests of its priority queue, in virtual time; and the queue against a short model."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaito.runtime.metrics import QueueMetrics
from kaito.runtime.ratelimit import ItemExponential
from kaito.runtime.testing import VirtualClock, VirtualEventLoop
from kaito.runtime.workqueue import LOW_PRIORITY, Item, WorkQueue


class Bench:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.metrics = QueueMetrics()
        self.queue: WorkQueue[Any] = WorkQueue(clock, limiter=ItemExponential(1, 1000), metrics=self.metrics)

    def rest(self) -> list[Any]:
        """All keys that can be had now, in order."""
        items = []
        while (item := self.queue.get_nowait()) is not None:
            items.append(item.key)
        return items

    def depth(self) -> dict[int, int]:
        return {priority: count for priority, count in self.metrics.depth.items() if count}

    async def next(self) -> tuple[float, Any]:
        """When the next key came, and which."""
        item = await self.queue.get()
        assert item is not None
        return self.clock.now(), item.key


@pytest.fixture
async def bench(virtual_clock: VirtualClock) -> AsyncIterator[Bench]:
    bench = Bench(virtual_clock)
    yield bench
    bench.queue.shutdown()


@pytest.mark.conforms(
    "controller-runtime priorityqueue doesn't return an item that is currently locked",
    "controller-runtime priorityqueue enqueues a locked item",
)
async def test_a_held_key_is_not_handed_out_and_keeps_nobody_waiting(bench: Bench) -> None:
    bench.queue.add("held")
    assert await bench.next() == (0.0, "held")
    bench.queue.add("held", priority=10)
    bench.queue.add("other")
    assert bench.rest() == ["other"]
    bench.queue.done("held")
    assert await bench.queue.get() == Item("held", 10)


@pytest.mark.conforms("controller-runtime priorityqueue returns an item as soon as it is unlocked")
async def test_a_waiting_worker_gets_the_key_with_its_done(bench: Bench) -> None:
    bench.queue.add("a")
    await bench.next()
    bench.queue.add("a")
    bench.clock.call_later(3, bench.queue.done, "a")
    assert await bench.next() == (3.0, "a")


@pytest.mark.conforms("controller-runtime priorityqueue de-duplicates items")
async def test_equal_adds_are_one_entry_and_one_counted_add(bench: Bench) -> None:
    for _ in range(3):
        bench.queue.add("a")
    assert bench.metrics.adds == 1
    assert bench.depth() == {0: 1}
    assert bench.rest() == ["a"]


@pytest.mark.conforms(
    "controller-runtime priorityqueue retains the highest priority",
    "controller-runtime priorityqueue will not decrease the priority",
)
@pytest.mark.parametrize("priorities", [(1, 2), (2, 1), (2, 1, 2, 0)])
async def test_the_highest_priority_counts(bench: Bench, priorities: tuple[int, ...]) -> None:
    for priority in priorities:
        bench.queue.add("a", priority=priority)
    assert bench.depth() == {2: 1}
    assert bench.metrics.adds == 1
    assert await bench.queue.get() == Item("a", 2)


@pytest.mark.conforms(
    "controller-runtime priorityqueue gets pushed to the front if the priority increases",
    "controller-runtime priorityqueue follows FIFO order when item priority changes",
)
async def test_raising_a_priority_moves_a_key_ahead_and_to_the_tail_of_its_new_class(bench: Bench) -> None:
    for key in ("a", "b", "c"):
        bench.queue.add(key)
    bench.queue.add("c", priority=1)
    assert bench.depth() == {0: 2, 1: 1}
    assert bench.metrics.adds == 3
    bench.queue.add("a", priority=1)
    assert bench.rest() == ["c", "a", "b"]
    assert bench.depth() == {}


@pytest.mark.conforms("controller-runtime priorityqueue retains the lowest after duration")
@pytest.mark.parametrize("delays", [(5.0, 1.0), (1.0, 5.0)])
async def test_the_shortest_delay_counts(bench: Bench, delays: tuple[float, float]) -> None:
    for delay in delays:
        bench.queue.add("a", after=delay)
    assert bench.metrics.adds == 0, "it is not ready yet"
    assert await bench.next() == (1.0, "a")
    assert bench.metrics.adds == 1


@pytest.mark.conforms(
    "controller-runtime priorityqueue TestGetFromPriorityQueueIsUnblockedOnShutdown",
    "controller-runtime priorityqueue TestPriorityQueueDoesNotDeadlockOnShutdownWhileHandingOutItems",
)
async def test_a_shutdown_wakes_everybody_also_in_the_middle_of_handing_out(bench: Bench) -> None:
    getters = [asyncio.create_task(bench.queue.get()) for _ in range(5)]
    await bench.clock.sleep(1)
    bench.queue.add("a")
    bench.queue.add("b")
    bench.queue.shutdown()
    assert await asyncio.gather(*getters) == [None] * 5
    assert await bench.queue.get() is None
    assert bench.clock.now() == 1.0


@pytest.mark.conforms("controller-runtime priorityqueue returns many items")
@pytest.mark.parametrize("seed", range(20))
async def test_many_keys_with_random_priorities_and_delays(bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    taken: Counter[int] = Counter()

    async def consume() -> None:
        for _ in range(10):
            item = await bench.queue.get()
            assert item is not None
            taken[item.key] += 1
            await bench.clock.sleep(rng.choice((0, 0.25)))
            bench.queue.done(item.key)

    consumers = [asyncio.create_task(consume()) for _ in range(100)]
    for key in range(1000):
        if rng.random() < 0.5:
            bench.queue.add(key, priority=rng.randint(0, 100))
        else:
            bench.queue.add(key, after=rng.randint(0, 100) / 1000)
    await asyncio.gather(*consumers)
    assert taken == Counter(range(1000))
    assert (len(bench.queue), bench.metrics.adds, bench.depth()) == (0, 1000, {})


@pytest.mark.conforms("controller-runtime priorityqueue metrics: item added with after then without")
@pytest.mark.parametrize(("priority", "expected"), [(0, {1: 1}), (5, {5: 1})])
async def test_the_depth_counts_a_key_from_when_it_is_ready(
    bench: Bench, priority: int, expected: dict[int, int]
) -> None:
    bench.queue.add("a", after=3600, priority=1)
    assert bench.depth() == {}
    bench.queue.add("a", priority=priority)
    assert bench.depth() == expected
    assert bench.metrics.adds == 1
    await bench.clock.sleep(7200)
    assert bench.depth() == expected
    assert bench.rest() == ["a"]
    assert bench.depth() == {}


@pytest.mark.conforms(
    "controller-runtime priorityqueue TestHighPriorityItemsAreReturnedBeforeLowPriorityItemMultipleTimes"
)
async def test_priority_beats_age_again_and_again(bench: Bench) -> None:
    for number in range(100):
        bench.queue.add(f"old {number}", priority=LOW_PRIORITY)
    order = []
    for number in range(20):
        bench.queue.add(f"new {number}")
        order.append((await bench.next())[1])
    assert order == [f"new {number}" for number in range(20)]
    assert bench.rest() == [f"old {number}" for number in range(100)]


@pytest.mark.conforms(
    "controller-runtime priorityqueue TestHighPriorityItemThatBecameReadyIsReturnedBeforeLowPriorityItem"
)
async def test_a_key_whose_time_has_come_is_ahead_of_older_ones_of_low_priority(bench: Bench) -> None:
    bench.queue.add("old", priority=LOW_PRIORITY)
    bench.queue.add("waited", after=1)
    await bench.clock.sleep(1)
    assert bench.rest() == ["waited", "old"]


@pytest.mark.conforms("controller-runtime priorityqueue TestItemIsOnlyReturnedAfterAfterHasPassed")
async def test_a_delayed_key_is_not_a_moment_early(bench: Bench) -> None:
    bench.queue.add("a", after=1)
    await bench.clock.sleep(0.999)
    assert bench.rest() == []
    assert await bench.next() == (1.0, "a")


@pytest.mark.conforms("controller-runtime priorityqueue TestItemIsReturnedAsSoonAsPossible")
async def test_a_nearer_delay_added_meanwhile_moves_the_timer(bench: Bench) -> None:
    bench.queue.add("far", after=100)
    getter = asyncio.create_task(bench.next())
    await bench.clock.sleep(1)
    bench.queue.add("near", after=2)
    assert await getter == (3.0, "near")
    assert await bench.next() == (100.0, "far")


@pytest.mark.conforms("controller-runtime priorityqueue TestMultipleItemsWithAfterAreReturnedInOrder")
async def test_several_delays_come_each_at_its_time(bench: Bench) -> None:
    for delay in (3, 1, 2):
        bench.queue.add(f"after {delay}", after=delay)
    assert [await bench.next() for _ in range(3)] == [(1.0, "after 1"), (2.0, "after 2"), (3.0, "after 3")]


@pytest.mark.conforms(
    "controller-runtime priorityqueue TestWhenAddingMultipleItemsWithRatelimitTrueTheyDontAffectEachOther"
)
async def test_each_key_has_its_own_delay(bench: Bench) -> None:
    bench.queue.add("a", rate_limited=True)
    assert await bench.next() == (1.0, "a")
    bench.queue.done("a")
    for key in ("a", "b", "c"):
        bench.queue.add(key, rate_limited=True)
    assert [await bench.next() for _ in range(3)] == [(2.0, "b"), (2.0, "c"), (3.0, "a")]


# -- a model -------------------------------------------------------------------------------------------------

KEYS = st.sampled_from("abcd")
PRIORITIES = st.integers(-2, 2)
DELAYS = st.sampled_from([0.0, 1.0, 2.0, 5.0])


class QueueAgainstModel(RuleBasedStateMachine):
    """The queue does what sorted lists would do."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualEventLoop()
        self.bench = Bench(VirtualClock())
        self.queued: dict[str, list[Any]] = {}  # key -> [priority, place in line, when ready | None: it is]
        self.held: dict[str, int] = {}
        self.now, self.places = 0.0, 0

    def in_loop(self, function: Any, *arguments: Any, **named: Any) -> Any:
        async def call() -> Any:
            return function(*arguments, **named)

        return self.loop.run_until_complete(call())

    def model_add(self, key: str, priority: int, ready_at: float | None) -> None:
        entry = self.queued.setdefault(key, [priority, 0, ready_at])
        new, raised = entry[1] == 0, priority > entry[0]
        sooner = entry[2] is not None and (ready_at is None or ready_at < entry[2])
        self.places += 1
        if new or sooner or (raised and entry[2] is None):
            entry[1] = self.places
        entry[0] = max(entry[0], priority)
        entry[2] = ready_at if new or sooner else entry[2]

    @rule(key=KEYS, priority=PRIORITIES, delay=DELAYS)
    def add(self, key: str, priority: int, delay: float) -> None:
        self.in_loop(self.bench.queue.add, key, after=delay, priority=priority)
        self.model_add(key, priority, self.now + delay if delay else None)

    @rule()
    def get(self) -> None:
        ready = [(-p, place, key) for key, (p, place, at) in self.queued.items() if at is None]
        expected = min((each for each in ready if each[2] not in self.held), default=None)
        item = self.in_loop(self.bench.queue.get_nowait)
        assert item == (None if expected is None else Item(expected[2], -expected[0]))
        if expected is not None:
            self.held[expected[2]] = -expected[0]
            del self.queued[expected[2]]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), delay=st.sampled_from([None, 1.0, 3.0]))
    def give_back(self, data: st.DataObject, delay: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        priority = self.held.pop(key)
        if delay is None:
            self.in_loop(self.bench.queue.done, key)
        else:
            self.in_loop(self.bench.queue.put_back, Item(key, priority), delay)
            self.model_add(key, priority, self.now + delay)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(self.bench.clock.sleep(seconds))
        self.now += seconds
        due = [(at, place, key) for key, (_, place, at) in self.queued.items() if at is not None]
        for _, _, key in sorted(each for each in due if each[0] <= self.now):
            self.places += 1
            self.queued[key][1:] = [self.places, None]

    @invariant()
    def counts_agree(self) -> None:
        ready = Counter(priority for priority, _, at in self.queued.values() if at is None)
        assert self.bench.depth() == ready
        assert len(self.bench.queue) == ready.total()
        assert len(list(self.bench.metrics.starts())) == len(self.held)

    def teardown(self) -> None:
        self.in_loop(self.bench.queue.shutdown)
        self.loop.close()


TestQueueAgainstModel = pytest.mark.conforms("controller-runtime priorityqueue TestFuzzPriorityQueue")(
    QueueAgainstModel.TestCase
)
TestQueueAgainstModel.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
