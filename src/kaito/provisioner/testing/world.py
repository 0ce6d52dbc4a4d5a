"""What happens in the cloud behind the requests: operations that take their time, pools that come and go.

A state machine over a clock: nothing runs in the background, but whoever looks first lets everything happen whose time
has come, in its order. So a test over hours needs no task, and two looks at the same moment see the same world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from kaito.provisioner.testing.messages import ErrorDetail, Object
from kaito.provisioner.testing.quota import Quota
from kaito.provisioner.testing.rules import Kind, Script
from kaito.provisioner.testing.sizes import Size, Sizes
from kaito.provisioner.testing.state import (
    NEVER,
    Cluster,
    Operation,
    Place,
    Pool,
    VirtualMachine,
    machines_of,
)
from kaito.runtime.clock import Clock

_PREEMPTED: Final = ErrorDetail("AKSOperationPreemptedByDelete", "Operation has been preempted by a delete.")
_STATES: Final = {
    "create": "Creating",
    "update": "Updating",
    "delete": "Deleting",
    "stop": "Stopping",
    "start": "Starting",
}


@dataclass
class Durations:
    """Seconds that operations take."""

    create: float = 300.0
    update: float = 60.0
    delete: float = 120.0
    stop: float = 120.0
    start: float = 180.0
    failure: float = 60.0
    """Until a create fails for want of cores that the usage figures did not show yet."""


class World:
    """Pools, cluster and operations. Every method first lets happen what is due."""

    def __init__(self, clock: Clock, place: Place, script: Script, sizes: Sizes, quota: Quota) -> None:
        self.place = place
        self.sizes = sizes
        self.quota = quota
        self.durations = Durations()
        self.cluster = Cluster()
        self.operations: dict[str, Operation] = {}
        self._clock = clock
        self._script = script
        self._pools: dict[str, Pool] = {}
        self._running: list[Operation] = []
        self._count = 0
        self._watchers: list[Callable[[], None]] = []

    @property
    def now(self) -> float:
        return self._clock.now()

    @property
    def pools(self) -> dict[str, Pool]:
        """By name, as they are at this moment."""
        self.advance()
        return self._pools

    @property
    def running(self) -> list[Operation]:
        """The operations in progress, oldest first."""
        self.advance()
        return self._running

    def machines(self) -> list[VirtualMachine]:
        """All machines that pools have or are getting."""
        pools, cluster = self.pools, self.cluster
        up = cluster.running and cluster.exists and cluster.state != "Starting"
        return [each for pool in pools.values() for each in machines_of(pool, self.place, up)]

    def next_change(self) -> float:
        """Clock seconds of the next thing that happens by itself; NEVER if nothing does."""
        return min((operation.ends for operation in self._running), default=NEVER)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """`changed()` is called after each thing that somebody did, not for what happens by itself.

        Returns what ends that.
        """
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def changed(self) -> None:
        for each in self._watchers:
            each()

    def advance(self) -> None:
        """Let happen what is due."""
        now = self.now
        while self._running:
            due = min(self._running, key=lambda operation: operation.ends)
            if due.ends > now:
                return
            self._end(due, due.outcome, due.error, due.ends)

    # -- what requests start

    def put(self, name: str, properties: Object, size: Size) -> Operation:
        """Create the pool or change it; quotas and names are settled already."""
        found = self.pools.get(name)
        kind: Kind = "create" if found is None else "update"
        pool = found or Pool(name, properties, size, self._clock.wall(), zone=self._zone(properties, size))
        pool.properties, pool.size, pool.error = properties, size, None
        self._pools[name] = pool
        operation = self._start(kind, pool)
        if pool.machines_at == NEVER and operation.outcome == "Succeeded":
            pool.machines_at = operation.ends
        if operation.outcome != "Failed":
            self.quota.hold(name, size, pool.count, pool.spot, self.now)
        self.changed()
        return operation

    def delete(self, name: str) -> Operation:
        """Start deleting; what else ran on the pool is preempted."""
        pool = self.pools[name]
        self._preempt(name)
        operation = self._start("delete", pool)
        self.changed()
        return operation

    def abort(self, name: str) -> Operation:
        """Cancel what runs on the pool. Returns the operation that is cancelled; raises KeyError if none runs."""
        for operation in self.running:
            if operation.pool == name:
                self._end(operation, "Canceled", None, self.now)
                self.changed()
                return operation
        raise KeyError(name)

    def switch(self, *, running: bool) -> Operation:
        """Start or stop the cluster."""
        self.advance()
        operation = self._start("start" if running else "stop", None)
        self.cluster.state = _STATES[operation.kind]
        self._touch_cluster()
        if running:
            self.cluster.running = True
        self.changed()
        return operation

    # -- what somebody else does, at once

    def insert(self, name: str, properties: Object, size: Size) -> Pool:
        """A pool that is there and runs."""
        pool = Pool(name, properties, size, self._clock.wall(), zone=self._zone(properties, size))
        pool.state, pool.machines_at = "Succeeded", self.now
        self._touch(pool)
        self.pools[name] = pool
        self.quota.hold(name, size, pool.count, pool.spot, self.now)
        self.changed()
        return pool

    def remove(self, name: str) -> None:
        """The pool is gone; operations on it end as preempted."""
        del self.pools[name]
        self._preempt(name)
        self.quota.release(name, self.now)
        self.changed()

    def update(self, name: str, **properties: Any) -> None:
        """The pool is otherwise from now on, and its etag too."""
        pool = self.pools[name]
        pool.properties = {**pool.properties, **properties}
        self._touch(pool)
        self.changed()

    def set_state(self, name: str, state: str, error: ErrorDetail | None = None) -> None:
        """As if an operation had left the pool so."""
        pool = self.pools[name]
        self._preempt(name)
        pool.state, pool.error = state, error
        if state == "Failed":
            pool.machines_at = NEVER
            self.quota.release(name, self.now)
        self._touch(pool)
        self.changed()

    def set_cluster(self, *, running: bool, state: str = "Succeeded", exists: bool = True) -> None:
        """The cluster is so from now on, without an operation."""
        self.advance()
        self.cluster.running, self.cluster.state, self.cluster.exists = running, state, exists
        self._touch_cluster()
        self.changed()

    # -- how operations go

    def _start(self, kind: Kind, pool: Pool | None) -> Operation:
        self._count += 1
        ends, outcome, error = self._ending(kind, pool)
        operation = Operation(
            id=f"{self._count:08x}-0000-4000-8000-{self._count:012x}",
            kind=kind,
            pool=pool.name if pool else "",
            began=self._clock.wall(),
            ends=ends,
            outcome=outcome,
            error=error,
        )
        self.operations[operation.id] = operation
        self._running.append(operation)
        if pool is not None:
            pool.state = _STATES[kind]
            self._touch(pool)
        return operation

    def _ending(self, kind: Kind, pool: Pool | None) -> tuple[float, str, ErrorDetail | None]:
        """When the operation ends, how, and with which error."""
        duration = float(getattr(self.durations, kind))
        rule = self._script.ending(kind, pool)
        if rule is not None:
            after = duration if rule.after is None else rule.after
            return NEVER if rule.status == "InProgress" else self.now + after, rule.status, rule.error
        if kind == "create" and pool is not None:
            short = self.quota.shortage(pool.size, pool.count, pool.spot, self.now, shown=False)
            if short is not None:
                ends = self.now + min(self.durations.failure, duration)
                return ends, "Failed", short.failure(self.place.location)
        return self.now + duration, "Succeeded", None

    def _end(self, operation: Operation, outcome: str, error: ErrorDetail | None, at: float) -> None:
        """The operation is over; `at`: clock seconds, which may be past."""
        self._running.remove(operation)
        operation.status, operation.error = outcome, error
        operation.ended = self._wall(at)
        if operation.kind in ("stop", "start"):
            self._end_of_switch(operation, at)
            return
        pool = self._pools.get(operation.pool)
        if pool is None:
            return
        if operation.kind == "delete" and outcome == "Succeeded":
            del self._pools[pool.name]
            self.quota.release(pool.name, at)
            return
        pool.state, pool.error = outcome, error
        if operation.kind != "update" and outcome != "Succeeded":
            pool.machines_at = NEVER  # not made, or taken away before it failed
            self.quota.release(pool.name, at)
        self._touch(pool)

    def _end_of_switch(self, operation: Operation, at: float) -> None:
        self.cluster.state = operation.status
        self.cluster.running = (operation.kind == "start") == (operation.status == "Succeeded")
        self.cluster.since = at
        if operation.kind == "start":
            for pool in self._pools.values():
                if pool.machines_at != NEVER:
                    pool.machines_at = max(pool.machines_at, at)
        self._touch_cluster()

    def _preempt(self, pool: str) -> None:
        for operation in [each for each in self._running if each.pool == pool]:
            self._end(operation, "Failed", _PREEMPTED, self.now)

    def _zone(self, properties: Object, size: Size) -> str:
        zones = properties.get("availabilityZones") or ()
        usable = [zone for zone in zones if zone not in size.restricted_zones]
        return f"{self.place.location}-{usable[0]}" if usable else "0"

    def _touch(self, pool: Pool) -> None:
        self._count += 1
        pool.etag = f"e7a9{self._count:04x}-0000-4000-8000-{self._count:012x}"

    def _touch_cluster(self) -> None:
        self._count += 1
        self.cluster.etag = f"c1{self._count:06x}"
        self.cluster.since = max(self.cluster.since, self.now)

    def _wall(self, at: float) -> datetime:
        return self._clock.wall() + timedelta(seconds=at - self.now)
