"""Finds the line of a reconcile that keeps the whole event loop waiting.

One blocking call in one reconcile (a synchronous HTTP request, `time.sleep`, a large computation) stops every
other reconcile, all watches and the renewal of the lease. Asyncio's debug mode would tell which task it was, and
costs too much to be left on. Here a thread asks the loop for an answer every now and then; when none comes, it
looks where the loop's thread is. A reconcile pays nothing for that, and while nothing is reconciled the thread
sleeps without a timer.

C code that holds the interpreter lock stops this thread as well. The lock is handed over right after such a
call, so the loop's thread is then still at the line that made it; that the process was working meanwhile is
told from its CPU time, so a suspended machine accuses nobody.

Nothing here is accurate below a quarter of the limit: what blocks for less than 1.25 times the limit may be
missed. Time is read from `os.times`, whose step is about 10 ms, because a loop's own clock may stand still while
it is blocked. Under virtual time nothing blocks and no thread runs (see `Clock.real_time`).
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType

from kaito.runtime.logs import ReconcileContext, current_reconcile, get_logger
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.places import RUNTIME, describe_line, users_line

CHECKS_PER_LIMIT = 4
"""How often within the limit the thread looks for an answer."""
IDLE_CHECKS = 40
"""Checks without any reconcile after which the thread sleeps until it is woken."""
STILL_BLOCKED = 10
"""Multiples of the limit after which a block is reported although it has not ended: it may never end."""

log = get_logger(__name__)

_HANDLE_RUN: CodeType = asyncio.Handle._run.__code__


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where the event loop's thread was, inside a reconcile."""

    context: ReconcileContext
    at: str
    """The innermost line of the user's own code, as `file.py:12 in function`."""
    file: str
    """Path of that file."""
    inside: str
    """The innermost line of all, where that is another one; else ""."""


