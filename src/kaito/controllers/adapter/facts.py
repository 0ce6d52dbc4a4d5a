"""What an adapter's two files say: adapter_config.json and the header of adapter_model.safetensors.

Pure functions over bytes. Everything is checked as if an enemy wrote it, because anybody can publish an adapter.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

CONFIG_NAME: Final = "adapter_config.json"
WEIGHTS_NAME: Final = "adapter_model.safetensors"
PICKLE_NAME: Final = "adapter_model.bin"

CONFIG_LIMIT: Final = 1 << 20
"""Bytes of adapter_config.json; real ones have one or two thousand."""
HEADER_LIMIT: Final = 16 << 20
"""Bytes of a safetensors header; an adapter of a 70-billion model has about one million."""
WEIGHTS_LIMIT: Final = 32 << 30
"""Bytes of adapter_model.safetensors."""
_TEXT_LIMIT: Final = 512
_MODULES_LIMIT: Final = 256
_DTYPES: Final[Mapping[str, str]] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
}
"""safetensors' names of number formats to PyTorch's."""


class Unreadable(Exception):
    """The adapter cannot be read; the message says which file or path, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the Adapter's status tells. `alpha` is a number as text; `base_model` is the author's own words."""

    digest: str
    size_bytes: int
    base_model: str | None
    rank: int
    alpha: str | None
    target_modules: tuple[str, ...]
    dtype: str
    format: str = "safetensors"


@dataclass(frozen=True, slots=True)
class Weights:
    """The header of a safetensors file. rank: rows of the first lora_A matrix; modules: layers that have one."""

    rank: int
    modules: tuple[str, ...]
    dtype: str


def read_config(content: bytes) -> dict[str, Any]:
    """adapter_config.json as a map. Raises `Unreadable`."""
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{CONFIG_NAME} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise Unreadable(f"{CONFIG_NAME} must hold a JSON object")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise Unreadable(f"{CONFIG_NAME}: peft_type is {_shown(kind)}; only LORA adapters can be served")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 < rank < 1 << 16:
        raise Unreadable(f"{CONFIG_NAME}: r is {_shown(rank)}; it must be the rank, a whole number above 0")
    return config


def read_weights(stream: BinaryIO, size: int) -> Weights:
    """The header of a safetensors file of `size` bytes, read from its start. Raises `Unreadable`."""
    if size > WEIGHTS_LIMIT:
        raise Unreadable(f"{WEIGHTS_NAME} has {size} bytes; at most {WEIGHTS_LIMIT} are read")
    start = stream.read(8)
    if len(start) < 8:
        raise Unreadable(f"{WEIGHTS_NAME} is no safetensors file: it has only {len(start)} bytes")
    length = struct.unpack("<Q", start)[0]
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        raise Unreadable(f"{WEIGHTS_NAME} is no safetensors file: its header claims {length} bytes")
    content = stream.read(length)
    if len(content) < length:
        raise Unreadable(f"{WEIGHTS_NAME} ends in the middle of its header; copy it again")
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{WEIGHTS_NAME}: the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise Unreadable(f"{WEIGHTS_NAME}: the header must be a JSON object")
    header.pop("__metadata__", None)
    end = max((_checked_end(name, tensor) for name, tensor in header.items()), default=0)
    if end + 8 + length != size:
        raise Unreadable(f"{WEIGHTS_NAME} should have {end + 8 + length} bytes and has {size}; copy it again")
    return _lora(header)


def combine(config: Mapping[str, Any], weights: Weights, *, digest: str, size: int) -> Facts:
    """The facts of both files. Raises `Unreadable` where they contradict one another."""
    rank = config["r"]
    if weights.rank != rank and not config.get("rank_pattern"):
        raise Unreadable(
            f"{CONFIG_NAME} says r={rank}, but the matrices of {WEIGHTS_NAME} have rank {weights.rank}"
        )
    base, alpha = config.get("base_model_name_or_path"), config.get("lora_alpha")
    return Facts(
        digest=digest,
        size_bytes=size,
        base_model=_text(base) if isinstance(base, str) and base else None,
        rank=rank,
        alpha=_number(alpha),
        target_modules=weights.modules,
        dtype=weights.dtype,
    )


def _checked_end(name: str, tensor: object) -> int:
    """Offset behind the last byte of a tensor."""
    match tensor:
        case {"dtype": str(), "shape": [*shape], "data_offsets": [int(start), int(end)]} if (
            0 <= start <= end and all(isinstance(size, int) and size >= 0 for size in shape)
        ):
            return end
    raise Unreadable(f"{WEIGHTS_NAME}: the header describes {_shown(name)} wrongly; write the file again")


def _lora(header: Mapping[str, Mapping[str, Any]]) -> Weights:
    matrices = {
        name: tensor for name, tensor in header.items() if ".lora_A." in name or name.endswith(".lora_A")
    }
    if not matrices:
        raise Unreadable(
            f"{WEIGHTS_NAME} holds no LoRA matrices (nothing is named lora_A); is it a whole model?"
        )
    first = next(iter(matrices.values()))
    if not first["shape"]:
        raise Unreadable(f"{WEIGHTS_NAME}: a lora_A matrix has no shape; write the file again")
    modules = sorted({name.split(".lora_A", 1)[0].rsplit(".", 1)[-1] for name in matrices})
    dtype = Counter(str(tensor["dtype"]) for tensor in matrices.values()).most_common(1)[0][0]
    return Weights(
        rank=first["shape"][0],
        modules=tuple(_text(each) for each in modules[:_MODULES_LIMIT]),
        dtype=_DTYPES.get(dtype, _text(dtype.lower())[:32]),
    )


def _text(value: str) -> str:
    """Text that an API server takes: JSON can spell half a character, UTF-8 cannot."""
    return value[:_TEXT_LIMIT].encode("utf-8", "replace").decode("utf-8")


def _number(value: object) -> str | None:
    """A number as text; None for what is none, or is too large to be meant."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return f"{value:g}"
    except OverflowError:
        return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
