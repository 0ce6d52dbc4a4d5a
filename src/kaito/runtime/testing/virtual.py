"""Time that jumps.

`VirtualEventLoop` runs like any event loop until nothing is ready; then, instead of waiting for the next
timer, it sets its clock to exactly that timer's moment. A test of thirty minutes of back-off takes
milliseconds, and `clock.now()` can be compared with `==`. Sockets live in real time and are refused; threads
of the default executor are waited for.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
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
    """An event loop whose time starts at 0.0 and passes only while everything waits."""

    def __init__(self) -> None:
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


class VirtualClock(LoopClock):
    """The clock of a `VirtualEventLoop`: `now()` starts at 0.0, `wall()` at `EPOCH`."""

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now())


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` to its end in a new virtual event loop and return its result."""
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        return runner.run(main())
