"""From pydantic's JSON schema to the structural OpenAPI v3 schema that a CRD must carry.

pydantic writes `$ref`s, `title`s, `anyOf` with null and draft-2020 keywords; a CRD knows none of them. What
cannot be said structurally (unions, tuples, recursion) is refused here with the path, not by the API server
later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from kaito.runtime.crd.markers import VALIDATIONS

Schema = dict[str, Any]

FORMATS: Final = frozenset(
    {
        "bsonobjectid", "byte", "cidr", "creditcard", "date", "date-time", "datetime", "double", "duration",
        "email", "float", "hexcolor", "hostname", "int32", "int64", "ipv4", "ipv6", "isbn", "isbn10",
        "isbn13", "k8s-long-name", "k8s-short-name", "mac", "password", "rgbcolor", "ssn", "uri", "uuid",
        "uuid3", "uuid4", "uuid5",
    }
)  # fmt: skip
"""Formats the API server knows (apiextensions, supportedV1Formats); it ignores others, so they are refused
here."""

_KEPT: Final = frozenset(
    {
        "default", "description", "enum", "example", "exclusiveMaximum", "exclusiveMinimum", "format",
        "maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties",
        "minimum", "multipleOf", "nullable", "pattern", "required", "type", VALIDATIONS,
        "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-preserve-unknown-fields",
    }
)  # fmt: skip
_DROPPED: Final = frozenset(
    {
        "$defs",
        "$ref",
        "title",
        "anyOf",
        "const",
        "properties",
        "items",
        "additionalProperties",
        "uniqueItems",
        "examples",
    }
)


class CrdError(ValueError):
    """A model that a CRD cannot express; the message names the field's path."""


def schema_of(model: type[BaseModel]) -> Schema:
    """The structural schema of one model. Raises `CrdError`."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _Converter(document.get("$defs", {})).convert(document, "", ())


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self.definitions = definitions

    def convert(self, node: Any, path: str, stack: tuple[str, ...]) -> Schema:
        node, stack = self.resolved(node, path, stack)
        if unknown := set(node) - _KEPT - _DROPPED:
            raise CrdError(f"{path or '.'}: a structural schema cannot say {', '.join(sorted(unknown))}; "
                           "use one model with optional fields and a Rule")  # fmt: skip
        out: Schema = {key: value for key, value in node.items() if key in _KEPT}
        if out.get("default", ...) is None:
            del out["default"]
        self._scalars(node, out, path)
        if node.get("x-kubernetes-int-or-string"):
            out.pop("type", None)
            return {**out, "anyOf": [{"type": "integer"}, {"type": "string"}]}
        if "anyOf" in node:
            raise CrdError(f"{path or '.'}: a union of types; use IntOrString, or one model and a Rule")
        if node.get("x-kubernetes-preserve-unknown-fields"):
            out["type"] = "object"
            return out
        match out.get("type"):
            case "object":
                self._object(node, out, path, stack)
            case "array":
                self._array(node, out, path, stack)
            case "string" | "integer" | "number" | "boolean":
                pass
            case other:
                raise CrdError(
                    f"{path or '.'}: type {other!r}; say the type, or use Schemaless for any object"
                )
        return out

    def resolved(self, node: Any, path: str, stack: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """The node with `$ref` and the null of an optional taken away, keys beside them laid over."""
        if not isinstance(node, dict):
            raise CrdError(
                f"{path or '.'}: anything goes here; say the type, or use Schemaless for any object"
            )
        while True:
            if "$ref" in node:
                name = str(node["$ref"]).rsplit("/", 1)[-1]
                if name in stack:
                    raise CrdError(f"{path or '.'}: {name} contains itself; a CRD schema cannot be recursive")
                node, stack = _laid_over(self.definitions[name], node, "$ref"), (*stack, name)
                continue
            branches = node.get("anyOf")
            if branches and not node.get("x-kubernetes-int-or-string"):
                real = [branch for branch in branches if branch.get("type") != "null"]
                if len(real) == 1:
                    node = _laid_over(real[0], node, "anyOf")
                    continue
            return node, stack

    def _scalars(self, node: Schema, out: Schema, path: str) -> None:
        if "const" in node:
            out["enum"] = [node["const"]]
        for bound, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if isinstance(out.get(bound), (int, float)) and not isinstance(out[bound], bool):
                out[plain], out[bound] = out[bound], True
        if "format" in out and out["format"] not in FORMATS:
            raise CrdError(f"{path or '.'}: the API server knows no format {out['format']!r}")

    def _object(self, node: Schema, out: Schema, path: str, stack: tuple[str, ...]) -> None:
        if "properties" in node:
            out["properties"] = {
                name: self.convert(child, f"{path}.{name}", stack)
                for name, child in node["properties"].items()
            }
            return
        values = node.get("additionalProperties")
        if isinstance(values, dict) and values:
            out["additionalProperties"] = self.convert(values, f"{path}.*", stack)
        elif values is not False and "additionalProperties" in node:
            raise CrdError(f"{path or '.'}: a map of anything; use Schemaless, or say the values' type")

    def _array(self, node: Schema, out: Schema, path: str, stack: tuple[str, ...]) -> None:
        if node.get("uniqueItems"):
            out["x-kubernetes-list-type"] = "set"
        out["items"] = self.convert(node.get("items"), f"{path}[*]", stack)


def _laid_over(base: Schema, over: Schema, without: str) -> Schema:
    merged = {**base, **{key: value for key, value in over.items() if key != without}}
    if VALIDATIONS in base and VALIDATIONS in over:
        merged[VALIDATIONS] = [*base[VALIDATIONS], *over[VALIDATIONS]]
    return merged
