"""What the machine controller shows: claims by state and reason, how long steps take, what the cloud says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controllers.machine.builders import CREATED, SHAPES, claim
from controllers.machine.test_controller import create, instant, kubelet
from kaito.api.reasons import CLAIM_REASONS, OTHER
from kaito.controllers import machine
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.controllers.machine.metrics import (
    METHODS,
    STATES,
    CloudMetrics,
    MeasuredCloud,
    entered,
    state,
    waits_for,
)
from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance, InstanceRef
from kaito.provisioner.errors import (
    CloudError,
    InstanceNotFound,
    InstancePending,
    QuotaReached,
    Throttled,
)
from kaito.runtime.clock import parse_time
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES
from kaito.runtime.testing.virtual import VirtualClock
from support.control_plane import ControlPlane, control_plane

Object = dict[str, Any]
LATER, GONE = "2026-11-21T12:10:00Z", "2026-11-21T13:00:00Z"


def status(shape: ClaimShape, *statuses: str, reason: str = "NodeNotFound") -> Object:
    """Conditions of the stages, as far as they are given."""
    return {
        "conditions": [
            {
                "type": type,
                "status": value,
                "reason": type if value == "True" else reason,
                "lastTransitionTime": LATER,
            }
            for type, value in zip(shape.dependents, statuses, strict=False)
        ]
    }


TABLE = [
    ((), "launching", "AwaitingReconciliation", CREATED),
    (("Unknown",), "launching", "NodeNotFound", CREATED),
    (("False",), "failed", "NodeNotFound", LATER),
    (("True",), "registering", "AwaitingReconciliation", LATER),
    (("True", "Unknown"), "registering", "NodeNotFound", LATER),
    (("True", "False"), "registering", "NodeNotFound", LATER),
    (("True", "True", "Unknown"), "initializing", "NodeNotFound", LATER),
    (("True", "True", "True"), "ready", "", LATER),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
@pytest.mark.parametrize(("stages", "expected", "reason", "since"), TABLE)
class TestState:
    def test_of_a_claim(
        self, shape: ClaimShape, stages: tuple[str, ...], expected: str, reason: str, since: str
    ) -> None:
        metadata, found = {"creationTimestamp": CREATED}, status(shape, *stages)
        assert state(shape, metadata, found) == expected
        assert waits_for(shape, metadata, found) == reason
        assert entered(shape, metadata, found) == parse_time(since)

    def test_deleting_comes_first(
        self, shape: ClaimShape, stages: tuple[str, ...], expected: str, reason: str, since: str
    ) -> None:
        metadata, found = {"creationTimestamp": CREATED, "deletionTimestamp": GONE}, status(shape, *stages)
        assert state(shape, metadata, found) == "deleting"
        assert waits_for(shape, metadata, found) == ""
        assert entered(shape, metadata, found) == parse_time(GONE)


def test_a_cloud_s_own_words_never_become_a_label() -> None:
    found = status(NODECLAIM_SHAPE, "Unknown", reason="subscription-4711-is-over-quota")
    assert waits_for(NODECLAIM_SHAPE, {"creationTimestamp": CREATED}, found) == OTHER


class Cloud(CloudProvider):
    """A provider that gives one answer."""

    def __init__(self, clock: VirtualClock, answer: CloudError | Instance, seconds: float = 0.0) -> None:
        self._clock, self.answer, self._seconds = clock, answer, seconds

    async def create(self, claim: ClaimSpec) -> Instance:
        await self._clock.sleep(self._seconds)
        if isinstance(self.answer, CloudError):
            raise self.answer
        return self.answer

    async def get(self, ref: InstanceRef) -> Instance:
        raise InstanceNotFound("gone")

    async def delete(self, ref: InstanceRef) -> bool:
        return True

    async def list(self) -> list[Instance]:
        return []


class TestCloud:
    @pytest.mark.parametrize(
        ("error", "counted"),
        [
            (QuotaReached("full"), "SubscriptionQuotaReached"),
            (Throttled("slow down"), "Throttled"),
            (CloudError("what?"), "LaunchFailed"),
            (CloudError("what?", reason="SomethingOfTheirOwn"), OTHER),
        ],
    )
    async def test_failures_are_counted_by_their_kind(
        self, virtual_clock: VirtualClock, error: CloudError, counted: str
    ) -> None:
        metrics = CloudMetrics(virtual_clock)
        cloud: CloudProvider = MeasuredCloud(Cloud(virtual_clock, error, 2.0), metrics)
        with pytest.raises(type(error)):
            await cloud.create(MACHINE_SHAPE.claim_spec(stored()))
        assert metrics.errors["create"][counted] == 1
        assert sum(sum(each.values()) for each in metrics.errors.values()) == 1
        assert (metrics.seconds["create"].count, metrics.seconds["create"].sum) == (1, 2.0)

    async def test_answers_are_no_failures(self, virtual_clock: VirtualClock) -> None:
        metrics = CloudMetrics(virtual_clock)
        cloud = MeasuredCloud(Cloud(virtual_clock, InstancePending("being made")), metrics)
        with pytest.raises(InstancePending):
            await cloud.create(MACHINE_SHAPE.claim_spec(stored()))
        with pytest.raises(InstanceNotFound):
            await cloud.get("x")
        assert await cloud.delete("x")
        assert await cloud.list() == []
        assert {method: metrics.seconds[method].count for method in METHODS} == dict.fromkeys(METHODS, 1)
        assert not any(sum(each.values()) for each in metrics.errors.values())


def stored() -> Object:
    made = claim(MACHINE_SHAPE)
    made["metadata"] |= {"uid": "u", "creationTimestamp": CREATED}
    return made


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


@asynccontextmanager
async def registry(
    world: ControlPlane, provider: CloudProvider | None = None
) -> AsyncIterator[CollectorRegistry]:
    """The registry of a controller that runs inside the block."""
    manager = Manager(world.client.named("manager"), clock=world.clock)
    machine.setup(manager, provider or instant(world))
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await world.clock.sleep(0.1)
        yield manager.metrics.registry
    finally:
        stop.set()
        await running


def value(found: CollectorRegistry, name: str, **labels: str) -> float | None:
    return found.get_sample_value(f"kaito_provisioner_{name}", labels)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestInTheController:
    async def test_a_life_is_told(self, world: ControlPlane, shape: ClaimShape) -> None:
        kind = shape.resource.kind
        async with registry(world) as found:
            assert all(value(found, "claims", kind=kind, state=state) == 0 for state in STATES)
            await create(world, shape)
            await world.clock.sleep(20)
            assert value(found, "claims", kind=kind, state="initializing") == 1
            assert value(found, "claims_waiting", kind=kind, reason="NodeNotReady") == 1
            oldest = value(found, "claim_oldest_seconds", kind=kind, state="initializing")
            assert oldest is not None
            assert 19 <= oldest <= 22
            await kubelet(world)
            await world.clock.sleep(1)
            assert value(found, "claims", kind=kind, state="ready") == 1
            assert value(found, "claims_waiting", kind=kind, reason="NodeNotReady") == 0, "stays, at 0"
            assert value(found, "claim_ready_seconds_count", kind=kind) == 1
            for stage in ("launch", "registration", "initialization"):
                assert value(found, "claim_stage_seconds_count", kind=kind, stage=stage) == 1, stage
            waited = value(found, "claim_stage_seconds_sum", kind=kind, stage="initialization")
            assert waited is not None
            assert 19 <= waited <= 22
            assert value(found, "cloud_requests_total", method="create") == 1
            await world.client.delete(shape.resource, "ws123456789")
            await world.clock.sleep(30)
            assert all(value(found, "claims", kind=kind, state=state) == 0 for state in STATES)
            assert value(found, "claim_stage_seconds_count", kind=kind, stage="termination") == 1
            deletes = value(found, "cloud_requests_total", method="delete")
            assert deletes is not None
            assert deletes >= 1, "asked again until the instance is gone"

    async def test_a_node_that_somebody_deletes(self, world: ControlPlane, shape: ClaimShape) -> None:
        kind = shape.resource.kind
        async with registry(world) as found:
            await create(world, shape)
            await kubelet(world)
            await world.clock.sleep(1)
            await world.client.delete(NODES, "ws123456789")
            await world.clock.sleep(30)
            assert value(found, "claims_given_up_total", kind=kind, reason="NodeDeleted") == 1

    async def test_a_quota(self, world: ControlPlane, virtual_clock: VirtualClock, shape: ClaimShape) -> None:
        kind = shape.resource.kind
        async with registry(world, Cloud(virtual_clock, QuotaReached("full"))) as found:
            await create(world, shape)
            await world.clock.sleep(1)
            assert value(found, "claims", kind=kind, state="launching") == 1
            assert value(found, "claims_waiting", kind=kind, reason="SubscriptionQuotaReached") == 1
            assert value(found, "cloud_errors_total", method="create", reason="SubscriptionQuotaReached") == 1
            await world.clock.sleep(1500)  # every ten minutes
            assert value(found, "cloud_errors_total", method="create", reason="SubscriptionQuotaReached") == 3
        assert "SubscriptionQuotaReached" in CLAIM_REASONS
