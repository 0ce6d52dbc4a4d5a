"""What the adapter controller shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controllers.adapter.adapters import write_directory
from controllers.adapter.test_controller import create, host_path
from kaito.api.resources import ADAPTERS
from kaito.controllers import adapter
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.adapter.metrics import AdapterMetrics, state
from kaito.runtime.manager import Manager
from kaito.runtime.resources import ObjectKey
from kaito.runtime.testing.virtual import VirtualClock
from support.control_plane import ControlPlane, control_plane

Object = dict[str, Any]


def ready(status: str, reason: str, generation: int | None = 1) -> Object:
    condition: Object = {"type": "Ready", "status": status, "reason": reason}
    if generation is not None:
        condition["observedGeneration"] = generation
    return {"conditions": [condition]}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, ("pending", "")),
        (ready("Unknown", "Waiting"), ("pending", "")),
        (ready("True", "Readable"), ("ready", "")),
        (ready("True", "Readable", None), ("ready", "")),
        (ready("False", "Unreadable"), ("failed", "Unreadable")),
        (ready("False", "InvalidSpec"), ("failed", "InvalidSpec")),
        (ready("False", "words of another operator"), ("failed", "other")),
        (ready("True", "Readable", 0), ("pending", "")),
        (ready("False", "Unreadable", 0), ("pending", "")),
    ],
)
def test_state(status: Object, expected: tuple[str, str]) -> None:
    assert state({"generation": 1}, status) == expected


def test_counts() -> None:
    metrics = AdapterMetrics()
    metrics.saw(ObjectKey("default", "a"), {"generation": 1}, ready("False", "Unreadable"))
    metrics.saw(ObjectKey("default", "a"), {"generation": 1}, ready("True", "Readable"))
    metrics.gone(ObjectKey("default", "b"))
    [count] = [family for family in metrics.collect() if family.name == "kaito_adapter_count"]
    assert {sample.labels["state"]: sample.value for sample in count.samples} == {
        "ready": 1,
        "pending": 0,
        "failed": 0,
    }


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


async def test_in_the_controller(world: ControlPlane, tmp_path: Path) -> None:
    manager = Manager(world.client.named("manager"), clock=world.clock)
    adapter.setup(manager, AdapterOptions(image_map={}, host_paths=True))
    registry = manager.metrics.registry
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await world.clock.sleep(0.1)
        await create(world, host_path(tmp_path / "nothing"), "bad")
        await create(world, host_path(write_directory(tmp_path / "good")), "good")
        assert registry.get_sample_value("kaito_adapter_count", {"state": "ready"}) == 1
        assert registry.get_sample_value("kaito_adapter_failures", {"reason": "Unreadable"}) == 1
        reads = {
            result: registry.get_sample_value(
                "kaito_adapter_reads_total", {"source": "directory", "result": result}
            )
            or 0
            for result in ("read", "unreadable")
        }
        assert reads["read"] == 1
        assert reads["unreadable"] >= 1, "tried again"
        timed = registry.get_sample_value("kaito_adapter_read_seconds_count", {"source": "directory"})
        assert timed == sum(reads.values())
        for name in ("bad", "good"):
            await world.client.delete(ADAPTERS, name, "default")
        await world.clock.sleep(0.1)
        for each in ("ready", "pending", "failed"):
            assert registry.get_sample_value("kaito_adapter_count", {"state": each}) == 0
    finally:
        stop.set()
        await running
