"""What tests of a claim's life share: a cloud that says what they set, its Nodes, and what became of the claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controllers.machine.builders import NC6, claim
from kaito.api import labels
from kaito.api.conditions import find_condition
from kaito.controllers import machine
from kaito.controllers.machine import ClaimShape, Limits
from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance, InstanceRef
from kaito.provisioner.errors import CloudError, InstanceNotFound, InstancePending
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import EVENTS, NODES, Resource
from support.control_plane import ControlPlane

NAME = "ws123456789"
NODE = "aks-ws123456789-1-vmss000000"
POOL_LABEL = "kubernetes.azure.com/agentpool"
PROVIDER_ID = "azure:///subscriptions/S/resourceGroups/MC_rg/vmss/aks-ws123456789-1-vmss/virtualMachines/0"
INSTANCE = Instance(
    PROVIDER_ID,
    NC6,
    labels={labels.CAPACITY_TYPE_LABEL: "on-demand", labels.ZONE_LABEL: "westus3-1"},
    capacity={labels.GPU_RESOURCE: "1"},
)
Object = dict[str, Any]


class ScriptedCloud(CloudProvider):
    """A cloud that says what the test sets.

    answer: of `create`. refusal: of `check_running`. present: whether `get` finds the instance. asked: what it was
    asked, and when.
    """

    claim_label = POOL_LABEL
    hidden = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.answer: Instance | CloudError = InstancePending(
            "the pool is being made", retry_after=30, since=clock.wall()
        )
        self.refusal: CloudError | None = None
        self.present = True
        self.asked: list[tuple[str, float]] = []
        self.wakers: list[Callable[[str], None]] = []

    def times(self, verb: str) -> list[float]:
        """When it was asked this, to the tenth of a second."""
        return [round(when, 1) for what, when in self.asked if what == verb]

    def wake(self, claim: str = NAME) -> None:
        for each in self.wakers:
            each(claim)

    def subscribe(self, wake: Callable[[str], None]) -> None:
        self.wakers.append(wake)

    async def create(self, claim: ClaimSpec) -> Instance:
        self._note("create")
        if isinstance(self.answer, CloudError):
            raise self.answer
        return self.answer

    async def get(self, ref: InstanceRef) -> Instance:
        self._note("get")
        if not self.present:
            raise InstanceNotFound("gone")
        return INSTANCE

    async def delete(self, ref: InstanceRef) -> bool:
        self._note("delete")
        self.present = False
        return True

    async def list(self) -> Sequence[Instance]:
        return []

    async def check_running(self) -> None:
        self._note("check_running")
        if self.refusal is not None:
            raise self.refusal

    def _note(self, verb: str) -> None:
        self.asked.append((verb, self._clock.now()))


@asynccontextmanager
async def controller(
    world: ControlPlane, cloud: CloudProvider, limits: Limits = machine.DEFAULT_LIMITS
) -> AsyncIterator[None]:
    """The controller runs inside the block."""
    manager = Manager(world.client.named("manager"), clock=world.clock)
    machine.setup(manager, cloud, limits=limits)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        await world.clock.sleep(0.1)
        yield
    finally:
        stop.set()
        await running


async def create(world: ControlPlane, shape: ClaimShape, **changes: Any) -> Object:
    """Made by a Workspace; what follows at once has happened."""
    made = await world.client.create(shape.resource, claim(shape, **changes))
    await world.clock.sleep(0.1)
    return made


async def until(world: ControlPlane, moment: float) -> None:
    """Sleeps until this many seconds of the clock."""
    await world.clock.sleep(moment - world.clock.now())


async def join(
    world: ControlPlane, name: str = NODE, *, provider_id: str = PROVIDER_ID, **metadata: Any
) -> Object:
    """A kubelet adds its Node, which is not ready yet."""
    spec = {
        "providerID": provider_id,
        "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
    }
    found = {POOL_LABEL: NAME, labels.INSTANCE_TYPE_LABEL: NC6}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": found, **metadata},
        "spec": spec,
    }
    made = await world.client.create(NODES, node)
    await world.clock.sleep(0.1)
    return made


async def ready(world: ControlPlane, name: str = NODE, *, gpus: int = 1, ready: bool = True) -> None:
    """What the kubelet writes of itself, with the device plugin's GPUs."""
    resources = {"cpu": "6", "memory": "112Gi", labels.GPU_RESOURCE: str(gpus)}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"conditions": [condition], "capacity": resources, "allocatable": resources}
    await world.client.patch_status(NODES, name, None, status)
    await world.clock.sleep(0.1)


async def stage(world: ControlPlane, shape: ClaimShape, type: str) -> tuple[str, str]:
    """Status and reason of one condition."""
    found = find_condition((await world.client.get(shape.resource, NAME))["status"]["conditions"], type)
    assert found is not None
    return found["status"], found["reason"]


async def message(world: ControlPlane, shape: ClaimShape, type: str) -> str:
    """Message of one condition."""
    found = find_condition((await world.client.get(shape.resource, NAME))["status"]["conditions"], type)
    assert found is not None
    return str(found["message"])


def deletions_of(shape: ClaimShape, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Collects the uids under which claims are deleted from now on: without one, a successor of that name might go."""
    uids: list[str | None] = []
    delete = Client.delete

    async def noted(client: Client, resource: Resource, *names: str, **options: Any) -> Any:
        if resource == shape.resource:
            uids.append(options.get("uid"))
        return await delete(client, resource, *names, **options)

    monkeypatch.setattr(Client, "delete", noted)
    return uids


async def given_up(world: ControlPlane, shape: ClaimShape) -> bool:
    """Whether somebody deleted the claim."""
    try:
        found = await world.client.get(shape.resource, NAME)
    except NotFound:
        return True
    return "deletionTimestamp" in found["metadata"]


async def warnings(world: ControlPlane) -> list[str]:
    """Reasons of the Warning events so far."""
    await world.clock.sleep(1)
    found = await world.client.list(EVENTS, "default")
    return [each["reason"] for each in found if each["type"] == "Warning"]
