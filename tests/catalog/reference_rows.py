"""What the Go KAITO's catalogue says, row by row, as CSV files: facts that ours is held to.

`first_class.csv`: the models that it serves by their hub id. `pinned.csv`: the presets with a recorded commit.
`skus.csv`: machine sizes. Short forms: `~C` is ForCausalLM, `~CG` ForConditionalGeneration; dims are
hidden/layers/heads/kv and then hd (head_dim), kvl (kv_lora_rank), r (rope_head_dim).
"""

from __future__ import annotations

import csv
from pathlib import Path

DIRECTORY = Path(__file__).parent / "reference"


def rows(name: str) -> list[dict[str, str]]:
    with (DIRECTORY / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
