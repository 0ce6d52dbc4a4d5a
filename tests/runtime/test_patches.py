"""The merge patch between two versions of an object."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.patches import differs, merge_patch

OLD: dict[str, Any] = {
    "metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "1", "y": "2"}},
    "spec": {"replicas": 1, "paused": True, "args": ["a", "b"]},
}

KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)


def apply(target: Any, patch: Any) -> Any:
    """RFC 7386, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply(result.get(name), value)
    return result


@given(OBJECTS, OBJECTS)
def test_the_patch_turns_old_into_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = merge_patch(old, new)
    assert not differs(apply(old, patch), new)
    assert bool(patch) == differs(old, new)


def test_only_what_differs_is_in_it() -> None:
    new = {
        "metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "1", "z": "3"}},
        "spec": {"replicas": 1, "paused": 1, "args": ["a"]},
    }
    assert merge_patch(OLD, new) == {
        "metadata": {"labels": {"y": None, "z": "3"}},
        "spec": {"paused": 1, "args": ["a"]},
    }


def test_a_lock_carries_the_old_version() -> None:
    new = {**OLD, "spec": {**OLD["spec"], "replicas": 2}}
    assert merge_patch(OLD, new, lock=True) == {
        "metadata": {"resourceVersion": "7"},
        "spec": {"replicas": 2},
    }
    assert merge_patch(OLD, OLD, lock=True) == {}
    with pytest.raises(ValueError, match=r"needs metadata\.resourceVersion"):
        merge_patch({"spec": {}}, {"spec": {"a": 1}}, lock=True)


@pytest.mark.parametrize("value", [None, {"deep": {"er": None}}])
def test_null_cannot_be_written_by_a_merge_patch(value: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot set spec\.it(\.deep\.er)? to null"):
        merge_patch({"spec": {}}, {"spec": {"it": value}})


def test_a_null_that_is_there_already_stays() -> None:
    assert merge_patch({"a": None, "b": 1}, {"a": None, "b": 2}) == {"b": 2}
