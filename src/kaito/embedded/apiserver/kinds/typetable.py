"""Builtin types read from text tables: one source for decoding, defaults, merging, the wire and OpenAPI.

A table is a sequence of types, each a name and indented fields:

    ContainerPort                              a type; `atomic` after it: replaced as a whole when merged;
        3 containerPort int32!                    `open` after it: unknown fields are kept
        4 protocol string default="TCP"        wire number, name, type, attributes
        inline 1 LocalObjectReference          the fields of another type, embedded under wire number 1

Types: string bool int32 int64 bytes time microtime quantity intstr fieldsv1 raw, the name of a type, `[]T`, `{}T`
(string keys). After the type, `*` keeps a zero value that was given (a pointer in Kubernetes) and `!` always writes
the field (no omitempty; an object becomes `{}`). Attributes: `patch=` merge key of strategic merge patch ("." for
lists of primitives), `by=` keys of a list map, `set`, `atomic`, `retain`
(a union: the patch names the members that stay, `$retainKeys`), `default=` JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from kaito.embedded.apiserver.strategy import MergeSchema

_FIELD = re.compile(r"(\d+) (\w+) (\[\]|\{\})?(\w+)([*!]?)((?: .*)?)")
_DEFAULT = re.compile(r" default=(.*)$")
NO_DEFAULT = object()
_ZEROES = {"string": "", "bool": False, "int32": 0, "int64": 0, "time": None, "microtime": None}
"""What Go writes for a field that is always written and was not set."""


@dataclass(slots=True)
class Field:
    """One field. `shape` is "" | "list" | "map"; `base` a scalar's name or the name of a type."""

    name: str
    wire: tuple[int, ...]
    shape: str
    base: str
    keep_zero: bool
    always: bool
    patch: str = ""
    by: tuple[str, ...] = ()
    is_set: bool = False
    atomic: bool = False
    retain: bool = False
    default: Any = NO_DEFAULT
    target: TypeDef | None = None
    """The type that `base` names; None for scalars."""


@dataclass(slots=True, eq=False)
class TypeDef:
    """One type of a table."""

    name: str
    fields: dict[str, Field]
    atomic: bool = False
    open: bool = False
    inlined: list[tuple[int, str]] = field(default_factory=list)
    defaults: list[Field] = field(default_factory=list)
    """Fields that have a default, or are objects always written."""
    defaulted_children: list[Field] = field(default_factory=list)
    """Fields whose types contain defaults somewhere below."""


