"""What OpenAPI in a CRD can say and a Python type cannot: markers for `typing.Annotated`.

Each marker adds `x-kubernetes-*` keys (or a format) to the JSON schema that pydantic makes for the annotated
type. They sit beside a `$ref` rather than inside it, so one class may be used in two places with different
markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

VALIDATIONS: Final = "x-kubernetes-validations"

Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"]

_NUMBER: Final = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
QUANTITY_PATTERN: Final = rf"^(\+|-)?{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_NUMBER}))?$"
"""Syntax of a resource quantity, as every CRD of the Kubernetes project writes it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of `x-kubernetes-validations`.

    On a field: `Annotated[str, Rule("self == oldSelf", "is immutable")]`. On a class: `validations =
    (Rule(...),)`.

    rule: the expression; `self` is the value, `oldSelf` the stored one. A rule that names `oldSelf` runs on
        updates only, unless `optional_old_self` is set: then `oldSelf` is an optional (`hasValue()`,
        `value()`) and the rule runs on creation too.
    message: what is wrong and what to write instead; one line.
    field_path: the field blamed, relative to where the rule stands (".count"); default: where it stands.
    reason: the cause's type in the refusal. With FieldValueDuplicate Kubernetes leaves the message out.
    """

    rule: str
    message: str
    field_path: str | None = None
    reason: Reason = "FieldValueInvalid"
    optional_old_self: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The rule as the API server reads it; `reason` is left out where it is the server's default."""
        entry: dict[str, Any] = {"rule": self.rule, "message": self.message}
        if self.field_path is not None:
            entry["fieldPath"] = self.field_path
        if self.reason != "FieldValueInvalid":
            entry["reason"] = self.reason
        if self.optional_old_self:
            entry["optionalOldSelf"] = True
        return entry

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = dict(handler(core))
        schema[VALIDATIONS] = [*schema.get(VALIDATIONS, ()), self.to_dict()]
        return schema


class _Keys:
    """A marker that adds fixed keys."""

    __slots__ = ("keys",)

    def __init__(self, **keys: Any) -> None:
        self.keys = keys

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(core), **self.keys}


class ListMap(_Keys):
    """A list of objects with a merge key: server-side apply merges it entry by entry, keys are unique."""

    def __init__(self, *keys: str) -> None:
        if not keys:
            raise ValueError("ListMap needs at least one key")
        super().__init__(**{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)})


class ListSet(_Keys):
    """A list of scalars without duplicates, merged by value."""

    def __init__(self) -> None:
        super().__init__(**{"x-kubernetes-list-type": "set"})


class Atomic(_Keys):
    """A list that is replaced as a whole (the API server's default, said aloud)."""

    def __init__(self) -> None:
        super().__init__(**{"x-kubernetes-list-type": "atomic"})


class AtomicMap(_Keys):
    """An object or map that is replaced as a whole."""

    def __init__(self) -> None:
        super().__init__(**{"x-kubernetes-map-type": "atomic"})


class PreserveUnknown(_Keys):
    """An object of any shape: nothing in it is pruned or validated. For `dict[str, Any]`."""

    def __init__(self) -> None:
        super().__init__(**{"x-kubernetes-preserve-unknown-fields": True, "additionalProperties": None})


class IntOrString(_Keys):
    """An integer or a string (ports, percentages). For `int | str`."""

    def __init__(self, pattern: str | None = None) -> None:
        keys: dict[str, Any] = {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        }
        if pattern is not None:
            keys["pattern"] = pattern
        super().__init__(**keys)


class Nullable(_Keys):
    """An explicit null is a value. Without it `X | None` only means that the field may be absent."""

    def __init__(self) -> None:
        super().__init__(nullable=True)


class Format(_Keys):
    """`format` of a number or string: int32, int64, float, double, date-time, byte, …"""

    def __init__(self, format: str) -> None:
        super().__init__(format=format)


def rules(entries: Sequence[Rule]) -> list[dict[str, Any]]:
    """The value of `x-kubernetes-validations`."""
    return [entry.to_dict() for entry in entries]
