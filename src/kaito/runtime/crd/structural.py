"""What makes a schema structural: the rules an API server applies before it accepts a CRD.

Written as a check over any schema, so it serves hand-written CRDs too. Facts: Kubernetes documentation,
"Specifying a structural schema", and the validation of apiextensions.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_TYPES: Final = frozenset({"object", "array", "string", "integer", "number", "boolean"})
_JUNCTORS: Final = ("allOf", "anyOf", "oneOf", "not")
_STRUCTURE: Final = (
    "type", "properties", "additionalProperties", "items", "default", "nullable", "description", "title",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-validations",
)  # fmt: skip
_FORBIDDEN: Final = (
    "$ref", "$defs", "definitions", "dependencies", "deprecated", "discriminator", "id",
    "patternProperties", "readOnly", "writeOnly", "xml", "uniqueItems", "const", "prefixItems",
)  # fmt: skip
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]


def problems(schema: dict[str, Any]) -> list[str]:
    """Each breach as "path: sentence"; empty when the schema is structural."""
    found = list(_walk(schema, ""))
    if schema.get("type") != "object":
        found.insert(0, ".: the root must be an object")
    metadata = schema.get("properties", {}).get("metadata", {})
    if extra := set(metadata.get("properties", {})) - {"name", "generateName"}:
        found.append(f".metadata: may only describe name and generateName, not {', '.join(sorted(extra))}")
    return found


def _walk(node: dict[str, Any], path: str) -> Iterator[str]:
    at = path or "."
    for key in _FORBIDDEN:
        if key in node:
            yield f"{at}: {key} is not allowed"
    loose = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
    if "type" not in node and not loose:
        yield f"{at}: has no type"
    elif "type" in node and node["type"] not in _TYPES:
        yield f"{at}: type {node['type']!r} is unknown"
    yield from _lists(node, at)
    yield from _junctors(node, at)
    if "properties" in node and "additionalProperties" in node:
        yield f"{at}: properties and additionalProperties exclude one another"
    if missing := set(node.get("required", ())) - set(node.get("properties", {})):
        yield f"{at}: requires {', '.join(sorted(missing))}, which it does not describe"
    for name, child in node.get("properties", {}).items():
        yield from _walk(child, f"{path}.{name}")
    if isinstance(values := node.get("additionalProperties"), dict):
        yield from _walk(values, f"{path}.*")


def _lists(node: dict[str, Any], at: str) -> Iterator[str]:
    kind = node.get("x-kubernetes-list-type")
    if node.get("type") != "array":
        if kind is not None:
            yield f"{at}: x-kubernetes-list-type on something that is not an array"
        return
    items = node.get("items")
    if not isinstance(items, dict):
        yield f"{at}: an array needs items"
        return
    path = "" if at == "." else at
    yield from _walk(items, f"{path}[*]")
    if kind not in (None, "atomic", "set", "map"):
        yield f"{at}: x-kubernetes-list-type {kind!r} is unknown"
    keys = node.get("x-kubernetes-list-map-keys")
    if (kind == "map") != bool(keys):
        yield f"{at}: a map list needs x-kubernetes-list-map-keys, other lists must not have them"
    for key in keys or ():
        entry = items.get("properties", {}).get(key)
        if entry is None:
            yield f"{at}: list-map key {key} is not a property of the items"
        elif key not in items.get("required", ()) and "default" not in entry:
            yield f"{at}: list-map key {key} must be required or have a default"


def _junctors(node: dict[str, Any], at: str) -> Iterator[str]:
    for junctor in _JUNCTORS:
        if junctor not in node:
            continue
        if node.get("x-kubernetes-int-or-string") and junctor == "anyOf" and node[junctor] == _INT_OR_STRING:
            continue
        branches = [node[junctor]] if junctor == "not" else node[junctor]
        for branch in branches:
            if bad := [key for key in _STRUCTURE if key in branch and key not in ("properties", "items")]:
                yield f"{at}: {junctor} may only constrain values, not say {', '.join(bad)}"
