"""`--node-provisioner=karpenter`: a Workspace's nodes come of a NodePool that somebody else makes real."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api.conditions import is_true
from kaito.api.crds import crd_manifests
from kaito.api.labels import NODEPOOL_LABEL
from kaito.api.resources import NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.cli.uninstall.run import Options, Uninstall
from kaito.controllers import adapter, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.pool import replicas_manifest
from kaito.controllers.workspace.names import pool_name
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.errors import Conflict, Invalid
from kaito.runtime.resources import DEPLOYMENTS, NODES, PODS
from kaito.testing.backends import simulated_node
from kaito.testing.nodepool import nodepool_definition
from support import karpenter_core
from support.cluster import GC_LIMIT, Object, World

pytestmark = pytest.mark.needs("workloads", "ready-pods")

SEED = Path(__file__).parents[2] / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
NAME = "workspace-phi-3-mini"
SIZE = "Standard_NC6s_v3"
CONFIG = WorkspaceConfig(node_provisioner=NodeProvisioner.KARPENTER, stand_in_weights="tiny-phi-3")
OPERATOR = ("kaito-workspace/", "kaito-adapter/")
QUIET = 3.0
"""Seconds without a request after which the world counts as settled, and for which it is then watched."""


def seed(world: World, **resource: Any) -> Object:
    body: Object = yaml.safe_load(SEED.read_text())
    body["metadata"]["namespace"] = world.namespace
    body["resource"] |= resource
    return {**body, "apiVersion": "kaito.sh/v1beta1"}


@asynccontextmanager
async def karpenter(world: World, core: karpenter_core.Core | None = None) -> AsyncIterator[None]:
    """A Karpenter with its definitions and ours."""
    for definition in (*crd_manifests(), nodepool_definition()):
        await world.define(definition)
    manager = world.manager(karpenter_core.AGENT)
    named = manager.client.named(karpenter_core.AGENT, "karpenter")
    karpenter_core.setup(manager, InstantCloud(named, world.clock, simulated_pods=True), core)
    async with world.running(manager):
        yield


@asynccontextmanager
async def operator(world: World, core: karpenter_core.Core | None = None) -> AsyncIterator[None]:
    """The operator, and beside it a Karpenter."""
    async with karpenter(world, core), operator_alone(world):
        yield


@asynccontextmanager
async def operator_alone(world: World) -> AsyncIterator[None]:
    manager = world.manager("kaito-operator/1")
    workspace.setup(manager, CONFIG)
    adapter.setup(manager, AdapterOptions(image_map={}))
    async with world.running(manager):
        yield


async def status(world: World) -> Object:
    return (await world.client.get(WORKSPACES, NAME, world.namespace)).get("status") or {}


def pool_of(world: World) -> str:
    return pool_name(world.namespace, NAME)


async def ready(world: World) -> bool:
    found = (await status(world)).get("conditions") or ()
    return any(each["type"] == "WorkspaceReady" and each["status"] == "True" for each in found)


def asked(world: World) -> int:
    return sum(each.user_agent.startswith(OPERATOR) and not each.watch for each in world.requests)


async def until_quiet(world: World) -> int:
    while True:
        before = asked(world)
        await world.clock.sleep(QUIET)
        if asked(world) == before:
            return before


async def node_of_ones_own(world: World, label: str) -> str:
    """A node with the Workspace's labels that nobody made for it, ready for pods; its name."""
    name = f"gpu-{world.namespace}"
    body = simulated_node(name, gpus=1, apps=label)
    body["metadata"]["labels"]["node.kubernetes.io/instance-type"] = SIZE
    await world.client.create(NODES, body)

    async def takes_pods() -> bool:
        live = await world.client.get(NODES, name)
        ready = is_true((live.get("status") or {}).get("conditions") or (), "Ready")
        return ready and not (live.get("spec") or {}).get("taints")

    await world.until(takes_pods, "the node is ready for pods")
    return name


async def until_gone(world: World) -> None:
    await world.client.delete(WORKSPACES, NAME, world.namespace)
    await world.gone(WORKSPACES, NAME, GC_LIMIT)
    assert await world.find(NODEPOOLS, pool_name(world.namespace, NAME)) is None
    mine = f"karpenter.kaito.sh/workspace-namespace={world.namespace}"
    assert await world.client.list(NODECLAIMS, label_selector=mine) == []


