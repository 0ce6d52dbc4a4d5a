"""What the servers in our images take from `inference_config.yaml`, so that a file they refuse buys no node.

vLLM's options are the table that the image's server has (`flags.json`, read off vLLM's own argument parser): their
names, the kind of their values, and for some the values. What only the model or the GPUs can tell is left to sizing and
to the server.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

_IN_WHEEL: Final = Path(__file__).parent / "data" / "vllm-flags.json"
_IN_SOURCE_TREE: Final = (
    Path(__file__).parents[3] / "presets" / "src" / "kaito_presets" / "engines" / "vllm" / "flags.json"
)

ENGINES: Final = ("mistralrs", "transformers", "vllm")
SHARED: Final = ("max-model-len", "max-num-seqs", "max-queued", "dtype", "served-model-name")
"""Settings that mean the same to every server, whatever section they stand in."""
DTYPES: Final = ("auto", "bfloat16", "float", "float16", "float32", "half")
CACHE_SHARE: Final = "kv_cache_cpu_memory_utilization"
LARGEST_CACHE_SHARE: Final = 0.9

OURS: Final = {
    "config": "write the settings into the ConfigMap itself",
    "grpc": "the server speaks HTTP",
    "headless": "the Workspace's nodes decide it",
    "host": "the server listens where the Service looks for it",
    "lora-modules": "name adapters in inference.adapters",
    "master-addr": "the Workspace's nodes decide it",
    "master-port": "the Workspace's nodes decide it",
    "model": "inference.preset names the model",
    "nnodes": "the Workspace's nodes decide it",
    "node-rank": "the Workspace's nodes decide it",
    "port": "the server listens where the Service looks for it",
    "revision": "inference.preset.weights names a revision",
    "uds": "the server listens on a port",
}
"""Options of vLLM that the server sets itself, and what to do instead."""
SHARES: Final = ("gpu-memory-utilization",)
"""Numbers above 0 and at most 1: `gt` and `le` of vLLM's configuration classes."""
COUNTS: Final = ("data-parallel-size", "pipeline-parallel-size", "tensor-parallel-size")
"""Whole numbers from 1: their `ge`."""

