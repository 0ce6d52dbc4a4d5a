"""Tests of kube-rs's scheduler and runner that say something about this queue and these controllers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fakeapi import FakeApi
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.manager import Manager
from kaito.runtime.resources import CONFIGMAPS, ObjectKey
from kaito.runtime.result import Result
from kaito.runtime.testing import VirtualClock
from kaito.runtime.transport import Request
from kaito.runtime.workqueue import WorkQueue


@pytest.fixture
async def queue(virtual_clock: VirtualClock) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(virtual_clock)
    yield queue
    queue.shutdown()


@pytest.mark.conforms(
    "kube-rs scheduler_dedupe_should_keep_earlier_item", "kube-rs scheduler_dedupe_should_replace_later_item"
)
@pytest.mark.parametrize("delays", [(1.0, 4.0), (4.0, 1.0)])
async def test_the_earlier_of_two_times_counts(
    queue: WorkQueue[str], virtual_clock: VirtualClock, delays: tuple[float, float]
) -> None:
    for delay in delays:
        queue.add("a", after=delay)
    item = await queue.get()
    assert item is not None
    assert virtual_clock.now() == 1.0
    queue.done(item.key)
    await virtual_clock.sleep(10)
    assert queue.get_nowait() is None


@pytest.mark.conforms("kube-rs scheduler_should_allow_rescheduling_emitted_item")
async def test_a_key_that_was_handed_out_can_be_queued_again(
    queue: WorkQueue[str], virtual_clock: VirtualClock
) -> None:
    moments = []
    queue.add("a", after=1)
    for _ in range(3):
        item = await queue.get()
        assert item is not None
        moments.append(virtual_clock.now())
        queue.add("a", after=1)
        queue.done("a")
    assert moments == [1.0, 2.0, 3.0]


@pytest.mark.conforms("kube-rs scheduler_pending_message_should_not_block_head_of_line")
async def test_a_held_key_that_is_due_again_blocks_nobody(
    queue: WorkQueue[str], virtual_clock: VirtualClock
) -> None:
    queue.add("held")
    await queue.get()
    queue.add("held", after=1)
    queue.add("other", after=2)
    item = await queue.get()
    assert item is not None
    assert (virtual_clock.now(), item.key) == (2.0, "other")
    queue.done("held")
    again = queue.get_nowait()
    assert again is not None
    assert again.key == "held"


@pytest.mark.conforms(
    "kube-rs runner_should_never_run_two_instances_at_once",
    "kube-rs runner_should_respect_max_concurrent_executions",
)
async def test_no_key_twice_at_a_time_and_no_more_than_the_workers(virtual_clock: VirtualClock) -> None:
    api = FakeApi(virtual_clock)
    manager = Manager(api.client(), clock=virtual_clock)
    running: list[str] = []
    most = 0

    async def reconcile(key: ObjectKey) -> Result | None:
        nonlocal most
        assert key.name not in running
        running.append(key.name)
        most = max(most, len(running))
        await virtual_clock.sleep(0.3)
        running.remove(key.name)
        return None

    options = ControllerOptions(workers=3)
    controller = Controller("c", reconcile, primary=CONFIGMAPS, options=options)
    manager.add(controller)
    stop = asyncio.Event()
    task = asyncio.create_task(manager.run(stop))
    for _ in range(100):
        for name in "abcde":
            controller.enqueue(ObjectKey("n", name))
        await virtual_clock.sleep(0.1)
    stop.set()
    await task
    assert most == 3


@pytest.mark.conforms("kube-rs runner_should_dedupe_while_waiting_for_readiness")
async def test_adds_before_the_start_are_one_reconcile(virtual_clock: VirtualClock) -> None:
    api = FakeApi(virtual_clock)
    api.put(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "n"}})
    manager = Manager(api.client(), clock=virtual_clock)
    calls: list[tuple[float, str]] = []

    async def slow_list(request: Request) -> None:
        await virtual_clock.sleep(5)

    async def reconcile(key: ObjectKey) -> Result | None:
        calls.append((virtual_clock.now(), key.name))
        return None

    api.before = slow_list
    controller = Controller("c", reconcile, primary=CONFIGMAPS)
    manager.add(controller)
    stop = asyncio.Event()
    task = asyncio.create_task(manager.run(stop))
    for _ in range(4):
        controller.enqueue(ObjectKey("n", "a"))
        await virtual_clock.sleep(1)
    await virtual_clock.sleep(10)
    stop.set()
    await task
    assert calls == [(5.0, "a")]
