"""Deletion until the pool is really gone, and a cluster that is stopped, busy, throttled or away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kaito.provisioner.errors import (
    CloudUnavailable,
    ClusterNotFound,
    ClusterNotRunning,
    InstanceNotFound,
    InvalidConfiguration,
    Throttled,
    Unauthorized,
    WaitingForTurn,
)
from kaito.runtime.testing.virtual import VirtualClock
from support.agentpools import T4, AgentPools, a_claim, agent_pools, ref_of


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[AgentPools]:
    async with agent_pools(virtual_clock) as pools:
        yield pools


async def test_a_pool_is_deleted_once_and_gone_when_azure_says_so(world: AgentPools) -> None:
    await world.launch(a_claim())
    before = world.clock.now()
    await world.end(ref_of(a_claim()))
    assert not world.arm.pools
    assert len(world.arm.calls("delete_pool")) == 1
    assert 120 <= world.clock.now() - before <= 140
    assert world.arm.calls("get_pool")[-1].status == 404


async def test_the_deletion_holds_for_the_pool_that_was_read(world: AgentPools) -> None:
    await world.launch(a_claim())
    etag = world.arm.pools["ws1"].etag
    await world.provider.delete(ref_of(a_claim()))
    assert etag in world.arm.calls("delete_pool")[0].request.headers["if-match"]


async def test_a_pool_that_changed_since_it_was_read_is_looked_at_again(world: AgentPools) -> None:
    await world.launch(a_claim())
    world.arm.fail_next("delete_pool", code="PreconditionFailed", status=412)
    await world.end(ref_of(a_claim()))
    assert not world.arm.pools


async def test_a_pool_that_is_never_as_it_was_read_is_asked_for_seldom(world: AgentPools) -> None:
    await world.launch(a_claim())
    before = len(world.arm.requests)
    world.arm.fail_next("delete_pool", code="OriginalEtagNotExpect", status=412, times=None)
    while world.clock.now() < 1200:
        await world.provider.delete(ref_of(a_claim()))
        await world.clock.sleep(5)
    assert len(world.arm.requests) - before <= 10 * (1200 - 300) / 60


async def test_asking_often_costs_no_requests(world: AgentPools) -> None:
    await world.launch(a_claim())
    await world.provider.delete(ref_of(a_claim()))
    before = len(world.arm.requests)
    for _ in range(20):
        assert await world.provider.delete(ref_of(a_claim())) is False
    assert len(world.arm.requests) == before


async def test_a_claim_that_never_got_anything_is_gone_at_once(world: AgentPools) -> None:
    assert await world.provider.delete(ref_of(a_claim())) is True


async def test_a_claim_whose_name_no_pool_can_have_is_gone_without_asking(world: AgentPools) -> None:
    claim = a_claim(name="no-pool")
    assert await world.provider.delete(ref_of(claim)) is True
    with pytest.raises(InstanceNotFound):
        await world.provider.get(ref_of(claim))
    assert not world.arm.requests


async def test_a_pool_that_cannot_be_deleted_while_it_is_made_does_not_slow_down_the_others(
    world: AgentPools,
) -> None:
    for number in (1, 2):
        await world.refusal(a_claim(number))
    world.arm.fail_next(
        "delete_pool", code="OperationNotAllowed", message="Another operation is in progress", status=409
    )
    with pytest.raises(WaitingForTurn, match="another operation holds the cluster"):
        await world.provider.delete(ref_of(a_claim(1)))
    assert (await world.refusal(a_claim(3, T4))).why == "LaunchInProgress", "all at once, still"
    await world.end(ref_of(a_claim(1)))
    assert "ws1" not in world.arm.pools


async def test_a_claim_may_go_while_its_pool_is_being_made(world: AgentPools) -> None:
    await world.refusal(a_claim())
    await world.clock.sleep(50)
    await world.end(ref_of(a_claim()))
    assert not world.arm.pools
    assert world.clock.now() < 300


@pytest.mark.parametrize("state", ["Failed", "Canceled"])
async def test_a_half_deleted_pool_is_deleted_again(world: AgentPools, state: str) -> None:
    await world.launch(a_claim())
    world.arm.end_next("delete", "Failed" if state == "Failed" else "Canceled", code="InternalError")
    await world.end(ref_of(a_claim()))
    assert not world.arm.pools
    assert len(world.arm.calls("delete_pool")) == 2


async def test_a_deletion_goes_on_in_another_process(world: AgentPools) -> None:
    await world.launch(a_claim())
    await world.provider.delete(ref_of(a_claim()))
    world.restart()
    await world.end(ref_of(a_claim()))
    assert len(world.arm.calls("delete_pool")) == 1


async def test_fifty_go_together(world: AgentPools) -> None:
    world.arm.quota.limit("standardNCADSA100v4Family", 10_000)
    world.arm.quota.limit("cores", 10_000)
    claims = [a_claim(number) for number in range(50)]
    await asyncio.gather(*map(world.launch, claims))
    before = world.clock.now()
    await asyncio.gather(*(world.end(ref_of(claim)) for claim in claims))
    assert world.clock.now() - before <= 160
    assert not world.arm.pools


async def test_in_an_exclusive_cluster_deletions_stand_in_line(virtual_clock: VirtualClock) -> None:
    async with agent_pools(virtual_clock, exclusive=True) as world:
        world.arm.quota.limit("standardNCADSA100v4Family", 10_000)
        claims = [a_claim(number) for number in range(5)]
        for claim in claims:
            await world.launch(claim)
        before = virtual_clock.now()
        await asyncio.gather(*(world.end(ref_of(claim)) for claim in claims))
        assert virtual_clock.now() - before <= 1.2 * 5 * 120
        assert len(world.arm.calls("delete_pool", refused=True)) <= 5


async def test_a_cluster_that_is_gone_says_nothing_about_its_pools(world: AgentPools) -> None:
    instance = await world.launch(a_claim())
    world.arm.portal.delete_cluster()
    ref = ref_of(a_claim(), instance.provider_id)
    for ask in (world.provider.get(ref), world.provider.delete(ref), world.provider.list()):
        with pytest.raises(ClusterNotFound):
            await ask


class TestStoppedCluster:
    async def test_nothing_is_deleted_or_made_until_it_runs(self, world: AgentPools) -> None:
        await world.launch(a_claim(1))
        world.arm.stop_cluster(seconds=0)
        await world.clock.sleep(20)
        with pytest.raises(ClusterNotRunning, match="az aks start"):
            await world.provider.check_running()
        with pytest.raises(ClusterNotRunning):
            await world.provider.delete(ref_of(a_claim(1)))
        assert isinstance(await world.refusal(a_claim(2)), ClusterNotRunning)
        assert world.puts() == 1
        assert not world.arm.calls("delete_pool")
        assert "ws1" in world.arm.pools

    async def test_while_it_starts_neither(self, world: AgentPools) -> None:
        await world.launch(a_claim())
        world.arm.stop_cluster(seconds=0)
        world.arm.start_cluster(seconds=100)
        await world.clock.sleep(50)
        with pytest.raises(ClusterNotRunning, match="is starting"):
            await world.provider.delete(ref_of(a_claim()))
        await world.clock.sleep(60)
        await world.provider.check_running()
        await world.end(ref_of(a_claim()))

    async def test_the_cluster_is_asked_once_for_all(self, world: AgentPools) -> None:
        for _ in range(50):
            await world.provider.check_running()
        assert len(world.arm.calls("get_cluster")) == 1

    async def test_a_failed_cluster_is_left_alone(self, world: AgentPools) -> None:
        world.arm.portal.set_cluster(state="Failed")
        error = await world.refusal(a_claim())
        assert isinstance(error, ClusterNotRunning)
        assert "ended as Failed" in error.message

    async def test_our_own_operations_are_no_hindrance(self, world: AgentPools) -> None:
        await world.refusal(a_claim(1))
        world.arm.portal.set_cluster(state="Updating")
        await world.clock.sleep(20)
        await world.provider.check_running()

    async def test_other_peoples_operations_are(self, world: AgentPools) -> None:
        world.arm.portal.set_cluster(state="Upgrading")
        assert isinstance(await world.refusal(a_claim()), ClusterNotRunning)
        with pytest.raises(ClusterNotRunning):
            await world.provider.check_running()
        assert world.puts() == 0, "nothing is tried"

    async def test_a_launch_goes_on_after_stop_and_start(self, world: AgentPools) -> None:
        await world.refusal(a_claim())
        await world.clock.sleep(301)
        world.arm.stop_cluster(seconds=0)
        error = await world.refusal(a_claim())
        assert "is stopped" in error.message
        world.arm.start_cluster(seconds=0)
        await world.launch(a_claim())
        assert world.puts() == 1


class TestRefusals:
    async def test_claims_that_make_no_sense_send_nothing(self, world: AgentPools) -> None:
        for claim in (a_claim(name="invalid-name"), a_claim(requests={}), a_claim(instance_types=())):
            assert isinstance(await world.refusal(claim), InvalidConfiguration)
        assert world.puts() == 0

    async def test_a_missing_role_is_said_and_tried_again_slowly(self, world: AgentPools) -> None:
        world.arm.deny("Microsoft.ContainerService/managedClusters/agentPools/write")
        error = await world.refusal(a_claim())
        assert isinstance(error, Unauthorized)
        assert not error.terminal
        world.arm.forgive()
        await world.launch(a_claim())

    async def test_one_throttled_claim_keeps_the_others_quiet(self, world: AgentPools) -> None:
        world.arm.throttle("put_pool", retry_after=40, times=1)
        assert isinstance(await world.refusal(a_claim(1)), Throttled)
        puts = world.puts()
        error = await world.refusal(a_claim(2))
        assert isinstance(error, Throttled)
        assert error.retry_after <= 40
        assert world.puts() == puts
        await asyncio.gather(world.launch(a_claim(1)), world.launch(a_claim(2)))
        assert world.puts() == puts + 2

    async def test_azures_own_limit_of_requests_is_kept_in_order(self, world: AgentPools) -> None:
        world.arm.quota.limit("standardNCADSA100v4Family", 10_000)
        world.arm.quota.limit("cores", 10_000)
        world.arm.limit_rate("put_pool", burst=20, per_second=1 / 60)
        await asyncio.gather(*(world.launch(a_claim(number)) for number in range(30)))
        assert world.clock.now() <= 1.1 * (10 * 60 + 300)
        order = [call.pool for call in world.arm.calls("put_pool", refused=False)]
        assert order == [f"ws{number}" for number in range(30)]
        assert world.puts(refused=True) <= 12

    async def test_a_listing_that_fails_is_not_repeated_by_everybody(self, world: AgentPools) -> None:
        claims = [a_claim(number, T4) for number in range(10)]
        for claim in claims:
            await world.refusal(claim)
        await world.clock.sleep(40)
        before = len(world.arm.calls("list_pools"))
        world.arm.fail_next("list_pools", code="InternalServerError", status=500, times=None)
        answers = await asyncio.gather(*map(world.refusal, claims))
        assert {type(answer) for answer in answers} == {CloudUnavailable}
        assert len(world.arm.calls("list_pools")) == before + 1
        world.arm.forgive()
        await asyncio.gather(*map(world.launch, claims))

    async def test_somebody_elses_operation_is_awaited(self, virtual_clock: VirtualClock) -> None:
        async with agent_pools(virtual_clock, exclusive=True) as world:
            world.arm.fail_next(
                "put_pool",
                code="OperationNotAllowed",
                message="Operation is not allowed: Another operation (upgrade) is in progress",
                status=409,
                times=3,
            )
            error = await world.refusal(a_claim())
            assert isinstance(error, WaitingForTurn)
            assert error.why == "OperationInProgress"
            assert error.retry_after == 15
            await world.launch(a_claim())
            times = [call.at for call in world.arm.calls("put_pool")]
            assert times == [0, 15, 45, 105]

    async def test_a_pool_that_is_stopped_is_looked_at_each_minute(self, world: AgentPools) -> None:
        world.joins = False
        await world.refusal(a_claim())
        await world.clock.sleep(310)
        world.arm.stop_cluster(seconds=0)
        before = len(world.arm.requests)
        while world.clock.now() < 910:
            error = await world.refusal(a_claim())
            assert isinstance(error, ClusterNotRunning), "its pool is not what somebody should start"
            await world.clock.sleep(error.retry_after)
        assert len(world.arm.requests) - before <= 20, "the pool, and the cluster"

    async def test_a_node_without_a_provider_id_is_awaited(self, world: AgentPools) -> None:
        world.joins = False
        await world.refusal(a_claim())
        await world.clock.sleep(310)
        world.add_node("ws1", "")
        assert "provider id is awaited" in (await world.refusal(a_claim())).message

    async def test_nodes_of_an_earlier_pool_are_not_taken(self, world: AgentPools) -> None:
        world.add_node("ws1", "azure:///old", "Standard_D4s_v5")
        await world.refusal(a_claim())
        await world.clock.sleep(305)
        world.joins = True
        assert (await world.launch(a_claim())).provider_id != "azure:///old"


async def test_machines_show_their_zone_where_their_column_looks(world: AgentPools) -> None:
    instance = await world.launch(a_claim(kind="Machine"))
    assert instance.labels["karpenter.k8s.azure/zone"].endswith("-1")


async def test_a_mig_profile_promises_no_number_of_gpus(world: AgentPools) -> None:
    annotations = {"kaito.sh/aks-mig-profile": "MIG3g"}
    instance = await world.launch(a_claim(1, "Standard_NC24ads_A100_v4", annotations=annotations))
    assert instance.capacity == {}
    assert world.arm.pools["ws1"].properties["gpuInstanceProfile"] == "MIG3g"


async def test_defaults_of_the_operator_reach_the_pool(virtual_clock: VirtualClock) -> None:
    async with agent_pools(virtual_clock, defaults={"os-sku": "AzureLinux", "tags": "team=ml"}) as world:
        await world.refusal(a_claim())
        properties = world.arm.pools["ws1"].properties
        assert properties["osSKU"] == "AzureLinux"
        assert properties["tags"]["team"] == "ml"
