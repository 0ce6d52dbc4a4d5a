"""OpenAPI v3 schemas of builtin types, made from their field tables: names and types, no prose."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.kinds.typetable import NO_DEFAULT, Field, TypeDef

_PREFIX = "io.k8s.api."
_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "bytes": {"type": "string", "format": "byte"},
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intstr": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "fieldsv1": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "atomic"},
}


def openapi_schemas(root: TypeDef) -> tuple[str, dict[str, dict[str, Any]]]:
    """(name of the schema of `root`, that schema and all it refers to by name)."""
    schemas: dict[str, dict[str, Any]] = {}
    _add(root, schemas)
    return _PREFIX + root.name, schemas


def _add(definition: TypeDef, schemas: dict[str, dict[str, Any]]) -> None:
    name = _PREFIX + definition.name
    if name in schemas:
        return
    schema: dict[str, Any] = {"type": "object"}
    schemas[name] = schema
    if definition.atomic:
        schema["x-kubernetes-map-type"] = "atomic"
    if definition.open:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    schema["properties"] = {item.name: _property(item) for item in definition.fields.values()}
    for item in definition.fields.values():
        if item.target is not None:
            _add(item.target, schemas)


def _property(item: Field) -> dict[str, Any]:
    base: dict[str, Any] = (
        {"$ref": f"#/components/schemas/{_PREFIX}{item.base}"} if item.target else _SCALARS[item.base]
    )
    if item.shape == "list":
        result = {"type": "array", "items": base} | _list_extensions(item)
    elif item.shape == "map":
        result = {"type": "object", "additionalProperties": base}
        if item.atomic:
            result["x-kubernetes-map-type"] = "atomic"
    elif item.target is not None and item.retain:
        result = {"allOf": [base], "x-kubernetes-patch-strategy": "retainKeys"}
    else:
        return base if item.target or item.default is NO_DEFAULT else {**base, "default": item.default}
    return result


def _list_extensions(item: Field) -> dict[str, Any]:
    kind = "map" if item.by else "set" if item.is_set else "atomic"
    result: dict[str, Any] = {"x-kubernetes-list-type": kind}
    if item.by:
        result["x-kubernetes-list-map-keys"] = list(item.by)
    if item.patch:
        result["x-kubernetes-patch-strategy"] = "merge,retainKeys" if item.retain else "merge"
        if item.patch != ".":
            result["x-kubernetes-patch-merge-key"] = item.patch
    return result
