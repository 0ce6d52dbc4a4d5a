"""What a PromQL expression asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser

DEFAULTS: Mapping[str, str] = {"__rate_interval": "5m", "__range": "1h", "price": "1"}
"""What is put in place of Grafana's variables; all others become `.*`, as their value "All" does."""
_VARIABLE = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Selector:
    """A metric, and the labels that an expression matches on it or keeps of it."""

    metric: str
    labels: frozenset[str]


def filled_in(expr: str, values: Mapping[str, str] = DEFAULTS) -> str:
    """The expression as Prometheus gets it, with every variable at "All" unless `values` names it."""
    return _VARIABLE.sub(lambda match: values.get(match[1], ".*"), expr)


def selectors(expr: str) -> set[Selector]:
    """Every series selector in the expression.

    Raises:
        ValueError: the expression is no PromQL.
    """
    return set(_walk(promql_parser.parse(expr), frozenset()))


def _walk(node: Any, kept: frozenset[str]) -> Iterator[Selector]:
    """`kept` are the labels that the innermost aggregation around a selector keeps."""
    match node:
        case promql_parser.VectorSelector():
            matched = {matcher.name for matcher in node.matchers.matchers}
            yield Selector(str(node.name), kept | matched)
        case promql_parser.MatrixSelector():
            yield from _walk(node.vector_selector, kept)
        case promql_parser.AggregateExpr():
            grouping = node.modifier
            if grouping is not None and grouping.type == promql_parser.AggModifierType.By:
                kept = frozenset(grouping.labels)
            yield from _walk(node.expr, kept)
        case promql_parser.BinaryExpr():
            yield from _walk(node.lhs, kept)
            yield from _walk(node.rhs, kept)
        case promql_parser.Call():
            for argument in node.args:
                yield from _walk(argument, kept)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from _walk(node.expr, kept)
