"""Machine (karpenter.sh/v1alpha5): one node that is wanted, as KAITO up to 0.4 and Karpenter before 0.32 said it.

The schema is Karpenter's: permissive, no rules, conditions in knative's style with a plain-text time.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from kaito.api.claims import ClaimRequirement, ClaimResources, ClaimTaint, Quantities
from kaito.runtime.crd import (
    AGE,
    Column,
    CustomObject,
    CustomResource,
    Format,
    Object,
    Version,
    condition_column,
)

Percent = Annotated[int, Format("int32"), Field(ge=0, le=100)]
Count = Annotated[int, Format("int32"), Field(ge=0)]


class MachineTemplateRef(Object):
    """The provider's template."""

    api_version: str | None = None
    """Its API version."""
    kind: str | None = None
    """Its kind."""
    name: str
    """Its name."""


class KubeletConfiguration(Object):
    """Arguments of the kubelet; providers apply what they can."""

    cluster_dns: Annotated[list[str] | None, Field(alias="clusterDNS")] = None
    """Addresses of the cluster's DNS servers."""
    container_runtime: str | None = None
    """containerd or dockerd."""
    cpu_cfs_quota: Annotated[bool | None, Field(alias="cpuCFSQuota")] = None
    """Whether CPU limits are enforced with CFS quota."""
    eviction_hard: dict[str, str] | None = None
    """Thresholds of hard eviction."""
    eviction_soft: dict[str, str] | None = None
    """Thresholds of soft eviction."""
    eviction_soft_grace_period: dict[str, str] | None = None
    """Grace period of each soft threshold, as a duration."""
    eviction_max_pod_grace_period: Annotated[int, Format("int32")] | None = None
    """Longest grace period of a pod under soft eviction, in seconds."""
    image_gc_high_threshold_percent: Annotated[Percent | None, Field(alias="imageGCHighThresholdPercent")] = (
        None
    )
    """Disk use above which images are removed."""
    image_gc_low_threshold_percent: Annotated[Percent | None, Field(alias="imageGCLowThresholdPercent")] = (
        None
    )
    """Disk use down to which images are removed."""
    kube_reserved: Quantities | None = None
    """Resources kept for Kubernetes."""
    system_reserved: Quantities | None = None
    """Resources kept for the system."""
    max_pods: Count | None = None
    """Most pods on the node."""
    pods_per_core: Count | None = None
    """Most pods for each core."""


class MachineSpec(Object):
    """The node that is wanted."""

    machine_template_ref: MachineTemplateRef | None = None
    """The provider's template."""
    requirements: list[ClaimRequirement] | None = None
    """Labels the node must have."""
    resources: ClaimResources | None = None
    """Resources the node must offer."""
    taints: list[ClaimTaint] | None = None
    """Taints of the node."""
    startup_taints: list[ClaimTaint] | None = None
    """Taints that somebody takes away once the node is ready for pods."""
    kubelet: KubeletConfiguration | None = None
    """Arguments of the kubelet."""


class MachineCondition(Object):
    """A condition in knative's style."""

    type: str
    """MachineLaunched, MachineRegistered, MachineInitialized or Ready."""
    status: str
    """True, False or Unknown."""
    reason: str | None = None
    """Why, in one word."""
    message: str | None = None
    """Why, in a sentence."""
    severity: str | None = None
    """Empty for an error."""
    last_transition_time: str | None = None
    """When the status last changed."""


class MachineStatus(Object):
    """The node as far as it exists."""

    node_name: str | None = None
    """The Node, once it has joined."""
    provider_id: Annotated[str | None, Field(alias="providerID")] = None
    """The cloud's name of the instance; equal to the Node's spec.providerID."""
    capacity: Quantities | None = None
    """What the node has."""
    allocatable: Quantities | None = None
    """What pods may use of it."""
    conditions: list[MachineCondition] | None = None
    """How far it is."""


class Machine(CustomObject):
    """One node that is wanted."""

    spec: MachineSpec | None = None
    """The node that is wanted."""
    status: MachineStatus | None = None
    """Written by the machine controller."""


COLUMNS: Final = (
    Column("Type", r".metadata.labels.node\.kubernetes\.io/instance-type"),
    Column("Capacity", r".metadata.labels.karpenter\.sh/capacity-type"),
    Column("Zone", r".metadata.labels.karpenter\.k8s\.azure/zone"),
    Column("Node", ".status.nodeName"),
    condition_column("Ready"),
    AGE,
    Column("Provisioner", r".metadata.labels.karpenter\.sh/provisioner-name", priority=1),
    Column("Template", ".spec.machineTemplateRef.name", priority=1),
)

MACHINE_CRD: Final = CustomResource(
    "karpenter.sh",
    "Machine",
    "machines",
    namespaced=False,
    categories=("karpenter",),
    versions=(Version("v1alpha5", Machine, COLUMNS, storage=True),),
)
