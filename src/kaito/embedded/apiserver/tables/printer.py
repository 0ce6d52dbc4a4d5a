"""How one kind is shown: column headers, and the cells of one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from kaito.embedded.apiserver.jsonpath import compile_path
from kaito.embedded.apiserver.strategy import Column, Object
from kaito.embedded.apiserver.tables.durations import INVALID, age

Cells = list[Any]
CellMaker = Callable[[Object, datetime], Cells]


@dataclass(frozen=True, slots=True)
class Printer:
    """`columns` are TableColumnDefinitions; `cells` gives one value for each of them."""

    columns: list[dict[str, Any]]
    cells: CellMaker


def column(
    name: str, type_: str = "string", *, wide: bool = False, format_: str = "", description: str = ""
) -> dict[str, Any]:
    """A TableColumnDefinition; `wide` columns show only with -o wide."""
    return {
        "name": name,
        "type": type_,
        "format": format_,
        "description": description or name,
        "priority": 1 if wide else 0,
    }


NAME = column("Name", format_="name", description="Name must be unique within a namespace.")
AGE = column("Age", description="Time since creation")


def columns(spec: str) -> list[dict[str, Any]]:
    """Column definitions from names between `|`; before a name `*` marks a wide column, `#` integers, `?` booleans."""
    found = []
    for name in spec.split("|"):
        bare = name.lstrip("*#?")
        if name == "Name":
            found.append(NAME)
        elif bare == "Name":
            found.append({**NAME, "priority": 1})
        else:
            type_ = (
                "boolean"
                if "?" in name
                else "integer"
                if "#" in name
                else "date"
                if bare == "Created At"
                else "string"
            )
            found.append(column(bare, type_, wide="*" in name))
    return found


def name_of(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def age_of(obj: Object, now: datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def dig(obj: Any, *path: str, default: Any = None) -> Any:
    """The value below a path of keys; `default` where it is missing or null."""
    for key in path:
        if not isinstance(obj, dict):
            return default
        obj = obj.get(key)
    return default if obj is None else obj


def joined(values: Sequence[Any], *, none: str = "<none>") -> str:
    return ",".join(str(value) for value in values) or none


def label_text(labels: dict[str, Any] | None) -> str:
    """`a=b,c=d` sorted, `<none>` for none."""
    return joined([f"{key}={value}" for key, value in sorted((labels or {}).items())])


def selector_text(selector: dict[str, Any] | None) -> str:
    """A LabelSelector as text."""
    terms = [f"{key}={value}" for key, value in sorted(dig(selector, "matchLabels", default={}).items())]
    words = {"In": "in", "NotIn": "notin"}
    for each in dig(selector, "matchExpressions", default=[]):
        key, op = each.get("key"), each.get("operator")
        if op in words:
            terms.append(f"{key} {words[op]} ({','.join(sorted(each.get('values') or []))})")
        else:
            terms.append(f"{key}" if op == "Exists" else f"!{key}")
    return joined(terms)


def plain_printer() -> Printer:
    """NAME and AGE, for kinds without columns of their own."""
    return Printer([NAME, AGE], lambda obj, now: [name_of(obj), age_of(obj, now)])


def custom_printer(specs: Sequence[Column]) -> Printer:
    """The additionalPrinterColumns of a custom resource, after its name."""
    if not specs:
        return plain_printer()
    paths = [compile_path(spec.json_path) for spec in specs]
    types = [spec.type for spec in specs]
    definitions = [
        {
            "name": spec.name,
            "type": spec.type,
            "format": spec.format,
            "description": spec.description
            or f"Custom resource definition column (in JSONPath format): {spec.json_path}",
            "priority": spec.priority,
        }
        for spec in specs
    ]

    def cells(obj: Object, now: datetime) -> Cells:
        row: Cells = [name_of(obj)]
        for path, type_ in zip(paths, types, strict=True):
            values = path(obj)
            row.append(custom_cell(type_, values[0], now) if values else None)
        return row

    return Printer([NAME, *definitions], cells)


def custom_cell(type_: str, value: Any, now: datetime) -> Any:
    """A value in a column of that type; None where the value does not fit it."""
    match type_:
        case "string":
            return go_text(value)
        case "integer":
            return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "number":
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return age(value, now) if isinstance(value, str) else INVALID
        case _:
            return None


def go_text(value: Any) -> str:
    """A value as JSONPath prints it: text as it is, maps and lists as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return orjson.dumps(value).decode()
