"""Workspace (kaito.sh): what a user asks for. One model stands for v1alpha1 and v1beta1 alike.

A Workspace has no `spec`: resource, inference, tuning and status are at the top level. Nothing that CEL demands is
`required` in the schema, because a schema's "Required value" cannot say what to write instead.

Rules come in two kinds, so that an object stored under older rules still takes status writes and loses its finalizer:
rules of a field are skipped by the API server while that field is unchanged (ratcheting); rules of the root, which
changes with every write, look at the stored object themselves (`optionalOldSelf`) and pass what was already so.
"""

from __future__ import annotations

from typing import Final

from kaito.api import sentences
from kaito.api.workspace_checks import Problem, workspace_problems
from kaito.api.workspace_model import AdapterSpecEntry, InferenceSpec, Preset, TuningSpec
from kaito.api.workspace_resource import ResourceSpec
from kaito.api.workspace_status import WorkspaceStatus
from kaito.runtime.crd import AGE, Column, CustomObject, CustomResource, Rule, Version, condition_column

__all__ = [
    "COLUMNS",
    "WORKSPACE_CRD",
    "AdapterSpecEntry",
    "InferenceSpec",
    "Preset",
    "ResourceSpec",
    "TuningSpec",
    "Workspace",
    "WorkspaceStatus",
    "labels_of",
]


def _already(condition: str) -> str:
    return f"(oldSelf.hasValue() && {condition.replace('self.', 'oldSelf.value().')})"


_NEITHER: Final = "!has(self.inference) && !has(self.tuning)"
_BOTH: Final = "has(self.inference) && has(self.tuning)"
_TUNES_ON_SEVERAL: Final = (
    "has(self.tuning) && has(self.resource) && has(self.resource.count) && self.resource.count > 1"
)
_TUNES_ON_PART: Final = "has(self.tuning) && has(self.resource) && has(self.resource.partition)"


def _never(condition: str, message: str, field: str, *, required: bool = False) -> Rule:
    """A root rule: this must not be so, unless the stored object is so already."""
    return Rule(
        f"!({condition}) || {_already(condition)}",
        message,
        field_path=field,
        reason="FieldValueRequired" if required else "FieldValueInvalid",
        optional_old_self=True,
    )


class Workspace(CustomObject):
    """A model to serve or to fine-tune, and the GPU nodes to do it on."""

    resource: ResourceSpec | None = None
    """The nodes that are wanted."""
    inference: InferenceSpec | None = None
    """A model to serve; exactly one of inference and tuning."""
    tuning: TuningSpec | None = None
    """A model to fine-tune; exactly one of inference and tuning."""
    status: WorkspaceStatus | None = None
    """Written by KAITO."""

    validations = (
        Rule(
            "oldSelf.hasValue() || self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
            f"metadata.name: {sentences.WORKSPACE_NAME}",
            optional_old_self=True,
        ),
        _never(
            "!has(self.resource)",
            sentences.RESOURCE_MISSING,
            ".resource",
            required=True,
        ),
        _never(
            _NEITHER,
            sentences.NEITHER,
            ".inference",
            required=True,
        ),
        _never(_BOTH, sentences.BOTH, ".tuning"),
        Rule(
            "!oldSelf.hasValue() || has(oldSelf.value().inference) == has(oldSelf.value().tuning) || "
            "has(self.inference) == has(oldSelf.value().inference)",
            sentences.SWAPPED,
            field_path=".inference",
            optional_old_self=True,
        ),
        _never(_TUNES_ON_SEVERAL, sentences.TUNES_ON_SEVERAL, ".resource.count"),
        _never(_TUNES_ON_PART, sentences.TUNES_ON_PART, ".resource.partition"),
    )

    def problems(self) -> list[Problem]:
        """Path and sentence of everything that no rule would admit today. For stored objects."""
        return list(workspace_problems(self.resource, self.inference, self.tuning))


COLUMNS: Final = (
    Column("Instance", ".resource.instanceType"),
    condition_column("ResourceReady"),
    condition_column("InferenceReady"),
    condition_column("WorkspaceReady"),
    Column("Reason", ".status.reason"),
    AGE,
    Column("SKU", ".status.instanceType", priority=1, description="The machine size in use."),
    condition_column("JobStarted", priority=1),
    Column("State", ".status.state", priority=1),
    Column("Nodes", ".status.workerNodes", priority=1),
    Column("Endpoint", ".status.endpoint", priority=1),
)
"""The same in both versions. kubectl adds NAME in front."""

WORKSPACE_CRD: Final = CustomResource(
    "kaito.sh",
    "Workspace",
    "workspaces",
    short_names=("wk", "wks"),
    categories=("workspace", "kaito"),
    versions=(
        Version("v1alpha1", Workspace, COLUMNS),
        Version("v1beta1", Workspace, COLUMNS, storage=True),
    ),
)


def labels_of(workspace: Workspace) -> dict[str, str]:
    """Labels that the Workspace's nodes must carry; empty without a selector."""
    resource = workspace.resource
    return resource.label_selector.labels() if resource and resource.label_selector else {}
