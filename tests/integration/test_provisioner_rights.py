"""`kaito provisioner --cloud-provider=aks` as its service account: the generated roles are exactly what it uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from kaito.api import labels
from kaito.api.resources import MACHINES, NODECLAIMS
from kaito.cli.operator.config import OperatorConfig, ProvisionerConfig
from kaito.cli.operator.names import LEASE_NAME, PROVISIONER_LEASE_NAME, CloudName
from kaito.cli.operator.provisioner import provisioner_manager
from kaito.cli.operator.run import operator_manager
from kaito.cli.rbac.roles import NAMESPACE, operator_rights, provisioner_rights
from kaito.controllers.workspace import NodeProvisioner
from kaito.provisioner.testing import ArmServer, Boot, FakeArm, FakeKubelets
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import LEASES, NODES, PODS, PVCS, VOLUME_ATTACHMENTS, Resource
from kaito.testing.faults import Faults
from support.cluster import Object, World
from support.installed import applied, flags, installed, leader, replica, speaking_as
from support.rights import Account, roles

pytestmark = pytest.mark.needs("workloads", "ready-pods")

SIZE = "Standard_NC24ads_A100_v4"
KINDS = (MACHINES, NODECLAIMS)


@dataclass
class Cloud:
    """A managed cluster on the fake, and its Kubernetes."""

    world: World
    arm: FakeArm

    async def claim(self, kind: Resource, name: str, **spec: Any) -> Object:
        """A claim as the operator writes it; returns its Node once it is ready."""
        body: Object = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": name, "labels": {labels.WORKSPACE_LABEL: "w"}},
            "spec": {
                "requirements": [{"key": labels.INSTANCE_TYPE_LABEL, "operator": "In", "values": [SIZE]}],
                "resources": {"requests": {"storage": "50Gi"}},
                **spec,
            },
        }
        if kind == NODECLAIMS:
            reference = {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
            body["spec"] |= {"nodeClassRef": reference, "expireAfter": "Never"}
        else:
            body["spec"]["machineTemplateRef"] = {"name": name}
        await self.world.client.create(kind, body)
        found: list[Object] = []

        async def ready() -> bool:
            status = (await self.world.client.get(kind, name)).get("status") or {}
            found.append(status)
            return any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in status.get("conditions") or ()
            )

        await self.world.until(ready, f"{kind.kind} {name} is ready")
        node: Object = await self.world.client.get(NODES, found[-1]["nodeName"])
        return node

    async def pod(self, name: str, node: Object, *, grace: int = 1, **more: Any) -> None:
        """A pod on that node."""
        spec = {
            "nodeName": node["metadata"]["name"],
            "containers": [{"name": "c", "image": "i"}],
            "terminationGracePeriodSeconds": grace,
            "tolerations": [{"key": "sku", "operator": "Exists"}],
            **more.pop("spec", {}),
        }
        meta = self.world.meta(name, **more)
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
        await self.world.client.create(PODS, body)

    async def volume(self, name: str, node: Object) -> dict[str, Any]:
        """A claimed volume that is attached to the node; returns what a pod writes to use it."""
        asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        bound = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": self.world.meta(name)}
        volume = f"{self.world.namespace}-{name}"
        await self.world.client.create(PVCS, {**bound, "spec": {**asked, "volumeName": volume}})
        attachment = {
            "apiVersion": VOLUME_ATTACHMENTS.api_version,
            "kind": "VolumeAttachment",
            "metadata": {"name": volume},
            "spec": {
                "attacher": "disk.csi.azure.com",
                "nodeName": node["metadata"]["name"],
                "source": {"persistentVolumeName": volume},
            },
        }
        await self.world.client.create(VOLUME_ATTACHMENTS, attachment)
        self.world.stack.push_async_callback(self.world.client.delete, VOLUME_ATTACHMENTS, volume)
        return {"name": name, "persistentVolumeClaim": {"claimName": name}}

    async def end(self, kind: Resource, name: str, node: Object) -> None:
        """Both go, with the pool."""
        await self.world.gone(kind, name)
        await self.world.gone(NODES, node["metadata"]["name"])
        assert name not in self.arm.pools


@asynccontextmanager
async def azure(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    """A fake whose machines join at once; the environment says where it is."""
    arm = FakeArm(world.clock)
    arm.retry_after = 1.0
    arm.durations.create = arm.durations.delete = 1.0
    kubelets = FakeKubelets(arm, world.client, world.clock, labels={labels.SIMULATED_PODS_LABEL: "true"})
    kubelets.default = Boot(joins=-0.5, ready=0.1, gpus=0.2)
    kubelets.grace = 1.0
    async with ArmServer(arm, world.clock) as server, kubelets:
        for name, value in {
            "AZURE_RESOURCE_MANAGER_ENDPOINT": server.url,
            "ARM_SUBSCRIPTION_ID": arm.place.subscription,
            "ARM_RESOURCE_GROUP": arm.place.resource_group,
            "AZURE_CLUSTER_NAME": arm.place.cluster,
            "LOCATION": arm.place.location,
        }.items():
            monkeypatch.setenv(name, value)
        yield Cloud(world, arm)


@asynccontextmanager
async def provisioners(world: World, account: Account) -> AsyncIterator[None]:
    """Two replicas, the second of which waits."""
    settings = flags("provisioner", ProvisionerConfig, "--cloud-provider=aks")
    async with speaking_as(world, account, Faults(world.clock)) as client:
        first = provisioner_manager(client, world.clock, settings, NAMESPACE)
        second = provisioner_manager(client.named("kaito-provisioner/2"), world.clock, settings, NAMESPACE)
        async with replica(first):
            await leader(world, PROVISIONER_LEASE_NAME)
            async with replica(second):
                yield


@asynccontextmanager
async def operator(world: World, account: Account) -> AsyncIterator[None]:
    """One that makes the machines itself."""
    mode = f"--node-provisioner={NodeProvisioner.NODECLAIM}"
    settings = flags("operator", OperatorConfig, "--cloud-provider=aks", mode, "--no-webhook")
    async with (
        speaking_as(world, account, Faults(world.clock)) as client,
        replica(operator_manager(client, world.clock, settings, NAMESPACE)),
    ):
        yield


async def refused(cloud: Cloud, name: str) -> None:
    """Azure refuses for one reason, then for another, then for the first again, and then no more."""
    for code, status in (("TooManyRequests", 429), ("InternalServerError", 500), ("TooManyRequests", 429)):
        cloud.arm.fail_next("put_pool", code=code, status=status, retry_after=0.5)
    node = await cloud.claim(MACHINES, name)
    await cloud.world.client.delete(MACHINES, name)
    await cloud.end(MACHINES, name, node)


async def drained(cloud: Cloud, name: str) -> None:
    """Its pods are asked to go; one stays with its volume, and goes with the machine."""
    node = await cloud.claim(NODECLAIMS, name)
    volume = await cloud.volume("data", node)
    await cloud.pod("goes", node)
    await cloud.pod("stays", node, spec={"tolerations": [{"operator": "Exists"}], "volumes": [volume]})
    await cloud.world.client.delete(NODECLAIMS, name)
    await cloud.end(NODECLAIMS, name, node)


async def overdue(cloud: Cloud, name: str) -> None:
    """A protected pod is deleted when its claim's time is up."""
    node = await cloud.claim(NODECLAIMS, name, terminationGracePeriod="5s")
    await cloud.pod("protected", node, grace=30, annotations={"karpenter.sh/do-not-disrupt": "true"})
    await cloud.world.client.delete(NODECLAIMS, name)
    await cloud.end(NODECLAIMS, name, node)


