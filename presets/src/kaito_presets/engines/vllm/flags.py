"""Settings of a YAML file as flags of vLLM's command line.

What vLLM takes is in flags.json, read off its own argument parser (hack/vllm/flags.py). Settings may be written with -
or _, nested or with dots, as YAML's own values or, as older ConfigMaps have them, as text.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TRUE = {"true", "True", "TRUE", "yes", ""}
FALSE = {"false", "False", "FALSE", "no"}
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?|[+-]?\.\d+")
_SIZE = re.compile(r"\d+(\.\d+)?[kmgtKMGT]?|auto|-1")


class BadSetting(ValueError):
    """A setting that vLLM would not take. str() is a sentence with the setting's path."""


@dataclass(frozen=True, slots=True)
class Flag:
    """kind: switch (no value), boolean (also as --no-…), integer, number, size (32k), json, json-or-text or text.
    many: "" takes one value, list several after one another, repeat is written once for each."""

    name: str
    kind: str
    many: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlagSet:
    """What one version of vLLM takes."""

    version: str
    flags: Mapping[str, Flag]
    tool_parsers: frozenset[str]
    reasoning_parsers: frozenset[str]

    def nearest(self, name: str) -> str:
        """The flag that is most like `name`, as the end of a sentence; "" when none is."""
        found = difflib.get_close_matches(name, self.flags, n=1, cutoff=0.7)
        return f" Did you mean {found[0]}?" if found else ""


@cache
def known() -> FlagSet:
    """The flags of the version that our image has."""
    document = json.loads((Path(__file__).parent / "flags.json").read_text(encoding="utf-8"))
    flags = {
        name: Flag(name, entry["kind"], entry.get("many", ""), tuple(entry.get("choices", ())))
        for name, entry in document["flags"].items()
    }
    return FlagSet(
        document["vllm"],
        flags,
        frozenset(document["tool_parsers"]),
        frozenset(document["reasoning_parsers"]),
    )


def normalized(settings: Mapping[str, Any], where: str, of: FlagSet) -> dict[str, Any]:
    """The settings by their flags' names: `_` is `-`, and `a.b.c: 1` is a: {b: {c: 1}}.

    `where` is the path that sentences begin with. Raises BadSetting for a name that vLLM does not have, and for one
    that is given twice.
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        head, *rest = str(key).split(".")
        name, wanted = head.replace("_", "-").lstrip("-"), True
        if name not in of.flags and name.startswith("no-") and name[3:] in of.flags:
            name, wanted = name[3:], False
        if name not in of.flags:
            raise BadSetting(f"{where}.{key}: vLLM {of.version} has no such option.{of.nearest(name)}")
        if value is None or not wanted:
            if of.flags[name].kind not in ("boolean", "switch"):
                raise BadSetting(f"{where}.{key} has no value.")
            value = _switched(f"{where}.{key}", value) is wanted
        if not rest:
            if name in found:
                raise BadSetting(f"{where}.{key}: {name} is set twice; keep one of the two.")
            found[name] = value
            continue
        if not of.flags[name].kind.startswith("json"):
            raise BadSetting(f"{where}.{key}: {name} has no parts; write {where}.{name}.")
        place = found.setdefault(name, {})
        for part in rest[:-1]:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict) or rest[-1] in place:
            raise BadSetting(f"{where}.{key}: is set twice; keep one of the two.")
        place[rest[-1]] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """A part of a map that is written as text, as the value that it stands for."""
    if isinstance(value, str) and (value in ("True", "False", "true", "false") or _NUMBER.fullmatch(value)):
        return json.loads(value.lower())
    return value


def rendered(flag: Flag, value: Any, where: str) -> list[str]:
    """The flag with its value as arguments. Raises BadSetting for a value that vLLM would not take."""
    name = f"--{flag.name}"
    if flag.kind in ("switch", "boolean"):
        if _switched(where, value):
            return [name]
        return [f"--no-{flag.name}"] if flag.kind == "boolean" else []
    if flag.many:
        values = [_text(flag, each, where) for each in (value if isinstance(value, list) else [value])]
        if not values:
            raise BadSetting(f"{where} is an empty list.")
        return [f"{name}={each}" for each in values] if flag.many == "repeat" else [name, *values]
    return [f"{name}={_text(flag, value, where)}"]


def _switched(where: str, value: Any) -> bool:
    if value is None or value is True or (isinstance(value, str) and value in TRUE):
        return True
    if value is False or (isinstance(value, str) and value in FALSE):
        return False
    raise BadSetting(f"{where} must be true or false, not {value!r}.")


def _text(flag: Flag, value: Any, where: str) -> str:
    """One value as vLLM reads it."""
    if flag.kind.startswith("json"):
        return _json(flag, value, where)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadSetting(f"{where} must be {_WANTED[flag.kind]}, not {json.dumps(value, default=str)}.")
    text = str(value).strip()
    pattern = _PATTERNS.get(flag.kind)
    if pattern is not None and not pattern.fullmatch(text):
        raise BadSetting(f"{where} must be {_WANTED[flag.kind]}, not {value!r}.")
    if flag.choices and text not in flag.choices:
        raise BadSetting(f"{where} must be one of {', '.join(flag.choices)}, not {value!r}.")
    if not text:
        raise BadSetting(f"{where} is empty.")
    return text


_PATTERNS = {"integer": re.compile(r"[+-]?\d+"), "number": _NUMBER, "size": _SIZE}
_WANTED = {
    "integer": "a whole number",
    "number": "a number",
    "size": "a whole number (32k means 32,000, 32K means 32,768)",
    "text": "one text",
}


def _json(flag: Flag, value: Any, where: str) -> str:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            if flag.kind == "json-or-text":
                return str(value)
            raise BadSetting(f"{where} must be a map, or JSON as text ({error}).") from error
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
