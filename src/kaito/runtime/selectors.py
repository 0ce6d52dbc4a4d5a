"""Label and field selectors: parsing and matching.

The same grammar that the API server reads in `labelSelector=` and `fieldSelector=` query parameters, so that
listers can answer from memory what the server would answer over the network, and servers can use it as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias


class SelectorError(ValueError):
    """The text is not a selector; the message says where it goes wrong."""


class Operator(StrEnum):
    """How a requirement compares; the values are those of `matchExpressions[].operator`."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


Check: TypeAlias = Callable[[Mapping[str, str]], bool]
"""Whether these labels fit."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `values` is empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None
            case _:
                return value is not None and self._compares(value)

    def compiled(self) -> Check:
        """`matches` with everything looked up beforehand that does not depend on the labels."""
        key, values = self.key, self.values
        match self.operator:
            case Operator.IN if len(values) == 1:
                (wanted,) = values
                return lambda labels: labels.get(key) == wanted
            case Operator.IN:
                return lambda labels: labels.get(key) in values
            case Operator.NOT_IN:
                return lambda labels: labels.get(key) not in values
            case Operator.EXISTS:
                return lambda labels: key in labels
            case Operator.DOES_NOT_EXIST:
                return lambda labels: key not in labels
            case _:
                return self.matches

    def _compares(self, value: str) -> bool:
        try:
            left, right = int(value), int(next(iter(self.values)))
        except ValueError:
            return False
        return left > right if self.operator is Operator.GREATER else left < right


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that must all hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def compiled(self) -> Check:
        """`matches` for many objects: several times as fast."""
        checks = [requirement.compiled() for requirement in self.requirements]
        if len(checks) == 1:
            return checks[0]
        if len(checks) == 2:
            first, second = checks
            return lambda labels: first(labels) and second(labels)
        return lambda labels: all(check(labels) for check in checks)

    def __str__(self) -> str:
        return ",".join(_requirement_text(requirement) for requirement in self.requirements)


EVERYTHING = LabelSelector()

_NAME = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)"
_KEY = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"{_NAME}?")
_TOKEN = re.compile(r"\s*(?:(?P<op>==|!=|=|!|>|<|,|\(|\))|(?P<word>[^\s=!<>,()]+))")
_SET_OPERATORS = {"in": Operator.IN, "notin": Operator.NOT_IN}


def _requirement_text(requirement: Requirement) -> str:
    key, values = requirement.key, sorted(requirement.values)
    match requirement.operator:
        case Operator.EXISTS:
            return key
        case Operator.DOES_NOT_EXIST:
            return f"!{key}"
        case Operator.GREATER:
            return f"{key}>{values[0]}"
        case Operator.LESS:
            return f"{key}<{values[0]}"
        case Operator.IN if len(values) == 1:
            return f"{key}={values[0]}"
        case Operator.NOT_IN if len(values) == 1:
            return f"{key}!={values[0]}"
        case operator:
            return f"{key} {'in' if operator is Operator.IN else 'notin'} ({','.join(values)})"


class _LabelParser:
    """Recursive descent over the tokens of one label selector."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            assert match is not None  # the two alternatives cover every character
            self.tokens.append(match.group("op") or match.group("word"))
            position = match.end()
        self.position = 0

    def fail(self, wanted: str) -> SelectorError:
        found = repr(self.peek()) if self.peek() else "the end"
        return SelectorError(f"label selector {self.text!r}: expected {wanted}, found {found}")

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def key(self) -> str:
        if not _KEY.fullmatch(self.peek()):
            raise self.fail("a label name")
        return self.take()

    def value(self) -> str:
        if self.peek() in ("", ",", ")"):
            return ""
        if not _VALUE.fullmatch(self.peek()):
            raise self.fail("a label value")
        return self.take()

    def value_set(self) -> frozenset[str]:
        if self.take() != "(":
            self.position -= 1
            raise self.fail("'('")
        values = {self.value()}
        while self.peek() == ",":
            self.take()
            values.add(self.value())
        if self.peek() != ")":
            raise self.fail("',' or ')'")
        self.take()
        return frozenset(values)

    def requirement(self) -> Requirement:
        if self.peek() == "!":
            self.take()
            return Requirement(self.key(), Operator.DOES_NOT_EXIST)
        key = self.key()
        operator = self.peek()
        if operator in ("", ","):
            return Requirement(key, Operator.EXISTS)
        if operator in _SET_OPERATORS:
            self.take()
            return Requirement(key, _SET_OPERATORS[operator], self.value_set())
        if operator in ("=", "==", "!="):
            self.take()
            return Requirement(
                key, Operator.NOT_IN if operator == "!=" else Operator.IN, frozenset((self.value(),))
            )
        if operator in (">", "<"):
            self.take()
            if not re.fullmatch(r"-?\d+", self.peek()):
                raise self.fail("an integer")
            return Requirement(
                key, Operator.GREATER if operator == ">" else Operator.LESS, frozenset((self.take(),))
            )
        raise self.fail("one of = == != in notin > < or ','")

    def parse(self) -> LabelSelector:
        requirements: list[Requirement] = []
        while self.peek():
            requirements.append(self.requirement())
            if not self.peek():
                break
            if self.take() != ",":
                self.position -= 1
                raise self.fail("','")
            if not self.peek():
                raise self.fail("a label name")
        return LabelSelector(tuple(requirements))


