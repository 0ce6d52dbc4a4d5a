"""Each stage of a claim has its time: what happens when it is up, to the second, and when nothing may happen."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from controllers.machine.builders import CREATED, SHAPES, launched, stored
from controllers.machine.lives import (
    INSTANCE,
    NAME,
    NODE,
    ScriptedCloud,
    controller,
    create,
    deletions_of,
    given_up,
    join,
    message,
    ready,
    stage,
    until,
    warnings,
)
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape, Limits
from kaito.controllers.machine.decide import CheckRunning, Observed, decide
from kaito.provisioner import errors
from kaito.runtime.clock import parse_time
from kaito.runtime.resources import EVENTS
from kaito.runtime.testing.virtual import EPOCH
from support.control_plane import ControlPlane

LIMITS = Limits(launch_timeout=600, registration_timeout=300, initialization_timeout=120)

WAITED_FOR = [
    errors.InstancePending("it is looked at again", retry_after=60),
    errors.WaitingForTurn("no machine left; it is removed", reason="AllocationFailure", retry_after=60),
    errors.WaitingForTurn("2 others are before it"),
    errors.WaitingForQuota("behind ws2"),
    errors.QuotaReached("no quota left", retry_after=60),
    errors.InsufficientCapacity("no machine left", retry_after=60),
    errors.Unauthorized("may not create agent pools", retry_after=60),
    errors.Throttled("too many requests", retry_after=60),
    errors.OperationInProgress("another operation", retry_after=60),
    errors.ClusterNotRunning("the cluster is stopped", retry_after=60),
    errors.ClusterNotFound("no such cluster", retry_after=60),
    errors.CloudUnreachable("no answer", retry_after=60),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestLaunch:
    async def test_a_cloud_that_never_finishes_is_given_up_at_the_deadline(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            await until(world, 599.9)
            assert await stage(world, shape, shape.launched) == ("Unknown", "LaunchInProgress")
            assert not await given_up(world, shape)
            await until(world, 600.2)
            assert await given_up(world, shape)
            assert await warnings(world) == ["LaunchTimeout"]
            (event,) = await world.client.list(EVENTS, "default")
        assert event["message"] == (
            "no instance within 10 minutes; it is given up and will be replaced. "
            "Last, LaunchInProgress: the pool is being made"
        )
        assert cloud.times("check_running")[:1] == [600.0]
        assert "delete" in dict(cloud.asked)

    async def test_the_time_runs_from_when_the_cloud_began(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        """A claim that stood in a queue for an hour has all its time once it is its turn, also after a restart."""
        limits = Limits(launch_timeout=1200)
        cloud = ScriptedCloud(world.clock)
        cloud.answer = errors.WaitingForTurn("2 others are before it")
        async with controller(world, cloud, limits):
            await create(world, shape)
            await until(world, 3600)
            begun = EPOCH + timedelta(seconds=3600)
            cloud.answer = errors.InstancePending("the pool is being made", retry_after=30, since=begun)
            cloud.wake()
            await until(world, 3900)
        async with controller(world, cloud, limits):
            await until(world, 4799.9)
            assert not await given_up(world, shape)
            await until(world, 4800.2)
            assert await given_up(world, shape)

    async def test_a_process_that_has_just_begun_gives_it_ten_minutes(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        """The cluster may have been started together with it."""
        cloud, limits = ScriptedCloud(world.clock), Limits(launch_timeout=1200)
        async with controller(world, cloud, limits):
            await create(world, shape)
            await until(world, 1000)
        await until(world, 2000)
        async with controller(world, cloud, limits):
            await until(world, 2599.9)
            assert not await given_up(world, shape)
            await until(world, 2600.2)
            assert await given_up(world, shape)

    @pytest.mark.parametrize("type", [errors.CloudError, errors.WaitingForTurn])
    async def test_a_failure_that_nobody_knows_is_told_and_tried_until_the_deadline(
        self, world: ControlPlane, shape: ClaimShape, type: type[errors.CloudError]
    ) -> None:
        """Also while what failed is removed before the next try."""
        cloud = ScriptedCloud(world.clock)
        cloud.answer = type("something went wrong", reason="LaunchFailed", retry_after=250)
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            await until(world, 599.9)
            assert cloud.times("create") == [0.1, 250.1, 500.1]
            assert not await given_up(world, shape)
            await until(world, 600.2)
            assert await given_up(world, shape)
            assert await warnings(world) == ["LaunchFailed", "LaunchTimeout"]

    async def test_what_a_claim_is_told_stands_once_in_the_log(
        self, world: ControlPlane, shape: ClaimShape, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = errors.Unauthorized("the role lacks a right", retry_after=30)
        with caplog.at_level(logging.WARNING, logger="kaito.controllers.machine"):
            async with controller(world, cloud, LIMITS):
                await create(world, shape)
                await until(world, 100)
        assert len(cloud.times("create")) == 4
        assert caplog.text.count("a claim is in trouble") == 1
        assert 'reason=Unauthorized  why="the role lacks a right"' in caplog.text

    async def test_the_log_warns_of_each_reason_once_and_not_of_what_merely_waits(
        self, world: ControlPlane, shape: ClaimShape, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Events and the condition tell of all."""
        cloud = ScriptedCloud(world.clock)
        with caplog.at_level(logging.INFO, logger="kaito.controllers.machine"):
            async with controller(world, cloud, LIMITS):
                await create(world, shape)
                for each in (
                    errors.Throttled("too many requests", retry_after=30),
                    errors.OperationInProgress("another operation", retry_after=30),
                    errors.Unauthorized("the role lacks a right", retry_after=30),
                    errors.InsufficientCapacity("no machine left", retry_after=30),
                    errors.Unauthorized("the role lacks another right", retry_after=30),
                ):
                    cloud.answer = each
                    cloud.wake()
                    await until(world, world.clock.now() + 35)
            told = await warnings(world)
        assert len(told) == 5
        assert {"Throttled", "OperationInProgress", "Unauthorized", "AllocationFailure"} == set(told)
        assert len(caplog.records) == 1
        assert "a claim is in trouble" in caplog.text
        assert "the role lacks a right" in caplog.text

    async def test_giving_up_stands_in_the_log_and_warns_of_nothing(
        self, world: ControlPlane, shape: ClaimShape, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="kaito.controllers.machine"):
            async with controller(world, ScriptedCloud(world.clock), LIMITS):
                await create(world, shape)
                await until(world, 700)
        (line,) = caplog.records
        assert (line.levelno, "reason=LaunchTimeout" in caplog.text) == (logging.INFO, True)

    @pytest.mark.parametrize("error", WAITED_FOR, ids=lambda error: type(error).__name__)
    async def test_what_another_claim_would_lack_as_well_is_waited_for_without_end(
        self, world: ControlPlane, shape: ClaimShape, error: errors.CloudError
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = error
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            await until(world, 10 * LIMITS.launch_timeout)
            assert not await given_up(world, shape)
            assert await stage(world, shape, shape.launched) == ("Unknown", error.why)
            cloud.answer = INSTANCE
            await until(world, 10 * LIMITS.launch_timeout + error.retry_after)
            assert await stage(world, shape, shape.launched) == ("True", shape.launched)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestRegistration:
    async def test_the_time_runs_from_the_launch_and_not_from_the_creation(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            cloud.answer = INSTANCE
            await until(world, 400)  # launched with the answer at 30.1, which is written as 30
            assert await given_up(world, shape)
            assert await warnings(world) == ["RegistrationTimeout"]
        assert cloud.times("check_running")[:1] == [330.0]

    async def test_a_node_in_time_is_kept(self, world: ControlPlane, shape: ClaimShape) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = INSTANCE
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            await until(world, 299)
            await join(world)
            await ready(world)
            await until(world, 3600)
            assert await stage(world, shape, "Ready") == ("True", "Ready")
        assert cloud.times("check_running") == []


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestInitialization:
    async def test_a_node_that_never_gets_ready_is_given_up(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = INSTANCE
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            await join(world)
            await ready(world, ready=False)
            await until(world, 119.9)
            assert await stage(world, shape, shape.initialized) == ("Unknown", "NodeNotReady")
            assert not await given_up(world, shape)
            await until(world, 120.3)
            assert await given_up(world, shape)
            assert await warnings(world) == ["InitializationTimeout"]

    async def test_the_claim_that_is_given_up_is_the_one_that_was_seen(
        self, world: ControlPlane, shape: ClaimShape, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uids = deletions_of(shape, monkeypatch)
        cloud = ScriptedCloud(world.clock)
        cloud.answer = INSTANCE
        async with controller(world, cloud, LIMITS):
            made = await create(world, shape)
            await join(world)
            await ready(world, ready=False)
            await until(world, 121)
        assert uids == [made["metadata"]["uid"]]

    async def test_gpus_that_stay_away_are_named_and_the_claim_stays(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = INSTANCE
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            await join(world)
            await ready(world, gpus=0)
            await until(world, 119.9)
            assert await stage(world, shape, shape.initialized) == ("Unknown", "ResourceNotRegistered")
            await until(world, 120.3)
            assert await stage(world, shape, shape.initialized) == ("False", "GpuNotFound")
            assert await stage(world, shape, "Ready") == ("False", "UnhealthyDependents")
            assert await message(world, shape, shape.initialized) == (
                f"Node {NODE} (Standard_NC6s_v3) is Ready but 2 minutes after it joined shows none of its "
                "1 nvidia.com/gpu; look at the device plugin's pod on it, then at the GPU driver (nvidia-smi)"
            )
            world.requests.clear()
            await until(world, 9 * 3600)
            assert not await given_up(world, shape)
            assert await warnings(world) == ["GpuNotFound"]
            assert [each for each in world.writes("kaito-machine") if "/events" not in each[1]] == []

    async def test_gpus_that_come_late_after_all_make_it_ready(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = INSTANCE
        async with controller(world, cloud, LIMITS):
            await create(world, shape)
            await join(world)
            await ready(world, gpus=0)
            await until(world, 200)
            assert await stage(world, shape, shape.initialized) == ("False", "GpuNotFound")
            await ready(world)
            assert await stage(world, shape, "Ready") == ("True", "Ready")

    async def test_a_startup_taint_that_nobody_takes_away_is_told_and_the_node_kept(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = INSTANCE
        startup = [{"key": "driver", "effect": "NoSchedule"}]
        async with controller(world, cloud, LIMITS):
            await create(world, shape, spec={"startupTaints": startup})
            await join(world)
            await ready(world)
            assert await stage(world, shape, shape.initialized) == ("Unknown", "StartupTaintsExist")
            await until(world, 3600)
            assert await stage(world, shape, shape.initialized) == ("False", "StartupTaintsExist")
            assert not await given_up(world, shape)
            assert await warnings(world) == ["StartupTaintsExist"]


@pytest.mark.parametrize(
    ("which", "grace"), [("launch", 600), ("registration", 300), ("initialization", 120)], ids=str
)
async def test_nothing_is_given_up_while_the_cluster_is_not_running_nor_soon_after(
    world: ControlPlane, which: str, grace: float
) -> None:
    """Soon: ten minutes, or the stage's own time where that is shorter, from when it was first seen to run again."""
    shape, cloud = NODECLAIM_SHAPE, ScriptedCloud(world.clock)
    cloud.refusal = errors.ClusterNotRunning("the cluster is stopped", retry_after=60)
    async with controller(world, cloud, LIMITS):
        if which != "launch":
            cloud.answer = INSTANCE
        await create(world, shape)
        if which == "initialization":
            await join(world)
            await ready(world, ready=False)
        await until(world, 6030)
        assert not await given_up(world, shape)
        asked = len(cloud.times("check_running"))
        assert asked in range(80, 200)  # once a minute since its time was up, and again for the node's repair
        cloud.refusal = None
        await until(world, 6091)
        again = next(when for when in cloud.times("check_running") if when > 6030)
        await until(world, again + grace - 0.1)
        assert not await given_up(world, shape)
        await until(world, again + grace + 0.2)
        assert await given_up(world, shape)


async def test_limits_by_default_leave_a_slow_gpu_pool_its_time(world: ControlPlane) -> None:
    cloud = ScriptedCloud(world.clock)
    async with controller(world, cloud):
        await create(world, NODECLAIM_SHAPE)
        await until(world, 20 * 60)
        cloud.answer = INSTANCE
        await until(world, 21 * 60)
        await join(world)
        await until(world, 30 * 60)
        await ready(world)
        assert await stage(world, NODECLAIM_SHAPE, "Ready") == ("True", "Ready")
        found = await world.client.get(NODECLAIM_SHAPE.resource, NAME)
    assert found["status"]["nodeName"] == NODE


@pytest.mark.parametrize("hours", [-5, 5], ids=["behind", "ahead"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestClockSkew:
    """The provisioner's time of day is not the API server's."""

    def test_a_launch_has_its_time_by_the_clock_that_stamped_it(self, shape: ClaimShape, hours: int) -> None:
        now = parse_time(CREATED) + timedelta(hours=hours)
        pending = errors.InstancePending("being made", retry_after=30, since=now - timedelta(seconds=590))
        decision = decide(Observed(shape, stored(shape), launch=pending), now, LIMITS)
        assert decision.step is None
        assert decision.requeue_after == 10
        late = decide(Observed(shape, stored(shape), launch=pending), now + timedelta(seconds=10), LIMITS)
        assert late.step == CheckRunning()

    def test_nothing_waits_for_longer_than_its_time(self, shape: ClaimShape, hours: int) -> None:
        """A stage that began by another clock ends at the latest when its whole time has passed by this one."""
        now = parse_time(CREATED) + timedelta(hours=hours)
        decision = decide(Observed(shape, launched(shape)), now, LIMITS)
        if hours > 0:
            assert decision.step == CheckRunning()
        else:
            assert decision.requeue_after == LIMITS.registration_timeout
