"""`kaito uninstall` against a running operator, without one, and with nobody to end the machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api.crds import crd_manifests
from kaito.api.resources import MACHINES, NODECLAIMS, WORKSPACES
from kaito.cli.errors import CliError
from kaito.cli.operator.names import LEASE_NAME
from kaito.cli.uninstall import found
from kaito.cli.uninstall.kinds import LABELS, ORDER, UNINSTALL_ROLE
from kaito.cli.uninstall.rights import RIGHTS
from kaito.cli.uninstall.run import NO_OPERATOR, NOT_CONFIRMED, NOT_IN_TIME, Options, Uninstall
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.errors import Forbidden
from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.resources import CONFIGMAPS, CRDS, DEPLOYMENTS, NAMESPACES, Resource
from support.apiserver import Kubectl, kubectl_binaries
from support.cluster import GC_LIMIT, Object, Wire, World
from support.kustomize import MANIFESTS, render

pytestmark = pytest.mark.needs("workloads", "ready-pods")

SEED = Path(__file__).parents[2] / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
GUIDE = Path(__file__).parents[2] / "docs" / "uninstall.md"
SYSTEM = "kaito-system"
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = replace(CLUSTER_ROLES, plural="clusterrolebindings", kind="ClusterRoleBinding")
NAME = "phi"
KINDS = {(each.api_version, each.kind): each for group in ORDER for each in group}
QUICK = Options(yes=True, interval=0.1)


class Run:
    """One run of the command: what it said, and what it asked of the API server."""

    def __init__(
        self, world: World, options: Options, answer: str | None = None, *, wire: Wire | None = None
    ) -> None:
        self.said: list[str] = []
        self._world = world
        self._answer = answer
        client = world.connect("kaito-cli/1", "kaito-cli", wire=wire)
        self._uninstall = Uninstall(client, options, self.said.append, self.ask)

    async def ask(self, prompt: str) -> str | None:
        self.said.append(prompt)
        return self._answer

    async def __call__(self) -> str:
        before = len(self._world.requests)
        try:
            await self._uninstall.run()
        finally:
            sent = self._world.requests[before:]
            self.writes = [each for each in sent if each.user_agent == "kaito-cli/1" and each.method != "GET"]
        return "\n".join(self.said)

    async def fails(self) -> CliError:
        with pytest.raises(CliError) as raised:
            await self()
        return raised.value


@asynccontextmanager
async def operator(
    world: World, *, workspaces: bool = True, machines: bool = True, lease: bool = False
) -> AsyncIterator[None]:
    """The controllers as they are, with nodes of the instant cloud."""
    election = LeaderElectionOptions(LEASE_NAME, world.namespace) if lease else None
    manager = world.manager("kaito-operator/1", leader_election=election)
    if workspaces:
        config = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM, stand_in_weights="tiny-phi-3")
        workspace.setup(manager, config)
        adapter.setup(manager, AdapterOptions(image_map={}))
    if machines:
        cloud = manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)
        machine.setup(manager, InstantCloud(cloud, world.clock, simulated_pods=True))
    async with world.running(manager):
        yield


async def install(world: World) -> None:
    """The definitions, and the default overlay; its pods are simulated, so that its webhook asks nobody."""
    for definition in crd_manifests():
        await world.define(definition)
    for each in render("default"):
        body = {**each, "webhooks": []} if "webhooks" in each else each
        await world.client.apply(KINDS[each["apiVersion"], each["kind"]], body)


async def serve(world: World) -> None:
    """A Workspace with a node of its own, ready."""
    body: Object = yaml.safe_load(SEED.read_text())
    body["metadata"] = {"name": NAME, "namespace": world.namespace}
    await world.client.create(WORKSPACES, {**body, "apiVersion": WORKSPACES.api_version})

    async def ready() -> bool:
        tree = await world.find(WORKSPACES, NAME)
        conditions = ((tree or {}).get("status") or {}).get("conditions") or ()
        return any(each["type"] == "WorkspaceReady" and each["status"] == "True" for each in conditions)

    await world.until(ready, "WorkspaceReady")


async def available(world: World) -> None:
    """Until the operator's Deployment has a ready replica, as its own pods would make it."""

    async def ready() -> bool:
        tree = await world.client.get(DEPLOYMENTS, "kaito-operator", SYSTEM)
        return bool((tree.get("status") or {}).get("readyReplicas"))

    await world.until(ready, "kaito-operator is ready")


