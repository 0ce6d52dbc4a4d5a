"""KAITO's own operator: the three controllers as they are, nodes of the instant cloud, pods that are ready at once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from kaito.api.crds import crd_manifests
from kaito.api.resources import MACHINES, NODECLAIMS, WORKSPACES
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.errors import Invalid
from kaito.runtime.resources import DEPLOYMENTS, NODES, PODS, REPLICASETS, SERVICES
from kaito.testing.backends import simulated_node
from support.cluster import GC_LIMIT, Object, World

pytestmark = pytest.mark.needs("workloads", "ready-pods")

EXAMPLES = Path(__file__).parents[2] / "examples"
SEED = EXAMPLES / "inference" / "kaito_workspace_phi_3.yaml"
CONTROLLERS = ("kaito-workspace/", "kaito-machine/", "kaito-adapter/")
WRITTEN = replace(WORKSPACES, version="v1alpha1")
"""The seed names an older version than the controllers speak."""
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
QUIET = 3.0
"""Seconds without a request after which the world counts as settled, and for which it is then watched."""


def seed(world: World, **resource: Any) -> Object:
    body: Object = yaml.safe_load(SEED.read_text())
    body["metadata"]["namespace"] = world.namespace
    body["resource"] |= resource
    return body


@asynccontextmanager
async def operator(world: World, provisioner: NodeProvisioner) -> AsyncIterator[None]:
    """The operator as `kaito operator --cloud-provider=instant` runs it, but for simulated pods."""
    for definition in crd_manifests():
        await world.define(definition)
    manager = world.manager("kaito-operator/1")
    workspace.setup(manager, WorkspaceConfig(node_provisioner=provisioner, stand_in_weights="tiny-phi-3"))
    adapter.setup(manager, AdapterOptions(image_map={}))
    cloud = manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)
    machine.setup(manager, InstantCloud(cloud, world.clock, simulated_pods=True))
    async with world.running(manager):
        yield


async def ready(world: World, name: str, type: str = "WorkspaceReady") -> bool:
    found = await world.find(WORKSPACES, name)
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return any(each["type"] == type and each["status"] == "True" for each in conditions)


async def settled(world: World) -> int:
    """How many requests the controllers have sent when they send no more."""
    while True:
        before = asked(world)
        await world.clock.sleep(QUIET)
        if asked(world) == before:
            return before


def asked(world: World) -> int:
    return sum(each.user_agent.startswith(CONTROLLERS) and not each.watch for each in world.requests)


@pytest.mark.parametrize("provisioner", [NodeProvisioner.MACHINE, NodeProvisioner.NODECLAIM])
async def test_a_workspace_lives_on_machines(world: World, provisioner: NodeProvisioner) -> None:
    claims = MACHINES if provisioner is NodeProvisioner.MACHINE else NODECLAIMS
    client, space, name = world.client, world.namespace, "workspace-phi-3-mini"
    async with operator(world, provisioner):
        made = await client.create(WRITTEN, seed(world))
        mine = f"kaito.sh/workspace={name},kaito.sh/workspacenamespace={space}"
        await world.until(lambda: ready(world, name), "WorkspaceReady")
        (claim,) = await client.list(claims, label_selector=mine)
        status = (await client.get(WORKSPACES, name, space))["status"]
        assert status["workerNodes"] == [claim["status"]["nodeName"]]
        node = await client.get(NODES, claim["status"]["nodeName"])
        assert node["metadata"]["labels"]["apps"] == "phi-3"
        assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
        (pod,) = await client.list(PODS, space)
        assert (pod["spec"]["nodeName"], pod["status"]["phase"]) == (node["metadata"]["name"], "Running")
        (deployment,) = await client.list(DEPLOYMENTS, space)
        (owner,) = deployment["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Workspace", made["metadata"]["uid"])
        service = await client.get(SERVICES, name, space)
        assert status["endpoint"] == f"http://{service['spec']['clusterIP']}"

        await columns(world, name)
        before = await settled(world)
        await client.patch(PODS, pod["metadata"]["name"], space, patch={"metadata": {"labels": {"x": "y"}}})
        await client.patch(WORKSPACES, name, space, patch={"metadata": {"labels": {"touched": "yes"}}})
        await world.clock.sleep(QUIET)
        assert asked(world) == before, "a settled world asks for nothing"

        await client.delete(WORKSPACES, name, space)
        await world.gone(WORKSPACES, name)
        await world.gone(claims, claim["metadata"]["name"])
        await world.gone(NODES, node["metadata"]["name"])
        for resource in (DEPLOYMENTS, REPLICASETS, PODS, SERVICES):

            async def empty(resource: Any = resource) -> bool:
                return not await client.list(resource, space)

            await world.until(empty, f"no {resource}", GC_LIMIT)


async def columns(world: World, name: str) -> None:
    """What `kubectl get workspace` shows."""
    answer = await world.client.request("GET", WORKSPACES.path(world.namespace), accept=TABLE)
    table = orjson.loads(answer)
    shown = [each["name"].upper() for each in table["columnDefinitions"] if each.get("priority", 0) == 0]
    assert shown == [
        "NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "REASON", "AGE"
    ]  # fmt: skip
    (row,) = (each["cells"][: len(shown)] for each in table["rows"])
    assert row[:5] == [name, "Standard_NC6s_v3", "True", "True", "True"]


async def test_a_workspace_lives_on_a_node_that_is_there(world: World) -> None:
    client, space = world.client, world.namespace
    label = f"apps-{space}"
    node = f"gpu-{space}"
    async with operator(world, NodeProvisioner.BYO):
        body = seed(world, labelSelector={"matchLabels": {"apps": label}})
        body["resource"].pop("instanceType", None)
        name = body["metadata"]["name"]
        await client.create(WRITTEN, body)

        async def waits() -> bool:
            found = await world.find(WORKSPACES, name)
            return bool(found and (found.get("status") or {}).get("reason") == "NodeNotReady")

        await world.until(waits, "it says that a node is missing")
        try:
            await client.create(NODES, simulated_node(node, gpus=1, apps=label))
            await world.until(lambda: ready(world, name), "WorkspaceReady")
            status = (await client.get(WORKSPACES, name, space))["status"]
            assert status["workerNodes"] == [node]
            await client.delete(WORKSPACES, name, space)
            await world.gone(WORKSPACES, name)
            assert await world.find(NODES, node) is not None, "a node that was there stays"
        finally:
            with contextlib.suppress(AssertionError):
                await client.delete(WORKSPACES, name, space)
            await client.delete(NODES, node)


async def test_the_definitions_refuse_what_cannot_be(world: World) -> None:
    for definition in crd_manifests():
        await world.define(definition)
    body = seed(world)
    with pytest.raises(Invalid) as refused:
        await world.client.create(WRITTEN, {**body, "tuning": {"method": "lora", "preset": {"name": "x"}}})
    assert "inference" in str(refused.value)
    with pytest.raises(Invalid) as refused:
        await world.client.create(WRITTEN, {**body, "resource": {**body["resource"], "count": 0}})
    assert "resource.count" in str(refused.value)
    made = await world.client.create(WRITTEN, body)
    with pytest.raises(Invalid):
        await world.client.update(
            WRITTEN, {**made, "resource": {**made["resource"], "instanceType": "Standard_NC24ads_A100_v4"}}
        )
    await world.client.delete(WORKSPACES, body["metadata"]["name"], world.namespace)
