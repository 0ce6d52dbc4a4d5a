"""Virtual time: exact moments, threads waited for, sockets refused, dead ends found."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from kaito.runtime.clock import LoopClock
from kaito.runtime.testing import JumpingClock, VirtualClock, VirtualDeadlock, VirtualEventLoop, run_virtual
from kaito.runtime.testing.virtual import EPOCH


async def test_time_starts_at_zero_and_jumps_exactly(virtual_clock: VirtualClock) -> None:
    assert virtual_clock.now() == 0.0
    await virtual_clock.sleep(75.0)
    assert virtual_clock.now() == 75.0
    await virtual_clock.sleep(30 * 86400.0)
    assert virtual_clock.now() == 75.0 + 30 * 86400
    assert (virtual_clock.wall() - EPOCH).total_seconds() == virtual_clock.now()


async def test_timers_fire_in_order_of_their_times(virtual_clock: VirtualClock) -> None:
    seen: list[tuple[str, float]] = []
    for name, delay in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        virtual_clock.call_later(delay, lambda name=name: seen.append((name, virtual_clock.now())))
    await virtual_clock.sleep(10)
    assert seen == [("a", 1.0), ("b", 2.0), ("c", 3.0)]


async def test_timeout_ends_at_its_moment(virtual_clock: VirtualClock) -> None:
    with pytest.raises(TimeoutError):
        async with virtual_clock.timeout(12.5):
            await asyncio.Event().wait()
    assert virtual_clock.now() == 12.5


async def test_a_deadline_holds_in_the_clean_up_of_a_cancelled_task(virtual_clock: VirtualClock) -> None:
    async def work() -> float:
        try:
            await virtual_clock.sleep(100)
        finally:
            with pytest.raises(TimeoutError):
                async with virtual_clock.timeout(2):
                    await virtual_clock.sleep(50)
            cleaned_up.append(virtual_clock.now())
        return 0

    cleaned_up: list[float] = []
    task = asyncio.create_task(work())
    await virtual_clock.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned_up == [3]


async def test_a_thread_is_waited_for_without_time_passing(virtual_clock: VirtualClock) -> None:
    timer = virtual_clock.call_later(1000, lambda: None)
    gate = threading.Event()
    threading.Timer(0.05, gate.set).start()
    assert await asyncio.to_thread(gate.wait, 10)
    assert virtual_clock.now() == 0.0
    timer.cancel()


def test_a_dead_end_is_an_error_and_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(VirtualDeadlock, match="at t=0 every task waits"):
        run_virtual(main)


def test_sockets_are_refused() -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            await asyncio.get_running_loop().sock_recv(left, 1)

    with pytest.raises(RuntimeError, match="virtual time cannot wait for a socket"):
        run_virtual(main)


def order_of_tasks(seed: int | None) -> str:
    """The order in which eight tasks start, then wake from one event, then from one moment."""
    told: list[str] = []

    async def member(name: str, gate: asyncio.Event) -> None:
        told.append(name)
        await gate.wait()
        told.append(name)
        await VirtualClock().sleep(5)
        told.append(name)

    async def main() -> None:
        gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for name in "abcdefgh":
                group.create_task(member(name, gate))
            await VirtualClock().sleep(1)
            gate.set()

    run_virtual(main, seed=seed)
    return "".join(told)


def test_a_seed_shuffles_which_task_goes_first_and_nothing_else() -> None:
    plain = order_of_tasks(None)
    assert plain[:16] == "abcdefgh" * 2
    seen = {order_of_tasks(seed) for seed in range(10)}
    assert len(seen) == 10
    for told in seen:
        thirds = told[:8], told[8:16], told[16:]
        assert all(sorted(third) == list("abcdefgh") for third in thirds)
        assert len({*thirds, "abcdefgh", plain[16:]}) == 5, "each of the three places is shuffled"
    assert order_of_tasks(3) == order_of_tasks(3)


@pytest.mark.parametrize("seed", range(5))
def test_callbacks_keep_the_order_that_asyncio_promises(seed: int) -> None:
    async def main() -> list[int]:
        told: list[int] = []
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        for number in range(10):
            loop.call_soon(told.append, number)
            future.add_done_callback(lambda _, number=number: told.append(100 + number))
            loop.call_later(1 + number / 1000, told.append, 200 + number)
        future.set_result(None)
        await VirtualClock().sleep(2)
        return told

    told = run_virtual(main, seed=seed)
    assert told == [base + number for base in (0, 100, 200) for number in range(10)]


@pytest.mark.parametrize("seed", range(5))
def test_a_cancelled_timer_stays_cancelled(seed: int) -> None:
    async def main() -> list[str]:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        timers = {name: loop.call_at(3, told.append, name) for name in "abcdef"}
        timers["b"].cancel()
        loop.call_at(2, timers["e"].cancel)
        await VirtualClock().sleep(4)
        return sorted(told)

    assert run_virtual(main, seed=seed) == ["a", "c", "d", "f"]


async def test_the_time_of_day_can_jump_alone(virtual_clock: VirtualClock) -> None:
    woken: list[float] = []
    virtual_clock.call_later(10, lambda: woken.append(virtual_clock.now()))
    virtual_clock.jump_wall(3600)
    assert (virtual_clock.wall() - EPOCH).total_seconds() == 3600
    virtual_clock.jump_wall(-7200)
    await virtual_clock.sleep(20)
    assert (virtual_clock.wall() - EPOCH).total_seconds() == 20 - 3600
    assert woken == [10]


async def test_the_time_of_day_can_jump_in_real_time_too() -> None:
    clock = JumpingClock()
    clock.jump_wall(3600)
    ahead = clock.wall() - LoopClock().wall()
    assert 3599 < ahead.total_seconds() <= 3600
    clock.jump_wall(-3600)
    assert abs((clock.wall() - LoopClock().wall()).total_seconds()) < 1


async def test_other_tests_keep_the_real_loop() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualEventLoop)
    assert LoopClock().now() == pytest.approx(asyncio.get_running_loop().time(), abs=1)
