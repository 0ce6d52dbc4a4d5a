"""Fifty claims at once, where AKS takes many operations and where it takes one at a time; on virtual time."""

from __future__ import annotations

import asyncio

from kaito.provisioner.aks.known import POLL
from kaito.runtime.testing.virtual import VirtualClock
from support.agentpools import AgentPools, a_claim, agent_pools

OPERATION = 300.0
MANY = 50


async def launch_all(world: AgentPools, count: int = MANY) -> None:
    world.arm.quota.limit("standardNCADSA100v4Family", 10_000)
    world.arm.quota.limit("cores", 10_000)
    world.arm.durations.create = OPERATION
    world.arm.latency = 0.5
    await asyncio.gather(*(world.launch(a_claim(number)) for number in range(count)))


async def test_in_parallel_fifty_take_as_long_as_one(virtual_clock: VirtualClock) -> None:
    async with agent_pools(virtual_clock) as world:
        await launch_all(world)
        assert virtual_clock.now() <= 1.1 * OPERATION
        assert world.puts() == MANY
        once = len(world.arm.calls("get_pool")) + world.puts() + len(world.arm.calls("get_cluster"))
        assert once <= 4 * MANY
        assert len(world.arm.calls("list_pools")) <= 2 * OPERATION / POLL + 2, (
            "polls are shared by all claims"
        )


async def test_one_at_a_time_they_take_the_sum_and_go_in_order(virtual_clock: VirtualClock) -> None:
    async with agent_pools(virtual_clock, exclusive=True) as world:
        await launch_all(world)
        assert virtual_clock.now() <= 1.1 * MANY * OPERATION
        finished = len(world.arm.operations)
        assert world.puts(refused=True) <= finished
        order = [call.pool for call in world.arm.calls("put_pool", refused=False)]
        assert order == [f"ws{number}" for number in range(MANY)]
        polls = MANY * OPERATION / POLL
        assert len(world.arm.requests) <= 4 * MANY + polls
