"""From events to keys: what an informer tells and what the work queue is given.

A mapper names the keys that an object concerns: its own, its owner's, or anything a function says. `Enqueue`
runs one mapper on every event that passes its predicates and adds the keys; an update concerns the keys of
the old and of the new object. Objects of the initial list and updates that changed nothing are queued at low
priority, so that a restart over ten thousand objects does not delay the one that a user is looking at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kaito.runtime.indexes import IndexFunction
from kaito.runtime.lister import Lister
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import Event, EventType, Predicate
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.workqueue import DEFAULT_PRIORITY, LOW_PRIORITY, WorkQueue

Mapper = Callable[[CachedObject], Iterable[ObjectKey]]


def by_object(obj: CachedObject) -> Iterable[ObjectKey]:
    """The object's own key."""
    return (obj.key,)


def by_owner(owner: Resource, *, every_owner: bool = False) -> Mapper:
    """The keys of the owners of type `owner`: its controller only, or with `every_owner` all of them.

    Group and kind are compared, the version is not. A cluster-scoped owner's key has no namespace.
    """

    def mapper(obj: CachedObject) -> list[ObjectKey]:
        namespace = obj.meta.namespace if owner.namespaced else None
        return [
            ObjectKey(namespace, reference.name)
            for reference in obj.meta.owner_references
            if reference.kind == owner.kind
            and reference.api_version.rpartition("/")[0] == owner.group
            and (every_owner or reference.controller)
        ]

    return mapper


def field_index(*path: str, namespaced: bool = True) -> IndexFunction:
    """An index function: files an object under the names that its field at `path` refers to.

    `field_index("spec", "configMapRef", "name")`; lists on the way are walked. Names are filed as `namespace/name`
    with the object's own namespace, or with `namespaced=False`, for references to cluster-scoped objects, as they
    are. A field that is absent refers to nothing.
    """

    def function(obj: CachedObject) -> list[str]:
        namespace = obj.meta.namespace if namespaced else None
        return [str(ObjectKey(namespace, name)) for name in _values(obj.decode(), path)]

    return function


def _values(tree: Any, path: Sequence[str]) -> Iterator[str]:
    if isinstance(tree, list):
        for item in tree:
            yield from _values(item, path)
    elif path:
        if isinstance(tree, dict):
            yield from _values(tree.get(path[0]), path[1:])
    elif isinstance(tree, str) and tree:
        yield tree


def by_field_index(lister: Lister, index: str) -> Mapper:
    """The keys of the objects in `lister` that refer to an object by a field.

    `index` is the name of an index made with `Informer.add_indexer(index, field_index(...))`. So when a ConfigMap
    changes, everything is reconciled that names it:

        workloads = manager.cache.informer(WORKLOADS)
        workloads.add_indexer("config", field_index("spec", "configMapRef", "name"))
        Watch(CONFIGMAPS, by_field_index(workloads.lister, "config"))
    """

    def mapper(obj: CachedObject) -> list[ObjectKey]:
        return [each.key for each in lister.by_index(index, str(obj.key))]

    return mapper


class Enqueue:
    """An informer's event handler that feeds a work queue."""

    __slots__ = ("_mapper", "_predicates", "_queue")

    def __init__(
        self, queue: WorkQueue[ObjectKey], mapper: Mapper = by_object, predicates: Sequence[Predicate] = ()
    ) -> None:
        self._queue = queue
        self._mapper = mapper
        self._predicates = tuple(predicates)

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        # Most controllers have no predicates, and an initial list is long: no event is made for nobody.
        if not self._predicates or self._passes(Event(EventType.CREATE, obj, initial=initial)):
            self._add(self._mapper(obj), LOW_PRIORITY if initial else DEFAULT_PRIORITY)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        if not self._predicates or self._passes(Event(EventType.UPDATE, new, old)):
            same = old.meta.resource_version == new.meta.resource_version
            keys = dict.fromkeys((*self._mapper(old), *self._mapper(new)))
            self._add(keys, LOW_PRIORITY if same else DEFAULT_PRIORITY)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        if not self._predicates or self._passes(Event(EventType.DELETE, obj, stale=stale)):
            self._add(self._mapper(obj), DEFAULT_PRIORITY)

    def _passes(self, event: Event) -> bool:
        return all(predicate(event) for predicate in self._predicates)

    def _add(self, keys: Iterable[ObjectKey], priority: int) -> None:
        add = self._queue.add
        for key in keys:
            add(key, priority=priority)
