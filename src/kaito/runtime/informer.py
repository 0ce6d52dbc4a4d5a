"""A local copy of a collection that tells handlers what changed.

Reads (`Lister`) never go to the network. Handlers are plain functions called in the event loop, in order,
after the store has changed; one that raises is logged and counted and keeps nobody else from being called,
nor the informer from being synced.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from kaito.runtime.client import Client
from kaito.runtime.objects import CachedObject
from kaito.runtime.reflector import YIELD_EVERY, Reflector, ReflectorStats, Selection
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.store import Added, Deleted, Delta, IndexFunction, Selector, Store, Updated

if TYPE_CHECKING:
    from kaito.runtime.own_writes import Write

log = logging.getLogger(__name__)

Transform = Callable[[CachedObject], CachedObject]
Objects = list[CachedObject]


class EventHandler(Protocol):
    """Told about every change. Must return quickly: put a key into a queue, set an event."""

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        """An object is new; `initial` when it was there before this handler knew of the collection."""

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        """An object has another resourceVersion."""

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        """An object is gone; `stale` when the deletion was missed, so that `obj` is only the last state
        known.
        """


class Lister:
    """Reads of one informer's store. Answers are shared objects: decode them to get a copy of your own."""

    def __init__(self, store: Store, resource: Resource) -> None:
        self._store = store
        self._resource = resource

    def get(self, name: str, namespace: str | None = None) -> CachedObject | None:
        """One object, None when it is not there. `namespace` is ignored for cluster-scoped resources."""
        return self._store.get(ObjectKey((namespace or None) if self._resource.namespaced else None, name))

    def list(self, namespace: str | None = None, selector: Selector = None) -> Objects:
        """Objects of a namespace (None or "": all) that fit a label selector.

        `selector` is selector text, a map of labels, or a LabelSelector object. Raises SelectorError.
        """
        return self._store.select((namespace or None) if self._resource.namespaced else None, selector)

    def by_index(self, index: str, value: str) -> Objects:
        """Objects under one value of an index made with `Informer.add_indexer`; KeyError if there is none."""
        return self._store.by_index(index, value)


class Registration:
    """One handler of one informer."""

    def __init__(self, informer: Informer, handler: EventHandler) -> None:
        self.failures = 0
        self._informer = informer
        self._handler = handler

    @property
    def has_synced(self) -> bool:
        """Whether the handler has been called for every object of the initial list."""
        return self._informer.has_synced

    def remove(self) -> None:
        """Call the handler no more; harmless when repeated."""
        self._informer._forget(self)

    def notify(self, delta: Delta, initial: bool = False) -> None:
        """Call the handler; whatever it raises ends here."""
        try:
            match delta:
                case Added(obj):
                    self._handler.on_add(obj, initial)
                case Updated(old, new):
                    self._handler.on_update(old, new)
                case Deleted(obj, stale):
                    self._handler.on_delete(obj, stale)
        except Exception:
            self.failures += 1
            obj = delta.new if isinstance(delta, Updated) else delta.obj
            log.exception(
                "event handler failed", extra={"handler": repr(self._handler), "object": str(obj.key)}
            )


class Informer:
    """Follows the objects of one `Selection`."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        *,
        transform: Transform | None = None,
        options: ReflectorOptions | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.store = Store()
        self.lister = Lister(self.store, selection.resource)
        self._resource = selection.resource
        self.transform = transform
        self._clock = client.clock
        self._registrations: list[Registration] = []
        self._scratch: dict[ObjectKey, CachedObject] = {}
        self._synced = asyncio.Event()
        self._advance_callbacks: dict[object, Callable[[], None]] = {}
        self._running = False
        self._reflector = Reflector(client, selection, self, options=options, transform=transform, draw=draw)

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
        return self._reflector.last_error

    @property
    def age(self) -> float | None:
        """Seconds since the server was last heard of; None before the first answer."""
        heard = self._reflector.last_byte
        return None if heard is None else self._clock.now() - heard

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in the store and every handler has been told of it."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until `has_synced`; put a limit around it with `clock.timeout`."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the collection until cancelled. RuntimeError when already running."""
        if self._running:
            raise RuntimeError(f"the informer for {self.resource} is already running")
        self._running = True
        try:
            await self._reflector.run()
        finally:
            self._running = False

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

    def add_handler(self, handler: EventHandler) -> Registration:
        """Register a handler; it is told at once of every object already in the store."""
        registration = Registration(self, handler)
        for obj in self.store:
            registration.notify(Added(obj), initial=True)
        self._registrations.append(registration)
        return registration

    def add_indexer(self, name: str, function: IndexFunction) -> None:
        """Index objects by the values that `function` gives for them; see `Lister.by_index`.

        May be called at any time, and again with the same function. Raises ValueError when the name is taken.
        """
        self.store.add_index(name, function)

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

    async def commit(self, resource_version: str) -> None:
        scratch, self._scratch = self._scratch, {}
        deltas = self.store.swap(scratch)
        initial = not self._synced.is_set()
        # Handlers that register while this yields are told of the whole store by add_handler.
        registrations = list(self._registrations)
        for count, delta in enumerate(deltas, 1):
            self._notify(registrations, delta, initial)
            if count % YIELD_EVERY == 0:
                await self._clock.sleep(0)
        self._synced.set()
        self._advance(resource_version)

    def apply(self, obj: CachedObject, deleted: bool) -> None:
        deltas = self.store.drop(obj) if deleted else self.store.put(obj)
        for delta in deltas:
            self._notify(self._registrations, delta, initial=False)
        self._advance(obj.meta.resource_version)

    def bookmark(self, resource_version: str) -> None:
        self._advance(resource_version)

    def _notify(self, registrations: Iterable[Registration], delta: Delta, initial: bool) -> None:
        for registration in tuple(registrations):
            registration.notify(delta, initial)

    def _advance(self, resource_version: str) -> None:
        self.store.advance(resource_version)
        for callback in tuple(self._advance_callbacks.values()):
            callback()

    def _forget(self, registration: Registration) -> None:
        if registration in self._registrations:
            self._registrations.remove(registration)

    def __repr__(self) -> str:
        return (
            f"<Informer {self.resource} {'synced' if self.has_synced else 'not synced'} n={len(self.store)}>"
        )
