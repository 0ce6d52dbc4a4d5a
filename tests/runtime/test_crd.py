"""CRDs from pydantic classes: what each Python type becomes, and what is refused."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from kaito.runtime.crd import (
    AGE,
    Atomic,
    Column,
    CrdError,
    CustomObject,
    CustomResource,
    Format,
    IntOrString,
    ListMap,
    ListSet,
    Nullable,
    Object,
    Quantity,
    Rule,
    Scale,
    Schemaless,
    Version,
    condition_column,
    problems,
    schema_of,
    to_yaml,
)


class Port(Object):
    """A port."""

    name: str
    port: IntPort


IntPort = Annotated[int | str, IntOrString()]


class Mode(Enum):
    FULL = "full"
    PART = "part"


class BackupSpec(Object):
    """What to back up."""

    schedule: Annotated[str, Rule("self == oldSelf", "schedule cannot change")]
    """When to run."""
    mode: Literal["full", "part"] = "full"
    other_mode: Mode | None = None
    keep: Annotated[int, Format("int32"), Field(gt=0, le=9)] | None = None
    ports: Annotated[list[Port], ListMap("name")] | None = None
    tags: Annotated[list[str], ListSet()] | None = None
    words: set[str] | None = None
    order: Annotated[list[int], Atomic()] | None = None
    size: Quantity | None = None
    limits: dict[str, Quantity] | None = None
    template: Schemaless | None = None
    note: Annotated[str | None, Nullable()] = None
    provider_id: Annotated[str | None, Field(alias="providerID", max_length=63)] = None
    main: Annotated[Port, Rule("self.name != ''", "name it")] | None = None

    validations = (Rule("true", "never", ".keep", "FieldValueForbidden", True),)


class Backup(CustomObject):
    spec: BackupSpec
    status: Schemaless | None = None


def crd(**changes: Any) -> CustomResource:
    settings: dict[str, Any] = {
        "short_names": ("bk",),
        "categories": ("all",),
        "versions": (
            Version("v1alpha1", Backup, deprecation="use v1"),
            Version("v1", Backup, (Column("Schedule", ".spec.schedule"), AGE), storage=True, scale=Scale()),
        ),
        **changes,
    }
    return CustomResource("example.com", "Backup", "backups", **settings)


def spec_schema() -> dict[str, Any]:
    return schema_of(BackupSpec)["properties"]  # type: ignore[no-any-return]


def test_names_of_fields_are_camel_case_unless_they_say_otherwise() -> None:
    assert {"otherMode", "providerID"} <= set(spec_schema())


def test_each_type_becomes_its_schema() -> None:
    properties = spec_schema()
    assert properties["schedule"] == {
        "type": "string",
        "description": "When to run.",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "schedule cannot change"}],
    }
    assert properties["mode"] == {"type": "string", "enum": ["full", "part"], "default": "full"}
    assert properties["otherMode"] == {"type": "string", "enum": ["full", "part"]}
    assert properties["keep"] == {
        "type": "integer", "format": "int32", "minimum": 0, "exclusiveMinimum": True, "maximum": 9,
    }  # fmt: skip
    int_or_string = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    port = {
        "type": "object",
        "description": "A port.",
        "properties": {"name": {"type": "string"}, "port": int_or_string},
        "required": ["name", "port"],
    }
    assert properties["ports"] == {
        "type": "array", "items": port, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
    }  # fmt: skip
    assert properties["tags"] == {
        "type": "array",
        "items": {"type": "string"},
        "x-kubernetes-list-type": "set",
    }
    assert properties["words"] == properties["tags"]
    assert properties["order"] == {
        "type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "atomic",
    }  # fmt: skip
    assert properties["limits"]["additionalProperties"] == properties["size"]
    assert properties["size"]["x-kubernetes-int-or-string"] is True
    assert "type" not in properties["size"]
    assert properties["template"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert properties["note"] == {"type": "string", "nullable": True}
    assert properties["providerID"] == {"type": "string", "maxLength": 63}


def test_a_rule_beside_a_shared_class_stays_at_that_field() -> None:
    properties = spec_schema()
    assert [rule["message"] for rule in properties["main"]["x-kubernetes-validations"]] == ["name it"]
    assert "x-kubernetes-validations" not in properties["ports"]["items"]


def test_rules_of_a_class_stand_at_the_class() -> None:
    assert schema_of(BackupSpec)["x-kubernetes-validations"] == [
        {
            "rule": "true", "message": "never", "fieldPath": ".keep", "reason": "FieldValueForbidden",
            "optionalOldSelf": True,
        }
    ]  # fmt: skip


def test_the_manifest_has_names_versions_and_subresources() -> None:
    manifest = crd().manifest()
    assert manifest["metadata"] == {"name": "backups.example.com"}
    spec = manifest["spec"]
    assert spec["scope"] == "Namespaced"
    assert spec["conversion"] == {"strategy": "None"}
    assert spec["names"] == {
        "kind": "Backup", "listKind": "BackupList", "plural": "backups", "singular": "backup",
        "shortNames": ["bk"], "categories": ["all"],
    }  # fmt: skip
    old, new = spec["versions"]
    assert (old["storage"], new["storage"]) == (False, True)
    assert old["deprecated"] is True
    assert old["deprecationWarning"] == "use v1"
    assert old["subresources"] == {"status": {}}
    assert new["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
    }  # fmt: skip
    assert new["additionalPrinterColumns"][0] == {
        "name": "Schedule",
        "type": "string",
        "jsonPath": ".spec.schedule",
    }
    assert new["schema"]["openAPIV3Schema"]["properties"]["metadata"] == {"type": "object"}
    assert new["schema"]["openAPIV3Schema"]["required"] == ["spec"]
    assert yaml.safe_load(to_yaml(manifest)) == manifest


def test_cluster_scope_and_condition_columns() -> None:
    assert crd(namespaced=False).manifest()["spec"]["scope"] == "Cluster"
    assert condition_column("Ready", priority=1).to_dict() == {
        "name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status', "priority": 1,
    }  # fmt: skip


class Tree(Object):
    children: list[Tree] | None = None


class Union(Object):
    value: int | str


class Anything(Object):
    value: Any


class Loose(Object):
    value: dict[str, Any]


class Pair(Object):
    value: tuple[int, str]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Tree, r"\.children\[\*\]: Tree contains itself"),
        (Union, r"\.value: a union of types"),
        (Anything, r"\.value: type None; say the type, or use Schemaless"),
        (Loose, r"\.value: a map of anything"),
        (Pair, r"\.value: a structural schema cannot say prefixItems"),
    ],
)
def test_what_a_structural_schema_cannot_say_is_refused_with_its_path(
    model: type[Object], sentence: str
) -> None:
    with pytest.raises(CrdError, match=sentence):
        schema_of(model)


def test_exactly_one_version_is_stored() -> None:
    with pytest.raises(CrdError, match="exactly one version"):
        crd(versions=(Version("v1", Backup),)).manifest()


def test_a_column_must_start_at_the_root() -> None:
    with pytest.raises(CrdError, match="must start with a dot"):
        Column("Schedule", "spec.schedule").to_dict()


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"type": "array", "items": {"type": "string"}}, ".: the root must be an object"),
        ({"type": "object", "properties": {"a": {}}}, ".a: has no type"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, ".a: type 'text' is unknown"),
        ({"type": "object", "properties": {"a": {"$ref": "#/x"}}}, ".a: $ref is not allowed"),
        (
            {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
            ".: properties and additionalProperties exclude one another",
        ),
        ({"type": "object", "required": ["a"]}, ".: requires a, which it does not describe"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, ".a: an array needs items"),
        (
            {"type": "object", "properties": {"metadata": {"properties": {"labels": {"type": "string"}}}}},
            ".metadata: may only describe name and generateName, not labels",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}},
            ".a: anyOf may only constrain values, not say type",
        ),
        (
            {
                "type": "object",
                "properties": {
                    "a": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                    }
                },
            },
            ".a: list-map key k must be required or have a default",
        ),
    ],
)  # fmt: skip
def test_the_structural_check_names_each_breach(schema: dict[str, Any], sentence: str) -> None:
    assert sentence in problems(schema)


def test_the_example_in_the_documentation_runs() -> None:
    import kaito.runtime.crd as package

    text = package.__doc__ or ""
    code = "\n".join(line[4:] for line in text.split("\n") if line.startswith("    "))
    printed: list[str] = []
    exec(
        compile(code, "example", "exec", dont_inherit=True), {"print": printed.append, "__name__": "example"}
    )
    assert yaml.safe_load(printed[0])["metadata"]["name"] == "backups.example.com"
