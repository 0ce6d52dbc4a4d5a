"""Reading the schema of a CustomResourceDefinition as the typed decoder of Kubernetes would.

Keys that no schema has are dropped and named; values of a wrong type are a 400. What comes out is sound to walk.
"""

from __future__ import annotations

from typing import Any

from kaito.runtime.errors import BadRequest

_TEXT, _FLAG, _COUNT, _NUMBER = (str,), (bool,), (int,), (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("$ref", "$schema", "description", "format", "id", "pattern", "title", "type", "x-kubernetes-list-type",
         "x-kubernetes-map-type"), _TEXT,
    ),
    **dict.fromkeys(
        ("exclusiveMaximum", "exclusiveMinimum", "nullable", "uniqueItems", "x-kubernetes-embedded-resource",
         "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"), _FLAG,
    ),
    **dict.fromkeys(
        ("maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"), _COUNT
    ),
    **dict.fromkeys(("maximum", "minimum", "multipleOf"), _NUMBER),
    **dict.fromkeys(("enum", "required", "x-kubernetes-list-map-keys", "x-kubernetes-validations"), (list,)),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), (list,)),
    **dict.fromkeys(("definitions", "dependencies", "externalDocs", "patternProperties", "properties"), (dict,)),
    "items": (dict, list),
    "not": (dict,),
    "additionalItems": (dict, bool),
    "additionalProperties": (dict, bool),
    "default": (object,),
    "example": (object,),
}  # fmt: skip
_RULE_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("fieldPath", "message", "messageExpression", "reason", "rule"), _TEXT),
    "optionalOldSelf": _FLAG,
}


def read_schema(schema: Any, path: str) -> list[str]:
    """Bring `schema` into a sound form, in place; the paths of dropped keys. Raises `BadRequest`."""
    if not isinstance(schema, dict):
        raise _mismatch(schema, path, "JSONSchemaProps")
    unknown = _read(schema, _TYPES, path)
    for key in ("required", "x-kubernetes-list-map-keys"):
        for item in schema.get(key) or ():
            if not isinstance(item, str):
                raise _mismatch(item, f"{path}.{key}", "string")
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        here = f"{path}.x-kubernetes-validations[{index}]"
        if not isinstance(rule, dict):
            raise _mismatch(rule, here, "ValidationRule")
        unknown += _read(rule, _RULE_TYPES, here)
    for key, child in (schema.get("properties") or {}).items():
        unknown += read_schema(child, f"{path}.properties[{key}]")
    for key in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(key), dict):
            unknown += read_schema(schema[key], f"{path}.{key}")
    for key in ("allOf", "anyOf", "oneOf"):
        for index, child in enumerate(schema.get(key) or ()):
            unknown += read_schema(child, f"{path}.{key}[{index}]")
    return unknown


def _read(value: dict[str, Any], types: dict[str, tuple[type, ...]], path: str) -> list[str]:
    unknown: list[str] = []
    for key in list(value):
        wanted = types.get(key)
        if wanted is None:
            unknown.append(f"{path}.{key}")
            del value[key]
        elif value[key] is None and wanted != (object,):
            del value[key]
        elif not isinstance(value[key], wanted) or (
            isinstance(value[key], bool) and wanted in (_COUNT, _NUMBER)
        ):
            raise _mismatch(value[key], f"{path}.{key}", " or ".join(kind.__name__ for kind in wanted))
    return unknown


def _mismatch(value: Any, path: str, wanted: str) -> BadRequest:
    kind = "CustomResourceDefinition"
    return BadRequest(
        f'{kind} in version "v1" cannot be handled as a {kind}: json: cannot unmarshal {type(value).__name__} into '
        f"Go struct field JSONSchemaProps.{path} of type {wanted}"
    )
