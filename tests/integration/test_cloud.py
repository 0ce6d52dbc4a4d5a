"""KAITO on AKS: the seeds' Workspace from apply to node to Ready and back, with Azure played by a fake over HTTP.

Azure's SDK, the provisioner and the controllers are the real ones. Machines of agent pools join as Nodes whose pods are
ready at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api import labels
from kaito.api.crds import crd_manifests
from kaito.api.resources import MACHINES, NODECLAIMS, WORKSPACES
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.provisioner import aks
from kaito.provisioner.testing import ArmServer, Boot, FakeArm, FakeKubelets
from kaito.runtime.resources import NODES, PODS
from support.cluster import GC_LIMIT, Object, World

pytestmark = pytest.mark.needs("workloads", "ready-pods")

SEED = Path(__file__).parents[2] / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
WRITTEN = replace(WORKSPACES, version="v1alpha1")
NAME, SIZE, FAMILY = "workspace-phi-3-mini", "Standard_NC6s_v3", "standardNCSv3Family"
PROVISIONERS = [NodeProvisioner.MACHINE, NodeProvisioner.NODECLAIM]


def seed(world: World, name: str = NAME, **resource: Any) -> Object:
    body: Object = yaml.safe_load(SEED.read_text())
    body["metadata"] |= {"namespace": world.namespace, "name": name}
    body["resource"] |= resource
    return body


@dataclass
class Cloud:
    """A managed cluster on the fake: `world` is its Kubernetes."""

    world: World
    arm: FakeArm
    url: str

    async def apply(self, name: str = NAME, **resource: Any) -> None:
        await self.world.client.create(WRITTEN, seed(self.world, name, **resource))

    async def status(self, name: str = NAME) -> Object:
        return (await self.world.find(WORKSPACES, name) or {}).get("status") or {}

    async def ready(self, name: str = NAME) -> bool:
        return (await self.status(name)).get("reason") == "Ready"

    async def says(self, reason: str, name: str = NAME) -> bool:
        return (await self.status(name)).get("reason") == reason

    async def message(self, type: str, name: str = NAME) -> str:
        found = (await self.status(name))["conditions"]
        return str(next(each["message"] for each in found if each["type"] == type))

    async def delete(self, name: str = NAME) -> None:
        await self.world.client.delete(WORKSPACES, name, self.world.namespace)
        await self.world.gone(WORKSPACES, name)

    def puts(self) -> list[str]:
        """Names of the pools that were asked for, refused ones included."""
        return [call.pool for call in self.arm.calls("put_pool")]


@asynccontextmanager
async def azure(world: World) -> AsyncIterator[Cloud]:
    """A managed cluster whose machines join as soon as they are up."""
    for definition in crd_manifests():
        await world.define(definition)
    arm = FakeArm(world.clock)
    arm.retry_after = 1.0
    arm.durations.create = arm.durations.delete = 2.0
    kubelets = FakeKubelets(arm, world.client, world.clock, labels={labels.SIMULATED_PODS_LABEL: "true"})
    kubelets.default = Boot(joins=-0.5, ready=0.2, gpus=0.4)
    kubelets.grace = 1.0
    async with ArmServer(arm, world.clock) as server, kubelets:
        yield Cloud(world, arm, server.url)


@asynccontextmanager
async def operator(cloud: Cloud, provisioner: NodeProvisioner) -> AsyncIterator[None]:
    """As `kaito operator --cloud-provider=aks` runs, its own provisioner included; with `byo` there is none."""
    manager = cloud.world.manager("kaito-operator/1")
    settings = WorkspaceConfig(
        node_provisioner=provisioner, stand_in_weights="tiny-phi-3", status_interval=0.2
    )
    workspace.setup(manager, settings)
    adapter.setup(manager, AdapterOptions(image_map={}))
    async with AsyncExitStack() as stack:
        if provisioner is not NodeProvisioner.BYO:
            config = aks.AksConfig.from_environment(environment(cloud.arm, cloud.url))
            provider = aks.build(config, cloud.world.clock, manager.cache.informer(NODES).lister)
            stack.push_async_callback(provider.close)
            machine.setup(manager, provider)
        await stack.enter_async_context(cloud.world.running(manager))
        yield


def environment(arm: FakeArm, url: str) -> dict[str, str]:
    """What the provisioner's pod has; an endpoint on loopback needs no sign-in."""
    return {
        "AZURE_RESOURCE_MANAGER_ENDPOINT": url,
        "ARM_SUBSCRIPTION_ID": arm.place.subscription,
        "ARM_RESOURCE_GROUP": arm.place.resource_group,
        "AZURE_CLUSTER_NAME": arm.place.cluster,
        "LOCATION": arm.place.location,
    }


