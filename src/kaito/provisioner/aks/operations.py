"""Starting operations on the cluster's pools, each in its turn, and reading pools, together where that saves calls.

Nothing here waits for an operation. What is remembered only saves calls: a process that starts anew asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from kaito.provisioner.aks import outcome
from kaito.provisioner.aks.cluster import ClusterGuard, ClusterSource
from kaito.provisioner.aks.pools import Phase, Pool, read_pool
from kaito.provisioner.aks.queue import LaunchQueue, Order, Wait
from kaito.provisioner.errors import (
    CloudError,
    InstanceNotFound,
    OperationInProgress,
    PreconditionFailed,
    Throttled,
    WaitingForTurn,
)
from kaito.runtime.clock import Clock
from kaito.runtime.logs import get_logger
from kaito.runtime.metrics import MetricSource

if TYPE_CHECKING:
    from kaito.provisioner.aks.arm import Answer, Operation

T = TypeVar("T")

TOGETHER: Final = 5.0
"""Seconds for which one listing of all pools answers everybody who waits for one of them."""

SOON: Final = 1.0
"""Seconds that anybody waits at least."""

READ: Final = "read"
MAKE: Final = "make"
DELETE: Final = "delete"
"""Requests that Azure counts apart."""

log = get_logger(__name__)


class PoolSource(ClusterSource, Protocol):
    """The part of Azure that is asked; see `arm.Arm`."""

    @property
    def metrics(self) -> MetricSource: ...
    async def get_pool(self, name: str) -> Answer: ...
    async def list_pools(self) -> list[Mapping[str, Any]]: ...
    async def put_pool(self, name: str, body: Mapping[str, Any], *, etag: str | None) -> Answer: ...
    async def delete_pool(self, name: str, *, etag: str | None) -> Answer: ...
    async def operation(self, url: str) -> Operation: ...
    def problem(self, detail: Mapping[str, Any]) -> CloudError: ...
    async def close(self) -> None: ...


class PoolOperations:
    """The pools of one cluster: reads, and operations that stand in line.

    cluster: its name, for messages. wake: called with the names of claims whose turn has come.
    """

    def __init__(
        self,
        arm: PoolSource,
        clock: Clock,
        guard: ClusterGuard,
        cluster: str,
        wake: Callable[[str], None],
    ) -> None:
        self.queue = LaunchQueue()
        self._arm = arm
        self._clock = clock
        self._guard = guard
        self._cluster = cluster
        self._wake = wake
        self._listing = asyncio.Lock()
        self._listed: dict[str, Pool] = {}
        self._listed_at = float("-inf")
        self._not_listed: tuple[CloudError, float] | None = None
        self._throttled: dict[str, tuple[Throttled, float]] = {}

    async def read(self, name: str) -> tuple[Pool | None, float | None]:
        """The pool as it is now, None if there is none, and the seconds after which Azure wants to be asked again."""
        try:
            answer = await self._ask(READ, lambda: self._arm.get_pool(name))
        except InstanceNotFound:
            self._saw(name, None)
            return None, None
        pool = read_pool(answer.body)
        self._saw(name, pool)
        return pool, answer.retry_after

    async def poll(self, name: str) -> Pool | None:
        """The pool as it was within the last seconds. Where several are waited for, one listing answers all.

        What is missing there or has failed is read by itself: only that proves absence, and says why.
        """
        async with self._listing:
            fresh = self._clock.now() < self._listed_at + TOGETHER
            if not fresh and self.queue.running > 1:
                await self._list_for_all()
                fresh = True
        pool = self._listed.get(name) if fresh else None
        if pool is None or pool.phase is Phase.FAILED:
            pool, _ = await self.read(name)
        return pool

    async def _list_for_all(self) -> None:
        """A listing whose failure, too, is everybody's answer for a while."""
        now = self._clock.now()
        if self._not_listed is not None and now < self._not_listed[1]:
            error = self._not_listed[0]
            raise type(error)(error.message, reason=error.why, retry_after=error.retry_after)
        try:
            await self.list()
        except CloudError as error:
            self._not_listed = (error, self._clock.now() + TOGETHER)
            raise
        self._not_listed = None

    async def list(self) -> list[Pool]:
        """All pools of the cluster, as they are now."""
        now = self._clock.now()
        pools = [read_pool(body) for body in await self._ask(READ, self._arm.list_pools)]
        self._listed, self._listed_at = {pool.name: pool for pool in pools}, now
        for pool in pools:
            self._saw(pool.name, pool)
        for name in self.queue.unseen(now):
            if name not in self._listed:
                self._saw(name, None)  # nobody may look at it by itself, as at one whose claim is gone
        return pools

    def until_next_poll(self, period: float) -> float:
        """Seconds until a pool is polled next: together with the others."""
        now = self._clock.now()
        due = self._listed_at + period
        return due - now if due > now + 1 else period

    async def make(self, name: str, order: Order, body: Mapping[str, Any]) -> Answer:
        """Starts making the pool. Raises `WaitingForTurn` where nothing was started, `PreconditionFailed` where there
        is one already, and what else the cloud says."""
        return await self._start(MAKE, name, order, lambda: self._arm.put_pool(name, body, etag=None))

    async def delete(self, pool: Pool) -> Answer:
        """Starts deleting the pool, provided that it is as it was read. Raises as `make` does."""
        return await self._start(
            DELETE, pool.name, Order(0, ""), lambda: self._arm.delete_pool(pool.name, etag=pool.etag)
        )

    async def failure(self, url: str) -> CloudError | None:
        """What the operation says of its end, where it says anything."""
        try:
            return (await self._ask(READ, lambda: self._arm.operation(url))).error
        except CloudError as error:
            log.info("an operation's end cannot be read", error=error.message)
            return None

    def leave(self, name: str) -> None:
        """The claim no longer wants anything started for now."""
        self.queue.left(name)
        self._call()

    async def _start(
        self, kind: str, name: str, order: Order, request: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        queue, now = self.queue, self._clock.now()
        if (throttled := self._throttling(kind)) is not None:
            queue.stand(name, order, now + throttled.retry_after)
            raise throttled
        if (wait := queue.ask(name, order, now)) is not None:
            self._call()
            raise self._in_line(wait)
        try:
            await self._guard.require_running(own_operations=queue.any_running(now))
            answer = await self._ask(kind, request)
        except Throttled as error:
            queue.stand(name, order, self._clock.now() + error.retry_after)
            raise
        except PreconditionFailed:
            queue.left(name)
            raise
        except OperationInProgress as error:
            text = outcome.refused_turn(self._cluster, error.message)
            if queue.runs_itself(name):
                queue.left(name)
                raise WaitingForTurn(text, reason=error.why, retry_after=error.retry_after) from error
            given = None if error.retry_after == error.delay else error.retry_after
            pause = queue.refused(name, given, self._clock.now())
            raise WaitingForTurn(text, reason=error.why, retry_after=pause) from error
        except BaseException:
            queue.left(name)
            raise
        finally:
            self._call()
        queue.accepted(name, self._clock.now())
        self._call()
        return answer

    def _in_line(self, wait: Wait) -> WaitingForTurn:
        return WaitingForTurn(outcome.queued(wait, self._cluster), retry_after=wait.seconds)

    async def _ask(self, kind: str, request: Callable[[], Awaitable[T]]) -> T:
        if (throttled := self._throttling(kind)) is not None:
            raise throttled
        try:
            return await request()
        except Throttled as error:
            self._throttled[kind] = (error, self._clock.now() + error.retry_after)
            raise

    def _throttling(self, kind: str) -> Throttled | None:
        """Azure counts requests of a kind for all claims together, and those that it turned away too."""
        error, until = self._throttled.get(kind, (None, 0.0))
        left = until - self._clock.now()
        if error is None or left <= 0:
            return None
        return Throttled(error.message, reason=error.why, retry_after=max(SOON, left))

    def _saw(self, name: str, pool: Pool | None) -> None:
        if pool is not None and pool.for_a_claim and pool.phase in (Phase.BUSY, Phase.DELETING):
            self.queue.runs(name, self._clock.now())
        elif self.queue.rests(name):
            self._call()

    def _call(self) -> None:
        for name in self.queue.calls(self._clock.now()):
            self._wake(name)
