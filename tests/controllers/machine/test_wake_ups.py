"""A claim is looked at before its time when its provider has news, or when the Node it waits for is there."""

from __future__ import annotations

import pytest

from controllers.machine.builders import SHAPES
from controllers.machine.lives import (
    INSTANCE,
    NAME,
    NODE,
    POOL_LABEL,
    PROVIDER_ID,
    ScriptedCloud,
    controller,
    create,
    join,
    ready,
    stage,
    until,
)
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner import errors
from kaito.provisioner.cloud import ClaimSpec, Instance
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

PENDING = errors.InstancePending("the pool is being made", retry_after=600)


class SlowCloud(ScriptedCloud):
    """A cloud whose first answer takes five seconds."""

    async def create(self, claim: ClaimSpec) -> Instance:
        first = not self.asked
        try:
            return await super().create(claim)
        finally:
            if first:
                await self._clock.sleep(5)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestProvidersWord:
    async def test_news_of_a_claim_that_waits_are_asked_for_at_once(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = PENDING
        async with controller(world, cloud):
            await create(world, shape)
            await until(world, 100)
            cloud.wake()
            await until(world, 101)
            assert cloud.times("create") == [0.1, 100.0]
            cloud.answer = INSTANCE
            await until(world, 200)
            cloud.wake()
            await until(world, 200.1)
            assert await stage(world, shape, shape.launched) == ("True", shape.launched)

    async def test_news_that_come_while_an_older_answer_is_on_its_way_are_not_lost(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = SlowCloud(world.clock)
        cloud.answer = PENDING
        async with controller(world, cloud):
            await create(world, shape)
            await until(world, 3)
            cloud.answer = INSTANCE
            cloud.wake()
            await until(world, 5.2)
            assert cloud.times("create") == [0.1, 5.1]
            assert await stage(world, shape, shape.launched) == ("True", shape.launched)

    async def test_news_of_a_settled_claim_cost_nothing(self, world: ControlPlane, shape: ClaimShape) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = INSTANCE
        async with controller(world, cloud):
            await create(world, shape)
            await join(world)
            await ready(world)
            world.requests.clear()
            asked = len(cloud.asked)
            for _ in range(5):
                cloud.wake()
                await world.clock.sleep(60)
            assert world.writes("kaito-machine") == []
            assert len(cloud.asked) == asked


async def test_news_of_claims_that_do_not_exist_are_nothing(world: ControlPlane) -> None:
    cloud = ScriptedCloud(world.clock)
    cloud.answer = PENDING
    async with controller(world, cloud):
        await create(world, NODECLAIM_SHAPE)
        cloud.wake("nobody")
        await until(world, 100)
        assert cloud.times("create") == [0.1]


async def test_a_name_that_both_kinds_have_wakes_both(world: ControlPlane) -> None:
    cloud = ScriptedCloud(world.clock)
    cloud.answer = PENDING
    async with controller(world, cloud):
        await create(world, NODECLAIM_SHAPE)
        await create(world, MACHINE_SHAPE)
        await until(world, 100)
        cloud.wake()
        await until(world, 101)
        assert cloud.times("create")[2:] == [100.0, 100.0]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestNodeWithTheClaimsName:
    async def test_its_coming_brings_the_claim_back_and_its_changes_do_not(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = PENDING
        async with controller(world, cloud):
            await create(world, shape)
            await until(world, 100)
            await join(world)
            await ready(world, ready=False)
            await ready(world)
            await until(world, 150)
            assert cloud.times("create") == [0.1, 100.0]
            await until(world, 701)
            assert cloud.times("create") == [0.1, 100.0, 700.0]

    async def test_a_claim_is_ready_as_soon_as_its_node_is(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        """What the provider waits for is the Node itself, which it learns from the same cache."""
        cloud = ScriptedCloud(world.clock)
        cloud.answer = PENDING
        async with controller(world, cloud):
            await create(world, shape)
            await until(world, 100)
            cloud.answer = INSTANCE
            await join(world)
            await ready(world)
            assert await stage(world, shape, "Ready") == ("True", "Ready")
        assert cloud.times("create") == [0.1, 100.0]

    async def test_it_counts_from_when_it_has_an_id(self, world: ControlPlane, shape: ClaimShape) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = PENDING
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE, "labels": {POOL_LABEL: NAME}},
        }
        async with controller(world, cloud):
            await create(world, shape)
            await until(world, 100)
            await world.client.create(NODES, node)
            await until(world, 200)
            assert cloud.times("create") == [0.1]
            await world.client.patch(NODES, NODE, patch={"spec": {"providerID": PROVIDER_ID}})
            await until(world, 201)
            assert cloud.times("create") == [0.1, 200.0]

    async def test_a_cloud_that_asked_for_patience_gets_it_all_the_same(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = errors.Throttled("too many requests", retry_after=600)
        async with controller(world, cloud):
            await create(world, shape)
            await until(world, 100)
            await join(world)
            await until(world, 599)
            assert cloud.times("create") == [0.1]

    async def test_a_node_of_another_pool_is_nothing(self, world: ControlPlane, shape: ClaimShape) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = PENDING
        async with controller(world, cloud):
            await create(world, shape)
            await join(world, "other", provider_id="azure:///other", labels={POOL_LABEL: "system"})
            await until(world, 599)
            assert cloud.times("create") == [0.1]
