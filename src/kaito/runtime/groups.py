"""What a manager runs, in groups that start and stop together.

The order of the groups is controller-runtime's (pkg/manager/runnable_group.go): whoever is asked for something
runs before those who ask. A group that has been stopped starts nothing any more, so a replica that is told to
stop while it waits for the lease never begins to reconcile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import Enum

from kaito.runtime.clock import Clock
from kaito.runtime.logs import describe

Run = Callable[[], Awaitable[None]]


LAST_WAIT = 1.0
"""Seconds for what ignored the end of the grace period to end after all, before it is left alone."""


class Group(Enum):
    """When something runs. Started in this order; stopped: EVERY_REPLICA, WARMUP, LEADER, CACHES, WEBHOOKS, SERVERS.

    A runnable may say where it belongs with an attribute `group`.
    """

    SERVERS = "servers"
    """Probes and metrics: up before anything else, so that the start can be watched."""
    WEBHOOKS = "webhooks"
    """Admission and conversion: the API server may need them before it can answer the caches' lists."""
    CACHES = "caches"
    """Informers, and event recorders, which outlive the controllers that use them."""
    EVERY_REPLICA = "every replica"
    """Whatever runs with or without the lease."""
    WARMUP = "warm-up"
    """What controllers do before they have the lease."""
    LEADER = "leader"
    """Controllers, and whatever else must run only once."""


class RunGroup:
    """Runnables that start and stop together."""

    def __init__(self, clock: Clock, on_failure: Callable[[Exception], None]) -> None:
        """`on_failure` is told of every runnable that ends with an exception."""
        self._clock = clock
        self._on_failure = on_failure
        self._waiting: list[Run] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._readiness: list[Run] = []
        self._started = False
        self._stopped = False

    def add(self, run: Run, ready: Run | None = None) -> None:
        """Adds something that starts with the group, or at once if that has started.

        `ready` returns when others may rely on it. Raises RuntimeError once the group was stopped.
        """
        if self._stopped:
            raise RuntimeError("the manager is stopping: nothing can be added any more")
        self._waiting.append(run)
        if ready is not None:
            self._readiness.append(ready)
        if self._started:
            self.start()

    def start(self) -> None:
        """Starts what waits; does nothing once the group was stopped, so nothing starts late."""
        if self._stopped:
            return
        self._started = True
        for run in self._waiting:
            task = asyncio.create_task(_run(run), name=_name_of(run))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)
        self._waiting.clear()

    def close(self) -> None:
        """Takes and starts nothing more; what runs goes on until `stop`, and may end as it likes."""
        self._stopped = True

    async def wait_ready(self) -> None:
        """Returns when everything is ready that said how to find out."""
        for ready in self._readiness:
            await ready()

    async def stop(self, deadline: float | None) -> list[str]:
        """Cancels all and waits; at the deadline (clock reading, None: never) cancels again.

        Returns the names of those that were late.
        """
        self.close()
        tasks = set(self._tasks)
        if not tasks:
            return []
        for task in tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(
                None if deadline is None else max(0.0, deadline - self._clock.now())
            ):
                await asyncio.wait(tasks)
        late = {task for task in tasks if not task.done()}
        if late:
            for task in late:
                task.cancel()
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(LAST_WAIT):
                    await asyncio.wait(late)
        return [task.get_name() for task in late]

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if not self._stopped:
                self._on_failure(RuntimeError(f"{task.get_name()} ended as if cancelled, which nobody did"))
        elif isinstance(error := task.exception(), Exception):
            self._on_failure(error)
        elif error is not None:
            failure = RuntimeError(f"{task.get_name()} failed: {describe(error)}")
            failure.__cause__ = error
            self._on_failure(failure)


async def _run(run: Run) -> None:
    await run()


def _name_of(run: Run) -> str:
    owner = getattr(run, "__self__", None)
    return str(getattr(owner, "name", None) or type(owner).__name__)
