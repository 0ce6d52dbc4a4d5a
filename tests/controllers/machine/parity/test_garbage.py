"""Garbage collection as Karpenter's and gpu-provisioner's suites have it, both ways."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from controllers.machine.builders import SHAPES, claim
from controllers.machine.lives import controller
from controllers.machine.parity.ends import (
    NAME,
    Pools,
    a_claim,
    a_node,
    delete,
    events,
    is_gone,
    turn,
)
from kaito.api import labels
from kaito.controllers import machine
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner.errors import ClusterNotRunning, Unauthorized
from kaito.runtime.clock import rfc3339
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

CLAIMS = NODECLAIM_SHAPE.resource


class TestInstances:
    async def test_one_without_a_claim_ends_at_the_next_look_and_the_others_stay(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_claim(world, name="ws2")
            cloud.leak()
            await world.clock.sleep(115)
            assert len(cloud.instances) == 3
            await world.clock.sleep(10)
            assert {each.claim_name for each in cloud.instances.values()} == {NAME, "ws2"}

    async def test_one_that_never_got_an_id_or_failed_is_found_by_its_stamp(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        cloud.leak(provider_id="")
        async with controller(world, cloud):
            await world.clock.sleep(125)
        assert cloud.instances == {}

    async def test_one_of_less_than_thirty_seconds_waits_for_the_next_look(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            cloud.leak("young", "u1", created=world.clock.wall() + timedelta(seconds=100))
            cloud.leak("old", "u2", created=world.clock.wall() + timedelta(seconds=80))
            await world.clock.sleep(125)
            assert list(cloud.instances) == ["u1"]
            await world.clock.sleep(120)
            assert cloud.instances == {}

    async def test_one_without_a_stamp_is_somebody_elses_for_ever(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        cloud.leak("users-own-pool", "")
        async with controller(world, cloud):
            await world.clock.sleep(3600)
        assert list(cloud.instances) == ["users-own-pool"]
        assert cloud.deletions == []

    async def test_one_whose_name_a_new_claim_has_taken_is_still_nobodys(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            cloud.leak(NAME, "uid-of-the-claim-before")
            await world.clock.sleep(125)
            (left,) = cloud.instances.values()
        assert left.claim_uid != "uid-of-the-claim-before"

    async def test_one_whose_claim_the_server_knows_stays_although_no_cache_shows_it(
        self, world: ControlPlane
    ) -> None:
        """A claim of a kind that this process does not serve."""
        cloud = Pools(world.clock)
        manager = Manager(world.client.named("manager"), clock=world.clock)
        machine.setup(manager, cloud, shapes=(NODECLAIM_SHAPE,))
        stop = asyncio.Event()
        running = asyncio.create_task(manager.run(stop))
        made = await world.client.create(MACHINE_SHAPE.resource, claim(MACHINE_SHAPE, name="elsewhere"))
        cloud.leak("elsewhere", made["metadata"]["uid"])
        await world.clock.sleep(3600)
        stop.set()
        await running
        assert list(cloud.instances) == [made["metadata"]["uid"]]
        assert cloud.lists == 30

    async def test_a_failed_end_is_logged_and_tried_again(
        self, world: ControlPlane, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = Pools(world.clock)
        cloud.leak()
        cloud.cannot_delete = Unauthorized("may not delete agent pools")
        with caplog.at_level(logging.WARNING):
            async with controller(world, cloud):
                await world.clock.sleep(125)
                assert len(cloud.deletions) == 1
                cloud.cannot_delete = None
                await world.clock.sleep(120)
        assert cloud.instances == {}
        assert "cannot be ended" in caplog.text

    async def test_none_ends_while_the_cluster_stands_still(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        cloud.leak()
        cloud.refusal = ClusterNotRunning("the cluster is stopped; start it")
        async with controller(world, cloud):
            await world.clock.sleep(3600)
            assert cloud.deletions == []
            cloud.refusal = None
            await world.clock.sleep(120)
        assert cloud.instances == {}

    async def test_its_node_goes_as_well(self, world: ControlPlane) -> None:
        """Somebody took the claim's finalizer off."""
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await world.client.patch(NODES, NAME, patch={"metadata": {"annotations": {"a": "b"}}})
        await world.client.patch(CLAIMS, NAME, patch={"metadata": {"finalizers": None}})
        await world.client.delete(CLAIMS, NAME)
        async with controller(world, cloud):
            await world.clock.sleep(245)
            assert cloud.instances == {}
            assert await is_gone(world, NODES)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestClaims:
    async def test_one_whose_machine_is_gone_under_a_node_that_is_not_ready_goes(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, shape)
            cloud.instances.clear()
            await turn(world, ready="Unknown")
            await world.clock.sleep(125)
            assert await is_gone(world, shape.resource)
            assert await is_gone(world, NODES)
            (event,) = await events(world, "InstanceGone")
            assert NAME in event["message"]

    async def test_one_with_a_ready_node_stays(self, world: ControlPlane, shape: ClaimShape) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, shape)
            cloud.instances.clear()
            await world.clock.sleep(3600)
            assert not await is_gone(world, shape.resource)

    async def test_one_that_was_never_registered_stays_even_without_machine_and_node(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await world.client.create(shape.resource, claim(shape))
            await world.clock.sleep(0.1)
            cloud.instances.clear()
            await world.clock.sleep(600)
            assert not await is_gone(world, shape.resource)

    async def test_one_that_the_list_lacks_and_the_cloud_still_finds_stays(
        self, world: ControlPlane, shape: ClaimShape, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cloud = Pools(world.clock)

        async def nothing() -> list[object]:
            return []

        monkeypatch.setattr(cloud, "list", nothing)
        async with controller(world, cloud):
            await a_claim(world, shape)
            await turn(world, ready="Unknown")
            await world.clock.sleep(300)
            assert not await is_gone(world, shape.resource)
            assert cloud.gets >= 2

    async def test_none_goes_while_the_cluster_stands_still(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, shape)
            cloud.instances.clear()
            cloud.refusal = ClusterNotRunning("the cluster is stopped; start it")
            await turn(world, ready="Unknown")
            await world.clock.sleep(7200)
            assert not await is_gone(world, shape.resource)


async def test_a_settled_world_is_one_question_to_the_cloud_every_two_minutes(world: ControlPlane) -> None:
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        await a_claim(world)
        world.requests.clear()
        before = cloud.lists
        await world.clock.sleep(3600)
        assert cloud.lists - before == 30
        assert cloud.checks == 0, "whether the cluster runs matters when something is to be ended"
        assert world.writes(machine.USER_AGENT) == []


async def test_a_cloud_whose_instances_are_nodes_is_asked_nothing(world: ControlPlane) -> None:
    cloud = Pools(world.clock)
    cloud.hidden = False  # type: ignore[misc]
    async with controller(world, cloud):
        await a_claim(world)
        await world.clock.sleep(3600)
        assert cloud.lists == 0


async def test_karpenters_nodes_and_claims_are_not_garbage(world: ControlPlane) -> None:
    """Those of another node class look alike and are another controller's."""
    cloud = Pools(world.clock)
    foreign = claim(
        metadata={"name": "karpenters", "labels": {}},
        spec={"nodeClassRef": {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"}},
    )
    async with controller(world, cloud):
        await world.client.create(CLAIMS, foreign)
        now = rfc3339(world.clock.wall())
        registered = {"type": "Registered", "status": "True", "lastTransitionTime": now}
        status = {"providerID": "azure:///vmss/karpenters", "conditions": [registered]}
        await world.client.patch_status(CLAIMS, "karpenters", None, status)
        await a_node(world, "karpenters", ready="False")
        metadata = {"finalizers": [labels.TERMINATION_FINALIZER]}
        await world.client.patch(NODES, "karpenters", patch={"metadata": metadata})
        await world.clock.sleep(7200)
        assert not await is_gone(world, CLAIMS, "karpenters")
        await delete(world, name="karpenters")
        await world.clock.sleep(600)
        assert not await is_gone(world, NODES, "karpenters")


async def test_a_node_of_a_kind_that_another_provisioner_serves_is_left_to_it(world: ControlPlane) -> None:
    """As where `--claim-kinds` divides a cluster: whose claims this one does not read, it cannot miss either."""
    cloud = Pools(world.clock)
    manager = Manager(world.client, clock=world.clock)
    machine.setup(manager, cloud, shapes=(NODECLAIM_SHAPE,))
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await a_node(world, "a-machines", ready="True")
        made = await world.client.create(MACHINE_SHAPE.resource, claim(MACHINE_SHAPE, name="elsewhere"))
        owner = {key: made[key] for key in ("apiVersion", "kind")}
        owner |= {key: made["metadata"][key] for key in ("name", "uid")}
        metadata = {
            "labels": {labels.WORKSPACE_LABEL: "phi"},
            "finalizers": [labels.TERMINATION_FINALIZER],
            "ownerReferences": [owner],
        }
        await world.client.patch(NODES, "a-machines", patch={"metadata": metadata})
        await world.clock.sleep(600)
        node = await world.client.get(NODES, "a-machines")
        assert node["metadata"]["finalizers"] == [labels.TERMINATION_FINALIZER]
        assert "deletionTimestamp" not in node["metadata"]
    finally:
        stop.set()
        await running
