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
from random import getrandbits

from kaito.runtime.cache import InformerCache
from kaito.runtime.clock import Clock
from kaito.runtime.handlers import Enqueue, Mapper, by_object, by_owner
from kaito.runtime.informer import Informer, Registration
from kaito.runtime.logs import ReconcileContext, current_reconcile, get_logger
from kaito.runtime.metrics import ControllerMetrics, QueueMetrics, RuntimeMetrics
from kaito.runtime.predicates import Predicate
from kaito.runtime.ratelimit import ItemExponential, RateLimiter
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.result import Result, TerminalError
from kaito.runtime.workqueue import DEFAULT_PRIORITY, Item, WorkQueue

Reconcile = Callable[[ObjectKey], Awaitable[Result | None]]
"""Brings one object to where it should be; reads caches, writes through a client. Called with a key, since
the object may have changed again, or be gone, by the time it runs."""

BUGS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError),
    *(RecursionError, TypeError),
)
"""Exceptions that no reconcile raises on purpose: counted as panics and logged with their traceback."""
_YIELD_EVERY = 8
"""Reconciles after which a worker lets the rest of the loop run, even if it never had to wait."""

log = get_logger(__name__)


class CacheSyncTimeout(Exception):
    """A controller's caches did not fill in time; the message names those that are missing."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Another resource whose changes concern the controller's objects."""

    resource: Resource
    mapper: Mapper
    """Names the keys that an object concerns; an update concerns those of the old and the new object."""
    predicates: Sequence[Predicate] = ()
    """All must pass. In addition to the controller's own predicates."""
    namespace: str | None = None
    """Watch one namespace only. None: all."""
    label_selector: str = ""
    field_selector: str = ""
    """Let the server send only these objects. "": all."""
    metadata_only: bool = False
    """Fetch and keep only the metadata."""


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """How a controller runs. None always means: the manager's value."""

    workers: int | None = None
    """Reconciles at the same time. The manager's default is 1."""
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


