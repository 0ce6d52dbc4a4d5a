"""Whatever happens to a claim, in whatever order: it is never given up while its cluster is away, the cloud is asked
for one instance only, and in the end it is ready, or gone without a trace. On virtual time."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from random import Random

import pytest

from controllers.machine.builders import SHAPES
from controllers.machine.lives import (
    INSTANCE,
    NAME,
    NODE,
    ScriptedCloud,
    controller,
    create,
    given_up,
    join,
    ready,
    stage,
)
from kaito.controllers.machine import ClaimShape, Limits
from kaito.provisioner import errors
from kaito.provisioner.cloud import Instance
from kaito.runtime.errors import AlreadyExists, NotFound
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

LIMITS = Limits(launch_timeout=600, registration_timeout=300, initialization_timeout=300)
STEPS = 40


class Life:
    """One claim, its cloud, and what befalls them."""

    def __init__(self, world: ControlPlane, shape: ClaimShape, random: Random) -> None:
        self.world = world
        self.shape = shape
        self.random = random
        self.cloud = ScriptedCloud(world.clock)
        self.running = AsyncExitStack()

    async def start(self) -> None:
        await self.running.enter_async_context(controller(self.world, self.cloud, LIMITS))

    async def befall(self) -> None:
        """One thing, and a while after it."""
        events = (
            *(self.answer, self.answer, self.turn, self.wake, self.restart),
            *(self.join, self.join, self.report, self.report, self.remove),
        )
        await self.random.choice(events)()
        await self.world.clock.sleep(self.random.choice((0.1, 1, 20, 100, 400)))

    async def answer(self) -> None:
        begun = self.world.clock.wall() - timedelta(seconds=self.random.choice((0, 300, 590)))
        answers: list[Instance | errors.CloudError] = [
            *(INSTANCE, INSTANCE),
            errors.InstancePending("being made", retry_after=30, since=begun),
            errors.WaitingForTurn("in line"),
            errors.QuotaReached("no quota left", retry_after=120),
            errors.CloudError("strange", retry_after=45),
        ]
        self.cloud.answer = self.random.choice(answers)

    async def turn(self) -> None:
        stopped = errors.ClusterNotRunning("the cluster is stopped", retry_after=60)
        self.cloud.refusal = stopped if self.cloud.refusal is None else None

    async def wake(self) -> None:
        self.cloud.wake()

    async def restart(self) -> None:
        await self.running.aclose()
        self.cloud.wakers.clear()
        await self.start()

    async def join(self) -> None:
        with suppress(AlreadyExists):
            await join(self.world)

    async def report(self) -> None:
        with suppress(NotFound):
            up = self.random.random() < 0.7
            await ready(self.world, gpus=self.random.choice((0, 1)), ready=up)

    async def remove(self) -> None:
        with suppress(NotFound):
            await self.world.client.delete(NODES, NODE)

    async def is_launched(self) -> bool:
        with suppress(NotFound, KeyError):
            return (await stage(self.world, self.shape, self.shape.launched))[0] == "True"
        return False

    async def come_right(self) -> None:
        """The cluster runs, the cloud makes what is wanted, the machine joins and works."""
        self.cloud.refusal, self.cloud.answer = None, INSTANCE
        self.cloud.wake()
        await self.world.clock.sleep(200)
        if not await given_up(self.world, self.shape):
            await self.join()
            await ready(self.world)
        await self.world.clock.sleep(1000)


@pytest.mark.parametrize("seed", range(24))
async def test_any_course_of_things_ends_well(world: ControlPlane, seed: int) -> None:
    random = Random(seed)
    shape = random.choice(SHAPES)
    life = Life(world, shape, random)
    async with life.running:
        await life.start()
        await create(world, shape)
        for _ in range(STEPS):
            was_launched, asked = await life.is_launched(), len(life.cloud.times("create"))
            was_away = life.cloud.refusal is not None
            await life.befall()
            if await given_up(world, shape):
                assert not (was_away and life.cloud.refusal), "given up while the cluster was away"
                break
            if was_launched:
                assert len(life.cloud.times("create")) == asked, "an instance was asked for twice"
        await life.come_right()
        if await given_up(world, shape):
            with pytest.raises(NotFound):
                await world.client.get(shape.resource, NAME)
            for node in await world.client.list(NODES):  # of a machine that never became the claim's
                assert not node["metadata"].keys() & {"finalizers", "ownerReferences"}
        else:
            assert await stage(world, shape, "Ready") == ("True", "Ready")
            (node,) = await world.client.list(NODES)
            assert node["metadata"]["ownerReferences"]
