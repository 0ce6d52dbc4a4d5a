"""What holds for every sequence of applies and updates."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.applying import T2, apply, deployment, fields, update

NAMES = st.sampled_from(["p", "q", "r"])
CONTAINER = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "image": st.sampled_from(["1", "2"]),
        "tty": st.booleans(),
        "env": st.lists(
            st.fixed_dictionaries({"name": NAMES}, optional={"value": st.sampled_from(["a", "b"])}),
            max_size=3,
            unique_by=lambda item: item["name"],
        ),
        "args": st.lists(st.sampled_from(["x", "y"]), max_size=2),
    },
)
CONFIGURATION = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 3),
        "paused": st.booleans(),
        "template": st.fixed_dictionaries(
            {
                "spec": st.fixed_dictionaries(
                    {"containers": st.lists(CONTAINER, max_size=3, unique_by=lambda item: item["name"])}
                )
            }
        ),
    },
).map(lambda spec: deployment(**spec))


def contains(value: Any, part: Any, name: str = "") -> bool:
    """Whether everything in `part` is in `value`, lists of named things by name."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], child, key) for key, child in part.items()
        )
    if name in ("containers", "env"):
        return all(
            any(contains(item, child) for item in value if item["name"] == child["name"]) for child in part
        )
    return bool(value == part)


def bare(obj: Any) -> Any:
    return {key: value for key, value in obj.items() if key != "metadata"}


@settings(max_examples=150, deadline=None)
@given(CONFIGURATION, CONFIGURATION)
def test_what_is_applied_is_there_and_applying_twice_is_no_change(one: Any, two: Any) -> None:
    live = apply(apply(None, one, "a"), two, "b", force=True)
    assert contains(live["spec"], two["spec"])
    assert apply(live, two, "b", now=T2) == live


@settings(max_examples=150, deadline=None)
@given(CONFIGURATION, CONFIGURATION)
def test_one_manager_alone_gets_what_it_asks_for(one: Any, two: Any) -> None:
    """With nobody else around, applying B after A leaves B."""
    result = apply(apply(None, one), two)
    assert contains(two["spec"], {k: v for k, v in result["spec"].items() if v not in ({}, [])}) or _same(
        result["spec"], two["spec"]
    )


def _same(left: Any, right: Any) -> bool:
    return contains(left, right) and contains(right, left)


@settings(max_examples=150, deadline=None)
@given(CONFIGURATION, CONFIGURATION)
def test_disjoint_managers_never_conflict(one: Any, two: Any) -> None:
    renamed = copy.deepcopy(two)
    for name in ("replicas", "paused"):
        renamed["spec"].pop(name, None)
    for container in renamed["spec"].get("template", {}).get("spec", {}).get("containers", []):
        container["name"] = f"other-{container['name']}"
    both = apply(apply(None, one, "a"), renamed, "b")
    assert contains(both["spec"], one["spec"])
    assert contains(both["spec"], renamed["spec"])
    back = apply(both, deployment(), "b", now=T2)
    assert contains(back["spec"], one["spec"])
    assert fields(back, "a") == fields(both, "a")


@settings(max_examples=100, deadline=None)
@given(CONFIGURATION, CONFIGURATION)
def test_an_update_owns_exactly_what_it_changed(one: Any, two: Any) -> None:
    live = apply(None, one, "a")
    target = {**copy.deepcopy(live), "spec": two["spec"]}
    stored = update(live, target, "u", now=T2)
    taken = apply(stored, two, "c", now=T2)
    assert bare(taken) == bare(stored)
