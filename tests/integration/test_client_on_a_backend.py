"""What a client needs around its verbs, against whichever API server answers: discovery, credentials, reports of
writes, conflicts, the lease and the events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.runtime.client import Client, PatchType
from kaito.runtime.conflicts import Outcome, RetrySteps, create_or_patch, create_or_update, retry_on_conflict
from kaito.runtime.connection import Connection
from kaito.runtime.discovery import Discovery, NoMatch
from kaito.runtime.errors import ApiError, BadRequest, Conflict, NotFound, Unauthorized, UnsupportedMediaType
from kaito.runtime.events import EventRecorder
from kaito.runtime.leader import LeaderElectionOptions, LeaderElector
from kaito.runtime.lease import holder_of
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, EVENTS, LEASES, NODES, PODS, ObjectKey, Resource
from kaito.runtime.writes import Write
from support.cluster import World, definition

pytestmark = pytest.mark.needs("api")

GADGETS = Resource("clientside.example.com", "v1", "gadgets", "Gadget")


@contextlib.asynccontextmanager
async def running(*coroutines: Any) -> AsyncIterator[None]:
    """Runs them until the block ends."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_discovery_finds_what_is_there_and_what_comes(world: World) -> None:
    discovery = Discovery(world.client)
    assert await discovery.by_kind("Deployment", "apps/v1") == DEPLOYMENTS
    assert await discovery.by_kind("Node") == NODES
    deployments = await discovery.by_name("deploy")
    assert deployments.resource == DEPLOYMENTS
    assert {"status", "scale"} <= set(deployments.subresources)
    assert "watch" in deployments.verbs
    assert (await discovery.by_name("po")).resource == PODS
    assert (await discovery.by_name("leases.coordination.k8s.io")).resource == LEASES
    assert await discovery.failures() == {}
    assert (await discovery.server_version())["gitVersion"].startswith("v1.")
    with pytest.raises(NoMatch, match="no 'Deploymint'; near it: Deployment"):
        await discovery.by_kind("Deploymint")
    await world.define(definition(GADGETS.group, size={"type": "integer"}))

    async def served() -> bool:
        return await discovery.serves(GADGETS)

    await world.until(served, "the new kind is discovered")
    assert await discovery.by_kind("Gadget", group=GADGETS.group) == GADGETS


async def test_every_kind_of_request_raises_a_typed_error(world: World) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/configmaps/none"
    with pytest.raises(NotFound) as caught:
        await world.client.request("GET", path)
    assert (caught.value.reason, caught.value.details["name"]) == ("NotFound", "none")
    with pytest.raises(NotFound, match="not found"):
        await world.client.stream(path)
    with pytest.raises(ApiError) as missing:
        await world.client.request("GET", "/no/such/path")
    assert missing.value.status == 404
    with pytest.raises(NotFound):
        await anext(world.client.logs("none", world.namespace))
    pod = {
        "metadata": world.meta("waiting"),
        "spec": {"containers": [{"name": "a", "image": "example.com/a:1"}]},
    }
    await world.client.create(PODS, pod)
    with pytest.raises(BadRequest):  # nothing runs yet, so there is no log
        await anext(world.client.logs("waiting", world.namespace, container="b"))


async def test_writes_are_told_as_the_watch_will_show_them(world: World) -> None:
    told: list[Write] = []
    client = world.connect("writer", "writer")
    client.on_write = told.append
    meta = world.meta("a", labels={"x": "y"}, finalizers=["example.com/wait"])
    made = await client.create(CONFIGMAPS, {"metadata": meta})
    await client.patch(CONFIGMAPS, "a", world.namespace, patch={"data": {"k": "1"}})
    await client.patch(CONFIGMAPS, "a", world.namespace, patch={"data": {"k": "2"}}, dry_run=True)
    waiting = await client.delete(CONFIGMAPS, "a", world.namespace)
    assert waiting is not None
    assert waiting["metadata"]["deletionTimestamp"]
    await client.patch(CONFIGMAPS, "a", world.namespace, patch={"metadata": {"finalizers": None}})
    await world.gone(CONFIGMAPS, "a")
    await client.create(CONFIGMAPS, {"metadata": world.meta("b")})
    await client.delete(CONFIGMAPS, "b", world.namespace)
    await client.create(CONFIGMAPS, {"metadata": {"generateName": "c-"}}, world.namespace)
    collected = await client.delete_collection(CONFIGMAPS, world.namespace, label_selector="!other")
    key, uid = ObjectKey(world.namespace, "a"), made["metadata"]["uid"]
    first = [(each.key, each.uid, each.deleted, dict(each.labels)) for each in told[:4]]
    assert first == [(key, uid, deleted, {"x": "y"}) for deleted in (False, False, True, False)]
    versions = [int(each.resource_version) for each in told[:3]]
    assert versions == sorted(set(versions))
    assert versions[-1] == int(waiting["metadata"]["resourceVersion"])
    assert [(each.key.name[:2], each.deleted) for each in told[4:7]] == [
        ("b", False),
        ("b", True),
        ("c-", False),
    ]
    names = {item["metadata"]["name"] for item in collected}
    assert {each.key.name for each in told[7:]} == names
    assert told[6].key.name in names


