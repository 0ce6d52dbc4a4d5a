"""Indexes over the objects of a store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey

log = logging.getLogger(__name__)

IndexFunction = Callable[[CachedObject], Iterable[str]]
"""The values under which an object is to be found."""


class Index:
    """value -> objects, kept in step with the store.

    Remembers under which values it filed each object: one value, as nearly always, as itself, several as a
    frozenset, which takes four times the room.
    """

    def __init__(self, name: str, function: IndexFunction) -> None:
        self.name = name
        self.function = function
        self._entries: dict[str, dict[ObjectKey, CachedObject]] = {}
        self._filed: dict[ObjectKey, str | frozenset[str]] = {}

    @property
    def tables(self) -> tuple[dict[Any, Any], ...]:
        """What it is made of, for whoever takes it apart."""
        return (self._entries, self._filed)

    def empty_copy(self) -> Index:
        return Index(self.name, self.function)

    def put(self, obj: CachedObject) -> None:
        key, values = obj.key, self._values(obj)
        filed = _as_set(self._filed.get(key, ()))
        for value in filed:
            if value not in values:
                self._take_out(key, value)
        if not values:
            self._filed.pop(key, None)
            return
        entries = self._entries
        for value in values:
            entry = entries.get(value)
            if entry is None:
                entry = entries[value] = {}
            entry[key] = obj
        self._filed[key] = next(iter(values)) if len(values) == 1 else frozenset(values)

    def drop(self, key: ObjectKey) -> None:
        for value in _as_set(self._filed.pop(key, ())):
            self._take_out(key, value)

    def get(self, value: str) -> Iterable[CachedObject]:
        entry = self._entries.get(value)
        return () if entry is None else entry.values()

    def values(self) -> Sequence[str]:
        return tuple(self._entries)

    def _values(self, obj: CachedObject) -> Collection[str]:
        """A function that fails on an object leaves it out of the index, and nothing else."""
        try:
            return dict.fromkeys(self.function(obj))
        except Exception:
            fields = {"index": self.name, "object": str(obj.key)}
            log.exception("index function failed", extra={"fields": fields})
            return ()

    def _take_out(self, key: ObjectKey, value: str) -> None:
        entry = self._entries[value]
        del entry[key]
        if not entry:
            del self._entries[value]


def _as_set(filed: str | Collection[str]) -> Collection[str]:
    return (filed,) if isinstance(filed, str) else filed
