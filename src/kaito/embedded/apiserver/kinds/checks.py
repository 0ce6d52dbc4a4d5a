"""Small checks that many kinds share; each returns a list of field errors."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import Any

from kaito.embedded.apiserver.kinds import names, quantity
from kaito.embedded.apiserver.strategy import INVALID, NOT_SUPPORTED, REQUIRED, FieldError, Object


def one_of(value: Any, allowed: Collection[str], path: str) -> list[FieldError]:
    """`value` is among `allowed`."""
    if value in allowed:
        return []
    return [FieldError(path, NOT_SUPPORTED, supported(allowed), value)]


def supported(allowed: Iterable[str]) -> str:
    """`supported values: "A", "B"`."""
    return "supported values: " + ", ".join(f'"{item}"' for item in sorted(allowed))


def required(value: Any, path: str, message: str = "") -> list[FieldError]:
    """`value` is there and not empty."""
    return [] if value or value is False or value == 0 else [FieldError(path, REQUIRED, message)]


def syntax(value: str, check: names.Check, path: str) -> list[FieldError]:
    """`value` passes a check of `names`."""
    return [FieldError(path, INVALID, text, value) for text in check(value)]


def required_name(value: Any, check: names.Check, path: str) -> list[FieldError]:
    """`value` is there and passes a check of `names`."""
    return syntax(value, check, path) if value else [FieldError(path, REQUIRED)]


def non_negative(value: Any, path: str) -> list[FieldError]:
    """`value` is absent or at least 0."""
    if value is None or value >= 0:
        return []
    return [FieldError(path, INVALID, "must be greater than or equal to 0", value)]


def in_range(value: Any, low: int, high: int, path: str) -> list[FieldError]:
    """`value` is absent or within bounds."""
    if value is None or low <= value <= high:
        return []
    return [FieldError(path, INVALID, f"must be between {low} and {high}, inclusive", value)]


def port(value: Any, path: str) -> list[FieldError]:
    """A port number or the name of a container's port."""
    if isinstance(value, int):
        return [FieldError(path, INVALID, text, value) for text in names.port_number(value)]
    return [FieldError(path, INVALID, text, value) for text in names.port_name(value or "")]


def int_or_percent(value: Any, path: str, *, most: int | None = None) -> list[FieldError]:
    """A number at least 0, or a percentage (of at most `most`)."""
    if isinstance(value, int):
        return non_negative(value, path)
    if value is None:
        return []
    if value.endswith("%") and value[:-1].isdigit():
        over = most is not None and int(value[:-1]) > most
        return [FieldError(path, INVALID, f"must not be greater than {most}%", value)] if over else []
    text = (
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', "
        "regex used for validation is '[0-9]+%')"
    )
    return [FieldError(path, INVALID, text, value)]


_STANDARD_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def is_extended(name: str) -> bool:
    """Whether a resource is one that is not overcommitted, such as `nvidia.com/gpu`."""
    return "/" in name and "kubernetes.io/" not in name


def resources(value: Object, path: str) -> list[FieldError]:
    """Limits and requests of a container."""
    limits, requests = value.get("limits") or {}, value.get("requests") or {}
    errors: list[FieldError] = []
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            errors += _resource(name, text, f"{path}.{kind}[{name}]", f"{path}.{kind}")
    for name, text in requests.items():
        limit = limits.get(name)
        here = f"{path}.requests"
        if limit is None:
            if is_extended(name):
                errors.append(
                    FieldError(
                        f"{path}.limits", REQUIRED, "Limit must be set for non overcommitable resources"
                    )
                )
        elif is_extended(name) and _value(text) != _value(limit):
            errors.append(FieldError(here, INVALID, f"must be equal to {name} limit of {limit}", text))
        elif _value(text) > _value(limit):
            errors.append(
                FieldError(here, INVALID, f"must be less than or equal to {name} limit of {limit}", text)
            )
    return errors


def _value(text: str) -> Fraction:
    return quantity.parse(text)


def _resource(name: str, text: str, path: str, parent: str) -> list[FieldError]:
    errors = syntax(name, names.qualified_name, parent)
    if "/" not in name and name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
        errors.append(
            FieldError(parent, INVALID, "must be a standard resource type or fully qualified", name)
        )
    amount = _value(text)
    if amount < 0:
        errors.append(FieldError(path, INVALID, "must be greater than or equal to 0", text))
    if is_extended(name) and amount.denominator != 1:
        errors.append(FieldError(path, INVALID, "must be an integer", text))
    return errors
