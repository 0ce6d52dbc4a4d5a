"""CEL rules of custom kinds: what they see, when they run, what they say."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.embedded.apiserver.kinds.crd import crd_strategy
from support.things import INTEGER, STRING, created, definition, problems, strategy

RULES: list[tuple[dict[str, Any], Any, Any, list[str]]] = [
    ({"rule": "self.n > 1"}, {"n": 1}, None, ['spec: Invalid value: "object": failed rule: self.n > 1']),
    (
        {"rule": "self.n > 1", "message": "too small"},
        {"n": 1},
        None,
        ['spec: Invalid value: "object": too small'],
    ),
    (
        {"rule": "self.n > 1", "messageExpression": "'got ' + string(self.n)"},
        {"n": 1},
        None,
        ['spec: Invalid value: "object": got 1'],
    ),
    (
        {"rule": "self.n > 1", "messageExpression": "self.s + 'x'", "message": "plain"},
        {"n": 1},
        None,
        ['spec: Invalid value: "object": plain'],
    ),
    (
        {"rule": "self.n > 1", "reason": "FieldValueForbidden", "fieldPath": ".n", "message": "no"},
        {"n": 1},
        None,
        ["spec.n: Forbidden: no"],
    ),
    (
        {"rule": "self.n > 1", "reason": "FieldValueDuplicate", "message": "which Kubernetes leaves out"},
        {"n": 1},
        None,
        ['spec: Duplicate value: "object"'],
    ),
    ({"rule": "self.n == oldSelf.n", "message": "fixed"}, {"n": 1}, None, []),
    ({"rule": "self.n == oldSelf.n", "message": "fixed"}, {"n": 1}, {"n": 1}, []),
    (
        {"rule": "self.n == oldSelf.n", "message": "fixed"},
        {"n": 1},
        {"n": 2},
        ['spec: Invalid value: "object": fixed'],
    ),
    (
        {"rule": "oldSelf.hasValue() || self.n > 1", "optionalOldSelf": True, "message": "at birth"},
        {"n": 1},
        None,
        ['spec: Invalid value: "object": at birth'],
    ),
    (
        {"rule": "oldSelf.hasValue() || self.n > 1", "optionalOldSelf": True, "message": "at birth"},
        {"n": 1},
        {"n": 1},
        [],
    ),
    ({"rule": "!has(self.s) || self.s.startsWith('a')"}, {}, None, []),
    ({"rule": "has(self.s) && self.s.find('[0-9]+') == '12'"}, {"s": "a12b"}, None, []),
    ({"rule": "self.list.all(x, x != 'b') && size(self.list) == 2"}, {"list": ["a", "c"]}, None, []),
    (
        {"rule": "self.list.exists(x, x.matches('^c$')) && self.list.isSorted()"},
        {"list": ["a", "c"]},
        None,
        [],
    ),
    ({"rule": "self.map.all(k, self.map[k] > 0)"}, {"map": {"a": 1}}, None, []),
    ({"rule": "self.f * 2.0 == 4.0"}, {"f": 2}, None, []),
    ({"rule": "self.t > timestamp('2026-01-01T00:00:00Z')"}, {"t": "2026-01-02T00:00:00Z"}, None, []),
    ({"rule": "self.d == duration('90m')"}, {"d": "1h30m"}, None, []),
    ({"rule": "self.__namespace__ == 'x'"}, {"namespace": "x"}, None, []),
    ({"rule": "self.a__dash__b == 'x'"}, {"a-b": "x"}, None, []),
    ({"rule": "has(self.free) && !has(self.s)"}, {"free": {"hidden": 1}}, None, []),
    (
        {"rule": "self.s == 'x'"},
        {},
        None,
        ["spec: Invalid value: \"object\": no such key: s evaluating rule: failed rule: self.s == 'x'"],
    ),
]


@pytest.mark.parametrize(("rule", "spec", "old", "found"), RULES, ids=[str(i) for i in range(len(RULES))])
def test_rules(rule: dict[str, Any], spec: Any, old: Any, found: list[str]) -> None:
    kind = strategy(
        {
            "n": INTEGER,
            "s": STRING,
            "namespace": STRING,
            "a-b": STRING,
            "f": {"type": "number"},
            "t": {**STRING, "format": "date-time"},
            "d": {**STRING, "format": "duration"},
            "list": {"type": "array", "items": STRING},
            "map": {"type": "object", "additionalProperties": INTEGER},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
        **{"x-kubernetes-validations": [rule]},
    )
    assert problems(kind, spec, old) == found


def test_a_root_rule_sees_the_name_only() -> None:
    rule = {"rule": "self.metadata.name.size() < 2 && self.kind == 'Thing'"}
    crd = definition({"type": "object"}, **{"x-kubernetes-validations": [rule]})
    kind = crd_strategy(crd, "v1")
    assert problems(kind, {}) == []
    obj = created(kind, {})
    obj["metadata"]["name"] = "long"
    assert str(kind.validate(obj)[0]).startswith('<nil>: Invalid value: "object": failed rule')


def test_what_may_stay_as_it_is_is_known_by_its_value() -> None:
    rule = {"rule": "self.n == oldSelf.n && self.n < 5", "message": "fixed"}
    kind = strategy({"n": INTEGER}, **{"x-kubernetes-validations": [rule]})
    refused = ['spec: Invalid value: "object": fixed']
    for _ in range(2):  # an answer that is remembered is the same answer
        assert problems(kind, {"n": 1}, {"n": 1}) == []
        assert problems(kind, {"n": 7}, {"n": 7}) == refused
        assert problems(kind, {"n": 1}, {"n": 2}) == refused
        assert problems(kind, {"n": 2}, {"n": 2}) == []


def test_transition_rules_follow_list_map_keys() -> None:
    item = {
        "type": "object",
        "required": ["k"],
        "properties": {"k": STRING, "v": STRING},
        "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "fixed"}],
    }
    kind = strategy(
        {
            "list": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": item,
            }
        }
    )
    old = {"list": [{"k": "a", "v": "1"}, {"k": "b", "v": "2"}]}
    assert problems(kind, {"list": [{"k": "b", "v": "2"}, {"k": "c", "v": "3"}]}, old) == []
    assert problems(kind, {"list": [{"k": "b", "v": "9"}]}, old) == [
        'spec.list[0]: Invalid value: "object": fixed'
    ]


def test_rules_wait_until_the_schema_is_satisfied() -> None:
    kind = strategy({"n": INTEGER}, **{"x-kubernetes-validations": [{"rule": "self.n > 1"}]})
    found = problems(kind, {"n": "x"})
    assert found[-1] == (
        "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
        "correct the existing errors to complete validation"
    )
    assert len(found) == 2
