"""NodePool (karpenter.sh/v1) for API servers of tests: the part of it that static pools need.

In a cluster the definition is a Karpenter's, which installs and upgrades its own. This one is for tests alone, and no
manifest of ours contains it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from kaito.api.claims import LABEL_VALUE, Quantities
from kaito.api.nodeclaim import NodeClaimCondition, NodeClassRef, NodeRequirement, NodeTaint
from kaito.runtime.crd import (
    AGE,
    Column,
    CustomObject,
    CustomResource,
    Format,
    Object,
    Rule,
    Scale,
    Version,
    condition_column,
)

LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]


class NodeMetadata(Object):
    """What claims and nodes of the pool carry."""

    labels: (
        Annotated[
            dict[str, LabelValue],
            Field(max_length=100),
            Rule("self.all(x, x != 'karpenter.sh/nodepool')", "labels: karpenter.sh/nodepool is Karpenter's"),
            Rule(
                "self.all(x, x != 'kubernetes.io/hostname')", "labels: kubernetes.io/hostname is the node's"
            ),
        ]
        | None
    ) = None
    """Labels of claims and nodes."""
    annotations: dict[str, str] | None = None
    """Annotations of claims and nodes."""


class NodeTemplateSpec(Object):
    """The claims that are made."""

    node_class_ref: NodeClassRef
    """The provider's class of nodes."""
    requirements: Annotated[list[NodeRequirement], Field(max_length=100)]
    """Labels the nodes must have."""
    taints: list[NodeTaint] | None = None
    """Taints of the nodes."""
    startup_taints: list[NodeTaint] | None = None
    """Taints that somebody takes away once a node is ready for pods."""
    expire_after: Annotated[str, Field(pattern=r"^(([0-9]+(s|m|h))+|Never)$")] = "720h"
    """Age at which a node is replaced."""
    termination_grace_period: Annotated[str, Field(pattern=r"^([0-9]+(s|m|h))+$")] | None = None
    """How long pods may hold up a node's end."""


class NodeTemplate(Object):
    """The template of the pool's claims."""

    metadata: NodeMetadata | None = None
    """Labels and annotations."""
    spec: NodeTemplateSpec
    """What is asked for."""


class Budget(Object):
    """How many nodes may be disrupted at a time."""

    nodes: Annotated[str, Field(pattern=r"^((100|[0-9]{1,2})%|[0-9]+)$")] = "10%"
    """A number or a share."""
    reasons: list[Literal["Underutilized", "Empty", "Drifted"]] | None = None
    """For which reasons; all where none is named."""
    schedule: str | None = None
    """When it begins to hold, as cron says it."""
    duration: str | None = None
    """How long it holds."""


class Disruption(Object):
    """When nodes may be replaced."""

    consolidate_after: Annotated[str, Field(pattern=r"^(([0-9]+(s|m|h))+|Never)$")] = "0s"
    """Time after which an unused node may go."""
    consolidation_policy: Literal["WhenEmpty", "WhenEmptyOrUnderutilized"] = "WhenEmptyOrUnderutilized"
    """Which nodes may go."""
    budgets: Annotated[list[Budget], Field(max_length=50)] | None = None
    """How many at a time."""


class NodePoolSpec(Object):
    """What nodes, and how many."""

    replicas: Annotated[int, Format("int64"), Field(ge=0)] | None = None
    """Number of nodes of a static pool."""
    template: NodeTemplate
    """How they are."""
    disruption: Disruption | None = None
    """When they may be replaced."""
    limits: Quantities | None = None
    """Most of all nodes together."""
    weight: Annotated[int, Format("int32"), Field(ge=1, le=100)] | None = None
    """Which pool is tried first."""

    validations = (
        Rule("has(self.replicas) == has(oldSelf.replicas)", "a pool stays static, or stays dynamic"),
        Rule("!has(self.replicas) || !has(self.weight)", "static pools have no weight"),
    )


class NodePoolStatus(Object):
    """What has come of it."""

    nodes: Annotated[int, Format("int64")] | None = None
    """How many nodes there are."""
    conditions: list[NodeClaimCondition] | None = None
    """Ready, NodeClassReady, ValidationSucceeded."""


class NodePool(CustomObject):
    """A pool of like nodes."""

    spec: NodePoolSpec
    """What is wanted."""
    status: NodePoolStatus | None = None
    """Karpenter's."""


NODEPOOL_CRD: Final = CustomResource(
    "karpenter.sh",
    "NodePool",
    "nodepools",
    namespaced=False,
    categories=("karpenter",),
    versions=(
        Version(
            "v1",
            NodePool,
            (
                Column("NodeClass", ".spec.template.spec.nodeClassRef.name"),
                Column("Nodes", ".status.nodes"),
                condition_column("Ready"),
                AGE,
            ),
            storage=True,
            scale=Scale(".spec.replicas", ".status.nodes"),
        ),
    ),
)


def nodepool_definition(*, static: bool = True) -> dict[str, Any]:
    """The definition as a manifest; with `static` False that of a Karpenter from before static pools."""
    manifest = NODEPOOL_CRD.manifest()
    if not static:
        (version,) = manifest["spec"]["versions"]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        del spec["properties"]["replicas"]
        spec.pop("x-kubernetes-validations", None)
        del version["subresources"]["scale"]
    return manifest
