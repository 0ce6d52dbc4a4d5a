"""`resource` of a Workspace: which nodes, how many, of what size."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from kaito.api import sentences
from kaito.api.parts import IMMUTABLE, Int32, LabelSelector
from kaito.runtime.crd import Atomic, AtomicMap, Object, Rule

MAX_INSTANCE_TYPES: Final = 16
MIG_PROFILE: Final = "^[0-9]+g[.][0-9]+([.][0-9]+)?gb$"
"""A MIG profile (compute slices, then memory), as a regular expression of CEL and of Python."""

InstanceType = Annotated[str, Field(max_length=128)]


class Partition(Object):
    """A part of a GPU, on nodes that exist already."""

    mode: Literal["mig", "accelerator"]
    """mig: a slice of a GPU; accelerator: some of a node's GPUs."""
    profile: (
        Annotated[
            str,
            Field(max_length=32),
            Rule(f"self.matches('{MIG_PROFILE}')", sentences.PARTITION_PROFILE),
        ]
        | None
    ) = None
    """MIG profile such as 1g.10gb; only in mode mig."""
    count: Annotated[Int32, Field(ge=1)] | None = None
    """GPUs of each node; only in mode accelerator."""

    validations = (
        Rule(
            "self.mode == 'mig' ? has(self.profile) && !has(self.count) : "
            "has(self.count) && !has(self.profile)",
            sentences.PARTITION_SHAPE,
        ),
    )


class ResourceSpec(Object):
    """The nodes that are wanted."""

    count: Annotated[Int32, Field(ge=1)] | None = None
    """How many GPU nodes; unset: as many as the model needs. Cannot change once set."""
    instance_type: InstanceType | None = None
    """The cloud's name of the machine size, such as Standard_NC6s_v3. Cannot change once set."""
    instance_types: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=128)]],
            Atomic(),
            Field(max_length=MAX_INSTANCE_TYPES),
            Rule(
                "self.all(a, self.exists_one(b, a == b))",
                sentences.TYPE_TWICE,
            ),
        ]
        | None
    ) = None
    """Machine sizes to try, best first, instead of instanceType. Types may be added, not taken away."""
    label_selector: (
        Annotated[
            LabelSelector,
            AtomicMap(),
            Rule(IMMUTABLE, sentences.FIXED),
        ]
        | None
    ) = None
    """Labels of the nodes. Existing nodes that carry them may be used; new nodes get them. Cannot change."""
    preferred_nodes: Annotated[list[str], Atomic()] | None = None
    """Names of existing nodes to use before others. Deprecated."""
    partition: Annotated[Partition, Rule(IMMUTABLE, sentences.FIXED)] | None = None
    """A part of a GPU instead of whole ones, on nodes that exist already."""

    validations = (
        Rule(
            "has(self.labelSelector)",
            sentences.SELECTOR_MISSING,
            field_path=".labelSelector",
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.instanceTypes) || size(self.instanceTypes) == 0 || "
            "!has(self.instanceType) || self.instanceType == ''",
            sentences.TYPE_AND_TYPES,
            field_path=".instanceTypes",
        ),
        Rule(
            "!has(oldSelf.instanceType) || oldSelf.instanceType == '' || "
            "(has(self.instanceType) && self.instanceType == oldSelf.instanceType) || "
            "(!has(self.instanceType) && has(self.instanceTypes) && oldSelf.instanceType in self.instanceTypes)",
            sentences.TYPE_FIXED,
            field_path=".instanceType",
        ),
        Rule(
            "!has(oldSelf.instanceTypes) || "
            "oldSelf.instanceTypes.all(t, has(self.instanceTypes) && t in self.instanceTypes)",
            sentences.TYPES_ONLY_GROW,
            field_path=".instanceTypes",
        ),
        Rule(
            "!has(oldSelf.count) || (has(self.count) ? self.count == oldSelf.count : oldSelf.count == 1)",
            sentences.FIXED_ONCE_SET,
            field_path=".count",
        ),
        Rule(
            "has(self.partition) == has(oldSelf.partition)",
            sentences.PARTITION_FIXED,
            field_path=".partition",
        ),
    )

    @property
    def wanted_types(self) -> list[str]:
        """The instance types to try, in order; empty when the user names none."""
        return list(self.instance_types or ([self.instance_type] if self.instance_type else []))
