"""Agent pools as JSON: the body that is sent for a claim, and what a pool that is read means. Pure functions.

A pool carries its owner: the claim's uid as a node label and as a tag, so that one of the two survives whoever edits
the other. A pool that names another claim, or none, is somebody else's and is neither changed nor deleted. Pools that
gpu-provisioner made have no uid; they are known by its labels and by the time of the claim's creation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from kaito.api import labels
from kaito.provisioner.aks.offerings import Offering
from kaito.provisioner.aks.options import ON_DEMAND, SPOT, PoolOptions
from kaito.provisioner.cloud import ClaimSpec, InstanceRef
from kaito.runtime.clock import parse_time, rfc3339

UID_LABEL: Final = labels.CLAIM_UID_ANNOTATION
UID_TAG: Final = "kaito.sh_claim-uid"
"""Names of Azure's tags have no slash."""
STARTED_TAG: Final = "kaito.sh_launch-started"
"""When the pool was asked for, RFC 3339."""
CREATED_LABEL: Final = "kaito.sh/creation-timestamp"
"""When the claim was made, as gpu-provisioner writes it."""
CREATED_FORMAT: Final = "%Y-%m-%dT%H-%M-%SZ"
POOL_LABEL: Final = "kubernetes.azure.com/agentpool"
"""On every Node of AKS: its pool."""
_RESERVED_DOMAINS: Final = ("kubernetes.io", "k8s.io", "kubernetes.azure.com")
"""AKS refuses node labels of these, and sets its own."""
_SCALE_SET: Final = re.compile(r"/virtualmachinescalesets/aks-([a-z0-9]+)-", re.IGNORECASE)
_MACHINE: Final = re.compile(r"/virtualmachines/aks-([a-z0-9]+)-", re.IGNORECASE)


class Phase(Enum):
    """What can be done with a pool."""

    BUSY = "busy"
    """An operation runs on it: it is being made or changed."""
    READY = "ready"
    STOPPED = "stopped"
    """Without machines until somebody starts it or the cluster."""
    FAILED = "failed"
    DELETING = "deleting"


_PHASES: Final = {
    "succeeded": Phase.READY,
    "failed": Phase.FAILED,
    "canceled": Phase.FAILED,
    "deleting": Phase.DELETING,
}


@dataclass(frozen=True, slots=True)
class Pool:
    """An agent pool as it was read.

    uids: the claims that it names as its owner; more than one is nobody. state: Azure's word (Creating, Succeeded, …).
    created: when its claim was made; None where it does not say. started: when it was asked for. error: Azure's reason
    of a failure: code, message, details; empty where it tells none.
    """

    name: str
    state: str
    phase: Phase
    offering: Offering
    uids: frozenset[str] = frozenset()
    from_gpu_provisioner: bool = False
    created: datetime | None = None
    started: datetime | None = None
    etag: str | None = None
    image: str = ""
    mig: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """Uid of the claim that it was made for; "" where it names none or several."""
        return next(iter(self.uids)) if len(self.uids) == 1 else ""

    @property
    def for_a_claim(self) -> bool:
        """Whether it was made for a claim at all, by us or by gpu-provisioner."""
        return bool(self.uid) or self.from_gpu_provisioner

    def is_of(self, claim: ClaimSpec) -> bool:
        """Whether it is the claim's: by uid, or made by gpu-provisioner for a claim of this name and age."""
        return self._is_of(claim.name, claim.uid, claim.created, "")

    def is_meant(self, ref: InstanceRef) -> bool:
        """Whether it is the instance that is meant. Without a uid in `ref`, any that was made for a claim of its
        name."""
        return self._is_of(ref.claim_name or self.name, ref.claim_uid, ref.created, ref.provider_id)

    def may_be_meant(self, ref: InstanceRef) -> bool:
        """Whether the claim's machine was in a pool of this name, and this one says nothing of whose it is: an old
        gpu-provisioner's, or somebody took the marks off."""
        launched_here = ref.claim_name in ("", self.name) and pool_of(ref.provider_id) == self.name
        return launched_here and not self.uids and not self.is_meant(ref)

    def _is_of(self, name: str, uid: str, created: datetime | None, provider_id: str) -> bool:
        if name != self.name:
            return False
        if self.uids:
            return bool(self.uid) and uid in ("", self.uid)
        if not self.from_gpu_provisioner:
            return False
        if created is not None:
            return self.created == created.astimezone(UTC).replace(microsecond=0)
        return pool_of(provider_id) == self.name


def pool_body(
    claim: ClaimSpec, options: PoolOptions, offering: Offering, *, gpu: bool, started: datetime
) -> dict[str, Any]:
    """What is sent to make the claim's pool. gpu: whether its size has GPUs. started: now."""
    properties: dict[str, Any] = {
        "mode": "User",
        "type": options.pool_type,
        "osType": "Linux",
        "osSKU": options.os_sku,
        "osDiskSizeGB": options.disk_gib,
        "nodeLabels": _node_labels(claim, offering, gpu=gpu),
        "nodeTaints": [_taint(taint) for taint in claim.taints],
        "tags": {**options.tags, UID_TAG: claim.uid, STARTED_TAG: rfc3339(started)},
    }
    if options.pool_type == "VirtualMachines":
        size = {"size": offering.instance_type, "count": 1}
        properties["virtualMachinesProfile"] = {"scale": {"manual": [size]}}
    else:
        properties |= {"vmSize": offering.instance_type, "count": 1}
    if offering.zone:
        properties["availabilityZones"] = [offering.zone]
    if offering.spot:
        properties |= {
            "scaleSetPriority": "Spot",
            "scaleSetEvictionPolicy": options.eviction_policy,
            "spotMaxPrice": options.spot_max_price,
        }
    return {"properties": properties | _optional(options)}


