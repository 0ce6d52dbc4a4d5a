"""From the reflector into the store and on to the handlers, as client-go's tests of its queues expect it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey
from kaito.runtime.store import FEW, SLICE, Delta, Store, Updated
from kaito.runtime.testing import VirtualClock, watch_line
from runtime.support import Recorder, World, bookmark, config_map, listed, status_event, watched

EXPIRED = status_event(410, "Expired")


def cached(name: str, version: int, **metadata: Any) -> CachedObject:
    return CachedObject.from_dict(config_map(name, version, **metadata))


def table(objects: Iterable[CachedObject]) -> dict[ObjectKey, CachedObject]:
    return {obj.key: obj for obj in objects}


def swap(store: Store, *objects: CachedObject, **arguments: Any) -> list[Delta]:
    swapping = store.swap(table(objects), **arguments)
    for _ in swapping:
        pass
    return list(swapping.deltas)


class Slow(Recorder):
    """Has seen the store at each call."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.held: list[str | None] = []

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        super().on_add(obj, initial)
        held = self.store.get(obj.key)
        self.held.append(held and held.meta.resource_version)


@pytest.mark.conforms("client-go RealFIFO addUpdate")
async def test_every_event_is_told_in_order(virtual_clock: VirtualClock) -> None:
    lines = [watch_line("ADDED", config_map("a", 11))]
    lines += [watch_line("MODIFIED", config_map("a", version)) for version in range(12, 40)]
    lines += [watch_line("DELETED", config_map("a", 40)), watch_line("ADDED", config_map("a", 41, uid="new"))]
    world = World(virtual_clock, [listed(10), watched(b"".join(lines), hold=True)])
    async with world.running(1):
        assert world.recorder.events == [
            ("add", "a", "11", ""),
            *(("update", "a", str(version - 1), str(version)) for version in range(12, 40)),
            ("delete", "a", "40", ""),
            ("add", "a", "41", ""),
        ]


@pytest.mark.conforms("client-go RealFIFO ReplaceMakesDeletions", "client-go store TestResetWatch")
async def test_what_a_new_list_lacks_is_deleted_with_its_newest_state(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), config_map("b", 2)),
            watched(watch_line("MODIFIED", config_map("a", 11)), 1.0, EXPIRED),
            listed(20, config_map("b", 2)),
            watched(hold=True),
        ],
    )
    async with world.running(5):
        assert world.recorder.events[-1] == ("delete", "a", "11", "stale")
        assert world.informer.store.resource_version == "20"


@pytest.mark.conforms("client-go RealFIFO ReplaceMakesDeletionsForObjectsOnlyInQueue")
async def test_an_object_that_went_before_it_was_told_of_is_added_and_deleted(
    virtual_clock: VirtualClock,
) -> None:
    many = [config_map(f"cm-{index:03d}", index + 1) for index in range(300)]
    world = World(virtual_clock, [listed(400, *many), watched(hold=True)])
    async with world.running(1):
        late = Recorder()
        world.informer.add_handler(late)
        assert len(late.events) == 100, "the rest is queued"
        await world.informer.commit("500", restart=False)
        assert not world.informer.lister.list()
        assert [event[0] for event in late.events] == ["add"] * 300 + ["delete"] * 300
        assert {event[3] for event in late.events[300:]} == {"stale"}


@pytest.mark.conforms("client-go RealFIFO UpdateResyncRace")
async def test_a_resync_tells_nothing_that_is_outdated(virtual_clock: VirtualClock) -> None:
    many = [config_map(f"cm-{index:03d}", index + 1) for index in range(300)]
    world = World(virtual_clock, [listed(400, *many), watched(hold=True)])
    async with world.running(1):
        recorder = Recorder()
        registration = world.informer.add_handler(recorder, resync=60)
        await registration.wait_synced()
        recorder.events.clear()
        registration._on_resync()
        assert len(recorder.events) == 100
        world.informer.apply(cached("cm-250", 500), deleted=False)
        world.informer.apply(cached("cm-260", 501), deleted=True)
        await registration.wait_told()
        told = [event[1:] for event in recorder.events if event[1] in ("cm-250", "cm-260")]
        assert told == [("cm-250", "251", "500"), ("cm-260", "501", "")]
        assert len(recorder.events) == 300, "298 resyncs, one update, one deletion"


