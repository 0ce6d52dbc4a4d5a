"""Workspace (kaito.sh): what a user asks for. One model stands for v1alpha1 and v1beta1 alike.

A Workspace has no `spec`: resource, inference, tuning and status are at the top level. Nothing that CEL demands is
`required` in the schema, because a schema's "Required value" cannot say what to write instead.

Rules come in two kinds, so that an object stored under older rules still takes status writes and loses its finalizer:
rules of a field are skipped by the API server while that field is unchanged (ratcheting); rules of the root, which
changes with every write, look at the stored object themselves (`optionalOldSelf`) and pass what was already so.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from kaito.api.parts import (
    NAME_LIMIT,
    AdapterSource,
    Conditions,
    DataDestination,
    DataSource,
    Image,
    LabelSelector,
    Name,
    PullSecrets,
)
from kaito.api.workspace_checks import first_problem
from kaito.runtime.crd import (
    AGE,
    Atomic,
    AtomicMap,
    Column,
    CustomObject,
    CustomResource,
    Format,
    ListMap,
    Object,
    Rule,
    Schemaless,
    Version,
    condition_column,
)

MAX_ADAPTERS: Final = 10
MAX_INSTANCE_TYPES: Final = 16

InstanceType = Annotated[str, Field(max_length=128)]
Int32 = Annotated[int, Format("int32")]
_IMMUTABLE: Final = "self == oldSelf"


class Partition(Object):
    """A part of a GPU, on nodes that exist already."""

    mode: Literal["mig", "accelerator"]
    """mig: a slice of a GPU; accelerator: some of a node's GPUs."""
    profile: Annotated[str, Field(max_length=32)] | None = None
    """MIG profile such as 1g.10gb; only in mode mig."""
    count: Annotated[Int32, Field(ge=1)] | None = None
    """GPUs of each node; only in mode accelerator."""

    validations = (
        Rule(
            "self.mode == 'mig' ? has(self.profile) && !has(self.count) : "
            "has(self.count) && !has(self.profile)",
            "partition: write profile (and no count) in mode mig, count (and no profile) in mode accelerator",
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
                "instanceTypes: the same type is there twice; write each once, best first",
                reason="FieldValueDuplicate",
            ),
        ]
        | None
    ) = None
    """Machine sizes to try, best first, instead of instanceType. Types may be added, not taken away."""
    label_selector: (
        Annotated[
            LabelSelector,
            AtomicMap(),
            Rule(_IMMUTABLE, "labelSelector: cannot change; create another Workspace"),
        ]
        | None
    ) = None
    """Labels of the nodes. Existing nodes that carry them may be used; new nodes get them. Cannot change."""
    preferred_nodes: Annotated[list[str], Atomic()] | None = None
    """Names of existing nodes to use before others. Deprecated."""
    partition: (
        Annotated[Partition, Rule(_IMMUTABLE, "partition: cannot change; create another Workspace")] | None
    ) = None
    """A part of a GPU instead of whole ones, on nodes that exist already."""

    validations = (
        Rule(
            "has(self.labelSelector)",
            "resource.labelSelector is missing: write for example `labelSelector: {matchLabels: {apps: my-model}}`",
            field_path=".labelSelector",
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.instanceTypes) || size(self.instanceTypes) == 0 || "
            "!has(self.instanceType) || self.instanceType == ''",
            "resource.instanceTypes and resource.instanceType exclude one another: keep instanceTypes for a list "
            "of sizes to try in order, or instanceType for the only one",
            field_path=".instanceTypes",
        ),
        Rule(
            "!has(oldSelf.instanceType) || oldSelf.instanceType == '' || "
            "(has(self.instanceType) && self.instanceType == oldSelf.instanceType) || "
            "(!has(self.instanceType) && has(self.instanceTypes) && oldSelf.instanceType in self.instanceTypes)",
            "resource.instanceType: cannot change once set; create another Workspace, or write instanceTypes with "
            "this type among them",
            field_path=".instanceType",
        ),
        Rule(
            "!has(oldSelf.instanceTypes) || "
            "oldSelf.instanceTypes.all(t, has(self.instanceTypes) && t in self.instanceTypes)",
            "resource.instanceTypes: types may be added or reordered, not taken away, since nodes of them may run; "
            "create another Workspace",
            field_path=".instanceTypes",
        ),
        Rule(
            "!has(oldSelf.count) || (has(self.count) ? self.count == oldSelf.count : oldSelf.count == 1)",
            "resource.count: cannot change once set; create another Workspace",
            field_path=".count",
        ),
        Rule(
            "has(self.partition) == has(oldSelf.partition)",
            "resource.partition: cannot be added or taken away; create another Workspace",
            field_path=".partition",
        ),
    )

    @property
    def wanted_types(self) -> list[str]:
        """The instance types to try, in order; empty when the user names none."""
        return list(self.instance_types or ([self.instance_type] if self.instance_type else []))


