"""The whole operator with AKS is killed after each of its changes, while two Workspaces share one quota; before them
too where Azure is asked (before any other is as good as after the one that came first).

The first Workspace is made, served and deleted; the second waits for its cores, is served and deleted. However it goes:
each is served in the end, Azure never has to refuse a pool, never more cores are used than are allowed, and nothing is
left, neither claims nor pools nor Nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from controllers.workspace.builders import seed
from controllers.workspace.cluster import KILL_NOW, running
from kaito.api.labels import SIMULATED_PODS_LABEL
from kaito.api.resources import NODECLAIMS, WORKSPACES
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.embedded import workloads
from kaito.embedded.kubelet import simulated
from kaito.provisioner import aks
from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.testing import FakeArm, FakeKubelets
from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES
from kaito.runtime.testing import VirtualClock
from support.control_plane import ControlPlane, control_plane
from support.crashing import ApiWire, ArmWire, Process

AGENTS = ("kaito-workspace/", "kaito-machine/", "kaito-adapter/")
FAMILY, CORES = "standardNCSv3Family", 6
FIRST, SECOND = "first", "second"
SETTINGS = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM, stand_in_weights="tiny-phi-3")


class World:
    """A cluster with workload controllers, Azure with quota for one machine, and operators one after the other."""

    def __init__(self, plane: ControlPlane, clock: VirtualClock) -> None:
        self.plane = plane
        self.clock = clock
        self.fake = FakeArm(clock)
        self.fake.quota.limit(FAMILY, CORES)
        self.fake.world.watch(self._count)
        self.most_cores = 0

    def _count(self) -> None:
        self.most_cores = max(self.most_cores, self.fake.quota.used(FAMILY, self.clock.now()))

    async def reason(self, name: str) -> str:
        try:
            found = await self.plane.client.get(WORKSPACES, name, "default")
        except NotFound:
            return "gone"
        return str((found.get("status") or {}).get("reason") or "")

    async def apply(self, name: str) -> None:
        body = seed("inference")
        body["metadata"] = {"name": name, "namespace": "default"}
        await self.plane.client.create(WORKSPACES, body)

    async def until(self, name: str, reason: str, seconds: float = 4000.0) -> None:
        deadline = self.clock.now() + seconds
        while (found := await self.reason(name)) != reason:
            assert self.clock.now() < deadline, f"{name} is {found}, not {reason}"
            await self.clock.sleep(5)

    async def end(self, name: str) -> None:
        await self.plane.client.delete(WORKSPACES, name, "default")
        await self.until(name, "gone")

    @contextlib.asynccontextmanager
    async def operator(self, process: Process) -> AsyncIterator[None]:
        """An operator that lives until the block ends, or is killed."""
        place = self.fake.place
        config = AksConfig(
            place.location, place.resource_group, place.cluster, place.subscription, sign_in=SignIn.NONE
        )
        wire = ApiWire(self.plane.transport, process, AGENTS)
        manager = Manager(
            Client(wire, clock=self.clock, user_agent="kaito-cache/1"), clock=self.clock, options=KILL_NOW
        )
        workspace.setup(manager, SETTINGS)
        adapter.setup(manager, AdapterOptions(image_map={}))
        arm = Arm(config, self.clock, transport=ArmWire(self.fake, self.clock, process))
        provider = aks.build(config, self.clock, manager.cache.informer(NODES).lister, arm=arm)
        machine.setup(manager, provider)
        try:
            async with running(manager):
                yield
        finally:
            await provider.close()

    async def operators(self, first: Process) -> None:
        """The first until it is killed, then its successor."""
        async with self.operator(first):
            await first.dead.wait()
        async with self.operator(Process()):
            await asyncio.Event().wait()

    async def check_end(self) -> None:
        assert self.fake.pools == {}
        assert self.most_cores == CORES
        assert [call.pool for call in self.fake.calls("put_pool", refused=True) if call.status == 400] == []
        assert await self.plane.client.list(NODECLAIMS) == []
        assert await self.plane.client.list(NODES) == []


async def lives(world: World) -> None:
    await world.apply(FIRST)
    await world.until(FIRST, "Ready")
    await world.apply(SECOND)
    await world.until(SECOND, "WaitingForQuota")
    await world.end(FIRST)
    await world.until(SECOND, "Ready")
    await world.end(SECOND)
    await world.clock.sleep(300)


@contextlib.asynccontextmanager
async def keeping(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Works beside the block; what goes wrong there is raised."""

    async def run() -> None:
        await work()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and task.exception() is not None:
        raise task.exception() or AssertionError


async def lived(clock: VirtualClock, first: Process) -> None:
    async with control_plane(clock) as plane:
        world = World(plane, clock)
        node = Manager(plane.client.named("kaito-node/1", "kaito-node"), clock=clock, options=KILL_NOW)
        workloads.setup(node)
        simulated.setup(node)
        labels = {SIMULATED_PODS_LABEL: "true"}
        async with (
            running(node),
            FakeKubelets(world.fake, plane.client, clock, labels=labels),
            keeping(lambda: world.operators(first)),
        ):
            await lives(world)
        await world.check_end()


@pytest.mark.slow
async def test_a_kill_at_any_change_serves_both_in_turn_and_leaves_nothing(
    virtual_clock: VirtualClock,
) -> None:
    whole = Process()
    await lived(virtual_clock, whole)
    changes = [(number, what) for number, what in enumerate(whole.done, 1) if not what.startswith("GET")]
    assert sum("agentPools" in what for _, what in changes) == 4, "two pools made and deleted"
    for number, what in changes:
        for before in (True, False) if "agentPools" in what else (False,):
            process = Process(number, before)
            try:
                await lived(virtual_clock, process)
            except Exception as error:
                raise AssertionError(f"killed {'before' if before else 'after'} {number}, {what}") from error
