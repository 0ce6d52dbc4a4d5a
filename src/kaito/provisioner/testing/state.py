"""What the fake keeps: agent pools, the managed cluster, operations, and how each looks as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zlib import crc32

from kaito.provisioner.testing.messages import ErrorDetail, Object
from kaito.provisioner.testing.sizes import Size
from kaito.runtime.clock import rfc3339_micro

NEVER: Final = float("inf")
VERSION: Final = "1.34.2"
READ_ONLY: Final = frozenset(
    {
        "currentOrchestratorVersion",
        "eTag",
        "nodeImageVersion",
        "provisioningState",
        "status",
        "virtualMachineNodesStatus",
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is: one managed cluster in one resource group."""

    subscription: str = "00000000-0000-0000-0000-00000000c0de"
    resource_group: str = "kaito-rg"
    cluster: str = "kaito"
    location: str = "eastus"

    @property
    def group_id(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    @property
    def cluster_id(self) -> str:
        return f"{self.group_id}/providers/Microsoft.ContainerService/managedClusters/{self.cluster}"

    @property
    def node_group(self) -> str:
        return f"MC_{self.resource_group}_{self.cluster}_{self.location}"

    @property
    def hash(self) -> str:
        """Eight digits in the names of all machines of the cluster."""
        return f"{crc32(self.cluster_id.lower().encode()) % 10**8:08d}"

    def scale_set(self, pool: str) -> str:
        return f"aks-{pool}-{self.hash}-vmss"

    def machine_id(self, pool: str, number: int) -> str:
        """Resource id of one machine of a pool; with `azure://` before it the Node's provider id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.node_group}/providers/Microsoft.Compute"
            f"/virtualMachineScaleSets/{self.scale_set(pool)}/virtualMachines/{number}"
        )


@dataclass(eq=False)
class Pool:
    """An agent pool.

    properties: as they were sent, with the defaults that AKS fills in. machines_at: clock seconds at which its machines
    are up (the end of the operation that makes them); NEVER: it has none and gets none. zone: where they are.
    """

    name: str
    properties: Object
    size: Size
    created: datetime
    state: str = "Creating"
    etag: str = ""
    error: ErrorDetail | None = None
    machines_at: float = NEVER
    zone: str = ""

    @property
    def vm_size(self) -> str:
        return str(self.properties["vmSize"])

    @property
    def count(self) -> int:
        return int(self.properties.get("count", 1))

    @property
    def spot(self) -> bool:
        return self.properties.get("scaleSetPriority") == "Spot"

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(self.properties.get("availabilityZones") or ())

    def json(self, place: Place, *, running: bool, shows_error: bool) -> Object:
        """The pool as GET answers it."""
        status = {"provisioningError": self.error.nested()} if self.error and shows_error else None
        return {
            "id": f"{place.cluster_id}/agentPools/{self.name}",
            "name": self.name,
            "type": "Microsoft.ContainerService/managedClusters/agentPools",
            "properties": {
                **self.properties,
                "provisioningState": self.state,
                "powerState": {"code": "Running" if running else "Stopped"},
                "currentOrchestratorVersion": self.properties["orchestratorVersion"],
                "nodeImageVersion": _image(str(self.properties["osSKU"])),
                "eTag": self.etag,
                **({"status": status} if status else {}),
            },
        }


@dataclass(eq=False)
class Operation:
    """Something slow that was started. ends: clock seconds, NEVER if it does not; outcome: what it ends with.

    status: as it is polled. pool: "" for one of the cluster. wants: state of its pool or cluster while it runs.
    """

    id: str
    kind: str
    pool: str
    began: datetime
    ends: float
    outcome: str
    error: ErrorDetail | None = None
    status: str = "InProgress"
    ended: datetime | None = None

    @property
    def running(self) -> bool:
        return self.status == "InProgress"

    def json(self) -> Object:
        """As the operation's own address answers."""
        return {
            "name": self.id,
            "status": self.status,
            "startTime": rfc3339_micro(self.began),
            **({"endTime": rfc3339_micro(self.ended)} if self.ended else {}),
            **({"error": self.error.nested()} if self.error and self.status == "Failed" else {}),
        }


@dataclass(eq=False)
class Cluster:
    """The managed cluster. exists: somebody may have deleted it. since: clock seconds since which it is as it is."""

    exists: bool = True
    running: bool = True
    state: str = "Succeeded"
    etag: str = "1"
    since: float = 0.0

    def json(self, place: Place, pools: Mapping[str, Pool]) -> Object:
        profiles = [
            {"name": pool.name, "vmSize": pool.vm_size, "count": pool.count, "provisioningState": pool.state}
            for pool in pools.values()
        ]
        return {
            "id": place.cluster_id,
            "name": place.cluster,
            "type": "Microsoft.ContainerService/ManagedClusters",
            "location": place.location,
            "eTag": self.etag,
            "sku": {"name": "Base", "tier": "Standard"},
            "properties": {
                "provisioningState": self.state,
                "powerState": {"code": "Running" if self.running else "Stopped"},
                "kubernetesVersion": VERSION,
                "currentKubernetesVersion": VERSION,
                "dnsPrefix": place.cluster,
                "nodeResourceGroup": place.node_group,
                "agentPoolProfiles": profiles,
            },
        }


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """A machine of a pool, as the joiner sees it.

    up_at: clock seconds at which AKS counts it as there. running: the cluster is not stopped.
    """

    pool: str
    number: int
    name: str
    provider_id: str
    size: Size
    zone: str
    up_at: float
    running: bool
    properties: Mapping[str, Any] = field(repr=False)


def machines_of(pool: Pool, place: Place, running: bool) -> list[VirtualMachine]:
    """The machines that the pool has or is getting."""
    if pool.machines_at == NEVER:
        return []
    stem = place.scale_set(pool.name)
    return [
        VirtualMachine(
            pool=pool.name,
            number=number,
            name=f"{stem}{number:06d}",
            provider_id="azure://" + place.machine_id(pool.name, number),
            size=pool.size,
            zone=pool.zone,
            up_at=pool.machines_at,
            running=running,
            properties=pool.properties,
        )
        for number in range(pool.count)
    ]


def _image(os_sku: str) -> str:
    stem = (
        "AKSAzureLinux-V3gen2" if os_sku.startswith(("AzureLinux", "CBL")) else "AKSUbuntu-2204gen2containerd"
    )
    return f"{stem}-202611.10.0"
