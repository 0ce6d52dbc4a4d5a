"""What a cloud refuses, and nodes that come without GPUs, through both controllers up to the Workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from controllers.test_together import ControlPlane, Object, everything, given, holds, status, until
from kaito.api.labels import GPU_COUNT_LABEL, GPU_RESOURCE, INSTANCE_TYPE_LABEL
from kaito.api.resources import MACHINES, NODECLAIMS, WORKSPACES
from kaito.controllers import machine
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.provisioner.cloud import ClaimSpec, Instance
from kaito.provisioner.errors import CloudError, InsufficientCapacity, QuotaReached, WaitingForQuota
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.manager import Manager
from kaito.runtime.resources import DEPLOYMENTS, NODES
from kaito.runtime.testing import VirtualClock

A100, H100 = "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"
NAME = "workspace-phi-3-mini"
QUOTA = QuotaReached(
    "NCADS_A100_v4 in westus: 24 cores are needed and 4 of 24 are free; raise the quota at https://aka.example"
)
WAITING = WaitingForQuota("NCADS_A100_v4 in westus: behind claim ws012345678, which waits for the same cores")


class Stubborn(InstantCloud):
    """An instant cloud that refuses some sizes, and whose first nodes come without GPUs.

    refusals: by machine size, what it says instead of making one. dead: how many nodes have no GPU.
    """

    def __init__(self, client: Client, clock: Clock, refusals: dict[str, CloudError], dead: int) -> None:
        super().__init__(client, clock, simulated_pods=True)
        self.nodes = client
        self.refusals = refusals
        self.dead = dead
        self.asked: Counter[str] = Counter()
        self.without: set[str] = set()

    async def create(self, claim: ClaimSpec) -> Instance:
        (size,) = claim.instance_types
        self.asked[size] += 1
        if size in self.refusals:
            raise self.refusals[size]
        made = await super().create(claim)
        if claim.name not in self.without and len(self.without) < self.dead:
            self.without.add(claim.name)
        if claim.name not in self.without:
            return made
        await self.nodes.patch(NODES, claim.name, patch={"metadata": {"labels": {GPU_COUNT_LABEL: "0"}}})
        return replace(made, capacity={GPU_RESOURCE: "1"})


def cloud(found: list[Stubborn], dead: int = 0, **refusals: CloudError) -> Callable[[Manager], Stubborn]:
    """Makes the provider, and hands it out through `found`."""
    by_size = {{"a100": A100, "h100": H100}[short]: error for short, error in refusals.items()}

    def make(manager: Manager) -> Stubborn:
        client = manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)
        found.append(Stubborn(client, manager.clock, by_size, dead))
        return found[-1]

    return make


def wanting(*sizes: str) -> Object:
    body = given("inference")
    body["resource"].pop("instanceType")
    body["resource"]["instanceTypes"] = list(sizes)
    return body


def told(plane: ControlPlane, type: str = "ResourceReady") -> tuple[str, str]:
    """Reason and message of a condition of the Workspace."""
    for each in status(plane, NAME).get("conditions") or ():
        if each["type"] == type:
            return each["reason"], each["message"]
    return "", ""


MODES = pytest.mark.parametrize("mode", [NodeProvisioner.MACHINE, NodeProvisioner.NODECLAIM])


@MODES
async def test_a_size_without_quota_gives_way_to_the_next(
    virtual_clock: VirtualClock, mode: NodeProvisioner
) -> None:
    config, made = WorkspaceConfig(node_provisioner=mode, stand_in_weights="tiny-phi-3"), list[Stubborn]()
    async with everything(virtual_clock, config, cloud(made, a100=QUOTA)) as plane:
        began = virtual_clock.now()
        await plane.client.create(WORKSPACES, wanting(A100, H100))
        await until(plane, lambda: holds(plane, NAME), "WorkspaceReady")
        assert virtual_clock.now() - began < 30, "the next size is asked for at once"
        assert made[0].asked == {A100: 1, H100: 1}
        (node,) = await plane.client.list(NODES)
        assert node["metadata"]["labels"][INSTANCE_TYPE_LABEL] == H100
        assert status(plane, NAME)["instanceType"] == H100
        kind = MACHINES if mode is NodeProvisioner.MACHINE else NODECLAIMS
        assert len(await plane.client.list(kind)) == 1, "the refused claim is gone"


async def test_when_no_size_can_be_had_it_says_what_each_said_and_tries_again(
    virtual_clock: VirtualClock,
) -> None:
    config, made = WorkspaceConfig(stand_in_weights="tiny-phi-3"), list[Stubborn]()
    none = InsufficientCapacity("westus has no Standard_NC40ads_H100_v5 at the moment")
    async with everything(virtual_clock, config, cloud(made, a100=QUOTA, h100=none)) as plane:
        await plane.client.create(WORKSPACES, wanting(A100, H100))
        await until(plane, lambda: told(plane)[0] == "AllocationFailure", "both were refused")
        await virtual_clock.sleep(10)
        assert told(plane) == (
            "AllocationFailure",
            f"{A100}: SubscriptionQuotaReached: {QUOTA.message}; {H100}: AllocationFailure: {none.message}",
        )
        assert await plane.client.list(MACHINES) == [], "a pause costs nothing"
        await virtual_clock.sleep(3600)
        assert 6 <= sum(made[0].asked.values()) <= 14, "asked again and again, but slowly"
        made[0].refusals.clear()
        await until(plane, lambda: holds(plane, NAME), "WorkspaceReady", 700)
        assert "failures" not in status(plane, NAME)["nodes"][0]


async def test_a_claim_that_waits_for_quota_keeps_its_place(virtual_clock: VirtualClock) -> None:
    config, made = WorkspaceConfig(stand_in_weights="tiny-phi-3"), list[Stubborn]()
    async with everything(virtual_clock, config, cloud(made, a100=WAITING)) as plane:
        await plane.client.create(WORKSPACES, wanting(A100, H100))
        await until(plane, lambda: told(plane)[0] == "WaitingForQuota", "it is told")
        (claim,) = await plane.client.list(MACHINES)
        await virtual_clock.sleep(3600)
        assert told(plane) == ("WaitingForQuota", WAITING.message)
        (still,) = await plane.client.list(MACHINES)
        assert still["metadata"]["uid"] == claim["metadata"]["uid"]
        assert set(made[0].asked) == {A100}


@MODES
async def test_a_node_without_gpus_is_replaced_once_and_the_next_one_serves(
    virtual_clock: VirtualClock, mode: NodeProvisioner
) -> None:
    config, made = WorkspaceConfig(node_provisioner=mode, stand_in_weights="tiny-phi-3"), list[Stubborn]()
    async with everything(virtual_clock, config, cloud(made, dead=1)) as plane:
        await plane.client.create(WORKSPACES, given("inference"))
        await until(plane, lambda: told(plane)[0] == "GpuNotFound", "it is told", 1200)
        await until(plane, lambda: holds(plane, NAME), "WorkspaceReady", 300)
        (node,) = await plane.client.list(NODES)
        assert node["metadata"]["name"] not in made[0].without
        assert status(plane, NAME)["nodes"][0]["attempt"] == 1


@MODES
async def test_a_second_node_without_gpus_is_kept_and_reported(
    virtual_clock: VirtualClock, mode: NodeProvisioner
) -> None:
    config, made = WorkspaceConfig(node_provisioner=mode, stand_in_weights="tiny-phi-3"), list[Stubborn]()
    async with everything(virtual_clock, config, cloud(made, dead=99)) as plane:
        await plane.client.create(WORKSPACES, given("inference"))
        await until(plane, lambda: "kept for you to look at" in told(plane)[1], "it is told", 2400)
        assert told(plane)[0] == "GpuNotFound"
        await virtual_clock.sleep(86400)
        assert len(made[0].without) == 2, "no third node is bought"
        assert len(await plane.client.list(NODES)) == 1, "and the second is there to be looked at"
        assert await plane.client.list(DEPLOYMENTS) == []
        assert status(plane, NAME)["reason"] == "GpuNotFound"
