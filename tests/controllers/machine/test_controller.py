"""The machine controller with the instant cloud against an API server, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from controllers.machine.builders import NC6, SHAPES, claim
from kaito.api import labels
from kaito.api.conditions import find_condition, is_true
from kaito.controllers import machine
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner import errors
from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance, InstanceRef
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import EVENTS, NODES
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.transport import Request, Response
from support.control_plane import ControlPlane, control_plane

NAME = "ws123456789"
HOUR = 3600.0
Object = dict[str, Any]


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


def instant(world: ControlPlane, **options: Any) -> InstantCloud:
    client = world.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)
    return InstantCloud(client, world.clock, **options)


@asynccontextmanager
async def controller(
    world: ControlPlane, provider: CloudProvider | None = None, client: Client | None = None
) -> AsyncIterator[None]:
    """The controller runs inside the block."""
    manager = Manager(client or world.client.named("manager"), clock=world.clock)
    machine.setup(manager, provider or instant(world))
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await world.clock.sleep(0.1)
        yield
    finally:
        stop.set()
        await running


async def kubelet(world: ControlPlane, name: str = NAME, *, gpus: str | None = "1") -> None:
    """What a kubelet with a GPU driver writes once."""
    resources = {"cpu": "6", "memory": "112Gi", **({labels.GPU_RESOURCE: gpus} if gpus else {})}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
    status = {"conditions": [ready], "capacity": resources, "allocatable": resources}
    await world.client.patch_status(NODES, name, None, status)
    await world.clock.sleep(0.1)


async def create(world: ControlPlane, shape: ClaimShape, **changes: Any) -> Object:
    made = await world.client.create(shape.resource, claim(shape, **changes))
    await world.clock.sleep(0.1)
    return made


async def condition(world: ControlPlane, shape: ClaimShape, type: str) -> Object:
    found = find_condition((await world.client.get(shape.resource, NAME))["status"]["conditions"], type)
    assert found is not None
    return dict(found)


async def gone(world: ControlPlane, shape: ClaimShape) -> bool:
    for resource in (shape.resource, NODES):
        with suppress(NotFound):
            await world.client.get(resource, NAME)
            return False
    return True


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestLife:
    async def test_from_claim_to_ready_node(self, world: ControlPlane, shape: ClaimShape) -> None:
        async with controller(world):
            made = await create(world, shape)
            registered = await condition(world, shape, shape.registered)
            assert registered["status"] == "True"
            waiting = await condition(world, shape, shape.initialized)
            assert (waiting["status"], waiting["reason"]) == ("Unknown", "NodeNotReady")
            await kubelet(world, gpus=None)
            waiting = await condition(world, shape, shape.initialized)
            assert (waiting["reason"], labels.GPU_RESOURCE in waiting["message"]) == (
                "ResourceNotRegistered",
                True,
            )
            await kubelet(world)
            found = await world.client.get(shape.resource, NAME)
            node = await world.client.get(NODES, NAME)
        assert is_true(found["status"]["conditions"], "Ready")
        assert found["status"]["nodeName"] == NAME
        assert found["status"]["providerID"] == node["spec"]["providerID"] == f"instant://{NAME}"
        assert found["status"]["capacity"][labels.GPU_RESOURCE] == "1"
        assert found["metadata"]["finalizers"] == [labels.TERMINATION_FINALIZER]
        assert found["metadata"]["labels"][labels.INSTANCE_TYPE_LABEL] == NC6
        assert found["spec"] == made["spec"]
        expected = {
            "apps": "phi-3",
            labels.WORKSPACE_LABEL: "ws",
            labels.INSTANCE_TYPE_LABEL: NC6,
            labels.REGISTERED_LABEL: "true",
            labels.INITIALIZED_LABEL: "true",
            labels.INSTANT_CLOUD_LABEL: "true",
            labels.GPU_COUNT_LABEL: "1",
            labels.GPU_MEMORY_LABEL: "16384",
        }
        assert expected.items() <= node["metadata"]["labels"].items()
        assert labels.SIMULATED_PODS_LABEL not in node["metadata"]["labels"]
        assert node["spec"]["taints"] == [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
        assert node["metadata"]["finalizers"] == [labels.TERMINATION_FINALIZER]
        assert [each["uid"] for each in node["metadata"]["ownerReferences"]] == [made["metadata"]["uid"]]

    async def test_a_settled_world_gets_no_requests(self, world: ControlPlane, shape: ClaimShape) -> None:
        async with controller(world):
            await create(world, shape)
            await kubelet(world)
            world.requests.clear()
            await world.client.patch(NODES, NAME, patch={"metadata": {"annotations": {"heartbeat": "1"}}})
            await world.clock.sleep(9 * HOUR)
            assert world.writes(machine.USER_AGENT) == []

    async def test_a_restart_over_a_settled_world_writes_nothing(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world):
            await create(world, shape)
            await kubelet(world)
        world.requests.clear()
        async with controller(world):
            await world.clock.sleep(HOUR)
        assert world.writes(machine.USER_AGENT) == []

    async def test_few_writes_bring_a_claim_to_ready(self, world: ControlPlane, shape: ClaimShape) -> None:
        async with controller(world):
            await create(world, shape)
            await kubelet(world)
        resource = f"{shape.resource.path()}/{NAME}"
        assert world.writes(machine.USER_AGENT) == [
            ("PATCH", resource),  # finalizer and labels
            ("POST", "/api/v1/nodes"),
            ("PATCH", f"{resource}/status"),  # launched
            ("PATCH", f"/api/v1/nodes/{NAME}"),  # registered
            ("PATCH", f"{resource}/status"),
            ("PATCH", f"/api/v1/nodes/{NAME}"),  # initialized
            ("PATCH", f"{resource}/status"),
        ]

    async def test_deletion_takes_the_node_along_and_leaves_nothing(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world):
            await create(world, shape)
            await kubelet(world)
            await world.client.delete(shape.resource, NAME)
            await world.clock.sleep(1)
            assert await gone(world, shape)

    async def test_a_claim_deleted_while_nobody_watched_ends_at_the_next_start(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world):
            await create(world, shape)
            await kubelet(world)
        await world.client.delete(shape.resource, NAME)
        assert not await gone(world, shape)
        async with controller(world):
            await world.clock.sleep(1)
            assert await gone(world, shape)

    async def test_a_deleted_node_takes_its_claim_along(self, world: ControlPlane, shape: ClaimShape) -> None:
        async with controller(world):
            await create(world, shape)
            await kubelet(world)
            await world.client.delete(NODES, NAME)
            await world.clock.sleep(1)
            assert await gone(world, shape)

    async def test_a_node_that_vanished_takes_its_claim_along(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world):
            await create(world, shape)
            await kubelet(world)
            await world.client.patch(NODES, NAME, patch={"metadata": {"finalizers": None}})
            await world.client.delete(NODES, NAME)
            await world.clock.sleep(1)
            assert await gone(world, shape)

    async def test_a_slow_cloud_is_waited_for_to_the_second(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        begun = world.clock.now()
        async with controller(world, instant(world, delay=90)):
            await create(world, shape)
            waiting = await condition(world, shape, shape.launched)
            assert (waiting["status"], waiting["reason"]) == ("Unknown", "LaunchInProgress")
            await world.clock.sleep(begun + 89 - world.clock.now())
            assert not is_true(
                (await world.client.get(shape.resource, NAME))["status"]["conditions"], shape.launched
            )
            await world.clock.sleep(begun + 91 - world.clock.now())
            assert is_true(
                (await world.client.get(shape.resource, NAME))["status"]["conditions"], shape.launched
            )
            assert await world.client.list(EVENTS, "default") == []

    async def test_an_unknown_size_fails_for_good_with_the_nearest_names(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world):
            await create(world, shape, types=("Standard_NC6s_v33",))
            failed = await condition(world, shape, shape.launched)
            assert (failed["status"], failed["reason"]) == ("False", "SKUNotAvailable")
            assert NC6 in failed["message"]
            assert (await condition(world, shape, "Ready"))["status"] == "False"
            await world.clock.sleep(1)
            (event,) = await world.client.list(EVENTS, "default")
            assert (event["type"], event["reason"]) == ("Warning", "SKUNotAvailable")
            world.requests.clear()
            await world.clock.sleep(9 * HOUR)
            assert world.writes(machine.USER_AGENT) == []
            await world.client.delete(shape.resource, NAME)
            await world.clock.sleep(1)
            assert await gone(world, shape)

    async def test_the_second_type_is_taken_where_the_first_does_not_exist(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world):
            await create(world, shape, types=("Standard_NC6s_v33", NC6))
            await kubelet(world)
            found = await world.client.get(shape.resource, NAME)
        assert found["metadata"]["labels"][labels.INSTANCE_TYPE_LABEL] == NC6
        assert is_true(found["status"]["conditions"], "Ready")

    async def test_somebody_elses_node_of_that_name_is_left_alone(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        other = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NAME},
            "spec": {"providerID": "azure:///x"},
        }
        before = await world.client.create(NODES, other)
        async with controller(world):
            await create(world, shape)
            assert (await condition(world, shape, shape.launched))["reason"] == "NameTaken"
            await world.client.delete(shape.resource, NAME)
            await world.clock.sleep(1)
        assert await world.client.get(NODES, NAME) == before
        with pytest.raises(NotFound):
            await world.client.get(shape.resource, NAME)

    async def test_a_stop_before_or_after_any_write_changes_nothing_in_the_end(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        """The controller dies at each of its writes in turn, once before and once after it."""
        for write in range(7):
            for after in (False, True):
                await _dies_at(world, shape, write, after=after)
                async with controller(world):
                    await world.clock.sleep(0.1)
                    await kubelet(world)
                    found = await world.client.get(shape.resource, NAME)
                    assert is_true(found["status"]["conditions"], "Ready"), (write, after)
                    assert len(await world.client.list(NODES)) == 1
                    await world.client.delete(shape.resource, NAME)
                    await world.clock.sleep(1)
                    assert await gone(world, shape), (write, after)


class Died(Exception):
    """The process is no more."""


def dying(world: ControlPlane, write: int, died: asyncio.Event, *, after: bool) -> Client:
    """A client whose process dies at its n-th write (from 0): nothing it sends from then on arrives."""
    count = 0

    async def handle(request: Request) -> Response:
        nonlocal count
        if request.method == "GET":
            return await world.server.handle(request)
        count += 1
        if count - 1 < write:
            return await world.server.handle(request)
        if count - 1 == write and after:
            await world.server.handle(request)
        died.set()
        await asyncio.Event().wait()
        raise Died

    return Client(
        MemoryTransport(handle, world.clock),
        clock=world.clock,
        user_agent="mortal",
        field_manager="kaito-machine",
    )


async def _dies_at(world: ControlPlane, shape: ClaimShape, write: int, *, after: bool) -> None:
    died = asyncio.Event()
    client = dying(world, write, died, after=after)
    manager = Manager(client, clock=world.clock)
    machine.setup(manager, InstantCloud(client, world.clock))
    running = asyncio.create_task(manager.run())
    await world.clock.sleep(0.1)
    await create(world, shape)
    with suppress(NotFound):
        await kubelet(world)
    await world.clock.sleep(0.1)
    assert died.is_set(), f"there is no write number {write}"
    running.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await running
    await client.transport.close()


class StubCloud(CloudProvider):
    """A cloud whose answers the test sets."""

    hidden = False

    def __init__(self) -> None:
        self.create_answer: Callable[[], Awaitable[Instance]] = self._make
        self.delete_answers: list[bool | errors.CloudError] = [True]
        self.present = False
        self.calls: list[str] = []

    async def _make(self) -> Instance:
        return Instance("stub://1", NC6, claim_uid="")

    async def create(self, claim: ClaimSpec) -> Instance:
        self.calls.append("create")
        instance = await self.create_answer()
        self.present = True
        return instance

    async def get(self, ref: InstanceRef) -> Instance:
        self.calls.append("get")
        if not self.present:
            raise errors.InstanceNotFound("gone")
        return await self._make()

    async def delete(self, ref: InstanceRef) -> bool:
        self.calls.append("delete")
        answer = self.delete_answers.pop(0) if len(self.delete_answers) > 1 else self.delete_answers[0]
        if isinstance(answer, errors.CloudError):
            raise answer
        return answer

    async def list(self) -> list[Instance]:
        self.calls.append("list")
        return []


async def test_an_instance_that_never_joins_is_given_up_after_fifteen_minutes(world: ControlPlane) -> None:
    cloud = StubCloud()
    async with controller(world, cloud):
        begun = world.clock.now()
        await create(world, NODECLAIM_SHAPE)
        await world.clock.sleep(begun + 899 - world.clock.now())
        waiting = await condition(world, NODECLAIM_SHAPE, "Registered")
        assert (waiting["status"], waiting["reason"]) == ("Unknown", "NodeNotFound")
        assert "delete" not in cloud.calls
        await world.clock.sleep(begun + 902 - world.clock.now())
        assert await gone(world, NODECLAIM_SHAPE)
    assert cloud.calls.count("create") == 1
    assert "delete" in cloud.calls


async def test_an_error_that_may_pass_is_tried_again_when_it_says(world: ControlPlane) -> None:
    cloud = StubCloud()

    async def no_quota() -> Instance:
        raise errors.QuotaReached("the quota of family NC is used up; ask for more", retry_after=600)

    cloud.create_answer = no_quota
    async with controller(world, cloud):
        await create(world, MACHINE_SHAPE)
        failed = await condition(world, MACHINE_SHAPE, "MachineLaunched")
        assert (failed["status"], failed["reason"]) == ("Unknown", "SubscriptionQuotaReached")
        await world.clock.sleep(599)
        assert cloud.calls == ["create"]
        await world.clock.sleep(2)
        assert cloud.calls == ["create", "create"]
        cloud.create_answer = cloud._make
        await world.clock.sleep(600)
        assert (await condition(world, MACHINE_SHAPE, "MachineLaunched"))["status"] == "True"
        await world.clock.sleep(1)
        assert len(await world.client.list(EVENTS, "default")) == 1


async def test_a_claim_stays_until_its_instance_is_really_gone(world: ControlPlane) -> None:
    cloud = StubCloud()
    cloud.delete_answers = [
        False,
        errors.Unauthorized("may not delete agent pools", retry_after=60),
        False,
        True,
    ]
    async with controller(world, cloud):
        await create(world, NODECLAIM_SHAPE)
        await world.client.delete(NODECLAIM_SHAPE.resource, NAME)
        await world.clock.sleep(4.9)
        assert cloud.calls.count("delete") == 1
        await world.clock.sleep(0.2)
        told = await condition(world, NODECLAIM_SHAPE, "InstanceTerminating")
        assert (told["status"], told["reason"]) == ("Unknown", "Unauthorized")
        assert told["message"] == "may not delete agent pools"
        await world.clock.sleep(120)
        assert await gone(world, NODECLAIM_SHAPE)


async def test_a_claim_of_another_node_class_is_never_touched(world: ControlPlane) -> None:
    foreign = claim(
        metadata={"name": NAME, "labels": {"karpenter.sh/nodepool": "default"}},
        spec={"nodeClassRef": {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"}},
    )
    before = await world.client.create(NODECLAIM_SHAPE.resource, foreign)
    async with controller(world):
        await world.clock.sleep(HOUR)
        await world.client.delete(NODECLAIM_SHAPE.resource, NAME)
        await world.clock.sleep(1)
    assert "finalizers" not in before["metadata"]
    assert world.writes(machine.USER_AGENT) == []


async def test_one_bad_claim_does_not_stop_the_others(world: ControlPlane) -> None:
    cloud, good = StubCloud(), instant(world)

    async def bug() -> Instance:
        raise ZeroDivisionError

    cloud.create_answer = bug

    class Both(CloudProvider):
        """Fails with a bug for one claim, works for the others."""

        async def create(self, claim: ClaimSpec) -> Instance:
            return await (cloud if claim.name == "bad" else good).create(claim)

        get, delete, list = good.get, good.delete, good.list

    async with controller(world, Both()):
        await create(world, MACHINE_SHAPE, name="bad")
        await create(world, MACHINE_SHAPE)
        await kubelet(world)
        found = await world.client.get(MACHINE_SHAPE.resource, NAME)
        assert is_true(found["status"]["conditions"], "Ready")