@pytest.mark.conforms("client-go RealFIFO HasSyncedCorrectOnDeletion")
async def test_a_handler_has_synced_when_its_own_list_was_told(virtual_clock: VirtualClock) -> None:
    many = [config_map(f"cm-{index:03d}", index + 1) for index in range(250)]
    world = World(virtual_clock, [listed(400, *many), watched(hold=True)])
    async with world.running(1):
        recorder = Recorder()
        registration = world.informer.add_handler(recorder)
        assert not registration.has_synced
        world.informer.apply(cached("cm-249", 500), deleted=True)
        await registration.wait_synced()
        assert [event[0] for event in recorder.events] == ["add"] * 250 + ["delete"]


@pytest.mark.conforms("client-go RealFIFO HasSynced")
@pytest.mark.parametrize("count", [0, 1, 2, 250])
async def test_synced_means_that_the_whole_list_was_told(virtual_clock: VirtualClock, count: int) -> None:
    objects = [config_map(f"cm-{index}", index + 1) for index in range(count)]
    script = [listed(400, *objects), watched(hold=True)]
    world = World(virtual_clock, script)
    synced_at: list[int] = []
    registration = world.informer.add_handler(Recorder())

    async def note() -> None:
        await registration.wait_synced()
        synced_at.append(len(registration._handler.events))  # type: ignore[attr-defined]

    assert not registration.has_synced
    assert not world.informer.has_synced
    waiting = asyncio.ensure_future(note())
    async with world.running(1):
        await waiting
        assert synced_at == [count]
        assert world.informer.has_synced


@pytest.mark.conforms("client-go RealFIFO ReplaceAtomic")
@pytest.mark.parametrize("fresh", [FEW // 2, 4 * SLICE], ids=["few differences", "many"])
def test_readers_never_see_half_a_list(fresh: int) -> None:
    store = Store()
    store.add_index("app", lambda obj: [obj.meta.labels["app"]])
    store.add_label_index("app")
    before = [cached(f"old-{index}", index + 1, labels={"app": "old"}) for index in range(3 * SLICE)]
    swap(store, *before, resource_version="10000")
    after = [*before[fresh:], *(cached(f"new-{i}", 20000 + i, labels={"app": "new"}) for i in range(fresh))]
    swapping = store.swap(table(after), "30000")
    slices = 0
    for _ in swapping:
        slices += 1
        assert len(store) == len(before) == len(store.by_index("app", "old"))
        assert not store.by_index("app", "new")
        assert not store.select(None, "app=new")
        assert (len(store.select("ns", None)), store.resource_version) == (len(before), "10000")
    assert slices >= 5
    assert len(store) == len(after) == len(store.all())
    assert len(store.by_index("app", "new")) == fresh == len(store.select("ns", "app=new"))
    assert len(store.by_index("app", "old")) == len(after) - fresh
    assert store.resource_version == "30000"


@pytest.mark.conforms("client-go informer TestReplaceEvents")
def test_filing_differences_and_filing_anew_are_told_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [cached(name, 1) for name in "abcd"]
    fresh = [cached("b", 1), cached("c", 5), cached("d", 6, uid="another"), cached("e", 7)]
    told = []
    for few in (0, FEW):
        monkeypatch.setattr("kaito.runtime.store.FEW", few)
        store = Store()
        store.add_index("name", lambda obj: [obj.key.name])
        swap(store, *held, resource_version="4")
        deltas = swap(store, *fresh, resource_version="8")
        told.append([(type(each), str(each).count("stale=True"), _name(each)) for each in deltas])
        assert {obj.key.name for obj in store} == set("bcde")
        assert {value for value in "abcde" if store.by_index("name", value)} == set("bcde")
    assert told[0] == told[1]
    assert [name for _, _, name in told[0]] == ["a", "c", "d", "d", "e"]


def _name(delta: Delta) -> str:
    return (delta.new if isinstance(delta, Updated) else delta.obj).key.name


@pytest.mark.conforms("client-go informer TestProcessDeltasInBatch")
async def test_what_cannot_be_stored_is_not_told_and_the_rest_is(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10),
            watched(
                watch_line("ADDED", config_map("a", 11)),
                watch_line("ADDED", config_map("", 12)),
                watch_line("ADDED", {"metadata": {"name": "no-version", "namespace": "ns"}}),
                watch_line("ADDED", config_map("c", 14)),
                hold=True,
            ),
        ],
    )
    async with world.running(1):
        assert [event[1] for event in world.recorder.events] == ["a", "c"]
        assert world.informer.stats.skipped == 2
        assert world.informer.stats.events == 2


