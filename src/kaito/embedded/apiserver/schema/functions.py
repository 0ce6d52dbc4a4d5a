"""CEL functions of Kubernetes that the CEL library does not bring along."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from cel import stdlib

from kaito.embedded.apiserver.schema.formats import compile_pattern


def _find(text: str, pattern: str) -> str:
    match = compile_pattern(pattern).search(text)
    return match.group(0) if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match.group(0) for match in compile_pattern(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


def _is_sorted(values: list[Any]) -> bool:
    return all(left <= right for left, right in pairwise(values))


def _index_of(values: Any, item: Any, start: int = 0) -> int:
    if isinstance(values, str):
        return values.find(item, start)
    return values.index(item) if item in values else -1


def _last_index_of(values: Any, item: Any) -> int:
    if isinstance(values, str):
        return values.rfind(item)
    return len(values) - 1 - values[::-1].index(item) if item in values else -1


def _sum(values: list[Any]) -> Any:
    return sum(values)


def _min(values: list[Any]) -> Any:
    return min(values)


def _max(values: list[Any]) -> Any:
    return max(values)


EXTENSIONS: dict[str, Callable[..., Any]] = {
    "find": _find,
    "findAll": _find_all,
    "isSorted": _is_sorted,
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "sum": _sum,
    "min": _min,
    "max": _max,
    "charAt": stdlib.char_at,
    "lowerAscii": stdlib.lower_ascii,
    "upperAscii": stdlib.upper_ascii,
    "replace": stdlib.replace,
    "split": stdlib.split,
    "substring": stdlib.substring,
    "trim": stdlib.trim,
    "join": stdlib.join,
}
"""Functions by name; a method call passes its receiver first."""

NATIVE = frozenset(
    (
        "size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bytes", "bool",
        "type", "dyn", "duration", "timestamp", "getFullYear", "getMonth", "getDate", "getDayOfMonth",
        "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds", "of", "none",
        "ofNonZeroValue", "hasValue", "value", "orValue", "or",
    )
)  # fmt: skip
"""Functions that the CEL library has itself."""

TYPE_NAMES = frozenset(
    ("int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type", "optional")
)
"""Identifiers that stand for types or name spaces, not variables."""
