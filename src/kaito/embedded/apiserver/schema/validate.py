"""Validating values against structural schemas, with the wording of the Go server."""

from __future__ import annotations

import math
from typing import Any

from kaito.embedded.apiserver.schema.node import Node
from kaito.embedded.apiserver.strategy import (
    DUPLICATE,
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    FieldError,
    go_value,
)

ABSENT = object()
"""There is no old value to compare with."""
TYPE_REASON = "FieldValueTypeInvalid"


def validate(node: Node, value: Any, old: Any, path: str, errors: list[FieldError]) -> None:
    """Append what is wrong with `value` at `path`.

    What is equal to `old` passes, however wrong it is: rules may be tightened after objects were stored.
    """
    if old is not ABSENT and value == old:
        return
    if value is None:
        if not node.nullable and node.type:
            errors.append(_type_error(node, value, path))
        return
    if not _has_type(node, value):
        errors.append(_type_error(node, value, path))
        _check_enum(node, value, path, errors)
        return
    if isinstance(value, dict):
        _validate_object(node, value, old, path, errors)
    elif isinstance(value, list):
        _validate_list(node, value, old, path, errors)
    if node.checks:
        _check(node, value, path, errors)


def _has_type(node: Node, value: Any) -> bool:
    if node.int_or_string:
        return isinstance(value, (int, str)) and not isinstance(value, bool)
    kind = node.type
    if not kind:
        return True
    if kind == "string":
        return isinstance(value, str)
    if kind == "object":
        return isinstance(value, dict)
    if kind == "array":
        return isinstance(value, list)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _type_error(node: Node, value: Any, path: str) -> FieldError:
    wanted = "integer,string" if node.int_or_string else node.type
    given = _type_name(value)
    message = f'{path} in body must be of type {wanted}: "{given}"'
    return FieldError(path, INVALID, message, given, TYPE_REASON)


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) else "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _validate_object(
    node: Node, value: dict[str, Any], old: Any, path: str, errors: list[FieldError]
) -> None:
    prefix = f"{path}." if path else ""
    errors.extend(FieldError(prefix + name, REQUIRED) for name in node.required if name not in value)
    if node.embedded:
        errors.extend(
            FieldError(prefix + name, REQUIRED, "must not be empty")
            for name in ("apiVersion", "kind")
            if not value.get(name) and name not in node.required
        )
    properties, additional = node.properties, node.additional
    if not properties and additional is None:
        return
    before = old if isinstance(old, dict) else None
    for key, item in value.items():
        child = properties.get(key) or additional
        if child is not None:
            previous = ABSENT if before is None else before.get(key, ABSENT)
            validate(child, item, previous, prefix + key, errors)


def _validate_list(node: Node, value: list[Any], old: Any, path: str, errors: list[FieldError]) -> None:
    if node.items is None:
        return
    before = keyed(node, old) if isinstance(old, list) and node.list_type == "map" else {}
    for index, item in enumerate(value):
        previous = before.get(key_of(node, item) or (), ABSENT) if before else ABSENT
        validate(node.items, item, previous, f"{path}[{index}]", errors)


def key_of(node: Node, item: Any) -> tuple[Any, ...] | None:
    """The identity of an element of a map list, or None if it has none."""
    if not isinstance(item, dict):
        return None
    key = tuple(item.get(name) for name in node.map_keys)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def keyed(node: Node, values: list[Any]) -> dict[tuple[Any, ...], Any]:
    """Elements of a map list by their identity."""
    return {key: item for item in values if (key := key_of(node, item)) is not None}


def _check(node: Node, value: Any, path: str, errors: list[FieldError]) -> None:
    _check_enum(node, value, path, errors)
    _check_value(node, value, path, errors)


def _check_enum(node: Node, value: Any, path: str, errors: list[FieldError]) -> None:
    if node.enum is not None and not any(_same(value, item) for item in node.enum):
        allowed = ", ".join(item if isinstance(item, str) else go_value(item) for item in node.enum)
        listed = ", ".join(f'"{item if isinstance(item, str) else go_value(item)}"' for item in node.enum)
        if allowed:
            errors.append(FieldError(path, NOT_SUPPORTED, f"supported values: {listed}", value))


def _check_value(node: Node, value: Any, path: str, errors: list[FieldError]) -> None:
    if isinstance(value, str):
        _check_string(node, value, path, errors)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(node, value, path, errors)
    elif isinstance(value, (list, dict)) and node.limits:
        _check_size(node, value, path, errors)
    if node.format_check and not node.format_check(value):
        shown = value if isinstance(value, str) else go_value(value)
        errors.append(
            FieldError(path, INVALID, f'{path} in body must be of type {node.format}: "{shown}"', value)
        )
    if node.one_of or node.any_of or node.all_of or node.not_:
        _check_junctions(node, value, path, errors)