def _optional(options: PoolOptions) -> dict[str, Any]:
    """What is sent only where somebody asked for it; AKS has its own idea otherwise."""
    fields = {
        "osDiskType": options.os_disk_type,
        "vnetSubnetID": options.subnet_id,
        "podSubnetID": options.pod_subnet_id,
        "gpuProfile": {"driver": options.gpu_driver} if options.gpu_driver else None,
        "gpuInstanceProfile": options.mig_profile,
        "capacityReservationGroupID": options.capacity_reservation_group_id,
        "proximityPlacementGroupID": options.proximity_placement_group_id,
        "maxPods": options.max_pods,
    }
    found = {key: value for key, value in fields.items() if value}
    if options.encryption_at_host is not None:
        found["enableEncryptionAtHost"] = options.encryption_at_host
    return found


def _node_labels(claim: ClaimSpec, offering: Offering, *, gpu: bool) -> dict[str, str]:
    return {
        labels.NODEPOOL_LABEL: labels.NODEPOOL_KAITO,
        **{key: value for key, value in claim.labels.items() if not _is_reserved(key)},
        labels.MACHINE_TYPE_LABEL: "gpu" if gpu else "cpu",
        labels.CAPACITY_TYPE_LABEL: offering.capacity_type,
        UID_LABEL: claim.uid,
        CREATED_LABEL: claim.created.astimezone(UTC).strftime(CREATED_FORMAT),
    }


def _is_reserved(key: str) -> bool:
    domain = key.rpartition("/")[0]
    return any(domain == each or domain.endswith(f".{each}") for each in _RESERVED_DOMAINS)


def _taint(taint: Mapping[str, Any]) -> str:
    return f"{taint['key']}={taint.get('value') or ''}:{taint['effect']}"


def read_pool(body: Mapping[str, Any]) -> Pool:
    """A pool from ARM's JSON. What is missing in a half-made or half-deleted one is read as unknown, never as ready."""
    properties = body.get("properties") or {}
    node_labels = {str(key): str(value) for key, value in (properties.get("nodeLabels") or {}).items()}
    tags = properties.get("tags") or {}
    state = str(properties.get("provisioningState") or "")
    phase = _PHASES.get(state.lower(), Phase.BUSY)
    if phase is Phase.READY and ((properties.get("powerState") or {}).get("code") or "Running") != "Running":
        phase = Phase.STOPPED
    return Pool(
        name=str(body.get("name") or ""),
        state=state,
        phase=phase,
        offering=_offering(properties),
        uids=frozenset(str(uid) for uid in (node_labels.get(UID_LABEL), tags.get(UID_TAG)) if uid),
        from_gpu_provisioner=_is_gpu_provisioners(node_labels),
        created=_created(node_labels.get(CREATED_LABEL, "")),
        started=_time(str(tags.get(STARTED_TAG) or "")) or _created(node_labels.get(CREATED_LABEL, "")),
        etag=properties.get("eTag") or body.get("eTag"),
        image=str(properties.get("nodeImageVersion") or ""),
        mig=bool(properties.get("gpuInstanceProfile")),
        labels=node_labels,
        error=(properties.get("status") or {}).get("provisioningError") or {},
    )


def _offering(properties: Mapping[str, Any]) -> Offering:
    size = properties.get("vmSize")
    if not size:
        manual = ((properties.get("virtualMachinesProfile") or {}).get("scale") or {}).get("manual") or [{}]
        size = manual[0].get("size")
    zones = properties.get("availabilityZones") or []
    spot = str(properties.get("scaleSetPriority") or "").lower() == "spot"
    zone = str(zones[0]) if len(zones) == 1 else ""
    return Offering(str(size or ""), SPOT if spot else ON_DEMAND, zone)


def _is_gpu_provisioners(node_labels: Mapping[str, str]) -> bool:
    """gpu-provisioner's marks, which claims get also that no KAITO object made: its pool, the machine type, the claim's
    creation."""
    return (
        node_labels.get(labels.NODEPOOL_LABEL) == labels.NODEPOOL_KAITO
        and labels.MACHINE_TYPE_LABEL in node_labels
        and CREATED_LABEL in node_labels
        and UID_LABEL not in node_labels
    )


def _created(text: str) -> datetime | None:
    """Reads `CREATED_FORMAT`; pools are read often, and strptime is slow."""
    return _time(f"{text[:10]}{text[10:].replace('-', ':')}") if text else None


def _time(text: str) -> datetime | None:
    try:
        return parse_time(text)
    except ValueError:
        return None


def pool_of(provider_id: str) -> str:
    """The pool that a machine's provider id names, in lower case; "" where it names none.

    AKS: `azure:///subscriptions/…/virtualMachineScaleSets/aks-POOL-…/virtualMachines/0`, and for pools of single
    machines `…/virtualMachines/aks-POOL-…`. Letter case differs between sources.
    """
    match = _SCALE_SET.search(provider_id) or _MACHINE.search(provider_id)
    return match[1].lower() if match else ""
