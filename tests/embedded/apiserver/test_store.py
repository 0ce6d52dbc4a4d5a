"""The store's promises, for any sequence of writes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.embedded.apiserver.store import (
    ADDED,
    DELETED,
    MODIFIED,
    UNPACKED,
    Collection,
    Event,
    HistoryGone,
    Key,
    Store,
)

State = dict[Key, str]
KEYS = [Key(namespace, name) for namespace in ("a", "b") for name in ("x", "y", "z")]
WRITES = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=60)


def _write(store: Store, collection: Collection, key: Key, keep: bool, value: int) -> None:
    if keep:
        store.put(collection, key, {"apiVersion": "v1", "metadata": {"name": key.name}, "value": value})
    elif collection.get(key) is not None:
        store.remove(collection, key)


def _state(records: Any) -> State:
    return {record.key: record.metadata["resourceVersion"] for record in records}


def _play(state: State, events: list[Event]) -> State:
    result = dict(state)
    for event in events:
        key = event.record.key
        assert (event.type == ADDED) == (key not in result)
        if event.type == DELETED:
            del result[key]
        else:
            result[key] = event.record.metadata["resourceVersion"]
    return result


@given(WRITES)
@settings(deadline=None)
def test_state_at_any_revision_plus_events_is_the_present(writes: list[tuple[Key, bool]]) -> None:
    store = Store(history_limit=1000)
    collection = store.collection("things")
    states = {store.revision: _state(collection.select(None))}
    for index, (key, keep) in enumerate(writes):
        _write(store, collection, key, keep, index)
        states[store.revision] = _state(collection.select(None))
    for revision, state in states.items():
        assert _state(collection.snapshot(None, revision)) == state
        events = collection.cursor(revision).take()
        assert [event.revision for event in events] == sorted({event.revision for event in events})
        assert _play(state, events) == states[store.revision]
    for namespace in ("a", "b"):
        listed = [record.key for record in collection.select(namespace)]
        assert listed == sorted(key for key in collection.records if key.namespace == namespace)


@given(WRITES, st.integers(min_value=1, max_value=8))
@settings(deadline=None)
def test_history_is_bounded_and_says_so(writes: list[tuple[Key, bool]], limit: int) -> None:
    store = Store(history_limit=limit)
    collection = store.collection("things")
    states = {store.revision: _state(collection.select(None))}
    for index, (key, keep) in enumerate(writes):
        _write(store, collection, key, keep, index)
        states[store.revision] = _state(collection.select(None))
        assert len(collection.history) < 2 * limit
    reachable = 0
    for revision, state in states.items():
        try:
            events = collection.cursor(revision).take()
        except HistoryGone:
            # What one reader cannot have, no reader can.
            with pytest.raises(HistoryGone):
                collection.snapshot(None, revision)
            assert not reachable
            continue
        reachable += 1
        assert _play(state, events) == states[store.revision]
    assert reachable >= min(limit, len(states))


def _thing(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "metadata": {"name": name}}


def test_revisions_are_shared_by_all_collections() -> None:
    store = Store()
    first = store.put(store.collection("a"), Key("", "x"), _thing("x"))
    second = store.put(store.collection("b"), Key("", "x"), _thing("x"))
    assert second.revision == first.revision + 1


def test_a_hook_may_write_and_every_hook_sees_the_writes_in_order() -> None:
    store = Store()
    things, echoes = store.collection("things"), store.collection("echoes")
    seen: list[tuple[str, str]] = []

    def echo(collection: Collection, event: Event) -> None:
        if collection is things:
            store.put(echoes, event.record.key, _thing("echo"))

    store.on_commit(echo)
    store.on_commit(lambda collection, event: seen.append((collection.name, event.type)))
    store.put(things, Key("", "x"), _thing("x"))
    store.put(things, Key("", "x"), _thing("x"))
    assert seen == [("things", ADDED), ("echoes", ADDED), ("things", MODIFIED), ("echoes", MODIFIED)]


def test_the_past_is_packed_and_still_readable() -> None:
    store = Store()
    collection = store.collection("things")
    records = [
        store.put(collection, Key("", "x"), {**_thing("x"), "value": index}) for index in range(UNPACKED * 2)
    ]
    gone = store.remove(collection, Key("", "x"))
    for _ in range(UNPACKED):
        store.put(collection, Key("", "y"), _thing("y"))
    assert isinstance(records[0]._tree, bytes)
    assert isinstance(gone._tree, bytes)
    assert not isinstance(store.put(collection, Key("", "y"), _thing("y"))._tree, bytes)
    assert [record.obj["value"] for record in records] == list(range(UNPACKED * 2))
    assert [event.record.revision for event in collection.cursor(records[0].revision).take()][:2] == [
        records[1].revision,
        records[2].revision,
    ]


def test_an_old_record_keeps_what_it_was() -> None:
    store = Store()
    collection = store.collection("things")
    old = store.put(collection, Key("", "x"), {**_thing("x"), "value": 1})
    store.put(collection, Key("", "x"), {**_thing("x"), "value": 2})
    gone = store.remove(collection, Key("", "x"))
    assert old.obj["value"] == 1
    assert gone.obj["value"] == 2
    assert int(gone.metadata["resourceVersion"]) == store.revision


async def test_a_cursor_waits_for_the_next_write() -> None:
    store = Store()
    collection = store.collection("things")
    cursor = collection.cursor(store.revision)
    waiting = asyncio.ensure_future(cursor.wait())
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    store.put(collection, Key("", "x"), _thing("x"))
    await waiting
    assert [event.type for event in cursor.take()] == [ADDED]
    assert cursor.take() == []
    cursor.close()
    assert not collection.cursors