def foreign(name: str) -> Object:
    """A NodeClaim as a Karpenter makes it for a NodePool."""
    return {
        "apiVersion": NODECLAIMS.api_version,
        "kind": NODECLAIMS.kind,
        "metadata": {"name": name, "labels": {"karpenter.sh/nodepool": "general"}},
        "spec": {
            "nodeClassRef": {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"},
            "requirements": [
                {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_D4s_v5"]}
            ],
        },
    }


async def paid(world: World) -> tuple[list[str], list[str]]:
    """Names of the NodeClaims and of the Nodes of instances."""
    claims = [each["metadata"]["name"] for each in await world.client.list(NODECLAIMS)]
    return claims, await found.nodes_left(world.client)


async def nothing_installed(world: World) -> bool:
    return not (await found.installation(world.client)).items


@pytest.fixture(autouse=True)
async def clean(world: World) -> AsyncIterator[None]:
    """Other tests meet none of this, whatever a failed one leaves."""
    yield
    for definition in crd_manifests():
        await world.define(definition)
    for each in await world.client.list(NODECLAIMS):
        await world.client.delete(NODECLAIMS, each["metadata"]["name"])
    async with operator(world, workspaces=False):
        await Run(world, Options(yes=True, interval=0.1, without_operator=True, definitions=True))()


async def test_what_costs_money_goes_before_the_operator(world: World) -> None:
    await install(world)
    await world.client.create(NODECLAIMS, foreign("of-karpenter"))
    async with operator(world):
        await serve(world)
        await available(world)
        claims, nodes = await paid(world)
        (claim,) = set(claims) - {"of-karpenter"}
        (node,) = nodes

        listed = Run(world, Options(dry_run=True))
        text = await listed()
        assert listed.writes == []
        money, _, rest = text.partition("What runs KAITO")
        for expected in (
            f"Workspace {world.namespace}/{NAME}",
            f"NodeClaim {claim}",
            "Standard_NC6s_v3",
            node,
        ):
            assert expected in money
        assert "of-karpenter" not in text
        assert "KAITO did not make it: 1 NodeClaim" in text
        for kind in ("Deployment", "ClusterRole", "ValidatingWebhookConfiguration", "Namespace"):
            assert f"  {kind} " in rest

        declined = Run(world, Options(interval=0.1), answer="no")
        assert (await declined.fails()).code == NOT_CONFIRMED
        unanswered = Run(world, Options(interval=0.1))
        assert "--yes" in str(await unanswered.fails())
        assert declined.writes == unanswered.writes == []

        run = Run(world, Options(interval=0.1), answer="yes")
        text = await run()
    assert await paid(world) == (["of-karpenter"], [])
    assert await world.find(WORKSPACES, NAME) is None
    assert await nothing_installed(world)
    kinds = [each.path.rpartition("/")[0].rpartition("/")[2] for each in run.writes]
    assert {each.method for each in run.writes} == {"DELETE"}
    assert kinds[:3] == ["workspaces", "validatingwebhookconfigurations", "deployments"]
    assert kinds[-1] == "namespaces"
    assert not {"machines", "nodeclaims", "customresourcedefinitions"} & {*kinds}, "claims are the operator's"
    assert "waiting for 1 Workspace and 1 NodeClaim" in text
    assert (
        text.index("What cost money is gone") < text.index("removing 1 Deployment") < text.index("is removed")
    )
    assert "still there (--crds)" in text

    again = Run(world, QUICK)
    assert "Nothing is left to remove" in await again()
    assert again.writes == []


async def test_definitions_go_when_they_are_asked_to_and_nothing_uses_them(world: World) -> None:
    await install(world)
    await world.client.create(NODECLAIMS, foreign("of-karpenter"))
    text = await Run(world, Options(yes=True, interval=0.1, definitions=True))()
    left = [each["metadata"]["name"] for each in await world.client.list(CRDS)]
    assert NODECLAIMS.name in left
    assert not {WORKSPACES.name, MACHINES.name} & {*left}
    assert f"{NODECLAIMS.name} stays: 1 objects of its kind exist" in text


async def test_the_operator_went_first_and_comes_back(world: World) -> None:
    await install(world)
    async with operator(world):
        await serve(world)
    await world.client.delete(DEPLOYMENTS, "kaito-operator", SYSTEM)
    await world.client.delete(WORKSPACES, NAME, world.namespace)

    refused = Run(world, QUICK)
    error = await refused.fails()
    assert error.code == NO_OPERATOR
    assert refused.writes == []
    for expected in ("no Deployment kaito-operator", "install the operator again", "--without-operator"):
        assert expected in str(error)
    assert f"Workspace {world.namespace}/{NAME}" in "\n".join(refused.said), "what remains is listed"
    claims, nodes = await paid(world)
    assert len(claims) == len(nodes) == 1, "and still costs money"

    await install(world)
    await available(world)
    async with operator(world):
        await Run(world, QUICK)()
    assert await paid(world) == ([], [])
    assert await nothing_installed(world)


async def test_the_operator_went_first_and_stays_away(world: World) -> None:
    """Nobody ends the machines either, at first: the claims stay, and the next run goes on."""
    await install(world)
    async with operator(world):
        await serve(world)
    await world.client.delete(DEPLOYMENTS, "kaito-operator", SYSTEM)
    options = Options(yes=True, interval=0.1, without_operator=True, timeout=2.0)

    error = await Run(world, options).fails()
    (claim,) = (await paid(world))[0]
    assert error.code == NOT_IN_TIME
    for expected in (
        f"NodeClaim {claim}",
        "may still cost money",
        f"kubectl describe {NODECLAIMS.name} {claim}",
    ):
        assert expected in str(error)
    tree = await world.client.get(NODECLAIMS, claim)
    assert tree["metadata"]["finalizers"] == ["karpenter.sh/termination"], (
        "nobody but its controller takes that"
    )
    assert await world.find(WORKSPACES, NAME) is not None
    assert not await nothing_installed(world), "what runs KAITO stays until the money is saved"

    async with operator(world, workspaces=False):
        run = Run(world, Options(yes=True, interval=0.1, without_operator=True))
        await run()
    assert await paid(world) == ([], [])
    assert await world.find(WORKSPACES, NAME) is None
    assert await nothing_installed(world)

    async def empty() -> bool:
        return not await world.client.list(DEPLOYMENTS, world.namespace)

    await world.until(empty, "the workload goes with its owner", GC_LIMIT)


async def test_an_operator_outside_is_told_by_its_lease(world: World) -> None:
    for definition in crd_manifests():
        await world.define(definition)
    async with operator(world, lease=True):
        await serve(world)
        await Run(world, QUICK)()
    assert await paid(world) == ([], [])


async def test_a_namespace_with_something_else_in_it_stays(world: World) -> None:
    await install(world)
    other: dict[str, Any] = {"metadata": {"name": "notes", "namespace": SYSTEM}, "data": {"a": "b"}}
    await world.client.create(CONFIGMAPS, other)
    text = await Run(world, QUICK)()
    assert f"Namespace {SYSTEM} stays: ConfigMap {SYSTEM}/notes in it is not KAITO's" in text
    assert [each["metadata"]["name"] for each in await world.client.list(CONFIGMAPS, SYSTEM)] != []
    await world.client.delete(CONFIGMAPS, "notes", SYSTEM)
    await Run(world, QUICK)()
    spaces: list[Object] = await world.client.list(NAMESPACES)
    assert not [each for each in spaces if LABELS.items() <= (each["metadata"].get("labels") or {}).items()]


async def test_its_rights_are_written_down(world: World) -> None:
    """With exactly these it gets through; without the last of them it says so, and what is done stays done."""
    await install(world)
    async with operator(world):
        await serve(world)
    user, name = f"leaver-{world.namespace}", UNINSTALL_ROLE
    rules = [
        {
            "apiGroups": [right.group],
            "resources": [right.resource],
            "verbs": list(right.verbs),
            **({"resourceNames": list(right.names)} if right.names else {}),
        }
        for right in RIGHTS
    ]
    lacking = [rule for rule in rules if rule["resources"] != ["namespaces"]]
    role = {"metadata": {"name": name, "labels": LABELS}, "rules": lacking}
    reference = {"apiGroup": CLUSTER_ROLES.group, "kind": CLUSTER_ROLES.kind, "name": name}
    subject = {"apiGroup": CLUSTER_ROLES.group, "kind": "User", "name": user}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    await world.client.apply(CLUSTER_ROLES, role)
    await world.client.apply(CLUSTER_ROLE_BINDINGS, binding)
    options = Options(yes=True, interval=0.1, without_operator=True, definitions=True)
    try:
        async with operator(world, workspaces=False):
            await may_list(world, user, WORKSPACES)
            error = await Run(world, options, wire=Wire(world.backend, user)).fails()
            assert error.code == 1
            assert "namespaces" in str(error)
            assert "rights of the cluster's administrator" in str(error)
            await world.client.apply(CLUSTER_ROLES, {**role, "rules": rules})
            await may_list(world, user, NAMESPACES)
            await Run(world, options, wire=Wire(world.backend, user))()
        assert await nothing_installed(world)
        await world.client.get(CLUSTER_ROLES, name)  # his own role stays
    finally:
        await world.client.delete(CLUSTER_ROLE_BINDINGS, name)
        await world.client.delete(CLUSTER_ROLES, name)


async def may_list(world: World, user: str, resource: Resource) -> None:
    """Waits until the API server's authorizer has seen the user's new rights: it learns of them by a watch."""
    client = world.connect("waiting/1", "waiting", wire=Wire(world.backend, user))
    async with world.clock.timeout(30):
        while True:
            try:
                await client.list(resource)
                return
            except Forbidden:
                await world.clock.sleep(0.1)


async def test_the_steps_by_hand(world: World, tmp_path: Path) -> None:
    """The guide's commands, as they stand there."""
    kubectl = Kubectl(kubectl_binaries()[0], tmp_path, world.backend.kubeconfig)
    _, _, section = GUIDE.read_text(encoding="utf-8").partition("## By hand\n")
    lines = section.partition("\n## ")[0].splitlines()
    commands = [line.partition("#")[0].split() for line in lines if line.startswith("    kubectl ")]
    places = {"my-kaito": str(MANIFESTS / "default"), "manifests/crd": str(MANIFESTS / "crd")}
    places["manifests/crd-karpenter"] = str(MANIFESTS / "crd-karpenter")
    await install(world)
    async with operator(world):
        await serve(world)
        ends, claims, nodes, *removals = commands
        await kubectl(*ends[1:])
        for looks in (claims, nodes):
            assert await kubectl(*looks[1:]) == ""
    assert await paid(world) == ([], [])
    for command in removals:
        await kubectl(*(places.get(word, word) for word in command[1:]), "--ignore-not-found")
    assert await nothing_installed(world)
    assert await found.definitions(world.client) == ()
