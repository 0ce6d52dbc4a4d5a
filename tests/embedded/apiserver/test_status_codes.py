"""Which answer a request gets: the cases that are easy to get wrong, as a real kube-apiserver answers them."""

from __future__ import annotations

from typing import Any

import pytest

from support.apiserver import WIDGETS, Api, widget

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


@pytest.fixture
async def widgets(api: Api) -> Api:
    await api.define_widgets()
    return api


async def expect(
    api: Api, status: int, reason: str, method: str, path: str, body: Any = None, **more: str
) -> Any:
    answer = await api.send(method, path, body, **more)
    assert (answer.status, answer.reason) == (status, reason), answer.data.decode()
    assert answer.json["code"] == status
    return answer.json


async def test_put_of_a_custom_resource_needs_a_revision(widgets: Api) -> None:
    await widgets.create(WIDGETS, widget("a"))
    error = await expect(widgets, 422, "Invalid", "PUT", f"{WIDGETS}/a", widget("a", size=4))
    assert "must be specified for an update" in error["message"]


async def test_put_of_a_builtin_needs_none(api: Api) -> None:
    await api.create(MAPS, {"metadata": {"name": "a"}})
    await api.ok("PUT", f"{MAPS}/a", {"metadata": {"name": "a"}, "data": {"k": "v"}})


async def test_put_with_an_old_revision_conflicts(api: Api) -> None:
    old = await api.create(MAPS, {"metadata": {"name": "a"}})
    await api.merge(f"{MAPS}/a", {"data": {"k": "v"}})
    error = await expect(api, 409, "Conflict", "PUT", f"{MAPS}/a", {**old, "data": {"k": "w"}})
    assert "the object has been modified" in error["message"]
    assert error["details"] == {"name": "a", "kind": "configmaps"}


async def test_patch_with_an_old_revision_conflicts(api: Api) -> None:
    old = await api.create(MAPS, {"metadata": {"name": "a"}})
    await api.merge(f"{MAPS}/a", {"data": {"k": "v"}})
    patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"k": "w"}}
    await expect(api, 409, "Conflict", "PATCH", f"{MAPS}/a", patch, media=MERGE)


async def test_put_of_another_uid_conflicts(api: Api) -> None:
    old = await api.create(MAPS, {"metadata": {"name": "a"}})
    old["metadata"]["uid"] = "another"
    await expect(api, 409, "Conflict", "PUT", f"{MAPS}/a", old)


async def test_put_of_what_is_not_there(widgets: Api) -> None:
    await expect(widgets, 404, "NotFound", "PUT", f"{MAPS}/a", {"metadata": {"name": "a"}})
    await expect(widgets, 404, "NotFound", "PATCH", f"{MAPS}/a", {}, media=MERGE)
    lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}}
    answer = await widgets.send("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/a", lease)
    assert answer.status == 201


async def test_post_with_a_revision(api: Api) -> None:
    body = {"metadata": {"name": "a", "resourceVersion": "1"}}
    await expect(api, 500, "", "POST", MAPS, body)


async def test_post_of_a_namespaced_kind_without_namespace(api: Api) -> None:
    await expect(api, 405, "MethodNotAllowed", "POST", "/api/v1/configmaps", {"metadata": {"name": "a"}})


async def test_post_twice(api: Api) -> None:
    answer = await api.send("POST", MAPS, {"metadata": {"name": "a"}})
    assert answer.status == 201
    error = await expect(api, 409, "AlreadyExists", "POST", MAPS, {"metadata": {"name": "a"}})
    assert error["message"] == 'configmaps "a" already exists'


async def test_post_into_another_namespace_than_the_objects(api: Api) -> None:
    await expect(
        api, 400, "BadRequest", "POST", MAPS, {"metadata": {"name": "a", "namespace": "kube-system"}}
    )


async def test_post_into_a_missing_namespace(api: Api) -> None:
    error = await expect(
        api, 404, "NotFound", "POST", "/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "a"}}
    )
    assert error["message"] == 'namespaces "nowhere" not found'


async def test_post_without_name(api: Api) -> None:
    error = await expect(api, 422, "Invalid", "POST", MAPS, {"metadata": {}})
    assert "name or generateName is required" in error["message"]
    made = await api.create(MAPS, {"metadata": {"generateName": "a-"}})
    assert made["metadata"]["name"].startswith("a-")
    assert len(made["metadata"]["name"]) == len("a-") + 5


async def test_post_of_the_wrong_kind_or_version(widgets: Api) -> None:
    await expect(widgets, 400, "BadRequest", "POST", MAPS, {**pod("a"), "kind": "Pod", "apiVersion": "v1"})
    await expect(
        widgets, 400, "BadRequest", "POST", WIDGETS, {**widget("a"), "apiVersion": "example.com/v1alpha1"}
    )
    await expect(widgets, 400, "BadRequest", "POST", WIDGETS, {"metadata": {"name": "a"}})


