"""Merge patch, JSON patch and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.patching.jsonpatch import MAX_OPERATIONS, json_patch
from kaito.embedded.apiserver.patching.merge import merge_patch
from kaito.embedded.apiserver.patching.strategic import strategic_merge
from kaito.runtime.errors import ApiError, BadRequest, Invalid, RequestEntityTooLarge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text("xyz", min_size=1, max_size=1), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"a": "foo"}, {"b": {"c": {"d": None}}}, {"a": "foo", "b": {"c": {}}}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": 1}, None, None),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy((target, patch))
    assert merge_patch(target, patch) == result
    assert (target, patch) == before


@given(JSON, JSON)
def test_merging_twice_is_merging_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


def difference(old: Any, new: Any) -> Any:
    """The merge patch from one object (without nulls) to another."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch: dict[str, Any] = dict.fromkeys(set(old) - set(new))
    for key, value in new.items():
        if key not in old or old[key] != value:
            patch[key] = difference(old.get(key), value)
    return patch


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


@given(
    st.dictionaries(st.text("xyz", min_size=1, max_size=1), JSON).map(without_nulls), JSON.map(without_nulls)
)
def test_a_merge_patch_leads_to_what_it_was_made_for(old: Any, new: Any) -> None:
    if isinstance(new, dict):
        assert merge_patch(old, difference(old, new)) == new


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ({}, BadRequest),
        (["x"], BadRequest),
        ([{"op": "nonsense", "path": "/a"}], Invalid),
        ([{"path": "/a"}], Invalid),
        ([{"op": "remove", "path": "/b/c"}], Invalid),
        ([{"op": "test", "path": "/a", "value": 2}], Invalid),
        ([{"op": "add", "path": "/l/9", "value": 1}], Invalid),
        ([{"op": "add", "path": "a", "value": 1}], ApiError),
        ([{"op": "replace", "path": "", "value": 1}], BadRequest),
        ([{"op": "test", "path": "/a", "value": 1}] * (MAX_OPERATIONS + 1), RequestEntityTooLarge),
    ],
)
def test_json_patches_that_fail(operations: Any, error: type[ApiError]) -> None:
    with pytest.raises(error):
        json_patch({"a": 1, "l": []}, operations)


def test_a_json_patch_leaves_its_target_alone() -> None:
    target = {"a": {"b": [1]}}
    result = json_patch(
        target,
        [
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "add", "path": "/a/b/-", "value": 2},
            {"op": "add", "path": "/a/x~1y", "value": 3},
            {"op": "replace", "path": "/a/new", "value": 4},
        ],
    )
    assert (result, target) == ({"a": {"b": [1, 2], "x/y": 3, "new": 4}}, {"a": {"b": [1]}})


POD = TABLE.merge_schema("Pod")
SERVICE = TABLE.merge_schema("Service")
DEPLOYMENT = TABLE.merge_schema("Deployment")


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


ONE, TWO = {"name": "one", "image": "1"}, {"name": "two", "image": "2"}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # elements are matched by name and changed; new ones come before those that the patch does not name
        ([ONE, TWO], [{"name": "two", "image": "3"}], [ONE, {"name": "two", "image": "3"}]),
        ([ONE], [{"name": "two", "image": "2"}], [TWO, ONE]),
        ([ONE, TWO], [{"name": "one", "$patch": "delete"}], [TWO]),
        ([ONE], [{"name": "nobody", "$patch": "delete"}], [ONE]),
        ([ONE, TWO], [{"name": "three"}, {"$patch": "replace"}], [{"name": "three"}]),
        ([ONE], [{"name": "one", "image": None}], [{"name": "one"}]),
        (None, [ONE], [ONE]),
    ],
)
def test_containers_merge_by_name(target: Any, patch: Any, result: Any) -> None:
    live = spec(containers=target) if target else spec()
    before = copy.deepcopy((live, patch))
    assert strategic_merge(live, spec(containers=patch), POD) == spec(containers=result)
    assert (live, patch) == before


