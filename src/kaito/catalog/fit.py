"""Does a LoRA adapter fit a model? A pure answer from facts that somebody else read.

Facts come from the adapter's `adapter_config.json` and the header of its weights. Letters decide where the
base model is named; where it is not (trainers often record a local directory) the shapes have to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kaito.catalog.models import Preset

ARCHITECTURE_MODULES: Final[Mapping[str, frozenset[str]]] = {
    "Phi3ForCausalLM": frozenset({"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
    "LlamaForCausalLM": frozenset(
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    ),
    "MistralForCausalLM": frozenset(
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    ),
    "Qwen2ForCausalLM": frozenset(
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    ),
}
"""Linear layers inside a decoder block, as Hugging Face transformers names them. Others: not checked."""

_OUTSIDE_BLOCKS: Final = frozenset({"lm_head", "embed_tokens"})
_EVERYTHING: Final = frozenset({"all-linear"})
_FLOATS: Final = frozenset({"float16", "bfloat16", "float32", "f16", "bf16", "f32"})


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What is known of an adapter; None: not stated."""

    base_model: str | None = None
    rank: int | None = None
    target_modules: tuple[str, ...] = ()
    dtype: str | None = None

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> AdapterFacts:
        """The facts of an Adapter's status; what has an odd type counts as absent."""
        modules = status.get("targetModules")
        rank = status.get("rank")
        return cls(
            base_model=_text(status.get("baseModel")),
            rank=rank if isinstance(rank, int) and not isinstance(rank, bool) else None,
            target_modules=tuple(str(each) for each in modules)
            if isinstance(modules, Sequence) and not isinstance(modules, str)
            else (),
            dtype=_text(status.get("dtype")),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is CamelCase for machines, `message` is a sentence for people (empty only for a plain yes)."""

    ok: bool
    reason: str
    message: str = ""


def adapter_fits(facts: AdapterFacts, preset: Preset, serving: Preset | None = None) -> Verdict:
    """Whether the adapter can be mounted on the preset.

    `serving` is the preset whose weights really answer, when small stand-in weights take the place of the real
    ones: an adapter made for them fits then, and one made for the real weights cannot be used. Both are said.
    """
    base = serving or preset
    stand_in = serving is not None and serving.name != preset.name
    if not base.lora:
        return Verdict(
            False,
            "AdaptersNotSupported",
            f"{base.name} cannot be served with LoRA adapters; remove the adapter",
        )
    named = _named_base(facts.base_model)
    if named is not None and named not in base.answers_to():
        return _wrong_base(facts.base_model or named, named, preset, base, stand_in)
    shape = _shape(facts, base)
    if shape is not None:
        return shape
    notes = []
    if stand_in:
        notes.append(f"made for the stand-in weights {base.name} that answer in place of {preset.name}")
    if named is None:
        notes.append("the adapter does not say which base model it was trained on; its shape fits")
    unknown = _unknown_modules(facts, base)
    if unknown:
        notes.append(f"{base.architecture} has no {', '.join(unknown)}; those parts have no effect")
    reason = "FitsStandIn" if stand_in and named is not None else "Fits"
    return Verdict(True, reason, "; ".join(notes))


def _wrong_base(stated: str, named: str, preset: Preset, base: Preset, stand_in: bool) -> Verdict:
    if stand_in and named in preset.answers_to():
        return Verdict(
            False,
            "StandInWeights",
            f"the adapter was trained on {stated}, but the stand-in weights {base.name} answer in place of "
            f"{preset.name}; serve the real weights, or use an adapter made for {base.name}",
        )
    return Verdict(
        False,
        "BaseModelMismatch",
        f"the adapter was trained on {stated}, but this Workspace serves {base.repo or base.name}; "
        "choose the preset of that model, or an adapter trained on this one",
    )


def _shape(facts: AdapterFacts, base: Preset) -> Verdict | None:
    """The first thing about rank, modules or dtype that cannot work, or None."""
    if facts.rank is not None and facts.rank < 1:
        return Verdict(False, "InvalidRank", f"the adapter's rank is {facts.rank}; a LoRA has rank 1 or more")
    if facts.rank is not None and base.dimensions is not None and facts.rank > base.dimensions.hidden_size:
        return Verdict(
            False,
            "InvalidRank",
            f"the adapter's rank {facts.rank} is above the hidden size {base.dimensions.hidden_size} of "
            f"{base.name}: it was made for a larger model",
        )
    if facts.dtype is not None and facts.dtype.lower().removeprefix("torch.") not in _FLOATS:
        return Verdict(
            False,
            "UnsupportedDtype",
            f"the adapter's weights are {facts.dtype}; save it as float16, bfloat16 or float32",
        )
    modules = _modules(facts)
    known = ARCHITECTURE_MODULES.get(base.architecture or "")
    if known is not None and modules and not modules & (known | _OUTSIDE_BLOCKS | _EVERYTHING):
        return Verdict(
            False,
            "TargetModulesMismatch",
            f"the adapter changes {', '.join(sorted(modules))}; {base.name} ({base.architecture}) has "
            f"{', '.join(sorted(known))}",
        )
    return None


def _modules(facts: AdapterFacts) -> frozenset[str]:
    """Last parts of the module names: `model.layers.0.self_attn.o_proj` is `o_proj`."""
    return frozenset(each.rsplit(".", 1)[-1] for each in facts.target_modules if each)


def _unknown_modules(facts: AdapterFacts, base: Preset) -> list[str]:
    known = ARCHITECTURE_MODULES.get(base.architecture or "")
    return sorted(_modules(facts) - known - _OUTSIDE_BLOCKS - _EVERYTHING) if known is not None else []


def _named_base(stated: str | None) -> str | None:
    """The base model in lower case; None where missing or a path, which names nothing elsewhere."""
    if stated is None or stated.startswith(("/", ".", "~")) or "\\" in stated:
        return None
    return stated.rstrip("/").lower() or None


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
