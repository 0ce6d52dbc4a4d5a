"""A cluster of Go KAITO is taken over: pods, nodes and Services stay as they are until the user changes the spec."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from kaito.api.crds import crd_manifests
from kaito.api.resources import MACHINES, NODECLAIMS, WORKSPACES
from kaito.controllers import adapter, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.runtime.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    EVENTS,
    NODES,
    PODS,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from kaito.testing.backends import simulated_node
from support import gokaito
from support.cluster import Object, World

pytestmark = pytest.mark.needs("workloads", "ready-pods")

NAMESPACED = {
    "ControllerRevision": CONTROLLERREVISIONS,
    "Deployment": DEPLOYMENTS,
    "Service": SERVICES,
    "StatefulSet": STATEFULSETS,
}
CLAIMS = {"NodeClaim": NODECLAIMS, "Machine": MACHINES}
QUIET = 1.5
"""Seconds without a request after which the world counts as settled."""
WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Cluster:
    """What Go KAITO left in the test's namespace, and how it was when it was left."""

    def __init__(self, world: World, case: str) -> None:
        self._world = world
        self._client = world.client
        self._found = [_moved(each, world.namespace) for each in gokaito.objects(case)]
        (self.workspace,) = gokaito.kind(self._found, "Workspace")
        self.name = self.workspace["metadata"]["name"]
        self.resource = STATEFULSETS if gokaito.kind(self._found, "StatefulSet") else DEPLOYMENTS
        self.claims = [each["metadata"]["name"] for each in gokaito.kind(self._found, *CLAIMS)]
        self.nodes = [each["metadata"]["name"] for each in gokaito.kind(self._found, "Node")]

    async def make(self) -> None:
        """Everything that there is, served."""
        made = await self._client.create(WORKSPACES, _plain(self.workspace))
        space = self._world.namespace
        await self._client.patch_status(WORKSPACES, self.name, space, self.workspace["status"])
        for node in gokaito.kind(self._found, "Node"):
            gpus = int(node["status"]["allocatable"]["nvidia.com/gpu"])
            shell = simulated_node(node["metadata"]["name"], gpus=gpus)
            labels = {**shell["metadata"]["labels"], **node["metadata"]["labels"]}  # type: ignore[index]
            meta = {"name": node["metadata"]["name"], "labels": labels}
            await self._client.create(NODES, {**shell, "metadata": meta, "spec": node["spec"]})
        for claim in gokaito.kind(self._found, *CLAIMS):
            resource = CLAIMS[claim["kind"]]
            await self._client.create(resource, _plain(claim))
            await self._client.patch_status(resource, claim["metadata"]["name"], None, claim["status"])
        for child in gokaito.kind(self._found, *NAMESPACED):
            body = _plain(child)
            body["metadata"]["ownerReferences"][0]["uid"] = made["metadata"]["uid"]
            if child["kind"] == "Service" and body["spec"].get("clusterIP") != "None":
                del body["spec"]["clusterIP"]
            await self._client.create(NAMESPACED[child["kind"]], body)
        await self._world.until(self.served, "the model of Go KAITO is served")

    async def served(self) -> bool:
        """Whether all pods are ready."""
        live = await self._client.get(self.resource, self.name, self._world.namespace)
        wanted = live["spec"]["replicas"]
        return bool((live.get("status") or {}).get("readyReplicas") == wanted)

    async def end(self) -> None:
        """Takes away what the next test's operator would look after, and what no namespace takes along."""
        space = self._world.namespace
        if await self._world.find(WORKSPACES, self.name) is not None:
            await self._client.patch(WORKSPACES, self.name, space, patch={"metadata": {"finalizers": None}})
            await self._client.delete(WORKSPACES, self.name, space)
        for claim in gokaito.kind(self._found, *CLAIMS):
            await self.release(CLAIMS[claim["kind"]], claim["metadata"]["name"])
            await self._client.delete(CLAIMS[claim["kind"]], claim["metadata"]["name"])
        for node in self.nodes:
            await self._client.delete(NODES, node)

    async def release(self, resource: Resource, name: str) -> None:
        """What the provisioner does when the machine is gone."""
        if await self._world.find(resource, name) is not None:
            await self._client.patch(resource, name, None, patch={"metadata": {"finalizers": None}})

    async def versions(self) -> dict[str, str]:
        """resourceVersion of everything but the Workspace, pods with their uids."""
        space = self._world.namespace
        found: dict[str, str] = {}
        for resource in (*NAMESPACED.values(), PODS):
            for each in await self._client.list(resource, space):
                found[f"{resource} {each['metadata']['name']}"] = each["metadata"]["resourceVersion"]
        for resource in CLAIMS.values():
            selector = f"kaito.sh/workspacenamespace={space}"
            for each in await self._client.list(resource, label_selector=selector):
                found[f"{resource} {each['metadata']['name']}"] = each["metadata"]["resourceVersion"]
        return found

    async def pods(self) -> set[str]:
        """uids of the pods."""
        return {each["metadata"]["uid"] for each in await self._client.list(PODS, self._world.namespace)}

    async def status(self) -> Object:
        found = await self._world.find(WORKSPACES, self.name)
        status: Object = (found or {}).get("status") or {}
        return status


