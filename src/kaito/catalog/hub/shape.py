"""Reads a model's config.json, as Hugging Face transformers and its many authors write it, or Mistral's params.json.

The same thing has several names there; the first that is present counts. What is present must make sense: a number that
is none is refused with its key, since everything that is bought follows from these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import ValidationError

from kaito.catalog.hub.errors import unsupported
from kaito.catalog.models import AttentionLayers, Dimensions, Dtype, Quantization

_NESTED: Final = ("text_config", "llm_config")
_CONTEXT: Final = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "seq_length",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
)
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS: Final = ("num_key_value_heads", "n_head_kv", "n_kv_heads", "num_kv_heads")
_HEAD_DIM: Final = ("head_dim", "attention_head_dim")
_EXPERTS: Final = ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
_DTYPES: Final = ("dtype", "torch_dtype")
_METHOD: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
MOST_LAYERS: Final = 2000
"""No model has a tenth of that, and sizing tries as many stages as there are layers."""
_LARGEST: Final = 2**40
"""Above any number that a config.json has a reason for."""

_KINDS: Final = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "sliding",
    "linear_attention": "recurrent",
    "mamba": "recurrent",
    "mamba2": "recurrent",
    "mlp": "",
    "moe": "",
}
"""What `layer_types` and `layers_block_type` call the layers; "" keeps nothing of a sequence."""
_PATTERN: Final = {"*": "full", "M": "recurrent", "-": "", "E": ""}
"""The same in the letters of `hybrid_override_pattern`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What config.json says of a model."""

    architecture: str | None
    dimensions: Dimensions
    layers: AttentionLayers | None
    context_tokens: int | None
    quantization: Quantization | None
    dtype: Dtype
    experts: bool


def parse_json(raw: bytes, what: str) -> Mapping[str, Any]:
    """A JSON object; NaN and the infinities, which are no JSON, may stand in it. Raises HubError."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise unsupported(f"{what} is not JSON: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise unsupported(f"{what} is no JSON object")
    return found