def _same(left: Any, right: Any) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def _check_string(node: Node, value: str, path: str, errors: list[FieldError]) -> None:
    low, high = node.limits.get("minLength"), node.limits.get("maxLength")
    if low is not None and len(value) < low:
        errors.append(FieldError(path, INVALID, f"{path} in body should be at least {low} chars long", value))
    if high is not None and len(value) > high:
        unit = "byte" if high == 1 else "bytes"
        errors.append(FieldError(path, TOO_LONG, f"may not be more than {high} {unit}"))
    if node.pattern and not node.pattern.search(value):
        message = f"{path} in body should match '{node.pattern_text}'"
        errors.append(FieldError(path, INVALID, message, value))


def _check_number(node: Node, value: float, path: str, errors: list[FieldError]) -> None:
    low, high = node.limits.get("minimum"), node.limits.get("maximum")
    if low is not None and (value < low or (node.exclusive_minimum and value == low)):
        words = "greater than" if node.exclusive_minimum else "greater than or equal to"
        errors.append(FieldError(path, INVALID, f"{path} in body should be {words} {low}", value))
    if high is not None and (value > high or (node.exclusive_maximum and value == high)):
        words = "less than" if node.exclusive_maximum else "less than or equal to"
        errors.append(FieldError(path, INVALID, f"{path} in body should be {words} {high}", value))
    step = node.limits.get("multipleOf")
    if step and not math.isclose(value / step, round(value / step), abs_tol=1e-9):
        errors.append(FieldError(path, INVALID, f"{path} in body should be a multiple of {step}", value))


def _check_size(node: Node, value: Any, path: str, errors: list[FieldError]) -> None:
    suffix, noun = ("Items", "items") if isinstance(value, list) else ("Properties", "properties")
    low, high = node.limits.get(f"min{suffix}"), node.limits.get(f"max{suffix}")
    size = len(value)
    if low is not None and size < low:
        errors.append(FieldError(path, INVALID, f"{path} in body should have at least {low} {noun}", size))
    if high is not None and size > high:
        unit = "item" if high == 1 else "items"
        errors.append(FieldError(path, TOO_MANY, f"must have at most {high} {unit}", size))


def _branch(node: Node, value: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    validate(node, value, ABSENT, path, errors)
    return errors


def _shortest(results: list[list[FieldError]]) -> list[FieldError]:
    best = results[0]
    for errors in results[1:]:
        if len(errors) < len(best):
            best = errors
    return best


def _check_junctions(node: Node, value: Any, path: str, errors: list[FieldError]) -> None:
    name = f'"{path}"'
    if node.any_of:
        results: list[list[FieldError]] = [_branch(item, value, path) for item in node.any_of]
        if all(results):
            errors.append(FieldError(path, INVALID, f"{name} must validate at least one schema (anyOf)", ""))
            errors += _shortest(results)
    if node.one_of:
        results = [_branch(item, value, path) for item in node.one_of]
        valid = sum(not result for result in results)
        if valid != 1:
            found = "Found none valid" if not valid else f"Found {valid} valid alternatives"
            message = f"{name} must validate one and only one schema (oneOf). {found}"
            errors.append(FieldError(path, INVALID, message, ""))
            if not valid:
                errors += _shortest(results)
    if node.all_of:
        results = [_branch(item, value, path) for item in node.all_of]
        if any(results):
            errors.append(FieldError(path, INVALID, f"{name} must validate all the schemas (allOf)", ""))
            errors.extend(error for result in results for error in result)
    if node.not_ and not _branch(node.not_, value, path):
        errors.append(FieldError(path, INVALID, f"{name} must not validate the schema (not)", ""))


def validate_list_types(node: Node, value: Any, path: str, errors: list[FieldError]) -> None:
    """Elements of sets and map lists occur once."""
    if isinstance(value, dict):
        for key, item in value.items():
            child = node.properties.get(key) or node.additional
            if child is not None and child.has_list_types:
                validate_list_types(child, item, f"{path}.{key}" if path else key, errors)
    elif isinstance(value, list):
        if node.list_type in ("set", "map"):
            _check_unique(node, value, path, errors)
        if node.items is not None and node.items.has_list_types:
            for index, item in enumerate(value):
                validate_list_types(node.items, item, f"{path}[{index}]", errors)


def _check_unique(node: Node, value: list[Any], path: str, errors: list[FieldError]) -> None:
    seen: list[Any] = []
    for index, item in enumerate(value):
        shown = item
        if node.list_type == "map":
            if not isinstance(item, dict):
                text = "must be an object for an array of list-type map"
                errors.append(FieldError(f"{path}[{index}]", INVALID, text, item))
                continue
            shown = {name: item[name] for name in node.map_keys if name in item}
        if shown in seen:
            errors.append(FieldError(f"{path}[{index}]", DUPLICATE, "", shown))
        else:
            seen.append(shown)
