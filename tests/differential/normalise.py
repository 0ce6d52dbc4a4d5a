"""Brings answers into a form in which two right servers say the same; the rules are `normalise.yaml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from differential.player import Exchange

_DROP: Final = object()
_RANDOM: Final = 5
"""Characters that the server appends to `generateName`."""

Normal = dict[str, Any]
"""An answer after normalisation: status, type, body, warnings."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the file; see there."""

    path: str
    kind: str = "*"
    value: str = ""
    to: str = ""
    sort: tuple[str, ...] = ()


@cache
def rules() -> tuple[Rule, ...]:
    entries = yaml.safe_load((Path(__file__).parent / "normalise.yaml").read_text())
    return tuple(Rule(**{**entry, "sort": tuple(entry.get("sort", ()))}) for entry in entries)


@cache
def _rules_at(path: str, kind: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules() if fnmatchcase(path, rule.path) and fnmatchcase(kind, rule.kind))


class Normaliser:
    """Normalises the answers of one scenario, in their order: labels count what appeared before."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._labels: dict[str, dict[str, str]] = {}

    def normal(self, exchange: Exchange) -> Normal:
        answer = exchange.answer
        body = answer.body
        names = _generated(body)
        names |= {
            value: f"<{name}>"
            for name, value in exchange.known.items()
            if isinstance(value, str) and len(value) > _RANDOM and not value.isdigit() and "-" in value
        }
        if (isinstance(body, list) and exchange.step.watch) or exchange.step.open:
            body = (
                [self._event(each) for each in body if _said(each)]
                if isinstance(body, list)
                else self._tree(body)
            )
        else:
            body = self._tree(body)
        return {
            "status": answer.status,
            "type": answer.content_type.replace(" ", "").replace(";charset=utf-8", ""),
            "warnings": list(answer.warnings),
            "body": _renamed(body, names),
        }

    def _event(self, event: Any) -> Any:
        """A watch event; a bookmark's object goes by the kind `Bookmark`, because only its version counts."""
        kind = "Bookmark" if event.get("type") == "BOOKMARK" else _kind(event.get("object"))
        return {
            "type": event.get("type"),
            "object": self._value(event.get("object"), "object" if kind == "Bookmark" else "", kind),
        }

    def _tree(self, body: Any) -> Any:
        return self._value(body, "", _kind(body))

    def _value(self, value: Any, path: str, kind: str) -> Any:
        if isinstance(value, dict):
            if path and kind != "Bookmark" and "kind" in value and "apiVersion" in value:
                kind = _kind(value)
            made = {}
            for name, each in value.items():
                result = self._value(each, f"{path}.{name}" if path else name, kind)
                if result is not _DROP:
                    made[name] = result
            return self._ruled(made, path, kind)
        if isinstance(value, list):
            return self._ruled([self._value(each, path, kind) for each in value], path, kind)
        return self._ruled(value, path, kind)

    def _ruled(self, value: Any, path: str, kind: str) -> Any:
        for rule in _rules_at(path, kind):
            if rule.sort:
                if isinstance(value, list):
                    value = sorted(value, key=lambda each: [str(each.get(name, "")) for name in rule.sort])
                continue
            if rule.value and not (isinstance(value, str | int) and re.fullmatch(rule.value, str(value))):
                continue
            if rule.to == "drop":
                return _DROP
            if rule.to == "label":
                labels = self._labels.setdefault(path.rpartition(".")[2], {})
                return labels.setdefault(str(value), f"<{len(labels) + 1}>")
            return rule.to
        return value


def _said(event: Any) -> bool:
    """Whether an event is the server's duty: bookmarks between others come at its own pace, save the one that ends
    the initial events."""
    return event.get("type") != "BOOKMARK" or "initial-events-end" in str(event)


def _kind(body: Any) -> str:
    if not isinstance(body, dict):
        return ""
    return "Version" if "gitVersion" in body else str(body.get("kind", ""))


def _generated(body: Any) -> dict[str, str]:
    """Names that the server made from `generateName` anywhere in a body, with what stands for them."""
    found: dict[str, str] = {}
    if isinstance(body, dict):
        metadata = body.get("metadata")
        if isinstance(metadata, dict):
            prefix, name = metadata.get("generateName"), metadata.get("name")
            if (
                prefix
                and isinstance(name, str)
                and name.startswith(prefix)
                and len(name) == len(prefix) + _RANDOM
            ):
                found[name] = f"{prefix}<random>"
        for each in body.values():
            found |= _generated(each)
    elif isinstance(body, list):
        for each in body:
            found |= _generated(each)
    return found


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if not names:
        return value
    if isinstance(value, str):
        for name, stand_in in names.items():
            value = value.replace(name, stand_in)
        return value
    if isinstance(value, dict):
        return {_renamed(name, names): _renamed(each, names) for name, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return value