@dataclass(frozen=True, slots=True)
class _Bound:
    """What a controller has once it belongs to a manager."""

    cache: InformerCache
    clock: Clock
    queue: WorkQueue[ObjectKey]
    metrics: ControllerMetrics
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
        self._sources = (
            Watch(primary, by_object, namespace=scope),
            *(Watch(resource, by_owner(primary), namespace=scope) for resource in owns),
            *watches,
        )
        self._predicates = tuple(predicates)
        self._bound: _Bound | None = None
        self._registrations: list[Registration] = []
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
    ) -> None:
        """Called by the manager: declares the informers, so that they start with the caches."""
        if self._bound is not None:
            raise RuntimeError(f"controller {self.name} belongs to a manager already")
        numbers, queue_numbers = metrics.controller(self.name), metrics.queue(self.name)
        options = self.options
        timeout = cache_sync_timeout if options.cache_sync_timeout is None else options.cache_sync_timeout
        self._bound = _Bound(
            cache=cache,
            clock=clock,
            queue=_make_queue(clock, options.rate_limiter(), queue_numbers),
            metrics=numbers,
            workers=options.workers or workers,
            cache_sync_timeout=timeout,
        )
        numbers.max_workers = self._bound.workers
        for source in self._sources:
            _informer(cache, source)

    def enqueue(
        self, key: ObjectKey, *, after: float | None = None, priority: int = DEFAULT_PRIORITY
    ) -> None:
        """Asks for a reconcile of `key` from outside the watched resources: a timer, a resolver, a webhook."""
        self._require_bound().queue.add(key, after=after, priority=priority)

    async def run(self) -> None:
        """Until cancelled. The first cancellation lets running reconciles finish, the second cancels them."""
        bound = self._require_bound()
        if self._started:
            raise RuntimeError(f"controller {self.name} was started more than once")
        self._started = True
        workers: list[asyncio.Task[None]] = []
        try:
            await self._start_sources(bound)
            workers = [
                asyncio.create_task(self._work(bound), name=f"{self.name}-{number}")
                for number in range(bound.workers)
            ]
            await asyncio.gather(*map(asyncio.shield, workers))
        finally:
            for registration in self._registrations:
                registration.remove()
            bound.queue.shutdown()
            try:
                if workers:
                    await asyncio.wait(workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _start_sources(self, bound: _Bound) -> None:
        """Returns when every informer has synced and every initial object has passed its handler."""
        informers = []
        for source in self._sources:
            informer = _informer(bound.cache, source)
            handler = Enqueue(bound.queue, source.mapper, (*source.predicates, *self._predicates))
            self._registrations.append(informer.add_handler(handler))
            informers.append((source.resource, informer))
        try:
            async with bound.clock.timeout(bound.cache_sync_timeout):
                for _, informer in informers:
                    await informer.wait_synced()
        except TimeoutError:
            missing = ", ".join(resource.name for resource, informer in informers if not informer.has_synced)
            raise CacheSyncTimeout(
                f"controller {self.name}: no complete list of {missing} within {bound.cache_sync_timeout:g} s; "
                "does the resource exist, and may this client list and watch it?"
            ) from None

    async def _work(self, bound: _Bound) -> None:
        """One worker: one key at a time, for as long as there are any."""
        queue, metrics, clock = bound.queue, bound.metrics, bound.clock
        streak = 0
        while (item := await queue.get()) is not None:
            metrics.active_workers += 1
            started = clock.now()
            try:
                self._settle(bound, item, await self._attempt(bound, item.key))
            finally:
                metrics.active_workers -= 1
                metrics.reconcile_time.observe(clock.now() - started)
                queue.done(item.key)
            streak += 1
            if streak % _YIELD_EVERY == 0:
                await clock.sleep(0)

    async def _attempt(self, bound: _Bound, key: ObjectKey) -> Result | Exception:
        """Runs the reconcile once; every exception but the worker's own cancellation is an answer."""
        token = current_reconcile.set(ReconcileContext(self.name, key, f"{getrandbits(64):016x}"))
        try:
            if self.options.reconcile_timeout is None:
                return _as_result(await self._reconcile(key))
            return _as_result(await self._attempt_in_time(bound, key, self.options.reconcile_timeout))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return AssertionError("reconcile raised CancelledError although nobody cancelled it")
        except Exception as error:
            return error
        finally:
            current_reconcile.reset(token)

    async def _attempt_in_time(self, bound: _Bound, key: ObjectKey, seconds: float) -> Result | None:
        expired = False
        try:
            async with bound.clock.timeout(seconds) as scope:
                try:
                    return await self._reconcile(key)
                finally:
                    expired = scope.expired()
        except TimeoutError as error:
            if not expired:
                raise
            bound.metrics.timeouts += 1
            raise TimeoutError(f"reconcile took longer than {seconds:g} s") from error

    def _settle(self, bound: _Bound, item: Item[ObjectKey], outcome: Result | Exception) -> None:
        """The whole result policy."""
        queue, metrics, key, priority = bound.queue, bound.metrics, item.key, item.priority
        match outcome:
            case TerminalError():
                metrics.results["error"] += 1
                metrics.errors += 1
                metrics.terminal_errors += 1
                log.error("reconcile failed for good", error=outcome, **self._about(key))
            case Exception():
                queue.add(key, rate_limited=True, priority=priority)
                metrics.results["error"] += 1
                metrics.errors += 1
                if isinstance(outcome, BUGS):
                    metrics.panics += 1
                    log.panic("reconcile failed with a bug", error=outcome, **self._about(key))
                else:
                    log.error(
                        "reconcile failed", error=outcome, failures=queue.failures(key), **self._about(key)
                    )
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

    def _about(self, key: ObjectKey) -> dict[str, str]:
        return {"controller": self.name, "namespace": key.namespace or "", "name": key.name}

    def _require_bound(self) -> _Bound:
        if self._bound is None:
            raise RuntimeError(
                f"controller {self.name} belongs to no manager yet: call manager.add(controller)"
            )
        return self._bound


_SUCCESS = Result()


def _as_result(answer: object) -> Result | Exception:
    if answer is None:
        return _SUCCESS
    return answer if isinstance(answer, Result) else TypeError(f"reconcile returned {answer!r}, no Result")


def _make_queue(clock: Clock, limiter: RateLimiter, metrics: QueueMetrics) -> WorkQueue[ObjectKey]:
    return WorkQueue(clock, limiter=limiter, metrics=metrics)


def _informer(cache: InformerCache, source: Watch) -> Informer:
    return cache.informer(
        source.resource,
        namespace=source.namespace,
        label_selector=source.label_selector,
        field_selector=source.field_selector,
        metadata_only=source.metadata_only,
    )
