"""The patch leads from the old tree to the new one, whatever they are."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.runtime.webhook.diff import json_patch, same

LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab/~", max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~0", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(old=TREES, new=TREES)
def test_the_patch_makes_new_of_old(old: Any, new: Any) -> None:
    # A whole document is only ever replaced by the empty path; the library wants a container there.
    left, right = {"root": old}, {"root": new}
    operations = json_patch(left, right)
    assert same(jsonpatch.JsonPatch(operations).apply(copy.deepcopy(left)), right)
    assert (operations == []) is same(left, right)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        ({"a": 1}, {"a": 1.0}, [{"op": "replace", "path": "/a", "value": 1.0}]),
        ({}, {"a/b~c": 1}, [{"op": "add", "path": "/a~1b~0c", "value": 1}]),
        ({"l": [1, 2, 3]}, {"l": [1, 3]}, [{"op": "remove", "path": "/l/1"}]),
        ({"l": [1, 3]}, {"l": [1, 2, 3]}, [{"op": "add", "path": "/l/1", "value": 2}]),
        (
            {"l": [{"n": "a", "v": 1}]},
            {"l": [{"n": "a", "v": 2}]},
            [{"op": "replace", "path": "/l/0/v", "value": 2}],
        ),
    ],
)
def test_patches_are_small(old: Any, new: Any, expected: list[dict[str, Any]]) -> None:
    assert json_patch(old, new) == expected