async def test_the_seed_goes_from_its_pool_to_ready_and_leaves_nothing(world: World) -> None:
    client, space, pool = world.client, world.namespace, pool_name(world.namespace, NAME)
    async with operator(world):
        await client.create(WORKSPACES, seed(world))
        await world.until(lambda: ready(world), "WorkspaceReady")
        live = await client.get(NODEPOOLS, pool)
        assert live["spec"]["replicas"] == 1
        assert live["spec"]["template"]["spec"]["expireAfter"] == "Never"
        assert "ownerReferences" not in live["metadata"]
        (claim,) = await client.list(NODECLAIMS, label_selector=f"karpenter.sh/nodepool={pool}")
        node = await client.get(NODES, claim["status"]["nodeName"])
        assert node["metadata"]["labels"]["apps"] == "phi-3"
        told = await status(world)
        assert told["workerNodes"] == [node["metadata"]["name"]]
        assert told["instanceType"] == SIZE
        (entry,) = told["nodes"]
        assert (entry["claimName"], entry["state"]) == (claim["metadata"]["name"], "Ready")
        (pod,) = await client.list(PODS, space)
        assert (pod["spec"]["nodeName"], pod["status"]["phase"]) == (node["metadata"]["name"], "Running")

        before = await until_quiet(world)
        await client.patch(WORKSPACES, NAME, space, patch={"metadata": {"labels": {"touched": "yes"}}})
        await client.patch(NODEPOOLS, pool, patch={"metadata": {"labels": {"touched": "yes"}}})
        await world.clock.sleep(QUIET)
        assert asked(world) == before, "a settled world asks for nothing"

        await until_gone(world)
        await world.gone(NODES, node["metadata"]["name"], GC_LIMIT)


async def test_what_an_administrator_writes_into_the_pool_stays_while_replicas_follow_the_need(
    world: World,
) -> None:
    client, pool, label = world.client, pool_of(world), f"apps-{world.namespace}"
    edited = {
        "disruption": {"budgets": [{"nodes": "0", "reasons": ["Drifted"]}]},
        "template": {"spec": {"terminationGracePeriod": "1h"}},
    }

    async def has(replicas: int) -> bool:
        return (await client.get(NODEPOOLS, pool))["spec"]["replicas"] == replicas

    async def nodes_without(name: str) -> bool:
        workers = (await status(world)).get("workerNodes") or ()
        return len(workers) == 2 and name not in workers and await ready(world)

    async with operator(world):
        node = await node_of_ones_own(world, label)
        try:
            body = seed(world, count=2, labelSelector={"matchLabels": {"apps": label}})
            await client.create(WORKSPACES, body)
            await world.until(lambda: ready(world), "WorkspaceReady")
            assert await has(1), "the node that is there is one of the two"
            early = await client.get(NODEPOOLS, pool)
            await client.patch(NODEPOOLS, pool, patch={"spec": edited})
            await client.delete(NODES, node)
            await world.until(lambda: has(2), "two replicas")
            await world.until(lambda: nodes_without(node), "two nodes of the pool", GC_LIMIT)
            await node_of_ones_own(world, label)
            await until_quiet(world)
            live = await client.get(NODEPOOLS, pool)
            assert live["spec"]["replicas"] == 2, "a node that comes back costs no other its life"
            with pytest.raises(Conflict):
                await client.apply(NODEPOOLS, replicas_manifest(early, 1))  # as from a cache that is behind
            assert live["spec"]["disruption"]["budgets"] == edited["disruption"]["budgets"]
            assert live["spec"]["template"]["spec"]["terminationGracePeriod"] == "1h"
            ours = [each for each in live["metadata"]["managedFields"] if each["operation"] == "Apply"]
            assert [each["fieldsV1"] for each in ours] == [{"f:spec": {"f:replicas": {}}}]
            await until_gone(world)
        finally:
            await client.delete(NODES, node)


