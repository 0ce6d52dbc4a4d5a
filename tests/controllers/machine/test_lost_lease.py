"""Two provisioners and one lease: the one that leads loses it in the middle of a launch, on virtual time.

The cloud is the fake AKS behind the real SDK; nothing but the pool itself tells the next leader how far things are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controllers.machine.builders import SHAPES, claim
from controllers.machine.lives import NAME, stage, until, warnings
from controllers.machine.provisioners import Provisioner, settings
from kaito.api import labels
from kaito.controllers.machine import ClaimShape
from kaito.provisioner import aks
from kaito.provisioner.testing import FakeArm, FakeKubelets
from kaito.runtime.errors import NotFound
from kaito.runtime.leader import LeaderElectionLost
from kaito.runtime.resources import LEASES, NODES
from support.control_plane import ControlPlane


@asynccontextmanager
async def two(world: ControlPlane, fake: FakeArm) -> AsyncIterator[tuple[Provisioner, Provisioner]]:
    """The first leads, the second stands by."""
    first = Provisioner("first", world, fake, lease=True)
    await world.clock.sleep(1)
    second = Provisioner("second", world, fake, lease=True)
    await world.clock.sleep(1)
    try:
        yield first, second
    finally:
        for each in (first, second):
            await each.end()


async def leader(world: ControlPlane) -> str:
    lease = await world.client.get(LEASES, "kaito-provisioner", "default")
    return str(lease["spec"]["holderIdentity"])


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
            other = aks.build(settings(fake), world.clock, nodes, arm=second.way)
            with pytest.raises(Exception, match="being made"):
                await other.create(spec)
            await until(world, 400)
            await check_settled(world, fake, shape, made["metadata"]["uid"])
        assert [call.status for call in fake.calls("put_pool")] == [201, 412]