def _moved(obj: Object, namespace: str) -> Object:
    """The object in another namespace, with claims and nodes of its own."""
    raw = orjson.dumps(obj).decode()
    for name in ("ws1a2b3c4d5", "ws6e7f8a9b0"):
        raw = raw.replace(name, f"ws{hashlib.sha256(f'{namespace}/{name}'.encode()).hexdigest()[:9]}")
    text: Object = orjson.loads(raw)
    if "namespace" in text["metadata"]:
        text["metadata"]["namespace"] = namespace
    labels = text["metadata"].get("labels") or {}
    if "kaito.sh/workspacenamespace" in labels:
        labels["kaito.sh/workspacenamespace"] = namespace
    pod = (((text.get("spec") or {}).get("template") or {}).get("spec") or {}).get("affinity")
    if pod is not None:
        node = pod["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        for each in node["nodeSelectorTerms"][0]["matchExpressions"]:
            if each["key"] == "kaito.sh/workspacenamespace":
                each["values"] = [namespace]
    return text


def _plain(obj: Object) -> Object:
    """As its maker wrote it."""
    body = {key: copy.deepcopy(each) for key, each in obj.items() if key != "status"}
    for key in ("uid", "resourceVersion", "generation"):
        body["metadata"].pop(key, None)
    return body


@asynccontextmanager
async def left_behind(world: World, case: str) -> AsyncIterator[Cluster]:
    for definition in crd_manifests():
        await world.define(definition)
    cluster = Cluster(world, case)
    try:
        await cluster.make()
        yield cluster
    finally:
        await cluster.end()


@asynccontextmanager
async def operator(world: World, provisioner: NodeProvisioner) -> AsyncIterator[None]:
    """The operator; the nodes are somebody else's."""
    manager = world.manager("kaito-operator/1")
    workspace.setup(manager, WorkspaceConfig(node_provisioner=provisioner))
    adapter.setup(manager, AdapterOptions(image_map={}))
    async with world.running(manager):
        yield


def writes(world: World) -> list[str]:
    """What the operator wrote, events left out."""
    return [
        f"{each.method} {each.path}"
        for each in world.requests
        if each.method in WRITES and not each.path.endswith("/events") and "/events/" not in each.path
    ]


async def quiet(world: World) -> None:
    before = -1
    while before != len(world.requests):
        before = len(world.requests)
        await world.clock.sleep(QUIET)


async def told(world: World, reason: str) -> list[str]:
    """Messages of the events with that reason."""
    found = await world.client.list(EVENTS, world.namespace)
    return [each["message"] for each in found if each["reason"] == reason]


@pytest.mark.parametrize(
    ("case", "provisioner"),
    [
        ("single-node", NodeProvisioner.NODECLAIM),
        ("multi-node", NodeProvisioner.NODECLAIM),
        ("template", NodeProvisioner.BYO),
        ("machine-era", NodeProvisioner.MACHINE),
    ],
)
async def test_nothing_is_touched(world: World, case: str, provisioner: NodeProvisioner) -> None:
    async with left_behind(world, case) as cluster:
        await quiet_backend(world, cluster)
        before = await cluster.versions()
        pods = await cluster.pods()

        async def ready() -> bool:
            conditions = (await cluster.status()).get("conditions") or ()
            return any(each["type"] == "WorkspaceReady" and each["status"] == "True" for each in conditions)

        for _ in range(2 if case == "single-node" else 1):  # and after a restart
            async with operator(world, provisioner):
                await world.until(ready, "WorkspaceReady")
                await quiet(world)
        assert await cluster.pods() == pods
        assert await cluster.versions() == before, "not one of them was written"
        own = f"/apis/kaito.sh/v1beta1/namespaces/{world.namespace}/workspaces/{cluster.name}/status"
        assert writes(world) == [f"PATCH {own}"], "the status, once"
        status = await cluster.status()
        assert status["workerNodes"] == sorted(cluster.nodes)
        assert status["resolved"]["adopted"]["unseen"] is False
        if case == "single-node":
            assert status["performance"] == cluster.workspace["status"]["performance"]
        (message,) = await told(world, "WorkloadAdopted")
        assert "is left as it is until this Workspace's spec changes" in message


async def quiet_backend(world: World, cluster: Cluster) -> None:
    """Until the workload controllers have written all that they had to."""
    before: dict[str, str] = {}
    while before != (now := await cluster.versions()):
        before = now
        await world.clock.sleep(1.0)


async def test_a_changed_spec_rolls_and_a_written_again_one_does_not(world: World) -> None:
    client, space = world.client, world.namespace
    async with left_behind(world, "single-node") as cluster:
        name = cluster.name
        address = (await client.get(SERVICES, name, space))["spec"]["clusterIP"]
        pods = await cluster.pods()
        async with operator(world, NodeProvisioner.NODECLAIM):

            async def adopted() -> bool:
                return "adopted" in ((await cluster.status()).get("resolved") or {})

            await world.until(adopted, "the workload is adopted")
            again = _plain(cluster.workspace)
            again["metadata"] = {"name": name, "namespace": space, "labels": {"touched": "yes"}}
            del again["resource"]["count"], again["inference"]["preset"]["accessMode"]
            again["apiVersion"] = "kaito.sh/v1alpha1"
            await client.named("gitops", "gitops").apply(replace(WORKSPACES, version="v1alpha1"), again)
            await quiet(world)
            assert await cluster.pods() == pods, "the same spec, written by another tool"
            assert await told(world, "WorkloadReplaced") == []

            config = {"inference_config.yaml": "vllm: {}\n"}
            await client.create(CONFIGMAPS, {"metadata": world.meta("mine"), "data": config})
            await client.patch(WORKSPACES, name, space, patch={"inference": {"config": "mine"}})

            async def rolled() -> bool:
                return not pods & await cluster.pods() and await cluster.served() and not await adopted()

            await world.until(rolled, "the workload is the operator's own")
            (message,) = await told(world, "WorkloadReplaced")
            assert (
                message == f"StatefulSet {name}, made by another operator, is rewritten now: its pods restart"
            )
            service = await client.get(SERVICES, name, space)
            assert service["spec"]["clusterIP"] == address
            assert service["spec"]["selector"] == {"kaito.sh/workspace": name}
            (claim,) = await client.list(NODECLAIMS, label_selector=f"kaito.sh/workspacenamespace={space}")
            assert [claim["metadata"]["name"]] == cluster.claims, "the node stays"
            assert "deletionTimestamp" not in claim["metadata"]

            await client.delete(WORKSPACES, name, space)

            async def given_back() -> bool:
                found = await world.find(NODECLAIMS, cluster.claims[0])
                return found is None or "deletionTimestamp" in found["metadata"]

            await world.until(given_back, "the claim is deleted with its Workspace")
            assert await world.find(WORKSPACES, name) is not None, "it waits for its claim"
            await cluster.release(NODECLAIMS, cluster.claims[0])
            await world.gone(WORKSPACES, name)


@pytest.mark.parametrize(
    ("case", "provisioner", "change"),
    [
        (
            "template",
            NodeProvisioner.BYO,
            {"template": {"spec": {"containers": [{"name": "own", "image": "x/own:2"}]}}},
        ),
        ("machine-era", NodeProvisioner.MACHINE, {"config": "mine"}),
    ],
    ids=["template", "machine-era"],
)
async def test_every_kind_of_workload_is_rewritten_in_place(
    world: World, case: str, provisioner: NodeProvisioner, change: Object
) -> None:
    client, space = world.client, world.namespace
    async with left_behind(world, case) as cluster, operator(world, provisioner):

        async def adopted() -> bool:
            return "adopted" in ((await cluster.status()).get("resolved") or {})

        await world.until(adopted, "the workload is adopted")
        pods = await cluster.pods()
        before = await client.get(cluster.resource, cluster.name, space)
        await client.create(
            CONFIGMAPS, {"metadata": world.meta("mine"), "data": {"inference_config.yaml": "{}"}}
        )
        await client.patch(WORKSPACES, cluster.name, space, patch={"inference": change})

        async def rolled() -> bool:
            served = (await cluster.status()).get("state") == "Ready" and await cluster.served()
            return served and not pods & await cluster.pods() and not await adopted()

        await world.until(rolled, "the workload is the operator's own")
        after = await client.get(cluster.resource, cluster.name, space)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["metadata"]["annotations"]["kaito.sh/desired-hash"]


async def test_a_claim_of_the_other_kind_goes_with_its_workspace(world: World) -> None:
    """Go KAITO's NodeClaims, under an operator that was started with --node-provisioner=machine by mistake."""
    async with left_behind(world, "single-node") as cluster, operator(world, NodeProvisioner.MACHINE):

        async def adopted() -> bool:
            return "adopted" in ((await cluster.status()).get("resolved") or {})

        await world.until(adopted, "the workload is adopted")
        await world.client.delete(WORKSPACES, cluster.name, world.namespace)

        async def given_back() -> Any:
            found = await world.find(NODECLAIMS, cluster.claims[0])
            return found is None or "deletionTimestamp" in found["metadata"]

        await world.until(given_back, "the claim is deleted with its Workspace")
        await cluster.release(NODECLAIMS, cluster.claims[0])
        await world.gone(WORKSPACES, cluster.name)