@pytest.mark.conforms("client-go store TestStoreResourceVersion")
async def test_the_stores_version_follows_whatever_a_transform_does(virtual_clock: VirtualClock) -> None:
    def nothing_left(obj: CachedObject) -> CachedObject:
        return CachedObject(b"{}", obj.resource, obj.meta)

    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(1.0, watch_line("MODIFIED", config_map("a", 11)), 1.0, bookmark(15), 1.0, EXPIRED),
            listed(30, config_map("a", 29)),
            watched(hold=True),
        ],
        transform=nothing_left,
    )
    versions = []
    async with world.running(0.5):
        for _ in range(5):
            versions.append(world.informer.store.resource_version)
            await virtual_clock.sleep(1)
    assert versions == ["10", "11", "15", "15", "30"]


@pytest.mark.conforms("client-go informer TestTransformingInformer")
async def test_a_transform_is_applied_once_to_each_version(virtual_clock: VirtualClock) -> None:
    calls: list[str] = []

    def stamp(obj: CachedObject) -> CachedObject:
        calls.append(f"{obj.key.name}@{obj.meta.resource_version}")
        tree = obj.decode()
        tree["data"] = {"stamp": str(int(tree.get("data", {}).get("stamp", 0)) + 1)}
        return CachedObject.from_dict(tree, obj.resource)

    class Seen(Recorder):
        stamps: list[str]

        def on_add(self, obj: CachedObject, initial: bool) -> None:
            self.stamps.append(obj.decode()["data"]["stamp"])

        def on_update(self, old: CachedObject, new: CachedObject) -> None:
            self.stamps += [old.decode()["data"]["stamp"], new.decode()["data"]["stamp"]]

        def on_delete(self, obj: CachedObject, stale: bool) -> None:
            self.stamps.append(obj.decode()["data"]["stamp"])

    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), config_map("b", 2)),
            watched(
                watch_line("MODIFIED", config_map("a", 11)),
                watch_line("DELETED", config_map("b", 12)),
                hold=True,
            ),
        ],
        transform=stamp,
    )
    seen = Seen()
    seen.stamps = []
    world.informer.add_handler(seen, resync=10)
    async with world.running(25):
        assert calls == ["a@1", "b@2", "a@11", "b@12"]
        assert set(seen.stamps) == {"1"}
        assert len(seen.stamps) == 2 + 2 + 1 + 2 * 2
        assert [obj.decode()["data"] for obj in world.informer.lister.list()] == [{"stamp": "1"}]


@pytest.mark.conforms("client-go ThreadSafeStore indexes")
def test_values_under_which_nothing_is_left_disappear() -> None:
    store = Store()
    store.add_index("colors", lambda obj: obj.meta.labels["colors"].split("-"))
    store.put(cached("a", 1, labels={"colors": "red-blue"}))
    store.put(cached("b", 2, labels={"colors": "red"}))
    assert sorted(store.index_values("colors")) == ["blue", "red"]
    store.drop(cached("b", 3))
    assert [obj.key.name for obj in store.by_index("colors", "red")] == ["a"]
    store.put(cached("a", 4, labels={"colors": "blue-green"}))
    assert sorted(store.index_values("colors")) == ["blue", "green"]
    store.drop(cached("a", 5))
    assert store.index_values("colors") == ()