async def test_patch_of_the_uid_is_invalid(api: Api) -> None:
    await api.create(MAPS, {"metadata": {"name": "a"}})
    error = await expect(api, 422, "Invalid", "PATCH", f"{MAPS}/a", {"metadata": {"uid": "x"}}, media=MERGE)
    assert error["details"]["causes"][0]["field"] == "metadata.uid"


@pytest.mark.parametrize(
    ("method", "path", "parameter"),
    [
        ("POST", MAPS, "dryRun=Yes"),
        ("POST", MAPS, "fieldValidation=Sometimes"),
        ("PUT", f"{MAPS}/a", "dryRun=true"),
        ("POST", MAPS, "fieldManager=" + "x" * 129),
    ],
)
async def test_parameter_values_that_are_not_known(api: Api, method: str, path: str, parameter: str) -> None:
    error = await expect(api, 422, "Invalid", method, f"{path}?{parameter}", {"metadata": {"name": "a"}})
    assert parameter.partition("=")[0] in error["message"]


async def test_dry_run_stores_nothing(api: Api) -> None:
    answer = await api.send("POST", f"{MAPS}?dryRun=All", {"metadata": {"name": "a"}})
    assert answer.status == 201
    assert answer.json["metadata"]["uid"]
    assert (await api.get(MAPS))["items"] == []
    created = await api.create(MAPS, {"metadata": {"name": "a"}})
    shown = await api.ok("PATCH", f"{MAPS}/a?dryRun=All", {"data": {"k": "v"}}, media=MERGE)
    assert shown["data"] == {"k": "v"}
    assert await api.get(f"{MAPS}/a") == created


async def test_a_custom_resource_is_checked_by_its_schema(widgets: Api) -> None:
    for spec in (
        {"size": 1.5},
        {"size": 1.0},
        {"size": "big"},
        {"size": -1},
        {"color": "pink"},
        {"note": "bad"},
    ):
        error = await expect(widgets, 422, "Invalid", "POST", WIDGETS, widget("a", **spec))
        assert error["details"]["causes"][0]["field"].startswith("spec")
    error = await expect(widgets, 422, "Invalid", "POST", WIDGETS, widget("a", size="big", note="bad"))
    assert "some validation rules were not checked" in error["message"]
    made = await widgets.create(WIDGETS, widget("a"))
    assert made["spec"] == {"size": 3}
    assert made["metadata"]["generation"] == 1


async def test_a_builtin_of_the_wrong_type_is_a_bad_request(api: Api) -> None:
    body = pod("a")
    body["spec"]["containers"][0]["image"] = 5
    await expect(api, 400, "BadRequest", "POST", PODS, body)


async def test_field_validation(widgets: Api) -> None:
    body = widget("a", nonsense=1)
    error = await expect(widgets, 400, "BadRequest", "POST", f"{WIDGETS}?fieldValidation=Strict", body)
    assert 'unknown field "spec.nonsense"' in error["message"]
    warned = await widgets.send("POST", f"{WIDGETS}?fieldValidation=Warn&dryRun=All", body)
    assert (warned.status, warned.headers["Warning"]) == (201, '299 - "unknown field \\"spec.nonsense\\""')
    silent = await widgets.send("POST", f"{WIDGETS}?fieldValidation=Ignore", body)
    assert silent.status == 201
    assert "Warning" not in silent.headers
    assert "nonsense" not in silent.json["spec"]


async def test_get_of_a_future_revision(api: Api) -> None:
    await api.create(MAPS, {"metadata": {"name": "a"}})
    await expect(api, 504, "Timeout", "GET", f"{MAPS}/a?resourceVersion=99999")


async def test_content_types(widgets: Api) -> None:
    await widgets.create(WIDGETS, widget("a"))
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        await expect(widgets, 415, "UnsupportedMediaType", "POST", MAPS, b"{}", media=media)
    error = await expect(widgets, 415, "UnsupportedMediaType", "PATCH", f"{WIDGETS}/a", {}, media=STRATEGIC)
    assert "application/merge-patch+json" in error["message"]
    await expect(widgets, 415, "UnsupportedMediaType", "PATCH", f"{WIDGETS}/a", {}, media="application/json")
    untyped = await widgets.send("POST", MAPS, b'{"metadata":{"name":"untyped"}}', media="")
    assert untyped.status == 201
    yaml = b"kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: yaml\ndata:\n  when: '2020-01-01'\n"
    made = await widgets.send("POST", MAPS, yaml, media="application/yaml")
    assert (made.status, made.json["data"]) == (201, {"when": "2020-01-01"})


