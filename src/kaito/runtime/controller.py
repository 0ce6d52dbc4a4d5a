"""A controller: events in, reconciles out.

Sources (informers with a mapper each) put keys into one work queue; a fixed number of long-lived workers take
keys out and call the reconcile function. What follows from its answer is decided in one `match` in
`Controller._settle`, which also counts it. An exception on one object is that object's affair: it is logged,
counted, and its key tried again later, while the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from types import CoroutineType

from kaito.runtime.cache import InformerCache
from kaito.runtime.clock import Clock
from kaito.runtime.finalizers import FinalizerError
from kaito.runtime.handlers import by_object, by_owner
from kaito.runtime.logs import ReconcileContext, current_reconcile, get_logger
from kaito.runtime.loop_watchdog import LoopWatchdog
from kaito.runtime.metrics import ControllerMetrics, QueueMetrics, RuntimeMetrics
from kaito.runtime.own_writes import Consistency, OwnWrites
from kaito.runtime.places import raised_at
from kaito.runtime.predicates import Predicate
from kaito.runtime.ratelimit import ItemExponential, RateLimiter
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.result import Result, TerminalError
from kaito.runtime.sources import CacheSyncTimeout, Sources, Watch
from kaito.runtime.workqueue import DEFAULT_PRIORITY, LOW_PRIORITY, Item, WorkQueue

Reconcile = Callable[[ObjectKey], Awaitable[Result | None]]
"""Brings one object to where it should be; reads caches, writes through a client. Called with a key, since
the object may have changed again, or be gone, by the time it runs."""

BUGS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError),
    *(RecursionError, TypeError),
)
"""Exceptions that no reconcile raises on purpose: counted as panics and logged with their traceback."""
OWN_WRITES_TIMEOUT = 5.0
"""Seconds for which a key waits at most until the caches show what was written before."""
_TURN_RECONCILES = 32
_TURN_SECONDS = 0.001
"""A worker that never has to wait lets the rest of the loop run after so many reconciles, or so much time."""

__all__ = ["CacheSyncTimeout", "Controller", "ControllerOptions", "Reconcile", "Watch"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """How a controller runs. None always means: the manager's value."""

    workers: int | None = None
    """Reconciles at the same time. The manager's default is 1, or what it says for the primary's kind."""
    cache_sync_timeout: float | None = None
    """Seconds for the caches to fill before the controller gives up. The manager's default is 120."""
    reconcile_timeout: float | None = None
    """Seconds after which a running reconcile is cancelled and counts as failed. None: no limit."""
    rate_limiter: Callable[[], RateLimiter] = ItemExponential
    """Makes the limiter for failed keys. Default: 5 ms, doubling, at most 1000 s, for each key by itself."""
    needs_leader_election: bool = True
    """Run only on the elected replica."""
    namespace: str | None = None
    """Watch the primary and owned resources in one namespace only. None: all."""
    warmup: bool = False
    """Fill the queue before the lease is acquired, so that a new leader begins at once. Costs a replica that does
    not lead the memory of the keys."""
    own_writes_timeout: float | None = None
    """Seconds for which a key waits at most until the caches show what was written for it, or to it, before. 0:
    does not wait. The manager's default is 5."""
    recover_panic: bool = True
    """An exception that can only be a bug fails its own reconcile. False: it ends the manager."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a controller has once it belongs to a manager."""

    cache: InformerCache
    clock: Clock
    queue: WorkQueue[ObjectKey]
    metrics: ControllerMetrics
    sources: Sources
    consistency: Consistency
    watchdog: LoopWatchdog
    workers: int
    cache_sync_timeout: float


