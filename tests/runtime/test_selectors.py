"""Selectors: grammar, matching, and messages that say where it goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.selectors import (
    SelectorError,
    field_text,
    label_selector,
    parse_field_selector,
    parse_label_selector,
)

LABELS = {"app": "x", "kaito.sh/workspace": "w", "n": "5", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=x", True),
        ("app==x", True),
        ("app = y", False),
        ("app!=x", False),
        ("absent!=x", True),
        ("kaito.sh/workspace=w, app in (x, y)", True),
        ("app notin (x,y)", False),
        ("absent notin (x)", True),
        ("absent in (x)", False),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("!app", False),
        ("n>4,n<6", True),
        ("n>5", False),
        ("app>1", False),
        ("empty=", True),
        ("empty in (,x)", True),
        ("empty", True),
        ("app in (x),app!=", True),
        ("in in (x)", False),
        ("notin=1", False),
    ],
)
def test_label_selectors(text: str, expected: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    "text",
    [
        "=x",
        "app=x,",
        ",app=x",
        "app=x y",
        "app in x",
        "app in (x",
        "!",
        "a b",
        "app=(x)",
        "n>x",
        "-a=b",
        "a=b/c",
        "a===",
    ],
)
def test_bad_label_selectors_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(SelectorError, match="label selector"):
        parse_label_selector(text)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        ({}, True),
        ({"app": "x"}, True),
        ({"app": "y"}, False),
        ({"matchLabels": {"app": "x"}}, True),
        (
            {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "n", "operator": "DoesNotExist"}]},
            False,
        ),
        ({"matchExpressions": [{"key": "n", "operator": "In", "values": ["5", "6"]}]}, True),
        ({"matchExpressions": [{"key": "n", "operator": "NotIn", "values": ["5", "6"]}]}, False),
        ({"matchExpressions": [{"key": "n", "operator": "Exists"}]}, True),
    ],
)
def test_selector_objects(selector: Any, expected: bool) -> None:
    assert label_selector(selector).matches(LABELS) is expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"key": "n", "operator": "Like"}, r"matchExpressions\[0\].operator: 'Like' is not one of In, NotIn"),
        ({"key": "n", "operator": "In"}, r"matchExpressions\[0\].values: In needs at least one"),
        ({"key": "n", "operator": "Exists", "values": ["x"]}, r"Exists takes none"),
        ({"operator": "Exists"}, r"matchExpressions\[0\]: key is missing"),
    ],
)
def test_bad_selector_objects(expression: Any, message: str) -> None:
    with pytest.raises(SelectorError, match=message):
        label_selector({"matchExpressions": [expression]})


_names = st.from_regex(r"[a-z]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True)
_terms = st.one_of(
    st.tuples(_names, _names).map("=".join),
    st.tuples(_names, _names).map("!=".join),
    _names,
    _names.map(lambda name: f"!{name}"),
    st.tuples(_names, st.sampled_from(["in", "notin"]), st.lists(_names, min_size=1, max_size=3)).map(
        lambda parts: f"{parts[0]} {parts[1]} ({','.join(parts[2])})"
    ),
)


@given(st.lists(_terms, max_size=4).map(",".join))
def test_what_is_written_reads_back_the_same(text: str) -> None:
    parsed = parse_label_selector(text)
    assert parse_label_selector(str(parsed)) == parsed


POD = {
    "metadata": {"name": "p"},
    "spec": {"nodeName": "n", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("metadata.name=p", True),
        ("metadata.name==p,spec.nodeName!=m", True),
        ("status.phase!=Running", False),
        ("spec.nodeName=", False),
        ("spec.absent=", True),
        ("spec.hostNetwork=true", True),
    ],
)
def test_field_selectors(text: str, expected: bool) -> None:
    assert parse_field_selector(text).matches_object(POD) is expected


def test_field_values_may_be_escaped() -> None:
    selector = parse_field_selector(r"a=x\,y\=z\\")
    assert selector.requirements[0].value == "x,y=z\\"


@pytest.mark.parametrize("text", ["metadata.name", "=x", "a=b=c", "a=b,,c=d"])
def test_bad_field_selectors(text: str) -> None:
    with pytest.raises(SelectorError, match="field selector"):
        parse_field_selector(text)


def test_field_text_of_things_that_are_not_text() -> None:
    assert field_text({"a": {"b": 3}}, "a.b") == "3"
    assert field_text({"a": "x"}, "a.b") == ""
    assert field_text({"a": False}, "a") == "false"


@given(
    st.lists(
        st.sampled_from(
            [
                "a=1",
                "a!=1",
                "a in (1,2)",
                "a notin (1,2)",
                "a",
                "!a",
                "a>1",
                "a<2",
                "b=1",
                "b in ()",
                "b notin (1)",
            ]
        ),
        max_size=4,
    ),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "0", "1", "2", "x"])),
)
def test_a_compiled_selector_selects_the_same(terms: list[str], labels: dict[str, str]) -> None:
    selector = parse_label_selector(",".join(terms))
    assert selector.compiled()(labels) is selector.matches(labels)
