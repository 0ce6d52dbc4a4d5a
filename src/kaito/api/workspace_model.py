"""`inference` and `tuning` of a Workspace: which model, and what to do with it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from kaito.api import sentences
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
from kaito.api.weights import Weights
from kaito.runtime.crd import Atomic, Object, Rule, Schemaless

MAX_ADAPTERS: Final = 10
RESERVED_ADAPTER: Final = "base"
"""Name under which the server answers without any adapter; it refuses to start with an adapter of that name."""
NOT_RESERVED: Final = Rule(f"self != '{RESERVED_ADAPTER}'", sentences.ADAPTER_NAME_RESERVED)


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


class InferencePreset(Preset):
    """A model KAITO knows how to serve."""

    weights: Weights | None = None
    """Weights to serve in place of the preset's own; the rest of the preset stays as it is."""


class AdapterRef(Object):
    """An Adapter object of the same namespace."""

    name: Annotated[Name, NOT_RESERVED]
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
                sentences.ADAPTER_STRENGTH,
            ),
        ]
        | None
    ) = None
    """How much the adapter changes the model: a number from 0 to 1 as text; unset: 1.0."""

    validations = (
        Rule(
            "has(self.source) != has(self.adapterRef)",
            sentences.ADAPTER_SOURCE_OR_REF,
        ),
        Rule(
            f"!has(self.source) || !has(self.source.name) || self.source.name != '{RESERVED_ADAPTER}'",
            sentences.ADAPTER_NAME_RESERVED,
            field_path=".source",
        ),
        Rule(
            "!has(self.source) || (has(self.source.name) && self.source.name != '')",
            sentences.ADAPTER_NAME_MISSING,
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

    preset: Annotated[InferencePreset, Rule(IMMUTABLE, sentences.FIXED)] | None = None
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
                sentences.ADAPTER_NAME_TWICE,
            ),
        ]
        | None
    ) = None
    """LoRA adapters, at most 10."""

    validations = (
        Rule(
            "has(self.preset) || has(self.template)",
            sentences.PRESET_OR_TEMPLATE,
            field_path=".preset",
            reason="FieldValueRequired",
        ),
        Rule(
            "!(has(self.preset) && has(self.template))",
            sentences.PRESET_AND_TEMPLATE,
            field_path=".template",
        ),
        Rule(
            "!(has(self.template) && has(self.adapters) && size(self.adapters) > 0)",
            sentences.ADAPTERS_WITH_TEMPLATE,
            field_path=".adapters",
        ),
        Rule(
            "has(oldSelf.preset) == has(oldSelf.template) || has(self.preset) == has(oldSelf.preset)",
            sentences.PRESET_TEMPLATE_SWAPPED,
            field_path=".preset",
        ),
    )


class TuningSpec(Object):
    """A model to fine-tune."""

    preset: Annotated[Preset, Rule(IMMUTABLE, sentences.FIXED)] | None = None
    """The base model. Cannot change."""
    method: (
        Annotated[
            str,
            Field(max_length=16),
            Rule("self.lowerAscii() in ['lora', 'qlora']", sentences.TUNING_METHOD),
            Rule(
                "self.lowerAscii() == oldSelf.lowerAscii()",
                sentences.FIXED,
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
            sentence,
            field_path=f".{field}",
            reason="FieldValueRequired",
        )
        for field, sentence in (
            ("preset", sentences.TUNING_PRESET),
            ("method", sentences.TUNING_METHOD_MISSING),
            ("input", sentences.TUNING_INPUT),
            ("output", sentences.TUNING_OUTPUT),
        )
    )