class TypeTable:
    """All types of some tables, linked."""

    def __init__(self, *texts: str) -> None:
        self._types = {definition.name: definition for text in texts for definition in _parse(text)}
        for definition in self._types.values():
            self._inline(definition)
        for definition in self._types.values():
            for item in definition.fields.values():
                item.target = self._types.get(item.base)
                if item.target is None and item.base not in _SCALARS:
                    raise ValueError(f"{definition.name}.{item.name} has the unknown type {item.base}")
        self._link_defaults()
        self._schemas: dict[str, MergeSchema] = {}
        self._roots: dict[str, TypeDef] = {}

    def __getitem__(self, name: str) -> TypeDef:
        return self._types[name]

    def __iter__(self) -> Iterator[TypeDef]:
        return iter(self._types.values())

    def root(self, name: str) -> TypeDef:
        """Type `name` as a whole object: with `apiVersion` and `kind`."""
        if name not in self._roots:
            plain = self._types[name]
            fields = {**self._types["TypeMeta"].fields, **plain.fields}
            root = TypeDef(name, fields, plain.atomic, plain.open)
            root.defaults, root.defaulted_children = plain.defaults, plain.defaulted_children
            self._roots[name] = root
        return self._roots[name]

    def merge_schema(self, name: str) -> MergeSchema:
        """How objects of type `name` merge; `apiVersion` and `kind` are scalars of it."""
        plain = self._object_schema(self._types[name])
        scalar = MergeSchema("scalar")
        return MergeSchema(
            "object", fields={"apiVersion": scalar, "kind": scalar, **plain.fields}, items=plain.items
        )

    def _inline(self, definition: TypeDef) -> None:
        pending, definition.inlined = definition.inlined, []
        for number, name in pending:
            other = self._types[name]
            self._inline(other)
            for item in other.fields.values():
                definition.fields[item.name] = Field(
                    item.name, (number, *item.wire), item.shape, item.base, item.keep_zero, item.always,
                    item.patch, item.by, item.is_set, item.atomic, item.retain, item.default,
                )  # fmt: skip

    def _link_defaults(self) -> None:
        for definition in self._types.values():
            for item in definition.fields.values():
                if item.always and not item.shape and item.target is None and item.default is NO_DEFAULT:
                    item.default = _ZEROES.get(item.base, NO_DEFAULT)
            definition.defaults = [
                item
                for item in definition.fields.values()
                if item.default is not NO_DEFAULT or (item.always and item.target and not item.shape)
            ]
        dirty = {definition.name for definition in self._types.values() if definition.defaults}
        while True:
            more = {
                definition.name
                for definition in self._types.values()
                if definition.name not in dirty
                and any(item.base in dirty for item in definition.fields.values())
            }
            if not more:
                break
            dirty |= more
        for definition in self._types.values():
            definition.defaulted_children = [
                item for item in definition.fields.values() if item.base in dirty
            ]

    def _object_schema(self, definition: TypeDef) -> MergeSchema:
        schema = self._schemas.get(definition.name)
        if schema is None:
            schema = self._schemas[definition.name] = MergeSchema("object", atomic=definition.atomic)
            for item in definition.fields.values():
                schema.fields[item.name] = self._field_schema(item)
            if definition.open:
                schema.items = MergeSchema("any")
        return schema

    def _field_schema(self, item: Field) -> MergeSchema:
        if item.base in ("raw", "fieldsv1"):
            base = MergeSchema("any" if item.base == "raw" else "scalar")
        elif item.target is None:
            base = MergeSchema("scalar", implicit=item.always and not item.shape)
        else:
            base = self._object_schema(item.target)
        if item.shape == "map":
            return MergeSchema("object", items=base, atomic=item.atomic)
        if item.shape == "list":
            kind: Literal["atomic", "set", "map"] = "map" if item.by else "set" if item.is_set else "atomic"
            defaults = {
                key: item.target.fields[key].default
                for key in item.by
                if item.target and item.target.fields[key].default is not NO_DEFAULT
            }
            return MergeSchema(
                "list", items=base, list_type=kind, keys=item.by, key_defaults=defaults, patch_key=item.patch,
                implicit=item.always,
            )  # fmt: skip
        if item.always and base.kind == "object":
            return MergeSchema(
                "object", fields=base.fields, items=base.items, atomic=base.atomic, implicit=True
            )
        return base


_SCALARS = frozenset(
    "string bool int32 int64 bytes time microtime quantity intstr fieldsv1 raw".split()  # noqa: SIM905 - words read better
)


def _parse(text: str) -> Iterator[TypeDef]:
    current: TypeDef | None = None
    for line in text.splitlines():
        if not line.strip():
            continue
        if not line.startswith(" "):
            if current:
                yield current
            name, *flags = line.split()
            current = TypeDef(name, {}, "atomic" in flags, "open" in flags)
            continue
        if current is None:
            raise ValueError(f"a field before any type: {line!r}")
        body = line.strip()
        if body.startswith("inline "):
            _, number, name = body.split()
            current.inlined.append((int(number), name))
            continue
        item = _parse_field(body)
        current.fields[item.name] = item
    if current:
        yield current


def _parse_field(body: str) -> Field:
    match = _FIELD.fullmatch(body)
    if not match:
        raise ValueError(f"not a field: {body!r}")
    number, name, shape, base, mark, attributes = match.groups()
    item = Field(
        name,
        (int(number),),
        {"[]": "list", "{}": "map", None: ""}[shape],
        base,
        keep_zero=bool(mark),
        always=mark == "!",
    )
    default = _DEFAULT.search(attributes)
    if default:
        item.default = orjson.loads(default.group(1))
        attributes = attributes[: default.start()]
    for attribute in attributes.split():
        key, _, value = attribute.partition("=")
        if key == "patch":
            item.patch = value if value != "replace" else ""
        elif key == "by":
            item.by = tuple(value.split(","))
        elif key in ("set", "atomic", "retain"):
            setattr(item, "is_set" if key == "set" else key, True)
        else:
            raise ValueError(f"unknown attribute {attribute!r} of {body!r}")
    return item
