"""The machine controller with the cluster's own nodes: lent to claims, given back, never deleted; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from controllers.machine.builders import GPU_TAINT, NC6, SHAPES, claim
from kaito.api import labels
from kaito.api.conditions import find_condition, is_true
from kaito.controllers import machine
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner.existing import ExistingNodes
from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import EVENTS, NODES, PODS
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.transport import Request, Response
from support.control_plane import ControlPlane, control_plane

NAME = "ws123456789"
HOUR = 3600.0


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


@asynccontextmanager
async def controller(world: ControlPlane, client: Client | None = None) -> AsyncIterator[None]:
    """The controller with the cluster's own nodes runs inside the block."""
    manager = Manager(client or world.client.named("manager"), clock=world.clock)
    nodes = manager.cache.informer(NODES).lister
    provider = ExistingNodes(manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER), nodes)
    machine.setup(manager, provider)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await world.clock.sleep(0.1)
        yield
    finally:
        stop.set()
        await running


async def add_node(world: ControlPlane, name: str = "rack-1", **marks: str) -> dict[str, Any]:
    """A node that somebody else made, as a kubelet with a GPU driver keeps it."""
    found = {"kaito.sh/existing-node": "true", labels.OS_LABEL: "linux", **marks}
    await world.client.create(
        NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": found}}
    )
    resources = {"cpu": "8", labels.GPU_RESOURCE: "1"}
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "capacity": resources,
        "allocatable": resources,
    }
    await world.client.patch_status(NODES, name, None, status)
    await world.clock.sleep(0.1)
    return await world.client.get(NODES, name)


async def create(world: ControlPlane, shape: ClaimShape, name: str = NAME) -> None:
    await world.client.create(shape.resource, claim(shape, name=name))
    await world.clock.sleep(0.1)


async def is_gone(world: ControlPlane, shape: ClaimShape, name: str = NAME) -> bool:
    with suppress(NotFound):
        await world.client.get(shape.resource, name)
        return False
    return True


