"""Holds a directory of weights against what the operator expects of them, before a server loads them for minutes.

What is expected comes as JSON (`kaito-weights --expect`), because the knowledge about architectures is the operator's:

    {"preset": "phi-4", "architecture": "Phi3ForCausalLM", "config": {"hidden_size": 5120},
     "tensors": {"model.layers.*.mlp.down_proj.weight": [5120, null]}}

`*` stands for the number of each layer, null for any number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaito_presets.headers import BadTensorFile, read_header

#: Differences that a sentence lists.
NAMED_AT_MOST = 3


class Unfit(ValueError):
    """The weights can't be served for this preset. str() is a sentence."""


def check(directory: Path, source: str, expected: Mapping[str, Any]) -> str:
    """A sentence about what is there. Raises Unfit. `source`: where the files are from, for sentences."""
    tensors = _tensors(directory, source)
    if tensors is None:
        return f"{source}: a GGUF file, whose tensors the server checks itself"
    found = differences(expected, _config(directory, source), tensors)
    if found:
        more = f", and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
        raise Unfit(
            f"The weights of {source} are not those of a {expected.get('preset', 'model of this kind')}: "
            f"{'; '.join(found[:NAMED_AT_MOST])}{more}. Name the preset that they were made from, or other weights."
        )
    return f"{source}: {len(tensors)} tensors, as expected"


def _tensors(directory: Path, source: str) -> dict[str, tuple[int, ...]] | None:
    """Name to shape over all files; None for GGUF. Raises Unfit where a file is missing or damaged."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        if any(directory.glob("*.gguf")):
            return None
        held = ", ".join(sorted(path.name for path in directory.iterdir())[:5]) if directory.is_dir() else ""
        raise Unfit(
            f"There are no .safetensors files in {source} (there is: {held or 'nothing'}). Put config.json, the "
            "tokenizer's files and the weights at the top of it."
        )
    found: dict[str, tuple[int, ...]] = {}
    try:
        for path in files:
            found |= {name: info.shape for name, info in read_header(path)[0].items()}
        index = directory / "model.safetensors.index.json"
        if index.is_file():
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            missing = sorted(named - {path.name for path in files})
            if missing:
                raise Unfit(f"{source} lacks {missing[0]}, which its index names ({len(missing)} in all).")
    except BadTensorFile as error:
        raise Unfit(f"{source}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit(f"The weights of {source} can't be read: {error}.") from error
    return found


def _config(directory: Path, source: str) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file() and (directory / "params.json").is_file():
        return {}  # Mistral's own format: its engine reads it
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unfit(f"The config.json of {source} is missing or is not JSON.") from error
    if not isinstance(config, dict):
        raise Unfit(f"The config.json of {source} is not a JSON object.")
    return config


def differences(
    expected: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, Sequence[int]]
) -> list[str]:
    """How weights differ from what is expected, in words. Without a config only what it says is not compared."""
    text = config.get("text_config")
    flat = {**text, **config} if isinstance(text, dict) else dict(config)
    found = []
    names, wanted = config.get("architectures"), expected.get("architecture")
    if wanted is not None and isinstance(names, list) and wanted not in names:
        found.append(f"the architecture is {', '.join(map(str, names)) or 'not named'}, not {wanted}")
    numbers: Mapping[str, int] = expected.get("config") or {}
    for key, number in numbers.items():
        if isinstance(flat.get(key), int) and flat[key] != number:
            found.append(f"{key} is {flat[key]}, not {number}")
    if found or not config:
        return found
    quantised = bool(flat.get("quantization_config"))
    for pattern, shape in (expected.get("tensors") or {}).items():
        if not (quantised and "_proj." in pattern):
            found += _difference(pattern, shape, numbers.get("num_hidden_layers", 0), tensors)
    return found


def _difference(
    pattern: str, shape: Sequence[int | None], layers: int, tensors: Mapping[str, Sequence[int]]
) -> list[str]:
    names = [pattern.replace("*", str(layer)) for layer in range(layers)] if "*" in pattern else [pattern]
    for name in names:
        has = tensors.get(name)
        if has is None:
            return [f"there is no tensor {name}"]
        if len(has) != len(shape) or any(
            want is not None and want != got for want, got in zip(shape, has, strict=True)
        ):
            return [f"{name} has the shape {_shown(has)}, not {_shown(shape)}"]
    return []


def _shown(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if each is None else str(each) for each in shape)
