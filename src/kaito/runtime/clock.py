"""The only place that knows where time comes from.

Everything that waits or stamps takes a `Clock`, so that a test can run hours of back-off in milliseconds and
assert the exact second at which something happened. The linter bans `asyncio.sleep`, `asyncio.timeout`,
`time.time` and their like everywhere but in this module.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self


class TimerHandle(Protocol):
    """A callback that has been scheduled and can still be taken back."""

    def cancel(self) -> None:
        """Forget the callback; harmless when it has already run."""


class Clock(Protocol):
    """Source of time. Durations and `now` are in seconds."""

    real_time: bool
    """Seconds pass by themselves, for other threads and processes too; False under virtual time."""

    def now(self) -> float:
        """Monotonic seconds since an arbitrary start; only differences mean anything."""

    def wall(self) -> datetime:
        """The time of day as an aware UTC datetime, for stamps that other programs read."""

    async def sleep(self, delay: float) -> None:
        """Wait for `delay` seconds; zero or less gives other tasks one turn."""

    def timeout(self, delay: float | None) -> AbstractAsyncContextManager[Any]:
        """Cancel the body after `delay` seconds and raise TimeoutError; None means no limit.

        The value bound by `as` is an `asyncio.Timeout`, so a body may `reschedule(clock.now() + delay)`.
        """

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> TimerHandle:
        """Call `callback(*args)` from the event loop after `delay` seconds."""


class _Timeout(asyncio.Timeout):  # type: ignore[misc]  # final, but the fault below must be mended somewhere
    """`asyncio.timeout` as Python 3.11.3 mended it, for 3.11.0 to 3.11.2 (Debian 12 has 3.11.2).

    There a timeout that expires in a task that has been cancelled before, as in every clean-up with a deadline, comes
    out as CancelledError instead of TimeoutError.
    """

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        self._cancelled_before = 0 if task is None else task.cancelling()
        await super().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        task = asyncio.current_task()
        ours_alone = task is not None and task.cancelling() <= self._cancelled_before
        if self.expired() and kind is asyncio.CancelledError and ours_alone:
            raise TimeoutError from error


class LoopClock:
    """The clock of the running event loop, with the system's time of day."""

    real_time = True
    _loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        # Asking for the running loop costs a system call on Python 3.11, and queues read the time for every key.
        loop = self._loop
        if loop is None or not loop.is_running():
            loop = self._loop = asyncio.get_running_loop()
        return loop.time()

    def wall(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(delay)

    def timeout(self, delay: float | None) -> asyncio.Timeout:
        if sys.version_info >= (3, 11, 3):
            return asyncio.timeout(delay)
        loop = asyncio.get_running_loop()
        return _Timeout(None if delay is None else loop.time() + delay)

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> TimerHandle:
        return asyncio.get_running_loop().call_later(delay, callback, *args)


def rfc3339(moment: datetime) -> str:
    """Kubernetes' `metav1.Time`: UTC, whole seconds, e.g. `2026-11-21T13:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment: datetime) -> str:
    """Kubernetes' `metav1.MicroTime` (Lease, Event): UTC with six digits, e.g.

    `2026-11-21T13:00:00.000000Z`.
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Read either of the two formats above, with any offset; ValueError when it is neither."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no offset; Kubernetes writes UTC with a trailing Z")
    return moment.astimezone(UTC)
