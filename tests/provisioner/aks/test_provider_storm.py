"""Everything at once, by seeds: whatever Azure did, in the end each claim has one machine, and after that none."""

from __future__ import annotations

import asyncio
import random

import pytest

from kaito.provisioner.cloud import ClaimSpec
from kaito.runtime.testing.virtual import VirtualClock
from support.agentpools import T4, AgentPools, a_claim, agent_pools, ref_of

CLAIMS = 12
HOURS = 3600.0


def one_fault(world: AgentPools, dice: random.Random) -> None:
    """Something that Azure, a person or the network does."""
    arm = world.arm
    pool = f"ws{dice.randrange(CLAIMS)}"
    match dice.randrange(9):
        case 0:
            arm.throttle("*", retry_after=dice.choice((1, 30)), times=3)
        case 1:
            arm.fail_next("put_pool", code="InternalServerError", status=500, applied=dice.random() < 0.5)
        case 2:
            arm.drop_next("put_pool", applied=dice.random() < 0.5, times=2)
        case 3:
            message = "Another operation is in progress"
            arm.fail_next("put_pool", code="OperationNotAllowed", message=message, status=409)
        case 4:
            arm.end_next("create", "Failed", code="AllocationFailed")
        case 5:
            arm.end_next("delete", "Failed", code="InternalServerError")
        case 6 if pool in arm.pools:
            arm.portal.delete_pool(pool)
        case 7:
            arm.fail_next("list_pools", code="ServiceUnavailable", status=503)
        case _:
            world.restart()


async def trouble(world: AgentPools, dice: random.Random) -> None:
    for _ in range(40):
        await world.clock.sleep(dice.uniform(1, 60))
        one_fault(world, dice)
    world.arm.forgive()


async def launch(world: AgentPools, claim: ClaimSpec) -> str:
    return (await world.launch(claim)).provider_id


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_each_claim_gets_one_machine_and_gives_it_back(
    virtual_clock: VirtualClock, seed: int, exclusive: bool
) -> None:
    dice = random.Random(seed)
    async with agent_pools(virtual_clock, exclusive=exclusive) as world:
        world.arm.portal.create_pool("system")
        claims = [a_claim(number, T4) for number in range(CLAIMS)]
        async with virtual_clock.timeout(6 * HOURS):
            storm = asyncio.create_task(trouble(world, dice))
            await asyncio.gather(*(launch(world, claim) for claim in claims))
            await storm
            # What was deleted in the portal after it was launched is launched anew by another claim of the workspace.
            await asyncio.gather(*(launch(world, claim) for claim in claims))
        assert set(world.arm.pools) == {"system", *(claim.name for claim in claims)}
        async with virtual_clock.timeout(2 * HOURS):
            storm = asyncio.create_task(trouble(world, dice))
            await asyncio.gather(*(world.end(ref_of(claim)) for claim in claims))
            await storm
        assert set(world.arm.pools) == {"system"}
        assert not world.arm.calls("delete_pool", pool="system")
