"""Gives models that a new transformers has saved the config.json that other engines read.

transformers 5 writes all about rotary embeddings into `rope_parameters`; mistralrs wants `rope_theta` and
`rope_scaling` beside the other settings, as every earlier transformers wrote them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG = "config.json"


def older(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the older settings added; the same where there is nothing to add."""
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope or "rope_theta" in config:
        return config
    kind = rope.get("rope_type", "default")
    beside = {key: value for key, value in rope.items() if key not in ("rope_theta", "partial_rotary_factor")}
    scaling = None if kind == "default" else {**beside, "type": kind}
    added = {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}
    if "partial_rotary_factor" in rope:
        added["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return {**added, **config}


def with_older_config(weights: Path, scratch: Path) -> Path:
    """A directory with the same files, whose config.json has the older settings too: `weights` itself where they are
    there or cannot be read, else `scratch`, which has links to the rest. Raises OSError."""
    path = weights / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return weights  # the engine says what is wrong
    if not isinstance(config, dict) or (found := older(config)) is config:
        return weights
    for each in weights.iterdir():
        if each.name != CONFIG:
            (scratch / each.name).symlink_to(each.absolute())
    (scratch / CONFIG).write_text(json.dumps(found), encoding="utf-8")
    return scratch
