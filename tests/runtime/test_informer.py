"""Informers: handlers, listers, indexes, reading one's own writes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaito.runtime.objects import CachedObject
from kaito.runtime.testing import Exchange, VirtualClock, watch_line
from runtime.support import LIST, Recorder, World, bookmark, config_map, listed, watched


class _Failing:
    def on_add(self, obj: CachedObject, initial: bool) -> None:
        raise RuntimeError("on_add")

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        raise RuntimeError("on_update")

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        raise RuntimeError("on_delete")


async def test_a_failing_handler_blocks_neither_others_nor_sync(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10, config_map("a", 1), config_map("b", 2)), watched(hold=True)])
    failing = world.informer.add_handler(_Failing())
    last = world.informer.add_handler(world.recorder)
    async with world.running(1):
        assert failing.has_synced
        assert last.has_synced
        assert failing.failures == 2
        assert len(world.recorder.events) == 4


@pytest.mark.parametrize("count", [1, 250], ids=["few", "many"])
async def test_a_handler_that_raises_cancelled_is_a_failing_handler(
    virtual_clock: VirtualClock, count: int
) -> None:
    """It looked into a future that had been cancelled; that is not the informer's own end."""
    objects = [config_map(f"cm-{index}", index + 1) for index in range(count)]
    world = World(
        virtual_clock,
        [listed(2000, *objects), watched(1.0, watch_line("ADDED", config_map("z", 2001)), hold=True)],
    )
    future = asyncio.get_running_loop().create_future()
    future.cancel()

    class Peeking(Recorder):
        def on_add(self, obj: CachedObject, initial: bool) -> None:
            future.result()

    peeking = world.informer.add_handler(Peeking())
    last = Recorder()
    world.informer.add_handler(last)
    async with world.running(0.5):
        assert world.informer.has_synced
        await virtual_clock.sleep(1)
        assert peeking.failures == count + 1 == len(world.recorder.events) == len(last.events)
        assert [what for _, what, _ in world.requests] == ["LIST", "WATCH"]


async def test_a_handler_that_comes_between_deletion_and_creation_is_told_once(
    virtual_clock: VirtualClock,
) -> None:
    anew = watch_line("MODIFIED", config_map("a", 11, uid="another"))
    world = World(virtual_clock, [listed(10, config_map("a", 1)), watched(1.0, anew, hold=True)])
    late = Recorder()

    class Opening(Recorder):
        def on_delete(self, obj: CachedObject, stale: bool) -> None:
            world.informer.add_handler(late)

    world.informer.add_handler(Opening())
    async with world.running(2):
        assert world.recorder.events[1:] == [("delete", "a", "1", "stale"), ("add", "a", "11", "")]
        assert late.events == [("add", "a", "11", "initial")]


async def test_a_late_handler_is_told_of_everything_and_a_removed_one_of_nothing(
    virtual_clock: VirtualClock,
) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(2.0, watch_line("MODIFIED", config_map("a", 11)), hold=True),
        ],
    )
    async with world.running(1):
        late, gone = type(world.recorder)(), type(world.recorder)()
        world.informer.add_handler(late)
        registration = world.informer.add_handler(gone)
        registration.remove()
        registration.remove()
        await virtual_clock.sleep(2)
        assert late.events == [("add", "a", "1", "initial"), ("update", "a", "1", "11")]
        assert gone.events == [("add", "a", "1", "initial")]


async def test_indexes_follow_the_objects(virtual_clock: VirtualClock) -> None:
    def by_owner(obj: CachedObject) -> list[str]:
        return [reference.uid for reference in obj.meta.owner_references]

    def broken(obj: CachedObject) -> list[str]:
        raise ValueError(obj)

    owned: dict[str, Any] = {
        "ownerReferences": [{"uid": "o1", "kind": "X", "name": "x", "apiVersion": "v1", "controller": True}]
    }
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1, **owned), config_map("b", 2)),
            watched(
                2.0,
                watch_line("MODIFIED", config_map("a", 11)),
                watch_line("MODIFIED", config_map("b", 12, **owned)),
                hold=True,
            ),
        ],
    )
    world.informer.add_indexer("owner", by_owner)
    world.informer.add_indexer("owner", by_owner)
    world.informer.add_indexer("broken", broken)
    with pytest.raises(ValueError, match="exists with another function"):
        world.informer.add_indexer("owner", broken)
    lister = world.informer.lister
    async with world.running(1):
        assert [obj.key.name for obj in lister.by_index("owner", "o1")] == ["a"]
        await virtual_clock.sleep(2)
        assert [obj.key.name for obj in lister.by_index("owner", "o1")] == ["b"]
        assert not lister.by_index("broken", "o1")
        with pytest.raises(KeyError, match="no index 'nope'; known: owner, broken"):
            lister.by_index("nope", "x")


