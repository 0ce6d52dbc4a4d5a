"""The difference of two JSON trees as a JSON patch (RFC 6902).

Only `add`, `remove` and `replace` are used. Lists are compared by position after what they have in common at both
ends is set aside, which keeps the patch of an inserted or removed element small. The shortest possible patch is no
aim: the API server applies it once.
"""

from __future__ import annotations

from typing import Any

Operations = list[dict[str, Any]]


def json_patch(old: Any, new: Any) -> Operations:
    """Operations that make `new` of `old`; empty when they are equal.

    1, 1.0 and true are three different values here, although Python takes them for equal.
    """
    operations: Operations = []
    _compare(old, new, "", operations)
    return operations


def same(old: Any, new: Any) -> bool:
    """Whether two JSON trees are equal, types included."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(same(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(same, old, new))
    return bool(old == new)


def _compare(old: Any, new: Any, path: str, operations: Operations) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        _compare_maps(old, new, path, operations)
    elif isinstance(old, list) and isinstance(new, list):
        _compare_lists(old, new, path, operations)
    elif not same(old, new):
        operations.append({"op": "replace", "path": path, "value": new})


def _compare_maps(old: dict[str, Any], new: dict[str, Any], path: str, operations: Operations) -> None:
    for key in old:
        if key not in new:
            operations.append({"op": "remove", "path": f"{path}/{_escaped(key)}"})
    for key, value in new.items():
        here = f"{path}/{_escaped(key)}"
        if key in old:
            _compare(old[key], value, here, operations)
        else:
            operations.append({"op": "add", "path": here, "value": value})


def _compare_lists(old: list[Any], new: list[Any], path: str, operations: Operations) -> None:
    shorter = min(len(old), len(new))
    head = 0
    while head < shorter and same(old[head], new[head]):
        head += 1
    tail = 0
    while tail < shorter - head and same(old[-1 - tail], new[-1 - tail]):
        tail += 1
    old_end, new_end = len(old) - tail, len(new) - tail
    paired = min(old_end, new_end)
    for index in range(head, paired):
        _compare(old[index], new[index], f"{path}/{index}", operations)
    for index in range(old_end - 1, paired - 1, -1):
        operations.append({"op": "remove", "path": f"{path}/{index}"})
    for index in range(paired, new_end):
        operations.append({"op": "add", "path": f"{path}/{index}", "value": new[index]})


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
