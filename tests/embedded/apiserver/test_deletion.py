"""Deletion: finalizers, grace periods, owners, namespaces, definitions."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.runtime.testing.virtual import VirtualClock
from support.apiserver import WIDGETS, Api, widget

MAPS = "/api/v1/namespaces/default/configmaps"
NODES = "/api/v1/nodes"
PODS = "/api/v1/namespaces/default/pods"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com"


def owned_by(owner: dict[str, Any], *, block: bool = False) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": block,
    }


async def make(api: Api, name: str, *owners: dict[str, Any], finalizers: list[str] | None = None) -> Any:
    metadata: dict[str, Any] = {"name": name, "ownerReferences": list(owners)}
    if finalizers:
        metadata["finalizers"] = finalizers
    return await api.create(MAPS, {"metadata": metadata})


async def names(api: Api, path: str = MAPS) -> list[str]:
    return [item["metadata"]["name"] for item in (await api.get(path))["items"]]


def pod(name: str, node: str = "", grace: int | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
    if node:
        spec["nodeName"] = node
    if grace is not None:
        spec["terminationGracePeriodSeconds"] = grace
    return {"metadata": {"name": name}, "spec": spec}


async def test_what_has_no_finalizer_goes_at_once(api: Api) -> None:
    created = await make(api, "a")
    answer = await api.send("DELETE", f"{MAPS}/a")
    assert answer.status == 200
    assert answer.json["status"] == "Success"
    assert answer.json["details"] == {"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}
    assert (await api.send("GET", f"{MAPS}/a")).status == 404


async def test_a_finalizer_holds_the_object(api: Api) -> None:
    await make(api, "a", finalizers=["example.com/hold"])
    marked = await api.ok("DELETE", f"{MAPS}/a")
    assert marked["metadata"]["deletionTimestamp"]
    again = await api.ok("DELETE", f"{MAPS}/a")
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    added = await api.send(
        "PATCH",
        f"{MAPS}/a",
        {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}},
        media="application/merge-patch+json",
    )
    assert (added.status, added.reason) == (422, "Invalid")
    watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={marked['metadata']['resourceVersion']}")
    await api.merge(f"{MAPS}/a", {"metadata": {"finalizers": None}})
    assert await watch.take(1) == [("DELETED", "a")]
    assert await names(api) == []


async def test_a_client_cannot_set_deletion_or_creation_times(api: Api) -> None:
    created = await make(api, "a")
    changed = await api.merge(
        f"{MAPS}/a",
        {
            "metadata": {
                "deletionTimestamp": "2020-01-01T00:00:00Z",
                "creationTimestamp": "2020-01-01T00:00:00Z",
            }
        },
    )
    assert changed == created


async def test_preconditions(api: Api) -> None:
    created = await make(api, "a")
    for preconditions in ({"uid": "other"}, {"resourceVersion": "1"}):
        answer = await api.send("DELETE", f"{MAPS}/a", {"preconditions": preconditions})
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert "Precondition failed" in answer.json["message"]
    right = {"uid": created["metadata"]["uid"], "resourceVersion": created["metadata"]["resourceVersion"]}
    await api.ok("DELETE", f"{MAPS}/a", {"preconditions": right})


async def test_dry_run_deletes_nothing(api: Api) -> None:
    await make(api, "a")
    await api.ok("DELETE", f"{MAPS}/a?dryRun=All")
    await api.ok("DELETE", f"{MAPS}/a", {"dryRun": ["All"]})
    assert await names(api) == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        {"propagationPolicy": "Slowly"},
        {"dryRun": ["Yes"]},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
    ],
)
async def test_delete_options_that_make_no_sense(api: Api, body: dict[str, Any]) -> None:
    await make(api, "a")
    answer = await api.send("DELETE", f"{MAPS}/a", body)
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert await names(api) == ["a"]


async def test_background_deletion_takes_dependents_of_dependents(api: Api) -> None:
    a = await make(api, "a")
    b = await make(api, "b", owned_by(a))
    await make(api, "c", owned_by(b))
    await api.ok("DELETE", f"{MAPS}/a", {"propagationPolicy": "Background"})
    await api.settle()
    assert await names(api) == []


async def test_a_second_owner_keeps_a_dependent(api: Api) -> None:
    a, b = await make(api, "a"), await make(api, "b")
    await make(api, "child", owned_by(a), owned_by(b))
    await api.ok("DELETE", f"{MAPS}/a")
    await api.settle()
    child = await api.get(f"{MAPS}/child")
    assert [each["name"] for each in child["metadata"]["ownerReferences"]] == ["b"]


async def test_orphaning_leaves_dependents_without_reference(api: Api) -> None:
    a = await make(api, "a")
    await make(api, "b", owned_by(a))
    await api.ok("DELETE", f"{MAPS}/a", {"propagationPolicy": "Orphan"})
    await api.settle()
    assert await names(api) == ["b"]
    assert "ownerReferences" not in (await api.get(f"{MAPS}/b"))["metadata"]


async def test_foreground_deletion_waits_for_blocking_dependents(api: Api) -> None:
    a = await make(api, "a")
    await make(api, "b", owned_by(a, block=True), finalizers=["example.com/hold"])
    await make(api, "c", owned_by(a))
    answer = await api.send("DELETE", f"{MAPS}/a", {"propagationPolicy": "Foreground"})
    assert answer.status == 202
    assert answer.json["metadata"]["finalizers"] == ["foregroundDeletion"]
    await api.settle()
    assert await names(api) == ["a", "b"]
    assert (await api.get(f"{MAPS}/b"))["metadata"]["deletionTimestamp"]
    await api.merge(f"{MAPS}/b", {"metadata": {"finalizers": None}})
    await api.settle()
    assert await names(api) == []


async def test_an_owner_that_never_was_takes_its_dependent_along(api: Api) -> None:
    ghost = {"metadata": {"name": "ghost", "uid": "6b1d6a8c-0000-4000-8000-000000000000"}}
    await make(api, "child", owned_by(ghost))
    await api.settle()
    assert await names(api) == []


async def test_an_owner_of_an_unknown_kind_proves_nothing(api: Api) -> None:
    reference = {"apiVersion": "nowhere.io/v1", "kind": "Ghost", "name": "g", "uid": "x"}
    await make(api, "child", reference)
    await api.settle()
    assert await names(api) == ["child"]


async def test_dependents_go_with_an_owner_whose_kind_goes_too(api: Api) -> None:
    await api.define_widgets()
    owner = await api.create(WIDGETS, widget("owner"))
    reference = {**owned_by(owner), "apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    await make(api, "child", reference)
    await api.ok("DELETE", DEFINITION)
    await api.settle()
    assert (await api.send("GET", WIDGETS)).status == 404
    assert await names(api) == []


async def test_a_running_pod_waits_for_its_kubelet(api: Api, virtual_clock: VirtualClock) -> None:
    await api.create(NODES, {"metadata": {"name": "n1"}})
    await api.create(PODS, pod("a", node="n1", grace=7))
    marked = await api.ok("DELETE", f"{PODS}/a")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 7
    await virtual_clock.sleep(60)
    assert await names(api, PODS) == ["a"]
    shorter = await api.ok("DELETE", f"{PODS}/a", {"gracePeriodSeconds": 2})
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 2
    longer = await api.ok("DELETE", f"{PODS}/a", {"gracePeriodSeconds": 20})
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 2
    await api.ok("DELETE", f"{PODS}/a", {"gracePeriodSeconds": 0})
    assert await names(api, PODS) == []


async def test_a_pod_without_node_or_that_has_ended_goes_at_once(api: Api) -> None:
    await api.create(PODS, pod("unscheduled"))
    await api.create(PODS, pod("done", node="n1"))
    await api.merge(f"{PODS}/done/status", {"status": {"phase": "Succeeded"}})
    for name in ("unscheduled", "done"):
        await api.ok("DELETE", f"{PODS}/{name}")
    assert await names(api, PODS) == []


async def test_pods_do_not_outlive_their_node(api: Api, virtual_clock: VirtualClock) -> None:
    await api.create(NODES, {"metadata": {"name": "n1"}})
    await api.create(NODES, {"metadata": {"name": "n2"}})
    await api.create(PODS, pod("stays", node="n2"))
    await api.create(PODS, pod("waits"))
    await api.create(PODS, pod("running", node="n1"))
    await api.create(PODS, pod("ending", node="n1"))
    await api.ok("DELETE", f"{PODS}/ending")
    await virtual_clock.sleep(60)
    await api.ok("DELETE", f"{NODES}/n1")
    await virtual_clock.sleep(4.9)
    assert await names(api, PODS) == ["ending", "running", "stays", "waits"]
    await virtual_clock.sleep(0.2)
    assert await names(api, PODS) == ["stays", "waits"]


async def test_a_node_that_comes_back_keeps_its_pods(api: Api, virtual_clock: VirtualClock) -> None:
    await api.create(NODES, {"metadata": {"name": "n1"}})
    await api.create(PODS, pod("a", node="n1"))
    await api.ok("DELETE", f"{NODES}/n1")
    await virtual_clock.sleep(2)
    await api.create(NODES, {"metadata": {"name": "n1"}})
    await virtual_clock.sleep(60)
    assert await names(api, PODS) == ["a"]


async def test_a_pod_bound_to_a_node_that_never_was(api: Api, virtual_clock: VirtualClock) -> None:
    await api.create(PODS, pod("a", node="nowhere"))
    await virtual_clock.sleep(6)
    assert await names(api, PODS) == []


async def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    for name, tier in (("a", "web"), ("b", "db"), ("c", "web")):
        await api.create(MAPS, {"metadata": {"name": name, "labels": {"tier": tier}}})
    gone = await api.ok("DELETE", f"{MAPS}?labelSelector=tier=web")
    assert [item["metadata"]["name"] for item in gone["items"]] == ["a", "c"]
    assert await names(api) == ["b"]


async def test_a_namespace_goes_with_everything_in_it(api: Api) -> None:
    await api.create("/api/v1/namespaces", {"metadata": {"name": "team"}})
    held = "/api/v1/namespaces/team/configmaps"
    await api.create(held, {"metadata": {"name": "a"}})
    await api.create(held, {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}})
    terminating = await api.ok("DELETE", "/api/v1/namespaces/team")
    assert terminating["status"]["phase"] == "Terminating"
    refused = await api.send("POST", held, {"metadata": {"name": "late"}})
    assert (refused.status, refused.reason) == (403, "Forbidden")
    assert refused.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await api.settle()
    assert await names(api, held) == ["held"]
    await api.merge(f"{held}/held", {"metadata": {"finalizers": None}})
    await api.settle()
    assert (await api.send("GET", "/api/v1/namespaces/team")).status == 404
    missing = await api.send("POST", held, {"metadata": {"name": "late"}})
    assert (missing.status, missing.reason) == (404, "NotFound")


async def test_every_namespace_has_its_default_service_account(api: Api) -> None:
    listing = await api.get("/api/v1/namespaces")
    assert [item["metadata"]["name"] for item in listing["items"]] == [
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ]
    assert all(item["status"]["phase"] == "Active" for item in listing["items"])
    await api.create("/api/v1/namespaces", {"metadata": {"name": "team"}})
    accounts = "/api/v1/namespaces/team/serviceaccounts"
    assert await names(api, accounts) == ["default"]
    await api.ok("DELETE", f"{accounts}/default")
    assert await names(api, accounts) == ["default"]
    await api.ok("DELETE", "/api/v1/namespaces/team")
    await api.settle()
    assert (await api.send("GET", "/api/v1/namespaces/team")).status == 404


async def test_a_definition_goes_after_its_objects(api: Api) -> None:
    await api.define_widgets()
    held = widget("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(WIDGETS, held)
    await api.create(WIDGETS, widget("free"))
    await api.ok("DELETE", DEFINITION)
    await api.settle()
    assert await names(api, WIDGETS) == ["held"]
    await api.merge(f"{WIDGETS}/held", {"metadata": {"finalizers": None}})
    await api.settle()
    assert (await api.send("GET", DEFINITION)).status == 404
    assert (await api.send("GET", WIDGETS)).status == 404
    await api.define_widgets()
    assert await names(api, WIDGETS) == []


async def test_events_are_forgotten_after_an_hour(api: Api, virtual_clock: VirtualClock) -> None:
    events = "/api/v1/namespaces/default/events"
    about = {"kind": "Pod", "namespace": "default", "name": "p"}

    async def happen(name: str) -> None:
        body = {
            "metadata": {"name": name},
            "involvedObject": about,
            "reason": "R",
            "message": "m",
            "type": "Normal",
        }
        await api.create(events, body)

    await happen("old")
    await happen("repeated")
    await virtual_clock.sleep(3000)
    await api.merge(f"{events}/repeated", {"count": 2})
    await virtual_clock.sleep(601)
    await happen("new")
    assert await names(api, events) == ["new", "repeated"]
