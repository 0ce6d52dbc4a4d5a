"""Informers on sockets: they follow what happens, and find it again after what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.runtime.cache import InformerCache
from kaito.runtime.errors import NotFound
from kaito.runtime.informer import Informer
from kaito.runtime.resources import CONFIGMAPS, CRDS, Resource
from support.cluster import Object, Seen, Wire, World, definition

pytestmark = pytest.mark.needs("api")

both_ways = pytest.mark.parametrize("watch_list", [True, False], ids=["stream", "list"])
"""Initial state as a stream of events, or by LIST."""


def config_map(world: World, name: str, labels: dict[str, str] | None = None, **data: str) -> Object:
    return {"metadata": world.meta(name, labels={"mine": "yes", **(labels or {})}), "data": data}


def names(informer: Informer) -> list[str]:
    return sorted(each.meta.name for each in informer.lister.list())


async def same_as_server(world: World, informer: Informer, selector: str = "mine") -> None:
    """Waits until the store holds exactly what the server does, version by version."""

    async def same() -> bool:
        listed = await world.client.list(CONFIGMAPS, world.namespace, label_selector=selector)
        stored = {each.meta.name: each.meta.resource_version for each in informer.lister.list()}
        return stored == {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in listed}

    await world.until(same, "the store is what the server has")


def follower(world: World, agent: str, wire: Wire | None = None, **more: Any) -> InformerCache:
    return InformerCache(world.connect(agent, wire=wire), **more)


@both_ways
async def test_it_fills_and_follows(world: World, watch_list: bool) -> None:
    for number in range(12):
        await world.client.create(CONFIGMAPS, config_map(world, f"m{number:02}"))
    cache = follower(world, "follower", watch_list=watch_list)
    informer = cache.informer(CONFIGMAPS, namespace=world.namespace, label_selector="mine")
    seen = Seen()
    informer.add_handler(seen)
    async with world.running(cache):
        await cache.wait_synced()
        await world.until(lambda: len(seen.events) == 12, "the handler knows all")
        assert seen.events == [("add", f"m{number:02}") for number in range(12)]
        await world.client.patch(CONFIGMAPS, "m03", world.namespace, patch={"data": {"k": "v"}})
        await world.client.delete(CONFIGMAPS, "m04", world.namespace)
        await world.client.create(CONFIGMAPS, config_map(world, "new"))
        await world.until(lambda: len(seen.events) == 15, "three more events")
        assert seen.events[12:] == [("update", "m03"), ("delete", "m04"), ("add", "new")]
        await same_as_server(world, informer)
        live = await world.client.get(CONFIGMAPS, "m03", world.namespace)
        cached = informer.lister.get("m03", world.namespace)
        assert cached is not None
        tree = cached.decode()
        assert (tree["data"], tree["metadata"]["uid"]) == ({"k": "v"}, live["metadata"]["uid"])
    assert informer.stats.lists == (0 if watch_list else 1)


async def test_what_leaves_the_selection_is_deleted(world: World) -> None:
    cache = follower(world, "selector")
    informer = cache.informer(CONFIGMAPS, namespace=world.namespace, label_selector="mine,tier in (a, b)")
    seen = Seen()
    informer.add_handler(seen)
    for name in ("a", "b", "c"):
        await world.client.create(CONFIGMAPS, config_map(world, name, {"tier": name}))
    async with world.running(cache):
        await cache.wait_synced()

        async def label(name: str, tier: str) -> None:
            patch = {"metadata": {"labels": {"tier": tier}}}
            await world.client.patch(CONFIGMAPS, name, world.namespace, patch=patch)

        await label("a", "z")
        await label("c", "b")
        await label("b", "a")
        await world.until(lambda: len(seen.events) == 5, "all events")
        assert seen.events[:2] == [("add", "a"), ("add", "b")]
        assert seen.events[2:] == [("delete", "a"), ("add", "c"), ("update", "b")]
        assert names(informer) == ["b", "c"]


async def test_one_object_by_field(world: World) -> None:
    cache = follower(world, "field")
    informer = cache.informer(CONFIGMAPS, namespace=world.namespace, field_selector="metadata.name=b")
    async with world.running(cache):
        await cache.wait_synced()
        for name in ("a", "b", "c"):
            await world.client.create(CONFIGMAPS, config_map(world, name))
        await world.until(lambda: names(informer) == ["b"], "the one object")


async def test_metadata_only(world: World) -> None:
    await world.client.create(CONFIGMAPS, config_map(world, "a", {"tier": "x"}, k="v" * 1000))
    cache = follower(world, "metadata")
    informer = cache.informer(
        CONFIGMAPS, namespace=world.namespace, label_selector="mine", metadata_only=True
    )
    async with world.running(cache):
        await cache.wait_synced()
        await world.client.create(CONFIGMAPS, config_map(world, "b"))
        await world.until(lambda: names(informer) == ["a", "b"], "both")
        cached = informer.lister.get("a", world.namespace)
        assert cached is not None
        assert cached.meta.labels == {"mine": "yes", "tier": "x"}
        assert "data" not in cached.decode()


@both_ways
async def test_it_goes_on_after_a_restart(world: World, watch_list: bool) -> None:
    cache = follower(world, "survivor", watch_list=watch_list)
    informer = cache.informer(CONFIGMAPS, namespace=world.namespace, label_selector="mine")
    seen = Seen()
    informer.add_handler(seen)
    for name in ("a", "b", "c"):
        await world.client.create(CONFIGMAPS, config_map(world, name))
    async with world.running(cache):
        await cache.wait_synced()
        await world.until(lambda: len(seen.events) == 3, "the three")
        await world.backend.restart(outage=0.5)
        await world.client.create(CONFIGMAPS, config_map(world, "d"))
        await world.client.delete(CONFIGMAPS, "a", world.namespace)
        await same_as_server(world, informer)
        await world.until(lambda: len(seen.events) == 5, "the differences")
        assert sorted(seen.events[3:]) == [("add", "d"), ("delete", "a")], "nothing is told twice"


@both_ways
async def test_a_past_that_was_compacted_away_is_listed_anew(world: World, watch_list: bool) -> None:
    wire = Wire(world.backend)
    cache = follower(world, "sleeper", wire, watch_list=watch_list)
    informer = cache.informer(CONFIGMAPS, namespace=world.namespace, label_selector="mine")
    seen = Seen()
    informer.add_handler(seen)
    for name in ("changed", "gone", "same"):
        await world.client.create(CONFIGMAPS, config_map(world, name))
    async with world.running(cache):
        await cache.wait_synced()
        await world.until(lambda: len(seen.events) == 3, "the three")
        await wire.cut()
        await world.client.patch(CONFIGMAPS, "changed", world.namespace, patch={"data": {"k": "v"}})
        await world.client.delete(CONFIGMAPS, "gone", world.namespace)
        await world.client.create(CONFIGMAPS, config_map(world, "new"))
        await world.backend.compact()
        wire.mend()
        await same_as_server(world, informer)
        await world.until(lambda: len(seen.events) == 6, "the differences")
        assert sorted(seen.events[3:]) == [("add", "new"), ("delete", "gone"), ("update", "changed")]


async def test_a_definition_comes_changes_goes_and_comes_back(world: World) -> None:
    group = f"{world.namespace}.example.com"
    gadgets = Resource(group, "v1", "gadgets", "Gadget")
    cache = follower(world, "definitions")
    informer = cache.informer(gadgets)

    def gadget(name: str, **spec: Any) -> Object:
        return {
            "apiVersion": gadgets.api_version,
            "kind": "Gadget",
            "metadata": world.meta(name),
            "spec": spec,
        }

    async with world.running(cache):
        await world.until(lambda: informer.last_error is not None, "an error for a kind that is not served")
        assert isinstance(informer.last_error, NotFound)
        await world.define(definition(group, size={"type": "integer"}))
        await world.until(lambda: informer.has_synced, "it is served now")
        await world.client.create(gadgets, gadget("a", size=1))
        await world.until(lambda: names(informer) == ["a"], "the first object")

        await world.define(definition(group, size={"type": "integer"}, color={"type": "string"}))

        async def takes_color() -> bool:
            made = await world.client.apply(gadgets, gadget("b", size=1, color="red"))
            return bool(made["spec"].get("color") == "red")

        await world.until(takes_color, "the new schema is in force")

        writes = 0

        async def has_color() -> bool:
            # The last event before the change may have been told without the new field: only writes after it count.
            nonlocal writes
            writes += 1
            await world.client.apply(gadgets, gadget("b", size=writes, color="red"))
            cached = informer.lister.get("b", world.namespace)
            return cached is not None and cached.decode()["spec"].get("color") == "red"

        await world.until(has_color, "objects of the new schema")

        await world.client.delete(CRDS, f"gadgets.{group}")
        await world.gone(CRDS, f"gadgets.{group}")
        await world.until(lambda: names(informer) == [], "no object is left")
        await world.until(lambda: isinstance(informer.last_error, NotFound), "the error says why")
        await world.define(definition(group, size={"type": "integer"}))

        async def served() -> bool:
            try:
                await world.client.apply(gadgets, gadget("c", size=2))
            except NotFound:
                return False
            return True

        await world.until(served, "the kind is back")
        await world.until(lambda: names(informer) == ["c"], "the object of the new definition")
        await world.until(lambda: informer.last_error is None, "the error has gone")
    tries = sum(each.user_agent == "definitions" for each in world.requests)
    assert tries < 100, "it waits between its tries"