@pytest.mark.parametrize(
    ("schema", "target", "patch", "result"),
    [
        # lists without a merge key are replaced
        (
            POD,
            spec(tolerations=[{"key": "a"}]),
            spec(tolerations=[{"key": "b"}]),
            spec(tolerations=[{"key": "b"}]),
        ),
        # maps merge, null deletes
        (
            POD,
            spec(nodeSelector={"a": "1", "b": "2"}),
            spec(nodeSelector={"a": None}),
            spec(nodeSelector={"b": "2"}),
        ),
        (
            POD,
            spec(nodeSelector={"a": "1"}),
            spec(nodeSelector={"$patch": "replace", "b": "2"}),
            spec(nodeSelector={"b": "2"}),
        ),
        (POD, spec(nodeSelector={"a": "1"}), spec(nodeSelector={"$patch": "delete"}), spec(nodeSelector={})),
        # other merge keys
        (
            SERVICE,
            spec(ports=[{"port": 80, "name": "a"}, {"port": 81}]),
            spec(ports=[{"port": 80, "targetPort": 5000}]),
            spec(ports=[{"port": 80, "name": "a", "targetPort": 5000}, {"port": 81}]),
        ),
        (
            POD,
            {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
            {
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]
                }
            },
            {
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]
                }
            },
        ),
        # primitives
        (
            POD,
            {"metadata": {"finalizers": ["a/1", "b/2"]}},
            {"metadata": {"finalizers": ["c/3", "a/1"]}},
            {"metadata": {"finalizers": ["c/3", "a/1", "b/2"]}},
        ),
        (
            POD,
            {"metadata": {"finalizers": ["a/1", "b/2"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/1"]}},
            {"metadata": {"finalizers": ["b/2"]}},
        ),
        # order
        (
            POD,
            spec(containers=[ONE, TWO]),
            {"spec": {"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]}},
            spec(containers=[TWO, ONE]),
        ),
        (
            POD,
            spec(containers=[ONE]),
            {
                "spec": {
                    "$setElementOrder/containers": [{"name": "two"}, {"name": "one"}],
                    "containers": [TWO],
                }
            },
            spec(containers=[TWO, ONE]),
        ),
        # unions
        (
            DEPLOYMENT,
            spec(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}),
            spec(strategy={"$retainKeys": ["type"], "type": "Recreate"}),
            spec(strategy={"type": "Recreate"}),
        ),
        # directives and nulls do not survive in what is new
        (
            POD,
            spec(),
            spec(affinity={"nodeAffinity": None, "podAffinity": {"$patch": "merge", "x": 1}}),
            spec(affinity={"podAffinity": {"x": 1}}),
        ),
    ],
)
def test_strategic_merge(schema: Any, target: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy((target, patch))
    assert strategic_merge(target, patch, schema) == result
    assert (target, patch) == before


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        (spec(containers=[{"image": "x"}]), "does not contain declared merge key: name"),
        (spec(containers=["x"]), "expected an object"),
        (spec(**{"$patch": "explode"}), "Unrecognized patch directive"),
        (spec(**{"$what": 1}), "unknown directive"),
        (spec(**{"$retainKeys": "x"}), "must be a list"),
    ],
)
def test_strategic_patches_that_are_refused(patch: Any, text: str) -> None:
    with pytest.raises(BadRequest, match=text.replace("$", r"\$")):
        strategic_merge(spec(containers=[ONE]), patch, POD)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), unique=True),
    st.lists(st.sampled_from("abcd"), unique=True),
)
def test_no_element_is_lost_or_doubled(live: list[str], patched: list[str]) -> None:
    target = spec(containers=[{"name": name, "image": "1"} for name in live])
    patch = spec(containers=[{"name": name, "image": "2"} for name in patched])
    once = strategic_merge(target, patch, POD)
    names = [item["name"] for item in once["spec"].get("containers", [])]
    assert sorted(names) == sorted(set(live) | set(patched))
    assert strategic_merge(once, patch, POD) == once