@lru_cache(maxsize=256)
def parse_label_selector(text: str) -> LabelSelector:
    """Read `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1`. Empty text selects everything.

    Raises SelectorError.
    """
    return _LabelParser(text).parse()


def label_selector(selector: Mapping[str, Any] | str | LabelSelector | None) -> LabelSelector:
    """A selector from any form callers have at hand.

    Text is parsed; a map of strings means equality with each; a map with `matchLabels` or `matchExpressions`
    is the API's LabelSelector object; None selects everything. Raises SelectorError.
    """
    if selector is None:
        return EVERYTHING
    if isinstance(selector, LabelSelector):
        return selector
    if isinstance(selector, str):
        return parse_label_selector(selector)
    if isinstance(selector.get("matchLabels"), Mapping) or isinstance(selector.get("matchExpressions"), list):
        return LabelSelector(
            (
                *_equalities(selector.get("matchLabels") or {}),
                *_expressions(selector.get("matchExpressions") or ()),
            )
        )
    return LabelSelector(tuple(_equalities(selector)))


def _equalities(labels: Mapping[str, Any]) -> Iterable[Requirement]:
    return [Requirement(key, Operator.IN, frozenset((str(value),))) for key, value in labels.items()]


def _expressions(expressions: Iterable[Mapping[str, Any]]) -> Iterable[Requirement]:
    for index, expression in enumerate(expressions):
        try:
            operator = Operator(expression["operator"])
            values = frozenset(str(value) for value in expression.get("values") or ())
            needs_values = operator not in (Operator.EXISTS, Operator.DOES_NOT_EXIST)
            if needs_values != bool(values):
                wanted = "needs at least one" if needs_values else "takes none"
                raise SelectorError(f"matchExpressions[{index}].values: {operator} {wanted}")
            yield Requirement(str(expression["key"]), operator, values)
        except KeyError as error:
            raise SelectorError(f"matchExpressions[{index}]: {error.args[0]} is missing") from None
        except ValueError as error:
            if isinstance(error, SelectorError):
                raise
            raise SelectorError(
                f"matchExpressions[{index}].operator: {expression['operator']!r} is not one of "
                f"{', '.join(Operator)}"
            ) from None


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One field compared with one value; `equal` is False for `!=`."""

    path: str
    value: str
    equal: bool = True


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Field requirements that must all hold; none at all selects everything."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, lookup: Callable[[str], str]) -> bool:
        """`lookup(path)` gives a field's value as text, "" when it is absent."""
        return all((lookup(each.path) == each.value) == each.equal for each in self.requirements)

    def matches_object(self, tree: Mapping[str, Any]) -> bool:
        """Match against a decoded object."""
        return self.matches(lambda path: field_text(tree, path))


def field_text(tree: Mapping[str, Any], path: str) -> str:
    """The value at a dotted path as field selectors see it: absent is "", booleans are true and false."""
    value: Any = tree
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_FIELD_TERM = re.compile(r"(?P<path>[^=!,\\]+)(?P<op>==|=|!=)(?P<value>(?:\\.|[^\\,=])*)")


@lru_cache(maxsize=256)
def parse_field_selector(text: str) -> FieldSelector:
    r"""Read `metadata.name=x,spec.nodeName!=y`; `\,`, `\=` and `\\` stand for themselves in values.

    Raises SelectorError.
    """
    requirements: list[FieldRequirement] = []
    position = 0
    while position < len(text):
        match = _FIELD_TERM.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise SelectorError(
                f"field selector {text!r}: expected FIELD=VALUE or FIELD!=VALUE at {text[position:]!r}"
            )
        value = re.sub(r"\\(.)", r"\1", match.group("value"))
        requirements.append(FieldRequirement(match.group("path").strip(), value, match.group("op") != "!="))
        position = match.end() + 1
    return FieldSelector(tuple(requirements))
