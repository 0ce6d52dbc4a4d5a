"""A local copy of a collection that tells handlers what changed.

Reads (`Lister`) never go to the network. Handlers are plain functions called in the event loop, in order,
after the store has changed; one that raises is logged and counted and keeps nobody else from being called,
nor the informer from being synced.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kaito.runtime.client import Client
from kaito.runtime.garbage import LARGE_LIST, CollectorCare
from kaito.runtime.indexes import IndexFunction
from kaito.runtime.lister import Lister, Objects
from kaito.runtime.objects import CachedObject
from kaito.runtime.reflector import Reflector, ReflectorStats
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.registrations import EventHandler, Registration
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.selection import Selection
from kaito.runtime.store import Added, Store

if TYPE_CHECKING:
    from kaito.runtime.writes import Write

__all__ = ["EventHandler", "Informer", "Lister", "Objects", "Registration", "Transform"]

Transform = Callable[[CachedObject], CachedObject]
"""Makes an object smaller before it is stored, once per version. Must not touch name, namespace, uid and
resourceVersion; an exception keeps the object as it came."""


class Informer:
    """Follows the objects of one `Selection`."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        *,
        transform: Transform | None = None,
        options: ReflectorOptions | None = None,
        keep_managed_fields: bool = False,
        bookmarked: set[Resource] | None = None,
        collector: CollectorCare | None = None,
        on_error: Callable[[Exception], None] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`keep_managed_fields`: do not cut `metadata.managedFields` out of what is kept.

        `on_error` is called with every failure to follow the collection, beside the log. `bookmarked` is shared by
        informers of one server (see `Reflector`), `collector` by those of one process. `draw` gives random numbers in
        [0, 1).
        """
        self.store = Store()
        self.lister = Lister(self.store, selection.resource)
        self.transform = transform
        self._resource = selection.resource
        self._clock = client.clock
        self._registrations: tuple[Registration, ...] = ()
        self.handler_failures = 0
        """Exceptions of handlers."""
        self._advance_callbacks: dict[object, Callable[[], None]] = {}
        self._scratch: dict[ObjectKey, CachedObject] = {}
        self._listed = False
        self._synced = False
        self._ready = asyncio.Event()  # synced or stopped
        self._running = self._stopped = False
        self._collector = collector
        self._reflector = Reflector(
            client,
            selection,
            self,
            options=options,
            transform=transform,
            keep_managed_fields=keep_managed_fields,
            bookmarked=bookmarked,
            on_error=on_error,
            draw=draw,
        )

    @property
    def resource(self) -> Resource:
        return self._resource

    @property
    def selection(self) -> Selection:
        """Which objects are followed at the moment; see `reselect`."""
        return self._reflector.selection

    @property
    def stats(self) -> ReflectorStats:
        """Counts of lists, watches, events, failures and skipped objects."""
        return self._reflector.stats

    @property
    def last_error(self) -> Exception | None:
        """Why the collection cannot be followed at the moment; None while it can."""
        return self._reflector.health.last_error

    @property
    def age(self) -> float | None:
        """Seconds since the server was last heard of; None before the first answer."""
        heard = self._reflector.health.last_byte
        return None if heard is None else self._clock.now() - heard

    @property
    def failing_for(self) -> float:
        """Seconds for which the collection could not be followed; 0.0 while it can."""
        since = self._reflector.health.failing_since
        return 0.0 if since is None or self.last_error is None else self._clock.now() - since

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in the store and every handler of that time has been told of it.

        A handler's own state is `Registration.has_synced`.
        """
        return self._synced

    @property
    def is_stopped(self) -> bool:
        """Whether it ran and runs no more."""
        return self._stopped

    async def wait_synced(self) -> None:
        """Wait until `has_synced`, or until it stops; put a limit around it with `clock.timeout`."""
        await self._ready.wait()

    async def run(self) -> None:
        """Follow the collection until cancelled. RuntimeError when already running."""
        if self._running:
            raise RuntimeError(f"the informer for {self.resource} is already running")
        self._running, self._stopped = True, False
        if not self._synced:
            self._ready.clear()
        try:
            for registration in self._registrations:
                registration.start_resync()
            await self._reflector.run()
        finally:
            self._running = False
            self._scratch = {}
            self._end_list(0)
            self.abandon()
            for registration in self._registrations:
                registration.stop_resync()

    def abandon(self) -> None:
        """It runs no more, and nobody needs to wait for it; `run` may still be called again."""
        self._stopped = True
        self._ready.set()

    def reselect(self, *, label_selector: str | None = None, field_selector: str | None = None) -> None:
        """Follow other objects of the same resource from now on; None leaves a selector as it is.

        Works on a running informer: it lists again, and handlers are told of the differences only. Objects that
        are selected no more are deletions to them, those selected newly are additions. Everybody who shares the
        informer is affected: take one of your own (`InformerCache.informer` with other arguments) where others
        rely on the selection. Raises SelectorError.
        """
        selection = self.selection
        wanted = replace(
            selection,
            label_selector=selection.label_selector if label_selector is None else label_selector,
            field_selector=selection.field_selector if field_selector is None else field_selector,
        )
        wanted.check()
        if wanted != selection:
            self._reflector.reselect(wanted)

    def add_handler(self, handler: EventHandler, *, resync: float = 0.0) -> Registration:
        """Register a handler; it is told of every object already in the store, then of all that changes.

        Little to tell is told when this returns; much is told in slices soon after (`Registration.wait_synced`).
        `resync`: tell it again of every object each so many seconds, at least 1, as an update whose old and new
        object are the same one; never asks the server. 0: not at all. Raises RuntimeError for an informer that has
        stopped.
        """
        if self._stopped:
            raise RuntimeError(
                f"the informer for {self.resource} has stopped: nothing would be told any more"
            )
        registration = Registration(
            handler, self.store, self._clock, resync=resync, forget=self._forget, failed=self._handler_failed
        )
        if self._listed:
            registration.start(self.store.all())
        self._registrations += (registration,)
        if self._running:
            registration.start_resync()
        return registration

    def add_indexer(self, name: str, function: IndexFunction) -> None:
        """Index objects by the values that `function` gives for them; see `Lister.by_index`.

        May be called at any time, and again with the same function. Raises ValueError when the name is taken.
        """
        self.store.add_index(name, function)

    def add_label_index(self, label: str) -> None:
        """Answer `Lister.list` from an index where its selector asks for values of this label."""
        self.store.add_label_index(label)

    # Read your own writes

    def has_seen(self, resource_version: str) -> bool:
        """Whether the store contains everything up to this version.

        Versions that are not numbers cannot be compared and count as seen.
        """
        try:
            return int(resource_version) <= int(self.store.resource_version or "0")
        except ValueError:
            return True

    def covers(self, write: Write) -> bool:
        """Whether this informer will show what was written: the object lies within its selection."""
        return self.selection.covers(write.resource, write.key, write.labels)

    def on_advance(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every change of the store's version; the answer takes it back.

        It runs for every event, so it should do no more than wake somebody.
        """
        token = object()
        self._advance_callbacks[token] = callback

        def remove() -> None:
            self._advance_callbacks.pop(token, None)

        return remove

    async def wait_seen(self, resource_version: str, timeout: float) -> bool:
        """Wait at most `timeout` seconds for `has_seen`; False when it did not come true."""
        moved = asyncio.Event()
        remove = self.on_advance(moved.set)
        try:
            async with self._clock.timeout(timeout):
                while not self.has_seen(resource_version):
                    moved.clear()
                    await moved.wait()
        except TimeoutError:
            return False
        finally:
            remove()
        return True

    # What the reflector calls (see reflector.Sink)

    def begin(self) -> None:
        self._scratch = {}

    def collect(self, obj: CachedObject, deleted: bool = False) -> None:
        if deleted:
            self._scratch.pop(obj.key, None)
        else:
            self._scratch[obj.key] = obj
            if len(self._scratch) == LARGE_LIST and self._collector is not None:
                self._collector.begin(self)

    async def commit(self, resource_version: str, *, restart: bool) -> None:
        scratch, self._scratch = self._scratch, {}
        swap = self.store.swap(scratch, resource_version, restart=restart)
        del scratch
        for _ in swap:
            await self._clock.sleep(0)
        # From here to the last handler nothing waits: no handler may come in between, and no change be lost.
        registrations, first = self._registrations, not self._listed
        self._listed = True
        for registration in registrations:
            if first:
                registration.start(delta.obj for delta in swap.deltas if isinstance(delta, Added))
            else:
                registration.tell_all(swap.deltas)
        changes = len(swap.deltas)
        self._advanced()
        for _ in swap.let_go():
            await self._clock.sleep(0)
        for registration in registrations:
            await registration.wait_told()
        self._end_list(changes)
        self._synced = True
        self._ready.set()

    def apply(self, obj: CachedObject, deleted: bool) -> None:
        # A handler that comes meanwhile is told of the store as it is by then.
        registrations = self._registrations
        for delta in self.store.drop(obj) if deleted else self.store.put(obj):
            for registration in registrations:
                registration.tell(delta)
        self.bookmark(obj.meta.resource_version)

    def bookmark(self, resource_version: str) -> None:
        self.store.advance(resource_version)
        self._advanced()

    def _end_list(self, changes: int) -> None:
        if self._collector is not None:
            self._collector.end(self, changes)

    def _advanced(self) -> None:
        if self._advance_callbacks:
            for callback in tuple(self._advance_callbacks.values()):
                callback()

    def _forget(self, registration: Registration) -> None:
        self._registrations = tuple(each for each in self._registrations if each is not registration)

    def _handler_failed(self) -> None:
        self.handler_failures += 1

    def __repr__(self) -> str:
        return (
            f"<Informer {self.resource} {'synced' if self.has_synced else 'not synced'} n={len(self.store)}>"
        )
