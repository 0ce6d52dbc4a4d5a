"""Lists: paging with a stable view, resourceVersion rules, selectors, forms."""

from __future__ import annotations

import pytest

from support.apiserver import Api

MAPS = "/api/v1/namespaces/default/configmaps"


async def _fill(api: Api, count: int) -> None:
    for index in range(count):
        await api.create(MAPS, {"metadata": {"name": f"m{index}", "labels": {"even": str(index % 2 == 0)}}})


def _names(listing: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    return [item["metadata"]["name"] for item in listing["items"]]


async def test_pages_show_one_moment_whatever_happens_between_them(api: Api) -> None:
    await _fill(api, 5)
    first = await api.get(f"{MAPS}?limit=2")
    assert _names(first) == ["m0", "m1"]
    assert first["metadata"]["remainingItemCount"] == 3
    await api.ok("DELETE", f"{MAPS}/m3")
    await api.merge(f"{MAPS}/m2", {"data": {"late": "yes"}})
    await api.create(MAPS, {"metadata": {"name": "m22"}})
    second = await api.get(f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert _names(second) == ["m2", "m3"]
    assert "data" not in second["items"][0]
    third = await api.get(f"{MAPS}?limit=2&continue={second['metadata']['continue']}")
    assert _names(third) == ["m4"]
    assert "continue" not in third["metadata"]
    assert first["metadata"]["resourceVersion"] == third["metadata"]["resourceVersion"]


async def test_a_page_of_a_forgotten_moment_is_410(api: Api) -> None:
    await _fill(api, 3)
    first = await api.get(f"{MAPS}?limit=1")
    await api.create(MAPS, {"metadata": {"name": "new"}})
    api.server.core.store.compact()
    answer = await api.send("GET", f"{MAPS}?limit=1&continue={first['metadata']['continue']}")
    assert (answer.status, answer.reason) == (410, "Expired")


async def test_exact_revision_lists_the_past(api: Api) -> None:
    await _fill(api, 2)
    then = (await api.get(MAPS))["metadata"]["resourceVersion"]
    await api.ok("DELETE", f"{MAPS}/m0")
    listing = await api.get(f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert _names(listing) == ["m0", "m1"]
    assert listing["metadata"]["resourceVersion"] == then
    assert _names(await api.get(f"{MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")) == ["m1"]


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("resourceVersion=99999", 504, "Timeout"),
        ("resourceVersion=abc", 400, "BadRequest"),
        ("resourceVersionMatch=Exact", 422, "Invalid"),
        ("resourceVersionMatch=NotOlderThan", 422, "Invalid"),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422, "Invalid"),
        ("resourceVersion=1&resourceVersionMatch=Sometimes", 422, "Invalid"),
        ("labelSelector=a==b==c", 400, "BadRequest"),
        ("labelSelector=(", 400, "BadRequest"),
        ("fieldSelector=spec.nope=1", 400, "BadRequest"),
        ("fieldSelector=metadata.name", 400, "BadRequest"),
        ("continue=nonsense", 400, "BadRequest"),
        ("limit=many", 400, "BadRequest"),
    ],
)
async def test_bad_list_parameters(api: Api, query: str, status: int, reason: str) -> None:
    answer = await api.send("GET", f"{MAPS}?{query}")
    assert (answer.status, answer.reason) == (status, reason)


async def test_selectors(api: Api) -> None:
    await _fill(api, 4)
    assert _names(await api.get(f"{MAPS}?labelSelector=even=True")) == ["m0", "m2"]
    assert _names(await api.get(f"{MAPS}?labelSelector=even notin (True)")) == ["m1", "m3"]
    assert _names(await api.get(f"{MAPS}?labelSelector=!even")) == []
    assert _names(await api.get(f"{MAPS}?fieldSelector=metadata.name=m3")) == ["m3"]
    assert _names(await api.get(f"{MAPS}?fieldSelector=metadata.name!=m3")) == ["m0", "m1", "m2"]
    every = await api.get("/api/v1/configmaps?fieldSelector=metadata.namespace=default")
    assert _names(every) == ["m0", "m1", "m2", "m3"]


async def test_pods_are_selected_by_node_and_phase(api: Api) -> None:
    pods = "/api/v1/namespaces/default/pods"
    for name, node in (("a", "n1"), ("b", "")):
        spec = {"containers": [{"name": "c", "image": "i"}]} | ({"nodeName": node} if node else {})
        await api.create(pods, {"metadata": {"name": name}, "spec": spec})
    assert _names(await api.get("/api/v1/pods?fieldSelector=spec.nodeName=n1")) == ["a"]
    assert _names(await api.get("/api/v1/pods?fieldSelector=spec.nodeName=")) == ["b"]
    await api.merge(f"{pods}/a/status", {"status": {"phase": "Running"}})
    assert _names(await api.get(f"{pods}?fieldSelector=status.phase=Running,spec.nodeName!=n2")) == ["a"]


async def test_metadata_only(api: Api) -> None:
    await _fill(api, 1)
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    listing = await api.get(MAPS, accept=accept)
    assert (listing["kind"], listing["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert listing["items"][0]["kind"] == "PartialObjectMetadata"
    one = await api.get(f"{MAPS}/m0", accept="application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
    assert one == listing["items"][0]


async def test_a_form_that_is_not_offered_is_406(api: Api) -> None:
    for accept in (
        "text/html",
        "application/vnd.kubernetes.protobuf",
        "application/json;as=Table;v=v9;g=meta.k8s.io",
    ):
        answer = await api.send("GET", MAPS, accept=accept)
        assert (answer.status, answer.reason) == (406, "NotAcceptable")
