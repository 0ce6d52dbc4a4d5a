"""Custom kinds: pruning, defaults, validation and CEL rules."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kaito.embedded.apiserver.kinds.crd import crd_strategy
from kaito.runtime.errors import BadRequest
from support.things import INTEGER, STRING, created, definition, problems, strategy, thing


def test_unknown_fields_are_dropped_and_named() -> None:
    kind = strategy(
        {
            "a": STRING,
            "deep": {"type": "object", "properties": {"b": STRING}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"c": STRING}}},
            "map": {
                "type": "object",
                "additionalProperties": {"type": "object", "properties": {"d": STRING}},
            },
            "free": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"e": STRING},
            },
            "closed": {"type": "object"},
            "pod": {
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "properties": {"spec": {"type": "object"}},
            },
        }
    )
    obj = thing(
        {
            "a": "1",
            "x": 1,
            "deep": {"b": "1", "x": 1},
            "list": [{"c": "1"}, {"x": 1}],
            "map": {"k": {"d": "1", "x": 1}},
            "free": {"anything": {"goes": 1}},
            "closed": {"x": 1},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "x": 1},
        },
        other=1,
    )
    obj["metadata"]["nonsense"] = 1
    unknown = kind.prune(obj)
    assert sorted(unknown) == [
        "metadata.nonsense",
        "other",
        "spec.closed.x",
        "spec.deep.x",
        "spec.list[1].x",
        "spec.map.k.x",
        "spec.pod.x",
        "spec.x",
    ]
    assert obj["spec"]["free"] == {"anything": {"goes": 1}}
    assert obj["spec"]["pod"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    assert "nonsense" not in obj["metadata"]


def test_metadata_of_a_wrong_type_is_a_400() -> None:
    obj = thing({})
    obj["metadata"]["labels"] = {"a": 1}
    with pytest.raises(BadRequest, match=r"Go struct field ObjectMeta.metadata.labels\.a of type string"):
        strategy({}).prune(obj)


def test_defaults_fill_what_is_missing_here_and_below() -> None:
    inner = {"type": "object", "default": {}, "properties": {"size": {**INTEGER, "default": 3}}}
    kind = strategy(
        {
            "inner": inner,
            "absent": {"type": "object", "properties": {"size": {**INTEGER, "default": 3}}},
            "list": {
                "type": "array",
                "items": {"type": "object", "properties": {"p": {**STRING, "default": "TCP"}}},
            },
            "map": {
                "type": "object",
                "additionalProperties": {"type": "object", "properties": {"q": {**INTEGER, "default": 1}}},
            },
            "nullable": {**STRING, "nullable": True, "default": "x"},
            "plain": {**STRING, "default": "x"},
        }
    )
    spec = {"list": [{}, {"p": "UDP"}], "map": {"k": {}}, "nullable": None, "plain": None}
    assert created(kind, spec)["spec"] == {
        "inner": {"size": 3},
        "list": [{"p": "TCP"}, {"p": "UDP"}],
        "map": {"k": {"q": 1}},
        "nullable": None,
        "plain": "x",
    }


def test_defaults_are_not_shared_between_objects() -> None:
    kind = strategy({"list": {"type": "array", "items": STRING, "default": ["a"]}})
    created(kind, {})["spec"]["list"].append("b")
    assert created(kind, {})["spec"]["list"] == ["a"]


CASES: list[tuple[dict[str, Any], Any, str]] = [
    (STRING, 1, 'Invalid value: "integer": spec.f in body must be of type string: "integer"'),
    (INTEGER, 1.0, 'Invalid value: "number": spec.f in body must be of type integer: "number"'),
    (INTEGER, True, 'Invalid value: "boolean": spec.f in body must be of type integer: "boolean"'),
    (INTEGER, "1", 'Invalid value: "string": spec.f in body must be of type integer: "string"'),
    ({"type": "boolean"}, 1, 'Invalid value: "integer": spec.f in body must be of type boolean: "integer"'),
    (
        {"type": "array", "items": STRING},
        {},
        'Invalid value: "object": spec.f in body must be of type array: "object"',
    ),
    ({"type": "object"}, [], 'Invalid value: "array": spec.f in body must be of type object: "array"'),
    (
        {"x-kubernetes-int-or-string": True},
        True,
        'Invalid value: "boolean": spec.f in body must be of type integer,string: "boolean"',
    ),
    ({**STRING, "enum": ["a", "b"]}, "c", 'Unsupported value: "c": supported values: "a", "b"'),
    ({**STRING, "pattern": "^[a-z]+$"}, "A", "Invalid value: \"A\": spec.f in body should match '^[a-z]+$'"),
    (
        {**STRING, "pattern": "^[a-z]+$"},
        "a\n",
        "Invalid value: \"a\\n\": spec.f in body should match '^[a-z]+$'",
    ),
    ({**STRING, "minLength": 2}, "a", 'Invalid value: "a": spec.f in body should be at least 2 chars long'),
    ({**STRING, "maxLength": 2}, "abc", "Too long: may not be more than 2 bytes"),
    ({**INTEGER, "minimum": 1}, 0, "Invalid value: 0: spec.f in body should be greater than or equal to 1"),
    (
        {**INTEGER, "minimum": 1, "exclusiveMinimum": True},
        1,
        "Invalid value: 1: spec.f in body should be greater than 1",
    ),
    (
        {"type": "number", "maximum": 1.5},
        2,
        "Invalid value: 2: spec.f in body should be less than or equal to 1.5",
    ),
    ({**INTEGER, "multipleOf": 2}, 3, "Invalid value: 3: spec.f in body should be a multiple of 2"),
    (
        {"type": "array", "items": STRING, "minItems": 1},
        [],
        "Invalid value: 0: spec.f in body should have at least 1 items",
    ),
    ({"type": "array", "items": STRING, "maxItems": 1}, ["a", "b"], "Too many: 2: must have at most 1 item"),
    (
        {"type": "object", "additionalProperties": STRING, "minProperties": 1},
        {},
        "Invalid value: 0: spec.f in body should have at least 1 properties",
    ),
    (
        {**STRING, "format": "date-time"},
        "today",
        'Invalid value: "today": spec.f in body must be of type date-time: "today"',
    ),
    (
        {**INTEGER, "format": "int32"},
        1 << 31,
        'Invalid value: 2147483648: spec.f in body must be of type int32: "2147483648"',
    ),
    (
        {**STRING, "format": "ipv4"},
        "1.2.3",
        'Invalid value: "1.2.3": spec.f in body must be of type ipv4: "1.2.3"',
    ),
    (
        {**STRING, "not": {"enum": ["x"]}},
        "x",
        'Invalid value: "": "spec.f" must not validate the schema (not)',
    ),
    (
        {"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
        ["a", "b", "a"],
        'Duplicate value: "a"',
    ),
    (
        {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": STRING, "v": STRING}},
        },
        [{"k": "a"}, {"k": "a", "v": "1"}],
        'Duplicate value: {"k":"a"}',
    ),
]


@pytest.mark.parametrize(("schema", "value", "message"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_values_that_are_refused(schema: dict[str, Any], value: Any, message: str) -> None:
    found = problems(strategy({"f": schema}), {"f": value})
    path = "spec.f[2]: " if schema.get("x-kubernetes-list-type") == "set" else "spec.f: "
    path = "spec.f[1]: " if schema.get("x-kubernetes-list-type") == "map" else path
    assert found == [path + message]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({**STRING, "nullable": True}, None),
        # where no null is allowed it is as if the field were not there
        (STRING, None),
        ({"type": "number"}, 1),
        ({"x-kubernetes-int-or-string": True}, "50%"),
        ({"x-kubernetes-int-or-string": True, "anyOf": [INTEGER, STRING]}, 5),
        ({**STRING, "pattern": "b"}, "abc"),
        ({**STRING, "pattern": r"^[[:alpha:]]+\z"}, "abc"),
        ({**STRING, "format": "date-time"}, "2026-01-01T00:00:00.5+02:00"),
        ({**STRING, "format": "duration"}, "1h30m"),
        ({**STRING, "format": "unheard-of"}, "x"),
        ({**STRING, "enum": ["", "a"]}, ""),
    ],
)
def test_values_that_pass(schema: dict[str, Any], value: Any) -> None:
    assert problems(strategy({"f": schema}), {"f": value}) == []


def test_required_fields_and_their_causes() -> None:
    kind = strategy({"a": STRING}, required=["a", "b"])
    errors = kind.validate(created(kind, {}))
    assert [error.cause() for error in errors[:2]] == [
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.b"},
    ]
    typed = kind.validate(created(kind, {"a": 1}))
    assert typed[1].cause()["reason"] == "FieldValueTypeInvalid"


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        ({"a": "1"}, None),
        ({"b": "1"}, None),
        (
            {},
            'spec: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid',
        ),
        (
            {"a": "1", "b": "1"},
            'spec: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives',
        ),
    ],
)
def test_one_of(spec: Any, first: str | None) -> None:
    kind = strategy({"a": STRING, "b": STRING}, oneOf=[{"required": ["a"]}, {"required": ["b"]}])
    found = problems(kind, spec)
    assert (found[0] if found else None) == first


def test_an_embedded_resource_says_what_it_is() -> None:
    embedded = {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "x-kubernetes-preserve-unknown-fields": True,
    }
    kind = strategy({"f": embedded})
    assert problems(kind, {"f": {"apiVersion": "v1", "kind": "Pod", "spec": {}}}) == []
    assert problems(kind, {"f": {"kind": "Pod"}}) == ["spec.f.apiVersion: Required value: must not be empty"]


def test_any_of_and_all_of() -> None:
    kind = strategy(
        {"a": INTEGER, "b": STRING},
        anyOf=[{"required": ["a"]}, {"required": ["b"]}],
        allOf=[{"properties": {"a": {"minimum": 3}}}],
    )
    assert problems(kind, {"a": 3}) == []
    assert '"spec" must validate at least one schema (anyOf)' in problems(kind, {})[0]
    assert '"spec" must validate all the schemas (allOf)' in problems(kind, {"a": 1})[0]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({**STRING, "maxLength": 2}, "abc"),
        ({**STRING, "x-kubernetes-validations": [{"rule": "self == 'x'"}]}, "abc"),
        ({"type": "array", "items": STRING, "x-kubernetes-list-type": "set"}, ["a", "a"]),
        ({"type": "object", "properties": {"x": INTEGER}, "required": ["x"]}, {}),
    ],
)
def test_what_was_wrong_before_may_stay(schema: dict[str, Any], value: Any) -> None:
    """Rules that were tightened after an object was stored do not stop changes elsewhere."""
    kind = strategy({"f": schema, "other": STRING})
    assert problems(kind, {"f": value}) != []
    assert problems(kind, {"f": value, "other": "new"}, {"f": value}) == []


def test_generation_counts_changes_of_the_spec_only() -> None:
    kind = strategy({"a": STRING})
    old = created(kind, {"a": "1"})
    old["status"] = {"phase": "x"}
    labelled = copy.deepcopy(old)
    labelled["metadata"]["labels"] = {"l": "1"}
    labelled["status"] = {"phase": "ignored"}
    kind.prepare_update(labelled, old)
    assert (labelled["metadata"]["generation"], labelled["status"]) == (1, {"phase": "x"})
    changed = copy.deepcopy(old)
    changed["spec"]["a"] = "2"
    kind.prepare_update(changed, old)
    assert changed["metadata"]["generation"] == 2


def test_a_status_update_changes_nothing_but_the_status() -> None:
    kind = strategy({"a": STRING})
    old = created(kind, {"a": "1"})
    new = copy.deepcopy(old)
    new["spec"]["a"] = "2"
    new["metadata"]["labels"] = {"l": "1"}
    new["status"] = {"phase": "done"}
    kind.prepare_status_update(new, old)
    assert new == {**old, "status": {"phase": "done"}}


def test_status_is_ignored_at_creation() -> None:
    kind = strategy({})
    obj = thing({}, status={"phase": "x"})
    kind.prepare_create(obj)
    assert "status" not in obj


def test_versions_with_different_schemas_convert_by_pruning() -> None:
    crd = definition({"type": "object", "properties": {"a": STRING, "b": STRING}})
    other = copy.deepcopy(crd["spec"]["versions"][0])
    other |= {"name": "v2", "storage": False}
    other["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] = {
        "a": STRING,
        "c": {**STRING, "default": "new"},
    }
    crd["spec"]["versions"].append(other)
    stored = thing({"a": "1", "b": "2"})
    kind = crd_strategy(crd, "v2")
    assert kind.from_storage(stored) == {
        **stored,
        "apiVersion": "example.com/v2",
        "spec": {"a": "1"},
    }
    # What the stored version does not know would not come back, so it is not kept.
    assert kind.to_storage({**thing({"a": "1", "c": "2"}), "apiVersion": "example.com/v2"}) == thing(
        {"a": "1"}
    )
    assert crd_strategy(crd, "v1").from_storage(stored) is stored
