"""The manager: owns the cache, the metrics and everything that runs, and starts and stops it in order.

Starting: HTTP servers, webhooks, then caches (until synced), then what runs on every replica, then, once the
lease is ours, the controllers. Stopping goes the other way round, and the lease is given back only when nothing relies
on it any more. The first runnable that fails ends the manager with its error. Order and error rules are
controller-runtime's (pkg/manager), with asyncio's cancellation in the place of contexts.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from kaito.runtime.cache import CacheOptions, InformerCache
from kaito.runtime.cache_metrics import CacheMetrics
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.controller import OWN_WRITES_TIMEOUT, Controller
from kaito.runtime.events import EventRecorder
from kaito.runtime.groups import Group, RunGroup
from kaito.runtime.health import Check, HttpServer, Probe, metrics_routes, probe_routes
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions, LeaderElector
from kaito.runtime.logs import get_logger
from kaito.runtime.loop_watchdog import LoopWatchdog
from kaito.runtime.metrics import RuntimeMetrics
from kaito.runtime.own_writes import OwnWrites
from kaito.runtime.resources import Resource
from kaito.runtime.sources import CacheSyncTimeout, missing_lists
from kaito.runtime.writes import Write

log = get_logger(__name__)


class Runnable(Protocol):
    """Something with a life of its own.

    It may also have an attribute `group` (a `Group`) or `needs_leader_election` (default True), and a method
    `wait_ready`, a coroutine that returns when others may rely on it: later groups start after that.
    """

    async def run(self) -> None:
        """Works until it is cancelled, or until it is through; an exception ends the manager."""


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """How a manager runs."""

    health_address: str = ""
    """HOST:PORT of /healthz and /readyz; `:8081` is every interface, port 0 any free one. "": off."""
    metrics_address: str = ""
    """HOST:PORT of /metrics; may be the same as `health_address`. "": off."""
    leader_election: LeaderElectionOptions | None = None
    """The lease that guards the controllers. None: they run at once, as the only replica."""
    grace_period: float = 30.0
    """Seconds for everything to end by itself when the manager stops. 0: do not wait; below 0: for ever."""
    workers: int = 1
    """Reconciles at the same time, for controllers that do not say."""
    workers_by_kind: Mapping[str, int] = field(default_factory=dict)
    """The same for controllers of one kind: `{"Deployment.apps": 5, "Pod": 10}`. A controller's own number wins."""
    cache_sync_timeout: float = 120.0
    """Seconds for a controller's caches to fill, for controllers that do not say. Afterwards the manager fails."""
    own_writes_timeout: float = OWN_WRITES_TIMEOUT
    """Seconds for which a key waits at most until the caches show what was written before, for controllers that do
    not say. 0: does not wait."""
    loop_block_limit: float = 0.1
    """Seconds for which a reconcile may block the event loop before that is logged with its line, and counted. 0:
    nobody looks."""
    ready_cache_lag: float = 60.0
    """Seconds for which a cache may be unable to follow its resource before /readyz fails."""
    cache: CacheOptions = field(default_factory=CacheOptions)
    """How all informers of the manager list, watch and keep objects."""


