"""Whose pool is it? What is not the claim's is never changed and never deleted, whoever remembers what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from kaito.provisioner.cloud import InstanceRef
from kaito.provisioner.errors import (
    CloudUnreachable,
    InstanceNotFound,
    InstancePending,
    NameTaken,
    WaitingForTurn,
)
from kaito.runtime.testing.virtual import VirtualClock
from support.agentpools import A100, T4, AgentPools, a_claim, agent_pools, ref_of

GPU_PROVISIONERS: dict[str, Any] = {
    "nodeLabels": {
        "karpenter.sh/nodepool": "kaito",
        "kaito.sh/workspace": "phi",
        "kaito.sh/machine-type": "gpu",
        "kaito.sh/creation-timestamp": "2026-01-01T00-00-01Z",
    }
}


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[AgentPools]:
    async with agent_pools(virtual_clock) as pools:
        yield pools


def changes(world: AgentPools) -> int:
    """Requests that would have changed a pool."""
    return world.puts() + len(world.arm.calls("delete_pool"))


async def test_a_pool_of_a_user_is_left_alone_and_named(world: AgentPools) -> None:
    world.arm.portal.create_pool("ws1")
    error = await world.refusal(a_claim())
    assert isinstance(error, NameTaken)
    assert error.message == (
        "the agent pool ws1 exists and belongs to somebody else, so nothing is done to it; "
        "delete it yourself, or make a claim of another name than ws1"
    )
    assert await world.provider.delete(ref_of(a_claim())) is True, "there never was one of the claim's"
    with pytest.raises(InstanceNotFound):
        await world.provider.get(ref_of(a_claim()))
    assert changes(world) == 0
    assert "ws1" in world.arm.pools


async def test_two_claims_of_one_name_get_one_pool_which_is_the_firsts(world: AgentPools) -> None:
    machine = a_claim(kind="Machine", uid="other")
    await world.launch(machine)
    error = await world.refusal(a_claim())
    assert isinstance(error, NameTaken)
    assert "another claim" in error.message
    assert await world.provider.delete(ref_of(a_claim())) is True
    assert "ws1" in world.arm.pools


async def test_a_pool_that_appears_between_look_and_request_is_not_overwritten(world: AgentPools) -> None:
    claim = a_claim()
    world.arm.quota.limit("standardNCADSA100v4Family", 24, used=24)
    assert (await world.refusal(claim)).why == "WaitingForQuota"
    world.arm.quota.limit("standardNCADSA100v4Family", 240)
    world.arm.portal.create_pool("ws1")
    await world.clock.sleep(120)
    assert (await world.refusal(claim)).why == "LaunchInProgress"
    assert isinstance(await world.refusal(claim), NameTaken)
    sent = world.arm.calls("put_pool")
    assert [each.status for each in sent] == [412]
    assert sent[0].request.headers["if-none-match"] == "*"


async def test_a_cluster_that_takes_everything_for_changed_is_asked_less_and_less_often(
    world: AgentPools,
) -> None:
    rule = world.arm.fail_next("put_pool", code="OriginalEtagNotExpect", status=412, times=None)
    while world.clock.now() < 600:
        error = await world.refusal(a_claim())
        await world.clock.sleep(error.retry_after)
    assert (error.why, error.retry_after) == ("OperationInProgress", 60)
    assert "OriginalEtagNotExpect" in error.message, "what Azure says, not that there is a pool"
    assert world.puts() <= 15
    assert len(world.arm.requests) <= 45
    rule.cancel()
    await world.launch(a_claim())


async def test_a_request_whose_answer_was_lost_is_found_and_not_repeated(world: AgentPools) -> None:
    world.arm.drop_next("put_pool", applied=True, times=2)
    error = await world.refusal(a_claim())
    assert isinstance(error, CloudUnreachable | InstancePending)
    await world.launch(a_claim())
    assert len(world.arm.operations) == 1
    assert len(world.arm.pools) == 1


@pytest.mark.parametrize("seconds", [0.1, 100, 299.9, 301])
async def test_another_process_goes_on_where_one_was_killed(world: AgentPools, seconds: float) -> None:
    claim = a_claim()
    await world.refusal(claim)
    await world.clock.sleep(seconds)
    world.restart()
    instance = await world.launch(claim)
    assert instance.claim_uid == claim.uid
    assert world.puts() == 1
    assert world.clock.now() <= 316


async def test_the_launchs_deadline_runs_from_the_request_whoever_looks(world: AgentPools) -> None:
    await world.clock.sleep(1000)
    first = await world.refusal(a_claim())
    await world.clock.sleep(100)
    world.restart()
    second = await world.refusal(a_claim())
    assert isinstance(first, InstancePending)
    assert isinstance(second, InstancePending)
    assert first.since == second.since == world.clock.wall().replace(minute=16, second=40)


async def test_a_pool_deleted_in_the_portal_while_it_was_made_is_made_again(world: AgentPools) -> None:
    await world.refusal(a_claim())
    await world.clock.sleep(100)
    world.arm.portal.delete_pool("ws1")
    await world.launch(a_claim())
    assert world.puts() == 2


async def test_a_pool_deleted_in_the_portal_before_its_node_came_is_made_again(world: AgentPools) -> None:
    world.joins = False
    await world.refusal(a_claim())
    await world.clock.sleep(310)
    assert "not joined" in (await world.refusal(a_claim())).message
    world.arm.portal.delete_pool("ws1")
    world.joins = True
    await world.launch(a_claim())
    assert world.puts() == 2


async def test_a_pool_deleted_in_the_portal_afterwards_is_not_found(world: AgentPools) -> None:
    instance = await world.launch(a_claim())
    ref = ref_of(a_claim(), instance.provider_id)
    assert (await world.provider.get(ref)).provider_id == instance.provider_id
    world.arm.portal.delete_pool("ws1")
    with pytest.raises(InstanceNotFound):
        await world.provider.get(ref)
    assert await world.provider.delete(ref) is True


async def test_a_pool_that_somebody_is_deleting_is_waited_for(world: AgentPools) -> None:
    await world.refusal(a_claim())
    await world.clock.sleep(100)
    world.arm.portal.start_deleting("ws1")
    await world.clock.sleep(20)
    world.restart()
    error = await world.refusal(a_claim())
    assert isinstance(error, WaitingForTurn)
    assert "is being deleted" in error.message
    await world.launch(a_claim())


async def test_a_pool_that_lost_one_of_its_two_stamps_is_still_the_claims(world: AgentPools) -> None:
    await world.refusal(a_claim())
    await world.clock.sleep(310)
    world.arm.portal.change_pool("ws1", tags={"team": "ml"})
    await world.launch(a_claim())
    await world.end(ref_of(a_claim()))
    assert not world.arm.pools


async def test_pools_of_gpu_provisioner_are_taken_over_by_name_and_age(world: AgentPools) -> None:
    world.arm.portal.create_pool("ws1", A100, **GPU_PROVISIONERS)
    instance = await world.launch(a_claim())
    assert changes(world) == 0
    assert instance.instance_type == A100
    [listed] = await world.provider.list()
    assert (listed.claim_name, listed.claim_uid, listed.created) == ("ws1", "", a_claim().created)
    await world.end(replace(ref_of(a_claim()), provider_id=instance.provider_id))
    assert not world.arm.pools


async def test_a_pool_that_gpu_provisioner_is_making_is_awaited(world: AgentPools) -> None:
    world.arm.portal.create_pool("ws1", A100, **GPU_PROVISIONERS)
    world.arm.portal.set_state("ws1", "Creating")
    error = await world.refusal(a_claim())
    assert error.why == "LaunchInProgress"
    world.arm.portal.set_state("ws1", "Succeeded")
    await world.launch(a_claim())
    assert changes(world) == 0


async def test_gpu_provisioners_pool_of_an_older_claim_of_that_name_is_not_taken(world: AgentPools) -> None:
    world.arm.portal.create_pool("ws1", A100, **GPU_PROVISIONERS)
    assert isinstance(await world.refusal(a_claim(created=a_claim(2).created)), NameTaken)


async def test_a_pool_that_the_claim_was_launched_into_and_nobody_marked_is_neither_deleted_nor_forgotten(
    world: AgentPools,
) -> None:
    instance = await world.launch(a_claim())
    ref = ref_of(a_claim(), instance.provider_id)
    world.arm.portal.change_pool("ws1", tags={}, nodeLabels={"karpenter.sh/provisioner-name": "default"})
    assert (await world.provider.get(ref)).instance_type == A100, "it is not taken for gone"
    with pytest.raises(NameTaken, match="az aks nodepool delete --name ws1") as refused:
        await world.provider.delete(ref)
    assert refused.value.retry_after == 300
    assert world.arm.calls("delete_pool") == []
    assert await world.provider.delete(ref_of(a_claim())) is True, (
        "one that was never launched has nothing there"
    )
    world.arm.portal.delete_pool("ws1")
    assert await world.provider.delete(ref) is True


async def test_the_list_has_what_was_made_for_claims_and_nothing_else(world: AgentPools) -> None:
    world.arm.portal.create_pool("system")
    world.arm.portal.create_pool("old", A100, **GPU_PROVISIONERS)
    world.arm.portal.create_pool("theirs", A100, nodeLabels={"kaito.sh/workspace": "phi"})
    await world.launch(a_claim(1))
    await world.refusal(a_claim(2, T4))
    found = {each.claim_name: each for each in await world.provider.list()}
    assert set(found) == {"ws1", "ws2", "old"}
    assert found["ws1"].provider_id
    assert found["ws2"].provider_id == ""
    assert found["ws2"].claim_uid == "uid-2"
    assert found["ws2"].created == a_claim(2).created


async def test_what_the_list_shows_can_be_deleted_by_its_reference(world: AgentPools) -> None:
    world.arm.portal.create_pool("old", A100, **GPU_PROVISIONERS)
    await world.refusal(a_claim())
    for instance in await world.provider.list():
        await world.end(instance.ref)
    assert not world.arm.pools


async def test_an_id_that_names_no_pool_is_an_error(world: AgentPools) -> None:
    with pytest.raises(Exception, match="names no machine of an agent pool"):
        await world.provider.get(InstanceRef("azure:///subscriptions/s/nothing"))


async def test_an_instance_is_found_by_its_id_alone(world: AgentPools) -> None:
    instance = await world.launch(a_claim())
    found = await world.provider.get(InstanceRef(instance.provider_id.lower()))
    assert found.claim_name == "ws1"
    assert found.provider_id == instance.provider_id
