"""Machines that cannot be had: the next one is tried, what failed is removed, and in the end everything is said."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kaito.api import labels
from kaito.provisioner.aks.known import AFRESH
from kaito.provisioner.errors import (
    CloudError,
    EnvironmentRefused,
    InstanceTypeUnavailable,
    InsufficientCapacity,
    QuotaReached,
    WaitingForTurn,
)
from kaito.runtime.testing.virtual import VirtualClock
from support.agentpools import A100, H100, T4, AgentPools, a_claim, agent_pools

CAPACITY = labels.CAPACITY_TYPE_LABEL
ZONE = "topology.kubernetes.io/zone"


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[AgentPools]:
    async with agent_pools(virtual_clock) as pools:
        yield pools


def sizes(world: AgentPools) -> list[str]:
    """Of the pools that were asked for, in order."""
    return [str(call.request.body["properties"]["vmSize"]) for call in world.arm.calls("put_pool")]


async def last_word(world: AgentPools, claim_number: int, *types: str) -> CloudError:
    """What is said once nothing is left to try or to remove."""
    claim = a_claim(claim_number, *types)
    while True:
        error = await world.refusal(claim)
        if type(error) is not WaitingForTurn and error.why != "LaunchInProgress":
            return error
        await world.clock.sleep(error.retry_after)


async def test_a_pool_that_failed_for_want_of_machines_is_removed_and_the_next_size_tried(
    world: AgentPools,
) -> None:
    world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60)
    stages: list[str] = []
    instance = await world.launch(a_claim(1, A100, T4), stages=stages)
    assert instance.instance_type == T4
    assert stages == ["LaunchInProgress", "AllocationFailure", "LaunchInProgress"]
    assert sizes(world) == [A100, T4]
    assert len(world.arm.calls("delete_pool")) == 1
    assert list(world.arm.pools) == ["ws1"]


async def test_other_claims_do_not_try_what_could_not_be_had(world: AgentPools) -> None:
    world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60)
    assert isinstance(await last_word(world, 1, A100), InsufficientCapacity)
    await world.launch(a_claim(2, A100, T4))
    assert sizes(world) == [A100, T4]


async def test_a_new_process_learns_from_the_failed_pool(world: AgentPools) -> None:
    world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60)
    claim = a_claim(1, A100, T4)
    await world.refusal(claim)
    await world.clock.sleep(61)
    world.restart()
    assert (await world.launch(claim)).instance_type == T4


async def test_a_new_process_learns_from_the_pool_that_is_being_removed(world: AgentPools) -> None:
    world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60)
    claim = a_claim(1, A100, T4)
    await world.refusal(claim)
    await world.clock.sleep(61)
    assert (await world.refusal(claim)).why == "AllocationFailure"
    assert world.arm.calls("delete_pool")
    world.restart()
    await world.launch(claim)
    assert sizes(world) == [A100, T4]


async def test_a_size_that_azure_refuses_at_once_costs_no_pool(world: AgentPools) -> None:
    world.arm.fail_next("put_pool", code="SkuNotAvailable", message="Not here.", status=409)
    first = await world.refusal(a_claim(1, A100, T4))
    assert isinstance(first, WaitingForTurn)
    assert first.retry_after == AFRESH
    assert "the next one is tried" in first.message
    assert (await world.launch(a_claim(1, A100, T4))).instance_type == T4
    assert not world.arm.calls("delete_pool")


async def test_when_nothing_is_left_each_size_is_named_with_its_reason(world: AgentPools) -> None:
    world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60)
    world.arm.sizes.restrict(T4)
    error = await last_word(world, 1, A100, T4)
    assert isinstance(error, InsufficientCapacity)
    assert not error.terminal
    assert f"{A100}: " in error.message
    assert f"{T4}: " in error.message
    assert not world.arm.pools, "the failed pool is gone"
    assert 0 < error.retry_after <= 300


async def test_without_any_size_that_exists_the_claim_is_given_up_and_a_successor_named(
    world: AgentPools,
) -> None:
    world.arm.sizes.restrict("Standard_NC6s_v3")
    error = await last_word(world, 1, "Standard_NC6s_v3")
    assert isinstance(error, InstanceTypeUnavailable)
    assert error.terminal
    assert "Azure retired Standard_NC6s_v3 on 2025-09-30" in error.message
    assert "write Standard_NC4as_T4_v3 instead" in error.message


async def test_machines_can_be_had_again_after_a_while(world: AgentPools) -> None:
    rule = world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60)
    error = await last_word(world, 1, A100)
    assert isinstance(error, InsufficientCapacity)
    rule.cancel()
    tries = world.puts()
    await world.clock.sleep(error.retry_after - 1)
    assert isinstance(await world.refusal(a_claim()), InsufficientCapacity)
    assert world.puts() == tries, "not before its time"
    await world.launch(a_claim())


async def test_zones_are_tried_in_their_order(world: AgentPools) -> None:
    world.arm.provisioning_error(A100, "ZonalAllocationFailed", "Zone is full.", zone="2", after=60)
    location = world.arm.place.location
    claim = a_claim(requirements={ZONE: (f"{location}-2", f"{location}-3")})
    await world.launch(claim)
    zones = [call.request.body["properties"]["availabilityZones"] for call in world.arm.calls("put_pool")]
    assert zones == [["2"], ["3"]]


async def test_spot_falls_back_to_on_demand_where_both_are_allowed(world: AgentPools) -> None:
    world.arm.provisioning_error(A100, "AllocationFailed", "No spot.", spot=True, after=60)
    instance = await world.launch(a_claim(requirements={CAPACITY: ("on-demand", "spot")}))
    assert instance.labels[CAPACITY] == "on-demand"
    priorities = [
        call.request.body["properties"].get("scaleSetPriority") for call in world.arm.calls("put_pool")
    ]
    assert priorities == ["Spot", None]


async def test_spot_alone_stays_spot(world: AgentPools) -> None:
    instance = await world.launch(a_claim(requirements={CAPACITY: ("spot",)}))
    assert instance.labels[CAPACITY] == "spot"
    assert world.arm.pools["ws1"].properties["scaleSetEvictionPolicy"] == "Delete"


async def test_a_quota_that_is_used_up_is_known_before_anything_is_sent(world: AgentPools) -> None:
    world.arm.quota.limit("standardNCADSA100v4Family", 24, used=0)
    error = await last_word(world, 1, "Standard_NC48ads_A100_v4")
    assert isinstance(error, QuotaReached)
    assert world.puts() == 0


async def test_another_size_is_taken_where_the_first_ones_quota_is_used_up(world: AgentPools) -> None:
    world.arm.quota.limit("standardNCADSA100v4Family", 0)
    assert (await world.launch(a_claim(1, A100, T4))).instance_type == T4


async def test_spot_cores_that_others_have_are_not_waited_for_where_on_demand_is_allowed(
    world: AgentPools,
) -> None:
    world.arm.quota.limit("lowPriorityCores", 24)
    both = {CAPACITY: ("spot", "on-demand")}
    found = [(await world.launch(a_claim(number, requirements=both))).labels[CAPACITY] for number in (1, 2)]
    assert found == ["spot", "on-demand"]


async def test_who_waits_for_quota_does_not_hold_up_the_line(world: AgentPools) -> None:
    world.arm.quota.limit("standardNCADSA100v4Family", 24)
    await world.refusal(a_claim(1))
    waiting = await world.refusal(a_claim(2))
    assert waiting.why == "WaitingForQuota"
    assert (await world.refusal(a_claim(3, T4))).why == "LaunchInProgress"


async def test_a_pool_that_fails_for_another_reason_is_removed_and_tried_again_later(
    world: AgentPools,
) -> None:
    world.arm.provisioning_error("*", "SubnetIsFull", "The subnet is full.", after=60, times=1)
    error = await last_word(world, 1, A100, H100)
    assert isinstance(error, EnvironmentRefused)
    assert not world.arm.pools
    assert sizes(world) == [A100], "another size would not help"
    before = world.clock.now()
    await world.launch(a_claim(1, A100, H100))
    assert world.clock.now() >= before + error.retry_after


async def test_a_failed_pool_that_says_nothing_is_explained_by_its_operation(world: AgentPools) -> None:
    world.arm.shows_provisioning_error = False
    world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60)
    assert isinstance(await last_word(world, 1, A100), InsufficientCapacity)


async def test_a_failed_pool_that_nobody_can_explain_is_removed_all_the_same(world: AgentPools) -> None:
    world.arm.shows_provisioning_error = False
    world.arm.provisioning_error(A100, "AllocationFailed", "Allocation failed.", after=60, times=1)
    claim = a_claim()
    await world.refusal(claim)
    await world.clock.sleep(61)
    world.restart()
    error = await world.refusal(claim)
    assert "does not say why" in error.message
    assert (await world.launch(claim)).instance_type == A100


async def test_a_creation_that_somebody_canceled_is_made_again(world: AgentPools) -> None:
    world.arm.end_next("create", "Canceled")
    await world.launch(a_claim())
    assert world.puts() == 2
