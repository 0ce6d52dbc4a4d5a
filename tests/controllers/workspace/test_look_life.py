"""The pod that looks at weights, against the API server in virtual time: what it costs, who stops it, and crashes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from controllers.workspace.cluster import Cluster, Object, Wire, cluster, running
from kaito.api.labels import WEIGHTS_CHECK_LABEL
from kaito.api.resources import MACHINES, WORKSPACES
from kaito.runtime.controller import Controller
from kaito.runtime.errors import Conflict, NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import DEPLOYMENTS, EVENTS, PODS, ObjectKey
from kaito.runtime.testing import VirtualClock
from kaito.testing.faults import Answer, Faults, Match
from kaito.testing.faults.transport import FaultyTransport

DIGEST = "sha256:" + "b" * 64
FITS = json.dumps({"bytes": 7_642_000_000, "files": 2, "quantization": None, "digest": DIGEST})
WORKSPACE: Object = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "phi", "namespace": "default"},
    "resource": {
        "instanceType": "Standard_NC24ads_A100_v4",
        "labelSelector": {"matchLabels": {"apps": "phi"}},
    },
    "inference": {"preset": {"name": "phi-3-mini-4k-instruct", "weights": {"image": "r.example/mine:1"}}},
}


@contextlib.asynccontextmanager
async def kubelet(world: Cluster, answers: list[tuple[int, str]]) -> AsyncIterator[list[str]]:
    """Ends each look after a second with the next of the answers, the last one for ever; yields the names of all."""
    manager = Manager(world.client, clock=world.clock)
    pods, seen = manager.cache.lister(PODS), list[str]()

    async def end(key: ObjectKey) -> None:
        pod = pods.get(key.name, key.namespace)
        if pod is None or WEIGHTS_CHECK_LABEL not in pod.meta.labels or pod.meta.uid in seen:
            return
        seen.append(pod.meta.uid)
        code, said = answers[min(len(seen), len(answers)) - 1]
        await world.clock.sleep(1)
        ended = {"name": "weights", "state": {"terminated": {"exitCode": code, "message": said}}}
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [ended]}
        with contextlib.suppress(NotFound, Conflict):
            await world.client.patch_status(PODS, key.name, key.namespace, status)

    manager.add(Controller("kubelet", end, primary=PODS))
    async with running(manager):
        yield seen


async def looks(world: Cluster) -> list[str]:
    return [
        each["metadata"]["name"] for each in await world.client.list(PODS, label_selector=WEIGHTS_CHECK_LABEL)
    ]


async def test_a_look_costs_a_pod_and_two_writes_of_the_status(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock) as world, kubelet(world, [(0, FITS)]):
        wire = world.wire()
        async with world.operator(wire):
            await world.client.create(WORKSPACES, WORKSPACE)
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady", 30)
            of_pods = [each.split()[0] for each in wire.writes if "/pods" in each]
            assert of_pods == ["POST", "DELETE"]
            assert len([each for each in wire.writes if each.endswith("/status")]) <= 5, wire.writes
            assert world.status()["resolved"]["weights"]["digest"] == DIGEST
            assert await looks(world) == []
            await virtual_clock.sleep(5)
            before = sum(wire.requests.values())
            await virtual_clock.sleep(3600)
            assert sum(wire.requests.values()) == before, "a settled world asks for nothing"


async def test_weights_that_are_mended_in_place_are_found(virtual_clock: VirtualClock) -> None:
    answers = [
        (5, "num_hidden_layers is 40, not 32."),
        (8, "The registry has no r.example/mine:1."),
        (0, FITS),
    ]
    async with cluster(virtual_clock) as world, kubelet(world, answers) as seen, world.operator(world.wire()):
        await world.client.create(WORKSPACES, WORKSPACE)
        await world.until(lambda: world.status().get("reason") == "WeightsDoNotFit", "unfit", 30)
        assert await world.names(MACHINES) == []
        await world.until(lambda: world.status().get("reason") == "ModelNotFound", "not there", 100)
        assert await world.names(MACHINES) == []
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady", 200)
        assert len(seen) == 3
        told = [each["reason"] for each in await world.client.list(EVENTS, "default")]
        assert told.count("WeightsDoNotFit") == told.count("ModelNotFound") == 1


async def test_a_namespace_that_allows_no_such_pod_gets_its_model_all_the_same(
    virtual_clock: VirtualClock,
) -> None:
    faults = Faults(virtual_clock)
    quota = Answer(403, message='pods "phi" is forbidden: exceeded quota: compute')
    faults.add(Match(verb="create", resource="pods"), quota, times=None)
    async with cluster(virtual_clock) as world:
        wire = Wire(FaultyTransport(world.transport, faults, virtual_clock))
        async with world.operator(wire):
            await world.client.create(WORKSPACES, WORKSPACE)
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady", 60)
        assert len([each for each in wire.writes if each.endswith("/pods")]) == 1
        kept = world.status()["resolved"]["weights"]
        assert "exceeded quota: compute" in kept["unchecked"]
        (event,) = [
            each for each in await world.client.list(EVENTS, "default") if "Weights" in each["reason"]
        ]
        assert (event["type"], event["reason"]) == ("Warning", "WeightsNotChecked")


async def test_a_look_that_was_made_a_moment_ago_is_waited_for(virtual_clock: VirtualClock) -> None:
    """The cache may be behind."""
    faults = Faults(virtual_clock)
    there = Answer(409, reason="AlreadyExists", message='pods "phi" already exists')
    faults.add(Match(verb="create", resource="pods"), there, times=1)
    async with cluster(virtual_clock) as world:
        wire = Wire(FaultyTransport(world.transport, faults, virtual_clock))
        async with world.operator(wire):
            await world.client.create(WORKSPACES, WORKSPACE)
            await world.until(lambda: world.status().get("reason") == "WeightsLookup", "a look", 60)
        assert "resolved" not in world.status(), "nothing says that nobody could look"


async def test_a_deleted_workspace_takes_its_look_along(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock) as world, world.operator(world.wire()):
        await world.client.create(WORKSPACES, WORKSPACE)
        await world.until(lambda: world.status().get("reason") == "WeightsLookup", "a look")
        assert len(await looks(world)) == 1
        await world.client.delete(WORKSPACES, "phi", "default")
        await world.until(lambda: world.find(WORKSPACES, "phi") is None, "the Workspace is gone")
        await virtual_clock.sleep(60)
        assert await looks(world) == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("number", range(1, 9))
async def test_an_operator_that_is_killed_leaves_no_look_behind(
    virtual_clock: VirtualClock, number: int, before: bool
) -> None:
    async with cluster(virtual_clock) as world, kubelet(world, [(0, FITS)]):
        wire = world.wire()
        wire.kill_at, wire.kill_before = number, before
        await world.client.create(WORKSPACES, WORKSPACE)
        async with world.operator(wire):
            await world.until(lambda: wire.dead.is_set() or world.holds("WorkspaceReady"), "the kill", 60)
        async with world.operator(world.wire()):
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady", 120)
            await virtual_clock.sleep(60)
            assert await looks(world) == []
        assert len(await world.names(MACHINES)) == 1
        args = (world.find(DEPLOYMENTS, "phi") or {})["spec"]["template"]["spec"]["initContainers"][0]["args"]
        assert f"--image=r.example/mine:1@{DIGEST}" in args
