"""What a user's `inference_config.yaml` says of things that sizing decides: there it wins over the plan.

The file is the engine's and is read in full by the server. Here it is looked at once for each version of the ConfigMap,
so that caches need not keep it: what sizing needs of it, why no server could read it, and what each engine's server
would end with (`faults`). No node is bought for a file with which the server does not start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml

from kaito.catalog.models import Dtype, Runtime
from kaito.catalog.options import ENGINES, fault_in

CONFIG_FILE: Final = "inference_config.yaml"
LARGEST: Final = 64_000
"""Characters of a file that is looked into."""
DEEPEST: Final = 100
"""Brackets that it may open."""
DIGITS: Final = 9
"""Of a number; one with thousands cannot even be written out."""
NUMBERS: Final = {
    "max-model-len": "context",
    "tensor-parallel-size": "tensor",
    "pipeline-parallel-size": "pipeline",
    "data-parallel-size": "data",
}
DTYPES: Final = {"half": "float16", "float": "float32"} | {
    name: name for name in ("float16", "bfloat16", "float32")
}
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNREADABLE: Final = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file asks for; None: nothing."""

    context: int | None = None
    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    dtype: Dtype | None = None


NOTHING_SAID: Final = Settings()


def settings_in(text: object) -> dict[str, dict[str, Any]]:
    """By engine, the keys of the file that matter here, with their values; empty for what cannot be read."""
    document, _ = _read(text)
    if not isinstance(document, Mapping):
        return {}
    found = {}
    for engine in ENGINES:
        section = document.get(engine)
        if not isinstance(section, Mapping):
            continue
        kept = {
            name: value
            for key, each in section.items()
            if (name := str(key).replace("_", "-")) in (*NUMBERS, "dtype")
            and (value := _value(name, each)) is not None
        }
        if kept:
            found[engine] = kept
    return found


def unreadable(text: object) -> str:
    """Why no server can read the file, as what follows its name; "" where one can, or where it is not looked into."""
    document, fault = _read(text)
    if fault or document is None or isinstance(document, Mapping):
        return fault
    return "is no mapping; write `vllm: {max-model-len: 4096}`"


def faults(text: object) -> dict[str, str]:
    """By engine, the first thing in the file that its server would end with; engines without one are left out."""
    document, _ = _read(text)
    if not isinstance(document, Mapping):
        return {}
    return {engine: fault for engine in ENGINES if (fault := fault_in(document, engine))}


def _read(text: object) -> tuple[Any, str]:
    """What the file holds, None for nothing or where it is not looked into; and why it is no YAML."""
    if not isinstance(text, str) or len(text) > LARGEST or text.count("[") + text.count("{") > DEEPEST:
        return None, ""
    try:
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, Loader=_LOADER)):
            return None, ""  # a few lines of aliases can stand for gigabytes
        return yaml.load(text, Loader=_LOADER), ""
    except _UNREADABLE as error:
        place = getattr(error, "problem_mark", None)
        return None, "is not YAML" + (f" (line {place.line + 1})" if place is not None else "")


def settings_of(found: Mapping[str, Mapping[str, Any]], runtime: Runtime) -> Settings:
    """What `settings_in` found, for one engine: what others are told counts where it is told nothing."""
    merged: dict[str, Any] = {}
    for engine in sorted(found, key=lambda name: name == runtime):
        merged |= found[engine]
    numbers = {field: merged.get(name) for name, field in NUMBERS.items()}
    return Settings(**numbers, dtype=cast("Dtype | None", merged.get("dtype")))


def _value(name: str, value: object) -> int | str | None:
    if name == "dtype":
        return DTYPES.get(value) if isinstance(value, str) else None
    if isinstance(value, str) and len(value) <= DIGITS and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value < 10**DIGITS else None
