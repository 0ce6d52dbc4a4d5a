"""Strategic merge patch: merge patch that knows lists of named things (containers, ports, env).

Directives: `$patch: delete | replace | merge`, `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`
and `$retainKeys`. Whether a list merges, and by which key, comes from the kind's `MergeSchema`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kaito.embedded.apiserver.strategy import MergeSchema, Object
from kaito.runtime.errors import BadRequest

_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ELEMENT_ORDER = "$setElementOrder/"
_RETAIN_KEYS = "$retainKeys"
_DIRECTIVE = "$patch"
_ANY = MergeSchema("any")


def strategic_merge(target: Object, patch: Object, schema: MergeSchema) -> Object:
    """`target` with `patch` merged in; inputs are not changed.

    Raises `BadRequest` for an unknown directive or a list element without its merge key.
    """
    return _merge_object(target, patch, schema)


def _merge_object(target: Any, patch: Object, schema: MergeSchema) -> Object:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return _merge_object({}, {key: value for key, value in patch.items() if key != _DIRECTIVE}, schema)
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"Unrecognized patch directive {_DIRECTIVE}: {directive}")
    result = dict(target) if isinstance(target, dict) else {}
    retain = patch.get(_RETAIN_KEYS)
    if retain is not None:
        if not isinstance(retain, list):
            raise BadRequest(f"{_RETAIN_KEYS} must be a list of field names")
        result = {key: value for key, value in result.items() if key in retain}
    for key, value in patch.items():
        if key.startswith("$"):
            _list_directive(result, patch, key, value, schema)
            continue
        if value is None:
            result.pop(key, None)
            continue
        child = schema.child(key) or _ANY
        result[key] = _merge_value(result.get(key), value, child, patch.get(_ELEMENT_ORDER + key))
    return result


def _merge_value(old: Any, value: Any, schema: MergeSchema, order: Any) -> Any:
    if isinstance(value, dict):
        return _merge_object(old, value, schema)
    if isinstance(value, list) and schema.patch_key:
        live = old if isinstance(old, list) else []
        if schema.patch_key == ".":
            merged = live + [item for item in value if item not in live]
            return _arranged(merged, live, value if order is None else order, str)
        return _merge_list(live, value, schema, order)
    return _strip(value, schema)


def _list_directive(result: Object, patch: Object, key: str, value: Any, schema: MergeSchema) -> None:
    if key in (_DIRECTIVE, _RETAIN_KEYS):
        return
    if key.startswith(_DELETE_PRIMITIVES):
        name = key[len(_DELETE_PRIMITIVES) :]
        if isinstance(result.get(name), list):
            result[name] = [item for item in result[name] if item not in value]
    elif key.startswith(_ELEMENT_ORDER):
        name = key[len(_ELEMENT_ORDER) :]
        child = schema.child(name) or _ANY
        if name not in patch and isinstance(result.get(name), list) and child.patch_key:
            result[name] = _reorder(result[name], result[name], value, child.patch_key)
    else:
        raise BadRequest(f"unknown directive {key}")


def _merge_list(live: list[Any], patch: list[Any], schema: MergeSchema, order: Any) -> list[Any]:
    key = schema.patch_key
    items = schema.items or _ANY
    result = list(live)
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [_strip(item, items) for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)]
    for item in patch:
        if not isinstance(item, dict):
            raise BadRequest(f"expected an object with merge key {key}, got {item!r}")
        if key not in item:
            raise BadRequest(f"map: {item} does not contain declared merge key: {key}")
        index = next((i for i, old in enumerate(result) if _key_of(old, key) == item[key]), None)
        if item.get(_DIRECTIVE) == "delete":
            result = [old for old in result if _key_of(old, key) != item[key]]
        elif index is None:
            result.append(_merge_object({}, item, items))
        else:
            result[index] = _merge_object(result[index], item, items)
    return _reorder(result, live, patch if order is None else order, key)


def _reorder(result: list[Any], live: list[Any], order: Any, key: str) -> list[Any]:
    if key == ".":
        return _arranged(result, live, order, str)
    return _arranged(result, live, order, lambda item: str(_key_of(item, key)))


def _arranged(result: list[Any], live: list[Any], order: Any, key_of: Callable[[Any], str]) -> list[Any]:
    """Elements of the patch in the order that it gives, woven into the others, which keep theirs.

    Where a live element stood before an element of the patch it still does; elements new to the list come as early
    as that allows.
    """
    if not isinstance(order, list):
        return result
    rank = {key_of(item): index for index, item in enumerate(order)}
    place = {key_of(item): index for index, item in enumerate(live)}
    named = sorted((item for item in result if key_of(item) in rank), key=lambda item: rank[key_of(item)])
    others = [item for item in result if key_of(item) not in rank]
    woven: list[Any] = []
    while others and named:
        first, second = place.get(key_of(others[0])), place.get(key_of(named[0]))
        stays = first is not None and second is not None and first < second
        woven.append((others if stays else named).pop(0))
    return woven + others + named


def _key_of(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else None


def _strip(value: Any, schema: MergeSchema) -> Any:
    """A value that is new to the object, without directives and nulls inside."""
    if isinstance(value, dict):
        return _merge_object({}, value, schema)
    if isinstance(value, list) and (
        schema.items is not None or any(isinstance(item, dict) for item in value)
    ):
        items = schema.items or _ANY
        return [
            _strip(item, items)
            for item in value
            if not (isinstance(item, dict) and item.get(_DIRECTIVE) == "delete")
        ]
    return value
