"""CustomResourceDefinition objects: what is admitted, what is refused, and their status."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.embedded.apiserver.kinds.crd import DefinitionStrategy, crd_status, crd_strategy
from kaito.embedded.apiserver.strategy import Column, ScalePaths
from kaito.runtime.resources import CRDS

KIND = DefinitionStrategy(CRDS)
STRING = {"type": "string"}
NOW = "2026-01-01T00:00:00Z"
MANIFESTS = sorted((Path(__file__).parents[3] / "manifests").glob("crd*/*.sh_*.yaml"))


def definition(schema: Any = None, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"} if schema is None else schema},
            }
        ],
    }
    for path, value in changes.items():
        target = spec
        *parents, last = path.split("__")
        for name in parents:
            target = target[int(name) if name.isdigit() else name]  # type: ignore[call-overload]
        target[last] = value
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": spec,
    }


def problems(crd: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    KIND.prune(crd)
    if old is None:
        KIND.prepare_create(crd)
    else:
        KIND.prune(old)
        KIND.prepare_create(old)
        KIND.prepare_update(crd, old)
    return [str(error) for error in KIND.validate(crd, old)]


def spec_of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    spec = {"type": "object", "properties": properties, **more}
    return {"type": "object", "properties": {"spec": spec}}


def field(schema: dict[str, Any]) -> dict[str, Any]:
    return spec_of({"f": schema})


S = "spec.validation.openAPIV3Schema"
F = f"{S}.properties[spec].properties[f]"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_our_own_definitions_are_admitted(path: Path) -> None:
    crd = yaml.safe_load(path.read_text())
    assert KIND.prune(copy.deepcopy(crd)) == []
    assert problems(crd) == []
    for version in crd["spec"]["versions"]:
        crd_strategy(crd, version["name"])


def test_names_are_defaulted() -> None:
    crd = definition()
    assert problems(crd) == []
    assert crd["spec"]["names"] == {
        "plural": "things",
        "singular": "thing",
        "kind": "Thing",
        "listKind": "ThingList",
    }
    assert crd["spec"]["conversion"] == {"strategy": "None"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names__plural": "others"}, "metadata.name: Invalid value"),
        ({"group": "nodots"}, "spec.group: Invalid value"),
        ({"group": ""}, "spec.group: Required value"),
        ({"scope": "Galaxy"}, 'spec.scope: Unsupported value: "Galaxy"'),
        ({"names__kind": ""}, "spec.names.kind: Required value"),
        ({"names__listKind": "Thing"}, "spec.names.listKind: Invalid value"),
        ({"names__shortNames": ["Bad_Name"]}, "spec.names.shortNames[0]: Invalid value"),
        ({"versions": []}, "spec.versions: Required value"),
        ({"versions__0__storage": False}, "must have exactly one version marked as storage version"),
        ({"versions__0__name": "V1"}, "spec.versions[0].name: Invalid value"),
        (
            {"versions__0__schema": {}},
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        ({"preserveUnknownFields": True}, "spec.preserveUnknownFields: Invalid value"),
        ({"conversion": {"strategy": "Webhook"}}, "conversion webhooks are not implemented"),
        (
            {
                "versions__0__additionalPrinterColumns": [
                    {"name": "A", "type": "string", "jsonPath": "spec.a"}
                ]
            },
            "must be a simple json path starting with .",
        ),
        (
            {"versions__0__additionalPrinterColumns": [{"name": "A", "type": "text", "jsonPath": ".spec.a"}]},
            "must be one of boolean,date,integer,number,string",
        ),
        *(
            (
                {
                    "versions__0__additionalPrinterColumns": [
                        {"name": "A", "type": "string", "jsonPath": path}
                    ]
                },
                f"additionalPrinterColumns[0].JSONPath: Invalid value: {json.dumps(path)}: is an invalid JSON path",
            )
            for path in (".spec.a[", ".spec.a[x]", ".spec[?(@.b~1)]", ".spec.a b", '.spec[?(@.b=="x)]')
        ),
        (
            {
                "versions__0__subresources": {
                    "scale": {"specReplicasPath": ".status.x", "statusReplicasPath": ".status.x"}
                }
            },
            "should be a json path under .spec",
        ),
        (
            {
                "versions__0__subresources": {
                    "scale": {
                        "specReplicasPath": ".spec.x",
                        "statusReplicasPath": ".status.x",
                        "labelSelectorPath": ".status.list[0]",
                    }
                }
            },
            "scale.labelSelectorPath: Invalid value",
        ),
        (
            {"versions__0__selectableFields": [{"jsonPath": ".spec.list[0]"}]},
            "selectableFields[0].jsonPath: Invalid value",
        ),
    ],
)
def test_definitions_that_are_refused(changes: dict[str, Any], message: str) -> None:
    found = problems(definition(**changes))
    assert any(message in text for text in found), found


def test_protected_groups_need_approval() -> None:
    crd = definition(group="things.k8s.io")
    crd["metadata"]["name"] = "things.things.k8s.io"
    assert "api-approved.kubernetes.io" in problems(crd)[0]
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, experimental"}
    assert problems(crd) == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, f"{S}.type: Required value: must not be empty at the root"),
        ({"type": "array", "items": STRING}, f'{S}.type: Invalid value: "array": must be object at the root'),
        (
            {"type": "object", "nullable": True},
            f"{S}.nullable: Forbidden: nullable cannot be true at the root",
        ),
        ({"type": "object", "additionalProperties": STRING}, f"{S}.additionalProperties: Forbidden"),
        (
            {
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {"labels": STRING}}},
            },
            f"{S}.properties[metadata]: Forbidden: must not specify anything other than name and generateName",
        ),
        (field({}), f"{F}.type: Required value: must not be empty for specified object fields"),
        (field({"type": "text"}), f'{F}.type: Unsupported value: "text"'),
        (field({"type": "array"}), f"{F}.items: Required value: must be specified"),
        (field({"type": "array", "items": {}}), f"{F}.items.type: Required value"),
        (field({"type": "array", "items": [STRING]}), f"{F}.items: Forbidden: items must be a schema object"),
        (
            field({"type": "object", "properties": {"x": STRING}, "additionalProperties": STRING}),
            f"{F}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (field({"type": "object", "additionalProperties": False}), f"{F}.additionalProperties: Forbidden"),
        (field({**STRING, "$ref": "#/x"}), f"{F}.$ref: Forbidden: $ref is not supported"),
        (field({"type": "array", "items": STRING, "uniqueItems": True}), f"{F}.uniqueItems: Forbidden"),
        (field({**STRING, "pattern": "(?=x)"}), f"{F}.pattern: Invalid value"),
        (field({**STRING, "pattern": "["}), f"{F}.pattern: Invalid value"),
        (field({**STRING, "oneOf": [{"type": "string"}]}), f"{F}.oneOf[0].type: Forbidden"),
        (
            spec_of({"a": STRING}, anyOf=[{"properties": {"b": {"minLength": 1}}}]),
            f"{S}.properties[spec].properties[b]: Required value: because it is defined in",
        ),
        (field({**STRING, "x-kubernetes-list-type": "set"}), f"{F}.type: Invalid value"),
        (
            field({"type": "array", "items": STRING, "x-kubernetes-list-type": "heap"}),
            f'{F}.x-kubernetes-list-type: Unsupported value: "heap"',
        ),
        (
            field({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
            f"{F}.x-kubernetes-list-map-keys: Required value",
        ),
        (
            field(
                {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": STRING}},
                }
            ),
            f"{F}.items.properties[k].default: Required value",
        ),
        (
            field({"type": "object", "x-kubernetes-embedded-resource": True}),
            f"{F}.properties: Required value",
        ),
        (field({**STRING, "default": 1}), f"{F}.default: Invalid value"),
        (field({"type": "object", "default": {"x": 1}}), f"{F}.default.x: Invalid value"),
    ],
)
def test_schemas_that_are_not_structural(schema: dict[str, Any], message: str) -> None:
    found = problems(definition(schema))
    assert any(text.startswith(message) for text in found), found


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rule": "self.f =="}, "compilation failed"),
        ({"rule": "self.g == 'x'"}, "undefined field 'g'"),
        ({"rule": "self.f.g == 'x'"}, "does not support field selection"),
        ({"rule": "other == 'x'"}, "undeclared reference to 'other'"),
        ({"rule": "quantity(self.f).isGreaterThan(quantity('1'))"}, "does not implement the CEL function"),
        ({"rule": "url(self.f).getHost() == 'x'"}, "does not implement the CEL function"),
        ({"rule": "self.?f.orValue('') == 'x'"}, "compilation failed"),
        ({"rule": ""}, "rule is not specified"),
        ({"rule": "true", "message": " "}, "must be non-empty if specified"),
        ({"rule": "true", "message": "a\nb"}, "must not contain line breaks"),
        ({"rule": "true", "reason": "Because"}, 'Unsupported value: "Because"'),
        ({"rule": "true", "messageExpression": "self.g"}, "undefined field 'g'"),
        ({"rule": "true", "optionalOldSelf": True}, "may not be set to true if oldSelf is not used"),
    ],
)
def test_rules_that_are_refused(rule: dict[str, Any], message: str) -> None:
    found = problems(definition(spec_of({"f": STRING}, **{"x-kubernetes-validations": [rule]})))
    assert any(message in text for text in found), found
    assert found[0].startswith(f"{S}.properties[spec].x-kubernetes-validations[0].")


def test_old_values_cannot_be_found_in_atomic_lists() -> None:
    items = {**STRING, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    found = problems(definition(field({"type": "array", "items": items})))
    assert "oldSelf cannot be used on the uncorrelatable portion" in found[0]


def test_unknown_keys_of_a_schema_are_named() -> None:
    crd = definition(field({**STRING, "colour": "blue"}))
    assert KIND.prune(crd) == [f"{F}.colour".replace("spec.validation", "spec.versions[0].schema")]


@pytest.mark.parametrize(
    ("changes", "path"),
    [({"scope": "Cluster"}, "spec.scope"), ({"names__kind": "Other"}, "spec.names.kind")],
)
def test_what_defines_the_kind_never_changes(changes: dict[str, Any], path: str) -> None:
    found = problems(definition(**changes), definition())
    assert f"{path}: Invalid value" in found[0]
    assert "field is immutable" in found[0]


def test_a_stored_version_must_stay() -> None:
    old = definition()
    new = definition(versions__0__name="v2")
    KIND.prune(old)
    KIND.prepare_create(old)
    old["status"] = {"storedVersions": ["v1"]}
    KIND.prepare_update(new, old)
    assert "missing from spec.versions" in str(KIND.validate(new, old)[0])


def condition(status: dict[str, Any], kind: str) -> tuple[str, str]:
    found = next(item for item in status["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


def test_a_new_definition_is_established() -> None:
    crd = definition()
    problems(crd)
    status = crd_status(crd, [], NOW)
    assert condition(status, "NamesAccepted") == ("True", "NoConflicts")
    assert condition(status, "Established") == ("True", "InitialNamesAccepted")
    assert status["acceptedNames"] == crd["spec"]["names"]
    assert status["storedVersions"] == ["v1"]
    crd["status"] = status
    assert crd_status(crd, [], "2027-01-01T00:00:00Z") == status


def test_names_that_are_taken_are_not_accepted() -> None:
    first, second = definition(), definition(names__plural="others", names__kind="Other")
    for crd in (first, second):
        KIND.prepare_create(crd)
    first["status"] = crd_status(first, [], NOW)
    second["spec"]["names"]["singular"] = "thing"
    status = crd_status(second, [first], NOW)
    assert condition(status, "NamesAccepted") == ("False", "ShortNamesConflict")
    assert condition(status, "Established") == ("False", "NotAccepted")


def test_stored_versions_accumulate() -> None:
    crd = definition(versions__0__name="v2")
    KIND.prepare_create(crd)
    crd["status"] = {"storedVersions": ["v1"]}
    assert crd_status(crd, [], NOW)["storedVersions"] == ["v1", "v2"]


def test_what_a_version_says_becomes_its_strategy() -> None:
    crd = definition(
        names__shortNames=["th"],
        names__categories=["all"],
        versions__0__deprecated=True,
        versions__0__subresources={
            "status": {},
            "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
        },
        versions__0__additionalPrinterColumns=[
            {"name": "N", "type": "integer", "jsonPath": ".spec.n", "priority": 1}
        ],
        versions__0__selectableFields=[{"jsonPath": ".spec.n"}],
    )
    KIND.prune(crd)
    KIND.prepare_create(crd)
    kind = crd_strategy(crd, "v1")
    assert (kind.singular, kind.list_kind, kind.short_names) == ("thing", "ThingList", ("th",))
    assert kind.categories == ("all",)
    assert kind.subresources == {"status", "scale"}
    assert kind.scale == ScalePaths("spec.n", "status.n")
    assert kind.columns == (Column("N", "integer", ".spec.n", priority=1),)
    assert kind.selectable_fields == ("spec.n",)
    assert kind.warning == "example.com/v1 Thing is deprecated"
    assert crd_strategy(definition_established(), "v1").columns == (
        Column("Age", "date", ".metadata.creationTimestamp"),
    )
    with pytest.raises(KeyError):
        crd_strategy(crd, "v9")


def definition_established() -> dict[str, Any]:
    crd = definition()
    KIND.prepare_create(crd)
    return crd