class Controller:
    """Calls `reconcile` for each object of `primary` that changed, or whose dependents changed."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        *,
        primary: Resource,
        owns: Sequence[Resource] = (),
        watches: Sequence[Watch] = (),
        predicates: Sequence[Predicate] = (),
        options: ControllerOptions = ControllerOptions(),
    ) -> None:
        """`name` is unique within the manager; it is the label of metrics and logs.

        `owns`: changes of these are reconciles of the object that controls them. `predicates` apply to every
        source.
        """
        if not name:
            raise ValueError("a controller needs a name: it labels its metrics and logs")
        self.name = name
        self.primary = primary
        self.options = options
        self._reconcile = reconcile
        scope = options.namespace
        self._watches = (
            Watch(primary, by_object, namespace=scope),
            *(Watch(resource, by_owner(primary), namespace=scope) for resource in owns),
            *watches,
        )
        self._predicates = tuple(predicates)
        self._bound: _Bound | None = None
        self._started = False

    @property
    def needs_leader_election(self) -> bool:
        return self.options.needs_leader_election

    def bind(
        self,
        cache: InformerCache,
        clock: Clock,
        metrics: RuntimeMetrics,
        *,
        workers: int,
        cache_sync_timeout: float,
        own_writes: OwnWrites | None = None,
        own_writes_timeout: float = OWN_WRITES_TIMEOUT,
        watchdog: LoopWatchdog | None = None,
    ) -> None:
        """Called by the manager: declares the informers, so that they start with the caches.

        The numbers are the manager's defaults. `own_writes` is told of every write of the client; without it
        nothing waits for one. `watchdog` is woken when there is work.
        """
        if self._bound is not None:
            raise RuntimeError(f"controller {self.name} belongs to a manager already")
        options, numbers = self.options, metrics.controller(self.name)
        queue = _make_queue(clock, options.rate_limiter(), metrics.queue(self.name))
        sources = Sources(self.name, self._watches, cache, clock)
        consistency = Consistency(
            self.name,
            self.primary,
            sources.informers,
            queue,
            clock,
            numbers,
            own_writes_timeout if options.own_writes_timeout is None else options.own_writes_timeout,
        )
        if own_writes is not None:
            own_writes.add(consistency)
        self._bound = _Bound(
            cache=cache,
            clock=clock,
            queue=queue,
            metrics=numbers,
            sources=sources,
            consistency=consistency,
            watchdog=watchdog if watchdog is not None else LoopWatchdog(0.0, dict),
            workers=options.workers or workers,
            cache_sync_timeout=(
                cache_sync_timeout if options.cache_sync_timeout is None else options.cache_sync_timeout
            ),
        )
        numbers.max_workers = self._bound.workers

    def enqueue(
        self, key: ObjectKey, *, after: float | None = None, priority: int = DEFAULT_PRIORITY
    ) -> None:
        """Asks for a reconcile of `key` from outside the watched resources: a timer, a resolver, a webhook."""
        self._require_bound().queue.add(key, after=after, priority=priority)

    def enqueue_all(self) -> None:
        """Asks for a reconcile of every object in the primary's cache, behind whatever else is to be done."""
        bound = self._require_bound()
        for informer in bound.cache.informers:
            if informer.resource == self.primary:
                for obj in informer.lister.list():
                    bound.queue.add(obj.key, priority=LOW_PRIORITY)

    async def reselect(
        self, resource: Resource, *, label_selector: str | None = None, field_selector: str | None = None
    ) -> None:
        """Watches other objects of `resource` from now on; None leaves a selector as it is.

        Returns when the new objects are in the cache. Handlers are told of the differences only: objects that are
        selected no more arrive as deletions, those selected newly as creations. Whoever shares the informer is
        affected (see `Informer.reselect`). Raises CacheSyncTimeout when the server gives no list in time, and
        then stays with the old selection; ValueError for a resource that is not watched; SelectorError.
        """
        bound = self._require_bound()
        await bound.sources.reselect(
            resource,
            label_selector=label_selector,
            field_selector=field_selector,
            timeout=bound.cache_sync_timeout,
        )

    async def warm_up(self) -> None:
        """Fills the queue, without any reconcile. Raises CacheSyncTimeout."""
        bound = self._require_bound()
        await bound.sources.start(bound.queue, self._predicates, bound.cache_sync_timeout)

    async def run(self) -> None:
        """Until cancelled. The first cancellation lets running reconciles finish, the second cancels them."""
        bound = self._require_bound()
        if self._started:
            raise RuntimeError(f"controller {self.name} was started more than once")
        self._started = True
        workers: list[asyncio.Task[None]] = []
        try:
            await self.warm_up()
            workers = [
                asyncio.create_task(self._work(bound), name=f"{self.name}-{number}")
                for number in range(bound.workers)
            ]
            await asyncio.gather(*map(asyncio.shield, workers))
        finally:
            bound.sources.stop()
            bound.queue.shutdown()
            bound.consistency.close()
            try:
                if workers:
                    await asyncio.wait(workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, bound: _Bound) -> None:
        """One worker: one key at a time, for as long as there are any."""
        queue, metrics, watchdog = bound.queue, bound.metrics, bound.watchdog
        consistency, unseen = bound.consistency, bound.consistency.unseen
        reconciles, busy = 0, 0.0
        while (item := queue.get_nowait() or await queue.get()) is not None:
            if item.key in unseen and consistency.holds(item):
                continue
            metrics.active_workers += 1
            if watchdog.asleep:
                watchdog.wake()
            try:
                self._settle(bound, item, await self._attempt(bound, item.key))
            finally:
                metrics.active_workers -= 1
                held = queue.done(item.key)
                metrics.reconcile_time.observe(held)
            reconciles += 1
            busy += held
            if reconciles >= _TURN_RECONCILES or busy >= _TURN_SECONDS:
                reconciles, busy = 0, 0.0
                await bound.clock.sleep(0)

    async def _attempt(self, bound: _Bound, key: ObjectKey) -> Result | BaseException:
        """Runs the reconcile once; every exception but the worker's own cancellation is an answer."""
        reconcile_context = ReconcileContext(self.name, key)
        current_reconcile.set(
            reconcile_context
        )  # until the worker's next key: what follows is logged with it
        try:
            if self.options.reconcile_timeout is None:
                return _as_result(await self._begin(key))
            return _as_result(await self._attempt_in_time(bound, key, self.options.reconcile_timeout))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return AssertionError("reconcile raised CancelledError although nobody cancelled it")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            return error

    def _begin(self, key: ObjectKey) -> Awaitable[Result | None]:
        begun = self._reconcile(key)
        if type(begun) is not CoroutineType and not isawaitable(begun):
            raise TypeError(f"reconcile of controller {self.name!r} is a plain function: write `async def`")
        return begun

    async def _attempt_in_time(self, bound: _Bound, key: ObjectKey, seconds: float) -> Result | None:
        expired = False
        try:
            async with bound.clock.timeout(seconds) as scope:
                try:
                    return await self._begin(key)
                finally:
                    expired = scope.expired()
        except TimeoutError as error:
            if not expired:
                raise
            bound.metrics.timeouts += 1
            raise TimeoutError(f"reconcile took longer than {seconds:g} s") from error

    def _settle(self, bound: _Bound, item: Item[ObjectKey], outcome: Result | BaseException) -> None:
        """The whole result policy."""
        queue, metrics, key, priority = bound.queue, bound.metrics, item.key, item.priority
        match outcome:
            case Result(requeue_after=None):
                queue.forget(key)
                metrics.results["success"] += 1
            case Result(requeue_after=float() | int() as delay, priority=wanted) if delay > 0:
                queue.forget(key)
                queue.add(key, after=delay, priority=priority if wanted is None else wanted)
                metrics.results["requeue_after"] += 1
            case Result(priority=wanted):
                queue.add(key, rate_limited=True, priority=priority if wanted is None else wanted)
                metrics.results["requeue"] += 1
            case TerminalError():
                metrics.results["error"] += 1
                metrics.errors += 1
                metrics.terminal_errors += 1
                log.error("reconcile failed for good", error=outcome, **self._about(key))
            case BaseException():
                queue.add(key, rate_limited=True, priority=priority)
                metrics.results["error"] += 1
                metrics.errors += 1
                self._tell_failure(bound, key, outcome)

    def _tell_failure(self, bound: _Bound, key: ObjectKey, error: BaseException) -> None:
        cause = _cause(error)
        if isinstance(cause, Exception) and not isinstance(cause, BUGS):
            at, failures = raised_at(cause), bound.queue.failures(key)
            log.error("reconcile failed", error=error, at=at, failures=failures, **self._about(key))
            return
        bound.metrics.panics += 1
        log.panic("reconcile failed with a bug", error=error, **self._about(key))
        if not self.options.recover_panic:
            raise error

    def _about(self, key: ObjectKey) -> dict[str, str]:
        return {"controller": self.name, "namespace": key.namespace or "", "name": key.name}

    def _require_bound(self) -> _Bound:
        if self._bound is None:
            raise RuntimeError(
                f"controller {self.name} belongs to no manager yet: call manager.add(controller)"
            )
        return self._bound


_SUCCESS = Result()


def _cause(error: BaseException) -> BaseException:
    """What went wrong in the user's code: below the phase of a finalizer, and for groups the worst of their members."""
    if isinstance(error, FinalizerError) and error.__cause__ is not None:
        return _cause(error.__cause__)
    if isinstance(error, BaseExceptionGroup):
        causes = [_cause(member) for member in error.exceptions]
        return next((each for each in causes if isinstance(each, BUGS)), causes[0])
    return error


def _as_result(answer: object) -> Result | Exception:
    if answer is None:
        return _SUCCESS
    return answer if isinstance(answer, Result) else TypeError(f"reconcile returned {answer!r}, no Result")


def _make_queue(clock: Clock, limiter: RateLimiter, metrics: QueueMetrics) -> WorkQueue[ObjectKey]:
    return WorkQueue(clock, limiter=limiter, metrics=metrics)
