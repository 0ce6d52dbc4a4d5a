"""Two provisioners and one lease: the one that leads loses it in the middle of a launch, on virtual time.

The cloud is the fake AKS behind the real SDK; nothing but the pool itself tells the next leader how far things are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from azure.core.rest import AsyncHttpResponse, HttpRequest

from controllers.machine.builders import SHAPES, claim
from controllers.machine.lives import NAME, stage, until, warnings
from kaito.api import labels
from kaito.controllers import machine
from kaito.controllers.machine import ClaimShape
from kaito.provisioner import aks
from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.testing import FakeArm, FakeKubelets
from kaito.provisioner.testing.azure import MemoryTransport as Azure
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import NotFound
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import LEASES, NODES
from support.control_plane import ControlPlane


class SlowPuts(Azure):
    """Azure over a line on which requests that make something take their time, and arrive though nobody waits."""

    def __init__(self, arm: FakeArm, clock: Clock) -> None:
        super().__init__(arm, clock)
        self.delay = 0.0
        self.under_way: list[asyncio.Task[AsyncHttpResponse]] = []
        self._time = clock

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        if request.method != "PUT" or not self.delay:
            return await super().send(request, **kwargs)
        self.under_way.append(asyncio.create_task(self._send_late(request)))
        return await asyncio.shield(self.under_way[-1])

    async def _send_late(self, request: HttpRequest) -> AsyncHttpResponse:
        await self._time.sleep(self.delay)
        return await super().send(request)


class Process:
    """One provisioner with its own connections, as a pod has them."""

    def __init__(self, name: str, world: ControlPlane, fake: FakeArm) -> None:
        self.faults = FaultScript()
        self.transport = MemoryTransport(world.server.handle, world.clock, self.faults)
        client = Client(self.transport, clock=world.clock, user_agent=name, field_manager="kaito-machine")
        election = LeaderElectionOptions("kaito-provisioner", "default", identity=name)
        self.manager = Manager(client, clock=world.clock, options=ManagerOptions(leader_election=election))
        place = fake.place
        config = AksConfig(
            place.location, place.resource_group, place.cluster, place.subscription, sign_in=SignIn.NONE
        )
        self.azure = SlowPuts(fake, world.clock)
        self.way = Arm(config, world.clock, transport=self.azure)
        nodes = self.manager.cache.informer(NODES).lister
        machine.setup(self.manager, aks.build(config, world.clock, nodes, arm=self.way))
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.manager.run(self.stop), name=name)

    def cut(self) -> None:
        """Nothing it sends to the API server arrives any more; Azure still hears it."""
        self.faults.add(Fault(refuse="cut off"), times=100_000)

    async def end(self) -> None:
        self.stop.set()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.way.close()
        await self.transport.close()


@asynccontextmanager
async def two(world: ControlPlane, fake: FakeArm) -> AsyncIterator[tuple[Process, Process]]:
    """The first leads, the second stands by."""
    first = Process("first", world, fake)
    await world.clock.sleep(1)
    second = Process("second", world, fake)
    await world.clock.sleep(1)
    try:
        yield first, second
    finally:
        for each in (first, second):
            await each.end()


async def leader(world: ControlPlane) -> str:
    lease = await world.client.get(LEASES, "kaito-provisioner", "default")
    return str(lease["spec"]["holderIdentity"])


@pytest.fixture
def fake(world: ControlPlane) -> FakeArm:
    return FakeArm(world.clock)


@pytest.fixture
async def kubelets(world: ControlPlane, fake: FakeArm) -> AsyncIterator[FakeKubelets]:
    async with FakeKubelets(fake, world.client, world.clock) as found:
        yield found


async def check_settled(world: ControlPlane, fake: FakeArm, shape: ClaimShape, uid: str) -> None:
    """One pool, one Node, both the claim's, and the claim ready."""
    assert await stage(world, shape, "Ready") == ("True", "Ready")
    assert list(fake.pools) == [NAME]
    (node,) = await world.client.list(NODES)
    assert [each["uid"] for each in node["metadata"]["ownerReferences"]] == [uid]
    assert node["metadata"]["labels"][labels.INITIALIZED_LABEL] == "true"
    assert await warnings(world) == []


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestInTheMiddleOfALaunch:
    async def test_the_next_leader_finds_the_pool_and_goes_on(
        self, world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
    ) -> None:
        async with two(world, fake) as (first, _):
            made = await world.client.create(shape.resource, claim(shape))
            await until(world, 60)
            assert (await leader(world), fake.pools[NAME].state) == ("first", "Creating")
            first.cut()
            await until(world, 120)
            assert await leader(world) == "second"
            assert isinstance(first.task.exception(), LeaderElectionLost)
            await until(world, 400)
            await check_settled(world, fake, shape, made["metadata"]["uid"])
        assert len(fake.calls("put_pool")) == 1

    async def test_the_next_leader_sees_it_to_its_end_when_the_claim_is_deleted_meanwhile(
        self, world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
    ) -> None:
        async with two(world, fake) as (first, _):
            await world.client.create(shape.resource, claim(shape))
            await until(world, 60)
            first.cut()
            await world.client.delete(shape.resource, NAME)
            await until(world, 900)
            assert not fake.pools
            with pytest.raises(NotFound):
                await world.client.get(shape.resource, NAME)
            assert await world.client.list(NODES) == []
        assert len(fake.calls("put_pool")) == 1

    async def test_a_request_that_arrives_after_the_lease_was_lost_makes_no_second_pool(
        self, world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
    ) -> None:
        """The first sends its PUT, which hangs on the way; it is cut off and ends; the second sends its own."""
        async with two(world, fake) as (first, _):
            first.azure.delay = 30
            made = await world.client.create(shape.resource, claim(shape))
            await world.clock.sleep(1)
            first.cut()
            await until(world, 600)
            assert await leader(world) == "second"
            await check_settled(world, fake, shape, made["metadata"]["uid"])
            assert first.task.done()
            (late,) = first.azure.under_way
            assert late.result().status_code == 412
        assert [call.status for call in fake.calls("put_pool")] == [201, 412]

    async def test_one_that_does_not_know_yet_that_it_leads_no_more_changes_nothing(
        self, world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
    ) -> None:
        """Both send a PUT for the same claim, as when a process was frozen over the end of its lease."""
        async with two(world, fake) as (first, second):
            first.azure.delay = 4
            made = await world.client.create(shape.resource, claim(shape))
            await world.clock.sleep(1)
            spec = shape.claim_spec(await world.client.get(shape.resource, NAME))
            nodes = second.manager.cache.informer(NODES).lister
            config = AksConfig(
                *(fake.place.location, fake.place.resource_group, fake.place.cluster),
                fake.place.subscription,
                sign_in=SignIn.NONE,
            )
            other = aks.build(config, world.clock, nodes, arm=second.way)
            with pytest.raises(Exception, match="being made"):
                await other.create(spec)
            await until(world, 400)
            await check_settled(world, fake, shape, made["metadata"]["uid"])
        assert [call.status for call in fake.calls("put_pool")] == [201, 412]
