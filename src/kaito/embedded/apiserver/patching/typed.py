"""Values with a merge schema: merging, comparing, listing and removing fields.

These are the operations server-side apply is made of. None of them changes its arguments; where a result equals an
argument it is that very object, so "nothing changed" can be seen by identity.
"""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.patching.fieldset import FieldSet, element_key, value_key
from kaito.embedded.apiserver.strategy import MergeSchema
from kaito.runtime.errors import InternalError

ANY = MergeSchema("any")
_SELF = "."
_MISSING = object()


def granular(schema: MergeSchema, value: Any) -> bool:
    """Whether parts of `value` are owned one by one."""
    if isinstance(value, dict):
        return schema.kind in ("object", "any") and not schema.atomic
    return isinstance(value, list) and schema.kind == "list" and schema.list_type != "atomic"


def _below(schema: MergeSchema, name: str) -> MergeSchema:
    return schema.fields.get(name) or schema.items or ANY


def key_of(schema: MergeSchema, item: Any) -> str:
    """How an element of a set or a map list is named in field sets."""
    if schema.list_type == "set" or not isinstance(item, dict):
        return value_key(item)
    values = tuple([item.get(name, schema.key_defaults.get(name)) for name in schema.keys])
    try:
        return element_key(schema.keys, values)
    except TypeError:
        return value_key(item)


def index(schema: MergeSchema, items: Any) -> dict[str, Any]:
    """Elements by name; the first of several with one name."""
    result: dict[str, Any] = {}
    for item in items if isinstance(items, list) else ():
        result.setdefault(key_of(schema, item), item)
    return result


def unreadable(problem: str) -> InternalError:
    """Kubernetes' answer to a server-side apply that does not fit the schema: a 500 without a reason."""
    return InternalError(f"failed to create typed patch object: {problem}", reason="")


def check_applied(value: Any, schema: MergeSchema, path: str = "") -> None:
    """Elements of an applied list must have their keys, and be unique. Raises InternalError, as Kubernetes does."""
    if not granular(schema, value):
        return
    if isinstance(value, dict):
        for name, child in value.items():
            if isinstance(child, (dict, list)):
                check_applied(child, _below(schema, name), f"{path}.{name}")
        return
    seen: set[str] = set()
    for position, item in enumerate(value):
        if schema.list_type == "map":
            for name in schema.keys:
                if isinstance(item, dict) and name not in item and name not in schema.key_defaults:
                    raise unreadable(
                        f"{path}: element {position}: associative list with keys has an element that omits key field "
                        f'"{name}" (and doesn\'t have default value)'
                    )
        key = key_of(schema, item)
        if key in seen:
            raise unreadable(f"{path}: duplicate entries for key {key[2:]}")
        seen.add(key)
        check_applied(item, schema.items or ANY, f"{path}[{position}]")


def merge(live: Any, applied: Any, schema: MergeSchema) -> Any:
    """`live` with everything in `applied` set."""
    if not granular(schema, applied) or type(live) is not type(applied):
        return live if live == applied else applied
    if isinstance(applied, list):
        return _merge_list(live, applied, schema)
    result = live
    for name, value in applied.items():
        old = live.get(name, _MISSING)
        if old is _MISSING:
            new = value
        elif isinstance(value, (dict, list)):
            new = merge(old, value, _below(schema, name))
        else:
            new = old if old == value and type(old) is type(value) else value
        if new is not old:
            if result is live:
                result = dict(live)
            result[name] = new
    return result


def _merge_list(live: list[Any], applied: list[Any], schema: MergeSchema) -> list[Any]:
    """Applied elements in their order, woven into those that are only in `live`, which keep theirs.

    Both lists are walked side by side. A shared element of `live` whose turn in the applied order has not come is
    passed over, so what is only in `live` goes before the shared element that follows it there.
    """
    items = schema.items or ANY
    old = index(schema, live)
    live_keys, keys = [key_of(schema, item) for item in live], [key_of(schema, item) for item in applied]
    given = dict(zip(keys, applied, strict=True))
    turns = [key for key in keys if key in old]
    result: list[Any] = []
    done: set[str] = set()

    def take(key: str) -> None:
        result.append(merge(old[key], given[key], items) if key in old else given[key])
        done.add(key)
        if turns and turns[0] == key:
            turns.pop(0)

    here, there = 0, 0
    while here < len(live) or there < len(applied):
        if here < len(live):
            key = live_keys[here]
            if key not in given:
                result.append(live[here])
                here += 1
                continue
            waits = there < len(applied) and key != keys[there] and bool(turns) and turns[0] != key
            if key in done or waits:
                here += 1
                continue
            here += there < len(applied) and key == keys[there]
        if there < len(applied):
            take(keys[there])
            there += 1
    if len(result) == len(live) and all(new is before for new, before in zip(result, live, strict=True)):
        return live
    return result


def fields_of(value: Any, schema: MergeSchema) -> FieldSet:
    """The set of all fields of an applied object; for roots."""
    result: FieldSet = {}
    if isinstance(value, dict):
        for name, child in value.items():
            result[f"f:{name}"] = _fields(child, _below(schema, name), declared=name in schema.fields)
    return result


