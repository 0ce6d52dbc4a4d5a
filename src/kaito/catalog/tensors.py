"""What the weights of a preset look like: names and shapes of tensors, and what config.json has to say.

Follows from the architecture and its dimensions, so weights of somebody's own fine-tuning can be held against it from a
few kilobytes: config.json and the headers of the safetensors files. Names are those of the `transformers` library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kaito.catalog.models import Dimensions, Preset

Shape = tuple[int | None, ...]
"""None: any number, such as the size of the vocabulary, which fine-tuning may change."""

EACH_LAYER: Final = "*"
"""Stands for the number of each layer in a name."""
NAMED_AT_MOST: Final = 3
"""Differences that a sentence lists."""

_SPLIT: Final = frozenset(
    {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"}
)
"""Architectures with a projection each for query, key, value, gate and up."""
_FUSED: Final = frozenset({"Phi3ForCausalLM"})
"""Architectures with one for query, key and value, and one for gate and up."""


def expected_tensors(preset: Preset) -> Mapping[str, Shape]:
    """Tensors that every copy of the preset has; empty for an architecture whose names are not recorded here."""
    dims = preset.dimensions
    if dims is None or dims.kv_lora_rank is not None or preset.architecture not in _SPLIT | _FUSED:
        return {}
    layer = f"model.layers.{EACH_LAYER}."
    hidden, queries = dims.hidden_size, dims.attention_heads * dims.head_size
    keys = dims.key_value_heads * dims.head_size
    shapes: dict[str, Shape] = {
        "model.embed_tokens.weight": (None, hidden),
        "model.norm.weight": (hidden,),
        f"{layer}input_layernorm.weight": (hidden,),
        f"{layer}self_attn.o_proj.weight": (hidden, queries),
        f"{layer}mlp.down_proj.weight": (hidden, None),
    }
    if preset.architecture in _FUSED:
        shapes[f"{layer}self_attn.qkv_proj.weight"] = (queries + 2 * keys, hidden)
        shapes[f"{layer}mlp.gate_up_proj.weight"] = (None, hidden)
        return shapes
    shapes[f"{layer}self_attn.q_proj.weight"] = (queries, hidden)
    shapes[f"{layer}self_attn.k_proj.weight"] = (keys, hidden)
    shapes[f"{layer}self_attn.v_proj.weight"] = (keys, hidden)
    shapes[f"{layer}mlp.gate_proj.weight"] = (None, hidden)
    shapes[f"{layer}mlp.up_proj.weight"] = (None, hidden)
    return shapes


def expected_config(preset: Preset) -> Mapping[str, int]:
    """Numbers that config.json has, where it has them at all, by its own keys."""
    dims = preset.dimensions
    return {} if dims is None else _numbers(dims)


def _numbers(dims: Dimensions) -> Mapping[str, int]:
    return {
        "hidden_size": dims.hidden_size,
        "num_hidden_layers": dims.layers,
        "num_attention_heads": dims.attention_heads,
        "num_key_value_heads": dims.key_value_heads,
    }


def expectation(preset: Preset) -> dict[str, Any]:
    """All of it as JSON, for a program that knows nothing of the catalogue (`kaito-weights --expect`)."""
    found: dict[str, Any] = {"preset": preset.name}
    if preset.architecture is not None:
        found["architecture"] = preset.architecture
    if preset.dimensions is not None:
        found["config"] = dict(expected_config(preset))
        found["tensors"] = {name: list(shape) for name, shape in expected_tensors(preset).items()}
    return found


def differences(preset: Preset, config: Mapping[str, Any], tensors: Mapping[str, Sequence[int]]) -> list[str]:
    """How weights differ from the preset's, in words; [] where they can be served in their place.

    config: config.json. tensors: name to shape, of all files together; empty where they could not be read. Weights
    that were quantised have other tensors in the place of their projections, which are then not looked at.
    """
    text = config.get("text_config")
    flat = {**text, **config} if isinstance(text, dict) else dict(config)
    found: list[str] = []
    names = config.get("architectures")
    if preset.architecture is not None and isinstance(names, list) and preset.architecture not in names:
        found.append(
            f"the architecture is {', '.join(map(str, names)) or 'not named'}, not {preset.architecture}"
        )
    for key, wanted in expected_config(preset).items():
        if isinstance(flat.get(key), int) and flat[key] != wanted:
            found.append(f"{key} is {flat[key]}, not {wanted}")
    if found or not tensors:
        return found
    quantised = bool(flat.get("quantization_config"))
    layers = preset.dimensions.layers if preset.dimensions is not None else 0
    for pattern, shape in expected_tensors(preset).items():
        if quantised and "_proj." in pattern:
            continue
        found += _tensor_differences(pattern, shape, layers, tensors)
    return found


def _tensor_differences(
    pattern: str, shape: Shape, layers: int, tensors: Mapping[str, Sequence[int]]
) -> list[str]:
    names = [pattern.replace(EACH_LAYER, str(layer)) for layer in range(layers)]
    for name in names if EACH_LAYER in pattern else [pattern]:
        has = tensors.get(name)
        if has is None:
            return [f"there is no tensor {name}"]
        if len(has) != len(shape) or any(
            want is not None and want != got for want, got in zip(shape, has, strict=True)
        ):
            return [f"{name} has the shape {_shown(has)}, not {_shown(shape)}"]
    return []


def _shown(shape: Sequence[int | None]) -> str:
    return " x ".join("…" if each is None else str(each) for each in shape)


def mismatch(source: str, preset: Preset, found: Sequence[str]) -> str:
    """What to tell whoever named weights that differ so."""
    more = f", and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
    return (
        f"the weights of {source} are not those of a {preset.name}: {'; '.join(found[:NAMED_AT_MOST])}{more}; name the "
        "preset that they were made from, or other weights"
    )
