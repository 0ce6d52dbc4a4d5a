"""OpenAPI v2: the document in its two forms, and what kubectl does with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from support.apiserver import Api, Kubectl, widget_definition

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
ANSWERED = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
GVK = "x-kubernetes-group-version-kind"

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": -5, "maximum": 7.5},
        "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "maybe": {"type": "object", "nullable": True, "properties": {"a": {"type": "string"}}},
        "free": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"a": {"type": "string"}},
        },
        "pod": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        },
        "lists": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
        "empty": {"type": "object", "properties": {}},
    },
}


def gadget_definition() -> dict[str, Any]:
    """A CRD with what v2 cannot say."""
    definition = widget_definition()
    definition["metadata"]["name"] = "gadgets.example.com"
    spec = definition["spec"]
    spec["names"] = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"}
    spec["versions"] = [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC}}},
        }
    ]
    return definition


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


async def test_every_served_kind_has_one_definition(api: Api) -> None:
    await api.create(DEFINITIONS, widget_definition())
    document = await api.get("/openapi/v2")
    found = [tuple(gvk.values()) for each in document["definitions"].values() for gvk in each.get(GVK, ())]
    assert len(found) == len(set(found))
    served = {
        (group["name"], version["version"], resource["kind"])
        for group in (await api.get("/apis"))["groups"]
        for version in group["versions"]
        for resource in (await api.get(f"/apis/{version['groupVersion']}"))["resources"]
        if "/" not in resource["name"]
    }
    assert served | {("", "v1", "Pod"), ("example.com", "v1alpha1", "Widget")} <= set(found)


async def test_it_refers_only_to_what_is_there(api: Api) -> None:
    """One reference to nothing, and kubectl would throw the whole document away."""
    await api.create(DEFINITIONS, gadget_definition())
    document = await api.get("/openapi/v2")
    there = {f"#/definitions/{name}" for name in document["definitions"]}
    assert set(references(document)) <= there
    assert b"#/components/" not in orjson.dumps(document)


async def test_it_follows_the_definitions(api: Api) -> None:
    for accept in ("", ASKED):
        assert b"com.example.v1.Widget" not in (await api.send("GET", "/openapi/v2", Accept=accept)).data
    await api.create(DEFINITIONS, widget_definition())
    for accept in ("", ASKED):
        assert b"com.example.v1.Widget" in (await api.send("GET", "/openapi/v2", Accept=accept)).data


async def test_what_v2_cannot_say_is_left_open(api: Api) -> None:
    await api.create(DEFINITIONS, gadget_definition())
    definitions = (await api.get("/openapi/v2"))["definitions"]
    gadget = definitions["com.example.v1.Gadget"]["properties"]
    meta = {"$ref": "#/definitions/io.k8s.api.ObjectMeta"}
    assert gadget["metadata"] == meta
    assert gadget["spec"]["required"] == ["size"]
    assert gadget["spec"]["properties"] == {
        "size": {"type": "integer", "minimum": -5, "maximum": 7.5},
        "port": {"x-kubernetes-int-or-string": True},
        "maybe": {},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "pod": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": meta,
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "lists": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
        "empty": {"type": "object"},
    }
    resources = definitions["io.k8s.api.ResourceRequirements"]["properties"]["limits"]
    assert resources == {"type": "object", "additionalProperties": {"type": "string"}}
    port = definitions["io.k8s.api.HTTPGetAction"]["properties"]["port"]
    assert port == {"type": "string", "format": "int-or-string"}


async def test_patch_strategies_are_kept(api: Api) -> None:
    definitions = (await api.get("/openapi/v2"))["definitions"]
    containers = definitions["io.k8s.api.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["items"] == {"$ref": "#/definitions/io.k8s.api.Container"}
    strategy = definitions["io.k8s.api.DeploymentSpec"]["properties"]["strategy"]
    assert strategy == {
        "$ref": "#/definitions/io.k8s.api.DeploymentStrategy",
        "x-kubernetes-patch-strategy": "retainKeys",
    }


async def test_a_patch_tells_its_kind_and_its_parameters(api: Api) -> None:
    """Older clients look here for whether a dry run or a check of fields is possible."""
    path = (await api.get("/openapi/v2"))["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]
    assert path["patch"][GVK] == {"group": "", "version": "v1", "kind": "Pod"}
    by_name = {each["name"]: each for each in [*path["parameters"], *path["patch"]["parameters"]]}
    assert by_name["dryRun"] == {
        "name": "dryRun",
        "in": "query",
        "required": False,
        "type": "string",
        "uniqueItems": True,
    }
    assert by_name["namespace"]["in"] == "path"
    assert by_name["body"]["in"] == "body"
    assert path["get"]["responses"]["200"]["schema"] == {"$ref": "#/definitions/io.k8s.api.Pod"}


@pytest.mark.parametrize(
    ("accept", "status", "media"),
    [
        ("", 200, "application/json"),
        ("*/*", 200, "application/json"),
        ("text/html, application/json;q=0.9", 200, "application/json"),
        (ASKED, 200, ANSWERED),
        (ANSWERED, 200, ANSWERED),
        (f"{ASKED}, application/json", 200, ANSWERED),
        ("text/html", 406, None),
    ],
)
async def test_the_form_asked_for(api: Api, accept: str, status: int, media: str | None) -> None:
    answer = await api.send("GET", "/openapi/v2", Accept=accept)
    assert (answer.status, answer.headers.get("Content-Type")) == (status, media)


LIST = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}},
        {
            "apiVersion": "example.com/v1",
            "kind": "Gadget",
            "metadata": {"name": "b"},
            "spec": {
                "size": 1,
                "port": "http",
                "maybe": None,
                "free": {"a": "b", "z": [1]},
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"a": 1}},
                "lists": {"x": [1, 2.5]},
                "empty": {},
            },
        },
    ],
}


@pytest.fixture
async def gadgets(kubectl: Kubectl) -> Kubectl:
    await kubectl("apply", "-f", "-", stdin=gadget_definition())
    await kubectl("wait", "--for=condition=Established", "crd/gadgets.example.com")
    return kubectl


async def test_kubectl_takes_all_that_v2_cannot_say(gadgets: Kubectl) -> None:
    said = await gadgets("apply", "-f", "-", stdin=LIST)
    assert said == "configmap/a created\ngadget.example.com/b created\n"
    assert (await gadgets("apply", "-f", "-", stdin=LIST)).count(" unchanged") == 2


async def test_kubectl_names_what_is_wrong_in_a_list(gadgets: Kubectl) -> None:
    pod = {
        "contaners": [],
        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": "a"}]}],
    }
    wrong = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod},
            {
                "apiVersion": "example.com/v1",
                "kind": "Gadget",
                "metadata": {"lables": {}, "name": "g"},
                "spec": {"sise": 1},
            },
        ],
    }
    said = await gadgets.fails("apply", "-f", "-", stdin=wrong)
    assert 'error validating "STDIN": error validating data' in said
    assert 'ValidationError(Pod.spec): unknown field "contaners"' in said
    assert "ValidationError(Pod.spec.containers[0].ports[0].containerPort): invalid type" in said
    assert 'ValidationError(Gadget.metadata): unknown field "lables"' in said
    assert 'ValidationError(Gadget.spec): unknown field "sise"' in said
    assert 'ValidationError(Gadget.spec): missing required field "size"' in said
    assert await gadgets("get", "pods,gadgets", "-o", "name") == ""


async def test_kubectl_explains_from_it(gadgets: Kubectl) -> None:
    old = await gadgets("explain", "gadget.spec", "--output=plaintext-openapiv2")
    assert "size\t<integer> -required-" in old
    assert "lists\t<map[string][]number>" in old
    assert "RESOURCE: containers" in await gadgets(
        "explain", "pod.spec.containers", "--output=plaintext-openapiv2"
    )
    assert "FIELD: labels" in await gadgets("explain", "gadget.metadata.labels")
