"""Claims and agent pools when things cross: over the fake AKS and the real SDK, on virtual time."""

from __future__ import annotations

import pytest

from controllers.machine.builders import SHAPES, claim
from controllers.machine.lives import NAME, given_up, message, stage, until, warnings
from controllers.machine.provisioners import Provisioner, provisioner
from kaito.api import labels
from kaito.controllers.machine import ClaimShape, Limits
from kaito.provisioner.testing import Boot, FakeArm, FakeKubelets
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

pytestmark = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)


async def exists(world: ControlPlane, shape: ClaimShape) -> bool:
    try:
        await world.client.get(shape.resource, NAME)
    except NotFound:
        return False
    return True


@pytest.mark.parametrize("arrives", [True, False], ids=["and-arrives", "and-is-lost"])
async def test_a_claim_deleted_while_its_pools_request_is_under_way_leaves_no_pool(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape, arrives: bool
) -> None:
    """The process dies with its request on the way, the claim is deleted, and only then the request arrives."""
    first = Provisioner("first", world, fake)
    first.azure.delay = 20
    await world.client.create(shape.resource, claim(shape))
    await until(world, 5)
    assert len(first.azure.under_way) == 1
    await world.client.delete(shape.resource, NAME)
    if not arrives:
        first.azure.under_way[0].cancel()
    first.kill()
    try:
        async with provisioner(world, fake):
            await until(world, 10)
            await until(world, 1200)
            assert not await exists(world, shape)
            assert not fake.pools
            assert await world.client.list(NODES) == []
    finally:
        await first.end()
    assert len(fake.calls("put_pool")) == (1 if arrives else 0)


async def test_a_name_that_is_used_again_waits_for_the_old_pools_end_and_gets_its_own(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    """Somebody takes the old claim's finalizer off while its pool is Deleting, and makes a claim of the same name."""
    async with provisioner(world, fake):
        old = await world.client.create(shape.resource, claim(shape))
        await until(world, 400)
        assert await stage(world, shape, "Ready") == ("True", "Ready")
        await world.client.delete(shape.resource, NAME)
        await until(world, 410)
        assert fake.pools[NAME].state == "Deleting"
        await world.client.patch(shape.resource, NAME, patch={"metadata": {"finalizers": None}})
        new = await world.client.create(shape.resource, claim(shape))
        await until(world, 1200)
        assert await stage(world, shape, "Ready") == ("True", "Ready")
        (node,) = await world.client.list(NODES)
    uid = new["metadata"]["uid"]
    assert uid != old["metadata"]["uid"]
    assert [each["uid"] for each in node["metadata"]["ownerReferences"]] == [uid]
    assert fake.pools[NAME].properties["nodeLabels"][labels.CLAIM_UID_ANNOTATION] == uid


async def test_gpus_that_the_driver_never_shows_are_named(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    kubelets.default = Boot(gpus=None)
    async with provisioner(world, fake):
        await world.client.create(shape.resource, claim(shape))
        await until(world, 1150)
        assert await stage(world, shape, shape.initialized) == ("Unknown", "ResourceNotRegistered")
        await until(world, 1250)
        assert await stage(world, shape, shape.initialized) == ("False", "GpuNotFound")
        assert "none of its 1 nvidia.com/gpu" in await message(world, shape, shape.initialized)
        await until(world, 7200)
        assert not await given_up(world, shape)
        assert await warnings(world) == ["GpuNotFound"]
    assert len(fake.calls("put_pool")) == 1


async def test_an_operation_that_never_ends_is_given_up_and_its_pool_removed(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    fake.end_next("create", "InProgress")
    async with provisioner(world, fake, limits=Limits(launch_timeout=1200)):
        await world.client.create(shape.resource, claim(shape))
        await until(world, 1195)
        assert await stage(world, shape, shape.launched) == ("Unknown", "LaunchInProgress")
        await until(world, 2400)
        assert not await exists(world, shape)
        assert not fake.pools
        assert await warnings(world) == ["LaunchTimeout"]


async def test_pools_that_fail_again_and_again_for_no_known_reason_are_given_up(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    for _ in range(9):
        fake.end_next("create", "Failed", code="Strange", message="Something strange.")
    async with provisioner(world, fake):
        await world.client.create(shape.resource, claim(shape))
        await until(world, 1790)
        assert not await given_up(world, shape)
        assert len(fake.calls("put_pool")) > 2
        await until(world, 2400)
        assert not await exists(world, shape)
        assert not fake.pools
        assert (await warnings(world))[-1] == "LaunchTimeout"


async def test_a_machine_that_never_joins_is_given_up_and_its_pool_removed(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    kubelets.default = Boot(joins=None)
    async with provisioner(world, fake):
        await world.client.create(shape.resource, claim(shape))
        await until(world, 1700)
        assert not await given_up(world, shape)
        await until(world, 3000)
        assert not await exists(world, shape)
        assert not fake.pools


async def test_nothing_happens_while_the_cluster_is_stopped_and_everything_is_kept(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    kubelets.forgets_stopped = True
    async with provisioner(world, fake):
        made = await world.client.create(shape.resource, claim(shape))
        await until(world, 400)
        assert await stage(world, shape, "Ready") == ("True", "Ready")
        fake.stop_cluster()
        kubelets.look()
        await until(world, 3 * 3600)
        assert list(fake.pools) == [NAME]
        assert not await given_up(world, shape)
        fake.start_cluster()
        kubelets.look()
        await until(world, 4 * 3600)
        assert not await given_up(world, shape)
        (node,) = await world.client.list(NODES)
    assert [each["uid"] for each in node["metadata"]["ownerReferences"]] == [made["metadata"]["uid"]]
    assert len(fake.calls("put_pool")) == 1
    assert fake.calls("delete_pool") == []


async def test_a_machine_that_does_not_come_back_after_the_clusters_start_is_replaced(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    kubelets.forgets_stopped = True
    async with provisioner(world, fake):
        await world.client.create(shape.resource, claim(shape))
        await until(world, 400)
        fake.stop_cluster()
        kubelets.look()
        await until(world, 3 * 3600)
        kubelets.silent.add(NAME)
        fake.start_cluster()
        while await world.client.list(shape.resource):
            await until(world, world.clock.now() + 60)
            assert world.clock.now() < 4 * 3600
        assert world.clock.now() > 3 * 3600 + 900, "the time of the stop does not count"
        assert await warnings(world) == ["RegistrationTimeout"]
    assert not fake.pools