async def test_bodies_that_do_not_parse(api: Api) -> None:
    await expect(api, 400, "BadRequest", "POST", MAPS, b"{")
    await expect(api, 400, "BadRequest", "POST", MAPS, b"[]")
    await expect(api, 400, "BadRequest", "POST", MAPS, {"metadata": "x"})
    await expect(api, 400, "BadRequest", "POST", MAPS, {"metadata": {"name": 5}})
    await expect(api, 400, "BadRequest", "POST", MAPS, b"a: [", media="application/yaml")
    await expect(api, 413, "RequestEntityTooLarge", "POST", MAPS, b" " * (3 * 1024 * 1024 + 1))


async def test_apply_needs_a_manager_and_only_apply_may_be_forced(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    error = await expect(api, 422, "Invalid", "PATCH", f"{MAPS}/a", body, media=APPLY)
    assert "fieldManager" in error["message"]
    made = await api.send("PATCH", f"{MAPS}/a?fieldManager=me", body, media=APPLY)
    assert made.status == 201
    await expect(api, 422, "Invalid", "PATCH", f"{MAPS}/a?force=true", {}, media=MERGE)
    again = await api.send("PATCH", f"{MAPS}/a?fieldManager=me&force=true", body, media=APPLY)
    assert again.status == 200
    assert again.json["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]


async def test_json_patches(api: Api) -> None:
    await api.create(MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    changed = [
        {"op": "test", "path": "/data/k", "value": "v"},
        {"op": "replace", "path": "/data/k", "value": "w"},
    ]
    assert (await api.ok("PATCH", f"{MAPS}/a", changed, media=JSON_PATCH))["data"] == {"k": "w"}
    answer = await api.send("PATCH", f"{MAPS}/a", changed, media=JSON_PATCH)
    assert answer.status == 422
    await expect(api, 400, "BadRequest", "PATCH", f"{MAPS}/a", {}, media=JSON_PATCH)


async def test_strategic_patch_merges_containers_by_name(api: Api) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await api.create(deployments, {"metadata": {"name": "d"}, "spec": spec})
    patch = {
        "spec": {
            "template": {"spec": {"containers": [{"name": "c", "image": "new"}, {"name": "e", "image": "i"}]}}
        }
    }
    changed = await api.ok("PATCH", f"{deployments}/d", patch, media=STRATEGIC)
    images = {each["name"]: each["image"] for each in changed["spec"]["template"]["spec"]["containers"]}
    assert images == {"c": "new", "e": "i"}
    assert changed["metadata"]["generation"] == 2


async def test_status_and_spec_are_written_apart(widgets: Api) -> None:
    made = await widgets.create(WIDGETS, {**widget("a", size=1), "status": {"seen": True}})
    assert "status" not in made
    changed = await widgets.merge(f"{WIDGETS}/a/status", {"status": {"seen": True}, "spec": {"size": 9}})
    assert (changed["status"], changed["spec"]["size"]) == ({"seen": True}, 1)
    assert changed["metadata"]["generation"] == 1
    changed = await widgets.merge(f"{WIDGETS}/a", {"status": {"seen": False}, "spec": {"size": 9}})
    assert (changed["status"], changed["spec"]["size"]) == ({"seen": True}, 9)
    assert changed["metadata"]["generation"] == 2


async def test_versions_are_one_object(widgets: Api) -> None:
    made = await widgets.create(WIDGETS, widget("a", size=7, free={"x": 1}))
    other = await widgets.get(WIDGETS.replace("v1", "v1alpha1", 1) + "/a")
    assert other == {**made, "apiVersion": "example.com/v1alpha1"}
    changed = await widgets.merge(WIDGETS.replace("v1", "v1alpha1", 1) + "/a", {"spec": {"size": 8}})
    assert (changed["apiVersion"], changed["spec"]["size"]) == ("example.com/v1alpha1", 8)
    listing = await widgets.get(WIDGETS)
    assert (listing["kind"], listing["items"][0]["apiVersion"]) == ("WidgetList", "example.com/v1")
    assert listing["items"][0]["spec"] == {"size": 8, "free": {"x": 1}}


async def test_scale(widgets: Api) -> None:
    await widgets.create(WIDGETS, widget("a", replicas=2))
    scale = await widgets.get(f"{WIDGETS}/a/scale")
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 2})
    changed = await widgets.merge(f"{WIDGETS}/a/scale", {"spec": {"replicas": 5}})
    assert changed["spec"] == {"replicas": 5}
    assert (await widgets.get(f"{WIDGETS}/a"))["spec"]["replicas"] == 5
    await expect(widgets, 409, "Conflict", "PUT", f"{WIDGETS}/a/scale", {**scale, "spec": {"replicas": 1}})
    await expect(
        widgets, 422, "Invalid", "PATCH", f"{WIDGETS}/a/scale", {"spec": {"replicas": -1}}, media=MERGE
    )


async def test_binding_and_eviction(api: Api) -> None:
    await api.create(PODS, pod("a"))
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "a"},
        "target": {"kind": "Node", "name": "n"},
    }
    answer = await api.send("POST", f"{PODS}/a/binding", binding)
    assert answer.status == 201
    bound = await api.get(f"{PODS}/a")
    assert bound["spec"]["nodeName"] == "n"
    assert {each["type"]: each["status"] for each in bound["status"]["conditions"]} == {
        "PodScheduled": "True"
    }
    await expect(api, 409, "Conflict", "POST", f"{PODS}/a/binding", binding)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    assert (await api.send("POST", f"{PODS}/a/eviction", eviction)).status == 201
    assert (await api.get(f"{PODS}/a"))["metadata"]["deletionTimestamp"]


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/api/v1/namespaces/default/unicorns", 404, "NotFound"),
        ("GET", f"{MAPS}/a/status", 404, "NotFound"),
        ("GET", f"{MAPS}/a/scale", 404, "NotFound"),
        ("POST", f"{MAPS}/a", 405, "MethodNotAllowed"),
        ("PUT", MAPS, 405, "MethodNotAllowed"),
        ("GET", f"{PODS}/a/binding", 405, "MethodNotAllowed"),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", 501, "NotImplemented"),
        ("PUT", f"{PODS}/a/ephemeralcontainers", 501, "NotImplemented"),
        ("GET", f"{PODS}/a/log", 501, "NotImplemented"),
    ],
)
async def test_what_is_not_there_is_refused_by_name(
    api: Api, method: str, path: str, status: int, reason: str
) -> None:
    await api.create(MAPS, {"metadata": {"name": "a"}})
    await api.create(PODS, pod("a"))
    await expect(api, status, reason, method, path, {} if method != "GET" else None)