@pytest.mark.conforms("client-go index TestIndex")
def test_objects_are_found_by_each_of_their_values() -> None:
    def users(obj: CachedObject) -> list[str]:
        return obj.meta.labels["users"].split("-")

    store = Store()
    store.put(cached("one", 1, labels={"users": "ernie-bert"}))
    store.add_index("users", users)
    store.put(cached("two", 2, labels={"users": "bert-oscar"}))
    store.put(cached("none", 3, labels={}))
    found = {
        value: {obj.key.name for obj in store.by_index("users", value)}
        for value in store.index_values("users")
    }
    assert found == {"ernie": {"one"}, "bert": {"one", "two"}, "oscar": {"two"}}
    for read in (lambda: store.by_index("nope", "x"), lambda: store.index_values("nope")):
        with pytest.raises(KeyError, match="no index 'nope'; known: users"):
            read()
    with pytest.raises(ValueError, match="exists with another function"):
        store.add_index("users", lambda obj: [])


@pytest.mark.conforms("client-go TestMutationDetector")
def test_what_a_reader_does_to_an_answer_does_not_reach_the_store() -> None:
    store = Store()
    store.put(cached("a", 1))
    obj = store.all()[0]
    obj.decode()["data"]["version"] = "damaged"
    assert store.all()[0].decode()["data"] == {"version": "1"}
    with pytest.raises(AttributeError):
        store.all().append(obj)  # type: ignore[attr-defined]


# The store never goes back


def test_an_older_version_never_takes_the_place_of_a_newer_one() -> None:
    store = Store()
    newer = cached("a", 9)
    store.put(newer)
    assert not store.put(cached("a", 8))
    assert not store.drop(cached("a", 8)), "the object came back since"
    assert not store.drop(cached("a", 5, uid="predecessor")), "its successor lives on"
    assert store.get(newer.key) is newer
    assert len(store.drop(cached("a", 10, uid="unseen"))) == 1, "newer than what is held: that is gone too"
    assert len(store) == 0


def test_an_older_list_is_refused_unless_history_began_anew() -> None:
    store = Store()
    swap(store, cached("a", 9), resource_version="10")
    with pytest.raises(ValueError, match="a list of version 9 is older than what is held, 10"):
        store.swap({}, "9")
    assert [type(each) for each in swap(store, cached("a", 5), resource_version="11")] == [], "a late object"
    assert swap(store, cached("a", 5), resource_version="7", restart=True)
    assert (store.resource_version, store.all()[0].meta.resource_version) == ("7", "5")


async def test_a_restored_backup_is_taken_as_it_is(virtual_clock: VirtualClock) -> None:
    """A list older than what is held is not believed; the newest state is, even if it is older still."""
    world = World(
        virtual_clock,
        [
            listed(100, config_map("a", 90), config_map("b", 91)),
            watched(1.0, EXPIRED),
            listed(50, config_map("a", 40), query={"resourceVersion": "100"}),
            listed(50, config_map("a", 40), query={"resourceVersion": None}),
            watched(watch_line("MODIFIED", config_map("a", 51)), query={"resourceVersion": "50"}, hold=True),
        ],
    )
    async with world.running(5):
        assert world.recorder.events[2:] == [
            ("delete", "b", "91", "stale"),
            ("update", "a", "90", "40"),
            ("update", "a", "40", "51"),
        ]
        assert world.informer.store.resource_version == "51"
    world.server.assert_done()


async def test_events_that_come_twice_are_told_once(virtual_clock: VirtualClock) -> None:
    line = watch_line("MODIFIED", config_map("a", 12))
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(watch_line("MODIFIED", config_map("a", 11)), line),
            watched(
                watch_line("MODIFIED", config_map("a", 11)), line, hold=True, query={"resourceVersion": "12"}
            ),
        ],
    )
    async with world.running(5):
        assert [event[3] for event in world.recorder.events[1:]] == ["11", "12"]
        assert world.informer.store.resource_version == "12"
