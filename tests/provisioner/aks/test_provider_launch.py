"""A claim from nothing to an instance, on virtual time, through the SDK and a fake Azure."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kaito.api import labels
from kaito.provisioner.aks.known import EARLY, EARLY_POLL, POLL
from kaito.runtime.testing.virtual import VirtualClock
from support.agentpools import A100, AgentPools, a_claim, agent_pools


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[AgentPools]:
    async with agent_pools(virtual_clock) as pools:
        yield pools


async def test_a_claim_becomes_a_pool_and_the_pool_an_instance(world: AgentPools) -> None:
    stages: list[str] = []
    instance = await world.launch(a_claim(), stages=stages)
    assert instance.provider_id.startswith("azure:///subscriptions/")
    assert (instance.claim_name, instance.claim_uid, instance.instance_type) == ("ws1", "uid-1", A100)
    assert instance.capacity == {labels.GPU_RESOURCE: "1"}
    assert instance.labels[labels.CAPACITY_TYPE_LABEL] == "on-demand"
    assert instance.labels["topology.kubernetes.io/zone"].endswith("-1")
    assert instance.image_id.startswith("AKSUbuntu")
    assert stages == ["LaunchInProgress"]
    assert world.clock.now() == 300
    assert len(world.arm.calls("get_pool")) == 1 + EARLY / EARLY_POLL + (300 - EARLY) / POLL
    assert world.puts() == 1


async def test_polls_come_when_azure_wants_them(world: AgentPools) -> None:
    world.arm.retry_after = 40
    await world.launch(a_claim())
    polls = [call.at for call in world.arm.calls("get_pool")][1:]
    assert polls == [40.0 * number for number in range(1, 9)]
