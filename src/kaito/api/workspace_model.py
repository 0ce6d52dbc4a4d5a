"""`inference` and `tuning` of a Workspace: which model, and what to do with it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from kaito.api.parts import (
    IMMUTABLE,
    NAME_LIMIT,
    AdapterSource,
    DataDestination,
    DataSource,
    Image,
    Name,
    PullSecrets,
)
from kaito.runtime.crd import Atomic, Object, Rule, Schemaless

MAX_ADAPTERS: Final = 10


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
        Annotated[Preset, Rule(IMMUTABLE, "inference.preset: cannot change; create another Workspace")] | None
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
        Annotated[Preset, Rule(IMMUTABLE, "tuning.preset: cannot change; create another Workspace")] | None
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
