"""Admission webhooks against the embedded API server, without sockets: who is asked, about what, and what follows."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from kaito.embedded.apiserver.admission.endpoints import Endpoint, Unreachable
from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.testing.virtual import VirtualClock
from support.apiserver import WIDGETS, Answer, Api, widget

HOOKS = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"

Reply = Callable[[dict[str, Any]], dict[str, Any]]


class World(Api):
    """A server whose webhooks are functions of this test, by the path of their URL."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(ApiServer(ApiServerOptions(clock=clock, send_review=self.review)), clock)
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.delays: dict[str, float] = {}

    async def review(self, endpoint: Endpoint, body: bytes) -> bytes:
        path = endpoint.url.partition("?")[0].rpartition("/")[2]
        request = orjson.loads(body)["request"]
        self.asked.append((path, request))
        await self.clock.sleep(self.delays.get(path, 0))
        if path not in self.replies:
            raise Unreachable(f'Post "{endpoint.url}": connection refused')
        response = {"uid": request["uid"], "allowed": True, **self.replies[path](request)}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        return orjson.dumps(review)

    @property
    def names(self) -> list[str]:
        return [path for path, _ in self.asked]

    async def hook(self, *hooks: dict[str, Any], mutating: bool = False, name: str = "c") -> Answer:
        kind = "MutatingWebhookConfiguration" if mutating else "ValidatingWebhookConfiguration"
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": list(hooks),
        }
        return await self.send("POST", f"{HOOKS}/{kind.lower()}s", body)


def hook(path: str = "check", resources: str = "configmaps", **more: Any) -> dict[str, Any]:
    operations = more.pop("operations", ["CREATE", "UPDATE", "DELETE"])
    group, _, plural = resources.rpartition("|")
    rule = {"operations": operations, "apiGroups": [group], "apiVersions": more.pop("versions", ["*"])}
    return {
        "name": f"{path}.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:1/{path}"},
        "rules": [{**rule, "resources": plural.split(",")}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "patch": b64encode(orjson.dumps(list(operations))).decode()}


def label(name: str, value: str = "yes") -> dict[str, Any]:
    return patch({"op": "add", "path": f"/metadata/labels/{name}", "value": value})


def config(name: str = "one", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"a": "b"}, **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **more}


def allow(_request: dict[str, Any]) -> dict[str, Any]:
    return {}


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[World]:
    world = World(virtual_clock)
    yield world
    await world.close()


# --- what is stored ---------------------------------------------------------------------------------------------