def read_shape(config: Mapping[str, Any], what: str) -> Shape:
    """Raises HubError with the key that is missing or wrong; `what` names the file and the model."""
    flat = _flat(config)
    layer_kinds = _layer_kinds(flat, what)
    layers = _number(flat, _LAYERS, what) or (len(layer_kinds) if layer_kinds else None)
    hidden, heads = _number(flat, _HIDDEN, what), _number(flat, _HEADS, what)
    if hidden is None or layers is None or heads is None:
        stated = ((hidden, _HIDDEN), (layers, _LAYERS), (heads, _HEADS))
        missing = next(names[0] for value, names in stated if value is None)
        raise unsupported(f"{what} has no {missing}, so the memory that the model needs is not known")
    if layers > MOST_LAYERS:
        raise unsupported(f"{what}: {layers:,} layers are more than the {MOST_LAYERS:,} that are believed")
    rank = _number(flat, ("kv_lora_rank",), what)
    try:
        dimensions = Dimensions(
            hidden_size=hidden,
            layers=layers,
            attention_heads=heads,
            key_value_heads=_number(flat, _KV_HEADS, what)
            or (1 if flat.get("multi_query") is True else heads),
            head_dim=_head_dim(flat, hidden, heads, what),
            kv_lora_rank=rank,
            rope_head_dim=_number(flat, ("qk_rope_head_dim",), what) if rank is not None else None,
        )
        kinds = _attention(layer_kinds, flat, layers, what)
    except ValidationError as error:
        raise unsupported(f"{what}: {error.errors()[0]['msg']}") from None
    return Shape(
        _architecture(config),
        dimensions,
        kinds,
        _number(flat, _CONTEXT, what),
        _quantization(flat, what),
        _dtype(flat),
        any((_number(flat, (name,), what) or 0) > 1 for name in _EXPERTS),
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with what it says of the language model under a key of its own."""
    nested: Mapping[str, Any] = next(
        (config[name] for name in _NESTED if isinstance(config.get(name), dict)), {}
    )
    return {**nested, **{key: value for key, value in config.items() if value is not None}}


def _number(flat: Mapping[str, Any], names: Sequence[str], what: str) -> int | None:
    """The first that is present. Lists (a number for each layer) count as their largest; 0 as absent."""
    for name in names:
        value = flat.get(name)
        if value is None:
            continue
        for each in value if isinstance(value, list) and value else [value]:
            if _whole(each) is None:
                raise unsupported(f"{what}: {name} is {json.dumps(each)[:40]}, and a whole number is needed")
        found = max(_whole(each) or 0 for each in (value if isinstance(value, list) else [value]))
        return found or None
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        return value
    return None


def _head_dim(flat: Mapping[str, Any], hidden: int, heads: int, what: str) -> int | None:
    stated = _number(flat, _HEAD_DIM, what)
    if stated is None and hidden // heads == 0:
        raise unsupported(f"{what}: {heads} attention heads are more than the hidden size {hidden}")
    return None if stated == hidden // heads and hidden % heads == 0 else stated


def _architecture(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    return None


def _layer_kinds(flat: Mapping[str, Any], what: str) -> list[str | None] | None:
    """What each layer is: full, sliding, recurrent, "" for what remembers nothing, None for what is not known here."""
    for name in ("layer_types", "layers_block_type"):
        if isinstance(stated := flat.get(name), list) and stated:
            return [_KINDS.get(each) if isinstance(each, str) else None for each in stated]
    if isinstance(pattern := flat.get("hybrid_override_pattern"), str) and pattern:
        return [_PATTERN.get(each) for each in pattern]
    interval = _number(flat, ("full_attention_interval",), what)
    layers = _number(flat, _LAYERS, what)
    if interval is not None and layers is not None and layers < 100_000:
        return ["full" if (each + 1) % interval == 0 else "recurrent" for each in range(layers)]
    return None


def _attention(
    kinds: Sequence[str | None] | None, flat: Mapping[str, Any], layers: int, what: str
) -> AttentionLayers | None:
    """None: every layer is counted as one that caches all tokens, which is never too little."""
    if kinds is None or None in kinds or len(kinds) != layers:
        return None
    window = _number(flat, ("sliding_window", "attention_chunk_size"), what)
    full, sliding, recurrent = (kinds.count(each) for each in ("full", "sliding", "recurrent"))
    if sliding and window is None:
        full, sliding = full + sliding, 0
    if full == layers:
        return None
    return AttentionLayers(
        full=full, sliding=sliding, window=window if sliding else None, recurrent=recurrent
    )


def quantised_by(config: Mapping[str, Any]) -> str | None:
    """How the weights are stored in fewer bits than 16, in config.json's own word; None where it names nothing."""
    return _method(_stated(_flat(config)))


def _stated(flat: Mapping[str, Any]) -> Mapping[str, Any]:
    stated = flat.get("quantization_config") or flat.get("compression_config") or flat.get("quantization")
    return stated if isinstance(stated, dict) else {}


def _method(stated: Mapping[str, Any]) -> str | None:
    named = (stated.get(name) for name in ("quant_method", "quant_algo", "format", "qformat_weight"))
    return next((each.lower() for each in named if isinstance(each, str)), None)


def _quantization(flat: Mapping[str, Any], what: str) -> Quantization | None:
    stated = _stated(flat)
    if not stated:
        return None
    method = _method(stated)
    if method is None or not _METHOD.fullmatch(method):
        raise unsupported(
            f"{what}: the weights are quantised by {method or 'a method that it does not name'}"
        )
    bits = _whole(stated.get("bits"))
    return Quantization(method=method, bits=bits if bits is not None and 0 < bits < 16 else None)


def _dtype(flat: Mapping[str, Any]) -> Dtype:
    stated = next((flat[name] for name in _DTYPES if isinstance(flat.get(name), str)), "auto")
    for known in get_args(Dtype):
        if stated.removeprefix("torch.") == known:
            return known  # type: ignore[no-any-return] # get_args knows no types
    return "auto"
