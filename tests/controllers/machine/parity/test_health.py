"""Karpenter's node repair: who is sick, for how long, and how many may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.machine.builders import SHAPES
from controllers.machine.lives import controller, deletions_of
from controllers.machine.parity.ends import (
    NAME,
    Pools,
    a_budget,
    a_claim,
    a_node,
    a_pod,
    delete,
    events,
    is_gone,
    turn,
)
from kaito.api import labels
from kaito.controllers import machine
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.controllers.machine.health import Policy, pool_of, sickness, termination_patch, too_many
from kaito.provisioner.errors import ClusterNotRunning
from kaito.runtime.clock import rfc3339
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

CLAIMS = NODECLAIM_SHAPE.resource
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TERMINATION = labels.TERMINATION_TIMESTAMP_ANNOTATION


def sick(status: str = "False", *, pool: str = "", type: str = "Ready", since: datetime = NOW) -> Any:
    condition = {"type": type, "status": status, "lastTransitionTime": rfc3339(since)}
    found = {labels.NODEPOOL_LABEL: pool} if pool else {}
    return {"metadata": {"name": "n", "labels": found}, "status": {"conditions": [condition]}}


class TestRules:
    @pytest.mark.parametrize(("status", "is_sick"), [("False", True), ("Unknown", True), ("True", False)])
    def test_type_and_status_must_match(self, status: str, is_sick: bool) -> None:
        assert (sickness(sick(status)) is not None) is is_sick
        assert sickness(sick(status, type="DiskPressure")) is None
        assert sickness({"metadata": {}, "status": {}}) is None

    def test_the_condition_whose_time_is_over_first_counts(self) -> None:
        policies = (Policy("Ready", "False", 600), Policy("GpuHealthy", "False", 60))
        node = sick(since=NOW - timedelta(seconds=300))
        node["status"]["conditions"] += sick(type="GpuHealthy")["status"]["conditions"]
        found = sickness(node, policies)
        assert found is not None
        assert (found.type, found.due) == ("GpuHealthy", NOW + timedelta(seconds=60))

    def test_a_condition_without_a_time_cannot_be_judged(self) -> None:
        node = sick()
        del node["status"]["conditions"][0]["lastTransitionTime"]
        assert sickness(node) is None

    @pytest.mark.parametrize(
        ("sick_nodes", "nodes", "may_be_replaced"),
        [
            (1, 1, True),
            (1, 5, True),
            (2, 5, False),
            (2, 6, True),
            (2, 10, True),
            (3, 10, False),
            (3, 11, True),
        ],
    )
    def test_a_fifth_may_be_sick_rounded_up(self, sick_nodes: int, nodes: int, may_be_replaced: bool) -> None:
        pool = [sick("False" if number < sick_nodes else "True") for number in range(nodes)]
        assert (too_many(pool) == "") is may_be_replaced

    def test_nodes_count_with_those_of_their_pool_or_with_all(self) -> None:
        nodes = [sick(pool="a"), sick(pool="a"), sick(pool="b"), sick()]
        assert len(pool_of(nodes[0], nodes)) == 2
        assert len(pool_of(nodes[3], nodes)) == 4

    @pytest.mark.parametrize(
        ("noted", "moved"),
        [(None, True), ("2026-11-21T13:00:00Z", True), ("2026-11-21T11:59:00Z", False), ("soon", True)],
    )
    def test_a_deadline_that_is_over_is_not_moved(self, noted: str | None, moved: bool) -> None:
        annotations = {} if noted is None else {TERMINATION: noted}
        patch = termination_patch({"metadata": {"resourceVersion": "1", "annotations": annotations}}, NOW)
        assert (patch is not None) is moved
        if patch is not None:
            assert patch["metadata"]["annotations"] == {TERMINATION: "2026-11-21T12:00:00Z"}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
@pytest.mark.parametrize("status", ["False", "Unknown"])
async def test_a_node_that_is_sick_for_ten_minutes_is_replaced(
    world: ControlPlane, shape: ClaimShape, status: str
) -> None:
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        await a_claim(world, shape)
        await world.clock.sleep(3600)
        await turn(world, ready=status)
        begun = world.clock.now()
        await world.clock.sleep(begun + 597 - world.clock.now())
        assert not await is_gone(world, shape.resource)
        await world.clock.sleep(begun + 602 - world.clock.now())
        assert await is_gone(world, shape.resource)
        assert await is_gone(world, NODES)
        assert cloud.instances == {}
        (event,) = await events(world, "NodeUnhealthy")
        assert f"Ready={status} since" in event["message"]


async def test_the_claim_that_is_replaced_is_the_one_that_was_seen(
    world: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = deletions_of(NODECLAIM_SHAPE, monkeypatch)
    async with controller(world, Pools(world.clock)):
        await a_claim(world, NODECLAIM_SHAPE)
        (made,) = await world.client.list(NODECLAIM_SHAPE.resource)
        await world.clock.sleep(3600)
        await turn(world, ready="False")
        await world.clock.sleep(700)
    assert uids == [made["metadata"]["uid"]]


async def test_pods_budgets_and_protection_do_not_hold_it_up(world: ControlPlane) -> None:
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        protected = {labels.DO_NOT_DISRUPT_ANNOTATION: "true"}
        await a_claim(
            world, metadata={"name": NAME, "labels": {labels.WORKSPACE_LABEL: "ws"}, "annotations": protected}
        )
        await a_budget(world)
        await a_pod(world, metadata={"labels": {"app": "web"}, "annotations": protected})
        await world.clock.sleep(3600)
        await turn(world)
        await world.clock.sleep(605)
        assert await is_gone(world, CLAIMS)


async def test_a_node_that_recovers_in_time_stays(world: ControlPlane) -> None:
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await world.clock.sleep(3600)
        await turn(world)
        await world.clock.sleep(590)
        await turn(world, ready="True")
        await world.clock.sleep(3600)
        assert not await is_gone(world, CLAIMS)


async def test_too_many_sick_nodes_are_told_every_quarter_of_an_hour_and_left_alone(
    world: ControlPlane,
) -> None:
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await a_claim(world, name="ws2")
        await world.clock.sleep(3600)
        await turn(world)
        await turn(world, "ws2")
        await world.clock.sleep(3600)
        assert not await is_gone(world, CLAIMS)
        assert not await is_gone(world, CLAIMS, "ws2")
        told = await events(world, "NodeRepairBlocked")
        assert {each["involvedObject"]["name"] for each in told} == {NAME, "ws2"}
        assert all(each["count"] == 4 for each in told), "3000 s are three quarters of an hour and a bit"
        assert "2 of 2 nodes" in told[0]["message"]
        await turn(world, "ws2", ready="True")
        await world.clock.sleep(305)
        assert await is_gone(world, CLAIMS)
        assert not await is_gone(world, CLAIMS, "ws2")


async def test_other_nodes_of_the_cluster_count_where_a_node_is_in_no_pool(world: ControlPlane) -> None:
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await a_claim(world, name="ws2")
        for number in range(4):
            await a_node(world, f"system-{number}")
        await world.clock.sleep(3600)
        await turn(world)
        await turn(world, "ws2")
        await world.clock.sleep(605)
        assert await is_gone(world, CLAIMS)
        assert await is_gone(world, CLAIMS, "ws2")


async def test_nodes_without_a_claim_are_nobodys_to_replace(world: ControlPlane) -> None:
    async with controller(world, Pools(world.clock)):
        await a_node(world, "system", ready="False")
        world.requests.clear()
        await world.clock.sleep(7200)
        assert not await is_gone(world, NODES, "system")
        assert world.writes(machine.USER_AGENT) == []


async def test_nothing_is_replaced_while_the_cluster_stands_still_nor_soon_after(world: ControlPlane) -> None:
    """What happens around a stop and a start: the Nodes are long gone when the provisioner looks."""
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        await a_claim(world)
        await world.clock.sleep(3600)
        cloud.refusal = ClusterNotRunning("the cluster is stopped; start it", retry_after=60)
        await turn(world, ready="Unknown")
        await world.clock.sleep(7200)
        assert not await is_gone(world, CLAIMS)
        cloud.refusal = None
        await world.clock.sleep(500)
        assert not await is_gone(world, CLAIMS), "its Nodes have as long to come back as one may be sick"
        await world.clock.sleep(200)
        assert await is_gone(world, CLAIMS)


async def test_after_a_start_of_the_provisioner_nodes_have_time_to_come_back(world: ControlPlane) -> None:
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        await a_claim(world)
    await turn(world, ready="Unknown")
    await world.clock.sleep(7200)
    async with controller(world, cloud):
        await world.clock.sleep(595)
        assert not await is_gone(world, CLAIMS)
        await world.clock.sleep(10)
        assert await is_gone(world, CLAIMS)


async def test_a_claim_that_is_going_already_keeps_its_own_deadline(world: ControlPlane) -> None:
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await a_pod(world, metadata={"annotations": {labels.DO_NOT_DISRUPT_ANNOTATION: "true"}})
        await delete(world)
        await world.clock.sleep(3600)
        await turn(world)
        await world.clock.sleep(3600)
        found = await world.client.get(CLAIMS, NAME)
        assert TERMINATION not in (found["metadata"].get("annotations") or {})
        assert await events(world, "NodeUnhealthy") == []
