"""How claims and agent pools end: over the fake AKS and the real SDK, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress

import pytest

from controllers.machine.builders import NC6, SHAPES, claim
from controllers.machine.lives import NAME, POOL_LABEL, given_up, message, stage, until, warnings
from controllers.machine.parity.ends import a_pod, ends, leaving
from controllers.machine.provisioners import provisioner
from kaito.api.labels import CLAIM_UID_ANNOTATION, WORKSPACE_LABEL
from kaito.controllers.machine import ClaimShape
from kaito.provisioner.testing import Boot, FakeArm, FakeKubelets
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

pytestmark = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)


async def exists(world: ControlPlane, shape: ClaimShape) -> bool:
    with suppress(NotFound):
        await world.client.get(shape.resource, NAME)
        return True
    return False


async def ready_claim(world: ControlPlane, shape: ClaimShape) -> str:
    """Name of the Node of a claim that is ready."""
    await world.client.create(shape.resource, claim(shape))
    await until(world, 400)
    assert await stage(world, shape, "Ready") == ("True", "Ready")
    (node,) = await world.client.list(NODES, label_selector=f"{POOL_LABEL}={NAME}")
    return str(node["metadata"]["name"])


async def test_a_pool_is_deleted_once_when_its_pods_are_gone(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    async with provisioner(world, fake):
        node = await ready_claim(world, shape)
        await a_pod(world, node=node)
        await world.client.delete(shape.resource, NAME)
        await until(world, 420)
        assert await leaving(world, "web") == [True]
        assert fake.pools[NAME].state == "Succeeded"
        await ends(world, "web")
        assert fake.pools[NAME].state == "Deleting"
        assert await stage(world, shape, "Drained") == ("True", "Drained")
        assert await stage(world, shape, "InstanceTerminating") == ("True", "InstanceTerminating")
        await until(world, 1200)
        assert not await exists(world, shape)
        assert await world.client.list(NODES) == []
    assert not fake.pools
    assert len(fake.calls("delete_pool")) == 1


async def test_a_deletion_that_stands_in_line_says_so(world: ControlPlane, shape: ClaimShape) -> None:
    fake = FakeArm(world.clock, exclusive=True)
    async with FakeKubelets(fake, world.client, world.clock), provisioner(world, fake):
        await ready_claim(world, shape)
        fake.fail_next(
            "delete_pool",
            code="OperationNotAllowed",
            message="Another operation (upgrade) is in progress",
            status=409,
            times=3,
        )
        await world.client.delete(shape.resource, NAME)
        await until(world, world.clock.now() + 10)
        assert await stage(world, shape, "InstanceTerminating") == ("True", "InstanceTerminating")
        assert "another operation holds the cluster" in await message(world, shape, "InstanceTerminating")
        await until(world, world.clock.now() + 600)
        assert not await exists(world, shape)
        assert await warnings(world) == []


async def test_where_one_operation_runs_at_a_time_a_pool_without_a_claim_has_its_turn_and_holds_up_nobody(
    world: ControlPlane, shape: ClaimShape
) -> None:
    fake = FakeArm(world.clock, exclusive=True)
    owner = {CLAIM_UID_ANNOTATION: "gone", WORKSPACE_LABEL: "phi"}
    async with FakeKubelets(fake, world.client, world.clock), provisioner(world, fake):
        for name in ("ws1", "ws2", "ws3"):
            body = claim(shape)
            await world.client.create(shape.resource, {**body, "metadata": body["metadata"] | {"name": name}})
        await until(world, 400)
        fake.portal.create_pool("leaked", NC6, nodeLabels=owner)
        await until(world, 1200)
    (deletion,) = fake.calls("delete_pool")
    _, second, third = fake.calls("put_pool", refused=False)
    assert deletion.at - second.at <= 310, "next, once it was seen"
    assert third.at - deletion.at <= 120 + 120 + 10, "its end is seen at the next look"


async def test_a_pool_whose_claim_vanished_is_collected_with_its_node_and_a_users_pool_stays(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    """Somebody took the claim's finalizer off while no provisioner ran."""
    fake.portal.create_pool("users")
    async with provisioner(world, fake):
        await ready_claim(world, shape)
    await world.client.patch(shape.resource, NAME, patch={"metadata": {"finalizers": None}})
    await world.client.delete(shape.resource, NAME)
    async with provisioner(world, fake):
        await until(world, 515)
        assert fake.pools[NAME].state == "Succeeded"
        await until(world, 530)
        assert fake.pools[NAME].state == "Deleting"
        await until(world, 1500)
        owners = [each["metadata"]["labels"][POOL_LABEL] for each in await world.client.list(NODES)]
        assert set(owners) <= {"users"}
    assert list(fake.pools) == ["users"]