async def test_warnings_reach_their_handler(world: World) -> None:
    heard: list[str] = []
    client = Client(world.client.transport, clock=world.clock, user_agent="warned", on_warning=heard.append)
    body = {"metadata": world.meta("odd"), "data": {}, "nonsense": 1}
    await client.create(CONFIGMAPS, body, field_validation="Warn")
    assert heard == ['unknown field "nonsense"']
    with pytest.raises(BadRequest, match="nonsense"):
        await client.create(CONFIGMAPS, {**body, "metadata": world.meta("odd2")}, field_validation="Strict")
    await client.create(CONFIGMAPS, {**body, "metadata": world.meta("odd3")}, field_validation="Ignore")
    assert len(heard) == 1


async def test_many_writers_count_to_the_same_sum(world: World) -> None:
    steps = RetrySteps(tries=40, delay=0.01)

    def count_up(obj: dict[str, Any]) -> None:
        data = obj.setdefault("data", {})
        data["n"] = str(int(data.get("n", "0")) + 1)

    async def write() -> Outcome:
        return (await create_or_update(world.client, CONFIGMAPS, "sum", world.namespace, mutate=count_up))[0]

    assert await write() is Outcome.CREATED
    outcomes = await asyncio.gather(*(retry_on_conflict(write, world.clock, steps=steps) for _ in range(10)))
    assert outcomes == [Outcome.UPDATED] * 10
    assert (await world.client.get(CONFIGMAPS, "sum", world.namespace))["data"] == {"n": "11"}


async def test_create_or_patch_knows_object_and_status(world: World) -> None:
    await world.define(definition(GADGETS.group, size={"type": "integer"}))

    async def write(size: int, state: str) -> Outcome:
        def mutate(obj: dict[str, Any]) -> None:
            obj["spec"] = {"size": size}
            obj["status"] = {"state": state}

        return (await create_or_patch(world.client, GADGETS, "g", world.namespace, mutate=mutate))[0]

    async def first() -> bool:
        try:
            return await write(1, "new") is Outcome.CREATED
        except NotFound:
            return False  # not served by every part of the server yet

    await world.until(first, "the first gadget")
    assert await write(1, "new") is Outcome.UNCHANGED
    assert await write(2, "new") is Outcome.UPDATED
    assert await write(2, "old") is Outcome.UPDATED_STATUS_ONLY
    assert await write(3, "older") is Outcome.UPDATED_STATUS
    gadget = await world.client.get(GADGETS, "g", world.namespace)
    assert (gadget["spec"], gadget["status"]) == ({"size": 3}, {"state": "older"})


async def test_forced_and_unforced_apply(world: World) -> None:
    def body(value: str) -> dict[str, Any]:
        return {"metadata": world.meta("shared"), "data": {"k": value}}

    first, second = world.connect("first", "first"), world.connect("second", "second")
    await first.apply(CONFIGMAPS, body("1"))
    with pytest.raises(Conflict) as caught:
        await second.apply(CONFIGMAPS, body("2"), force=False)
    (cause,) = caught.value.details["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.k")
    assert 'conflict with "first"' in cause["message"]
    applied = await second.apply(CONFIGMAPS, body("2"))
    assert applied["data"] == {"k": "2"}


async def test_an_exec_plugin_gives_the_credentials(world: World, tmp_path: Path) -> None:
    """The first token is refused, which runs the plugin again; another one never gets in."""
    config = yaml.safe_load(world.backend.kubeconfig.read_text())
    user = config["users"][0]["user"]
    tokens = ["wrong", user["token"]]
    (tmp_path / "tokens").write_text(json.dumps(tokens))
    code = (
        "import json, os, pathlib, sys\n"
        f"path = pathlib.Path({str(tmp_path / 'tokens')!r})\n"
        "tokens = json.loads(path.read_text())\n"
        "path.write_text(json.dumps(tokens[1:] or tokens))\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert info['spec']['cluster']['server'].startswith('https://127.0.0.1:')\n"
        "status = {'token': tokens[0], 'expirationTimestamp': '2100-01-01T00:00:00Z'}\n"
        "print(json.dumps({'apiVersion': info['apiVersion'], 'kind': 'ExecCredential', 'status': status}))\n"
    )
    config["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", code],
            "interactiveMode": "Never",
            "provideClusterInfo": True,
        }
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    connection = Connection.from_kubeconfig(path)
    client = Client(connection.transport, clock=world.clock)
    try:
        with pytest.raises(Unauthorized):
            await client.list(CONFIGMAPS, world.namespace)
        await client.list(CONFIGMAPS, world.namespace)
    finally:
        await connection.close()


