"""The operator is killed before and after each of its writes, and the world ends up the same, with nothing twice.

A life is: create, ready, edit, ready, delete, gone. One run without a crash counts the writes and remembers what the
world looks like after each part; then the same life is lived once for every write and moment, with a fresh operator
after the kill.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from controllers.workspace.cluster import Cluster, Object, Wire, cluster, snapshot
from kaito.api.resources import ADAPTERS, MACHINES, WORKSPACES
from kaito.controllers.workspace import WorkspaceConfig
from kaito.runtime.resources import DEPLOYMENTS, EVENTS, NODES, PODDISRUPTIONBUDGETS, SERVICES
from kaito.runtime.testing import VirtualClock

LOCAL = WorkspaceConfig(stand_in_weights="tiny-phi-3")
WORKSPACE: Object = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "phi", "namespace": "default"},
    "resource": {
        "instanceType": "Standard_NC24ads_A100_v4",
        "count": 2,
        "labelSelector": {"matchLabels": {"apps": "phi"}},
    },
    "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
}
EDIT = {
    "inference": {
        "adapters": [
            {
                "source": {"name": "pirate", "volumeSource": {"hostPath": {"path": "/pirate"}}},
                "strength": "0.5",
            }
        ]
    }
}
PARTS = ("created", "edited", "deleted")


@dataclass
class Operators:
    """The operator and, once it was killed, its successor."""

    world: Cluster
    wire: Wire
    successor: Wire | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep one operator alive: whenever the wire of the first is cut, it ends and the next one starts."""

        async def keep() -> None:
            async with self.world.operator(self.wire):
                await self.wire.dead.wait()
            self.successor = self.world.wire()
            async with self.world.operator(self.successor):
                await asyncio.Event().wait()

        task = asyncio.create_task(keep())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def live(
    clock: VirtualClock, kill_at: int | None, *, before: bool
) -> tuple[dict[str, dict[str, Object]], Wire]:
    """One life; the world after each part, and the wire of the first operator."""
    worlds: dict[str, dict[str, Object]] = {}
    async with cluster(clock, LOCAL) as world:
        operators = Operators(world, world.wire())
        operators.wire.kill_at, operators.wire.kill_before = kill_at, before
        made: Counter[str] = Counter()
        async with operators.running():
            await world.client.create(WORKSPACES, WORKSPACE)
            await world.until(lambda: world.holds("WorkspaceReady"), f"ready ({kill_at}, {before})")
            await clock.sleep(10)
            worlds["created"] = await snapshot(world)
            made.update(await world.names(MACHINES))

            await world.client.patch(WORKSPACES, "phi", "default", patch=EDIT)
            await world.until(lambda: world.status().get("adapters") is not None, "the edit was seen")
            await world.until(lambda: world.holds("WorkspaceReady"), f"ready again ({kill_at}, {before})")
            await clock.sleep(10)
            worlds["edited"] = await snapshot(world)
            made.update(await world.names(MACHINES))

            await world.client.delete(WORKSPACES, "phi", "default")
            await world.until(lambda: world.find(WORKSPACES, "phi") is None, f"gone ({kill_at}, {before})")
            await clock.sleep(10)
            worlds["deleted"] = await snapshot(world)
        assert len(made) == 2, f"two nodes and no more were bought: {made} ({kill_at}, {before})"
        events = await world.client.list(EVENTS, "default")
        told = Counter((each["reason"], each["message"]) for each in events)
        assert all(count == 1 for count in told.values()), told
        return worlds, operators.wire


@pytest.mark.slow
async def test_every_crash_ends_in_the_same_world(virtual_clock: VirtualClock) -> None:
    expected, wire = await live(virtual_clock, None, before=False)
    writes = wire.writes
    assert len(writes) >= 12, writes
    assert set(expected) == set(PARTS)
    kinds = Counter(name.split()[0] for name in expected["edited"])
    assert kinds == {
        kind.kind: count
        for kind, count in (
            (WORKSPACES, 1),
            (ADAPTERS, 1),
            (MACHINES, 2),
            (NODES, 2),
            (DEPLOYMENTS, 1),
            (PODDISRUPTIONBUDGETS, 1),
        )
    } | {SERVICES.kind: kinds[SERVICES.kind]}
    assert not any(
        name.split()[0] in ("Workspace", "Machine", "Node", "Deployment", "PodDisruptionBudget")
        for name in expected["deleted"]
    )
    for number, write in enumerate(writes, 1):
        for before in (True, False):
            found, killed = await live(virtual_clock, number, before=before)
            assert killed.dead.is_set(), f"write {number} was never reached"
            for part in PARTS:
                moment = "before" if before else "after"
                assert found[part] == expected[part], f"{part}: killed {moment} write {number}, {write}"
