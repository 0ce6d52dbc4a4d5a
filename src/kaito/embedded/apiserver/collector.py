"""The garbage collector and the end of namespaces.

Kubernetes runs these as controllers beside the API server. Here they sit on the store's commit hook, which tells them
exactly what changed, and work in short turns of the event loop: no polling, no time passing, nothing to start or stop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from kaito.embedded.apiserver.core import NAMESPACES, Core
from kaito.embedded.apiserver.deletion import FOREGROUND, ORPHAN, Deleter
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import ADDED, DELETED, Collection, Event, Key, Record

_TURN: Final = 200
"""Jobs done before other work of the loop gets its turn."""

Place = tuple[str, Key]
"""A collection's name and a key in it."""

_OWNER: Final = "owner"
_DEPENDENT: Final = "dependent"
_NAMESPACE: Final = "namespace"


def _references(record: Record | None) -> list[dict[str, Any]]:
    return [] if record is None else record.metadata.get("ownerReferences") or []


def _waits_for_dependents(metadata: dict[str, Any]) -> bool:
    return bool(metadata.get("deletionTimestamp")) and FOREGROUND in (metadata.get("finalizers") or ())


class Collector:
    """Deletes what lost its owners, and what lives in a namespace that goes."""

    def __init__(self, core: Core, deleter: Deleter) -> None:
        self._core = core
        self._deleter = deleter
        self._live: dict[str, Place] = {}
        self._dependents: dict[str, dict[Place, None]] = {}
        self._gone: set[str] = set()
        """uids of owners seen to go that still have dependents: their kind may go in the same moment."""
        self._jobs: deque[tuple[str, Place]] = deque()
        self._queued: set[tuple[str, Place]] = set()
        self._scheduled = False
        core.store.on_commit(self._committed)

    def _committed(self, collection: Collection, event: Event) -> None:
        record, previous = event.record, event.previous
        place = (collection.name, record.key)
        metadata = record.metadata
        if event.type == ADDED:
            self._live[metadata["uid"]] = place
        new = [] if event.type == DELETED else _references(record)
        old = _references(previous)
        if new != old:
            self._index(place, old, new)
            if new:
                self._enqueue(_DEPENDENT, place)
        if event.type == DELETED:
            self._deleted(place, metadata, old)
        elif metadata.get("deletionTimestamp"):
            finalizers = metadata.get("finalizers") or ()
            if FOREGROUND in finalizers or ORPHAN in finalizers:
                self._enqueue(_OWNER, place)
            if collection.name == NAMESPACES:
                self._enqueue(_NAMESPACE, place)

    def _index(self, place: Place, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
        for reference in old:
            members = self._dependents.get(reference.get("uid", ""))
            if members is not None:
                members.pop(place, None)
                if not members:
                    del self._dependents[reference["uid"]]
                    self._gone.discard(reference["uid"])
        for reference in new:
            self._dependents.setdefault(reference.get("uid", ""), {})[place] = None

    def _deleted(self, place: Place, metadata: dict[str, Any], owners: list[dict[str, Any]]) -> None:
        self._live.pop(metadata["uid"], None)
        for dependent in self._dependents.get(metadata["uid"], ()):
            self._gone.add(metadata["uid"])
            self._enqueue(_DEPENDENT, dependent)
        for reference in owners:
            owner = self._live.get(reference.get("uid", ""))
            if owner is not None:
                self._enqueue(_OWNER, owner)
        namespace = place[1].namespace
        if namespace:
            home = self._core.store.collection(NAMESPACES).get(Key("", namespace))
            if home is not None and home.metadata.get("deletionTimestamp"):
                self._enqueue(_NAMESPACE, (NAMESPACES, home.key))

    def _enqueue(self, job: str, place: Place) -> None:
        item = (job, place)
        if item in self._queued:
            return
        self._queued.add(item)
        self._jobs.append(item)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        for _ in range(min(_TURN, len(self._jobs))):
            item = self._jobs.popleft()
            self._queued.discard(item)
            job, (name, key) = item
            served = self._core.registry.stored(name)
            record = None if served is None else served.collection.get(key)
            if served is None or record is None:
                continue
            if job == _OWNER:
                self._release_owner(served, record)
            elif job == _DEPENDENT:
                self._judge_dependent(served, record)
            else:
                self._empty_namespace(served, record)
        self._scheduled = bool(self._jobs)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._turn)

    def _record(self, place: Place | None) -> Record | None:
        return None if place is None else self._core.store.collection(place[0]).get(place[1])

    def _judge_dependent(self, served: Served, record: Record) -> None:
        """Deletes an object none of whose owners stays, and drops references to those that do not."""
        references = _references(record)
        solid: list[dict[str, Any]] = []
        waiting: list[dict[str, Any]] = []
        dangling: list[dict[str, Any]] = []
        for reference in references:
            owner = self._record(self._live.get(reference.get("uid", "")))
            if owner is None:
                known = reference.get("uid", "") in self._gone or self._core.registry.by_kind(
                    reference.get("apiVersion", ""), reference.get("kind", "")
                )
                # An owner of a kind that was never served here cannot be looked up: nobody knows that it is gone.
                (dangling if known else solid).append(reference)
            elif _waits_for_dependents(owner.metadata):
                waiting.append(reference)
            else:
                solid.append(reference)
        if not waiting and not dangling:
            return
        if solid:
            kept = [each for each in references if each in solid]
            self._put_references(served, record, kept)
            return
        if record.metadata.get("deletionTimestamp"):
            return
        finalizers = record.metadata.get("finalizers") or ()
        if waiting and self._dependents.get(record.metadata["uid"]):
            policy = "Foreground"
        elif ORPHAN in finalizers:
            policy = "Orphan"
        elif FOREGROUND in finalizers:
            policy = "Foreground"
        else:
            policy = "Background"
        self._deleter.begin(served, record, policy)

    def _put_references(self, served: Served, record: Record, references: list[dict[str, Any]]) -> None:
        metadata = {**record.metadata, "ownerReferences": references}
        if not references:
            del metadata["ownerReferences"]
        self._core.store.put(served.collection, record.key, {**record.obj, "metadata": metadata})

    def _release_owner(self, served: Served, record: Record) -> None:
        """Moves on an owner whose deletion is to orphan its dependents, or waits for them."""
        metadata = record.metadata
        finalizers = metadata.get("finalizers") or ()
        if not metadata.get("deletionTimestamp"):
            return
        uid = metadata["uid"]
        places = list(self._dependents.get(uid, ()))
        if ORPHAN in finalizers:
            for place in places:
                home, dependent = self._core.registry.stored(place[0]), self._record(place)
                if home is not None and dependent is not None:
                    kept = [each for each in _references(dependent) if each.get("uid") != uid]
                    self._put_references(home, dependent, kept)
            self._deleter.drop_finalizer(served, record, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = False
            for place in places:
                dependent = self._record(place)
                if dependent is None:
                    continue
                blocking |= any(
                    each.get("uid") == uid and each.get("blockOwnerDeletion")
                    for each in _references(dependent)
                )
                self._enqueue(_DEPENDENT, place)
            if not blocking:
                self._deleter.drop_finalizer(served, record, FOREGROUND)

    def _empty_namespace(self, served: Served, record: Record) -> None:
        """Deletes what is in a namespace that is being deleted, and the namespace once it is empty."""
        metadata = record.metadata
        if not metadata.get("deletionTimestamp"):
            return
        name = record.key.name
        left = False
        for kind in self._core.registry.stored_kinds():
            if not kind.resource.namespaced:
                continue
            for each in list(kind.collection.select(name)):
                if not each.metadata.get("deletionTimestamp"):
                    self._deleter.begin(kind, each, "Background")
                left = left or kind.collection.get(each.key) is not None
        if left:
            return
        if metadata.get("finalizers"):
            spec = {**(record.obj.get("spec") or {}), "finalizers": []}
            if spec != record.obj.get("spec"):
                self._core.store.put(served.collection, record.key, {**record.obj, "spec": spec})
            return
        self._core.remove(served, record.key)
