"""The objects that an informer holds, and indexes over them.

Everything runs in one event loop, so there are no locks and no copies: an object is replaced, never changed.
The store is always complete for its version: a new list is swapped in at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey
from kaito.runtime.selectors import LabelSelector, label_selector

log = logging.getLogger(__name__)

IndexFunction = Callable[[CachedObject], Iterable[str]]
Selector = Mapping[str, Any] | str | LabelSelector | None


@dataclass(frozen=True, slots=True)
class Added:
    obj: CachedObject


@dataclass(frozen=True, slots=True)
class Updated:
    old: CachedObject
    new: CachedObject


@dataclass(frozen=True, slots=True)
class Deleted:
    """`stale`: the deletion itself was not seen, so `obj` may not be the last state."""

    obj: CachedObject
    stale: bool


Delta = Added | Updated | Deleted


class _Index:
    """value -> objects, kept in step with the store. Remembers under which values it filed each object."""

    def __init__(self, name: str, function: IndexFunction) -> None:
        self.function = function
        self._name = name
        self._entries: dict[str, dict[ObjectKey, CachedObject]] = {}
        self._filed: dict[ObjectKey, frozenset[str]] = {}

    def _values(self, obj: CachedObject) -> frozenset[str]:
        """A function that fails on an object leaves it out of the index, and nothing else."""
        try:
            return frozenset(self.function(obj))
        except Exception:
            log.exception("index function failed", extra={"index": self._name, "object": str(obj.key)})
            return frozenset()

    def put(self, obj: CachedObject) -> None:
        key, values = obj.key, self._values(obj)
        filed = self._filed.get(key)
        if filed is not None and filed != values:
            self._remove(key, filed - values)
        if values:
            self._filed[key] = values
            for value in values:
                self._entries.setdefault(value, {})[key] = obj
        elif filed is not None:
            del self._filed[key]

    def drop(self, key: ObjectKey) -> None:
        self._remove(key, self._filed.pop(key, frozenset()))

    def _remove(self, key: ObjectKey, values: Iterable[str]) -> None:
        for value in values:
            entry = self._entries[value]
            del entry[key]
            if not entry:
                del self._entries[value]

    def clear(self) -> None:
        self._entries.clear()
        self._filed.clear()

    def get(self, value: str) -> Iterable[CachedObject]:
        return self._entries.get(value, {}).values()


class Store:
    """Objects by key. `resource_version` is that of the last change or bookmark applied, "" before the first
    list.

    Changes give back what they changed as `Delta`s, which is nothing where the version is the one already
    held.
    """

    def __init__(self) -> None:
        self.resource_version = ""
        self._objects: dict[ObjectKey, CachedObject] = {}
        self._namespaces: dict[str, dict[ObjectKey, CachedObject]] = {}
        self._indexes: dict[str, _Index] = {}

    # Reading

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[CachedObject]:
        return iter(list(self._objects.values()))

    def get(self, key: ObjectKey) -> CachedObject | None:
        return self._objects.get(key)

    def select(self, namespace: str | None, selector: Selector) -> list[CachedObject]:
        """Objects of one namespace (None: all) whose labels fit. Raises SelectorError."""
        candidates = (
            self._objects.values() if namespace is None else self._namespaces.get(namespace, {}).values()
        )
        if not selector:
            return list(candidates)
        parsed = label_selector(selector)
        return [obj for obj in candidates if parsed.matches(obj.meta.labels)]

    def by_index(self, index: str, value: str) -> list[CachedObject]:
        """Objects for which the index function gave `value`. Raises KeyError for an unknown index."""
        if index not in self._indexes:
            raise KeyError(f"no index {index!r}; known: {', '.join(self._indexes) or '(none)'}")
        return list(self._indexes[index].get(value))

    # Writing

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index what is there and what comes. The same name with another function is a ValueError."""
        existing = self._indexes.get(name)
        if existing is not None:
            if existing.function is not function:
                raise ValueError(f"index {name!r} exists with another function")
            return
        index = self._indexes[name] = _Index(name, function)
        for obj in self._objects.values():
            index.put(obj)

    def advance(self, resource_version: str) -> None:
        """Everything up to this version is here; an older one than is known changes nothing."""
        if resource_version and not is_older(resource_version, self.resource_version):
            self.resource_version = resource_version

    def put(self, obj: CachedObject) -> list[Delta]:
        """Add or replace one object. An older version than the one held is ignored."""
        old = self._objects.get(obj.key)
        if old is not None and (_same_version(old, obj) or _is_late(old, obj)):
            return []
        self._objects[obj.key] = obj
        self._file(obj)
        return _replacement(old, obj)

    def drop(self, obj: CachedObject) -> list[Delta]:
        """Remove the object of this key; `obj` is its last state. Ignored where a newer one is held."""
        key = obj.key
        held = self._objects.get(key)
        if held is not None and _is_late(held, obj):
            return []
        if self._objects.pop(key, None) is not None:
            if key.namespace:
                del self._namespaces[key.namespace][key]
            for index in self._indexes.values():
                index.drop(key)
        return [Deleted(obj, stale=False)]

    def swap(self, objects: dict[ObjectKey, CachedObject]) -> list[Delta]:
        """Hold exactly these objects; the deltas are the differences, deletions first.

        An object whose version has not changed stays the one held, with the views derived from it.
        """
        deltas: list[Delta] = [
            Deleted(old, stale=True) for key, old in self._objects.items() if key not in objects
        ]
        for key, new in objects.items():
            old = self._objects.get(key)
            if old is not None and _same_version(old, new):
                objects[key] = old
            else:
                deltas += _replacement(old, new)
        self._objects = objects
        self._namespaces.clear()
        for index in self._indexes.values():
            index.clear()
        for obj in objects.values():
            self._file(obj)
        return deltas

    def _file(self, obj: CachedObject) -> None:
        key = obj.key
        if key.namespace:
            self._namespaces.setdefault(key.namespace, {})[key] = obj
        for index in self._indexes.values():
            index.put(obj)


def is_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is certainly older. Those that are no numbers cannot be compared."""
    try:
        return int(version) < int(than)
    except ValueError:
        return False


def _is_late(held: CachedObject, obj: CachedObject) -> bool:
    """Whether `obj` is an older state than the one held, of the same object or of a predecessor by its name."""
    return is_older(obj.meta.resource_version, held.meta.resource_version)


def _same_version(old: CachedObject, new: CachedObject) -> bool:
    return (
        old.meta.resource_version == new.meta.resource_version
        and bool(new.meta.resource_version)
        and old.meta.uid == new.meta.uid
    )


def _replacement(old: CachedObject | None, new: CachedObject) -> list[Delta]:
    """Another uid under the same name is another object: its predecessor was deleted unseen."""
    if old is None:
        return [Added(new)]
    if old.meta.uid != new.meta.uid:
        return [Deleted(old, stale=True), Added(new)]
    return [Updated(old, new)]
