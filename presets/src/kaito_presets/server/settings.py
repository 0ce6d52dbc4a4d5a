"""What the command line asks the server to serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaito_presets.adapters import AdapterChoice
from kaito_presets.engines import DEFAULT_ENGINE


@dataclass(frozen=True, slots=True)
class Settings:
    """What to serve, and how. Paths are on this machine (already resolved).

    adapters: empty means every adapter found, at strength 1. max_model_len: tokens of prompt and answer, None is the
    model's own. dtype: auto, float32, float16 or bfloat16.
    """

    preset: str
    served_model_name: str | None
    weights: Path
    adapters_dir: Path
    adapters: tuple[AdapterChoice, ...] = ()
    engine: str = DEFAULT_ENGINE
    max_model_len: int | None = None
    dtype: str = "auto"
