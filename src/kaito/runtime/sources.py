"""Where a controller's keys come from: informers, each with a mapper, feeding one work queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from kaito.runtime.cache import InformerCache
from kaito.runtime.clock import Clock
from kaito.runtime.handlers import Enqueue, Mapper
from kaito.runtime.informer import Informer, Registration, Transform
from kaito.runtime.predicates import Predicate
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.workqueue import WorkQueue


class CacheSyncTimeout(Exception):
    """A controller's caches did not fill in time; the message names those that are missing."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Another resource whose changes concern the controller's objects."""

    resource: Resource
    """What is watched."""
    mapper: Mapper
    """Names the keys that an object concerns; an update concerns those of the old and the new object."""
    predicates: Sequence[Predicate] = ()
    """All must pass. In addition to the controller's own predicates."""
    namespace: str | None = None
    """Watch one namespace only. None: all."""
    label_selector: str = ""
    """Let the server send only objects with these labels, such as `app=web,tier in (a, b)`. "": all. See
    `Controller.reselect`."""
    field_selector: str = ""
    """Let the server send only objects with these fields, such as `spec.nodeName=n1`. "": all."""
    metadata_only: bool = False
    """Fetch and keep only the metadata."""
    transform: Transform | None = None
    """Makes objects smaller before they are kept, such as a module-level function that drops what nobody reads. Share
    one function among those who want the same: each gets a cache of its own. None: as they come."""


class Sources:
    """The watches of one controller, once it belongs to a manager: their informers run with the caches."""

    def __init__(self, controller: str, watches: Sequence[Watch], cache: InformerCache, clock: Clock) -> None:
        self._controller = controller
        self._clock = clock
        self._followed = [(watch, _informer(cache, watch)) for watch in watches]
        self._registrations: list[Registration] = []
        self._starting: asyncio.Task[None] | None = None

    @property
    def informers(self) -> list[Informer]:
        """One per watch; watches of the same objects have the same."""
        return [informer for _, informer in self._followed]

    async def start(
        self, queue: WorkQueue[ObjectKey], predicates: Sequence[Predicate], timeout: float
    ) -> None:
        """Returns when every informer has synced and every initial object has passed its handler.

        May be called again, also meanwhile: handlers are registered once. Raises CacheSyncTimeout after
        `timeout` seconds.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(
                self._start(queue, predicates, timeout), name=f"{self._controller}-sources"
            )
        starting = self._starting
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            raise

    async def _start(
        self, queue: WorkQueue[ObjectKey], predicates: Sequence[Predicate], timeout: float
    ) -> None:
        for watch, informer in self._followed:
            handler = Enqueue(queue, watch.mapper, (*watch.predicates, *predicates))
            self._registrations.append(informer.add_handler(handler))
        try:
            async with self._clock.timeout(timeout):
                for registration in self._registrations:
                    await registration.wait_synced()
        except TimeoutError:
            raise CacheSyncTimeout(
                f"controller {self._controller}: {missing_lists(self.informers, timeout)}"
            ) from None

    def stop(self) -> None:
        """The queue is fed no more."""
        for registration in self._registrations:
            registration.remove()
        self._registrations.clear()

    async def reselect(
        self, resource: Resource, *, label_selector: str | None, field_selector: str | None, timeout: float
    ) -> None:
        """See `Controller.reselect`."""
        informers = dict.fromkeys(each for each in self.informers if each.resource == resource)
        if not informers:
            known = ", ".join(dict.fromkeys(str(each.resource) for each in self.informers))
            raise ValueError(f"controller {self._controller} does not watch {resource}, only {known}")
        await asyncio.gather(
            *(self._reselect(each, label_selector, field_selector, timeout) for each in informers)
        )

    async def _reselect(
        self, informer: Informer, label_selector: str | None, field_selector: str | None, timeout: float
    ) -> None:
        before = informer.selection
        listed = asyncio.Event()
        remove = informer.on_advance(listed.set)
        try:
            informer.reselect(label_selector=label_selector, field_selector=field_selector)
            if informer.selection == before:
                return
            async with self._clock.timeout(timeout):
                await listed.wait()
                for registration in self._registrations:
                    await registration.wait_told()
        except TimeoutError:
            after = informer.selection
            informer.reselect(label_selector=before.label_selector, field_selector=before.field_selector)
            raise CacheSyncTimeout(
                f"controller {self._controller}: no complete list of {informer.resource} with labels "
                f"{after.label_selector!r} and fields {after.field_selector!r} within {timeout:g} s "
                f"({informer.last_error or 'no answer'}); the selection stays as it was"
            ) from None
        finally:
            remove()


def missing_lists(informers: Sequence[Informer], timeout: float) -> str:
    """Which informers have not synced within `timeout` seconds, and why, as far as known."""
    missing = {each.resource.name: each.last_error for each in informers if not each.has_synced}
    reasons = "; ".join(f"{name}: {error}" for name, error in missing.items() if error is not None)
    return (
        f"no complete list of {', '.join(missing)} within {timeout:g} s; does the resource exist, and may this "
        f"client list and watch it?{f' ({reasons})' if reasons else ''}"
    )


def _informer(cache: InformerCache, watch: Watch) -> Informer:
    return cache.informer(
        watch.resource,
        namespace=watch.namespace,
        label_selector=watch.label_selector,
        field_selector=watch.field_selector,
        metadata_only=watch.metadata_only,
        transform=watch.transform,
    )
