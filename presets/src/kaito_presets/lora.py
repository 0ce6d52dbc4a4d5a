"""LoRA adapters: reading them, checking that they fit the base model, and their sum at given strengths.

An adapter changes a weight W of the base to W + scale·B·A. Engines rarely know a *strength*, so the server hands them
a copy in which it is worked in. Several adapters become one: with the rows of all A and the columns of all
strength·scale·B put side by side, B'·A' is exactly the weighted sum of the single changes. No approximation (such as
an SVD) is made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kaito_presets import tensors
from kaito_presets.adapters import CONFIG_FILE, WEIGHTS_FILE, AdapterChoice, BadAdapter

_KEY = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
#: What PEFT can do beyond plain LoRA, and the value that means "not used". Anything else changes the mathematics.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "lora_bias": (None, False),
    "fan_in_fan_out": (None, False),
    "bias": (None, "none"),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, [], {}),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "arrow_config": (None, {}),
    "monteclora_config": (None, {}),
    "velora_config": (None, {}),
}


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one weight: scale·b·a with a of shape (rank, inputs) and b of shape (outputs, rank)."""

    a: tensors.Array
    b: tensors.Array
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter in memory. `changes` is keyed by the base's module name, e.g. model.layers.0.mlp.down_proj."""

    name: str
    base: str
    changes: Mapping[str, Change] = field(repr=False)

    @property
    def rank(self) -> int:
        """The largest rank of its changes."""
        return max(int(change.a.shape[0]) for change in self.changes.values())


def load(directory: Path, name: str, base_shapes: Mapping[str, tuple[int, ...]] | None) -> Adapter:
    """Reads `directory`/`name` and checks it against the base's weights (`{"x.y.weight": (outputs, inputs)}`).

    `base_shapes` None means that the base can't be inspected; the engine is then left to judge. Raises BadAdapter.
    """
    config = _read_config(directory / name / CONFIG_FILE, name)
    weights = directory / name / WEIGHTS_FILE
    if not weights.is_file():
        other = (
            " (only adapter_model.bin is there: save it again as safetensors)"
            if weights.with_suffix(".bin").is_file()
            else ""
        )
        raise BadAdapter(f"Adapter {name} has no {WEIGHTS_FILE}{other}.")
    try:
        found = tensors.read(weights)
    except tensors.BadTensorFile as error:
        raise BadAdapter(f"Adapter {name}: {error}") from error
    base = str(config.get("base_model_name_or_path") or "an unnamed model")
    changes = _pair(name, found, config)
    if base_shapes is not None:
        _check_fit(name, base, changes, base_shapes)
    return Adapter(name, base, changes)


