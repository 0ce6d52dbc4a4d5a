"""controller-runtime's tests of its cache that say something about this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fakeapi import FakeApi
from kaito.runtime.cache import InformerCache
from kaito.runtime.namespaces import UnknownNamespace
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS, SECRETS, ObjectKey, Resource
from kaito.runtime.testing import VirtualClock


class World:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.cache = InformerCache(self.api.client())

    def put(self, name: str, namespace: str, resource: Resource = CONFIGMAPS, **labels: str) -> None:
        meta = {"name": name, "namespace": namespace, "labels": labels, "annotations": {"long": "text"}}
        self.api.put(resource, {"metadata": meta, "data": {"k": "v"}})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.cache.run())
        await self.clock.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def world(virtual_clock: VirtualClock) -> World:
    return World(virtual_clock)


def names(objects: object) -> list[str]:
    assert isinstance(objects, tuple)
    return sorted(str(each.key) for each in objects)


@pytest.mark.conforms("controller-runtime cache lazy get")
async def test_an_informer_asked_for_while_the_cache_runs_fills_at_once(world: World) -> None:
    world.put("a", "n")
    async with world.running():
        await world.clock.sleep(10)
        informer = world.cache.informer(CONFIGMAPS)
        await informer.wait_synced()
        assert world.clock.now() == 10.0
        assert names(informer.lister.list()) == ["n/a"]


@pytest.mark.conforms("controller-runtime cache by namespace, by label")
async def test_reads_limited_by_namespace_and_labels(world: World) -> None:
    for name, namespace, team in (("a", "n", "red"), ("b", "n", "blue"), ("c", "m", "red")):
        world.put(name, namespace, team=team)
    everything = world.cache.informer(CONFIGMAPS)
    of_n = world.cache.informer(CONFIGMAPS, namespace="n")
    red = world.cache.informer(CONFIGMAPS, label_selector="team=red")
    async with world.running():
        await world.cache.wait_synced()
        assert names(everything.lister.list()) == ["m/c", "n/a", "n/b"]
        assert names(everything.lister.list("n")) == ["n/a", "n/b"]
        assert names(everything.lister.list(None, {"team": "red"})) == ["m/c", "n/a"]
        assert names(everything.lister.list("n", "team=red")) == ["n/a"]
        assert names(of_n.lister.list()) == ["n/a", "n/b"]
        assert names(red.lister.list()) == ["m/c", "n/a"]
        assert everything.lister.get("c", "n") is None


@pytest.mark.conforms("controller-runtime cache multi-namespace: error for a namespace that is not watched")
async def test_several_namespaces_are_read_as_one_and_no_other(world: World) -> None:
    for namespace in ("m", "n", "o"):
        world.put("a", namespace)
    view = world.cache.namespaces(CONFIGMAPS, ["m", "n"])
    async with world.running():
        await view.wait_synced()
        assert names(view.list()) == ["m/a", "n/a"]
        assert names(view.list("n")) == ["n/a"]
        with pytest.raises(UnknownNamespace, match="o"):
            view.get("a", "o")


@pytest.mark.conforms("controller-runtime cache deep copy on and off")
async def test_what_a_reader_changes_is_his_own(world: World) -> None:
    world.put("a", "n")
    informer = world.cache.informer(CONFIGMAPS)
    async with world.running():
        await world.cache.wait_synced()
        found = informer.lister.get("a", "n")
        assert found is not None
        tree = found.decode()
        tree["data"]["k"] = tree["metadata"]["name"] = "changed"
        again = informer.lister.get("a", "n")
        assert again is found, "no copies are made of what nobody can change"
        assert again.decode()["data"] == {"k": "v"}
        assert again.key == ObjectKey("n", "a")


@pytest.mark.conforms("controller-runtime cache informer can be removed and made anew")
async def test_a_removed_informer_can_be_asked_for_again(world: World) -> None:
    world.put("a", "n")
    first = world.cache.informer(CONFIGMAPS)
    async with world.running():
        await world.cache.wait_synced()
        world.cache.remove(first)
        await world.clock.sleep(1)
        world.put("b", "n")
        await world.clock.sleep(1)
        assert names(first.lister.list()) == ["n/a"], "it follows nothing any more"
        second = world.cache.informer(CONFIGMAPS)
        assert second is not first
        await second.wait_synced()
        assert names(second.lister.list()) == ["n/a", "n/b"]


def without_annotations(obj: CachedObject) -> CachedObject:
    tree = obj.decode()
    tree["metadata"].pop("annotations", None)
    return CachedObject.from_dict(tree, obj.resource)


@pytest.mark.conforms("controller-runtime cache transforms by GVK")
async def test_objects_of_one_resource_are_kept_smaller(world: World) -> None:
    world.put("a", "n")
    world.put("a", "n", SECRETS)
    smaller = world.cache.informer(CONFIGMAPS, transform=without_annotations)
    whole = world.cache.informer(SECRETS)
    async with world.running():
        await world.cache.wait_synced()
        one, other = smaller.lister.get("a", "n"), whole.lister.get("a", "n")
        assert one is not None
        assert other is not None
        assert one.meta.annotations == {}
        assert other.meta.annotations == {"long": "text"}
