"""Time that jumps.

`VirtualEventLoop` runs like any event loop until nothing is ready; then, instead of waiting for the next
timer, it sets its clock to exactly that timer's moment. A test of thirty minutes of back-off takes
milliseconds, and `clock.now()` can be compared with `==`. Sockets live in real time and are refused; threads
of the default executor are waited for.

With a `seed` the loop also shakes out order assumptions. asyncio promises that callbacks run in the order in which
`call_soon` took them, so those keep their places; what it does not promise is shuffled, by a generator that the seed
fixes:

- which of the tasks that can go on in one iteration of the loop goes first, whether they are new or were woken;
- which of the timers set to exactly the same moment fires first.

So a program that is right in real time is right under every seed; one that leans on tasks starting in the order of
their creation, or waking in the order of their waiting, fails under some.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from kaito.runtime.clock import LoopClock

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of day at which every virtual clock starts."""


class VirtualDeadlock(RuntimeError):
    """Every task waits and no timer is set: in real time this program would hang for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Polls, and moves its loop's time instead of blocking."""

    def __init__(self, loop: VirtualEventLoop) -> None:
        super().__init__()
        self._virtual_loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._poll(timeout)
        self._virtual_loop.shuffle()  # the loop runs what is ready as soon as this returns
        return ready

    def _poll(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._virtual_loop.threads_busy:
            return super().select(None)
        if len(self.get_map()) > 1:  # one is the loop's own wake-up pipe
            raise RuntimeError(
                "virtual time cannot wait for a socket or a subprocess: use MemoryTransport here, "
                "or the real clock in this test"
            )
        self._virtual_loop.jump_to_next_timer()
        return []


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """An event loop whose time starts at 0.0 and passes only while everything waits.

    `seed`: shuffles what asyncio leaves undefined, see the module; None keeps asyncio's own order.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._random = None if seed is None else random.Random(seed)
        self._virtual_now = 0.0
        self.threads_busy = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._virtual_now

    def jump_to_next_timer(self) -> None:
        """Set the time to the earliest timer's. Raises VirtualDeadlock when there is none."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not timers:
            raise VirtualDeadlock(
                f"at t={self._virtual_now:g} every task waits for something that no timer will bring about"
            )
        self._virtual_now = max(self._virtual_now, timers[0].when())

    def shuffle(self) -> None:
        """Put the tasks that can go on now, and the timers of one moment, in an order of the seed."""
        if self._random is None:
            return
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        ready.extend(self._due_timers(self._random))
        places = [place for place in range(len(ready)) if _steps_a_task(ready[place])]
        steps = [ready[place] for place in places]
        self._random.shuffle(steps)
        for place, step in zip(places, steps, strict=True):
            ready[place] = step

    def _due_timers(self, generator: random.Random) -> list[asyncio.TimerHandle]:
        """Takes what the loop would take next from its heap of timers; those of one moment are shuffled."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        due: list[tuple[float, float, asyncio.TimerHandle]] = []
        while timers and timers[0].when() <= self._virtual_now:
            timer = heapq.heappop(timers)
            timer._scheduled = False  # type: ignore[attr-defined]
            due.append((timer.when(), generator.random(), timer))
        return [timer for *_, timer in sorted(due, key=lambda entry: entry[:2])]

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.threads_busy += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self.threads_busy += 1  # a helper thread joins the executor's threads
        try:
            await super().shutdown_default_executor()
        finally:
            self.threads_busy -= 1

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self.threads_busy -= 1


def _steps_a_task(handle: asyncio.Handle) -> bool:
    """Whether the handle starts a task or wakes one, as opposed to a callback that somebody registered."""
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # type: ignore[attr-defined]


class JumpingClock(LoopClock):
    """A clock whose time of day can jump, as that of a machine whose clock is corrected."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def wall(self) -> datetime:
        return super().wall() + self._offset

    def jump_wall(self, seconds: float) -> None:
        """Set the time of day forward by so many seconds, back if negative.

        `now()` and everything that waits go on as if nothing had happened.
        """
        self._offset += timedelta(seconds=seconds)


class VirtualClock(JumpingClock):
    """The clock of a `VirtualEventLoop`: `now()` starts at 0.0, `wall()` at `EPOCH`."""

    real_time = False

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now()) + self._offset


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run `main()` to its end in a new virtual event loop and return its result; `seed` as for the loop."""
    with asyncio.Runner(loop_factory=partial(VirtualEventLoop, seed)) as runner:
        return runner.run(main())
