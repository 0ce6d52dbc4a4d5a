"""Which LoRA adapters there are, and which are asked for at what strength. (What is in them: lora.py.)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
#: Names that the server gives a meaning of its own.
RESERVED_NAMES = frozenset({"base"})


class BadAdapter(ValueError):
    """An adapter that can't be served. str() is a sentence: which adapter, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class AdapterChoice:
    """What the command line asks for: the directory's name and a strength from 0 (no change) to 1 (as trained)."""

    name: str
    strength: float = 1.0


def parse_choice(text: str) -> AdapterChoice:
    """`NAME=STRENGTH` or `NAME` (strength 1). Raises BadAdapter with a sentence."""
    name, _, strength = text.partition("=")
    if not name or "/" in name or name.startswith("."):
        raise BadAdapter(
            f"--adapter={text}: write NAME=STRENGTH, where NAME is a directory of the adapters directory."
        )
    try:
        value = float(strength or "1")
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise BadAdapter(
            f"--adapter={text}: the strength must be a number from 0 to 1, for example {name}=0.5."
        )
    return AdapterChoice(name, value)


def find(directory: Path) -> list[str]:
    """Names of the subdirectories that hold an adapter_config.json, sorted; [] when there is no such directory."""
    if not directory.is_dir():
        return []
    return sorted(entry.name for entry in directory.iterdir() if (entry / CONFIG_FILE).is_file())


def choose(directory: Path, wanted: Sequence[AdapterChoice]) -> list[AdapterChoice]:
    """`wanted`, or every adapter found at strength 1 when nothing is asked for. Raises BadAdapter: missing, twice."""
    present = find(directory)
    chosen = list(wanted) or [AdapterChoice(name) for name in present]
    seen: set[str] = set()
    for choice in chosen:
        if choice.name in seen:
            raise BadAdapter(f"Adapter {choice.name} is asked for twice; give each adapter one strength.")
        seen.add(choice.name)
        if choice.name in RESERVED_NAMES:
            raise BadAdapter(
                f"An adapter may not be named {choice.name!r}: that name means the model without adapters."
            )
        if choice.name not in present:
            there = ", ".join(present) or "none"
            raise BadAdapter(
                f"Adapter {choice.name} has no {CONFIG_FILE} in the adapters directory (found there: {there}). "
                "Check that its image or volume holds the files that PEFT's save_pretrained() writes."
            )
    return chosen
