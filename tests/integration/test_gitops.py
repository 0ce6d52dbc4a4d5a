"""A Workspace that Argo CD applied, over its whole life: every request that the operator sends is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from kaito.api.crds import crd_manifests
from kaito.api.resources import MACHINES, WORKSPACES
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import WorkspaceConfig
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import DEPLOYMENTS, PODS, REPLICASETS, SERVICES
from kaito.runtime.transport import Request, Response
from kaito.testing.backends import Backend
from support.cluster import Object, Wire, World

pytestmark = pytest.mark.needs("workloads", "ready-pods")

SEED = Path(__file__).parents[2] / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
MARKS = ("app.kubernetes.io/instance", "argocd.argoproj.io", "made-by-argo")
LABELS = {"app.kubernetes.io/instance": "made-by-argo", "argocd.argoproj.io/instance": "made-by-argo"}
ANNOTATIONS = {
    "argocd.argoproj.io/tracking-id": "made-by-argo:kaito.sh/Workspace:x/y",
    "argocd.argoproj.io/sync-wave": "3",
}


class Audit(Wire):
    """A wire that keeps what was written over it: method, path, body."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.writes: list[tuple[str, str, str]] = []

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        if request.method != "GET":
            self.writes.append((request.method, request.path, (request.body or b"").decode()))
        return await super().send(request, timeout=timeout, stream=stream)


async def test_the_workspace_gets_a_finalizer_and_its_children_nothing(world: World) -> None:
    for definition in crd_manifests():
        await world.define(definition)
    audit = Audit(world.backend)
    client = world.connect("kaito-operator/1", "kaito-operator", wire=audit)
    manager = Manager(client, clock=world.clock, options=ManagerOptions(grace_period=5.0))
    workspace.setup(manager, WorkspaceConfig(stand_in_weights="tiny-phi-3"))
    adapter.setup(manager, AdapterOptions(image_map={}))
    machine.setup(manager, InstantCloud(client, world.clock, simulated_pods=True))
    body: Object = yaml.safe_load(SEED.read_text())
    name = body["metadata"]["name"]
    body["metadata"] |= {"namespace": world.namespace, "labels": LABELS, "annotations": ANNOTATIONS}
    async with world.running(manager):
        made = await world.client.named("argocd", "argocd-controller").apply(WORKSPACES, {**body, **VERSION})

        async def ready() -> bool:
            status = ((await world.find(WORKSPACES, name)) or {}).get("status") or {}
            return bool(status.get("state") == "Ready")

        await world.until(ready, "the Workspace is ready")
        live = await world.client.get(WORKSPACES, name, world.namespace)
        children = [
            each
            for resource in (DEPLOYMENTS, REPLICASETS, SERVICES, PODS)
            for each in await world.client.list(resource, world.namespace)
        ]
        children += await world.client.list(MACHINES, label_selector=f"kaito.sh/workspace={name}")
        await world.client.delete(WORKSPACES, name, world.namespace)
        await world.gone(WORKSPACES, name)

    assert {each["kind"] for each in children} >= {"Deployment", "Service", "Pod", "Machine"}
    for child in children:
        assert not marked(child["metadata"].get("labels")), child["metadata"]
        assert not marked(child["metadata"].get("annotations")), child["metadata"]
    for key in ("labels", "annotations"):
        assert live["metadata"][key] == made["metadata"][key]
    for key in ("resource", "inference"):
        assert live[key] == made[key]
    assert live["metadata"]["generation"] == made["metadata"]["generation"]

    own = WORKSPACES.path(world.namespace, name)
    asked = [(method, orjson.loads(sent)) for method, path, sent in audit.writes if path == own]
    assert [method for method, _ in asked] == ["PATCH", "PATCH"], "the finalizer comes and goes"
    for _, patch in asked:
        assert finalizer_only(patch), patch
    for method, path, sent in audit.writes:
        assert not marked(sent), (method, path, sent)


VERSION = {"apiVersion": "kaito.sh/v1beta1"}


def marked(value: Any) -> bool:
    """Whether anything in it comes from Argo CD."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return any(mark in text for mark in MARKS)


def finalizer_only(patch: Any) -> bool:
    """Whether a merge or JSON patch changes finalizers and nothing else; what it only tests does not count."""
    if isinstance(patch, list):
        changed = [each["path"] for each in patch if each["op"] != "test"]
        return all(path.startswith("/metadata/finalizers") for path in changed)
    return set(patch) == {"metadata"} and set(patch["metadata"]) <= {"finalizers", "resourceVersion", "uid"}