async def test_reviews_answer_for_the_one_user(api: Api) -> None:
    access = {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods"}}}
    review = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", access)
    assert review["status"]["allowed"] is True
    who = await api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert who["status"]["userInfo"]["username"] == "kubernetes-admin"
    for token, known in ((api.server.options.token, True), ("guess", False)):
        body = {"spec": {"token": token}}
        asked = await api.create("/apis/authentication.k8s.io/v1/tokenreviews", body)
        assert asked["status"].get("authenticated", False) is known


async def test_documents(api: Api) -> None:
    assert (await api.send("GET", "/healthz")).data == b"ok"
    assert (await api.send("GET", "/readyz")).data == b"ok"
    assert (await api.get("/version"))["gitVersion"].startswith("v1.")
    assert (await api.get("/api"))["versions"] == ["v1"]
    assert (await api.send("GET", "/openapi/v2/nowhere")).status == 404
    groups = {group["name"] for group in (await api.get("/apis"))["groups"]}
    assert {"apps", "batch", "coordination.k8s.io", "apiextensions.k8s.io", "discovery.k8s.io"} <= groups
    root = await api.get("/openapi/v3")
    for name in root["paths"]:
        document = await api.get(f"/openapi/v3/{name}")
        assert document["openapi"] == "3.0.0"
    for path in ("/nothing", "/apis/nowhere.io", "/openapi/v3/apis/nowhere.io/v1"):
        assert (await api.send("GET", path)).status == 404


async def test_both_forms_of_discovery_say_the_same(api: Api) -> None:
    await api.define_widgets()
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    answer = await api.send("GET", "/apis", accept=accept)
    assert (
        answer.headers["Content-Type"]
        == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    )
    for group in answer.json["items"]:
        for version in group["versions"]:
            classic = await api.get(f"/apis/{group['metadata']['name']}/{version['version']}")
            plain = {each["name"] for each in classic["resources"]}
            aggregated = {each["resource"] for each in version["resources"]} | {
                f"{each['resource']}/{sub['subresource']}"
                for each in version["resources"]
                for sub in each.get("subresources", [])
            }
            assert plain == aggregated


@pytest.mark.parametrize("place", ["spec", "status"])
async def test_a_status_write_is_told_of_unknown_fields_wherever_they_are(api: Api, place: str) -> None:
    await api.create(PODS, pod("a"))
    path = f"{PODS}/a/status?fieldValidation=Strict"
    body = {"status": {"phase": "Running"}, place: {"phaze": "x"}}
    error = await expect(api, 422, "Invalid", "PATCH", path, body, content_type=MERGE)
    assert f'unknown field "{place}.phaze"' in error["message"]
