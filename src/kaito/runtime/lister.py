"""Reads of what informers hold; never a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.store import Selector, Store

Objects: TypeAlias = Sequence[CachedObject]
"""A snapshot: it does not change when the store does."""


class Lister:
    """Reads of one informer's store. Answers are shared objects: decode them to get a copy of your own."""

    def __init__(self, store: Store, resource: Resource) -> None:
        self._store = store
        self._resource = resource

    def get(self, name: str, namespace: str | None = None) -> CachedObject | None:
        """One object, None when it is not there. `namespace` is ignored for cluster-scoped resources."""
        return self._store.get(ObjectKey((namespace or None) if self._resource.namespaced else None, name))

    def list(self, namespace: str | None = None, selector: Selector = None) -> Objects:
        """Objects of a namespace (None or "": all) that fit a label selector, as a tuple.

        `selector` is selector text, a map of labels, or a LabelSelector object. Raises SelectorError. It is
        answered from an index where there is one (see `Informer.add_label_index`).
        """
        return self._store.select((namespace or None) if self._resource.namespaced else None, selector)

    def by_index(self, index: str, value: str) -> Objects:
        """Objects under one value of an index made with `Informer.add_indexer`; KeyError if there is none."""
        return self._store.by_index(index, value)
