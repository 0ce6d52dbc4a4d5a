"""The part of Kubernetes' JSONPath that printer columns use, compiled once per column.

Understood: `.a.b`, `['a.b']`, `.a\\.b`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `.*`, `..name` and filters such as
`[?(@.type=="Ready")]` with ==, !=, <, <=, >, >= or mere existence. Anything else is refused when the column is
compiled, which is when the CustomResourceDefinition is created.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

Step = Callable[[Iterable[Any]], Iterator[Any]]


class JsonPathError(ValueError):
    """The path is not one this server understands."""


_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FILTER: Final = re.compile(
    r"^\?\(\s*@(?P<left>[^=!<>]*?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>.+?)\s*)?\)$"
)
_NAME: Final = re.compile(r"(?:\\.|[^.\[\]\\\s()'\"=!<>~])+")


def _field(name: str) -> Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            if isinstance(value, dict) and name in value:
                yield value[name]

    return step


def _each(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value


def _descend(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield value
        if isinstance(value, dict):
            yield from _descend(value.values())
        elif isinstance(value, list):
            yield from _descend(value)


def _index(start: int | None, stop: int | None, *, single: bool) -> Step:
    def step(values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            if not isinstance(value, list):
                continue
            if not single:
                yield from value[start:stop]
            elif start is not None and -len(value) <= start < len(value):
                yield value[start]

    return step


def _literal(text: str) -> Any:
    if text[:1] in "\"'" and text[-1:] == text[:1] and len(text) > 1:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise JsonPathError(f"cannot read the value {text} in a filter") from None


def _filter(expression: str) -> Step:
    match = _FILTER.match(expression)
    if match is None:
        raise JsonPathError(f"cannot read the filter [{expression}]")
    left = compile_path(match["left"]) if match["left"] else None
    compare = _COMPARE[match["op"]] if match["op"] else None
    right = _literal(match["right"]) if match["op"] else None

    def keeps(item: Any) -> bool:
        found = [item] if left is None else left(item)
        if compare is None:
            return bool(found)
        try:
            return any(compare(value, right) for value in found)
        except TypeError:
            return False

    def step(values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
            yield from (item for item in items if keeps(item))

    return step


def _bracket(inner: str) -> Step:
    if inner == "*":
        return _each
    if inner.startswith("?"):
        return _filter(inner)
    if inner[:1] in ("'", '"') and inner[-1:] == inner[:1] and len(inner) > 1:
        return _field(inner[1:-1])
    start, colon, stop = inner.partition(":")
    try:
        return _index(int(start) if start else None, int(stop) if stop else None, single=not colon)
    except ValueError:
        raise JsonPathError(f"cannot read [{inner}]") from None


def _closing(path: str, start: int) -> int:
    """Index of the bracket that closes the one before `start`, quotes and nesting respected."""
    depth, quote = 1, ""
    for index in range(start, len(path)):
        char = path[index]
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[]":
            depth += 1 if char == "[" else -1
            if depth == 0:
                return index
    raise JsonPathError(f"unterminated [ in {path}")


@lru_cache(maxsize=1024)
def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """A function from an object to the values at a path, in order; no value where the path leads nowhere.

    Raises:
        JsonPathError: the path is not understood.
    """
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = text.removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(text):
        if text[position] == "[":
            end = _closing(text, position + 1)
            steps.append(_bracket(text[position + 1 : end].strip()))
            position = end + 1
            continue
        if text.startswith("..", position):
            steps.append(_descend)
            position += 1
        if text[position] == ".":
            position += 1
            if position == len(text) or text[position] == "[":
                continue
        match = _NAME.match(text, position)
        if match is None:
            raise JsonPathError(f"cannot read {text[position:]!r} in {path}")
        name = re.sub(r"\\(.)", r"\1", match[0])
        steps.append(_each if name == "*" else _field(name))
        position = match.end()

    def evaluate(root: Any) -> list[Any]:
        values: Iterable[Any] = (root,)
        for step in steps:
            values = step(values)
        return list(values)

    return evaluate