class Manager:
    """Runs controllers and their surroundings against one API server."""

    def __init__(self, client: Client, *, clock: Clock, options: ManagerOptions = ManagerOptions()) -> None:
        """The client stays the caller's to close. Its observer is set to count requests, if it has none."""
        self.client = client
        self.clock = clock
        self.options = options
        self.metrics = RuntimeMetrics(clock.now)
        if client.observer is None:
            client.observer = self.metrics.rest.observer(_host(client))
        self.cache = InformerCache(client, options=options.cache)
        self.metrics.add(CacheMetrics(self.cache))
        self._own_writes = OwnWrites()
        self._heard_before = client.on_write
        self._on_write = client.on_write = _both(client.on_write, self._own_writes.note)
        self._watchdog = LoopWatchdog(options.loop_block_limit, lambda: self.metrics.controllers)
        self._live, self._ready = Probe("healthz"), Probe("readyz")
        self._ready.add("caches", self._check_caches)
        self._servers = _http_servers(options, self._live, self._ready, self.metrics)
        self._groups = {group: RunGroup(clock, self._on_failure) for group in Group}
        self._lease = RunGroup(clock, self._on_failure)
        self._controllers: dict[str, Controller] = {}
        self._elector = self._make_elector()
        self._failure: asyncio.Future[None] | None = None
        self._stopping = False

    def add(self, runnable: Controller | Runnable) -> None:
        """Adds something to run; while the manager runs it starts at once, afterwards this raises
        RuntimeError.

        A runnable's attribute `group` decides when it runs. Without one, controllers and plain runnables run
        on the leader only, unless their `needs_leader_election` is False; event recorders run from before the
        first controller until after the last.
        """
        if isinstance(runnable, Controller):
            if runnable.name in self._controllers:
                raise ValueError(
                    f"there is a controller named {runnable.name!r} already: names label metrics and logs"
                )
            self._controllers[runnable.name] = runnable
            runnable.bind(
                self.cache,
                self.clock,
                self.metrics,
                workers=self.options.workers_by_kind.get(_group_kind(runnable.primary), self.options.workers),
                cache_sync_timeout=self.options.cache_sync_timeout,
                own_writes=self._own_writes,
                own_writes_timeout=self.options.own_writes_timeout,
                watchdog=self._watchdog,
            )
            if runnable.options.warmup:
                self._groups[Group.WARMUP].add(runnable.warm_up)
        self._groups[_group_of(runnable)].add(runnable.run, getattr(runnable, "wait_ready", None))

    def add_health_check(self, name: str, check: Check) -> None:
        """Adds a check to /healthz: a failing one gets the process restarted."""
        self._live.add(name, check)

    def add_ready_check(self, name: str, check: Check) -> None:
        """Adds a check to /readyz: a failing one keeps traffic away."""
        self._ready.add(name, check)

    def enqueue_all(self) -> None:
        """Lets every controller look at all of its objects again: what they rely on has changed, and no event tells."""
        for controller in self._controllers.values():
            controller.enqueue_all()

    @property
    def health_port(self) -> int:
        """The port that serves /healthz. Raises RuntimeError where none does."""
        return self._port(self.options.health_address)

    @property
    def metrics_port(self) -> int:
        """The port that serves /metrics. Raises RuntimeError where none does."""
        return self._port(self.options.metrics_address)

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Runs until `stop` is set, until cancelled, or until something fails; then stops everything in
        order.

        Raises the first error of a runnable; together with errors of the stop itself, an ExceptionGroup.
        """
        if self._failure is not None:
            raise RuntimeError("the manager was started already; make a new one")
        self._failure = asyncio.get_running_loop().create_future()
        starting = asyncio.create_task(self._start(), name="manager-start")
        starting.add_done_callback(self._on_start_done)
        waits: set[asyncio.Future[Any]] = {self._failure}
        if stop is not None:
            waits.add(asyncio.create_task(stop.wait(), name="manager-stop"))
        errors: list[Exception] = []
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping = True
            for wait in waits - {self._failure}:
                wait.cancel()
            starting.cancel()
            await asyncio.wait({starting, *(waits - {self._failure})})
            if self._failure.done():
                errors.append(_error_of(self._failure))
            errors += await self._stop(lost=any(isinstance(error, LeaderElectionLost) for error in errors))
            if self.client.on_write is self._on_write:
                self.client.on_write = self._heard_before
        if len(errors) > 1:
            raise ExceptionGroup("the manager failed and did not stop cleanly", errors)
        if errors:
            raise errors[0]

    async def run_until_signal(self) -> None:
        """`run` until SIGTERM or SIGINT; a second signal ends the process at once with exit status 1."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def on_signal(number: signal.Signals) -> None:
            if stop.is_set():
                os._exit(1)
            log.info("stopping; a second signal stops at once", signal=number.name)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        try:
            await self.run(stop)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    # -- start -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        for server in self._servers.values():
            await server.start()
        if self.clock.real_time and self.options.loop_block_limit > 0:
            self._groups[Group.SERVERS].add(self._watchdog.run)
        for group in (Group.SERVERS, Group.WEBHOOKS):
            self._groups[group].start()
            await self._groups[group].wait_ready()
        caches = self._groups[Group.CACHES]
        caches.add(self.cache.run)
        caches.start()
        await self._wait_for_caches()
        self._groups[Group.EVERY_REPLICA].start()
        self._groups[Group.WARMUP].start()
        if self._elector is not None:
            await self._elector.acquire()
            self._lease.add(self._elector.renew)
            self._lease.start()
        self._groups[Group.LEADER].start()

    async def _wait_for_caches(self) -> None:
        """As long as the most patient controller waits for its own."""
        limits = [each.options.cache_sync_timeout for each in self._controllers.values()]
        limit = max([self.options.cache_sync_timeout, *(each for each in limits if each is not None)])
        try:
            async with self.clock.timeout(limit):
                await self.cache.wait_synced()
        except TimeoutError:
            raise CacheSyncTimeout(missing_lists(self.cache.informers, limit)) from None

    def _on_start_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._on_failure(error)

    def _on_failure(self, error: Exception) -> None:
        """Only the first error counts; those that follow from stopping do not."""
        if self._stopping:
            log.error("failed while stopping", error=error)
        elif self._failure is not None and not self._failure.done():
            log.error("stopping because something failed", error=error)
            self._failure.set_exception(error)

    # -- stop ------------------------------------------------------------------------------------------------

    async def _stop(self, *, lost: bool) -> list[Exception]:
        """Everything, in order, within the grace period; with a lost lease without waiting."""
        for each in (*self._groups.values(), self._lease):
            each.close()
        grace = 0.0 if lost else self.options.grace_period
        deadline = None if grace < 0 else self.clock.now() + grace
        late: list[str] = []
        for group in (Group.EVERY_REPLICA, Group.WARMUP, Group.LEADER):
            late += await self._groups[group].stop(deadline)
        if self._elector is not None:
            await self._lease.stop(deadline)
            if not lost:
                await self._elector.release()
        for group in (Group.CACHES, Group.WEBHOOKS, Group.SERVERS):
            late += await self._groups[group].stop(deadline)
        for server in self._servers.values():
            await server.stop()
        if late and grace > 0:
            names = ", ".join(sorted(late))
            return [TimeoutError(f"not everything ended within the grace period of {grace:g} s: {names}")]
        return []

    # -- parts -----------------------------------------------------------------------------------------------

    def _make_elector(self) -> LeaderElector | None:
        options = self.options.leader_election
        if options is None:
            return None
        recorder = EventRecorder(self.client, options.identity, self.clock)
        self.add(recorder)
        leader = self.metrics.leader

        def on_change(leading: bool) -> None:
            leader[options.name] = leading

        elector = LeaderElector(self.client, options, self.clock, recorder=recorder, on_change=on_change)
        self._live.add("leader-election", elector.check)
        return elector

    def _check_caches(self) -> None:
        problems = self.cache.problems(self.options.ready_cache_lag)
        if problems:
            raise RuntimeError("; ".join(problems))

    def _port(self, address: str) -> int:
        if address not in self._servers:
            raise RuntimeError("this endpoint is switched off: its address in ManagerOptions is empty")
        return self._servers[address].port


