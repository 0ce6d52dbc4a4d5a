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
async def azure(world: World, provisioner: NodeProvisioner, *, pods: bool = True) -> AsyncIterator[Cloud]:
    """The operator with its own provisioner, as `kaito operator --cloud-provider=aks` runs them; with `byo` without."""
    for definition in crd_manifests():
        await world.define(definition)
    arm = FakeArm(world.clock)
    arm.retry_after = 1.0
    arm.durations.create = arm.durations.delete = 2.0
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ArmServer(arm, world.clock))
        kubelets = FakeKubelets(
            arm, world.client, world.clock, labels={labels.SIMULATED_PODS_LABEL: "true"} if pods else {}
        )
        kubelets.default = Boot(joins=-0.5, ready=0.2, gpus=0.4)
        kubelets.grace = 1.0
        manager = world.manager("kaito-operator/1")
        workspace.setup(manager, WorkspaceConfig(node_provisioner=provisioner, stand_in_weights="tiny-phi-3"))
        adapter.setup(manager, AdapterOptions(image_map={}))
        if provisioner is not NodeProvisioner.BYO:
            config = aks.AksConfig.from_environment(environment(arm, server.url))
            provider = aks.build(config, world.clock, manager.cache.informer(NODES).lister)
            stack.push_async_callback(provider.close)
            machine.setup(manager, provider)
        await stack.enter_async_context(kubelets)
        await stack.enter_async_context(world.running(manager))
        yield Cloud(world, arm)


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
    async with azure(world, provisioner) as cloud:
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
    async with azure(world, NodeProvisioner.BYO) as cloud:
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


@pytest.mark.parametrize("provisioner", PROVISIONERS)
async def test_without_quota_the_workspace_says_what_to_do_and_nothing_is_bought(
    world: World, provisioner: NodeProvisioner
) -> None:
    async with azure(world, provisioner) as cloud:
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
    async with azure(world, NodeProvisioner.NODECLAIM) as cloud:
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
