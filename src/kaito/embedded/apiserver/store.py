"""The memory of the API server: revisions, collections, history and watch cursors.

One counter numbers every write of every kind, as etcd does, so a resourceVersion orders the whole world. A stored
object is never changed in place: a write replaces its `Record`, and readers keep what they hold. Each record keeps its
JSON, so an object that nobody writes is serialised once however often it is read.

A watcher owns no queue. It is a cursor into its collection's bounded history: a slow watcher costs nothing, and when
its place falls out of the history it is told so (`HistoryGone`), just as one that asks to start too far back.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import orjson

from kaito.runtime.resources import Resource

Object = dict[str, Any]

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"

DEFAULT_HISTORY: Final = 2048
"""Events kept per collection at least; twice as many at most."""


UNPACKED: Final = 32
"""Newest events of a collection whose past objects are kept decoded, for watchers that select by fields."""


class HistoryGone(Exception):
    """The asked revision is older than what the history still holds."""


class FutureRevision(Exception):
    """The asked revision has not been written yet."""


class Key(NamedTuple):
    """Where an object lives; namespace is "" for cluster-scoped kinds."""

    namespace: str
    name: str


class Version(Protocol):
    """What the store must know of a served version: its name and how a stored object looks under it."""

    @property
    def resource(self) -> Resource: ...

    def from_storage(self, obj: Object) -> Object: ...


class Record:
    """One revision of one object."""

    __slots__ = ("_encoded", "_tree", "key", "labels", "revision")

    def __init__(self, key: Key, obj: Object, revision: int) -> None:
        self.key = key
        self.revision = revision
        self.labels: dict[str, str] = obj["metadata"].get("labels") or {}
        self._tree: Object | bytes = obj
        self._encoded: dict[str, bytes] = {}

    @property
    def obj(self) -> Object:
        """The object as it is stored: read-only."""
        tree = self._tree
        return orjson.loads(tree) if isinstance(tree, bytes) else tree

    def pack(self) -> None:
        """Keeps the object as JSON only: a fraction of the memory, and nothing for Python's collector to walk.

        For revisions of the past, which few will still look into.
        """
        if not isinstance(self._tree, bytes):
            own = self._encoded.get(self._tree["apiVersion"])
            self._tree = orjson.dumps(self._tree) if own is None else own

    @property
    def metadata(self) -> dict[str, Any]:
        return self.obj["metadata"]  # type: ignore[no-any-return] # every stored object has it

    def encoded(self, version: Version) -> bytes:
        """The object's JSON as a version serves it, made once."""
        name = version.resource.api_version
        data = self._encoded.get(name)
        if data is None:
            data = self._encoded[name] = orjson.dumps(self.view(version))
        return data

    def view(self, version: Version) -> Object:
        """The object as a version serves it: read-only."""
        obj, name = version.from_storage(self.obj), version.resource.api_version
        # Objects written before a definition changed its storage version still carry the old one's name.
        return obj if obj["apiVersion"] == name else {**obj, "apiVersion": name}

    def encoded_metadata(self) -> bytes:
        """The object as PartialObjectMetadata, made once."""
        data = self._encoded.get("")
        if data is None:
            data = self._encoded[""] = orjson.dumps(
                {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": self.metadata}
            )
        return data


class Event:
    """One write as watchers see it. `previous` is None only for ADDED."""

    __slots__ = ("previous", "record", "revision", "type")

    def __init__(self, type_: str, record: Record, previous: Record | None) -> None:
        self.type = type_
        self.record = record
        self.previous = previous
        self.revision = record.revision


class Cursor:
    """A watcher's place in a collection's history."""

    __slots__ = ("_collection", "_next", "_waiter", "ended")

    def __init__(self, collection: Collection, position: int) -> None:
        self._collection = collection
        self._next = position
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False
        """Whether nothing will follow what can be taken now."""

    def take(self) -> list[Event]:
        """Events since the last call.

        Raises:
            HistoryGone: the watcher was so slow that its place is gone.
        """
        collection = self._collection
        start = self._next - collection.first_position
        if start < 0:
            raise HistoryGone
        events = collection.history[start:]
        self._next += len(events)
        return events

    def wake(self) -> None:
        """Ends a `wait` in progress."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Returns when there is something to take, or when woken."""
        if self._next < self._collection.end_position:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        self._collection.cursors.discard(self)


class Collection:
    """All objects of one kind (whatever version they are read at) and their recent history."""

    def __init__(self, name: str, history_limit: int) -> None:
        self.name = name
        self.records: dict[Key, Record] = {}
        self.namespaces: dict[str, dict[str, Record]] = {}
        self.history: list[Event] = []
        self.first_position = 0
        self.cursors: set[Cursor] = set()
        self._oldest_resumable = 0
        self._history_limit = history_limit
        self._sorted: list[Key] | None = None

    @property
    def end_position(self) -> int:
        return self.first_position + len(self.history)

    def get(self, key: Key) -> Record | None:
        return self.records.get(key)

    def select(self, namespace: str | None) -> Iterator[Record]:
        """Records in key order; namespace None means all of them."""
        if namespace is not None:
            names = self.namespaces.get(namespace, {})
            for name in sorted(names):
                yield names[name]
            return
        if self._sorted is None:
            self._sorted = sorted(self.records)
        records = self.records
        for key in list(self._sorted):
            record = records.get(key)
            if record is not None:
                yield record

    def snapshot(self, namespace: str | None, revision: int) -> list[Record]:
        """Records as they were at an earlier revision, in key order.

        Raises:
            HistoryGone: the history no longer reaches that revision.
        """
        if revision < self._oldest_resumable:
            raise HistoryGone
        state = dict(self.records)
        for event in reversed(self.history):
            if event.revision <= revision:
                break
            if event.previous is None:
                state.pop(event.record.key, None)
            else:
                state[event.record.key] = event.previous
        return [state[key] for key in sorted(state) if namespace is None or key.namespace == namespace]

    def cursor(self, after: int) -> Cursor:
        """A place just after a revision.

        Raises:
            HistoryGone: that revision is too old.
        """
        if after < self._oldest_resumable:
            raise HistoryGone
        index = bisect_right(self.history, after, key=lambda event: event.revision)
        cursor = Cursor(self, self.first_position + index)
        self.cursors.add(cursor)
        return cursor

    def end_watches(self) -> None:
        """Lets every watcher take what it has not seen yet, and no more."""
        for cursor in self.cursors:
            cursor.ended = True
            cursor.wake()

    def commit(self, event: Event) -> None:
        """Applies one event to the state, appends it to the history and wakes the watchers."""
        key = event.record.key
        if event.type == DELETED:
            del self.records[key]
            names = self.namespaces[key.namespace]
            del names[key.name]
            if not names:
                del self.namespaces[key.namespace]
            self._sorted = None
        else:
            if event.type == ADDED:
                self._sorted = None
            self.records[key] = event.record
            self.namespaces.setdefault(key.namespace, {})[key.name] = event.record
        self.history.append(event)
        if len(self.history) > UNPACKED:
            past = self.history[-UNPACKED - 1]
            if past.previous is not None:
                past.previous.pack()
            if past.type == DELETED:
                past.record.pack()
        if len(self.history) >= 2 * self._history_limit:
            self._drop(len(self.history) - self._history_limit)
        for cursor in self.cursors:
            cursor.wake()

    def compact(self, revision: int) -> None:
        """Forgets events up to and including a revision; watches from before it get HistoryGone."""
        self._drop(bisect_right(self.history, revision, key=lambda event: event.revision))
        self._oldest_resumable = max(self._oldest_resumable, revision)

    def _drop(self, count: int) -> None:
        if count:
            self._oldest_resumable = self.history[count - 1].revision
            del self.history[:count]
            self.first_position += count


CommitHook = Callable[[Collection, Event], None]


class Store:
    """Every collection and the one revision counter.

    All methods are plain functions: within one event loop a write is atomic by construction.
    """

    def __init__(self, *, history_limit: int = DEFAULT_HISTORY) -> None:
        self.revision = 1
        self._collections: dict[str, Collection] = {}
        self._history_limit = history_limit
        self._hooks: list[CommitHook] = []
        self._unannounced: deque[tuple[Collection, Event]] = deque()

    def collection(self, name: str) -> Collection:
        """The collection of a kind by its `plural.group` name, made on first use."""
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = Collection(name, self._history_limit)
        return found

    def collections(self) -> list[Collection]:
        return list(self._collections.values())

    def on_commit(self, hook: CommitHook) -> None:
        """Calls `hook` after each write, in the order of the writes; a hook may write."""
        self._hooks.append(hook)

    def put(self, collection: Collection, key: Key, obj: Object) -> Record:
        """Creates or replaces an object. Takes `obj` over and stamps its resourceVersion."""
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        record = Record(key, obj, self.revision)
        previous = collection.records.get(key)
        self._commit(collection, Event(ADDED if previous is None else MODIFIED, record, previous))
        return record

    def remove(self, collection: Collection, key: Key) -> Record:
        """Removes an object; the returned last state carries the revision of the removal."""
        self.revision += 1
        previous = collection.records[key]
        obj = {**previous.obj, "metadata": {**previous.metadata, "resourceVersion": str(self.revision)}}
        record = Record(key, obj, self.revision)
        self._commit(collection, Event(DELETED, record, previous))
        return record

    def compact(self, revision: int | None = None) -> None:
        """Forgets the history of every collection up to a revision (default: all of it)."""
        for collection in self._collections.values():
            collection.compact(self.revision if revision is None else revision)

    def _commit(self, collection: Collection, event: Event) -> None:
        collection.commit(event)
        self._unannounced.append((collection, event))
        if len(self._unannounced) > 1:
            # A hook is writing: the loop below announces this write once every hook has seen the one before.
            return
        while self._unannounced:
            for hook in self._hooks:
                hook(*self._unannounced[0])
            self._unannounced.popleft()
