"""Workspace (kaito.sh): what a user asks for. One model stands for v1alpha1 and v1beta1 alike.

A Workspace has no `spec`: resource, inference, tuning and status are at the top level. Nothing that CEL demands is
`required` in the schema, because a schema's "Required value" cannot say what to write instead.

Rules come in two kinds, so that an object stored under older rules still takes status writes and loses its finalizer:
rules of a field are skipped by the API server while that field is unchanged (ratcheting); rules of the root, which
changes with every write, look at the stored object themselves (`optionalOldSelf`) and pass what was already so.
"""

from __future__ import annotations

from typing import Final

from kaito.api.workspace_checks import first_problem
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
            "metadata.name: a Service gets this name, so write at most 63 lower-case letters, digits and '-', "
            "starting with a letter and ending with a letter or digit",
            optional_old_self=True,
        ),
        _never(
            "!has(self.resource)",
            "resource is missing: write `resource: {instanceType: …, labelSelector: {matchLabels: {apps: my-model}}}` "
            "at the top level (a Workspace has no spec)",
            ".resource",
            required=True,
        ),
        _never(
            _NEITHER,
            "neither inference nor tuning is there: write `inference: {preset: {name: phi-3-mini-4k-instruct}}` to "
            "serve a model or a tuning block to fine-tune one, at the top level (a Workspace has no spec)",
            ".inference",
            required=True,
        ),
        _never(
            _BOTH,
            "inference and tuning exclude one another: keep one, and create a second Workspace for the other",
            ".tuning",
        ),
        Rule(
            "!oldSelf.hasValue() || has(oldSelf.value().inference) == has(oldSelf.value().tuning) || "
            "has(self.inference) == has(oldSelf.value().inference)",
            "inference and tuning cannot be swapped once set; create another Workspace",
            field_path=".inference",
            optional_old_self=True,
        ),
        _never(
            _TUNES_ON_SEVERAL,
            "resource.count: fine-tuning runs on one node; write 1 or leave count out",
            ".resource.count",
        ),
        _never(
            _TUNES_ON_PART,
            "resource.partition: fine-tuning needs whole GPUs; leave partition out",
            ".resource.partition",
        ),
    )

    def problem(self) -> tuple[str, str] | None:
        """Path and sentence of the first thing that no rule would admit today, or None. For stored objects."""
        return first_problem(self.resource, self.inference, self.tuning)


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
