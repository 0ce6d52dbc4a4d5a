"""The adapter controller against an API server, in virtual time, with real files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controllers.adapter.adapters import Layout, layer, payload, write_directory
from kaito.api.conditions import find_condition
from kaito.api.resources import ADAPTERS
from kaito.controllers import adapter
from kaito.controllers.adapter import AdapterOptions
from kaito.runtime.manager import Manager
from kaito.runtime.resources import EVENTS
from kaito.runtime.testing.virtual import VirtualClock
from support.control_plane import ControlPlane, control_plane

SEED = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
Object = dict[str, Any]


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


@asynccontextmanager
async def controller(world: ControlPlane, seed: Path | None = None) -> AsyncIterator[None]:
    manager = Manager(world.client.named("manager"), clock=world.clock)
    images = {} if seed is None else {SEED: seed}
    adapter.setup(manager, AdapterOptions(image_map=images, host_paths=True))
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await world.clock.sleep(0.1)
        yield
    finally:
        stop.set()
        await running


async def create(world: ControlPlane, source: Object, name: str = "a") -> None:
    body = {
        "apiVersion": ADAPTERS.api_version,
        "kind": ADAPTERS.kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": source},
    }
    await world.client.create(ADAPTERS, body)
    await world.clock.sleep(0.1)


async def status(world: ControlPlane, name: str = "a") -> Object:
    found: Object = (await world.client.get(ADAPTERS, name, "default"))["status"]
    return found


async def ready(world: ControlPlane, name: str = "a") -> tuple[str, str]:
    found = find_condition((await status(world, name))["conditions"], "Ready")
    assert found is not None
    return found["status"], found["reason"]


def host_path(path: Path) -> Object:
    return {"volumeSource": {"hostPath": {"path": str(path)}}}


async def test_facts_of_a_mapped_placeholder(world: ControlPlane, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "oci")
    manifest = layout.manifest(layer(payload()))
    async with controller(world, seed=layout.index(manifest)):
        await create(world, {"name": "friendly", "image": SEED})
        found = await status(world)
        world.requests.clear()
        await world.clock.sleep(9 * 3600)
        assert world.writes(adapter.USER_AGENT) == []
    assert await ready(world) == ("True", "Readable")
    assert found["digest"] == manifest["digest"]
    assert (found["rank"], found["alpha"], found["dtype"], found["format"]) == (
        2,
        "4",
        "float16",
        "safetensors",
    )
    assert found["baseModel"] == "microsoft/Phi-3-mini-4k-instruct"
    assert found["targetModules"] == ["o_proj", "qkv_proj"]
    assert found["source"] == SEED


async def test_a_placeholder_without_a_mapping_warns_once_and_stays_quiet(world: ControlPlane) -> None:
    async with controller(world):
        await create(world, {"name": "friendly", "image": SEED})
        assert await ready(world) == ("False", "InvalidImageReference")
        await world.clock.sleep(1)
        (event,) = await world.client.list(EVENTS, "default")
        assert (event["type"], event["reason"]) == ("Warning", "InvalidImageReference")
        assert "still holds the placeholder ACR_REPO_HERE; write your registry's name" in event["message"]
        world.requests.clear()
        await world.clock.sleep(3600)
        assert world.writes(adapter.USER_AGENT) == []


async def test_files_that_come_later_are_found_within_a_minute(world: ControlPlane, tmp_path: Path) -> None:
    async with controller(world):
        await create(world, host_path(tmp_path / "adapter"))
        assert await ready(world) == ("False", "Unreadable")
        write_directory(tmp_path / "adapter")
        await world.clock.sleep(60)
        assert await ready(world) == ("True", "Readable")


async def test_facts_follow_the_spec(world: ControlPlane, tmp_path: Path) -> None:
    write_directory(tmp_path / "adapter")
    async with controller(world):
        await create(world, host_path(tmp_path / "adapter"))
        assert (await status(world))["rank"] == 2
        patch = {"spec": {"source": {"volumeSource": {"hostPath": {"path": str(tmp_path / "nowhere")}}}}}
        await world.client.patch(ADAPTERS, "a", "default", patch=patch)
        await world.clock.sleep(0.1)
        found = await status(world)
        assert "rank" not in found
        assert "digest" not in found
        assert await ready(world) == ("False", "Unreadable")
        patch["spec"]["source"]["volumeSource"]["hostPath"]["path"] = str(tmp_path / "adapter")
        await world.client.patch(ADAPTERS, "a", "default", patch=patch)
        await world.clock.sleep(0.1)
        assert (await status(world))["rank"] == 2


async def test_a_restart_reads_and_writes_nothing_again(world: ControlPlane, tmp_path: Path) -> None:
    path = write_directory(tmp_path / "adapter")
    async with controller(world):
        await create(world, host_path(path))
    for file in path.iterdir():
        file.unlink()
    world.requests.clear()
    async with controller(world):
        await world.clock.sleep(3600)
    assert world.writes(adapter.USER_AGENT) == []
    assert await ready(world) == ("True", "Readable")


async def test_one_bad_adapter_does_not_stop_the_others(world: ControlPlane, tmp_path: Path) -> None:
    bad = write_directory(tmp_path / "bad", {"adapter_config.json": b"\xff\xfe"})
    good = write_directory(tmp_path / "good")
    async with controller(world):
        await create(world, host_path(bad), "bad")
        await create(world, host_path(good), "good")
        assert await ready(world, "bad") == ("False", "Unreadable")
        assert await ready(world, "good") == ("True", "Readable")