async def test_a_lister_selects_by_namespace_and_labels(virtual_clock: VirtualClock) -> None:
    one = config_map("a", 1, labels={"app": "x", "tier": "web"})
    two = config_map("b", 2, labels={"app": "y"}, namespace="other")
    world = World(virtual_clock, [listed(10, one, two), watched(hold=True)])
    lister = world.informer.lister
    async with world.running(1):
        assert [obj.key.name for obj in lister.list("ns")] == ["a"]
        assert [obj.key.name for obj in lister.list(selector={"app": "y"})] == ["b"]
        assert [obj.key.name for obj in lister.list(selector="app in (x,y),tier!=web")] == ["b"]
        assert not lister.list("other", {"matchExpressions": [{"key": "tier", "operator": "Exists"}]})
        assert lister.get("a") is None
        assert lister.get("a", "ns") is not None


async def test_decoded_objects_are_copies_with_their_type(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10, config_map("a", 1)), watched(hold=True)])
    async with world.running(1):
        cached = world.informer.lister.get("a", "ns")
        assert cached is not None
        tree = cached.decode()
        assert (tree["apiVersion"], tree["kind"]) == ("v1", "ConfigMap")
        tree["data"]["version"] = "damaged"
        assert cached.decode()["data"] == {"version": "1"}


async def test_reading_ones_own_writes(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [listed(10), watched(3.0, watch_line("ADDED", config_map("a", 11)), 2.0, bookmark(15), hold=True)],
    )
    async with world.running(1):
        assert world.informer.has_seen("10")
        assert not world.informer.has_seen("11")
        assert world.informer.has_seen("not-a-number")
        assert await world.informer.wait_seen("11", timeout=60)
        assert virtual_clock.now() == 3.0
        assert not await world.informer.wait_seen("15", timeout=1)
        assert virtual_clock.now() == 4.0
        assert await asyncio.gather(*(world.informer.wait_seen("14", 60) for _ in range(3))) == [True] * 3
        assert virtual_clock.now() == 5.0


async def test_transform_makes_objects_smaller(virtual_clock: VirtualClock) -> None:
    def without_data(obj: CachedObject) -> CachedObject:
        return CachedObject.from_dict({**obj.decode(), "data": {}}, obj.resource)

    world = World(
        virtual_clock, [listed(10, config_map("a", 1)), watched(hold=True)], LIST, transform=without_data
    )
    async with world.running(1):
        assert [obj.decode()["data"] for obj in world.informer.lister.list()] == [{}]


async def test_a_failing_transform_keeps_the_object_as_it_came(virtual_clock: VirtualClock) -> None:
    def broken(obj: CachedObject) -> CachedObject:
        raise ValueError(obj)

    world = World(virtual_clock, [listed(10, config_map("a", 1)), watched(hold=True)], LIST, transform=broken)
    async with world.running(1):
        assert [obj.decode()["data"] for obj in world.informer.lister.list()] == [{"version": "1"}]


async def test_trouble_is_visible_while_it_lasts(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [listed(10), watched(2.0), Exchange(refuse="connection refused"), watched(hold=True)],
    )
    assert [world.informer.age] == [None]
    async with world.running(1):
        assert str(world.informer.last_error) == "None"
        assert world.informer.age == 1.0
        await virtual_clock.sleep(1.5)
        assert "connection refused" in str(world.informer.last_error)
        assert world.informer.age == 2.5
        await virtual_clock.sleep(1)
        assert str(world.informer.last_error) == "None"
        assert world.informer.stats.failures == 1


async def test_large_lists_leave_turns_to_others(virtual_clock: VirtualClock) -> None:
    objects = [config_map(f"cm-{index}", index + 1) for index in range(2000)]
    world = World(virtual_clock, [listed(5000, *objects), watched(hold=True)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while not world.informer.has_synced:
            turns += 1
            await virtual_clock.sleep(0)

    counter = asyncio.ensure_future(count())
    async with world.running(1):
        await counter
    assert len(world.recorder.events) == 2000
    assert turns >= 20  # ten while decoding, ten while telling handlers


async def test_an_informer_runs_once_at_a_time(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10), watched(hold=True)])
    async with world.running(1):
        with pytest.raises(RuntimeError, match="already running"):
            await world.informer.run()
