"""What a watch promises: nothing lost, nothing twice, in order, and told when it cannot go on."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.testing.virtual import VirtualClock
from support.apiserver import Api

MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app": "x"}}, "data": data}


async def test_events_follow_the_state_without_gap(api: Api) -> None:
    await api.create(MAPS, config_map("a"))
    watch = await api.watch(f"{MAPS}?watch=1")
    assert await watch.take(1) == [("ADDED", "a")]
    await api.create(MAPS, config_map("b"))
    await api.merge(f"{MAPS}/a", {"data": {"k": "v"}})
    await api.ok("DELETE", f"{MAPS}/b")
    assert await watch.take(3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


async def test_list_and_events_give_the_later_list(api: Api) -> None:
    for name in "abc":
        await api.create(MAPS, config_map(name))
    before = await api.get(MAPS)
    await api.ok("DELETE", f"{MAPS}/a")
    await api.create(MAPS, config_map("d", x="1"))
    await api.merge(f"{MAPS}/b", {"data": {"k": "v"}})
    after = await api.get(MAPS)
    watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={before['metadata']['resourceVersion']}")
    state = {item["metadata"]["name"]: item for item in before["items"]}
    revisions = []
    for _ in range(3):
        event = await watch.next()
        obj = event["object"]
        revisions.append(int(obj["metadata"]["resourceVersion"]))
        if event["type"] == "DELETED":
            del state[obj["metadata"]["name"]]
        else:
            # Items of a list leave their type to the list.
            state[obj["metadata"]["name"]] = {
                key: obj[key] for key in obj if key not in ("kind", "apiVersion")
            }
    assert state == {item["metadata"]["name"]: item for item in after["items"]}
    assert revisions == sorted(set(revisions))
    assert revisions[-1] == int(after["metadata"]["resourceVersion"])


async def test_every_resume_point_sees_the_same_rest(api: Api) -> None:
    start = (await api.get(MAPS))["metadata"]["resourceVersion"]
    for index in range(6):
        await api.create(MAPS, config_map(f"m{index}"))
    whole = await api.watch(f"{MAPS}?watch=1&resourceVersion={start}")
    events = [await whole.next() for _ in range(6)]
    for index, event in enumerate(events[:-1]):
        resumed = await api.watch(
            f"{MAPS}?watch=1&resourceVersion={event['object']['metadata']['resourceVersion']}"
        )
        assert [await resumed.next() for _ in events[index + 1 :]] == events[index + 1 :]


async def test_a_selector_sees_objects_come_and_go(api: Api) -> None:
    watch = await api.watch(f"{MAPS}?watch=1&labelSelector=tier%3Dweb".replace("%3D", "="))
    await api.create(MAPS, config_map("a"))
    await api.merge(f"{MAPS}/a", {"metadata": {"labels": {"tier": "web"}}})
    await api.merge(f"{MAPS}/a", {"data": {"k": "v"}})
    gone = await api.merge(f"{MAPS}/a", {"metadata": {"labels": {"tier": "db"}}})
    added, changed, left = [await watch.next() for _ in range(3)]
    assert [added["type"], changed["type"], left["type"]] == ["ADDED", "MODIFIED", "DELETED"]
    # The object as it last was in the selection, at the revision of the change that took it out.
    assert left["object"]["metadata"]["labels"]["tier"] == "web"
    assert left["object"]["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"]


async def test_one_namespace_does_not_see_another(api: Api) -> None:
    watch = await api.watch(f"{MAPS}?watch=1&fieldSelector=metadata.name=mine")
    await api.create("/api/v1/namespaces/kube-system/configmaps", config_map("mine"))
    await api.create(MAPS, config_map("other"))
    await api.create(MAPS, config_map("mine"))
    event = await watch.next()
    assert (event["object"]["metadata"]["namespace"], event["object"]["metadata"]["name"]) == (
        "default",
        "mine",
    )


async def test_a_compacted_revision_is_gone(api: Api) -> None:
    start = (await api.get(MAPS))["metadata"]["resourceVersion"]
    await api.create(MAPS, config_map("a"))
    api.server.core.store.compact()
    await api.create(MAPS, config_map("b"))
    watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={start}")
    event = await watch.next()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert await watch.rest() == []


async def test_a_slow_watcher_is_cut_off_not_buffered(virtual_clock: VirtualClock) -> None:
    server = ApiServer(ApiServerOptions(clock=virtual_clock, history=10))
    api = Api(server, virtual_clock)
    watch = await api.watch(f"{MAPS}?watch=1")
    await api.create(MAPS, config_map("first"))
    assert await watch.take(1) == [("ADDED", "first")]
    for index in range(40):
        await api.create(MAPS, config_map(f"m{index}"))
    assert len(server.core.store.collection("configmaps").history) < 20
    events = await watch.rest()
    assert events[-1]["type"] == "ERROR"
    assert events[-1]["object"]["code"] == 410
    assert server.api.watcher.open_watches == 0
    await api.close()


async def test_bookmarks_every_minute_and_the_end_by_the_clock(api: Api, virtual_clock: VirtualClock) -> None:
    watch = await api.watch(f"{MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=150&resourceVersion=1")
    await virtual_clock.sleep(30)
    other = await api.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
    marks = [(await watch.next(100), virtual_clock.now()) for _ in range(2)]
    assert [(mark["type"], now) for mark, now in marks] == [("BOOKMARK", 60.0), ("BOOKMARK", 120.0)]
    assert marks[0][0]["object"]["kind"] == "ConfigMap"
    # A bookmark moves the revision on although nothing of this kind happened.
    assert marks[0][0]["object"]["metadata"]["resourceVersion"] == other["metadata"]["resourceVersion"]
    assert await watch.rest() == []
    assert virtual_clock.now() == 150.0


async def test_without_being_asked_there_are_no_bookmarks(api: Api, virtual_clock: VirtualClock) -> None:
    watch = await api.watch(f"{MAPS}?watch=1&timeoutSeconds=200&resourceVersion=1")
    assert await watch.rest() == []
    assert virtual_clock.now() == 200.0


async def test_watch_list_ends_its_initial_events_with_a_bookmark(api: Api) -> None:
    for name in "ab":
        await api.create(MAPS, config_map(name))
    watch = await api.watch(
        f"{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    assert await watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
    mark = await watch.next()
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    listed = await api.get(MAPS)
    assert mark["object"]["metadata"]["resourceVersion"] == listed["metadata"]["resourceVersion"]
    await api.create(MAPS, config_map("c"))
    assert await watch.take(1) == [("ADDED", "c")]


@pytest.mark.parametrize(
    "query",
    [
        "watch=1&sendInitialEvents=true",
        "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
        "watch=1&resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true",
    ],
)
async def test_watch_list_options_that_make_no_sense_are_422(api: Api, query: str) -> None:
    answer = await api.send("GET", f"{MAPS}?{query}")
    assert (answer.status, answer.reason) == (422, "Invalid")


async def test_a_future_revision_is_an_error_event(api: Api) -> None:
    watch = await api.watch(f"{MAPS}?watch=1&resourceVersion=99999")
    event = await watch.next()
    assert event["type"] == "ERROR"
    assert event["object"]["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_all_watchers_of_a_form_share_one_encoding(api: Api) -> None:
    watches = [await api.watch(f"{MAPS}?watch=1") for _ in range(3)]
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    partial = await api.watch(f"{MAPS}?watch=1", accept=accept)
    await api.create(MAPS, config_map("a", k="v"))
    events = [await watch.next() for watch in watches]
    assert events[0] == events[1] == events[2]
    slim = (await partial.next())["object"]
    assert (slim["kind"], slim["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert "data" not in slim
    record = api.server.core.store.collection("configmaps").history[-1].record
    assert len(record._encoded) == 2


async def test_watch_as_table(api: Api) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    watch = await api.watch(f"{MAPS}?watch=1", accept=accept)
    await api.create(MAPS, config_map("a", k="v"))
    await api.create(MAPS, config_map("b"))
    first, second = (await watch.next())["object"], (await watch.next())["object"]
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert first["rows"][0]["cells"][:2] == ["a", 1]
    assert second["columnDefinitions"] is None
    assert second["rows"][0]["object"]["metadata"]["name"] == "b"


async def test_closing_a_watch_frees_its_place(api: Api) -> None:
    watch = await api.watch(f"{MAPS}?watch=1")
    await api.create(MAPS, config_map("a"))
    await watch.next()
    collection = api.server.core.store.collection("configmaps")
    assert len(collection.cursors) == 1
    await watch.close()
    assert not collection.cursors


async def test_a_write_that_changes_nothing_wakes_nobody(api: Api) -> None:
    created = await api.create(MAPS, config_map("a", k="v"))
    watch = await api.watch(f"{MAPS}?watch=1&resourceVersion={created['metadata']['resourceVersion']}")
    again = await api.merge(f"{MAPS}/a", {"data": {"k": "v"}})
    replaced = await api.ok("PUT", f"{MAPS}/a", again)
    assert created["metadata"]["resourceVersion"] == replaced["metadata"]["resourceVersion"]
    await api.merge(f"{MAPS}/a", {"data": {"k": "w"}})
    event = await watch.next()
    assert event["object"]["data"] == {"k": "w"}
