"""NodeClaim (karpenter.sh/v1): one node that is wanted, as Karpenter 1.x says it. The spec is immutable.

Rules and limits are those of Karpenter 1.7, so a claim that this schema admits is admitted by a real Karpenter's too.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from kaito.api.claims import LABEL_VALUE, QUALIFIED_NAME, ClaimResources, Quantities
from kaito.runtime.crd import (
    AGE,
    Atomic,
    Column,
    CustomObject,
    CustomResource,
    Format,
    Object,
    Rule,
    Version,
    condition_column,
)

LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]

_KUBERNETES_KEYS: Final = (
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/windows-build",
)
"""The labels of kubernetes.io that a requirement may name (Karpenter, WellKnownLabels and normalised ones)."""

_KEY_RULES: Final = (
    Rule(
        f"self in [{', '.join(repr(key) for key in _KUBERNETES_KEYS)}] || "
        "self.find('^([^/]+)').endsWith('node.kubernetes.io') || "
        "self.find('^([^/]+)').endsWith('node-restriction.kubernetes.io') || "
        "!self.find('^([^/]+)').endsWith('kubernetes.io')",
        "key: this label of kubernetes.io is the node's own; write a well-known one or a label of your domain",
    ),
    Rule(
        "self.find('^([^/]+)').endsWith('kops.k8s.io') || !self.find('^([^/]+)').endsWith('k8s.io')",
        "key: labels of k8s.io are restricted; write a label of your domain",
    ),
    Rule(
        "self in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool'] || "
        "!self.find('^([^/]+)').endsWith('karpenter.sh')",
        "key: of karpenter.sh only capacity-type and nodepool may be required",
    ),
    Rule("self != 'kubernetes.io/hostname'", "key: kubernetes.io/hostname cannot be required"),
)


class NodeClassRef(Object):
    """The provider's class of nodes; its group and kind tell which controller a claim belongs to."""

    group: Annotated[
        str,
        Field(pattern=r"^[^/]*$"),
        Rule("self != ''", "nodeClassRef.group: write the group, such as kaito.sh"),
    ]
    """API group, such as kaito.sh."""
    kind: Annotated[str, Rule("self != ''", "nodeClassRef.kind: write the kind, such as KaitoNodeClass")]
    """Kind, such as KaitoNodeClass."""
    name: Annotated[str, Rule("self != ''", "nodeClassRef.name: write the name, such as default")]
    """Name; the object need not exist for KaitoNodeClass."""


class NodeRequirement(Object):
    """A requirement on the node's labels."""

    key: Annotated[str, Field(max_length=316, pattern=QUALIFIED_NAME), *_KEY_RULES]
    """Label key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How the label's value relates to values."""
    values: Annotated[list[LabelValue], Atomic()] | None = None
    """Label values, in the order of preference where it matters."""
    min_values: Annotated[int, Field(ge=1, le=50)] | None = None
    """How many different values must remain possible."""


class NodeTaint(Object):
    """A taint of the node."""

    key: Annotated[str, Field(min_length=1, pattern=QUALIFIED_NAME)]
    """Its key."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """What it does to pods that do not tolerate it."""
    value: Annotated[str, Field(pattern=LABEL_VALUE)] | None = None
    """Its value."""
    time_added: Annotated[str, Format("date-time")] | None = None
    """When a NoExecute taint was added."""


class NodeClaimSpec(Object):
    """The node that is wanted."""

    node_class_ref: NodeClassRef
    """The provider's class of nodes."""
    requirements: Annotated[
        list[NodeRequirement],
        Field(max_length=100),
        Rule(
            "self.all(x, x.operator == 'In' ? x.values.size() != 0 : true)",
            "requirements: the operator In needs at least one value",
        ),
        Rule(
            "self.all(x, (x.operator == 'Gt' || x.operator == 'Lt') ? "
            "(x.values.size() == 1 && int(x.values[0]) >= 0) : true)",
            "requirements: the operators Gt and Lt need exactly one value, a whole number from 0 up",
        ),
        Rule(
            "self.all(x, (x.operator == 'In' && has(x.minValues)) ? x.values.size() >= x.minValues : true)",
            "requirements: minValues is greater than the number of values",
        ),
    ]
    """Labels the node must have."""
    resources: ClaimResources | None = None
    """Resources the node must offer."""
    taints: list[NodeTaint] | None = None
    """Taints of the node."""
    startup_taints: list[NodeTaint] | None = None
    """Taints that somebody takes away once the node is ready for pods."""
    expire_after: Annotated[str, Field(pattern=r"^(([0-9]+(s|m|h))+|Never)$")] = "720h"
    """Age at which Karpenter replaces the node; KAITO always writes Never."""
    termination_grace_period: Annotated[str, Field(pattern=r"^([0-9]+(s|m|h))+$")] | None = None
    """How long pods may hold up the node's end."""


class NodeClaimCondition(Object):
    """A condition whose reason may be empty (Karpenter's)."""

    type: Annotated[str, Field(max_length=316, pattern=QUALIFIED_NAME)]
    """Launched, Registered, Initialized or Ready."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: (
        Annotated[str, Field(max_length=1024, pattern=r"^([A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?|)$")] | None
    ) = None
    """Why, in one word."""
    message: Annotated[str, Field(max_length=32768)] | None = None
    """Why, in a sentence."""
    last_transition_time: Annotated[str, Format("date-time")]
    """When the status last changed."""
    observed_generation: Annotated[int, Format("int64"), Field(ge=0)] | None = None
    """The metadata.generation this condition was decided from."""


class NodeClaimStatus(Object):
    """The node as far as it exists."""

    node_name: str | None = None
    """The Node, once it has joined."""
    provider_id: Annotated[str | None, Field(alias="providerID")] = None
    """The cloud's name of the instance; equal to the Node's spec.providerID."""
    image_id: Annotated[str | None, Field(alias="imageID")] = None
    """Image the node runs."""
    capacity: Quantities | None = None
    """What the node has."""
    allocatable: Quantities | None = None
    """What pods may use of it."""
    last_pod_event_time: Annotated[str, Format("date-time")] | None = None
    """When a pod last came or went."""
    conditions: list[NodeClaimCondition] | None = None
    """How far it is."""


class NodeClaim(CustomObject):
    """One node that is wanted."""

    spec: Annotated[NodeClaimSpec, Rule("self == oldSelf", "spec is immutable")]
    """The node that is wanted."""
    status: NodeClaimStatus | None = None
    """Written by the machine controller, or by a Karpenter."""


COLUMNS: Final = (
    Column("Type", r".metadata.labels.node\.kubernetes\.io/instance-type"),
    Column("Capacity", r".metadata.labels.karpenter\.sh/capacity-type"),
    Column("Zone", r".metadata.labels.topology\.kubernetes\.io/zone"),
    Column("Node", ".status.nodeName"),
    condition_column("Ready"),
    AGE,
    Column("ImageID", ".status.imageID", priority=1),
    Column("ID", ".status.providerID", priority=1),
    Column("NodePool", r".metadata.labels.karpenter\.sh/nodepool", priority=1),
    Column("NodeClass", ".spec.nodeClassRef.name", priority=1),
    condition_column("Drifted", priority=1),
)

NODECLAIM_CRD: Final = CustomResource(
    "karpenter.sh",
    "NodeClaim",
    "nodeclaims",
    namespaced=False,
    categories=("karpenter",),
    versions=(Version("v1", NodeClaim, COLUMNS, storage=True),),
)
