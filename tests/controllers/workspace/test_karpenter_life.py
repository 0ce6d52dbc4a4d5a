"""The controller with NodePools, against an API server and a stand-in for a Karpenter, in virtual time: a whole life,
what it costs, and the operator killed before and after each of its writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from controllers.workspace.cluster import KILL_NOW, Cluster, Object, Wire, cluster, running
from kaito.api.conditions import is_true
from kaito.api.resources import NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.controller import Controller
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import CRDS, DEPLOYMENTS, EVENTS, NODES, ObjectKey
from kaito.runtime.testing import VirtualClock
from kaito.testing.nodepool import nodepool_definition
from support import karpenter_core

CONFIG = WorkspaceConfig(node_provisioner=NodeProvisioner.KARPENTER, stand_in_weights="tiny-phi-3")
POOL = "default-phi"
READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}
GPU = {"nvidia.com/gpu": "1"}
UP = {"conditions": [READY], "capacity": GPU, "allocatable": GPU}
"""Status of a node that may take pods."""
NODE = "mine"


def phi(count: int = 2) -> Object:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "phi", "namespace": "default"},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4",
            "count": count,
            "labelSelector": {"matchLabels": {"apps": "phi"}},
        },
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
    }


@asynccontextmanager
async def with_karpenter(clock: VirtualClock) -> AsyncIterator[tuple[Cluster, karpenter_core.Core]]:
    """A cluster where a Karpenter makes NodePools real."""
    async with cluster(clock, CONFIG) as world:
        await world.client.create(CRDS, nodepool_definition())
        await clock.sleep(1)
        client = Client(
            world.transport, clock=clock, user_agent=karpenter_core.AGENT, field_manager="karpenter"
        )
        manager = Manager(client, clock=clock, options=KILL_NOW)
        core = karpenter_core.setup(manager, InstantCloud(client, clock, simulated_pods=True))
        manager.add(Controller("kubelets", _kubelet(manager), primary=NODES))
        async with running(manager):
            yield world, core


def _kubelet(manager: Manager) -> Callable[[ObjectKey], Awaitable[None]]:
    """Reports every Node ready."""
    nodes = manager.cache.lister(NODES)

    async def reconcile(key: ObjectKey) -> None:
        node = nodes.get(key.name)
        if node is None or is_true((node.decode().get("status") or {}).get("conditions") or (), "Ready"):
            return
        with contextlib.suppress(NotFound):
            await manager.client.patch_status(NODES, key.name, None, UP)

    return reconcile


async def own_node(world: Cluster) -> None:
    """A node with the Workspace's labels that nobody made for it."""
    labels = {"apps": "phi", "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}, "spec": {}}
    await world.client.create(NODES, body)
    await world.client.patch_status(NODES, NODE, None, UP)


async def test_a_life_from_apply_to_gone(virtual_clock: VirtualClock) -> None:
    async with with_karpenter(virtual_clock) as (world, core):
        wire = world.wire()
        async with world.operator(wire):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
            assert len(wire.writes) <= 8, wire.writes
            assert await world.names(NODECLAIMS) == sorted(core.made)
            assert len(core.made) == 2

            await virtual_clock.sleep(5)
            events = [each["reason"] for each in await world.client.list(EVENTS, "default")]
            assert events.count("NodePoolCreated") == 1
            before = sum(wire.requests.values())
            await virtual_clock.sleep(3600)
            assert sum(wire.requests.values()) == before, "a settled world asks for nothing"

            (lost, kept) = sorted(core.made)
            await world.client.delete(NODECLAIMS, lost)
            await world.until(lambda: len(core.made) == 3, "its Karpenter makes another")
            fresh = core.made[-1]

            def replaced() -> bool:
                nodes = world.status().get("nodes") or ()
                named = {each.get("claimName") for each in nodes if each.get("state") == "Ready"}
                return named == {kept, fresh}

            await world.until(replaced, "it is counted in the place of the one that is gone")
            assert [each["attempt"] for each in world.status()["nodes"]] == [1, 0]

            await world.client.delete(WORKSPACES, "phi", "default")
            await world.until(lambda: world.find(WORKSPACES, "phi") is None, "gone")
            for resource in (NODEPOOLS, NODECLAIMS, DEPLOYMENTS):
                assert await world.names(resource) == []


async def test_a_pool_that_its_workspace_left_behind_is_ended(virtual_clock: VirtualClock) -> None:
    async with with_karpenter(virtual_clock) as (world, _):
        async with world.operator(world.wire()):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
        await world.client.patch(WORKSPACES, "phi", "default", patch={"metadata": {"finalizers": None}})
        await world.client.delete(WORKSPACES, "phi", "default")
        await virtual_clock.sleep(10)
        assert await world.names(NODEPOOLS) == [POOL]
        async with world.operator(world.wire()):
            await world.until(lambda: world.find(NODEPOOLS, POOL) is None, "nobody is there whom it serves")


async def test_a_pool_of_somebody_else_is_neither_scaled_nor_deleted(virtual_clock: VirtualClock) -> None:
    theirs = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": POOL, "labels": {"team": "web"}},
        "spec": {
            "replicas": 0,
            "template": {
                "spec": {"nodeClassRef": {"group": "a.b", "kind": "C", "name": "d"}, "requirements": []}
            },
        },
    }
    async with with_karpenter(virtual_clock) as (world, _):
        made = await world.client.create(NODEPOOLS, theirs)
        async with world.operator(world.wire()):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.status().get("reason") == "NameTaken", "it is told")
            await world.client.delete(WORKSPACES, "phi", "default")
            await world.until(lambda: world.find(WORKSPACES, "phi") is None, "gone")
        live = await world.client.get(NODEPOOLS, POOL)
        assert live["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def live(clock: VirtualClock, kill_at: int | None, *, before: bool) -> Wire:
    """One life with a node of one's own that goes away; the wire of the first operator."""
    moment = f"({kill_at}, {'before' if before else 'after'})"
    async with with_karpenter(clock) as (world, core):
        wire = world.wire()
        wire.kill_at, wire.kill_before = kill_at, before
        await own_node(world)
        async with kept_alive(world, wire):
            await world.client.create(WORKSPACES, phi())
            await world.until(lambda: world.holds("WorkspaceReady"), f"ready {moment}")
            assert len(core.made) == 1, f"one is there {moment}"
            await clock.sleep(10)
            uid = (await world.client.get(NODEPOOLS, POOL))["metadata"]["uid"]
            await world.client.delete(NODES, NODE)
            await world.until(lambda: len(core.made) == 2, f"another in its place {moment}")
            await world.until(lambda: len(world.status().get("workerNodes") or ()) == 2, f"two {moment}")
            await own_node(world)
            await clock.sleep(10)
            pool = await world.client.get(NODEPOOLS, POOL)
            assert (pool["spec"]["replicas"], pool["metadata"]["uid"]) == (2, uid), moment
            await world.client.delete(WORKSPACES, "phi", "default")
            await world.until(lambda: world.find(WORKSPACES, "phi") is None, f"gone {moment}")
            await clock.sleep(10)
            assert await world.names(NODEPOOLS) == await world.names(NODECLAIMS) == [], moment
            assert await world.names(NODES) == [NODE], moment
        assert len(core.made) == 2, f"two nodes and no more were bought {moment}"
    return wire


@asynccontextmanager
async def kept_alive(world: Cluster, wire: Wire) -> AsyncIterator[None]:
    """One operator after the other: when the wire of the first is cut, the next one starts."""

    async def keep() -> None:
        async with world.operator(wire):
            await wire.dead.wait()
        async with world.operator(world.wire()):
            await asyncio.Event().wait()

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.slow
async def test_every_crash_leaves_one_pool_and_no_node_too_many(virtual_clock: VirtualClock) -> None:
    writes = (await live(virtual_clock, None, before=False)).writes
    assert any(POOL in each for each in writes), writes
    assert len(writes) >= 10, writes
    for number in range(1, len(writes) + 1):
        for before in (True, False):
            killed = await live(virtual_clock, number, before=before)
            assert killed.dead.is_set(), f"write {number} was never reached"
