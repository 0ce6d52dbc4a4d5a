"""Whether an OpenAPI schema is structural: the conditions a CustomResourceDefinition must meet."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.schema.formats import compile_pattern
from kaito.embedded.apiserver.schema.node import Node, prune
from kaito.embedded.apiserver.schema.rules import REASONS, RuleSet
from kaito.embedded.apiserver.schema.validate import ABSENT, validate
from kaito.embedded.apiserver.strategy import FORBIDDEN, INVALID, NOT_SUPPORTED, REQUIRED, FieldError

Schema = dict[str, Any]
TYPES = ("array", "boolean", "integer", "number", "object", "string")
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_UNSUPPORTED = (
    "$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties",
)  # fmt: skip
_NOT_IN_JUNCTORS = (
    "additionalProperties", "default", "description", "nullable", "title", "type", "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
)  # fmt: skip


def check_schema(schema: Schema, path: str) -> list[FieldError]:
    """Why `schema` (the root of one version) cannot be used; empty when it can."""
    errors = _check(schema, path, "root")
    if schema.get("nullable"):
        errors.append(FieldError(f"{path}.nullable", FORBIDDEN, "nullable cannot be true at the root"))
    if errors:
        return errors
    node = Node(schema)
    _check_defaults(schema, node, path, errors)
    for below, problem in RuleSet(node).problems:
        errors.append(FieldError(path + below, INVALID, problem, _at(schema, below)))
    return errors


def _at(schema: Any, below: str) -> Any:
    return below.rsplit(".", 1)[-1] if schema else ""


def _check(schema: Schema, path: str, level: str) -> list[FieldError]:
    errors: list[FieldError] = []
    errors += [
        FieldError(f"{path}.{key}", FORBIDDEN, f"{key} is not supported")
        for key in _UNSUPPORTED
        if key in schema
    ]
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(FieldError(f"{path}.uniqueItems", FORBIDDEN, text))
    errors += _check_type(schema, path, level)
    errors += _check_extensions(schema, path)
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    if properties and additional is not None:
        text = "additionalProperties and properties are mutual exclusive"
        errors.append(FieldError(f"{path}.additionalProperties", FORBIDDEN, text))
    if additional is not None and level == "root":
        errors.append(FieldError(f"{path}.additionalProperties", FORBIDDEN, "must not be used at the root"))
    if additional is False:
        text = "additionalProperties cannot be set to false"
        errors.append(FieldError(f"{path}.additionalProperties", FORBIDDEN, text))
    errors += _check_metadata(schema, path, level)
    errors += _check_pattern(schema, path)
    for key, child in properties.items():
        if level == "root" and key == "metadata":
            continue
        errors += _check(child, f"{path}.properties[{key}]", "field")
    if isinstance(additional, dict):
        errors += _check(additional, f"{path}.additionalProperties", "field")
    items = schema.get("items")
    if isinstance(items, list):
        text = "items must be a schema object and not an array"
        errors.append(FieldError(f"{path}.items", FORBIDDEN, text))
    elif items is not None:
        errors += _check(items, f"{path}.items", "item")
    elif schema.get("type") == "array":
        errors.append(FieldError(f"{path}.items", REQUIRED, "must be specified"))
    return errors + _check_rule_forms(schema, path) + _check_junctors(schema, path)


def _check_type(schema: Schema, path: str, level: str) -> list[FieldError]:
    kind = schema.get("type", "")
    if kind and kind not in TYPES:
        listed = ", ".join(f'"{name}"' for name in TYPES)
        return [FieldError(f"{path}.type", NOT_SUPPORTED, f"supported values: {listed}", kind)]
    if level == "root" and kind and kind != "object":
        return [FieldError(f"{path}.type", INVALID, "must be object at the root", kind)]
    loose = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not kind and (level == "root" or not loose):
        words = {
            "root": "must not be empty at the root",
            "item": "must not be empty for specified array items",
            "field": "must not be empty for specified object fields",
        }
        return [FieldError(f"{path}.type", REQUIRED, words[level])]
    return []


def _check_extensions(schema: Schema, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = schema.get("type", "")
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        text = "must be true or undefined"
        errors.append(FieldError(f"{path}.x-kubernetes-preserve-unknown-fields", INVALID, text, False))
    if schema.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            text = "must be object if x-kubernetes-embedded-resource is true"
            errors.append(FieldError(f"{path}.type", INVALID, text, kind))
        elif not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            text = (
                "must not be empty if x-kubernetes-embedded-resource is true without "
                "x-kubernetes-preserve-unknown-fields"
            )
            errors.append(FieldError(f"{path}.properties", REQUIRED, text))
    map_type = schema.get("x-kubernetes-map-type")
    if map_type not in (None, "atomic", "granular"):
        text = 'supported values: "atomic", "granular"'
        errors.append(FieldError(f"{path}.x-kubernetes-map-type", NOT_SUPPORTED, text, map_type))
    return errors + _check_list_type(schema, path)


def _check_list_type(schema: Schema, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if list_type not in (None, "atomic", "map", "set"):
        text = 'supported values: "atomic", "map", "set"'
        return [FieldError(f"{path}.x-kubernetes-list-type", NOT_SUPPORTED, text, list_type)]
    if list_type and schema.get("type") != "array":
        text = "must be array if x-kubernetes-list-type is specified"
        return [FieldError(f"{path}.type", INVALID, text, schema.get("type", ""))]
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(FieldError(f"{path}.x-kubernetes-list-type", INVALID, text, list_type or ""))
    items = schema.get("items") or {}
    if isinstance(items, list):
        return errors
    if list_type == "map":
        if not keys:
            text = "must not be empty if x-kubernetes-list-type is map"
            errors.append(FieldError(f"{path}.x-kubernetes-list-map-keys", REQUIRED, text))
        if items.get("type") != "object":
            text = "must be object if parent array's x-kubernetes-list-type is map"
            errors.append(FieldError(f"{path}.items.type", INVALID, text, items.get("type", "")))
        for key in keys:
            errors += _check_map_key(items, key, path)
    if list_type == "set" and items.get("type") in ("object", "array"):
        atomic = items.get("x-kubernetes-map-type") or items.get("x-kubernetes-list-type", "atomic")
        if atomic != "atomic" or (items["type"] == "object" and not items.get("x-kubernetes-map-type")):
            text = "must be atomic as item of a list with x-kubernetes-list-type=set"
            errors.append(FieldError(f"{path}.items.x-kubernetes-map-type", INVALID, text, atomic))
    if list_type in ("set", "map") and items.get("nullable"):
        text = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        errors.append(FieldError(f"{path}.items.nullable", FORBIDDEN, text))
    return errors


def _check_map_key(items: Schema, key: str, path: str) -> list[FieldError]:
    child = (items.get("properties") or {}).get(key)
    if child is None:
        text = "entries must all be names of item properties"
        return [FieldError(f"{path}.x-kubernetes-list-map-keys", INVALID, text, key)]
    here = f"{path}.items.properties[{key}]"
    if child.get("type") in ("array", "object"):
        text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
        return [FieldError(f"{here}.type", INVALID, text, child.get("type"))]
    if key not in (items.get("required") or ()) and "default" not in child:
        text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
        return [FieldError(f"{here}.default", REQUIRED, text)]
    return []


def _check_metadata(schema: Schema, path: str, level: str) -> list[FieldError]:
    if level != "root" and not schema.get("x-kubernetes-embedded-resource"):
        return []
    meta = (schema.get("properties") or {}).get("metadata")
    if not meta:
        return []
    allowed = {"type", "description", "properties", "x-kubernetes-preserve-unknown-fields"}
    inner = set(meta.get("properties") or {}) - {"name", "generateName"}
    if set(meta) - allowed or inner:
        text = (
            "must not specify anything other than name and generateName, but metadata is implicitly specified"
        )
        return [FieldError(f"{path}.properties[metadata]", FORBIDDEN, text)]
    return []


def _check_pattern(schema: Schema, path: str) -> list[FieldError]:
    pattern = schema.get("pattern")
    if not pattern:
        return []
    try:
        compile_pattern(pattern)
    except ValueError as error:
        text = f"must be a valid regular expression, but isn't: {error}"
        return [FieldError(f"{path}.pattern", INVALID, text, pattern)]
    return []


def _check_rule_forms(schema: Schema, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        here = f"{path}.x-kubernetes-validations[{index}]"
        message, reason = rule.get("message"), rule.get("reason")
        if not (rule.get("rule") or "").strip():
            errors.append(FieldError(f"{here}.rule", REQUIRED, "rule is not specified"))
        if message is not None and not message.strip():
            text = "must be non-empty if specified"
            errors.append(FieldError(f"{here}.message", INVALID, text, message))
        elif message and "\n" in message.strip():
            errors.append(FieldError(f"{here}.message", INVALID, "must not contain line breaks", message))
        if "\n" in (rule.get("rule") or "").strip() and not message and not rule.get("messageExpression"):
            text = "message must be specified if rule contains line breaks"
            errors.append(FieldError(f"{here}.message", REQUIRED, text))
        if reason and reason not in REASONS:
            listed = ", ".join(f'"{name}"' for name in sorted(REASONS))
            errors.append(FieldError(f"{here}.reason", NOT_SUPPORTED, f"supported values: {listed}", reason))
    return errors


def _check_junctors(schema: Schema, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    free = bool(schema.get("x-kubernetes-int-or-string"))
    for key in _JUNCTORS:
        for index, branch in enumerate(schema.get(key) or ()):
            errors += _check_branch(branch, schema, f"{path}.{key}[{index}]", path, free)
    if schema.get("not"):
        errors += _check_branch(schema["not"], schema, f"{path}.not", path, free)
    return errors


def _check_branch(branch: Schema, main: Schema, path: str, main_path: str, free: bool) -> list[FieldError]:
    """A branch may only restrict what the main schema declares."""
    errors = [
        FieldError(f"{path}.{key}", FORBIDDEN, "must be empty to be structural")
        for key in _NOT_IN_JUNCTORS
        if branch.get(key) is not None and not (free and key == "type")
    ]
    for key, child in (branch.get("properties") or {}).items():
        known = (main.get("properties") or {}).get(key)
        if known is None and not isinstance(main.get("additionalProperties"), dict):
            text = f"because it is defined in {path}.properties[{key}]"
            errors.append(FieldError(f"{main_path}.properties[{key}]", REQUIRED, text))
        else:
            known = known or main["additionalProperties"]
            errors += _check_branch(
                child, known, f"{path}.properties[{key}]", f"{main_path}.properties[{key}]", False
            )
    if branch.get("items"):
        if not main.get("items"):
            text = f"because it is defined in {path}.items"
            errors.append(FieldError(f"{main_path}.items", REQUIRED, text))
        else:
            errors += _check_branch(
                branch["items"], main["items"], f"{path}.items", f"{main_path}.items", False
            )
    for key in _JUNCTORS:
        for index, inner in enumerate(branch.get(key) or ()):
            errors += _check_branch(inner, main, f"{path}.{key}[{index}]", main_path, free)
    if branch.get("not"):
        errors += _check_branch(branch["not"], main, f"{path}.not", main_path, free)
    return errors


def _check_defaults(schema: Schema, node: Node, path: str, errors: list[FieldError]) -> None:
    """Defaults must be valid and hold nothing that would be pruned."""
    if "default" in schema:
        found: list[FieldError] = []
        validate(node, schema["default"], ABSENT, f"{path}.default", found)
        unknown: list[str] = []
        prune(node, schema["default"], f"{path}.default", unknown)
        errors += found
        errors += [FieldError(name, INVALID, "must not have unknown fields", name) for name in unknown]
    for key, child in (schema.get("properties") or {}).items():
        _check_defaults(child, node.properties[key], f"{path}.properties[{key}]", errors)
    additional, items = schema.get("additionalProperties"), schema.get("items")
    if isinstance(additional, dict) and node.additional is not None:
        _check_defaults(additional, node.additional, f"{path}.additionalProperties", errors)
    if isinstance(items, dict) and node.items is not None:
        _check_defaults(items, node.items, f"{path}.items", errors)