async def test_a_pool_of_go_kaito_is_taken_over_as_it_is(world: World) -> None:
    client, space, pool = world.client, world.namespace, pool_name(world.namespace, NAME)
    labels = {
        "karpenter.kaito.sh/workspace-name": NAME,
        "karpenter.kaito.sh/workspace-namespace": space,
        "apps": "phi-3",
    }
    theirs: Object = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": pool},
        "spec": {
            "replicas": 1,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeClassRef": {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "gpu"},
                    "requirements": [
                        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [SIZE]}
                    ],
                    "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
                    "expireAfter": "Never",
                },
            },
            "disruption": {"consolidateAfter": "0s", "budgets": [{"nodes": "1", "reasons": ["Drifted"]}]},
        },
    }
    async with operator(world):
        made = await client.create(NODEPOOLS, theirs)
        await client.create(WORKSPACES, seed(world))
        await world.until(lambda: ready(world), "WorkspaceReady")
        live = await client.get(NODEPOOLS, pool)
        assert (live["metadata"]["uid"], live["spec"]) == (made["metadata"]["uid"], made["spec"])
        await until_gone(world)


async def test_a_node_that_is_there_takes_the_place_of_one_that_would_be_made(world: World) -> None:
    client, pool, label = world.client, pool_of(world), f"apps-{world.namespace}"
    async with operator(world):
        node = await node_of_ones_own(world, label)
        try:
            await client.create(WORKSPACES, seed(world, labelSelector={"matchLabels": {"apps": label}}))
            await world.until(lambda: ready(world), "WorkspaceReady")
            assert await world.find(NODEPOOLS, pool) is None
            (pod,) = await client.list(PODS, world.namespace)
            assert pod["spec"]["nodeName"] == node
            await until_gone(world)
            assert await world.find(NODES, node) is not None
        finally:
            with contextlib.suppress(AssertionError):
                await client.delete(WORKSPACES, NAME, world.namespace)
            await client.delete(NODES, node)


async def test_a_node_class_that_is_missing_is_told_in_the_workspace(world: World) -> None:
    core = karpenter_core.Core(node_classes=frozenset())
    async with operator(world, core):
        await world.client.create(WORKSPACES, seed(world))

        async def told() -> bool:
            return (await status(world)).get("reason") == "NodePoolNotReady"

        await world.until(told, "the pool's own condition")
        (condition,) = [
            each for each in (await status(world))["conditions"] if each["type"] == "ResourceReady"
        ]
        assert "NodeClass default not found on cluster" in condition["message"]
        assert await world.find(DEPLOYMENTS, NAME) is None
        await until_gone(world)


async def test_the_definition_of_static_pools_refuses_what_a_karpenter_refuses(world: World) -> None:
    await world.define(nodepool_definition())
    body = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": f"refused-{world.namespace}"},
        "spec": {
            "replicas": 1,
            "template": {
                "spec": {"nodeClassRef": {"group": "a.b", "kind": "C", "name": "d"}, "requirements": []}
            },
        },
    }
    made = await world.client.create(NODEPOOLS, body)
    assert made["spec"]["template"]["spec"]["expireAfter"] == "720h", "which is why it is always written"
    with pytest.raises(Invalid, match="stays static"):
        await world.client.patch(NODEPOOLS, body["metadata"]["name"], patch={"spec": {"replicas": None}})
    await world.client.delete(NODEPOOLS, body["metadata"]["name"])


async def test_uninstalling_without_an_operator_ends_the_pool_and_waits_for_its_claims(world: World) -> None:
    said: list[str] = []

    async def nobody(prompt: str) -> str | None:
        raise AssertionError("--yes asks nothing")

    async with karpenter(world):
        async with operator_alone(world):
            await world.client.create(WORKSPACES, seed(world))
            await world.until(lambda: ready(world), "WorkspaceReady")
        (claim,) = await world.client.list(NODECLAIMS, label_selector=f"{NODEPOOL_LABEL}={pool_of(world)}")
        options = Options(yes=True, without_operator=True, interval=0.1)
        await Uninstall(world.connect("kaito-cli/1", "kaito-cli"), options, said.append, nobody).run()
        for resource, name in ((NODEPOOLS, pool_of(world)), (NODECLAIMS, claim["metadata"]["name"])):
            assert await world.find(resource, name) is None
            assert any(f"  {resource.kind} {name} (" in each for each in said), said
        await world.gone(WORKSPACES, NAME, GC_LIMIT)
