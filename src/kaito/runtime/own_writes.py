"""Read your own writes: no reconcile works with a cache that is older than what was written before.

A reconcile that creates a child and runs again before the watch has delivered that child sees none, and
creates a second one. controller-runtime leaves this to every author (expectations, predictable names). Here
the client tells of each write, and a key whose caches have not seen those writes is given back to the queue
until they have. No worker waits for that, and nothing waits for ever: after a bound the key is reconciled
anyway, and counted.

A write is filed under the key whose reconcile made it, and under the written object for controllers of its
type. What is kept per key is one version per informer, and the deletions; it is dropped as soon as it has been
seen.

See also: `Client.on_write`, `Informer.covers`, `Informer.has_seen`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from kaito.runtime.clock import Clock
from kaito.runtime.logs import current_reconcile, get_logger
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.writes import Write

if TYPE_CHECKING:
    from kaito.runtime.informer import Informer
    from kaito.runtime.metrics import ControllerMetrics
    from kaito.runtime.workqueue import Item, WorkQueue

MAX_KEYS = 10_000
"""Keys of one controller for which unseen writes are remembered; beyond that the oldest are forgotten."""
_CHECKED_PER_WRITE = 2
"""Older keys that are looked at on each write, so that those never reconciled again do not pile up."""
_ROUNDING = 1e-9
"""Seconds; a bound this near is over."""

log = get_logger(__name__)


@dataclass(slots=True)
class _Unseen:
    """What the caches have to show before a key is reconciled again."""

    versions: dict[Informer, str] = field(default_factory=dict)
    deletions: dict[tuple[Informer, ObjectKey], Write] = field(default_factory=dict)

    def add(self, informer: Informer, write: Write) -> None:
        if write.deleted:
            self.deletions[informer, write.key] = write
            return
        known = self.versions.get(informer)
        if known is None or int(known) < int(write.resource_version):
            self.versions[informer] = write.resource_version

    def settled(self) -> bool:
        """Whether everything has been seen; forgets what has."""
        for informer in [each for each, version in self.versions.items() if each.has_seen(version)]:
            del self.versions[informer]
        if self.versions:
            return False  # an object that is not there yet must not pass for one that is gone
        for place in [place for place, write in self.deletions.items() if _is_seen(place[0], write)]:
            del self.deletions[place]
        return not self.deletions

    def describe(self) -> str:
        """What has not been seen yet, for a log line."""
        versions = [f"{informer.resource} {version}" for informer, version in self.versions.items()]
        deletions = [f"deletion of {write.resource} {write.key}" for write in self.deletions.values()]
        return ", ".join([*versions, *deletions[:3]])


class Consistency:
    """Holds back keys of one controller until its informers have seen what was written.

    `unseen` may be read to find out cheaply that there is nothing to ask for.
    """

    def __init__(
        self,
        controller: str,
        primary: Resource,
        informers: Sequence[Informer],
        queue: WorkQueue[ObjectKey],
        clock: Clock,
        metrics: ControllerMetrics,
        timeout: float,
    ) -> None:
        """`timeout` is in seconds, from the moment at which a key is held back; 0: no key ever is."""
        self.unseen: dict[ObjectKey, _Unseen] = {}
        self._controller = controller
        self._primary = primary
        self._informers = tuple(dict.fromkeys(informers))
        self._queue = queue
        self._clock = clock
        self._metrics = metrics
        self._timeout = timeout
        self._parked: dict[ObjectKey, tuple[float, int]] = {}  # key -> (deadline, priority)
        self._subscriptions: list[Callable[[], None]] = []
        self._check_scheduled = False

    def note(self, write: Write) -> None:
        """Files a write, if it concerns this controller and has not been seen yet."""
        if self._timeout <= 0:
            return
        context = current_reconcile.get()
        keys = set()
        if context is not None and context.controller == self._controller:
            keys.add(context.key)
        if _same_collection(write.resource, self._primary):
            keys.add(write.key)
        if not keys:
            return
        for informer in self._informers:
            if _concerns(informer, write) and not _is_seen(informer, write):
                for key in keys:
                    self.unseen.setdefault(key, _Unseen()).add(informer, write)
        self._tidy()

    def holds(self, item: Item[ObjectKey]) -> bool:
        """Whether this key must wait; then it has been given back to the queue."""
        key = item.key
        unseen = self.unseen.get(key)
        if unseen is None or unseen.settled():
            self._release(key)
            return False
        now = self._clock.now()
        deadline, _ = self._parked.get(key, (now + self._timeout, 0))
        if deadline - now <= _ROUNDING:
            self._metrics.own_write_timeouts += 1
            log.warning(
                "reconciling on a cache that has not shown our own writes",
                controller=self._controller,
                namespace=key.namespace or "",
                name=key.name,
                missing=unseen.describe(),
                waited=self._timeout,
            )
            self._release(key)
            return False
        if key not in self._parked:
            self._metrics.own_write_waits += 1
        self._parked[key] = (deadline, item.priority)
        self._queue.put_back(item, deadline - now)
        self._subscribe()
        return True

    def close(self) -> None:
        """Listens no more, and files nothing any more."""
        self._timeout = 0.0
        self.unseen.clear()
        self._parked.clear()
        self._unsubscribe()

    def _release(self, key: ObjectKey) -> None:
        self.unseen.pop(key, None)
        if self._parked.pop(key, None) is not None and not self._parked:
            self._unsubscribe()

    def _tidy(self) -> None:
        for key in list(islice(self.unseen, _CHECKED_PER_WRITE)):
            unseen = self.unseen.pop(key)
            if not unseen.settled():
                self.unseen[key] = unseen  # to the end of the line
        while len(self.unseen) > MAX_KEYS:
            del self.unseen[next(iter(self.unseen))]

    # -- the informers move on -------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        if not self._subscriptions:
            self._subscriptions = [informer.on_advance(self._on_advance) for informer in self._informers]

    def _unsubscribe(self) -> None:
        for remove in self._subscriptions:
            remove()
        self._subscriptions = []

    def _on_advance(self) -> None:
        """Many events come in one turn of the loop: one look at the parked keys after them is enough."""
        if not self._check_scheduled:
            self._check_scheduled = True
            asyncio.get_running_loop().call_soon(self._check_parked)

    def _check_parked(self) -> None:
        self._check_scheduled = False
        for key, (_, priority) in list(self._parked.items()):
            unseen = self.unseen.get(key)
            if unseen is None or unseen.settled():
                self._release(key)
                self._queue.add(key, priority=priority)


class OwnWrites:
    """Passes every write on to the controllers that may have to wait for it."""

    def __init__(self) -> None:
        self._controllers: list[Consistency] = []

    def add(self, consistency: Consistency) -> None:
        self._controllers.append(consistency)

    def note(self, write: Write) -> None:
        """To be called once for every successful write, before whoever wrote goes on."""
        for consistency in self._controllers:
            consistency.note(write)


def _concerns(informer: Informer, write: Write) -> bool:
    """Whether the informer will tell of this write: it shows such objects, or this one until now."""
    if not _same_collection(informer.resource, write.resource):
        return False
    return informer.covers(write) or informer.store.get(write.key) is not None


def _same_collection(one: Resource, other: Resource) -> bool:
    """Every version of a resource shows the same objects."""
    return one.plural == other.plural and one.group == other.group


def _is_seen(informer: Informer, write: Write) -> bool:
    if not informer.has_seen(write.resource_version):
        return False
    if not write.deleted:
        return True
    obj = informer.store.get(write.key)
    if obj is None or (write.uid and obj.meta.uid != write.uid):
        return True
    return obj.meta.deletion_timestamp is not None
