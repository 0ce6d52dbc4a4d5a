"""Adapter (kaito.sh/v1alpha1): one LoRA adapter, and the facts that were read from its files.

The status holds facts only. Whether the adapter fits a model is the Workspace's question, answered in its status.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from kaito.api import sentences
from kaito.api.parts import AdapterSource, Conditions
from kaito.api.workspace_checks import Problem, source_problems
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

READY: Final = "Ready"
"""The condition: True once the adapter's files were read, or where only the pod that serves it can read them."""
READABLE: Final = "Readable"
READ_BY_POD: Final = "ReadByPod"
UNREADABLE: Final = "Unreadable"
INVALID_IMAGE_REFERENCE: Final = "InvalidImageReference"
INVALID_SPEC: Final = "InvalidSpec"
"""Reasons of the condition Ready: Readable and ReadByPod with True, the others with False."""


class AdapterSpec(Object):
    """What the adapter is."""

    source: AdapterSource | None = None
    """Where its files are."""

    validations = (
        Rule(
            "has(self.source)",
            sentences.ADAPTER_SOURCE_MISSING,
            field_path=".source",
            reason="FieldValueRequired",
        ),
    )


class AdapterStatus(Object):
    """What was read."""

    conditions: Conditions | None = None
    """Ready, with reason Readable, ReadByPod, Unreadable or InvalidImageReference."""
    source: str | None = None
    """The source in one line; the column SOURCE."""
    digest: str | None = None
    """sha256 of what was read: the manifest of an image, the weights of a directory."""
    size_bytes: Annotated[int, Format("int64"), Field(ge=0)] | None = None
    """Size of the weights in bytes."""
    base_model: str | None = None
    """The model it was trained on, as its author wrote it (base_model_name_or_path)."""
    rank: Annotated[int, Format("int32")] | None = None
    """Rank of the low-rank matrices (r)."""
    alpha: str | None = None
    """Scale of the low-rank matrices (lora_alpha), as a number in text."""
    target_modules: Annotated[list[str], Atomic()] | None = None
    """Layers it changes, sorted."""
    dtype: str | None = None
    """Number format of its weights, such as float16."""
    format: str | None = None
    """File format of its weights: safetensors."""


class Adapter(CustomObject):
    """A LoRA adapter that Workspaces mount on their models."""

    spec: AdapterSpec | None = None
    """What the adapter is."""
    status: AdapterStatus | None = None
    """Written by KAITO."""

    validations = (
        Rule(
            "has(self.spec) || (oldSelf.hasValue() && !has(oldSelf.value().spec))",
            sentences.ADAPTER_SPEC_MISSING,
            field_path=".spec",
            reason="FieldValueRequired",
            optional_old_self=True,
        ),
    )

    def problems(self) -> list[Problem]:
        if self.spec is None:
            return [("spec", sentences.ADAPTER_SPEC_MISSING)]
        if self.spec.source is None:
            return [("spec.source", sentences.ADAPTER_SOURCE_MISSING)]
        return list(source_problems(self.spec.source, "spec.source"))


COLUMNS: Final = (
    Column("Source", ".status.source"),
    Column("Base", ".status.baseModel"),
    Column("Rank", ".status.rank", "integer"),
    Column("Size", ".status.sizeBytes", "integer"),
    condition_column(READY),
    AGE,
    Column("Reason", f'.status.conditions[?(@.type=="{READY}")].reason', priority=1),
    Column("Digest", ".status.digest", priority=1),
)

ADAPTER_CRD: Final = CustomResource(
    "kaito.sh",
    "Adapter",
    "adapters",
    categories=("kaito",),  # not `workspace`: a category of that name must expand to Workspaces alone
    versions=(Version("v1alpha1", Adapter, COLUMNS, storage=True),),
)
