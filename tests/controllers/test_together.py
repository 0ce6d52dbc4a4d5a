"""The three controllers together, each in its own right: they meet only in the status of custom resources.

Nothing is a stand-in here but the pods (no process runs): API server, workload controllers and scheduler are the
embedded ones, machines come from the instant cloud, adapters are files.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controllers.adapter.adapters import CONFIG_NAME, WEIGHTS_NAME, config, safetensors, write_directory
from controllers.workspace.builders import seed
from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, WORKSPACES
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.embedded import workloads
from kaito.embedded.kubelet import simulated
from kaito.provisioner import CloudProvider
from kaito.provisioner.existing import ExistingNodes
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import PatchType
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import DEPLOYMENTS, NODES, PODS, REPLICASETS, SERVICES
from kaito.runtime.testing import VirtualClock
from kaito.testing.backends import simulated_node
from support.control_plane import ControlPlane, control_plane

Object = dict[str, Any]
CONTROLLERS = ("kaito-workspace/", "kaito-machine/", "kaito-adapter/")


def instant(manager: Manager) -> CloudProvider:
    client = manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)
    return InstantCloud(client, manager.clock, simulated_pods=True)


def existing(manager: Manager) -> CloudProvider:
    client = manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)
    return ExistingNodes(client, manager.cache.informer(NODES).lister)


@asynccontextmanager
async def everything(
    clock: VirtualClock, settings: WorkspaceConfig, cloud: Callable[[Manager], CloudProvider] = instant
) -> AsyncIterator[ControlPlane]:
    """A cluster with all controllers."""
    async with control_plane(clock) as plane:
        operator = Manager(plane.client.named("kaito-operator/1"), clock=clock)
        workspace.setup(operator, settings)
        adapter.setup(operator, AdapterOptions(image_map={}, host_paths=True))
        machine.setup(operator, cloud(operator))
        node = Manager(plane.client.named("kaito-node/1", "kaito-node"), clock=clock)
        workloads.setup(node)
        simulated.setup(node)
        stop = asyncio.Event()
        running = [asyncio.create_task(manager.run(stop)) for manager in (operator, node)]
        try:
            await clock.sleep(0.1)
            yield plane
        finally:
            stop.set()
            await asyncio.gather(*running)


def status(plane: ControlPlane, name: str) -> Object:
    try:
        found: Object = plane.server.find("workspaces.kaito.sh", "default", name).get("status") or {}
    except NotFound:
        return {}
    return found


def holds(plane: ControlPlane, name: str, type: str = "WorkspaceReady") -> bool:
    conditions = status(plane, name).get("conditions") or ()
    return any(each["type"] == type and each["status"] == "True" for each in conditions)


async def until(plane: ControlPlane, done: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = plane.clock.now() + seconds
    while not done():
        assert plane.clock.now() < deadline, f"{what} did not come true"
        await plane.clock.sleep(0.25)


def asked(plane: ControlPlane) -> list[tuple[str, str, str]]:
    return [each for each in plane.requests if each[0].startswith(CONTROLLERS)]


def given(name: str, **inference: Any) -> Object:
    body = seed(name)
    for key in ("uid", "generation", "resourceVersion", "finalizers"):
        body["metadata"].pop(key)
    body["inference"] |= inference
    return body


@pytest.mark.parametrize("provisioner", [NodeProvisioner.MACHINE, NodeProvisioner.NODECLAIM])
async def test_a_life(virtual_clock: VirtualClock, provisioner: NodeProvisioner) -> None:
    settings = WorkspaceConfig(node_provisioner=provisioner, stand_in_weights="tiny-phi-3")
    claims = MACHINES if provisioner is NodeProvisioner.MACHINE else NODECLAIMS
    async with everything(virtual_clock, settings) as plane:
        client, name = plane.client, "workspace-phi-3-mini"
        await client.create(WORKSPACES, given("inference"))
        await until(plane, lambda: holds(plane, name), "WorkspaceReady")
        own = plane.writes("kaito-workspace/")
        assert len([each for each in own if "/events" not in each[1]]) <= 7, own
        pods = await client.list(PODS, "default")
        (node,) = await client.list(NODES)
        assert [pod["spec"]["nodeName"] for pod in pods] == [node["metadata"]["name"]]
        assert node["metadata"]["labels"]["apps"] == "phi-3"
        assert status(plane, name)["workerNodes"] == [node["metadata"]["name"]]

        await virtual_clock.sleep(30)
        plane.requests.clear()
        await virtual_clock.sleep(3600)
        assert asked(plane) == [], "a settled world asks for nothing"

        await client.delete(WORKSPACES, name, "default")
        gone = (WORKSPACES, claims, NODES, DEPLOYMENTS, REPLICASETS, PODS)
        with contextlib.suppress(TimeoutError):
            async with virtual_clock.timeout(300):
                while any([await client.list(resource) for resource in gone]):
                    await virtual_clock.sleep(1)
        assert {resource.kind: await client.list(resource) for resource in gone} == {
            each.kind: [] for each in gone
        }
        await virtual_clock.sleep(30)
        assert [each["metadata"]["name"] for each in await client.list(SERVICES, "default")] in (
            [],
            ["kubernetes"],
        )


async def test_the_seeds_placeholder_ends_in_the_next_step(virtual_clock: VirtualClock) -> None:
    async with everything(virtual_clock, WorkspaceConfig(stand_in_weights="tiny-phi-3")) as plane:
        name = "workspace-phi-3-mini-adapter"
        await plane.client.create(WORKSPACES, given("adapters"))
        await until(plane, lambda: status(plane, name).get("reason") == "InvalidImageReference", "the reason")
        conditions = {each["type"]: each for each in status(plane, name)["conditions"]}
        assert "placeholder ACR_REPO_HERE" in conditions["InferenceReady"]["message"]
        assert "placeholder ACR_REPO_HERE" in conditions["ResourceReady"]["message"]
        assert await plane.client.list(DEPLOYMENTS, "default") == []
        await virtual_clock.sleep(600)
        assert await plane.client.list(MACHINES) == [], "a node was bought for a model that cannot start"

        mended = [{"op": "remove", "path": "/inference/adapters"}]
        await plane.client.patch(WORKSPACES, name, "default", patch=mended, patch_type=PatchType.JSON)
        await until(plane, lambda: holds(plane, name), "WorkspaceReady")
        assert len(await plane.client.list(MACHINES)) == 1


async def test_an_adapter_on_disk_is_read_judged_and_mounted(
    virtual_clock: VirtualClock, tmp_path: Path
) -> None:
    good = write_directory(
        tmp_path / "good",
        {CONFIG_NAME: config(base_model_name_or_path="tiny-phi-3"), WEIGHTS_NAME: safetensors()},
    )
    other = write_directory(tmp_path / "other")
    async with everything(virtual_clock, WorkspaceConfig(stand_in_weights="tiny-phi-3")) as plane:
        name = "workspace-phi-3-mini"

        def adapters(path: Path) -> list[Object]:
            return [{"source": {"name": "pirate", "volumeSource": {"hostPath": {"path": str(path)}}}}]

        await plane.client.create(WORKSPACES, given("inference", adapters=adapters(good)))
        await until(plane, lambda: holds(plane, name), "WorkspaceReady")
        (use,) = status(plane, name)["adapters"]
        assert (use["state"], use["reason"]) == ("Ready", "FitsStandIn")
        (pod,) = await plane.client.list(PODS, "default")
        assert "--adapter=pirate=1.0" in pod["spec"]["containers"][0]["args"]
        assert [each["metadata"]["name"] for each in await plane.client.list(ADAPTERS)] == [f"{name}-pirate"]

        patch = {"inference": {"adapters": adapters(other)}}
        await plane.client.patch(WORKSPACES, name, "default", patch=patch)
        await until(
            plane, lambda: status(plane, name).get("reason") == "AdapterDoesNotFit", "it does not fit"
        )
        (pod_still,) = await plane.client.list(PODS, "default")
        assert pod_still["metadata"]["uid"] == pod["metadata"]["uid"], "the model is served as before"
        patch = {"inference": {"adapters": adapters(good)}}
        await plane.client.patch(WORKSPACES, name, "default", patch=patch)
        await until(plane, lambda: holds(plane, name), "WorkspaceReady again")


async def test_workspaces_share_a_node_one_after_the_other(virtual_clock: VirtualClock) -> None:
    settings = WorkspaceConfig(node_provisioner=NodeProvisioner.MACHINE, stand_in_weights="tiny-phi-3")
    async with everything(virtual_clock, settings, existing) as plane:
        node = simulated_node("rack-1", gpus=1)
        node["metadata"]["labels"]["kaito.sh/existing-node"] = "true"  # type: ignore[index]
        await plane.client.create(NODES, node)
        names = ("first", "second")
        for name in names:
            body = given("inference")
            body["metadata"]["name"] = name
            await plane.client.create(WORKSPACES, body)
            await virtual_clock.sleep(15)
        assert holds(plane, "first")
        waiting = status(plane, "second")
        assert waiting["reason"] == "AllocationFailure"
        messages = [each["message"] for each in waiting["conditions"] if each["type"] == "ResourceReady"]
        assert "rack-1 is taken by ws" in messages[0]

        await plane.client.delete(WORKSPACES, "first", "default")
        await until(plane, lambda: holds(plane, "second"), "WorkspaceReady of the second", seconds=60)
        await plane.client.delete(WORKSPACES, "second", "default")
        await until(plane, lambda: status(plane, "second") == {}, "the end of the second")
        (left,) = await plane.client.list(NODES)
        assert left["metadata"]["labels"] == node["metadata"]["labels"]  # type: ignore[index]
        assert "taints" not in left["spec"]
