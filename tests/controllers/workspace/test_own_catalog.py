"""Models and sizes that users add by ConfigMap: used without a new program, and never at the price of what works."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from kaito.catalog import Catalog, load_catalog
from kaito.controllers.workspace import own_catalog
from kaito.controllers.workspace.own_catalog import OwnCatalog
from kaito.runtime.client import Client
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import CONFIGMAPS, EVENTS
from kaito.runtime.testing import VirtualClock
from kaito.testing.memory_api import MemoryApi

BASE = load_catalog()
MODEL: dict[str, Any] = {
    "name": "our-writer",
    "repo": "acme/Our-Writer",
    "architecture": "LlamaForCausalLM",
    "weights_gib": 14.96,
    "dimensions": {"hidden_size": 4096, "layers": 32, "attention_heads": 32, "key_value_heads": 8},
    "context_tokens": 131072,
    "runtimes": ["vllm"],
    "image": "kaito-base",
    "tag": "0.5.0",
}
SIZE: dict[str, Any] = {
    "name": "Standard_NEW8_v9",
    "cloud": "azure",
    "gpus": 8,
    "memory_gib": 1536,
    "model": "NVIDIA B200",
}


def config_map(name: str, *texts: object, label: str = "true") -> dict[str, Any]:
    data = {
        f"file-{at}.yaml": each if isinstance(each, str) else yaml.safe_dump(each)
        for at, each in enumerate(texts)
    }
    meta = {"name": name, "namespace": "default", "labels": {"kaito.sh/catalog": label}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


class World:
    """An operator's manager that follows the ConfigMaps."""

    def __init__(self, api: MemoryApi, clock: VirtualClock) -> None:
        self.user: Client = api.client()
        self.clock = clock
        self.manager = Manager(api.client("operator"), clock=clock, options=ManagerOptions(grace_period=0.0))
        self.own: OwnCatalog = own_catalog.follow(self.manager, BASE, "default")

    @property
    def catalog(self) -> Catalog:
        return self.own.current

    async def put(self, *maps: dict[str, Any]) -> None:
        for each in maps:
            await self.user.apply(CONFIGMAPS, each, force=True)
        await self.clock.sleep(5)

    async def events(self) -> list[tuple[str, str, str]]:
        found = await self.user.list(EVENTS, namespace="default")
        return [
            (each["type"], each["reason"], each.get("note") or each.get("message") or "") for each in found
        ]

    def counted(self) -> dict[str, float | None]:
        registry = CollectorRegistry()

        class Own(Collector):
            def collect(_) -> Any:  # noqa: N805
                return self.own.collect()

        registry.register(Own())
        return {
            state: registry.get_sample_value("kaito_catalog_config_maps", {"state": state})
            for state in ("used", "refused")
        }


@pytest.fixture
async def world(memory_api: MemoryApi, virtual_clock: VirtualClock) -> AsyncIterator[World]:
    found = World(memory_api, virtual_clock)
    task = asyncio.create_task(found.manager.run())
    await virtual_clock.sleep(5)
    yield found
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_models_and_sizes_come_and_go_with_their_config_map(world: World) -> None:
    await world.put(config_map("ours", {"presets": [MODEL]}, {"skus": [SIZE]}))
    found = world.catalog.preset("acme/our-writer")
    assert found is not None
    assert found.name == "our-writer"
    size = world.catalog.sku("standard_new8_v9")
    assert size is not None
    assert size.gpus == 8
    assert len(world.catalog.presets) == len(BASE.presets) + 1
    assert world.counted() == {"used": 1, "refused": 0}
    await world.user.delete(CONFIGMAPS, "ours", "default")
    await world.clock.sleep(5)
    assert world.catalog == BASE
    assert world.counted() == {"used": 0, "refused": 0}


async def test_an_entry_of_the_same_name_takes_the_place_of_ours(world: World) -> None:
    pinned = {**yaml.safe_load(yaml.safe_dump(MODEL)), "name": "phi-4", "repo": "microsoft/phi-4"}
    await world.put(config_map("ours", {"presets": [pinned]}))
    found = world.catalog.preset("phi-4")
    assert found is not None
    assert found.weights_gib == 14.96
    assert len(world.catalog.presets) == len(BASE.presets)


async def test_config_maps_without_the_label_and_elsewhere_add_nothing(world: World) -> None:
    await world.put(config_map("ours", {"presets": [MODEL]}, label="no"))
    assert world.catalog is BASE


BAD: list[tuple[object, str]] = [
    ("presets: [", "not YAML"),
    ("[1, 2]", "expected a map with the keys presets and skus"),
    ({"models": []}, "expected a map with the keys presets and skus"),
    ({"presets": 7}, "presets: expected a list"),
    ({"presets": [{**MODEL, "weights_gib": -1}]}, "presets[0] (our-writer): weights_gib: "),
    ({"presets": [{**MODEL, "wieghts": 1}]}, "presets[0] (our-writer): wieghts: "),
    ({"presets": [{**MODEL, "aliases": ["phi-4"]}]}, "both answer to phi-4"),
    ({"skus": [7]}, "skus[0]: "),
    ("presets: [&a {name: x}, *a]", "*aliases are not read here"),
    ("[" * 20_000, "brackets"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
async def test_a_bad_one_is_told_of_and_what_it_said_before_holds_on(
    world: World, text: object, said: str
) -> None:
    await world.put(config_map("other", {"skus": [SIZE]}), config_map("ours", {"presets": [MODEL]}))
    good = world.catalog
    await world.put(config_map("ours", text))
    assert world.catalog == good
    assert world.counted() == {"used": 1, "refused": 1}
    [(type, reason, message)] = await world.events()
    assert (type, reason) == ("Warning", "CatalogRefused")
    assert said in message
    assert message.startswith("ConfigMap ours, file-0.yaml: ")
    assert "what it said before holds on" in message

    await world.put(config_map("ours", {"presets": [{**MODEL, "weights_gib": 15.5}]}))
    found = world.catalog.preset("our-writer")
    assert found is not None
    assert found.weights_gib == 15.5
    assert [each[1] for each in await world.events()] == ["CatalogRefused", "CatalogUsed"]


async def test_a_bad_one_from_the_start_adds_nothing_and_hinders_nobody(world: World) -> None:
    await world.put(config_map("bad", {"skus": [7]}), config_map("good", {"presets": [MODEL]}))
    assert world.catalog.preset("our-writer") is not None
    [(_, _, message)] = await world.events()
    assert "none of its entries is used" in message


async def test_two_that_contradict_are_told_apart(world: World) -> None:
    second = {**MODEL, "name": "another", "repo": "acme/Our-Writer"}
    await world.put(config_map("a", {"presets": [MODEL]}), config_map("b", {"presets": [second]}))
    assert world.catalog.preset("acme/our-writer") == world.catalog.preset("our-writer")
    assert world.counted() == {"used": 1, "refused": 1}


async def test_every_controller_looks_again_when_the_catalogue_has_changed(
    memory_api: MemoryApi, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(Manager, "enqueue_all", lambda self: looks.append(1))
    found = World(memory_api, virtual_clock)
    task = asyncio.create_task(found.manager.run())
    await virtual_clock.sleep(5)
    await found.put(config_map("ours", {"presets": [MODEL]}))
    await found.put(config_map("ours", {"presets": [MODEL]}, {"presets": []}))  # says nothing new
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert looks == [1]
