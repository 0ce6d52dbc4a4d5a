"""Quantities, the notation of field tables, and the OpenAPI made from them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.embedded.apiserver.kinds import names, quantity
from kaito.embedded.apiserver.kinds.openapi import openapi_schemas
from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.kinds.typetable import TypeTable
from kaito.embedded.apiserver.schema.formats import compile_pattern, parse_duration
from kaito.embedded.apiserver.strategy import FieldError, aggregate


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"), ("1", "1"), ("1000", "1k"), ("1500", "1500"), ("0.5", "500m"), ("1.5", "1500m"),
        ("100m", "100m"), ("1000m", "1"), ("1Gi", "1Gi"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("1Ki", "1Ki"),
        ("0.5Ki", "512"), ("1e3", "1e3"), ("12e2", "1200"), ("-1", "-1"), ("+2", "2"), ("1n", "1n"),
        ("0.1n", "1n"), ("1E", "1E"), (".5", "500m"), ("5.", "5"),
    ],
)  # fmt: skip
def test_canonical_quantities(text: str, canonical: str) -> None:
    assert quantity.canonical(text) == canonical
    assert quantity.parse(quantity.canonical(text)) == quantity.parse(text)


@pytest.mark.parametrize("text", ["", "lots", "1 Gi", "1gi", "1.2.3", "Gi", "--1", "1e99"])
def test_malformed_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantit"):
        quantity.canonical(text)


@given(st.integers(-(10**6), 10**6), st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "Gi"]))
def test_a_canonical_quantity_is_a_fixed_point(number: int, suffix: str) -> None:
    once = quantity.canonical(f"{number}{suffix}")
    assert quantity.canonical(once) == once
    assert quantity.parse(once) == quantity.parse(f"{number}{suffix}")


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("    1 a string", "before any type"),
        ("T\n    a string", "not a field"),
        ("T\n    1 a string colour=red", "unknown attribute"),
        ("T\n    1 a Nothing", "unknown type Nothing"),
    ],
)
def test_tables_that_make_no_sense(table: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TypeTable(table)


def test_every_list_key_is_a_field_of_the_element() -> None:
    for definition in TABLE:
        numbers = [item.wire for item in definition.fields.values() if item.wire != (0,)]
        assert len(numbers) == len(set(numbers)), definition.name
        for item in definition.fields.values():
            for key in (*item.by, item.patch):
                assert key in ("", ".") or (item.target and key in item.target.fields), (
                    definition.name,
                    item.name,
                )


def test_openapi_tells_clients_how_to_merge() -> None:
    name, schemas = openapi_schemas(TABLE.root("Pod"))
    spec: Any = schemas["io.k8s.api.PodSpec"]["properties"]
    assert name == "io.k8s.api.Pod"
    assert spec["containers"] == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/io.k8s.api.Container"},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-patch-strategy": "merge",
        "x-kubernetes-patch-merge-key": "name",
    }
    assert spec["volumes"]["x-kubernetes-patch-strategy"] == "merge,retainKeys"
    assert spec["nodeSelector"]["x-kubernetes-map-type"] == "atomic"
    for schema in schemas.values():
        for field in schema["properties"].values():
            for reference in (field, field.get("items", {}), field.get("additionalProperties", {})):
                assert reference.get("$ref", "#/components/schemas/io.k8s.api.Pod").split("/")[-1] in schemas


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^a$", "a", True),
        ("^a$", "a\n", False),
        (r"\d+", "x1", True),
        ("[[:digit:]]+", "x1", True),
        ("[$]", "$", True),
        (r"a\z", "ba", True),
        ("[^[:space:]]", " ", False),
        (r"\$", "$", True),
    ],
)
def test_patterns_mean_what_they_mean_in_go(pattern: str, text: str, found: bool) -> None:
    assert bool(compile_pattern(pattern).search(text)) is found


@pytest.mark.parametrize("pattern", ["(?=a)", "(?!a)", "(?<=a)", r"(a)\1", "(", "[a"])
def test_patterns_go_does_not_have(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        compile_pattern(pattern)


def test_durations() -> None:
    assert parse_duration("-1h30m0.5s").total_seconds() == -5400.5
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration("1 hour")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.dns_subdomain, "a.b-c.1", "a..b"),
        (names.dns_label, "a-1", "a.b"),
        (names.dns_label_1035, "a1", "1a"),
        (names.qualified_name, "example.com/Name_1.x", "/x"),
        (names.label_value, "", "-x"),
        (names.config_key, "a_B.c-1", ".."),
        (names.path_segment, "system:any thing", "a/b"),
        (names.env_name, "my.var-1", "a=b"),
        (names.port_name, "http-1", "http--1"),
        (names.ip_address, "::1", "1.2.3"),
    ],
)
def test_names(check: names.Check, good: str, bad: str) -> None:
    assert check(good) == ()
    assert check(bad) != ()


def test_one_error_stands_alone_and_several_are_listed() -> None:
    one, two = FieldError("a", "Required value"), FieldError("b", "Invalid value", "no", {"x": [1]})
    assert aggregate([one]) == "a: Required value"
    assert aggregate([one, two, one]) == '[a: Required value, b: Invalid value: {"x":[1]}: no]'
