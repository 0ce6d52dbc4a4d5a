"""What the command line asks the server to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito_presets.adapters import AdapterChoice
from kaito_presets.engines import DEFAULT_ENGINE, DEFAULT_MAX_NUM_SEQS

#: Requests that may wait for their turn, where nothing else is asked for.
DEFAULT_MAX_QUEUED = 256


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What the engine vllm alone reads; None and empty: not asked for.

    preset: NAME=VALUE, what the catalogue says of the model. options: the configuration file's section `vllm`, without
    what all engines know. kv_cache_share: of the node's free memory, for caches that GPUs have no room for; 0: none.
    """

    preset: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    data_parallel_size: int | None = None
    max_lora_rank: int | None = None
    kv_cache_share: float = 0.0
    performance_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What to serve, and how. Paths are on this machine (already resolved).

    adapters: empty means every adapter found, at strength 1. max_model_len: tokens of prompt and answer, None is the
    model's own. dtype: auto, float32, float16 or bfloat16. max_num_seqs: answers computed at the same time.
    max_queued: requests that may wait beside those; one more is refused.
    """

    preset: str
    served_model_name: str | None
    weights: Path
    adapters_dir: Path
    adapters: tuple[AdapterChoice, ...] = ()
    engine: str = DEFAULT_ENGINE
    max_model_len: int | None = None
    dtype: str = "auto"
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    max_queued: int = DEFAULT_MAX_QUEUED
    nodes: int = 1
    rendezvous: str | None = None
    """HOST:PORT, where several nodes that serve one model meet."""
    vllm: VllmSettings = VllmSettings()