def _fields(value: Any, schema: MergeSchema, *, declared: bool) -> FieldSet:
    if not value or not granular(schema, value):
        return {}
    result: FieldSet = {}
    if isinstance(value, dict):
        if not declared:
            result[_SELF] = {}
        fields, other = schema.fields, schema.items or ANY
        for name, child in value.items():
            known = fields.get(name)
            if isinstance(child, (dict, list)):
                result[f"f:{name}"] = _fields(child, known or other, declared=known is not None)
            else:
                result[f"f:{name}"] = {}
        return result
    items = schema.items or ANY
    for item in value:
        key = key_of(schema, item)
        if key.startswith("k:"):
            inner = _fields(item, items, declared=True)
            result[key] = {_SELF: {}, **inner} if inner else {}
        else:
            result[key] = {}
    return result


def compare(old: Any, new: Any, schema: MergeSchema) -> tuple[FieldSet, FieldSet]:
    """(added or modified, removed) between two objects; for roots."""
    changed: FieldSet = {}
    removed: FieldSet = {}
    _compare_dict(old or {}, new or {}, schema, changed, removed)
    return changed, removed


def _compare(old: Any, new: Any, schema: MergeSchema) -> tuple[FieldSet | None, FieldSet | None]:
    """The same for two values that both exist and differ; None is "nothing here"."""
    if not granular(schema, new) or not granular(schema, old) or type(old) is not type(new):
        return {}, None
    changed: FieldSet = {}
    removed: FieldSet = {}
    if isinstance(new, dict):
        _compare_dict(old, new, schema, changed, removed)
    else:
        items = schema.items or ANY
        before, after = index(schema, old), index(schema, new)
        for key, item in after.items():
            if key not in before:
                changed[key] = _whole(item, items, implicit=False)
            elif before[key] != item:
                _put(key, _compare(before[key], item, items), changed, removed)
        for key, item in before.items():
            if key not in after:
                removed[key] = _whole(item, items, implicit=False)
    return changed or None, removed or None


def _compare_dict(old: Any, new: Any, schema: MergeSchema, changed: FieldSet, removed: FieldSet) -> None:
    for name, value in new.items():
        below = _below(schema, name)
        if name in old:
            if old[name] != value:
                _put(f"f:{name}", _compare(old[name], value, below), changed, removed)
        elif value or not below.implicit:
            changed[f"f:{name}"] = _whole(value, below)
    for name, value in old.items():
        if name not in new:
            removed[f"f:{name}"] = _whole(value, _below(schema, name))


def _put(
    key: str, result: tuple[FieldSet | None, FieldSet | None], changed: FieldSet, removed: FieldSet
) -> None:
    if result[0] is not None:
        changed[key] = result[0]
    if result[1] is not None:
        removed[key] = result[1]


def _whole(value: Any, schema: MergeSchema, *, implicit: bool = True) -> FieldSet:
    """Everything in a value that is new or gone, containers included unless they are always there.

    `implicit`: the value is a field of the empty object, so what is always there was there before.
    """
    if not value or not granular(schema, value):
        return {}
    always = implicit and schema.implicit
    result: FieldSet = {} if always else {_SELF: {}}
    if isinstance(value, dict):
        for name, child in value.items():
            below = _below(schema, name)
            if child or not (always and below.implicit):
                result[f"f:{name}"] = _whole(child, below, implicit=always)
    else:
        items = schema.items or ANY
        for item in value:
            result[key_of(schema, item)] = _whole(item, items, implicit=False)
    return result


def remove(value: Any, gone: FieldSet, kept: FieldSet, schema: MergeSchema) -> Any:
    """`value` without the fields of `gone`, save those that `kept` has; declared fields also where it has parts."""
    if isinstance(value, dict):
        return _remove_from_dict(value, gone, kept, schema)
    if not isinstance(value, list):
        return value
    items = schema.items or ANY
    result: list[Any] = []
    for item in value:
        key = key_of(schema, item)
        if key not in gone:
            result.append(item)
        elif key in kept and _itself(kept[key]):
            result.append(remove(item, gone[key], kept[key], items))
    return value if _identical(result, value) else result


def _remove_from_dict(value: dict[str, Any], gone: FieldSet, kept: FieldSet, schema: MergeSchema) -> Any:
    result = value
    for key, below in gone.items():
        name = key[2:]
        if not key.startswith("f:") or name not in value:
            continue
        if key not in kept or (name not in schema.fields and not _itself(kept[key])):
            if result is value:
                result = dict(value)
            del result[name]
            continue
        child_schema = _below(schema, name)
        if granular(child_schema, value[name]):
            child = remove(value[name], below, kept[key], child_schema)
            if child is not value[name]:
                if result is value:
                    result = dict(value)
                result[name] = child
    return result


def _itself(owned: FieldSet) -> bool:
    """Whether an element is owned and not only something in it: who owns a part cannot keep the whole."""
    return not owned or _SELF in owned


def _identical(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))
