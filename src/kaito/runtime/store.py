"""The objects that an informer holds, and indexes over them.

Everything runs in one event loop, so there are no locks and no copies: an object is replaced, never changed.
The store is always complete for its version: a new list is compared and filed in slices, beside what readers
see, and swapped in at once. What is read is a tuple, made once per version of the store, so that readers cost
next to nothing while nothing changes and little while something does.

Invariants: no object ever gives way to an older version of itself, no list to an older list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from kaito.runtime.indexes import Index, IndexFunction
from kaito.runtime.objects import CachedObject, is_older
from kaito.runtime.resources import ObjectKey
from kaito.runtime.selectors import LabelSelector, Operator, label_selector

Selector = Mapping[str, Any] | str | LabelSelector | None

SLICE = 500
"""Objects that are compared or filed between two turns of the event loop: about a millisecond."""

FEW = 500
"""Differences that are filed one by one; with more of them namespaces and indexes are built anew."""


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
_Table = dict[ObjectKey, CachedObject]


class Store:
    """Objects by key. `resource_version` is that of the last change or bookmark applied, "" before the first
    list.

    Changes give back what they changed as `Delta`s, which is nothing where the version is the one already
    held, or an older one.
    """

    def __init__(self) -> None:
        self.resource_version = ""
        self._objects: _Table = {}
        self._namespaces: dict[str, _Table] = {}
        self._indexes: dict[str, Index] = {}
        self._label_indexes: dict[str, Index] = {}
        self._all: tuple[CachedObject, ...] | None = ()

    # Reading

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[CachedObject]:
        return iter(self.all())

    def get(self, key: ObjectKey) -> CachedObject | None:
        return self._objects.get(key)

    def all(self) -> Sequence[CachedObject]:
        """Every object, as a snapshot that later changes do not touch."""
        if self._all is None:
            self._all = tuple(self._objects.values())
        return self._all

    def select(self, namespace: str | None, selector: Selector) -> Sequence[CachedObject]:
        """Objects of one namespace (None: all) whose labels fit. Raises SelectorError."""
        if not selector:
            if namespace is None:
                return self.all()
            return tuple(self._namespaces.get(namespace, {}).values())
        parsed = label_selector(selector)
        for position, requirement in enumerate(parsed.requirements):
            index = self._label_indexes.get(requirement.key)
            if index is not None and requirement.operator is Operator.IN:
                found: Iterable[CachedObject] = chain.from_iterable(map(index.get, requirement.values))
                if namespace is not None:
                    found = (obj for obj in found if obj.key.namespace == namespace)
                rest = parsed.requirements[:position] + parsed.requirements[position + 1 :]
                return tuple(found) if not rest else _matching(found, LabelSelector(rest))
        table = self._objects if namespace is None else self._namespaces.get(namespace, {})
        return _matching(table.values(), parsed)

    def by_index(self, index: str, value: str) -> Sequence[CachedObject]:
        """Objects for which the index function gave `value`. Raises KeyError for an unknown index."""
        if index not in self._indexes:
            raise KeyError(f"no index {index!r}; known: {', '.join(self._indexes) or '(none)'}")
        return tuple(self._indexes[index].get(value))

    def index_values(self, index: str) -> Sequence[str]:
        """The values under which there are objects. Raises KeyError for an unknown index."""
        if index not in self._indexes:
            raise KeyError(f"no index {index!r}; known: {', '.join(self._indexes) or '(none)'}")
        return self._indexes[index].values()

    # Writing

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Index what is there and what comes. The same name with another function is a ValueError."""
        existing = self._indexes.get(name)
        if existing is not None:
            if existing.function is not function:
                raise ValueError(f"index {name!r} exists with another function")
            return
        self._indexes[name] = _filled(Index(name, function), self._objects.values())

    def add_label_index(self, label: str) -> None:
        """Answer selectors that ask for values of this label from an index. Harmless when repeated."""
        if label not in self._label_indexes:
            index = Index(label, _label_values(label))
            self._label_indexes[label] = _filled(index, self._objects.values())

    def advance(self, resource_version: str) -> None:
        """Everything up to this version is here; an older one than is known changes nothing."""
        if resource_version and not is_older(resource_version, self.resource_version):
            self.resource_version = resource_version

    def put(self, obj: CachedObject) -> Sequence[Delta]:
        """Add or replace one object. An older version than the one held is ignored."""
        old = self._objects.get(obj.key)
        if old is not None and (_same_version(old, obj) or _is_late(old, obj)):
            return ()
        if old is not None:
            obj.key = old.key  # tables keep the key they know: one of them is enough
        self._objects[obj.key] = obj
        self._all = None
        self._file(obj)
        return _replacement(old, obj)

    def drop(self, obj: CachedObject) -> Sequence[Delta]:
        """Remove the object of this key; `obj` is its last state. Ignored where a newer one is held."""
        held = self._objects.get(obj.key)
        if held is not None:
            if _is_late(held, obj):
                return ()
            self._remove(obj.key)
        return (Deleted(obj, stale=False),)

    def swap(self, objects: _Table, resource_version: str = "", *, restart: bool = False) -> Swap:
        """A whole list on its way in; readers see it when the answer has been iterated to its end.

        `restart`: the server's history began anew, so older versions are not late ones. Raises ValueError for a
        list that is older than the store otherwise.
        """
        if not restart and is_older(resource_version, self.resource_version):
            raise ValueError(
                f"a list of version {resource_version} is older than what is held, {self.resource_version}"
            )
        return Swap(self, objects, resource_version, restart=restart)

    def _file(self, obj: CachedObject) -> None:
        namespace = obj.key.namespace
        if namespace:
            self._namespaces.setdefault(namespace, {})[obj.key] = obj
        for indexes in (self._indexes, self._label_indexes):
            for index in indexes.values():
                index.put(obj)

    def _remove(self, key: ObjectKey) -> None:
        del self._objects[key]
        self._all = None
        if key.namespace:
            table = self._namespaces[key.namespace]
            del table[key]
            if not table:
                del self._namespaces[key.namespace]
        for indexes in (self._indexes, self._label_indexes):
            for index in indexes.values():
                index.drop(key)