def _read_config(path: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadAdapter(f"Adapter {name}: {CONFIG_FILE} is not JSON ({error}).") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise BadAdapter(
            f"Adapter {name}: {CONFIG_FILE} says peft_type {kind!r}; only LORA adapters can be served."
        )
    for key, plain in _PLAIN.items():
        if config.get(key) not in plain:
            raise BadAdapter(
                f"Adapter {name}: {CONFIG_FILE} sets {key}, which this engine can't apply exactly."
            )
    if not isinstance(config.get("r"), int) or config["r"] < 1:
        raise BadAdapter(
            f"Adapter {name}: {CONFIG_FILE} has no rank: r must be a whole number of at least 1."
        )
    if not isinstance(config.get("lora_alpha", 8), int | float):
        raise BadAdapter(f"Adapter {name}: lora_alpha in {CONFIG_FILE} must be a number.")
    return config


def _by_pattern(module: str, patterns: Mapping[str, Any] | None, default: float) -> float:
    """PEFT's rule: the first pattern that is the module's name or the end of it, after a dot."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return float(default)


def _pair(name: str, found: Mapping[str, tensors.Array], config: Mapping[str, Any]) -> dict[str, Change]:
    sides: dict[str, dict[str, tensors.Array]] = {}
    for key, value in found.items():
        match = _KEY.match(key)
        if match is None:
            raise BadAdapter(
                f"Adapter {name}: {key} is not a plain LoRA weight, so it can't be applied exactly."
            )
        sides.setdefault(match["module"], {})[match["side"]] = value
    if not sides:
        raise BadAdapter(f"Adapter {name}: {WEIGHTS_FILE} holds no weights.")
    changes = {}
    for module, pair in sides.items():
        if len(pair) != 2:
            raise BadAdapter(f"Adapter {name}: {module} has lora_{next(iter(pair))} but not its counterpart.")
        a, b = pair["A"], pair["B"]
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise BadAdapter(
                f"Adapter {name}: {module} has lora_A {a.shape} and lora_B {b.shape}, whose ranks differ."
            )
        try:
            rank = int(_by_pattern(module, config.get("rank_pattern"), config["r"]))
            alpha = _by_pattern(module, config.get("alpha_pattern"), config.get("lora_alpha", 8))
        except (AttributeError, TypeError, ValueError, OverflowError, re.error) as error:
            raise BadAdapter(
                f"Adapter {name}: {CONFIG_FILE} has a rank, lora_alpha, rank_pattern or alpha_pattern that can't be "
                f"read ({error}); it needs numbers, and regular expressions as keys of the patterns."
            ) from None
        if rank < 1:
            raise BadAdapter(f"Adapter {name}: {CONFIG_FILE} says rank {rank}; a LoRA has at least rank 1.")
        if a.shape[0] != rank:
            raise BadAdapter(
                f"Adapter {name}: {module} has rank {a.shape[0]}, but {CONFIG_FILE} says {rank}."
            )
        changes[module] = Change(a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
    return changes


def _check_fit(
    name: str, base: str, changes: Mapping[str, Change], base_shapes: Mapping[str, tuple[int, ...]]
) -> None:
    for module, change in changes.items():
        shape = base_shapes.get(f"{module}.weight")
        wanted = (change.b.shape[0], change.a.shape[1])
        if shape is None or tuple(shape) != wanted:
            there = "has no such weight" if shape is None else f"has shape {tuple(shape)} there"
            raise BadAdapter(
                f"Adapter {name} does not fit this model: it was trained on {base} and changes {module} of shape "
                f"{wanted}, but the model served here {there}. Serve it with the model it was trained on."
            )


def combine(parts: Iterable[tuple[Adapter, float]]) -> dict[str, Change] | None:
    """Σ strength·change for every weight, each as one change of scale 1; None when nothing is left of it."""
    stacked: dict[str, list[tuple[Change, float]]] = {}
    for adapter, strength in parts:
        if strength != 0.0:
            for module, change in adapter.changes.items():
                stacked.setdefault(module, []).append((change, strength))
    if not stacked:
        return None
    return {
        module: Change(
            np.concatenate([change.a for change, _ in changes], axis=0),
            np.concatenate(
                [change.b * np.float32(change.scale * strength) for change, strength in changes], axis=1
            ),
            1.0,
        )
        for module, changes in stacked.items()
    }


def save(changes: Mapping[str, Change], directory: Path, *, base: str) -> int:
    """Writes changes of scale 1 as a plain PEFT LoRA directory and returns its rank.

    All weights get the same rank (PEFT's `r`); where a change has a smaller one, zeros fill it up.
    """
    rank = max(int(change.a.shape[0]) for change in changes.values())
    out: dict[str, tensors.Array] = {}
    for module, change in changes.items():
        spare = rank - change.a.shape[0]
        out[f"base_model.model.{module}.lora_A.weight"] = np.pad(change.a, ((0, spare), (0, 0)))
        out[f"base_model.model.{module}.lora_B.weight"] = np.pad(
            change.b * np.float32(change.scale), ((0, 0), (0, spare))
        )
    directory.mkdir(parents=True, exist_ok=True)
    tensors.write(directory / WEIGHTS_FILE, out)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({module.rsplit(".", 1)[-1] for module in changes}),
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2), encoding="utf-8")
    return rank


def base_shapes(weights: Path) -> dict[str, tuple[int, ...]] | None:
    """Shapes of a Hugging Face directory's tensors, from the headers alone; None when it has no safetensors (GGUF)."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(weights.glob("*.safetensors")):
        shapes |= {name: info.shape for name, info in tensors.read_header(path)[0].items()}
    return shapes or None


def prepare(
    weights: Path, directory: Path, choices: Sequence[AdapterChoice], combined_key: str | None, out: Path
) -> dict[str, Path]:
    """Writes what the engine loads below `out`: {key: PEFT directory}, strengths worked in.

    Keys are the adapters' names, and `combined_key` (if any) for the sum of all. An adapter of strength 0 gets no
    entry: it changes nothing. Raises BadAdapter, tensors.BadTensorFile for the base's own weights.
    """
    shapes = base_shapes(weights)
    loaded = [(load(directory, choice.name, shapes), choice.strength) for choice in choices]
    parts = [(adapter.name, [(adapter, strength)]) for adapter, strength in loaded]
    if combined_key is not None:
        parts.append((combined_key, loaded))
    directories = {}
    for index, (key, summands) in enumerate(parts):
        changes = combine(summands)
        if changes is not None:
            directories[key] = out / str(index)
            save(changes, directories[key], base=summands[0][0].base)
    return directories
