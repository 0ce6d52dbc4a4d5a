"""The provisioner is killed before and after each of its requests to Azure and each of its writes to the API server.

One life of a claim without a crash counts these moments; then the same life is lived once for every moment, before and
after it, with a new process afterwards that knows nothing. However it goes: never more than one pool at a time, none
left at the end, none made twice, other people's pools as they were, and the claim is Ready if it would have been.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from controllers.machine.builders import NC6, claim
from controllers.workspace.cluster import KILL_NOW, running
from kaito.api.conditions import is_true
from kaito.controllers import machine
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner import aks
from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.testing import FakeArm, FakeKubelets
from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane
from support.crashing import ApiWire, ArmWire, Process

AGENT: Final = "kaito-machine/"
NAME: Final = "ws123456789"
LARGER: Final = "Standard_NC12s_v3"
THEIRS: Final = {
    "system": {"mode": "System"},
    "gpus": {"nodeLabels": {"kaito.sh/workspace": "ws", "karpenter.sh/nodepool": "kaito"}},
}
"""Other people's pools; the second looks like one of gpu-provisioner's, but there is no such claim."""

Object = dict[str, Any]


class World:
    """An API server, Azure with other people's pools, kubelets, and one process after the other."""

    def __init__(self, plane: ControlPlane, shape: ClaimShape) -> None:
        self.plane = plane
        self.clock = plane.clock
        self.shape = shape
        self.fake = FakeArm(plane.clock)
        self.fake.retry_after = 60.0
        for name, properties in THEIRS.items():
            self.fake.portal.create_pool(name, **properties)
        self._theirs = self.theirs()
        self.most_pools = 0
        self.fake.world.watch(self._count)

    def theirs(self) -> Object:
        return {name: (self.fake.pools[name].etag, self.fake.pools[name].state) for name in THEIRS}

    def ours(self) -> list[str]:
        return sorted(set(self.fake.pools) - set(THEIRS))

    def _count(self) -> None:
        self.most_pools = max(self.most_pools, len(self.ours()))

    async def claim(self) -> Object | None:
        try:
            return await self.plane.client.get(self.shape.resource, NAME)
        except NotFound:
            return None

    async def is_ready(self) -> bool:
        found = await self.claim()
        assert found is not None, "the claim was given up"
        return is_true((found.get("status") or {}).get("conditions"), "Ready")

    async def is_gone(self) -> bool:
        return await self.claim() is None

    async def until(self, done: Callable[[], Awaitable[bool]], what: str, seconds: float = 3000.0) -> None:
        deadline = self.clock.now() + seconds
        while not await done():
            assert self.clock.now() < deadline, f"{what}: {await self.claim()}"
            await self.clock.sleep(5)

    @contextlib.asynccontextmanager
    async def process(self, process: Process) -> AsyncIterator[None]:
        """A process that lives until the block ends."""
        place = self.fake.place
        config = AksConfig(
            place.location, place.resource_group, place.cluster, place.subscription, sign_in=SignIn.NONE
        )
        arm = Arm(config, self.clock, transport=ArmWire(self.fake, self.clock, process))
        client = Client(
            ApiWire(self.plane.transport, process, (AGENT,)), clock=self.clock, user_agent="kaito-cache/1"
        )
        manager = Manager(client, clock=self.clock, options=KILL_NOW)
        provider = aks.build(config, self.clock, manager.cache.informer(NODES).lister, arm=arm)
        machine.setup(manager, provider, shapes=(self.shape,))
        try:
            async with running(manager):
                yield
        finally:
            await provider.close()

    async def processes(self, first: Process, pause: float) -> None:
        """The first process until it is killed, and after a pause its successor."""
        async with self.process(first):
            await first.dead.wait()
        await self.clock.sleep(pause)
        async with self.process(Process()):
            await asyncio.Event().wait()

    def made(self) -> list[str]:
        """Machine sizes of all pools that were ever made for the claim, oldest first."""
        return [
            each.request.body["properties"]["vmSize"] for each in self.fake.calls("put_pool", refused=False)
        ]

    async def check_end(self) -> None:
        assert self.ours() == []
        assert self.most_pools <= 1
        assert self.theirs() == self._theirs
        pools = [each["metadata"]["labels"]["agentpool"] for each in await self.plane.client.list(NODES)]
        assert sorted(pools) == sorted(THEIRS)

    async def clear(self) -> None:
        """The API server is used again."""
        for node in await self.plane.client.list(NODES):
            await self.plane.client.delete(NODES, node["metadata"]["name"])