async def test_the_lease_changes_hands_when_it_is_given_back(world: World) -> None:
    electors = []
    for name in ("one", "two"):
        options = LeaderElectionOptions("lease", world.namespace, identity=name)
        electors.append(LeaderElector(world.connect(name), options, world.clock))
    first, second = electors
    await first.acquire()
    async with running(first.renew(), second.acquire()):

        async def seen() -> bool:
            return second.holder == "one"

        await world.until(seen, "the standby sees the leader")
        assert not second.is_leader
    await first.release()
    await second.acquire()
    lease = await world.client.get(LEASES, "lease", world.namespace)
    assert holder_of(lease) == "two"
    assert lease["spec"]["leaseTransitions"] == 1
    await second.release()
    assert holder_of(await world.client.get(LEASES, "lease", world.namespace)) == ""


async def test_events_are_counted_and_combined(world: World) -> None:
    made = await world.client.create(CONFIGMAPS, {"metadata": world.meta("busy")})
    regarding = {"apiVersion": "v1", "kind": "ConfigMap", **made}
    recorder = EventRecorder(world.connect("recorder"), "tester", world.clock)
    for _ in range(3):
        recorder.event(regarding, "Normal", "Same", "again")
    for number in range(12):
        recorder.event(regarding, "Warning", "Similar", f"number {number}")
    async with running(recorder.run()):

        async def complete() -> bool:
            events = await world.client.list(EVENTS, world.namespace)
            return sorted(
                (event["reason"], event["count"])
                for event in events
                if event["involvedObject"]["name"] == "busy"
            ) == [("Same", 3)] + [("Similar", 1)] * 10 + [("Similar", 2)]

        await world.until(complete, "the events are there")


async def test_evictions_are_created_below_their_pod(world: World) -> None:
    told: list[Write] = []
    client = world.connect("evictor")
    client.on_write = told.append
    pod = {"metadata": world.meta("p"), "spec": {"containers": [{"name": "a", "image": "example.com/a:1"}]}}
    await world.client.create(PODS, pod)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": world.meta("p")}
    answer = await client.create(PODS, eviction, subresource="eviction")
    assert answer["status"] == "Success"
    await world.gone(PODS, "p")
    assert told == []  # the answer names no version of the pod
    with pytest.raises(NotFound):
        await client.create(PODS, eviction, subresource="eviction")


async def test_strategic_patches_merge_lists_of_built_in_kinds_only(world: World) -> None:
    containers = [{"name": "a", "image": "example.com/a:1"}, {"name": "b", "image": "example.com/b:1"}]
    labels = {"app": "x"}
    deployment = {
        "metadata": world.meta("d"),
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }
    await world.client.create(DEPLOYMENTS, deployment)
    change = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "example.com/b:2"}]}}}}
    patched = await world.client.patch(
        DEPLOYMENTS, "d", world.namespace, patch=change, patch_type=PatchType.STRATEGIC
    )
    images = {each["name"]: each["image"] for each in patched["spec"]["template"]["spec"]["containers"]}
    assert images == {"a": "example.com/a:1", "b": "example.com/b:2"}
    assert (await world.client.get_scale(DEPLOYMENTS, "d", world.namespace))["spec"].get("replicas", 0) == 0
    scaled = await world.client.scale(DEPLOYMENTS, "d", world.namespace, replicas=2)
    assert scaled["spec"]["replicas"] == 2
    with pytest.raises(Conflict):
        await world.client.scale(DEPLOYMENTS, "d", world.namespace, replicas=3, resource_version="1")
    await world.define(definition(GADGETS.group, size={"type": "integer"}))

    async def refused() -> bool:
        try:
            await world.client.patch(
                GADGETS, "none", world.namespace, patch={"spec": {}}, patch_type=PatchType.STRATEGIC
            )
        except UnsupportedMediaType:
            return True
        except NotFound:
            return False
        return False

    await world.until(refused, "strategic patches of custom resources are refused", limit=10)