class PresetOptions(Object):
    """Overrides of a preset."""

    image: Image | None = None
    """Image to run instead of the preset's. Deprecated."""
    image_pull_secrets: PullSecrets | None = None
    """Secrets with which that image is pulled. Deprecated."""
    model_access_secret: Annotated[str, Field(max_length=NAME_LIMIT)] | None = None
    """Secret whose key HF_TOKEN lets the model be downloaded."""


class Preset(Object):
    """A model KAITO knows how to run."""

    name: Name
    """Name of the model, such as phi-3-mini-4k-instruct."""
    access_mode: Literal["public", "private"] = "public"
    """Deprecated, without effect."""
    preset_options: PresetOptions | None = None
    """Overrides."""


class AdapterRef(Object):
    """An Adapter object of the same namespace."""

    name: Name
    """Its name."""


class AdapterSpecEntry(Object):
    """One LoRA adapter."""

    source: AdapterSource | None = None
    """Where the adapter is; an Adapter object is made for it."""
    adapter_ref: AdapterRef | None = None
    """An Adapter object that exists already, instead of source."""
    strength: (
        Annotated[
            str,
            Field(max_length=32),
            Rule(
                "self.matches('^[+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$') && "
                "double(self) >= 0.0 && double(self) <= 1.0",
                'strength: write a number from "0" to "1" as text, such as "0.5"',
            ),
        ]
        | None
    ) = None
    """How much the adapter changes the model: a number from 0 to 1 as text; unset: 1.0."""

    validations = (
        Rule(
            "has(self.source) != has(self.adapterRef)",
            "write exactly one of source (where the adapter's files are) and adapterRef (the name of an Adapter)",
        ),
        Rule(
            "!has(self.source) || (has(self.source.name) && self.source.name != '')",
            "source.name is missing: write the adapter's name, such as my-adapter",
            field_path=".source",
            reason="FieldValueRequired",
        ),
    )

    @property
    def name(self) -> str:
        """The adapter's name in the pod: its source's, or that of the Adapter referred to."""
        if self.source is not None:
            return self.source.name or ""
        return self.adapter_ref.name if self.adapter_ref is not None else ""

    @property
    def strength_value(self) -> float:
        """Strength as a number; 1.0 when unset. Raises ValueError for text that is no number."""
        return 1.0 if self.strength is None else float(self.strength)


def _name_of(item: str) -> str:
    return (
        f"(has({item}.source) ? (has({item}.source.name) ? {item}.source.name : '') : "
        f"(has({item}.adapterRef) ? {item}.adapterRef.name : ''))"
    )


class InferenceSpec(Object):
    """A model to serve."""

    preset: (
        Annotated[Preset, Rule(_IMMUTABLE, "inference.preset: cannot change; create another Workspace")]
        | None
    ) = None
    """A model KAITO knows how to run. Cannot change."""
    template: Schemaless | None = None
    """A pod template to run instead of a preset."""
    config: Annotated[str, Field(max_length=NAME_LIMIT)] | None = None
    """ConfigMap of the same namespace with the key inference_config.yaml."""
    adapters: (
        Annotated[
            list[AdapterSpecEntry],
            Atomic(),
            Field(max_length=MAX_ADAPTERS),
            Rule(
                f"self.all(a, {_name_of('a')} == '' || "
                f"self.exists_one(b, {_name_of('b')} == {_name_of('a')}))",
                "adapters: two of them have the same name; give each its own source.name",
                reason="FieldValueDuplicate",
            ),
        ]
        | None
    ) = None
    """LoRA adapters, at most 10."""

    validations = (
        Rule(
            "has(self.preset) || has(self.template)",
            "inference: write preset (a model KAITO knows, such as `preset: {name: phi-3-mini-4k-instruct}`) or "
            "template (a pod template of your own)",
            field_path=".preset",
            reason="FieldValueRequired",
        ),
        Rule(
            "!(has(self.preset) && has(self.template))",
            "inference.preset and inference.template exclude one another: keep one",
            field_path=".template",
        ),
        Rule(
            "has(oldSelf.preset) == has(oldSelf.template) || has(self.preset) == has(oldSelf.preset)",
            "inference: preset and template cannot be swapped once set; create another Workspace",
            field_path=".preset",
        ),
    )


