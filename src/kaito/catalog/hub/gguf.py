"""A repository of GGUF files alone as an entry of the catalogue: for mistralrs, on machines without GPUs. Pure.

The hub reads the files' headers itself and tells of them under `gguf`. Which of several files is fetched is decided
where it is fetched, and only there its size is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.catalog.models import Preset


def only_gguf(sizes: Mapping[str, int]) -> bool:
    """Whether of the files (name to bytes) those that hold weights are all GGUF."""
    return any(name.endswith(".gguf") for name in sizes) and not any(
        name.endswith((".safetensors", ".bin")) for name in sizes if "/" not in name
    )


def gguf_preset(entry: Mapping[str, Any], info: Mapping[str, Any]) -> Preset:
    """The entry. entry: what every model of the hub has, by the names of the catalogue. info: the hub's answer.

    Raises pydantic's ValidationError.
    """
    told = info.get("gguf")
    told = told if isinstance(told, dict) else {}
    return Preset(
        **entry,
        parameters=_positive(told.get("total")),
        context_tokens=_positive(told.get("context_length")),
        runtimes=("mistralrs",),
        gpus=0,
    )


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
