"""Machines as Nodes: what AKS's nodes look like, when they come, how they fail and when they go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from kaito.api.conditions import is_true
from kaito.provisioner.testing import Boot, FakeArm, FakeKubelets
from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import NODES
from kaito.runtime.testing import VirtualClock
from provisioner.testing.sdk import A100, body, in_memory, names
from support.control_plane import ControlPlane, control_plane

NODE = "aks-ws1-{hash}-vmss000000"


@dataclass
class World:
    plane: ControlPlane
    arm: FakeArm
    kubelets: FakeKubelets
    clock: VirtualClock

    @property
    def name(self) -> str:
        return NODE.format(hash=self.arm.place.hash)

    async def create(self, **properties: Any) -> None:
        """Returns once the request is accepted."""
        async with in_memory(self.arm, self.clock) as sdk:
            await sdk.agent_pools.begin_create_or_update(*names(self.arm), body(**properties), polling=False)

    async def node(self, name: str = "") -> dict[str, Any]:
        return await self.plane.client.get(NODES, name or self.name)

    async def count(self) -> int:
        return len(await self.plane.client.list(NODES))

    async def is_ready(self) -> bool:
        return is_true((await self.node())["status"]["conditions"], "Ready")


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[World]:
    arm = FakeArm(virtual_clock)
    async with control_plane(virtual_clock) as plane:
        kubelets = FakeKubelets(arm, plane.client, virtual_clock)
        async with kubelets:
            yield World(plane, arm, kubelets, virtual_clock)


class TestJoining:
    async def test_the_node_joins_before_aks_is_done_then_is_ready_then_shows_its_gpus(
        self, world: World
    ) -> None:
        await world.create()
        await world.clock.sleep(279)
        assert await world.count() == 0
        await world.clock.sleep(2)
        assert not await world.is_ready()
        assert (await world.node())["spec"]["taints"] == [
            {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        ]
        await world.clock.sleep(10)
        assert await world.is_ready()
        assert (await world.node())["status"]["allocatable"]["nvidia.com/gpu"] == "0"
        await world.clock.sleep(5)
        node = await world.node()
        assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
        assert not node["spec"].get("taints")

    async def test_a_node_carries_what_aks_puts_on_it(self, world: World) -> None:
        await world.create(
            nodeLabels={"kaito.sh/workspace": "phi"},
            nodeTaints=["sku=gpu:NoSchedule"],
            availabilityZones=["2"],
            scaleSetPriority="Spot",
            osDiskSizeGB=200,
        )
        await world.clock.sleep(301)
        node = await world.node()
        place = world.arm.place
        assert node["spec"]["providerID"] == (
            f"azure:///subscriptions/{place.subscription}/resourceGroups/MC_kaito-rg_kaito_eastus/providers/"
            f"Microsoft.Compute/virtualMachineScaleSets/aks-ws1-{place.hash}-vmss/virtualMachines/0"
        )
        assert {
            "agentpool": "ws1",
            "kubernetes.azure.com/agentpool": "ws1",
            "kubernetes.azure.com/scalesetpriority": "spot",
            "kaito.sh/workspace": "phi",
            "accelerator": "nvidia",
            "node.kubernetes.io/instance-type": A100,
            "topology.kubernetes.io/zone": "eastus-2",
        }.items() <= node["metadata"]["labels"].items()
        assert node["spec"]["taints"] == [
            {"key": "sku", "value": "gpu", "effect": "NoSchedule"},
            {"key": "kubernetes.azure.com/scalesetpriority", "value": "spot", "effect": "NoSchedule"},
        ]
        assert node["status"]["capacity"]["ephemeral-storage"] == "200Gi"

    async def test_a_pool_that_fails_has_no_node(self, world: World) -> None:
        world.arm.provisioning_error("*", "AllocationFailed", "No room.")
        await world.create()
        await world.clock.sleep(3600)
        assert await world.count() == 0

    async def test_a_split_gpu_counts_its_parts(self, world: World) -> None:
        await world.create(gpuInstanceProfile="MIG2g")
        await world.clock.sleep(301)
        assert (await world.node())["status"]["allocatable"]["nvidia.com/gpu"] == "3"

    @pytest.mark.parametrize(("operator", "gpus"), [(False, "0"), (True, "1")])
    async def test_without_a_driver_only_an_operator_makes_gpus_visible(
        self, world: World, operator: bool, gpus: str
    ) -> None:
        world.kubelets.gpu_operator = operator
        await world.create(gpuProfile={"driver": "None"})
        await world.clock.sleep(301)
        assert (await world.node())["status"]["allocatable"]["nvidia.com/gpu"] == gpus


class TestFaults:
    async def test_a_machine_that_never_joins(self, world: World) -> None:
        world.kubelets.boots["ws1"] = Boot(joins=None)
        await world.create()
        await world.clock.sleep(3600)
        assert await world.count() == 0
        assert world.arm.pools["ws1"].state == "Succeeded"

    async def test_a_machine_that_is_never_ready(self, world: World) -> None:
        world.kubelets.boots["ws1"] = Boot(ready=None)
        await world.create()
        await world.clock.sleep(3600)
        assert not await world.is_ready()

    async def test_a_dead_gpu(self, world: World) -> None:
        world.kubelets.boots["ws1"] = Boot(gpus=None)
        await world.create()
        await world.clock.sleep(3600)
        assert await world.is_ready()
        assert (await world.node())["status"]["allocatable"]["nvidia.com/gpu"] == "0"

    async def test_two_nodes_of_one_machine(self, world: World) -> None:
        world.kubelets.boots["ws1"] = Boot(twice=True)
        await world.create()
        await world.clock.sleep(301)
        nodes = await world.plane.client.list(NODES)
        assert len(nodes) == 2
        assert len({node["spec"]["providerID"] for node in nodes}) == 1

    async def test_a_provider_id_that_comes_late(self, world: World) -> None:
        world.kubelets.default = Boot(provider_id=60)
        await world.create()
        await world.clock.sleep(320)
        assert "providerID" not in (await world.node())["spec"]
        await world.clock.sleep(60)
        assert (await world.node())["spec"]["providerID"].startswith("azure:///")

    async def test_a_machine_that_falls_silent_is_not_ready_until_it_speaks(self, world: World) -> None:
        await world.create()
        await world.clock.sleep(400)
        world.kubelets.silent.add("ws1")
        world.kubelets.look()
        await world.clock.sleep(39)
        assert await world.is_ready()
        await world.clock.sleep(2)
        node = await world.node()
        assert node["status"]["conditions"][-1]["status"] == "Unknown"
        assert [taint["key"] for taint in node["spec"]["taints"]] == ["node.kubernetes.io/unreachable"] * 2
        world.kubelets.silent.clear()
        world.kubelets.look()
        await world.clock.sleep(1)
        assert await world.is_ready()
        assert not (await world.node())["spec"].get("taints")

    async def test_a_node_that_somebody_deletes_stays_away_until_the_machine_starts_again(
        self, world: World
    ) -> None:
        await world.create()
        await world.clock.sleep(285)
        await world.plane.client.delete(NODES, world.name)
        await world.clock.sleep(3600)
        assert await world.count() == 0
        world.arm.stop_cluster(seconds=0)
        await world.clock.sleep(10)
        world.arm.start_cluster(seconds=0)
        await world.clock.sleep(60)
        assert await world.is_ready()

    async def test_kubelets_wait_for_an_api_server_that_is_away(self, virtual_clock: VirtualClock) -> None:
        arm = FakeArm(virtual_clock)
        async with control_plane(virtual_clock) as plane:
            faults = FaultScript()
            faults.add(Fault(refuse="away"), times=3)
            client = Client(MemoryTransport(plane.server.handle, virtual_clock, faults), clock=virtual_clock)
            arm.portal.create_pool("ws1", A100)
            async with FakeKubelets(arm, client, virtual_clock):
                await virtual_clock.sleep(60)
            assert len(await plane.client.list(NODES)) == 1


class TestLeaving:
    async def test_the_node_of_a_deleted_pool_is_removed(self, world: World) -> None:
        await world.create()
        await world.clock.sleep(400)
        world.arm.portal.start_deleting("ws1")
        await world.clock.sleep(121)
        assert await world.is_ready()
        await world.clock.sleep(40)
        assert not await world.is_ready()
        await world.clock.sleep(5)
        with pytest.raises(NotFound):
            await world.node()

    async def test_a_stopped_cluster_has_silent_nodes_and_a_started_one_ready_ones(
        self, world: World
    ) -> None:
        await world.create()
        await world.clock.sleep(400)
        world.arm.stop_cluster()
        await world.clock.sleep(161)
        assert not await world.is_ready()
        await world.clock.sleep(3600)
        assert await world.count() == 1
        world.arm.start_cluster()
        await world.clock.sleep(179)
        assert not await world.is_ready()
        await world.clock.sleep(2)
        assert await world.is_ready()

    async def test_the_nodes_of_a_stopped_cluster_may_be_removed(self, world: World) -> None:
        world.kubelets.forgets_stopped = True
        world.arm.portal.create_pool("ws1", A100)
        await world.clock.sleep(60)
        world.arm.stop_cluster(seconds=0)
        await world.clock.sleep(46)
        assert await world.count() == 0
        world.arm.start_cluster(seconds=0)
        await world.clock.sleep(30)
        assert await world.is_ready()

    async def test_new_kubelets_take_over_what_is_there(self, world: World) -> None:
        world.arm.portal.create_pool("ws1", A100)
        world.arm.portal.create_pool("ws2", A100)
        await world.clock.sleep(60)
        await world.kubelets.__aexit__(None, None, None)
        world.arm.portal.delete_pool("ws2")
        async with FakeKubelets(world.arm, world.plane.client, world.clock):
            await world.clock.sleep(60)
        assert [node["metadata"]["name"] for node in await world.plane.client.list(NODES)] == [world.name]
        assert await world.is_ready()