async def node_deleted(cloud: Cloud, kind: Resource, name: str) -> None:
    """The claim goes with its Node."""
    node = await cloud.claim(kind, name)
    await cloud.world.client.delete(NODES, node["metadata"]["name"])
    await cloud.end(kind, name, node)


async def test_the_rights_for_agent_pools_are_exactly_what_is_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account("kaito-provisioner", streams_lists=False)  # so that it lists as well as watches
    granted = roles("provisioner", "components/provisioner-cloud-aks")
    async with (
        installed(world),
        applied(world, granted),
        azure(world, monkeypatch) as cloud,
        provisioners(world, account),
    ):
        await refused(cloud, "refused")
        await asyncio.gather(
            *(node_deleted(cloud, kind, f"deleted{number}") for number, kind in enumerate(KINDS)),
            drained(cloud, "drained"),
            overdue(cloud, "overdue"),
        )
        assert cloud.arm.pools == {}
    declared = provisioner_rights(CloudName.AKS)
    assert not account.refused
    assert account.undeclared(declared) == []
    assert "; ".join(account.unused(declared)) == ""


async def test_an_operator_with_agent_pools_in_it_is_refused_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process, one lease, and the provisioner's rights besides its own."""
    account = Account("kaito-operator")
    granted = roles("", "components/claims-nodeclaim", "components/operator-cloud-aks")
    async with (
        installed(world),
        applied(world, granted),
        azure(world, monkeypatch) as cloud,
        operator(world, account),
    ):
        assert await leader(world, LEASE_NAME)
        await drained(cloud, "drained")
        with pytest.raises(NotFound):
            await world.client.get(LEASES, PROVISIONER_LEASE_NAME, NAMESPACE)
    assert not account.refused
    declared = operator_rights(NodeProvisioner.NODECLAIM, webhook=False, cloud=CloudName.AKS)
    assert account.undeclared(declared) == []