async def test_defaults_of_a_configuration(world: World) -> None:
    stored = (await world.hook(hook(), mutating=True)).json
    found = stored["webhooks"][0]
    assert {
        name: found[name]
        for name in (
            "failurePolicy",
            "matchPolicy",
            "timeoutSeconds",
            "reinvocationPolicy",
            "namespaceSelector",
        )
    } == {
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": 10,
        "reinvocationPolicy": "Never",
        "namespaceSelector": {},
    }
    assert found["rules"][0]["scope"] == "*"
    assert stored["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": "short"}, "webhooks[0].name", "at least three segments"),
        ({"sideEffects": None}, "webhooks[0].sideEffects", "None, NoneOnDryRun"),
        ({"sideEffects": "Some"}, "webhooks[0].sideEffects", "Unsupported value"),
        ({"admissionReviewVersions": []}, "webhooks[0].admissionReviewVersions", "must specify one of"),
        ({"admissionReviewVersions": ["v1beta1"]}, "webhooks[0].admissionReviewVersions", "version v1 only"),
        ({"timeoutSeconds": 31}, "webhooks[0].timeoutSeconds", "between 1 and 30"),
        ({"failurePolicy": "Maybe"}, "webhooks[0].failurePolicy", "Unsupported value"),
        ({"clientConfig": {}}, "webhooks[0].clientConfig", "exactly one of url or service"),
        ({"clientConfig": {"url": "http://127.0.0.1/"}}, "webhooks[0].clientConfig.url", "only allowed URL scheme"),
        ({"clientConfig": {"url": "https://example.com/"}}, "webhooks[0].clientConfig.url", "loopback addresses only"),
        ({"clientConfig": {"service": {"name": "a", "namespace": "b", "path": "c"}}},
         "webhooks[0].clientConfig.service.path", "must start with"),
        ({"rules": [{"operations": ["*", "CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
         "webhooks[0].rules[0].operations", "must not specify other operations"),
        ({"rules": [{"operations": ["PATCH"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
         "webhooks[0].rules[0].operations[0]", "Unsupported value"),
        ({"matchConditions": [{"name": "a", "expression": "object.("}]},
         "webhooks[0].matchConditions[0].expression", "compilation failed"),
        ({"matchConditions": [{"name": "a", "expression": "self.x"}]},
         "webhooks[0].matchConditions[0].expression", "undeclared reference to 'self'"),
    ],
)  # fmt: skip
async def test_what_a_configuration_may_not_say(
    world: World, change: dict[str, Any], field: str, words: str
) -> None:
    answer = await world.hook({**hook(), **change})
    assert answer.status == 422
    (cause,) = [each for each in answer.json["details"]["causes"] if each["field"] == field]
    assert words in cause["message"]


# --- validating -------------------------------------------------------------------------------------------------


async def test_a_denial_reads_as_in_a_real_cluster(world: World) -> None:
    await world.hook(hook())
    status = {
        "code": 403,
        "reason": "Forbidden",
        "message": "too big",
        "details": {
            "causes": [{"field": "data.size", "message": "at most 10", "reason": "FieldValueInvalid"}]
        },
    }
    world.replies["check"] = lambda request: {"allowed": False, "status": status, "warnings": ["take care"]}
    answer = await world.send("POST", MAPS, config())
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert answer.json["message"] == 'admission webhook "check.example.com" denied the request: too big'
    assert answer.json["details"]["causes"][0]["field"] == "data.size"
    assert answer.headers["Warning"] == '299 - "take care"'
    assert (await world.send("GET", f"{MAPS}/one")).status == 404

    world.replies["check"] = lambda request: {"allowed": False}
    answer = await world.send("POST", MAPS, config())
    assert answer.status == 400
    assert (
        answer.json["message"]
        == 'admission webhook "check.example.com" denied the request without explanation'
    )


async def test_what_a_webhook_is_told(world: World) -> None:
    await world.hook(hook())
    world.replies["check"] = allow
    created = await world.ok("POST", f"{MAPS}?fieldManager=me&dryRun=All", config(data={"k": "v"}))
    _, request = world.asked[0]
    assert request["operation"] == "CREATE"
    assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["namespace"], request["name"], request["dryRun"]) == ("default", "one", True)
    assert request["userInfo"]["username"] == "kubernetes-admin"
    assert request["options"] == {
        "kind": "CreateOptions",
        "apiVersion": "meta.k8s.io/v1",
        "fieldManager": "me",
        "dryRun": ["All"],
    }
    assert request["oldObject"] is None
    assert request["object"]["metadata"]["uid"] == created["metadata"]["uid"], "what is seen is stored"
    assert request["object"]["metadata"]["managedFields"]
    assert "subResource" not in request

    await world.create(MAPS, config(data={"k": "v"}))
    await world.merge(f"{MAPS}/one", {"data": {"k": "w"}})
    _, request = world.asked[-1]
    assert (request["operation"], request["options"]["kind"]) == ("UPDATE", "UpdateOptions")
    assert (request["object"]["data"], request["oldObject"]["data"]) == ({"k": "w"}, {"k": "v"})
    await world.ok("DELETE", f"{MAPS}/one", {"propagationPolicy": "Background"})
    _, request = world.asked[-1]
    assert (request["operation"], request["object"]) == ("DELETE", None)
    assert request["oldObject"]["data"] == {"k": "w"}
    assert request["options"]["propagationPolicy"] == "Background"


async def test_a_generated_name_is_the_one_that_is_stored(world: World) -> None:
    await world.hook(hook())
    world.replies["check"] = allow
    body = config()
    body["metadata"] = {"generateName": "x-"}
    made = await world.create(MAPS, body)
    assert world.asked[0][1]["object"]["metadata"]["name"] == made["metadata"]["name"]
    assert len(world.asked) == 1


async def test_invalid_objects_are_not_shown(world: World) -> None:
    await world.hook(hook())
    world.replies["check"] = allow
    assert (await world.send("POST", MAPS, config(data={"bad key": "v"}))).status == 422
    assert world.asked == []


async def test_all_are_asked_at_once_and_the_first_refusal_counts(
    world: World, virtual_clock: VirtualClock
) -> None:
    await world.hook(hook("slow"), hook("quick"), hook("third"))
    for name in ("slow", "quick", "third"):
        world.replies[name] = allow
        world.delays[name] = 3
    before = virtual_clock.now()
    await world.create(MAPS, config())
    assert virtual_clock.now() - before == 3
    assert sorted(world.names) == ["quick", "slow", "third"]


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_failures(world: World, policy: str, virtual_clock: VirtualClock) -> None:
    await world.hook(hook(failurePolicy=policy, timeoutSeconds=2))
    refused = await world.send("POST", MAPS, config("refused"))
    world.replies["check"] = lambda request: {"uid": "other"}
    confused = await world.send("POST", MAPS, config("confused"))
    world.delays["check"] = 60
    before = virtual_clock.now()
    late = await world.send("POST", MAPS, config("late"))
    assert virtual_clock.now() - before == 2
    if policy == "Ignore":
        assert [refused.status, confused.status, late.status] == [201, 201, 201]
        return
    assert [refused.status, confused.status, late.status] == [500, 500, 500]
    begin = 'Internal error occurred: failed calling webhook "check.example.com": '
    url = "https://127.0.0.1:1/check?timeout=2s"
    assert refused.json["message"] == f'{begin}failed to call webhook: Post "{url}": connection refused'
    assert 'received invalid webhook response: expected response.uid="' in confused.json["message"]
    assert late.json["message"] == f'{begin}failed to call webhook: Post "{url}": context deadline exceeded'


# --- who is asked -----------------------------------------------------------------------------------------------


async def test_rules(world: World) -> None:
    await world.define_widgets()
    await world.hook(
        hook("status", "example.com|widgets/status"),
        hook("all", "example.com|*"),
        hook("every", "example.com|*/*"),
        hook("creates", "example.com|widgets", operations=["CREATE"]),
        hook("others", "apps|deployments"),
    )
    for name in ("status", "all", "every", "creates", "others"):
        world.replies[name] = allow
    await world.create(WIDGETS, widget("w", size=1))
    assert sorted(world.names) == ["all", "creates", "every"]
    world.asked.clear()
    await world.merge(f"{WIDGETS}/w/status", {"status": {"x": 1}})
    assert sorted(world.names) == ["every", "status"]
    assert world.asked[0][1]["subResource"] == "status"
    world.asked.clear()
    await world.merge(f"{WIDGETS}/w/scale", {"spec": {"replicas": 2}})
    ((_, request),) = world.asked
    assert request["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert request["resource"]["resource"] == "widgets"
    assert request["object"]["spec"]["replicas"] == 2
    assert request["oldObject"]["spec"] == {}


async def test_scope_and_selectors(world: World) -> None:
    await world.hook(
        hook("cluster", "namespaces,configmaps"),
        hook("team", namespaceSelector={"matchLabels": {"team": "x"}}),
        hook("named", objectSelector={"matchLabels": {"watched": "yes"}}),
        hook("spaces", "namespaces", namespaceSelector={"matchLabels": {"team": "x"}}),
    )
    for name in ("cluster", "team", "named", "spaces"):
        world.replies[name] = allow
    namespace = {"metadata": {"name": "x", "labels": {"team": "x"}}}
    await world.create("/api/v1/namespaces", namespace)
    assert sorted(world.names) == ["cluster", "spaces"], "a namespace is judged by its own labels"
    assert world.asked[0][1]["namespace"] == "x"
    world.asked.clear()
    await world.create(MAPS, config())
    assert world.names == ["cluster"]
    world.asked.clear()
    await world.create("/api/v1/namespaces/x/configmaps", config())
    assert sorted(world.names) == ["cluster", "team"]
    world.asked.clear()
    await world.merge(f"{MAPS}/one", {"metadata": {"labels": {"watched": "yes"}}})
    await world.merge(f"{MAPS}/one", {"metadata": {"labels": {"watched": "no"}}})
    assert world.names.count("named") == 2, "the old or the new object counts"


async def test_match_conditions(world: World) -> None:
    conditions = [
        {"name": "named", "expression": "object.metadata.name.startsWith('on')"},
        {"name": "who", "expression": "request.userInfo.username == 'kubernetes-admin'"},
    ]
    broken = [{"name": "broken", "expression": "object.data.size == 'x'"}]
    await world.hook(hook("check", matchConditions=conditions))
    world.replies["check"] = allow
    await world.create(MAPS, config("one"))
    await world.create(MAPS, config("two"))
    assert world.names == ["check"]
    await world.hook(hook("broken", matchConditions=broken), name="d")
    answer = await world.send("POST", MAPS, config("three"))
    assert answer.status == 403
    assert "expression 'object.data.size == 'x'' resulted in error" in answer.json["message"]
    await world.ok("DELETE", f"{HOOKS}/validatingwebhookconfigurations/d")
    await world.hook(hook("broken", matchConditions=broken, failurePolicy="Ignore"), name="d")
    await world.create(MAPS, config("three"))
    assert "broken" not in world.names


async def test_equivalent_versions(world: World) -> None:
    await world.define_widgets()
    await world.hook(
        hook("same", "example.com|widgets", versions=["v1"]),
        hook("exact", "example.com|widgets", versions=["v1"], matchPolicy="Exact"),
    )
    world.replies.update(same=allow, exact=allow)
    body = {**widget("w", size=1), "apiVersion": "example.com/v1alpha1"}
    await world.create(WIDGETS.replace("/v1/", "/v1alpha1/"), body)
    ((path, request),) = world.asked
    assert path == "same"
    assert request["kind"]["version"] == request["resource"]["version"] == "v1"
    assert request["requestKind"]["version"] == request["requestResource"]["version"] == "v1alpha1"
    assert request["object"]["apiVersion"] == "example.com/v1"


async def test_a_refusing_webhook_can_be_taken_away(world: World) -> None:
    await world.hook({**hook("no"), "rules": [
        {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    ]})  # fmt: skip
    world.replies["no"] = lambda request: {"allowed": False}
    assert (await world.send("POST", MAPS, config())).status == 400
    await world.ok("DELETE", f"{HOOKS}/validatingwebhookconfigurations/c")
    await world.create(MAPS, config())


async def test_deletions_can_be_refused(world: World) -> None:
    await world.create(MAPS, config("kept", metadata={"labels": {"keep": "yes"}}))
    await world.create(MAPS, config("other"))
    await world.hook(hook(operations=["DELETE"], objectSelector={"matchLabels": {"keep": "yes"}}))
    world.replies["check"] = lambda request: {"allowed": False, "status": {"message": "keep it"}}
    assert (await world.send("DELETE", f"{MAPS}/kept")).status == 400
    assert (await world.send("DELETE", MAPS)).status == 400
    assert [each["metadata"]["name"] for each in (await world.get(MAPS))["items"]] == ["kept", "other"]
    await world.ok("DELETE", f"{MAPS}/other")


async def test_bindings_and_evictions(world: World) -> None:
    await world.hook(hook("binding", "pods/binding"), hook("eviction", "pods/eviction"))
    world.replies["binding"] = allow
    world.replies["eviction"] = lambda request: {"allowed": False, "status": {"message": "not now"}}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await world.create(PODS, pod)
    target = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"},
    }
    await world.create(f"{PODS}/p/binding", target)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert (await world.send("POST", f"{PODS}/p/eviction", body)).status == 400
    kinds = [request["kind"]["kind"] for _, request in world.asked]
    assert kinds == ["Binding", "Eviction"]


# --- mutating ---------------------------------------------------------------------------------------------------


async def test_changes_are_made_in_order_and_validated_after(world: World) -> None:
    await world.hook(hook("second"), mutating=True, name="b")
    await world.hook(hook("first"), mutating=True, name="a")
    await world.hook(hook("check"))
    world.replies["first"] = lambda request: label("first")
    world.replies["second"] = lambda request: label(
        "second", str(len(request["object"]["metadata"]["labels"]))
    )
    world.replies["check"] = allow
    made = await world.create(MAPS, config())
    assert world.names == ["first", "second", "check"]
    assert made["metadata"]["labels"] == {"a": "b", "first": "yes", "second": "2"}
    assert world.asked[-1][1]["object"]["metadata"]["labels"] == made["metadata"]["labels"]


async def test_a_change_that_does_not_validate_is_refused(world: World) -> None:
    await world.hook(hook(), mutating=True)
    world.replies["check"] = lambda request: patch({"op": "add", "path": "/data", "value": {"bad key": "x"}})
    assert (await world.send("POST", MAPS, config())).status == 422
    world.replies["check"] = lambda request: patch({"op": "remove", "path": "/data/none"})
    assert (await world.send("POST", MAPS, config())).status == 500
    world.replies["check"] = lambda request: {"patch": "e30="}
    answer = await world.send("POST", MAPS, config())
    assert answer.json["message"].endswith("webhook returned response.patch but not response.patchType")


async def test_custom_resources_are_defaulted_and_pruned_after_a_change(world: World) -> None:
    await world.define_widgets()
    await world.hook(hook("check", "example.com|widgets"), mutating=True)
    world.replies["check"] = lambda request: patch(
        {"op": "add", "path": "/spec/color", "value": "red"}, {"op": "add", "path": "/spec/odd", "value": 1}
    )
    answer = await world.send("POST", WIDGETS, widget("w"))
    assert answer.json["spec"] == {"size": 3, "color": "red"}
    assert world.asked[0][1]["object"]["spec"] == {"size": 3}, "defaults are there before the first webhook"
    assert "Warning" not in answer.headers


async def test_reinvocation(world: World) -> None:
    await world.hook(
        hook("again", reinvocationPolicy="IfNeeded"),
        hook("never"),
        hook("changer", reinvocationPolicy="IfNeeded"),
        mutating=True,
    )
    world.replies.update(again=allow, never=allow, changer=lambda request: label("late"))
    await world.create(MAPS, config())
    assert world.names == ["again", "never", "changer", "again"]
    assert world.asked[-1][1]["object"]["metadata"]["labels"]["late"] == "yes"


async def test_apply_and_conversion_through_another_version(world: World) -> None:
    await world.define_widgets()
    await world.hook(hook("check", "example.com|widgets", versions=["v1"]), mutating=True)
    world.replies["check"] = lambda request: patch({"op": "add", "path": "/spec/note", "value": "seen"})
    path = WIDGETS.replace("/v1/", "/v1alpha1/")
    body = {**widget("w", size=2), "apiVersion": "example.com/v1alpha1"}
    applied = await world.apply(f"{path}/w", body)
    assert applied["apiVersion"] == "example.com/v1alpha1"
    assert applied["spec"] == {"size": 2, "note": "seen"}
    assert [request["operation"] for _, request in world.asked] == ["CREATE"]
    await world.apply(f"{path}/w", body)
    assert world.asked[-1][1]["operation"] == "UPDATE"


# --- while others write -----------------------------------------------------------------------------------------


async def test_a_patch_is_made_anew_when_the_object_changed_meanwhile(
    world: World, virtual_clock: VirtualClock
) -> None:
    await world.create(MAPS, config(data={"a": "1"}))
    await world.hook(hook(operations=["UPDATE"]))
    world.replies["check"] = allow
    world.delays["check"] = 5
    first = asyncio.create_task(world.merge(f"{MAPS}/one", {"data": {"b": "2"}}))
    await virtual_clock.sleep(1)
    world.delays["check"] = 0
    await world.merge(f"{MAPS}/one", {"data": {"c": "3"}})
    assert (await first)["data"] == {"a": "1", "b": "2", "c": "3"}
    assert [request["oldObject"]["data"] for _, request in world.asked] == [
        {"a": "1"},
        {"a": "1"},
        {"a": "1", "c": "3"},
    ]


async def test_an_update_of_an_older_version_is_a_conflict(world: World, virtual_clock: VirtualClock) -> None:
    made = await world.create(MAPS, config())
    await world.hook(hook(operations=["UPDATE"]))
    world.replies["check"] = allow
    world.delays["check"] = 5
    late = asyncio.create_task(world.send("PUT", f"{MAPS}/one", {**made, "data": {"x": "1"}}))
    await virtual_clock.sleep(1)
    world.delays["check"] = 0
    await world.merge(f"{MAPS}/one", {"data": {"c": "3"}})
    assert (await late).status == 409


async def test_the_servers_own_writes_are_not_reviewed(world: World) -> None:
    await world.hook(hook("check", "serviceaccounts"))
    await world.create("/api/v1/namespaces", {"metadata": {"name": "x"}})
    assert (await world.get("/api/v1/namespaces/x/serviceaccounts/default"))["metadata"]["name"] == "default"
    assert world.asked == []


async def test_a_service_that_leads_nowhere(world: World) -> None:
    reference = {"service": {"name": "hook", "namespace": "default", "path": "/check", "port": 8443}}
    await world.hook(hook(clientConfig=reference))
    services = "/api/v1/namespaces/default/services"

    async def message() -> str:
        return str((await world.send("POST", MAPS, config())).json["message"])

    assert (
        'Post "https://hook.default.svc:8443/check?timeout=10s": service "hook" not found' in await message()
    )
    ports = [{"name": "other", "port": 1}, {"name": "https", "port": 8443}]
    await world.create(services, {"metadata": {"name": "hook"}, "spec": {"ports": ports[:1]}})
    assert "no service port 8443 found" in await message()
    await world.merge(f"{services}/hook", {"spec": {"ports": ports}})
    assert 'no endpoints available for service "hook"' in await message()
    subset = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "https", "port": 9443}]}
    endpoints = {"metadata": {"name": "hook"}, "subsets": [subset]}
    await world.create("/api/v1/namespaces/default/endpoints", endpoints)
    assert "endpoint 10.1.2.3:9443 of service" in await message()
    assert world.asked == []