def without_version(node: dict[str, Any]) -> dict[str, Any]:
    metadata = {
        key: value
        for key, value in node["metadata"].items()
        if key not in ("resourceVersion", "managedFields")
    }
    return {**node, "metadata": metadata}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestLife:
    async def test_a_node_is_lent_and_given_back_as_it_was(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        before = await add_node(world)
        async with controller(world):
            await create(world, shape)
            made = await world.client.get(shape.resource, NAME)
            node = await world.client.get(NODES, "rack-1")
            assert is_true(made["status"]["conditions"], "Ready")
            assert (made["status"]["nodeName"], made["status"]["providerID"]) == (
                "rack-1", "existing://rack-1",
            )  # fmt: skip
            expected = {
                "apps": "phi-3",
                labels.WORKSPACE_LABEL: "ws",
                labels.INSTANCE_TYPE_LABEL: NC6,
                labels.REGISTERED_LABEL: "true",
                labels.INITIALIZED_LABEL: "true",
            }
            assert expected.items() <= node["metadata"]["labels"].items()
            assert node["spec"]["taints"] == [GPU_TAINT]
            assert {"finalizers", "ownerReferences"}.isdisjoint(node["metadata"])
            world.requests.clear()
            await world.clock.sleep(9 * HOUR)
            assert world.writes(machine.USER_AGENT) == []
            await world.client.delete(shape.resource, NAME)
            await world.clock.sleep(1)
            assert await is_gone(world, shape)
        after = await world.client.get(NODES, "rack-1")
        assert without_version(after) == without_version(before)

    async def test_a_claim_waits_for_a_node_and_takes_the_one_that_is_given_back(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        await add_node(world)
        async with controller(world):
            await create(world, shape, "first")
            await create(world, shape, "second")
            waiting = await world.client.get(shape.resource, "second")
            told = find_condition(waiting["status"]["conditions"], shape.launched)
            assert told is not None
            assert (told["status"], told["reason"]) == ("Unknown", "AllocationFailure")
            assert "rack-1 is taken by first" in told["message"]
            world.requests.clear()
            await world.clock.sleep(HOUR)
            assert world.writes(machine.USER_AGENT) == []
            assert len(await world.client.list(EVENTS, "default")) == 1
            await world.client.delete(shape.resource, "first")
            await world.clock.sleep(11)
            assert await is_gone(world, shape, "first")
            second = await world.client.get(shape.resource, "second")
            assert second["status"]["nodeName"] == "rack-1"
            assert is_true(second["status"]["conditions"], "Ready")

    async def test_a_stop_before_or_after_any_write_changes_nothing_in_the_end(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        """The controller dies at each of its writes in turn, of a claim's coming and of its going."""
        before = await add_node(world)
        await add_node(world, "rack-2")
        for going in (False, True):
            for write in range(2 if going else 5):
                for after in (False, True):
                    await _dies_at(world, shape, write, after=after, going=going)
                    async with controller(world):
                        await world.clock.sleep(1)
                        if not going:
                            made = await world.client.get(shape.resource, NAME)
                            assert is_true(made["status"]["conditions"], "Ready"), (write, after)
                            taken = await world.client.list(NODES, label_selector=labels.WORKSPACE_LABEL)
                            assert len(taken) == 1, (write, after)
                            await world.client.delete(shape.resource, NAME)
                            await world.clock.sleep(1)
                        assert await is_gone(world, shape), (write, after, going)
                    node = await world.client.get(NODES, "rack-1")
                    assert without_version(node) == without_version(before), (write, after, going)

    async def test_a_node_that_its_owner_takes_back_goes_to_nobody(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        await add_node(world)
        async with controller(world):
            await create(world, shape)
            mark = {labels.CLAIM_UID_ANNOTATION: "somebody-else"}
            await world.client.patch(NODES, "rack-1", patch={"metadata": {"annotations": mark}})
            await world.clock.sleep(1)
            assert await is_gone(world, shape)
            (event,) = await world.client.list(EVENTS, "default")
            assert (event["type"], event["reason"]) == ("Warning", "InstanceGone")
            assert "taken back" in event["message"]
        node = await world.client.get(NODES, "rack-1")
        assert node["metadata"]["annotations"].items() >= mark.items()


async def test_a_node_that_is_deleted_ends_its_claim(world: ControlPlane) -> None:
    await add_node(world)
    async with controller(world):
        await create(world, NODECLAIM_SHAPE)
        await world.client.delete(NODES, "rack-1")
        await world.clock.sleep(1)
        assert await is_gone(world, NODECLAIM_SHAPE)


async def test_taints_stay_away_from_a_node_that_asks_for_it(world: ControlPlane) -> None:
    await add_node(world, **{labels.DO_NOT_SYNC_TAINTS_LABEL: "true"})
    async with controller(world):
        await create(world, NODECLAIM_SHAPE)
        assert "taints" not in (await world.client.get(NODES, "rack-1"))["spec"]


async def _dies_at(world: ControlPlane, shape: ClaimShape, write: int, *, after: bool, going: bool) -> None:
    """Lets the process die at its n-th write (from 0) of the claim's coming or going; nothing sent later arrives."""
    counting, count, died = not going, 0, asyncio.Event()

    async def handle(request: Request) -> Response:
        nonlocal count
        if request.method == "GET" or not counting:
            return await world.server.handle(request)
        count += 1
        if count - 1 < write:
            return await world.server.handle(request)
        if count - 1 == write and after:
            await world.server.handle(request)
        died.set()
        await asyncio.Event().wait()
        raise AssertionError("nothing is answered any more")

    client = Client(
        MemoryTransport(handle, world.clock),
        clock=world.clock,
        user_agent="mortal",
        field_manager="kaito-machine",
    )
    manager = Manager(client, clock=world.clock)
    nodes = manager.cache.informer(NODES).lister
    machine.setup(manager, ExistingNodes(client.named(machine.USER_AGENT, machine.FIELD_MANAGER), nodes))
    running = asyncio.create_task(manager.run())
    await world.clock.sleep(0.1)
    await create(world, shape)
    if going:
        counting = True
        await world.client.delete(shape.resource, NAME)
    await world.clock.sleep(0.1)
    running.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await running
    await client.transport.close()
    if not died.is_set():
        raise AssertionError(f"there is no write number {write}")


async def test_a_node_whose_claim_vanished_without_giving_it_back_is_given_back_at_the_next_look(
    world: ControlPlane,
) -> None:
    """Somebody took the finalizer off; the node would be lent to nobody for ever."""
    before = await add_node(world)
    async with controller(world):
        await create(world, NODECLAIM_SHAPE)
    await world.client.patch(NODECLAIM_SHAPE.resource, NAME, patch={"metadata": {"finalizers": None}})
    await world.client.delete(NODECLAIM_SHAPE.resource, NAME)
    async with controller(world):
        await world.clock.sleep(115)
        assert (
            labels.CLAIM_UID_ANNOTATION
            in (await world.client.get(NODES, "rack-1"))["metadata"]["annotations"]
        )
        await world.clock.sleep(10)
    after = await world.client.get(NODES, "rack-1")
    assert without_version(after) == without_version(before)


async def test_a_lent_node_that_is_sick_is_left_to_its_owner(world: ControlPlane) -> None:
    await add_node(world)
    async with controller(world):
        await create(world, NODECLAIM_SHAPE)
        sick = {"type": "Ready", "status": "False", "lastTransitionTime": "2020-01-01T00:00:00Z"}
        await world.client.patch_status(NODES, "rack-1", None, {"conditions": [sick]})
        world.requests.clear()
        await world.clock.sleep(9 * HOUR)
        assert not await is_gone(world, NODECLAIM_SHAPE)
        assert world.writes(machine.USER_AGENT) == []


async def test_pods_on_a_lent_node_are_not_evicted_when_it_is_given_back(world: ControlPlane) -> None:
    await add_node(world)
    containers = [{"name": "c", "image": "example.com/c:1"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "other", "namespace": "default"},
        "spec": {"nodeName": "rack-1", "containers": containers},
    }
    await world.client.create(PODS, pod)
    async with controller(world):
        await create(world, NODECLAIM_SHAPE)
        await world.client.delete(NODECLAIM_SHAPE.resource, NAME)
        await world.clock.sleep(1)
        assert await is_gone(world, NODECLAIM_SHAPE)
    assert "deletionTimestamp" not in (await world.client.get(PODS, "other", "default"))["metadata"]