@pytest.mark.parametrize("provisioner", PROVISIONERS)
async def test_a_workspace_lives_on_an_agent_pool(world: World, provisioner: NodeProvisioner) -> None:
    claims = MACHINES if provisioner is NodeProvisioner.MACHINE else NODECLAIMS
    async with azure(world) as cloud, operator(cloud, provisioner):
        theirs = cloud.arm.portal.create_pool("train", SIZE, nodeLabels={"apps": "theirs"})
        before = theirs.etag
        await cloud.apply()
        await world.until(cloud.ready, "the Workspace is ready")

        mine = f"kaito.sh/workspace={NAME},kaito.sh/workspacenamespace={world.namespace}"
        (claim,) = await world.client.list(claims, label_selector=mine)
        name, status = claim["metadata"]["name"], claim["status"]
        assert cloud.puts() == [name], "one pool, asked for once"
        pool = cloud.arm.pools[name].properties
        assert (pool["vmSize"], pool["count"], pool["nodeTaints"]) == (SIZE, 1, ["sku=gpu:NoSchedule"])
        assert pool["nodeLabels"]["kaito.sh/claim-uid"] == claim["metadata"]["uid"]
        node = await world.client.get(NODES, status["nodeName"])
        assert node["spec"]["providerID"] == status["providerID"]
        assert node["metadata"]["labels"]["apps"] == "phi-3"
        assert node["metadata"]["labels"]["kubernetes.azure.com/agentpool"] == name
        assert (await cloud.status())["workerNodes"] == [status["nodeName"]]
        (pod,) = await world.client.list(PODS, world.namespace)
        assert pod["spec"]["nodeName"] == status["nodeName"]

        await cloud.delete()
        await world.gone(claims, name)
        await world.gone(NODES, status["nodeName"])
        assert list(cloud.arm.pools) == ["train"], "the pool went before its claim"
        assert cloud.arm.pools["train"].etag == before, "nobody touched what is not ours"


async def test_a_workspace_lives_on_a_pool_of_its_user(world: World) -> None:
    """Nodes that somebody made and labelled by hand, without any provisioner."""
    apps = f"apps-{world.namespace}"
    async with azure(world) as cloud, operator(cloud, NodeProvisioner.BYO):
        await cloud.apply(labelSelector={"matchLabels": {"apps": apps}})
        await world.until(lambda: cloud.says("NodeNotReady"), "it says that a node is missing")
        cloud.arm.portal.create_pool("mine", SIZE)

        async def joined() -> bool:
            return bool(await world.client.list(NODES, label_selector="agentpool=mine"))

        await world.until(joined, "the machine joined")
        (node,) = await world.client.list(NODES, label_selector="agentpool=mine")
        name = node["metadata"]["name"]
        await world.client.patch(NODES, name, patch={"metadata": {"labels": {"apps": apps}}})
        await world.until(cloud.ready, "the Workspace is ready")
        assert (await cloud.status())["workerNodes"] == [name]
        await cloud.delete()
        assert await world.find(NODES, name) is not None, "a node that was there stays"
        assert (cloud.puts(), list(cloud.arm.pools)) == ([], ["mine"])


async def test_without_quota_the_workspace_says_what_to_do_and_nothing_is_bought(world: World) -> None:
    async with azure(world) as cloud, operator(cloud, NodeProvisioner.MACHINE):
        cloud.arm.quota.limit(FAMILY, 0)
        await cloud.apply()
        await world.until(lambda: cloud.says("SubscriptionQuotaReached"), "it says that there is no quota")
        assert await cloud.message("ResourceReady") == (
            f"{SIZE} needs 6 of standardNCSv3 Family vCPUs in eastus, where none is allowed (limit 0); raise the quota "
            "at https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas or choose another "
            "size"
        )
        await cloud.delete()
        assert (cloud.puts(), cloud.arm.pools) == ([], {})


async def test_the_next_in_line_starts_when_the_one_before_it_is_gone(world: World) -> None:
    async with azure(world) as cloud, operator(cloud, NodeProvisioner.NODECLAIM):
        cloud.arm.quota.limit(FAMILY, 6)
        await cloud.apply("first")
        await world.until(lambda: cloud.ready("first"), "the first is ready")
        await cloud.apply("second")
        await world.until(lambda: cloud.says("WaitingForQuota", "second"), "the second waits")
        text = await cloud.message("ResourceReady", "second")
        assert "6 allowed" in text
        assert "so 6 short; waits for ws" in text
        await cloud.delete("first")
        await world.until(lambda: cloud.ready("second"), "the second is ready", GC_LIMIT)
        await cloud.delete("second")
        assert len(cloud.puts()) == len(set(cloud.puts())) == 2, "Azure was never asked in vain"


async def test_an_operator_that_ends_while_a_pool_is_made_goes_on_with_it(world: World) -> None:
    async with azure(world) as cloud:
        cloud.arm.durations.create = 4.0
        async with operator(cloud, NodeProvisioner.NODECLAIM):
            await cloud.apply()
            await world.until(lambda: len(cloud.puts()) == 1, "the pool is asked for")
        (pool,) = cloud.arm.pools.values()
        assert pool.state == "Creating"
        async with operator(cloud, NodeProvisioner.NODECLAIM):
            await world.until(cloud.ready, "the Workspace is ready")
            assert len(cloud.puts()) == 1, "the next one found the pool"
            await cloud.delete()
        assert cloud.arm.pools == {}


async def test_a_size_that_cannot_be_had_gives_way_to_the_next_of_the_list(world: World) -> None:
    async with azure(world) as cloud, operator(cloud, NodeProvisioner.MACHINE):
        sizes = ["Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5", "Standard_NV36ads_A10_v5"]
        cloud.arm.quota.limit("standardNCADSA100v4Family", 0)
        message = "The requested VM size is not available in the current region."
        cloud.arm.provisioning_error(sizes[1], "AllocationFailed", message)
        await cloud.apply(instanceType=None, instanceTypes=sizes)
        await world.until(cloud.ready, "the Workspace is ready")
        assert (await cloud.status())["instanceType"] == sizes[2]
        (pool,) = cloud.arm.pools.values()
        assert pool.properties["vmSize"] == sizes[2]
        await cloud.delete()
        assert cloud.arm.pools == {}