class TuningSpec(Object):
    """A model to fine-tune."""

    preset: (
        Annotated[Preset, Rule(_IMMUTABLE, "tuning.preset: cannot change; create another Workspace")] | None
    ) = None
    """The base model. Cannot change."""
    method: (
        Annotated[
            str,
            Field(max_length=16),
            Rule("self.lowerAscii() in ['lora', 'qlora']", "tuning.method: write lora or qlora"),
            Rule(
                "self.lowerAscii() == oldSelf.lowerAscii()",
                "tuning.method: cannot change; create another Workspace",
            ),
        ]
        | None
    ) = None
    """lora or qlora, in any letter case. Cannot change."""
    config: Annotated[str, Field(max_length=NAME_LIMIT)] | None = None
    """ConfigMap of the same namespace with the key training_config.yaml."""
    input: DataSource | None = None
    """The training data."""
    output: DataDestination | None = None
    """Where the adapter goes."""

    validations = tuple(
        Rule(
            f"has(self.{field})",
            f"tuning.{field} is missing: write {example}",
            field_path=f".{field}",
            reason="FieldValueRequired",
        )
        for field, example in (
            ("preset", "`preset: {name: phi-3-mini-4k-instruct}`"),
            ("method", "`method: lora` or `method: qlora`"),
            ("input", "`input: {urls: [https://…]}`, or input.image or input.volumeSource"),
            (
                "output",
                "`output: {image: REGISTRY/NAME:TAG, imagePushSecret: SECRET}`, or output.volumeSource",
            ),
        )
    )


class NodeStatus(Object):
    """One node of the Workspace: which claim stands for it, and how that goes."""

    slot: Int32
    """Number of the node, from 0."""
    attempt: Int32 | None = None
    """Rises when a claim is gone or has failed for good and another takes its place."""
    claim_name: str | None = None
    """Machine or NodeClaim of the current attempt."""
    claim_uid: Annotated[str | None, Field(alias="claimUID")] = None
    """Its uid."""
    node_name: str | None = None
    """The node, once it has joined."""
    instance_type: str | None = None
    """Machine size of the current attempt."""
    state: str | None = None
    """Pending, Ready or Failed."""
    reason: str | None = None
    """Why, in one word."""
    message: str | None = None
    """What it waits for or why it failed."""
    failed_at: Annotated[str, Format("date-time")] | None = None
    """When the last attempt failed."""


class AdapterUse(Object):
    """One adapter of the Workspace: is it there, and does it fit the model?"""

    name: str
    """Its name in the pod."""
    adapter: str | None = None
    """The Adapter object."""
    state: str | None = None
    """Pending, Ready or Failed."""
    reason: str | None = None
    """Why, in one word."""
    message: str | None = None
    """Why, and what to do."""


class Metric(Object):
    """One measured figure."""

    description: str | None = None
    """What was measured."""
    value: str | None = None
    """The figure."""
    unit: str | None = None
    """Its unit."""
    config: dict[str, str] | None = None
    """Settings it was measured with."""


class Performance(Object):
    """Results of the benchmark at start."""

    metrics: dict[str, Metric] | None = None
    """By name."""


class WorkspaceStatus(Object):
    """What KAITO has done and waits for."""

    conditions: Conditions | None = None
    """ResourceReady, InferenceReady, WorkspaceReady and finer ones."""
    state: str | None = None
    """Pending, Ready, NotReady (inference); Running, Succeeded, Failed (tuning)."""
    reason: str | None = None
    """In one word, why the Workspace is not ready yet; the column REASON."""
    worker_nodes: Annotated[list[str], Atomic()] | None = None
    """Names of the nodes, sorted."""
    nodes: Annotated[list[NodeStatus], ListMap("slot")] | None = None
    """Each node with its claim."""
    adapters: Annotated[list[AdapterUse], ListMap("name")] | None = None
    """Each adapter with the answer to whether it fits."""
    target_node_count: Int32 | None = None
    """How many nodes the model needs."""
    instance_type: str | None = None
    """The machine size in use."""
    endpoint: str | None = None
    """URL at which the model answers."""
    performance: Performance | None = None
    """Results of the benchmark."""
    resolved: Schemaless | None = None
    """What was looked up or chosen once and is kept: it changes only with the fields above."""


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
        return first_problem(self)


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
    categories=("workspace",),
    versions=(
        Version("v1alpha1", Workspace, COLUMNS),
        Version("v1beta1", Workspace, COLUMNS, storage=True),
    ),
)


def labels_of(workspace: Workspace) -> dict[str, str]:
    """Labels that the Workspace's nodes must carry; empty without a selector."""
    resource = workspace.resource
    return resource.label_selector.labels() if resource and resource.label_selector else {}
