"""CustomResourceDefinitions over their life: served at once, changed, with versions coming and going."""

from __future__ import annotations

from typing import Any

from support.apiserver import WIDGETS, Api, widget, widget_definition

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEFINITION = f"{DEFINITIONS}/widgets.example.com"
OTHER = WIDGETS.replace("/v1/", "/v1alpha1/", 1)


def conditions(crd: Any) -> dict[str, str]:
    return {each["type"]: each["status"] for each in crd["status"]["conditions"]}


async def test_a_definition_is_established_and_served_at_once(api: Api) -> None:
    await api.create(DEFINITIONS, widget_definition())
    crd = await api.get(DEFINITION)
    assert conditions(crd) == {"NamesAccepted": "True", "Established": "True"}
    assert crd["status"]["acceptedNames"]["kind"] == "Widget"
    assert crd["status"]["storedVersions"] == ["v1"]
    assert (await api.get(WIDGETS))["items"] == []
    found = (await api.get("/apis/example.com"))["versions"]
    assert [each["version"] for each in found] == ["v1", "v1alpha1"]
    names = {each["name"]: each for each in (await api.get("/apis/example.com/v1"))["resources"]}
    assert set(names) == {"widgets", "widgets/status", "widgets/scale"}
    assert names["widgets"]["shortNames"] == ["wd"]
    assert names["widgets/scale"]["kind"] == "Scale"


async def test_a_changed_schema_holds_for_the_next_write(api: Api) -> None:
    await api.create(DEFINITIONS, widget_definition())
    refused = await api.send("POST", WIDGETS, widget("a", color="pink"))
    assert refused.status == 422
    changed = widget_definition()
    for version in changed["spec"]["versions"]:
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"]["enum"].append(
            "pink"
        )
    await api.merge(DEFINITION, {"spec": changed["spec"]})
    assert (await api.create(WIDGETS, widget("a", color="pink")))["spec"]["color"] == "pink"


async def test_a_version_that_is_no_longer_served_is_gone(api: Api) -> None:
    await api.create(DEFINITIONS, widget_definition())
    await api.create(OTHER, {**widget("a"), "apiVersion": "example.com/v1alpha1"})
    changed = widget_definition()
    changed["spec"]["versions"][1]["served"] = False
    await api.merge(DEFINITION, {"spec": changed["spec"]})
    assert (await api.send("GET", OTHER)).status == 404
    assert [each["metadata"]["name"] for each in (await api.get(WIDGETS))["items"]] == ["a"]


async def test_the_storage_version_may_move(api: Api) -> None:
    await api.create(DEFINITIONS, widget_definition())
    await api.create(WIDGETS, widget("old", size=1))
    changed = widget_definition()
    changed["spec"]["versions"][0]["storage"] = False
    changed["spec"]["versions"][1]["storage"] = True
    await api.merge(DEFINITION, {"spec": changed["spec"]})
    assert (await api.get(DEFINITION))["status"]["storedVersions"] == ["v1", "v1alpha1"]
    await api.create(WIDGETS, widget("new", size=2))
    for path, version in ((WIDGETS, "v1"), (OTHER, "v1alpha1")):
        items = (await api.get(path))["items"]
        assert [(item["metadata"]["name"], item["apiVersion"]) for item in items] == [
            ("new", f"example.com/{version}"),
            ("old", f"example.com/{version}"),
        ]
    await api.merge(f"{WIDGETS}/old", {"spec": {"size": 5}})
    assert (await api.get(f"{OTHER}/old"))["spec"]["size"] == 5


async def test_a_watch_sees_its_own_version_whoever_writes(api: Api) -> None:
    await api.create(DEFINITIONS, widget_definition())
    watches = {
        version: await api.watch(f"{path}?watch=1")
        for version, path in (("v1", WIDGETS), ("v1alpha1", OTHER))
    }
    await api.create(WIDGETS, widget("a"))
    await api.merge(f"{OTHER}/a", {"spec": {"size": 9}})
    for version, watch in watches.items():
        events = [await watch.next() for _ in range(2)]
        assert [event["object"]["apiVersion"] for event in events] == [f"example.com/{version}"] * 2
        assert [event["object"]["spec"]["size"] for event in events] == [3, 9]


async def test_a_deprecated_version_warns_whatever_is_asked(api: Api) -> None:
    definition = widget_definition()
    definition["spec"]["versions"][1] |= {"deprecated": True, "deprecationWarning": "use v1"}
    await api.create(DEFINITIONS, definition)
    await api.create(WIDGETS, widget("a"))
    for path in (OTHER, f"{OTHER}/a", f"{OTHER}/a/scale"):
        assert (await api.send("GET", path)).headers["Warning"] == '299 - "use v1"'
        assert "Warning" not in (await api.send("GET", path.replace("v1alpha1", "v1"))).headers
    patch = {"spec": {"nonsense": 1}}
    answer = await api.send("PATCH", f"{OTHER}/a", patch, media="application/merge-patch+json")
    assert answer.headers["Warning"].splitlines() == [
        '299 - "unknown field \\"spec.nonsense\\""',
        '299 - "use v1"',
    ]


async def test_a_name_that_is_taken_is_not_established(api: Api) -> None:
    await api.create(DEFINITIONS, widget_definition())
    second = widget_definition()
    second["metadata"]["name"] = "gadgets.example.com"
    second["spec"]["names"] |= {"plural": "gadgets", "singular": "gadget", "shortNames": ["gd"]}
    await api.create(DEFINITIONS, second)
    crd = await api.get(f"{DEFINITIONS}/gadgets.example.com")
    assert conditions(crd) == {"NamesAccepted": "False", "Established": "False"}
    assert (await api.send("GET", WIDGETS.replace("widgets", "gadgets"))).status == 404


async def test_openapi_follows_the_definitions(api: Api) -> None:
    assert "apis/example.com/v1" not in (await api.get("/openapi/v3"))["paths"]
    before = (await api.get("/openapi/v3"))["paths"]["api/v1"]["serverRelativeURL"]
    await api.create(DEFINITIONS, widget_definition())
    root = (await api.get("/openapi/v3"))["paths"]
    assert root["api/v1"]["serverRelativeURL"] != before
    document = await api.get("/openapi/v3/apis/example.com/v1")
    path = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert path["x-kubernetes-group-version-kind"] == {
        "group": "example.com",
        "version": "v1",
        "kind": "Widget",
    }
    assert {"dryRun", "fieldValidation", "force"} <= {each["name"] for each in path["parameters"]}
    kinds = [
        schema
        for schema in document["components"]["schemas"].values()
        if "x-kubernetes-group-version-kind" in schema
    ]
    assert [schema["properties"]["spec"]["description"] for schema in kinds] == ["What is wanted."]
