"""Several namespaces seen as one.

A client that may read in some namespaces only cannot follow a resource in all of them at once. It follows each by
an informer of its own; this is the view over those informers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from kaito.runtime.indexes import IndexFunction
from kaito.runtime.informer import Informer
from kaito.runtime.lister import Objects
from kaito.runtime.objects import CachedObject
from kaito.runtime.registrations import EventHandler, Registration
from kaito.runtime.store import Selector


class UnknownNamespace(LookupError):
    """A namespace was asked for that is not followed: an empty answer would be a wrong one."""


class NamespacesView:
    """Informers of one resource, one for each namespace; reads and handlers go to all of them.

    Reads are a lister's; one that names a namespace which is not followed raises `UnknownNamespace`.
    """

    def __init__(self, informers: Mapping[str, Informer]) -> None:
        """See `InformerCache.namespaces`."""
        self.informers = dict(informers)

    @property
    def has_synced(self) -> bool:
        return all(informer.has_synced for informer in self.informers.values())

    async def wait_synced(self) -> None:
        """Wait until every one of them has synced."""
        for informer in self.informers.values():
            await informer.wait_synced()

    def get(self, name: str, namespace: str) -> CachedObject | None:
        """One object, None when it is not there."""
        return self._informer(namespace).lister.get(name, namespace)

    def list(self, namespace: str | None = None, selector: Selector = None) -> Objects:
        """Objects of one namespace, or of all that are followed."""
        if namespace:
            return self._informer(namespace).lister.list(namespace, selector)
        return tuple(
            chain.from_iterable(each.lister.list(selector=selector) for each in self.informers.values())
        )

    def by_index(self, index: str, value: str) -> Objects:
        """Objects under one value of an index; KeyError if there is none."""
        return tuple(
            chain.from_iterable(each.lister.by_index(index, value) for each in self.informers.values())
        )

    def add_handler(self, handler: EventHandler, *, resync: float = 0.0) -> tuple[Registration, ...]:
        """Register a handler with each informer: it is told in order within a namespace."""
        return tuple(informer.add_handler(handler, resync=resync) for informer in self.informers.values())

    def add_indexer(self, name: str, function: IndexFunction) -> None:
        """See `Informer.add_indexer`."""
        for informer in self.informers.values():
            informer.add_indexer(name, function)

    def _informer(self, namespace: str) -> Informer:
        informer = self.informers.get(namespace)
        if informer is None:
            raise UnknownNamespace(
                f"namespace {namespace!r} is not followed; these are: {_names(self.informers)}"
            )
        return informer


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