@dataclass(frozen=True)
class Life:
    """What happens to a claim. refused: the first size has no machines. delete_at: seconds after which it is deleted,
    ready or not; None: once it is Ready. down: seconds without any process after the kill."""

    refused: bool = False
    delete_at: float | None = None
    down: float = 0.0

    async def live(self, world: World, first: Process) -> None:
        client, resource = world.plane.client, world.shape.resource
        if self.refused:
            words = "Allocation failed. We do not have sufficient capacity for the requested VM size."
            world.fake.provisioning_error(NC6, "AllocationFailed", words, after=100)
        keeper = asyncio.create_task(world.processes(first, self.down))
        try:
            async with FakeKubelets(world.fake, client, world.clock):
                await client.create(resource, claim(world.shape, name=NAME, types=(NC6, LARGER)))
                if self.delete_at is None:
                    await world.until(world.is_ready, "ready")
                    await world.clock.sleep(130)
                    assert await world.is_ready()
                    assert world.fake.pools[NAME].vm_size == (LARGER if self.refused else NC6)
                else:
                    await world.clock.sleep(self.delete_at)
                await client.delete(resource, NAME)
                await world.until(world.is_gone, "gone")
                await world.clock.sleep(200)
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])
        if not keeper.cancelled() and keeper.exception() is not None:
            raise keeper.exception() or AssertionError


LIVES: Final = {
    "a Machine": (MACHINE_SHAPE, Life()),
    "ready, and nobody for five minutes after the kill": (NODECLAIM_SHAPE, Life(down=300.0)),
    "the first size is refused": (NODECLAIM_SHAPE, Life(refused=True)),
    "deleted while the pool is made": (NODECLAIM_SHAPE, Life(delete_at=90.0)),
    "deleted while nobody runs": (MACHINE_SHAPE, Life(delete_at=90.0, down=400.0)),
}


async def lived(plane: ControlPlane, shape: ClaimShape, life: Life, first: Process) -> None:
    """One life, and that nothing is left of it."""
    world = World(plane, shape)
    await life.live(world, first)
    await world.check_end()
    tried = [size for size in (NC6, LARGER) if size in world.made()]
    if life.delete_at is None:
        assert tried == ([NC6, LARGER] if life.refused else [NC6])
    # Which size was refused is known as long as its pool is there; a process that comes later may ask once more.
    once_more = [NC6] if life.refused and first.dead.is_set() else []
    assert world.made() in (tried, once_more + tried)
    await world.clear()


async def killed_at(
    plane: ControlPlane, shape: ClaimShape, life: Life, moments: Sequence[tuple[int, str]]
) -> None:
    """The same life once for each of these moments, before and after it."""
    for number, what in moments:
        for before in (True, False):
            process = Process(number, before)
            try:
                await lived(plane, shape, life, process)
            except Exception as error:
                raise AssertionError(f"killed {'before' if before else 'after'} {number}, {what}") from error
            assert process.dead.is_set(), f"{number}, {what}, was never reached"


@pytest.mark.slow
async def test_a_kill_at_any_request_leaves_one_pool_at_most_and_none_in_the_end(
    world: ControlPlane,
) -> None:
    whole = Process()
    await lived(world, NODECLAIM_SHAPE, Life(), whole)
    assert Counter(what.split()[0] for what in whole.done if "management.azure.com" in what)["GET"] > 10
    assert {what.split()[0] for what in whole.done} == {"GET", "PUT", "PATCH", "DELETE"}
    await killed_at(world, NODECLAIM_SHAPE, Life(), list(enumerate(whole.done, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", LIVES)
async def test_a_kill_at_any_change_does_so_in_other_lives_too(world: ControlPlane, name: str) -> None:
    shape, life = LIVES[name]
    whole = Process()
    await lived(world, shape, life, whole)
    changes = [(number, what) for number, what in enumerate(whole.done, 1) if not what.startswith("GET")]
    assert len(changes) > 5, changes
    await killed_at(world, shape, life, changes)
