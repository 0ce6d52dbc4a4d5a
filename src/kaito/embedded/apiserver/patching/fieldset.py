"""Sets of fields, in the very form `managedFields[].fieldsV1` stores them.

A set is a trie of dicts: `f:name` a field, `k:{…}` a list element by its keys, `v:…` a member of a set. A node is in
the set if it is empty or has a `"."`; otherwise it only leads to members. The root itself is never a member, so an
empty root is the empty set. No function changes its arguments; results may share parts with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeGuard

import orjson

FieldSet = dict[str, Any]
_SELF = "."
_PREFIXES = ("f:", "k:", "v:", "i:")


def well_formed(fields: Any) -> TypeGuard[FieldSet]:
    """Whether this is a set of fields at all; lists that clients send may be anything."""
    return isinstance(fields, dict) and all(
        not child or (well_formed(child) and key[:2] in _PREFIXES) for key, child in fields.items()
    )


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of either; for roots."""
    if not left:
        return right
    return _union(left, right) if right else left


def _union(left: FieldSet, right: FieldSet) -> FieldSet:
    if left == right:
        return left
    if not left:
        return right if _SELF in right else {_SELF: {}, **right}
    if not right:
        return left if _SELF in left else {_SELF: {}, **left}
    result = dict(left)
    for key, child in right.items():
        mine = result.get(key)
        result[key] = child if mine is None or key == _SELF else _union(mine, child)
    return result


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of `left` that are not members of `right`; for roots."""
    if not left or not right:
        return left
    return _difference(left, right, root=True) or {}


def _difference(left: FieldSet, right: FieldSet, *, root: bool = False) -> FieldSet | None:
    result: FieldSet = {}
    if not root and (not left or _SELF in left) and not (not right or _SELF in right):
        result[_SELF] = {}
    for key, child in left.items():
        if key == _SELF:
            continue
        other = right.get(key)
        rest = child if other is None else _difference(child, other)
        if rest is not None:
            result[key] = rest
    if len(result) == 1 and _SELF in result:
        return {}
    return result or None


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of both; for roots."""
    return _intersection(left, right, root=True) or {}


def _intersection(left: FieldSet, right: FieldSet, *, root: bool = False) -> FieldSet | None:
    result: FieldSet = {}
    if not root and (not left or _SELF in left) and (not right or _SELF in right):
        result[_SELF] = {}
    small, large = (left, right) if len(left) <= len(right) else (right, left)
    for key, child in small.items():
        other = large.get(key)
        if key == _SELF or other is None:
            continue
        both = _intersection(child, other)
        if both is not None:
            result[key] = both
    if len(result) == 1 and _SELF in result:
        return {}
    return result or None


def without(fields: FieldSet, path: tuple[str, ...]) -> FieldSet:
    """The set without a field and everything below it."""
    key = f"f:{path[0]}"
    child = fields.get(key)
    if child is None:
        return fields
    result = {name: item for name, item in fields.items() if name != key}
    if len(path) > 1:
        rest = without(child, path[1:])
        if rest and rest is not child:
            result[key] = {} if list(rest) == [_SELF] else rest
        elif rest or not child:
            result[key] = child
    return result


def members(fields: FieldSet) -> Iterator[str]:
    """Paths of all members, sorted, as Kubernetes prints them: `.spec.ports[port=80].name`."""
    yield from _members(fields, "", root=True)


def _members(node: FieldSet, path: str, *, root: bool = False) -> Iterator[str]:
    if not root and (not node or _SELF in node):
        yield path
    for key in sorted(node):
        if key != _SELF:
            yield from _members(node[key], path + _printed(key))


def _printed(key: str) -> str:
    if key.startswith("f:"):
        return f".{key[2:]}"
    if key.startswith("v:"):
        return f"[={key[2:]}]"
    parts = orjson.loads(key[2:])
    return "[" + ",".join(f"{name}={orjson.dumps(parts[name]).decode()}" for name in sorted(parts)) + "]"


@lru_cache(maxsize=16384)
def element_key(names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    """The `k:` entry of a list element with these keys; a missing value (None) is left out."""
    keys = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode()


def value_key(value: Any) -> str:
    """The `v:` entry of a member of a set."""
    return "v:" + orjson.dumps(value).decode()