class LoopWatchdog:
    """Watches the running event loop for reconciles that block it.

    `limit` is in seconds; `numbers` gives the metrics of the controllers that are counted, by name.
    """

    name = "loop-watchdog"

    def __init__(self, limit: float, numbers: Callable[[], Mapping[str, ControllerMetrics]]) -> None:
        self.asleep = False
        """Nothing has been reconciled for a while: whoever begins to must call `wake`."""
        self._limit = limit
        self._interval = limit / CHECKS_PER_LIMIT
        self._numbers = numbers
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._answered = 0
        self._answered_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._checked = self._cpu = 0.0  # readings of the last check

    def wake(self) -> None:
        """Looks again; called from the event loop."""
        self.asleep = False
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; the thread has ended when this returns."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._checked, self._cpu = _now(), _cpu()
        thread = threading.Thread(target=self._watch, name=self.name, daemon=True)
        thread.start()
        try:
            await self._loop.create_future()
        finally:
            self._stopping.set()
            self._woken.set()
            thread.join()

    # -- in the thread ---------------------------------------------------------------------------------------

    def _watch(self) -> None:
        asked, idle, before = 0, 0, 0
        while not self._stopping.is_set():
            done, active = self._activity()
            idle = 0 if active or done != before else idle + 1
            before = done
            if idle >= IDLE_CHECKS:
                self._sleep(done)
                idle = 0
                continue
            late = self._kept_out()
            if late >= self._limit:
                self._report(self._look(), late)
            asked += 1
            if not self._ask(asked):
                return
            self._wait_for(asked)

    def _activity(self) -> tuple[int, int]:
        """How many reconciles have ended, and how many are running."""
        numbers = list(self._numbers().values())
        return (
            sum(sum(each.results.values()) for each in numbers),
            sum(each.active_workers for each in numbers),
        )

    def _sleep(self, done: int) -> None:
        self._woken.clear()
        self.asleep = True
        if (
            self._activity() == (done, 0) and not self._stopping.is_set()
        ):  # else a reconcile began before it could see that we sleep
            self._woken.wait()
        self.asleep = False
        self._checked, self._cpu = _now(), _cpu()

    def _ask(self, number: int) -> bool:
        """Has the loop note `number` at its next turn. False when there is no loop any more."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._answer, number)
        except RuntimeError:
            return False
        return True

    def _answer(self, number: int) -> None:
        self._answered_at = _now()
        self._answered = number

    def _wait_for(self, number: int) -> None:
        """Returns when the loop has answered; reports what kept it from answering in time."""
        since = self._checked
        sighting: Sighting | None = None
        told = False
        while not self._stopping.is_set():
            before = self._checked
            late = self._pause()
            if late >= self._limit:
                self._report(self._look(), late)
                return
            if self._answered == number:
                if self._answered_at - since >= self._limit:
                    self._report(sighting, self._answered_at - since)
                return
            found = self._look()
            if found is None or sighting is None or found.context is not sighting.context:
                sighting, since = found, before  # it was not there at the last check
            elif self._checked - since < self._limit:
                sighting = found
            elif self._checked - since >= self._limit * STILL_BLOCKED and not told:
                told = True
                _warn("a reconcile is blocking the event loop", sighting, self._checked - since)

    def _pause(self) -> float:
        """Waits until the next check; returns the seconds for which C code kept this thread out."""
        late = self._kept_out()
        if late < self._limit:
            self._stopping.wait(self._interval)
            late = self._kept_out(self._interval)
        return late

    def _kept_out(self, waited: float = 0.0) -> float:
        """Seconds since the last check, less those waited, if the process worked in them; else 0.

        To be asked wherever this thread may just have got the interpreter lock: a moment later the loop's thread
        is somewhere else.
        """
        checked, cpu = self._checked, self._cpu
        self._checked, self._cpu = _now(), _cpu()
        return self._checked - checked - waited if self._cpu - cpu >= self._limit else 0.0

    def _look(self) -> Sighting | None:
        """Where the loop is, if that is inside a reconcile of one of our controllers."""
        frame = sys._current_frames().get(self._thread_id)
        frames = list(_outwards(frame))
        try:
            found = _reconcile_of(frames)
            if found is None or found[0].controller not in self._numbers():
                return None
            context, depth = found
            return _describe(context, frames[:depth]) if depth else None
        finally:
            frames.clear()  # frames keep their locals alive

    def _report(self, sighting: Sighting | None, seconds: float) -> None:
        if sighting is None:
            return
        numbers = self._numbers().get(sighting.context.controller)
        if numbers is not None:
            numbers.loop_blocked += 1
            numbers.loop_blocked_seconds += seconds
        _warn("a reconcile blocked the event loop", sighting, seconds)


def _warn(message: str, sighting: Sighting, seconds: float) -> None:
    context = sighting.context
    log.warning(
        message,
        at=sighting.at,
        seconds=round(seconds, 2),
        controller=context.controller,
        namespace=context.key.namespace or "",
        name=context.key.name,
        reconcileID=context.reconcile_id,
        file=sighting.file,
        **({"inside": sighting.inside} if sighting.inside else {}),
    )


def _now() -> float:
    """Seconds since an arbitrary moment."""
    return os.times().elapsed


def _cpu() -> float:
    """Seconds of CPU time of this process."""
    times = os.times()
    return times.user + times.system


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _reconcile_of(frames: list[FrameType]) -> tuple[ReconcileContext, int] | None:
    """Which reconcile is running, and how many of the frames (innermost first) belong to it.

    Every callback of a loop runs in a context, and a reconcile's context goes with the tasks that it starts.
    """
    for depth, frame in enumerate(frames):
        if frame.f_code is _HANDLE_RUN:
            handle = frame.f_locals.get("self")
            context = getattr(handle, "_context", None)
            reconcile = None if context is None else context.get(current_reconcile)
            return None if reconcile is None else (reconcile, depth)
        reconcile = frame.f_locals.get("reconcile_context") if frame.f_code.co_filename in _ENTRIES else None
        if isinstance(reconcile, ReconcileContext):  # loops without Python handles, such as uvloop's
            return reconcile, depth
    return None


_ENTRIES = frozenset({RUNTIME + "controller.py"})
"""Files whose frames have the running reconcile as a local variable `reconcile_context`."""


def _describe(context: ReconcileContext, frames: list[FrameType]) -> Sighting:
    """The user's line, and the innermost of all."""
    lines = [(frame.f_code, frame.f_lineno) for frame in frames]
    line = users_line(lines)
    at, innermost = describe_line(line), describe_line(lines[0])
    return Sighting(context, at, line[0].co_filename, "" if innermost == at else innermost)
