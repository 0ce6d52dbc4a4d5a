"""Holds a directory of weights against what the operator expects of them, before a server loads them for minutes.

What is expected comes as JSON (`kaito-weights --expect`), because the knowledge about architectures is the operator's:

    {"preset": "phi-4", "architecture": "Phi3ForCausalLM", "config": {"hidden_size": 5120},
     "tensors": {"model.layers.*.mlp.down_proj.weight": [5120, null]}}

`*` stands for the number of each layer, null for any number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from kaito_presets.headers import BadTensorFile, read_header_of
from kaito_presets.weights import gguf
from kaito_presets.weights.files import Directory, Files

#: Differences that a sentence lists.
NAMED_AT_MOST: Final = 3
#: Bytes of config.json or of an index; one of a hundred thousand tensors has 10 MB.
MAX_JSON_BYTES: Final = 64 * 1024 * 1024


class Unfit(ValueError):
    """The weights can't be served for this preset. str() is a sentence."""


class _NotJson(Exception):
    """The file is no JSON, or too long to be what its name says."""


@dataclass(frozen=True, slots=True)
class Found:
    """Weights that fit. tensors: how many; None for GGUF. loaded: the files that a server loads."""

    tensors: int | None
    loaded: tuple[str, ...]
    size: int
    """Bytes of `loaded`."""
    quantization: str | None
    """As config.json names the method, or `gguf`; None: at least 16 bits."""


def check(directory: Path, source: str, expected: Mapping[str, Any]) -> str:
    """A sentence about what is there. Raises Unfit. `source`: where the files are from, for sentences."""
    try:
        found = inspect(Directory(directory), source, expected)
    except OSError as error:
        raise Unfit(f"The weights of {source} can't be read: {error}.") from error
    if found.tensors is None:
        return f"{source}: a GGUF file, whose tensors the server checks itself"
    return f"{source}: {found.tensors} tensors, as expected"


def inspect(files: Files, source: str, expected: Mapping[str, Any], *, mistral: bool = False) -> Found:
    """What is there. Raises Unfit, and what `files` raises.

    mistral: of a place with both layouts Mistral's own is loaded.
    """
    names = files.names()
    tensors = _tensors(files, names, source)
    if tensors is None:
        parts = tuple(name for name in names if name.endswith(".gguf"))
        _refuse(_gguf_differences(files, parts, source, expected), source, expected)
        return Found(None, parts, sum(map(files.size, parts)), "gguf")
    config = config_of(files, names, source)
    _refuse(differences(expected, config, tensors), source, expected)
    loaded = _loaded(files, names, source, mistral=mistral)
    return Found(len(tensors), loaded, sum(map(files.size, loaded)), quantization(config))


def check_config(files: Files, source: str, expected: Mapping[str, Any]) -> None:
    """Compares config.json alone, where there is one. Raises Unfit, and what `files` raises."""
    if "config.json" in (names := files.names()):
        config = config_of(files, names, source)
        _refuse(differences({**expected, "tensors": {}}, config, {}), source, expected)


def _refuse(found: Sequence[str], source: str, expected: Mapping[str, Any]) -> None:
    if found:
        more = f", and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
        raise Unfit(
            f"The weights of {source} are not those of a {expected.get('preset', 'model of this kind')}: "
            f"{'; '.join(found[:NAMED_AT_MOST])}{more}. Name the preset that they were made from, or other weights."
        )


def _tensors(files: Files, names: Sequence[str], source: str) -> dict[str, tuple[int, ...]] | None:
    """Name to shape over all files; None for GGUF. Raises Unfit where a file is missing or damaged."""
    parts = [name for name in names if name.endswith(".safetensors")]
    if not parts:
        if any(name.endswith(".gguf") for name in names):
            return None
        raise Unfit(
            f"There are no .safetensors files in {source} (there is: {', '.join(names[:5]) or 'nothing'}). Put "
            "config.json, the tokenizer's files and the weights at the top of it."
        )
    found: dict[str, tuple[int, ...]] = {}
    try:
        for name in parts:
            header, _ = read_header_of(name, files.size(name), partial(files.read, name))
            found |= {tensor: info.shape for tensor, info in header.items()}
    except BadTensorFile as error:
        raise Unfit(f"{source}: {error}") from error
    missing = sorted(_indexed(files, names, source) - set(parts))
    if missing:
        raise Unfit(f"{source} lacks {missing[0]}, which its index names ({len(missing)} in all).")
    return found


def _indexed(files: Files, names: Sequence[str], source: str) -> set[str]:
    """The files that the index names; none where there is no index."""
    if "model.safetensors.index.json" not in names:
        return set()
    try:
        return {str(name) for name in _json(files, "model.safetensors.index.json")["weight_map"].values()}
    except (_NotJson, KeyError, TypeError, AttributeError) as error:
        raise Unfit(f"The weights of {source} can't be read: their index is damaged.") from error


def _loaded(files: Files, names: Sequence[str], source: str, *, mistral: bool) -> tuple[str, ...]:
    """Of the weight files those that a server loads: of two layouts one, and what the index names."""
    tensors = [name for name in names if name.endswith(".safetensors")]
    own = tuple(name for name in tensors if name.startswith("consolidated"))
    rest = tuple(name for name in tensors if name not in own and not name.startswith("adapter"))
    if own and (mistral or not rest):
        return own
    indexed = _indexed(files, names, source)
    return tuple(name for name in rest if name in indexed) or rest or tuple(tensors)


def _gguf_differences(
    files: Files, parts: Sequence[str], source: str, expected: Mapping[str, Any]
) -> list[str]:
    """What the first file (the others are its parts) says of the model, against the preset's numbers."""
    raw = files.read(parts[0], 0, min(files.size(parts[0]), gguf.FIRST_BYTES))
    if raw[:4] != gguf.MAGIC:
        raise Unfit(f"{source}: {parts[0]} is not a GGUF file.")
    return differences({"config": expected.get("config")}, gguf.numbers(raw), {})


def config_of(files: Files, names: Sequence[str], source: str) -> dict[str, Any]:
    """config.json; {} for Mistral's own layout. Raises Unfit."""
    if "config.json" not in names and "params.json" in names:
        return {}  # its engine reads it
    try:
        config = _json(files, "config.json") if "config.json" in names else None
    except _NotJson:
        config = None
    if config is None:
        raise Unfit(f"The config.json of {source} is missing or is not JSON.")
    if not isinstance(config, dict):
        raise Unfit(f"The config.json of {source} is not a JSON object.")
    return config


def _json(files: Files, name: str) -> Any:
    size = files.size(name)
    if size > MAX_JSON_BYTES:
        raise _NotJson
    raw = files.read(name, 0, size)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _NotJson from error


def quantization(config: Mapping[str, Any]) -> str | None:
    """How the weights are stored in fewer bits than 16, in the words of config.json; None where it names nothing."""
    text = config.get("text_config")
    flat = {**text, **config} if isinstance(text, dict) else config
    said = flat.get("quantization_config") or flat.get("compression_config") or flat.get("quantization")
    if not isinstance(said, dict):
        return None
    named = (said.get(key) for key in ("quant_method", "quant_algo", "format", "qformat_weight"))
    return next((each.lower() for each in named if isinstance(each, str)), None)


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
