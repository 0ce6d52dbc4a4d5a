"""Patches: their content types, and the merge patch between two versions of an object.

Writing the difference instead of the whole object keeps what others wrote meanwhile. With `lock` the patch also
carries the resourceVersion that it started from, so that the server refuses it (`Conflict`) when anything at
all has changed; see `kaito.runtime.conflicts` for trying again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class PatchType(StrEnum):
    """Content types of PATCH. APPLY carries JSON, which is YAML."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any], *, lock: bool = False) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; empty when they are equal.

    Lists are replaced whole, as merge patches can do nothing else with them. With `lock` the patch carries
    `old`'s resourceVersion, unless it is empty: nothing to write needs no lock. Raises ValueError where `lock`
    is asked for and `old` has no resourceVersion, and where `new` holds null for a key that `old` lacks or has
    otherwise, because a merge patch cannot write null.
    """
    patch = _difference(old, new, "")
    if lock and patch:
        version = (old.get("metadata") or {}).get("resourceVersion")
        if not version:
            raise ValueError("merge_patch with lock needs metadata.resourceVersion in the old object")
        metadata = patch.setdefault("metadata", {})
        metadata["resourceVersion"] = version
    return patch


def differs(old: Any, new: Any) -> bool:
    """Whether two JSON values differ: true is not 1, though Python says so."""
    return not _same(old, new)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> dict[str, Any]:
    patch: dict[str, Any] = dict.fromkeys(key for key in old if key not in new)
    for key, value in new.items():
        before = old.get(key)
        if key in old and _same(before, value):
            continue
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            patch[key] = _difference(before, value, where)
        else:
            _refuse_null(value, where)
            patch[key] = value
    return patch


def _same(before: Any, value: Any) -> bool:
    if isinstance(before, Mapping) and isinstance(value, Mapping):
        return before.keys() == value.keys() and all(_same(before[key], value[key]) for key in value)
    if isinstance(before, list | tuple) and isinstance(value, list | tuple):
        return len(before) == len(value) and all(map(_same, before, value))
    if isinstance(before, bool) or isinstance(value, bool):
        return before is value
    return bool(before == value)


def _refuse_null(value: Any, path: str) -> None:
    """Null in a merge patch means removal, also deep inside a new map; within lists it is kept."""
    if value is None:
        raise ValueError(f"a merge patch cannot set {path} to null: leave the key out to remove it")
    if isinstance(value, Mapping):
        for key, each in value.items():
            _refuse_null(each, f"{path}.{key}")