class Swap:
    """A new list being compared and filed. Iterating does the work, a slice at a time; the last step swaps it in.

    `deltas` are then the differences, deletions first. An object whose version has not changed stays the one held,
    with the views derived from it. The store must not be written to meanwhile; indexes may be added. Afterwards
    iterate `let_go()`.
    """

    def __init__(self, store: Store, objects: _Table, resource_version: str, *, restart: bool) -> None:
        self.deltas: deque[Delta] = deque()
        self._store = store
        self._objects = objects
        self._version = resource_version
        self._restart = restart
        self._replaced: list[dict[Any, Any]] = []

    def __iter__(self) -> Iterator[None]:
        yield from self._compare()
        if len(self.deltas) <= FEW:
            self._file_differences()
            self._replaced = [self._objects]
            self._finish()
        else:
            yield from self._file_everything()

    def let_go(self) -> Iterator[None]:
        """Free what has been replaced, in slices: it takes as long as making it."""
        for table in self._replaced:
            while table:
                for _ in range(min(2 * SLICE, len(table))):
                    table.popitem()
                yield
        while self.deltas:
            for _ in range(min(SLICE, len(self.deltas))):
                self.deltas.popleft()
            yield

    def _finish(self) -> None:
        store = self._store
        store._all = None
        if self._restart:
            store.resource_version = self._version
        store.advance(self._version)

    def _compare(self) -> Iterator[None]:
        objects, held, deltas = self._objects, self._store._objects, self.deltas
        for count, (key, old) in enumerate(held.items(), 1):
            if key not in objects:
                deltas.append(Deleted(old, stale=True))
            if count % SLICE == 0:
                yield
        for count, (key, new) in enumerate(objects.items(), 1):
            present = held.get(key)
            if present is not None and (
                _same_version(present, new) or (not self._restart and _is_late(present, new))
            ):
                objects[key] = present
            else:
                deltas.extend(_replacement(present, new))
            if count % SLICE == 0:
                yield

    def _file_differences(self) -> None:
        store = self._store
        for delta in self.deltas:
            if isinstance(delta, Deleted):
                store._remove(delta.obj.key)
            else:
                obj = delta.obj if isinstance(delta, Added) else delta.new
                store._objects[obj.key] = obj
                store._file(obj)

    def _file_everything(self) -> Iterator[None]:
        store = self._store
        namespaces: dict[str, _Table] = {}
        indexes = {name: index.empty_copy() for name, index in store._indexes.items()}
        label_indexes = {label: index.empty_copy() for label, index in store._label_indexes.items()}
        built = (*indexes.values(), *label_indexes.values())
        for count, (key, obj) in enumerate(self._objects.items(), 1):
            if key.namespace:
                namespaces.setdefault(key.namespace, {})[key] = obj
            for index in built:
                index.put(obj)
            if count % (SLICE // (1 + len(built)) + 1) == 0:
                yield
        for kept, fresh in ((store._indexes, indexes), (store._label_indexes, label_indexes)):
            for name in kept.keys() - fresh.keys():  # added meanwhile
                fresh[name] = _filled(kept[name].empty_copy(), self._objects.values())
        self._replaced = [store._objects, store._namespaces]
        for index in (*store._indexes.values(), *store._label_indexes.values()):
            self._replaced += index.tables
        store._objects, store._namespaces = self._objects, namespaces
        store._indexes, store._label_indexes = indexes, label_indexes
        self._finish()


def _matching(objects: Iterable[CachedObject], selector: LabelSelector) -> tuple[CachedObject, ...]:
    matches = selector.compiled()
    return tuple(obj for obj in objects if matches(obj.meta.labels))


def _filled(index: Index, objects: Iterable[CachedObject]) -> Index:
    for obj in objects:
        index.put(obj)
    return index


def _label_values(label: str) -> IndexFunction:
    def values(obj: CachedObject) -> Iterable[str]:
        value = obj.meta.labels.get(label)
        return () if value is None else (value,)

    return values


def _is_late(held: CachedObject, obj: CachedObject) -> bool:
    """Whether `obj` is an older state than the one held, of the same object or of a predecessor by its name."""
    return is_older(obj.meta.resource_version, held.meta.resource_version)


def _same_version(old: CachedObject, new: CachedObject) -> bool:
    return (
        old.meta.resource_version == new.meta.resource_version
        and bool(new.meta.resource_version)
        and old.meta.uid == new.meta.uid
    )


def _replacement(old: CachedObject | None, new: CachedObject) -> tuple[Delta, ...]:
    """Another uid under the same name is another object: its predecessor was deleted unseen."""
    if old is None:
        return (Added(new),)
    if old.meta.uid != new.meta.uid:
        return (Deleted(old, stale=True), Added(new))
    return (Updated(old, new),)
