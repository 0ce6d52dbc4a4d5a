"""A structural schema, read once from a CustomResourceDefinition into nodes that are fast to walk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from kaito.embedded.apiserver.schema.formats import FORMATS, compile_pattern
from kaito.embedded.apiserver.strategy import MergeSchema

NO_DEFAULT = object()
_COMPARISONS = (
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "multipleOf",
)  # fmt: skip


_KEYWORDS = frozenset(
    (
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    )
)  # fmt: skip


def escape(name: str) -> str:
    """The identifier under which CEL sees a property."""
    if name in _KEYWORDS:
        return f"__{name}__"
    return (
        name.replace("__", "__underscores__")
        .replace(".", "__dot__")
        .replace("-", "__dash__")
        .replace("/", "__slash__")
    )


class Node:
    """One schema. Branches of oneOf/anyOf/allOf/not are nodes too, with nothing but checks in them."""

    __slots__ = (
        "additional", "aliases", "all_of", "any_of", "checks", "default", "default_children", "embedded", "enum",
        "exclusive_maximum", "exclusive_minimum", "format", "format_check", "has_list_types", "has_rules",
        "int_or_string", "items", "limits", "list_type", "map_keys", "map_type", "not_", "nullable", "one_of",
        "pattern", "pattern_text", "preserve", "properties", "required", "rules", "type", "unique",
    )  # fmt: skip

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.type: str = schema.get("type", "")
        self.nullable = bool(schema.get("nullable"))
        self.preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(schema.get("x-kubernetes-embedded-resource"))
        self.int_or_string = bool(schema.get("x-kubernetes-int-or-string"))
        self.list_type: str = schema.get("x-kubernetes-list-type", "atomic")
        self.map_keys: tuple[str, ...] = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str = schema.get("x-kubernetes-map-type", "granular")
        self.default = schema.get("default", NO_DEFAULT)
        self.rules: list[dict[str, Any]] = list(schema.get("x-kubernetes-validations") or ())
        self.properties = {key: Node(value) for key, value in (schema.get("properties") or {}).items()}
        self.aliases = {escape(key): key for key in self.properties}
        items = schema.get("items")
        self.items = Node(items) if isinstance(items, dict) else None
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            self.additional: Node | None = Node(additional)
        else:
            self.additional = Node({"x-kubernetes-preserve-unknown-fields": True}) if additional else None
        self._read_checks(schema)
        children = [*self.properties.values(), *(n for n in (self.items, self.additional) if n)]
        self.default_children: bool = any(
            child.default is not NO_DEFAULT or child.default_children for child in children
        )
        self.has_rules: bool = bool(self.rules) or any(child.has_rules for child in children)
        self.has_list_types: bool = self.list_type in ("set", "map") or any(
            n.has_list_types for n in children
        )

    def _read_checks(self, schema: Mapping[str, Any]) -> None:
        self.enum: list[Any] | None = schema.get("enum")
        self.required: tuple[str, ...] = tuple(schema.get("required") or ())
        self.limits = {name: schema[name] for name in _COMPARISONS if schema.get(name) is not None}
        self.exclusive_minimum = bool(schema.get("exclusiveMinimum"))
        self.exclusive_maximum = bool(schema.get("exclusiveMaximum"))
        self.pattern_text: str = schema.get("pattern", "")
        self.pattern = compile_pattern(self.pattern_text) if self.pattern_text else None
        self.format: str = schema.get("format", "")
        self.format_check: Callable[[Any], bool] | None = FORMATS.get(self.format)
        self.one_of = [Node(item) for item in schema.get("oneOf") or ()]
        self.any_of = [Node(item) for item in schema.get("anyOf") or ()]
        self.all_of = [Node(item) for item in schema.get("allOf") or ()]
        negated = schema.get("not")
        self.not_ = Node(negated) if negated else None
        if self.int_or_string and self.any_of and all(item.type for item in self.any_of):
            self.any_of = []  # anyOf: [integer, string] only restates x-kubernetes-int-or-string
        self.checks = bool(
            self.limits or self.pattern or self.format_check or self.one_of or self.any_of or self.all_of
            or self.not_ or self.enum is not None
        )  # fmt: skip

    def child(self, name: str) -> Node | None:
        """The node of a property, declared or additional."""
        return self.properties.get(name) or self.additional

    def merge_schema(self) -> MergeSchema:
        """How server-side apply merges values of this schema."""
        if self.type == "array":
            items = self.items.merge_schema() if self.items else MergeSchema("any")
            if self.list_type == "map":
                defaults = {
                    key: self.items.properties[key].default
                    for key in self.map_keys
                    if self.items and self.items.properties[key].default is not NO_DEFAULT
                }
                return MergeSchema(
                    "list", items=items, list_type="map", keys=self.map_keys, key_defaults=defaults
                )
            return MergeSchema("list", items=items, list_type="set" if self.list_type == "set" else "atomic")
        if self.type == "object" or self.properties:
            merged = MergeSchema("object", atomic=self.map_type == "atomic")
            merged.fields = {key: node.merge_schema() for key, node in self.properties.items()}
            if self.additional:
                merged.items = self.additional.merge_schema()
            elif self.preserve or self.embedded:
                merged.items = MergeSchema("any")
            return merged
        return MergeSchema("any" if self.preserve else "scalar")


def prune(node: Node, value: Any, path: str, unknown: list[str], *, root: bool = False) -> None:
    """Drop what the schema does not know, in place, and note the paths."""
    if isinstance(value, dict):
        known, additional = node.properties, node.additional
        implicit = ("apiVersion", "kind", "metadata") if root or node.embedded else ()
        for key in list(value):
            child = known.get(key) or additional
            if key in implicit:
                continue
            if child is not None:
                if isinstance(value[key], (dict, list)):
                    prune(child, value[key], f"{path}.{key}" if path else key, unknown)
            elif not node.preserve:
                unknown.append(f"{path}.{key}" if path else key)
                del value[key]
    elif isinstance(value, list) and node.items is not None:
        for index, item in enumerate(value):
            if isinstance(item, (dict, list)):
                prune(node.items, item, f"{path}[{index}]", unknown)


def fill_defaults(node: Node, value: Any) -> None:
    """Set defaults that are missing, in place. A null where none is allowed counts as missing."""
    if isinstance(value, dict):
        for key, child in node.properties.items():
            if child.default is not NO_DEFAULT and (
                key not in value or (value[key] is None and not child.nullable)
            ):
                value[key] = copy.deepcopy(child.default)
            if child.default_children and key in value:
                fill_defaults(child, value[key])
        extra = node.additional
        if extra is not None and (extra.default_children or extra.default is not NO_DEFAULT):
            for key in value:
                if key not in node.properties:
                    if value[key] is None and extra.default is not NO_DEFAULT and not extra.nullable:
                        value[key] = copy.deepcopy(extra.default)
                    fill_defaults(extra, value[key])
    elif isinstance(value, list) and node.items is not None and node.items.default_children:
        for item in value:
            fill_defaults(node.items, item)


def drop_nulls(node: Node, value: Any) -> None:
    """Takes away nulls where none is allowed, in place: to Kubernetes such a field is not there."""
    if isinstance(value, dict):
        for key in list(value):
            child = node.properties.get(key) or node.additional
            if child is None:
                continue
            if value[key] is None and not child.nullable and (child.type or child.int_or_string):
                del value[key]
            elif isinstance(value[key], (dict, list)):
                drop_nulls(child, value[key])
    elif isinstance(value, list) and node.items is not None:
        for item in value:
            if isinstance(item, (dict, list)):
                drop_nulls(node.items, item)