def _group_of(runnable: Controller | Runnable) -> Group:
    group = getattr(runnable, "group", None)
    if isinstance(group, Group):
        return group
    if isinstance(runnable, EventRecorder):
        return Group.CACHES
    return Group.LEADER if getattr(runnable, "needs_leader_election", True) else Group.EVERY_REPLICA


def _group_kind(resource: Resource) -> str:
    return f"{resource.kind}.{resource.group}" if resource.group else resource.kind


def _both(first: Callable[[Write], None] | None, second: Callable[[Write], None]) -> Callable[[Write], None]:
    """Managers that share a client hear of each other's writes."""
    if first is None:
        return second

    def call(write: Write) -> None:
        first(write)
        second(write)

    return call


def _error_of(failure: asyncio.Future[None]) -> Exception:
    error = failure.exception()
    assert isinstance(error, Exception)
    return error


def _host(client: Client) -> str:
    """The label `host` of the client's metrics."""
    return urlsplit(getattr(client.transport, "url", "")).netloc or "memory"


def _http_servers(
    options: ManagerOptions, live: Probe, ready: Probe, metrics: RuntimeMetrics
) -> dict[str, HttpServer]:
    """One server per address; health and metrics may share one."""
    routes: dict[str, list[web.RouteDef]] = {}
    if options.health_address:
        routes.setdefault(options.health_address, []).extend(probe_routes(live, ready))
    if options.metrics_address:
        routes.setdefault(options.metrics_address, []).extend(metrics_routes(metrics.registry))
    return {address: HttpServer(address, definitions) for address, definitions in routes.items()}