async def test_a_silent_machine_is_replaced_after_ten_minutes(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    async with provisioner(world, fake):
        await ready_claim(world, shape)
        await until(world, 1000)
        kubelets.silent.add(NAME)
        kubelets.look()
        await until(world, 1000 + 630)
        assert fake.pools[NAME].state == "Succeeded"
        await until(world, 1000 + 700)
        assert fake.pools[NAME].state == "Deleting"
        await until(world, 2600)
        assert not await exists(world, shape)
        assert "NodeUnhealthy" in await warnings(world)


async def test_a_cluster_that_was_stopped_for_hours_keeps_its_pools_although_its_nodes_are_long_unknown(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape
) -> None:
    """The provisioner starts together with the cluster, and sees Nodes that have been unknown for two hours."""
    async with provisioner(world, fake):
        await ready_claim(world, shape)
    fake.stop_cluster()
    kubelets.look()
    await until(world, 7600)
    fake.start_cluster()
    async with provisioner(world, fake):
        kubelets.look()
        await until(world, 12_000)
        assert await stage(world, shape, "Ready") == ("True", "Ready")
    assert len(fake.calls("delete_pool")) == 0
    assert len(fake.calls("put_pool")) == 1


@asynccontextmanager
async def stopped_in_the_middle(
    world: ControlPlane, fake: FakeArm, kubelets: FakeKubelets, shape: ClaimShape, *, restarted: bool
) -> AsyncIterator[None]:
    """A claim whose machine is there and not ready when the cluster is stopped for longer than any stage may take, from
    400 s to 7200 s; all has just been started again inside the block. restarted: the provisioner as well."""
    async with provisioner(world, fake) as first:
        await world.client.create(shape.resource, claim(shape))
        await until(world, 400)
        assert fake.pools[NAME].state == "Succeeded"
        fake.stop_cluster()
        kubelets.look()
        if restarted:
            await first.end()
        await until(world, 7200)
        assert set(await warnings(world)) <= {"ClusterNotRunning"}
        assert not await given_up(world, shape)
        fake.start_cluster(seconds=0)
        kubelets.look()
        async with provisioner(world, fake) if restarted else nullcontext():
            yield


RESTARTED = pytest.mark.parametrize("restarted", [False, True], ids=["watched", "with-the-provisioner"])


@RESTARTED
@pytest.mark.parametrize(
    "boot", [Boot(joins=400), Boot(ready=420), Boot(gpus=420)], ids=["joins", "ready", "gpus"]
)
async def test_what_a_stop_interrupted_may_go_on_for_ten_minutes_after_the_start(
    world: ControlPlane,
    fake: FakeArm,
    kubelets: FakeKubelets,
    shape: ClaimShape,
    boot: Boot,
    restarted: bool,
) -> None:
    """Six and a half of them pass until the machine is ready."""
    kubelets.default = boot
    async with stopped_in_the_middle(world, fake, kubelets, shape, restarted=restarted):
        await until(world, 7650)
        assert await stage(world, shape, "Ready") == ("True", "Ready")
        assert set(await warnings(world)) <= {"ClusterNotRunning"}
    assert fake.calls("delete_pool") == []
    assert len(fake.calls("put_pool")) == 1


@RESTARTED
@pytest.mark.parametrize(
    ("boot", "late"),
    [
        (Boot(joins=None), {"LaunchTimeout"}),
        (Boot(ready=None), {"InitializationTimeout", "NodeUnhealthy"}),
        (Boot(gpus=None), {"GpuNotFound"}),
    ],
    ids=["joins", "ready", "gpus"],
)
async def test_what_does_not_go_on_after_the_start_is_told_when_ten_minutes_are_over(
    world: ControlPlane,
    fake: FakeArm,
    kubelets: FakeKubelets,
    shape: ClaimShape,
    boot: Boot,
    late: set[str],
    restarted: bool,
) -> None:
    """Counted from when the cluster was first seen to run again, or from the provisioner's own start. Then a Node that
    is not Ready has been sick for long enough, too."""
    kubelets.default = boot
    async with stopped_in_the_middle(world, fake, kubelets, shape, restarted=restarted):
        while not (told := set(await warnings(world)) - {"ClusterNotRunning"}):
            assert world.clock.now() < 8000
        seen = 7201 if restarted else 7216
        assert (round(world.clock.now()), len(told)) == (seen + 600, 1)
        assert told <= late
