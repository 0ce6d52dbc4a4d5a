"""What the command line asks the server to serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaito_presets.adapters import AdapterChoice
from kaito_presets.engines import DEFAULT_ENGINE, DEFAULT_MAX_NUM_SEQS

#: Requests that may wait for their turn, where nothing else is asked for.
DEFAULT_MAX_QUEUED = 256


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
