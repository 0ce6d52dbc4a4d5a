"""The controller against the API server, in virtual time: a whole life, what it costs, and what it leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import seed
from controllers.workspace.cluster import cluster
from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, WORKSPACES, WORKSPACES_V1ALPHA1
from kaito.catalog import load_catalog
from kaito.controllers.workspace import NodeProvisioner, Observed, WorkspaceConfig, decide
from kaito.controllers.workspace.act import Actor, Pass
from kaito.controllers.workspace.model import Decision, Write
from kaito.controllers.workspace.names import claim_name
from kaito.controllers.workspace.setup import own_write
from kaito.runtime.errors import NotFound
from kaito.runtime.events import EventRecorder
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import Event, EventType
from kaito.runtime.resources import CONFIGMAPS, CRDS, DEPLOYMENTS, EVENTS, NODES, SERVICES
from kaito.runtime.result import Result
from kaito.runtime.testing import VirtualClock

LOCAL = WorkspaceConfig(stand_in_weights="tiny-phi-3")


def phi(name: str = "phi", **more: object) -> dict[str, object]:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name, "namespace": "default"},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {"matchLabels": {"apps": name}},
        },
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}, **more},
    }


async def test_a_life_from_apply_to_gone(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world:
        wire = world.wire()
        async with world.operator(wire):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
            created = list(wire.writes)
            assert len(created) <= 7, created
            assert len([each for each in created if each.endswith("/status")]) <= 3, created
            assert world.status()["endpoint"].startswith("http://10.96.")
            assert len(await world.names(MACHINES)) == 1
            assert await world.names(DEPLOYMENTS) == ["phi"]

            await virtual_clock.sleep(5)
            before = sum(wire.requests.values())
            await virtual_clock.sleep(3600)
            assert sum(wire.requests.values()) == before, "a settled world asks for nothing"

            await world.client.delete(WORKSPACES, "phi", "default")
            await world.until(lambda: world.find(WORKSPACES, "phi") is None, "the Workspace is gone")
            for resource in (MACHINES, DEPLOYMENTS):
                assert await world.names(resource) == []
            await world.until(lambda: world.find(SERVICES, "phi") is None, "the Service is collected")


@pytest.mark.parametrize("name", ["inference", "adapters", "tuning"])
async def test_the_seeds_are_taken_through_their_own_version(virtual_clock: VirtualClock, name: str) -> None:
    given = seed(name)
    for key in ("uid", "generation", "resourceVersion", "finalizers"):
        given["metadata"].pop(key)
    given["apiVersion"] = "kaito.sh/v1alpha1"
    workspace = given["metadata"]["name"]
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        await world.client.create(WORKSPACES_V1ALPHA1, given)
        if name == "tuning":
            await world.until(lambda: world.holds("TuningNotImplemented", workspace), "TuningNotImplemented")
            assert await world.names(MACHINES) == []
        else:
            await world.until(lambda: world.holds("WorkspaceReady", workspace), "WorkspaceReady")
        seen = await world.client.get(WORKSPACES_V1ALPHA1, workspace, "default")
        kind = "tuning" if name == "tuning" else "inference"
        given[kind]["preset"]["accessMode"] = "public"  # the schema's default
        assert seen["resource"] == given["resource"]
        assert seen[kind] == given[kind]


async def test_events_tell_the_story_once(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        await world.client.create(WORKSPACES, phi())
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        await virtual_clock.sleep(60)
        events = await world.client.list(EVENTS, "default")
        told = [(each["type"], each["reason"], each["count"]) for each in events]
        assert told == [
            ("Normal", "NodeClaimCreated", 1),
            ("Normal", "WorkloadCreated", 1),
            ("Normal", "WorkspaceReady", 1),
        ]
        assert {each["involvedObject"]["name"] for each in events} == {"phi"}


async def test_edits_roll_out(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        await world.client.create(WORKSPACES, phi())
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        source = {"name": "pirate", "volumeSource": {"hostPath": {"path": "/adapters/pirate"}}}
        patch = {"inference": {"adapters": [{"source": source, "strength": "0.5"}]}}
        await world.client.patch(WORKSPACES, "phi", "default", patch=patch)

        def args() -> list[str]:
            found = world.find(DEPLOYMENTS, "phi") or {}
            return list(found["spec"]["template"]["spec"]["containers"][0]["args"])

        await world.until(lambda: "--adapter=pirate=0.5" in args(), "the adapter is rolled out")
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady again")
        assert await world.names(ADAPTERS) == ["phi-pirate"]

        await world.client.patch(WORKSPACES, "phi", "default", patch={"inference": {"adapters": None}})
        await world.until(lambda: "--adapters-dir=/mnt/adapter" not in args(), "the adapter is rolled back")
        await world.until(lambda: world.find(ADAPTERS, "phi-pirate") is None, "the Adapter is gone")
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady at last")
        found = world.find(DEPLOYMENTS, "phi") or {}
        volumes = [each["name"] for each in found["spec"]["template"]["spec"]["volumes"]]
        assert volumes == ["tmp", "dshm"]
        assert len(await world.names(MACHINES)) == 1


async def test_new_contents_of_the_config_map_roll_out(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        await world.client.create(WORKSPACES, phi(config="mine"))
        await world.until(lambda: world.status().get("reason") == "ConfigMapNotFound", "it is missed")
        config: dict[str, object] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "mine", "namespace": "default"},
            "data": {"inference_config.yaml": "max-model-len: 100"},
        }
        await world.client.create(CONFIGMAPS, config)
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")

        def version() -> str:
            found = world.find(DEPLOYMENTS, "phi") or {}
            return str(found["spec"]["template"]["metadata"]["annotations"]["kaito.sh/config-hash"])

        first = version()
        await world.client.patch(CONFIGMAPS, "mine", "default", patch={"metadata": {"labels": {"a": "b"}}})
        await virtual_clock.sleep(60)
        assert version() == first, "labels are no contents"
        await world.client.patch(
            CONFIGMAPS, "mine", "default", patch={"data": {"inference_config.yaml": "x: 1"}}
        )
        await world.until(lambda: version() != first, "the new contents are rolled out")


async def test_a_machine_that_is_deleted_is_replaced(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        await world.client.create(WORKSPACES, phi())
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        (first,) = await world.names(MACHINES)
        await world.client.delete(MACHINES, first)
        await world.until(lambda: world.find(MACHINES, first) is None, "the Machine is gone")
        await world.until(
            lambda: world.status()["nodes"][0]["attempt"] == 1 and world.holds("WorkspaceReady"),
            "a new Machine",
        )
        (second,) = await world.names(MACHINES)
        assert second != first
        assert await world.names(NODES) == [f"node-{second}"]


async def test_a_cloud_without_capacity_is_asked_again_and_again_but_slowly(
    virtual_clock: VirtualClock,
) -> None:
    async with cluster(virtual_clock, LOCAL) as world:
        world.fail_launches = 3
        wire = world.wire()
        async with world.operator(wire):
            await world.client.create(WORKSPACES, phi())
            await world.until(
                lambda: world.status().get("reason") == "InsufficientCapacity", "the reason is shown"
            )
            started = virtual_clock.now()
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
            assert 30 + 60 + 120 <= virtual_clock.now() - started <= 30 + 60 + 120 + 10
            assert world.status()["nodes"][0]["attempt"] == 3
            assert len(await world.names(MACHINES)) == 1
            assert len([each for each in wire.writes if each.startswith("POST")]) == 4


@pytest.mark.parametrize(
    "pod",
    [{"containers": [{"name": "NOT A NAME", "image": "x"}]}, {"containerz": []}],
    ids=["value", "field"],
)
async def test_one_workspace_that_cannot_be_written_does_not_stop_the_others(
    virtual_clock: VirtualClock, pod: dict[str, Any]
) -> None:
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        bad = phi("bad")
        bad["inference"] = {"template": {"spec": pod}}
        await world.client.create(WORKSPACES, bad)
        await world.client.create(WORKSPACES, phi())
        await world.until(lambda: world.holds("WorkspaceReady"), "the good one")
        await world.until(lambda: world.status("bad").get("reason") == "ChildRefused", "the bad one says so")
        message = next(each for each in world.status("bad")["conditions"] if each["type"] == "InferenceReady")
        assert "the API server refused Deployment bad" in message["message"]
        spec = {"containers": [{"name": "fine", "image": "x"}], "containerz": None}
        fixed = {"inference": {"template": {"spec": spec}}}
        await world.client.patch(WORKSPACES, "bad", "default", patch=fixed)
        await world.until(lambda: world.holds("WorkspaceReady", "bad"), "the mended one")


async def test_an_adapter_of_somebody_else_is_left_alone(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world:
        theirs = {
            "apiVersion": "kaito.sh/v1alpha1",
            "kind": "Adapter",
            "metadata": {"name": "phi-pirate", "namespace": "default"},
            "spec": {"source": {"name": "mine", "image": "mine/adapter:1"}},
        }
        await world.client.create(ADAPTERS, theirs)
        async with world.operator(world.wire()):
            await world.client.create(
                WORKSPACES, phi(adapters=[{"source": {"name": "pirate", "image": "r.example/a:1"}}])
            )
            await world.until(lambda: world.holds("AdapterNameTaken"), "AdapterNameTaken")
            assert (world.find(ADAPTERS, "phi-pirate") or {})["spec"] == theirs["spec"]
            await world.client.delete(ADAPTERS, "phi-pirate", "default")
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady once the name is free")


async def test_a_claim_of_somebody_else_is_never_taken_over(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world:
        created = await world.client.create(WORKSPACES, phi())
        name = claim_name(created["metadata"]["uid"], 0, 0)
        labels = {"mine": "yes"}
        theirs = {
            "apiVersion": "karpenter.sh/v1alpha5",
            "kind": "Machine",
            "metadata": {"name": name, "labels": labels},
            "spec": {"requirements": [], "taints": []},
        }
        await world.client.create(MACHINES, theirs)
        async with world.operator(world.wire()):
            await world.until(lambda: world.status().get("reason") == "ChildRefused", "it is told")
            (found,) = await world.client.list(MACHINES)
            assert found["metadata"]["labels"] == labels
            await world.client.delete(MACHINES, name)
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady once the name is free")


async def test_many_workspaces_cost_seven_writes_each(virtual_clock: VirtualClock) -> None:
    count = 30
    async with cluster(virtual_clock, LOCAL) as world:
        wire = world.wire()
        async with world.operator(wire):
            await asyncio.gather(*(world.client.create(WORKSPACES, phi(f"w{n}")) for n in range(count)))
            for n in range(count):
                await world.until(lambda n=n: world.holds("WorkspaceReady", f"w{n}"), f"w{n}")  # type: ignore[misc]
            statuses = sum(write.endswith("/status") for write in wire.writes)
            assert len(wire.writes) - statuses == 4 * count  # finalizer, claim, Service, Deployment
            # A claim and its Node come over two watches: where the claim is faster, the Node is said to be missing.
            usual = 3 * count
            shuffled = getattr(asyncio.get_running_loop(), "seed", None) is not None
            assert usual <= statuses <= usual + (count if shuffled else 0)
            assert len(await world.names(MACHINES)) == count
            assert wire.requests["GET"] == 0


async def test_deletion_says_what_it_waits_for(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        await world.client.create(WORKSPACES, phi())
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        hold = {"metadata": {"finalizers": ["tests.kaito.sh/hold"]}}
        (machine,) = await world.names(MACHINES)
        await world.client.patch(DEPLOYMENTS, "phi", "default", patch=hold)
        await world.client.delete(WORKSPACES, "phi", "default")

        def waits() -> str:
            conditions = world.status().get("conditions") or ()
            return next((each["message"] for each in conditions if each["type"] == "WorkspaceDeleting"), "")

        await world.until(lambda: waits() == "being deleted; waits for Deployment phi", "it says so")
        assert await world.names(MACHINES) == [machine]
        await world.client.patch(DEPLOYMENTS, "phi", "default", patch={"metadata": {"finalizers": None}})
        await world.until(lambda: world.find(WORKSPACES, "phi") is None, "gone")
        with pytest.raises(NotFound):
            await world.client.get(MACHINES, machine)


async def test_claims_of_another_provisioner_go_too(virtual_clock: VirtualClock) -> None:
    """An operator restarted with another flag still owes the end of what it bought before."""
    async with cluster(virtual_clock, LOCAL) as world:
        async with world.operator(world.wire()):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        world.config = replace(LOCAL, node_provisioner=NodeProvisioner.NODECLAIM)
        async with world.operator(world.wire()):
            await virtual_clock.sleep(5)
            assert len(await world.names(MACHINES)) == len(await world.names(NODECLAIMS)) == 1
            await world.client.delete(WORKSPACES, "phi", "default")
            await world.until(lambda: world.find(WORKSPACES, "phi") is None, "the Workspace is gone")
            assert await world.names(MACHINES) == await world.names(NODECLAIMS) == []


async def test_a_workspace_goes_where_the_other_kind_is_not_installed(virtual_clock: VirtualClock) -> None:
    async with cluster(virtual_clock, LOCAL) as world, world.operator(world.wire()):
        await world.client.delete(CRDS, "nodeclaims.karpenter.sh")
        await world.client.create(WORKSPACES, phi())
        await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        await world.client.delete(WORKSPACES, "phi", "default")
        await world.until(lambda: world.find(WORKSPACES, "phi") is None, "the Workspace is gone")


@pytest.mark.parametrize("leaving", [False, True])
async def test_nothing_is_replaced_that_only_the_cache_has_lost(
    virtual_clock: VirtualClock, leaving: bool
) -> None:
    """A second machine is bought only when the server itself says that the first one is gone or going."""
    async with cluster(virtual_clock, LOCAL) as world:
        async with world.operator(world.wire()):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        (first,) = await world.names(MACHINES)
        if leaving:
            held = {"metadata": {"finalizers": ["example.com/hold"]}}
            await world.client.patch(MACHINES, first, patch=held)
            await world.client.delete(MACHINES, first)
        workspace = await world.client.get(WORKSPACES, "phi", "default")
        uid = workspace["metadata"]["uid"]
        observed = Observed(workspace)  # a cache without the claim, though the status names it
        decision = decide(observed, load_catalog(), LOCAL, virtual_clock.wall())
        assert decision.replaces == frozenset()
        assert [write.body["metadata"]["name"] for write in decision.writes if write.verb == "create"] == [
            claim_name(uid, 0, 1)
        ]

        recorder = EventRecorder(world.client, "test", virtual_clock)
        actor = Actor(world.client, recorder, virtual_clock, LOCAL)
        cached = CachedObject.from_dict(workspace, WORKSPACES)
        result = await actor.act(cached, workspace, decision, Pass())
        if leaving:
            assert sorted(await world.names(MACHINES)) == sorted([first, claim_name(uid, 0, 1)])
        else:
            assert result == Result(requeue_after=1.0)
            assert await world.names(MACHINES) == [first]
            assert world.status() == workspace["status"]


async def test_claims_that_their_workspace_left_behind_are_ended(virtual_clock: VirtualClock) -> None:
    """Somebody took the finalizer away: without a Workspace nobody would ever give the machine back."""
    async with cluster(virtual_clock, LOCAL) as world:
        async with world.operator(world.wire()):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        (ours,) = [await world.client.get(MACHINES, name) for name in await world.names(MACHINES)]
        labels = {key: value for key, value in ours["metadata"]["labels"].items() if "uid" not in key}
        theirs = {**ours, "metadata": {"name": "made-by-another", "labels": labels}}
        await world.client.create(MACHINES, {key: theirs[key] for key in theirs if key != "status"})
        await world.client.patch(WORKSPACES, "phi", "default", patch={"metadata": {"finalizers": None}})
        await world.client.delete(WORKSPACES, "phi", "default")
        assert world.find(WORKSPACES, "phi") is None
        wire = world.wire()
        async with world.operator(wire):
            await virtual_clock.sleep(30)
            assert await world.names(MACHINES) == ["made-by-another"]
            before = sum(wire.requests.values())
            await virtual_clock.sleep(3600)
            assert sum(wire.requests.values()) == before


async def test_a_deletion_that_was_missed_is_news_though_the_last_version_was_ours(
    virtual_clock: VirtualClock,
) -> None:
    async with cluster(virtual_clock, LOCAL) as world:
        stored = await world.client.create(WORKSPACES, phi())
        recorder = EventRecorder(world.client, "test", virtual_clock)
        actor = Actor(world.client, recorder, virtual_clock, LOCAL)
        before = CachedObject.from_dict(stored, WORKSPACES)
        await actor.act(before, stored, Decision(status={"state": "Pending"}), Pass())
        after = CachedObject.from_dict(await world.client.get(WORKSPACES, "phi", "default"), WORKSPACES)
        assert own_write(Event(EventType.UPDATE, after, before), actor)
        assert not own_write(Event(EventType.UPDATE, before, before), actor)
        assert not own_write(Event(EventType.DELETE, after, stale=True), actor)
        assert not own_write(Event(EventType.CREATE, after, initial=True), actor)


async def test_a_thousand_wrong_workspaces_cost_two_writes_each_and_others_go_on(
    virtual_clock: VirtualClock,
) -> None:
    """Stored while the webhook was away: nothing is bought, each says why, and then there is silence."""
    async with cluster(virtual_clock, LOCAL) as world:
        wire = world.wire()
        async with world.operator(wire):
            wrong = phi("wrong", preset={"name": "phi-3-mini"})
            for number in range(1000):
                await world.client.create(
                    WORKSPACES, {**wrong, "metadata": {"name": f"wrong-{number}", "namespace": "default"}}
                )
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), "the good one is ready", 60)
            last = [f"wrong-{number}" for number in (0, 500, 999)]
            await world.until(lambda: all(world.holds("UnknownPreset", name) for name in last), "told", 60)
            await virtual_clock.sleep(120)
            (_,) = await world.names(MACHINES)
            wrote = [each for each in wire.writes if "/wrong-" in each]
            assert len(wrote) == 2000, "a finalizer and a status each; the event of it is not counted"
            before = sum(wire.requests.values())
            await virtual_clock.sleep(3600)
            assert sum(wire.requests.values()) == before


@pytest.mark.parametrize("fate", ["stays", "gone", "made anew"])
async def test_nothing_is_made_again_for_a_workspace_whose_end_is_not_known_yet(
    virtual_clock: VirtualClock, fate: str
) -> None:
    """Garbage collection of its Deployment may be seen before the end of the Workspace: what was made anew for it then
    would be swept away at once, and so on."""
    async with cluster(virtual_clock, LOCAL) as world:
        await world.client.create(WORKSPACES, phi())
        stored = await world.client.get(WORKSPACES, "phi", "default")
        if fate != "stays":
            await world.client.delete(WORKSPACES, "phi", "default")
        if fate == "made anew":
            await world.client.create(WORKSPACES, phi())
        recorder = EventRecorder(world.client, "workspace-controller", virtual_clock)
        actor = Actor(world.client, recorder, virtual_clock, LOCAL)
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "phi", "namespace": "default"},
            "spec": {"ports": [{"port": 80}]},
        }
        decision = Decision(confirm=True, writes=(Write(SERVICES, body),))
        await actor.act(CachedObject.from_dict(stored, WORKSPACES), stored, decision, Pass())
        assert ("phi" in await world.names(SERVICES)) == (fate == "stays")


async def test_a_workspace_that_the_server_no_longer_has_is_asked_for_before_more_is_made(
    virtual_clock: VirtualClock,
) -> None:
    """Its end is not in the cache yet, and a finalizer held it: so much was made that the status told it was gone."""
    async with cluster(virtual_clock, LOCAL) as world:
        await world.client.create(WORKSPACES, phi())
        stored = await world.client.get(WORKSPACES, "phi", "default")
        cached = CachedObject.from_dict(stored, WORKSPACES)
        await world.client.delete(WORKSPACES, "phi", "default")
        recorder = EventRecorder(world.client, "workspace-controller", virtual_clock)
        actor = Actor(world.client, recorder, virtual_clock, LOCAL)
        for name, made in (("first", ["first"]), ("second", ["first"])):
            body = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"ports": [{"port": 80}]},
            }
            decision = Decision(writes=(Write(SERVICES, body),), status={"reason": name})
            await actor.act(cached, stored, decision, Pass())
            assert [each for each in await world.names(SERVICES) if each != "kubernetes"] == made
        await world.client.create(WORKSPACES, phi())
        again = await world.client.get(WORKSPACES, "phi", "default")
        await actor.act(CachedObject.from_dict(again, WORKSPACES), again, decision, Pass())
        assert "second" in await world.names(SERVICES), "another one of that name is another one"