TWICE: Final = "{path} is set twice; keep one of the two"
_TRUE: Final = ("true", "True", "TRUE", "yes", "")
_FALSE: Final = ("false", "False", "FALSE", "no")
_PATTERNS: Final = {
    "integer": (re.compile(r"[+-]?\d+"), "a whole number"),
    "number": (re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?|[+-]?\.\d+"), "a number"),
    "size": (re.compile(r"\d+(\.\d+)?[kmgtKMGT]?|auto|-1"), "a whole number, such as 4096 or 32k"),
}
_PARSERS: Final = {"tool-call-parser": "tool-parser-plugin", "reasoning-parser": "reasoning-parser-plugin"}
DIGITS: Final = 18
"""Of a number; one with thousands cannot be written out."""
_SHOWN: Final = 60
"""Characters of a value in a sentence."""


@dataclass(frozen=True, slots=True)
class Option:
    """kind: switch, boolean, integer, number, size, json, json-or-text or text. many: takes a list. choices: the only
    values; none: any."""

    kind: str
    many: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What one version of vLLM takes. parsers: by option, the names that it knows."""

    version: str
    of: Mapping[str, Option]
    parsers: Mapping[str, frozenset[str]]


@cache
def vllm_options() -> Options:
    """Those of the version in our image."""
    path = _IN_WHEEL if _IN_WHEEL.is_file() else _IN_SOURCE_TREE
    document = json.loads(path.read_text(encoding="utf-8"))
    found = {
        name: Option(entry["kind"], bool(entry.get("many")), tuple(entry.get("choices", ())))
        for name, entry in document["flags"].items()
    }
    parsers = {
        "tool-call-parser": frozenset(document["tool_parsers"]),
        "reasoning-parser": frozenset(document["reasoning_parsers"]),
    }
    return Options(document["vllm"], found, parsers)


def fault_in(document: Mapping[Any, Any], engine: str) -> str:
    """The first thing in the file that the engine's server ends with, as a sentence that begins with the key's path and
    has no full stop; "" where there is none."""
    return next(_faults(document, engine), "")


def _faults(document: Mapping[Any, Any], engine: str) -> Iterator[str]:
    for section in sorted((each for each in document if each in ENGINES), key=lambda each: each == engine):
        settings = document[section]
        if settings is None or settings == "":
            continue
        if not isinstance(settings, Mapping):
            yield f"{section} is no mapping; write `{section}: {{max-model-len: 4096}}`"
            continue
        shared = {key: value for key, value in settings.items() if _name(key) in SHARED}
        for key, value in shared.items():
            yield from _shared(f"{section}.{_key(key)}", _name(key), value)
        if section == engine:
            names = [_name(key) for key in shared]
            yield from (TWICE.format(path=f"{section}.{name}") for name in names if names.count(name) > 1)
            if engine == "vllm":
                yield from _vllm({key: settings[key] for key in settings if key not in shared})
    if engine == "vllm" and CACHE_SHARE in document:
        share = _float(document[CACHE_SHARE])
        if share is None or not 0 <= share <= LARGEST_CACHE_SHARE:
            yield (
                f"{CACHE_SHARE} must be a number from 0 to {LARGEST_CACHE_SHARE}, the share of the free memory, not "
                f"{_shown(document[CACHE_SHARE])}"
            )


def _name(key: object) -> str:
    return _text(key).replace("_", "-")


def _key(key: object) -> str:
    """The key as it is written."""
    return _text(key)[:_SHOWN] or "a key that is no text"


def _shared(where: str, name: str, value: object) -> Iterator[str]:
    if name == "dtype":
        if value not in DTYPES:
            yield f"{where} must be one of {', '.join(DTYPES)}, not {_shown(value)}"
    elif name == "served-model-name":
        if not isinstance(value, str) or not value:
            yield f"{where} must be a name, not {_shown(value)}"
    elif not (name == "max-model-len" and value == "auto") and (_whole(value) or 0) < 1:
        auto = ", or auto" if name == "max-model-len" else ""
        yield f"{where} must be a whole number from 1{auto}, not {_shown(value)}"


def _vllm(settings: Mapping[Any, Any]) -> Iterator[str]:
    known, seen = vllm_options(), set[str]()
    for key, value in settings.items():
        where = f"vllm.{_key(key)}"
        head, _, part = _text(key).partition(".")
        name, off = _name(head).lstrip("-"), False
        if name not in known.of and name.startswith("no-"):
            name, off = name[3:], True
        option = known.of.get(name)
        if option is None:
            near = difflib.get_close_matches(_name(head), known.of, n=1, cutoff=0.7)
            yield f"{where}: vLLM {known.version} has no such option" + (
                f"; did you mean {near[0]}?" if near else ""
            )
            continue
        if name in OURS:
            yield f"{where} cannot be set here: {OURS[name]}"
        switch = option.kind in ("switch", "boolean")
        if part and not option.kind.startswith("json"):
            yield f"{where}: {name} has no parts; write vllm.{name}"
        elif off and not switch:
            yield f"{where}: {name} has a value and cannot be turned off"
        elif value is None and not switch:
            yield f"{where} has no value"
        elif not part:
            if name in seen:
                yield TWICE.format(path=f"vllm.{name}")
            seen.add(name)
            yield from _value(where, name, option, value)
    given = {_name(key): value for key, value in settings.items()}
    for name, plugin in _PARSERS.items():
        value, there = given.get(name), known.parsers[name]
        named = isinstance(value, str | int | float) and value
        if named and _text(value) not in there and not given.get(plugin):
            yield f"vllm.{name}: vLLM {known.version} has no {_shown(value)}; it has {', '.join(sorted(there))}"


def _value(where: str, name: str, option: Option, value: Any) -> Iterator[str]:
    if option.kind in ("switch", "boolean"):
        if value is not None and not isinstance(value, bool) and value not in (*_TRUE, *_FALSE):
            yield f"{where} must be true or false, not {_shown(value)}"
        return
    if option.kind.startswith("json"):
        if isinstance(value, str) and option.kind == "json" and not _is_json(value):
            yield f"{where} must be a map, or JSON as text"
        return
    values = value if option.many and isinstance(value, list) else [value]
    if not values:
        yield f"{where} is an empty list"
    for each in values:
        yield from _one(where, name, option, each)


def _one(where: str, name: str, option: Option, value: object) -> Iterator[str]:
    pattern, wanted = _PATTERNS.get(option.kind, (None, "one text"))
    scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    text = _text(value).strip() if scalar else None
    if text is None or (pattern is not None and not pattern.fullmatch(text)):
        yield f"{where} must be {wanted}, not {_shown(value)}"
    elif option.choices and text not in option.choices:
        yield f"{where} must be one of {', '.join(option.choices)}, not {_shown(value)}"
    elif not text:
        yield f"{where} is empty"
    elif name in SHARES and not 0 < float(text) <= 1:
        yield f"{where} must be above 0 and at most 1, not {_shown(value)}"
    elif name in COUNTS and int(text) < 1:
        yield f"{where} must be a whole number from 1, not {_shown(value)}"


def _whole(value: object) -> int | None:
    text = "" if isinstance(value, bool) else _text(value)
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None


def _float(value: object) -> float | None:
    try:
        return None if isinstance(value, bool) else float(_text(value))
    except ValueError:
        return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _text(value: object) -> str:
    """A number with more digits than any setting has is nothing: Python does not even write it out."""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**DIGITS else ""
    return str(value) if isinstance(value, str | float) else ""


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "what is there"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
