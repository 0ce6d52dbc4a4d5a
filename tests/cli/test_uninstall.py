"""Rules of `kaito uninstall`, and what it says while it waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from kaito.api.crds import crd_manifests
from kaito.api.resources import MACHINES, NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.cli.errors import CliError
from kaito.cli.operator.names import LEASE_NAME
from kaito.cli.uninstall.command import run_uninstall
from kaito.cli.uninstall.found import Costs, Item, costs, describe_claim, operator_runs
from kaito.cli.uninstall.kinds import ORDER
from kaito.cli.uninstall.rules import (
    counted,
    next_for_costs,
    next_for_installation,
    propagation,
    waiting,
)
from kaito.cli.uninstall.run import NOT_CONFIRMED, NOT_IN_TIME, REMINDER, Options, Uninstall
from kaito.runtime.reading import with_type
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, LEASES, NAMESPACES, Resource
from kaito.runtime.testing import VirtualClock
from kaito.testing.faults import Answer, Match, Refuse
from kaito.testing.memory_api import MemoryApi
from kaito.testing.nodepool import nodepool_definition

FINALIZER = "workspace.finalizer.kaito.sh"


def item(resource: Resource, name: str, *, deleting: bool = False, **more: Any) -> Item:
    metadata: dict[str, Any] = {"name": name, "uid": f"uid-{name}", **more.pop("metadata", {})}
    if resource.namespaced:
        metadata["namespace"] = "default"
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return Item(resource, {"metadata": metadata, **more})


LIVE = item(WORKSPACES, "live", metadata={"finalizers": [FINALIZER]})
LEAVING = item(WORKSPACES, "leaving", deleting=True, metadata={"finalizers": ["other", FINALIZER]})
FREED = item(WORKSPACES, "freed", deleting=True, metadata={"finalizers": ["other"]})
CLAIM = item(MACHINES, "ws1")
LEAVING_CLAIM = item(MACHINES, "ws2", deleting=True)
POOL = item(NODEPOOLS, "default-live", spec={"replicas": 2})
OF_POOL = item(NODECLAIMS, "default-live-x", metadata={"labels": {"karpenter.sh/nodepool": "default-live"}})


@pytest.mark.parametrize(
    ("there", "operator", "deleted", "released"),
    [
        (Costs((LIVE,), (CLAIM,)), True, [LIVE], []),
        (Costs((LEAVING,), (CLAIM,)), True, [], []),
        (Costs((), (CLAIM, LEAVING_CLAIM)), True, [CLAIM], []),
        (Costs((LIVE,), (CLAIM,)), False, [LIVE, CLAIM], []),
        (Costs((LEAVING,), (LEAVING_CLAIM,)), False, [], []),
        (Costs((LIVE, LEAVING, FREED)), False, [LIVE], [LEAVING]),
        (Costs((), (POOL, OF_POOL)), True, [POOL], []),
        (Costs((LIVE,), (POOL, OF_POOL)), False, [LIVE, POOL], []),
        (Costs((), (OF_POOL,)), True, [OF_POOL], []),
        (Costs(), True, [], []),
    ],
    ids=[
        "the operator ends claims itself",
        "it is at it",
        "claims without a Workspace",
        "without it both go",
        "a finalizer waits for the claims",
        "and only ours is taken",
        "a pool takes its claims along",
        "without an operator as well",
        "a claim whose pool is gone",
        "nothing",
    ],
)
def test_the_next_step(there: Costs, operator: bool, deleted: list[Item], released: list[Item]) -> None:
    step = next_for_costs(there, operator=operator)
    assert (list(step.deletions), list(step.releases)) == (deleted, released)
    assert step.waits == (*there.workspaces, *there.claims)


def test_groups_go_one_after_the_other() -> None:
    kinds = [group[0] for group in ORDER]
    left = [item(resource, "x", deleting=resource == DEPLOYMENTS) for resource in kinds]
    gone = []
    while (step := next_for_installation(left)).waits:
        gone += [each.resource for each in step.waits]
        assert step.deletions == tuple(each for each in step.waits if not each.deleting)
        left = [each for each in left if each not in step.waits]
    assert gone == kinds
    assert (gone[1], gone[-1]) == (DEPLOYMENTS, NAMESPACES)
    assert [propagation(item(each, "x")) for each in (DEPLOYMENTS, CONFIGMAPS)] == [
        "Foreground",
        "Background",
    ]


def test_what_is_waited_for_says_why() -> None:
    said = {"conditions": [{"type": "InstanceTerminating", "message": "the cloud is busy"}], "nodeName": "n1"}
    wanted = {"requirements": [{"key": "node.kubernetes.io/instance-type", "values": ["Standard_NC6s_v3"]}]}
    claim = item(NODECLAIMS, "ws3", status=said, spec=wanted)
    assert describe_claim(claim) == "NodeClaim ws3 (Standard_NC6s_v3, n1)"
    claims = [item(MACHINES, f"m{number}") for number in range(6)]
    assert waiting([claim, *claims]).splitlines() == [
        "waiting for 1 NodeClaim and 6 Machines",
        "  NodeClaim ws3 (Standard_NC6s_v3, n1): the cloud is busy",
        *(f"  Machine m{number}" for number in range(4)),
        "  and 2 more",
    ]
    assert counted([LIVE, LEAVING, CLAIM]) == "2 Workspaces and 1 Machine"
    assert counted([item(Resource("", "v1", "networkpolicies", "NetworkPolicy"), each) for each in "ab"]) == (
        "2 NetworkPolicies"
    )


@pytest.mark.parametrize(
    ("machine", "pool"),
    [
        ("virtualMachineScaleSets/aks-ws59dff6146-30211473-vmss/virtualMachines/0", "ws59dff6146"),
        ("VirtualMachineScaleSets/AKS-WS59DFF6146-30211473-VMSS/virtualMachines/0", "ws59dff6146"),
        ("virtualMachines/aks-ws59dff6146-30211473-vm0", "ws59dff6146"),
        ("virtualMachineScaleSets/somebodys/virtualMachines/0", ""),
    ],
)
def test_the_agent_pool_behind_a_claim_is_named(machine: str, pool: str) -> None:
    group = "azure:///subscriptions/s/resourceGroups/MC_g_c_eastus/providers/Microsoft.Compute"
    claim = item(NODECLAIMS, "ws59dff6146", status={"providerID": f"{group}/{machine}"})
    assert describe_claim(claim) == (
        f"NodeClaim ws59dff6146 (agent pool {pool})" if pool else "NodeClaim ws59dff6146"
    )


@pytest.mark.parametrize(
    ("labels", "ours"),
    [
        ({"kaito.sh/workspace-uid": "u"}, True),
        ({"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "default"}, True),
        ({"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "elsewhere"}, False),
        ({"kaito.sh/ragengine": "phi", "kaito.sh/ragenginenamespace": "default"}, False),
        ({"karpenter.sh/nodepool": "general"}, False),
        ({}, False),
    ],
)
async def test_a_claim_is_ours_by_its_labels(
    memory_api: MemoryApi, labels: dict[str, str], ours: bool
) -> None:
    await memory_api.load(*crd_manifests())
    client = memory_api.client()
    body: dict[str, Any] = {
        "metadata": {"name": "phi", "namespace": "default"},
        "inference": {"preset": {"name": "x"}},
    }
    body |= {"resource": {"labelSelector": {"matchLabels": {"a": "b"}}}}
    await client.create(WORKSPACES, with_type(body, WORKSPACES))
    machine = {"metadata": {"name": "m", "labels": labels}, "spec": {}}
    await client.create(MACHINES, with_type(machine, MACHINES))
    there = await costs(client)
    assert [len(there.claims), len(there.others)] == ([1, 0] if ours else [0, 1])


def of_workspace(name: str, **more: str) -> dict[str, str]:
    """Labels of the nodes of that Workspace's pool."""
    own = {"karpenter.kaito.sh/workspace-name": name, "karpenter.kaito.sh/workspace-namespace": "default"}
    return {**own, **more}


@pytest.mark.parametrize(
    ("labels", "of_nodes", "ours"),
    [
        ({"kaito.sh/workspace-uid": "u"}, of_workspace("gone"), True),
        ({}, of_workspace("phi"), True),
        ({}, of_workspace("elsewhere"), False),
        ({}, of_workspace("phi", **{"karpenter.kaito.sh/inferenceset": "set"}), False),
        ({"team": "web"}, {}, False),
    ],
    ids=["made here", "Go KAITO's", "of no Workspace that is here", "of an InferenceSet", "somebody else's"],
)
async def test_a_pool_and_its_claims_are_ours_by_labels(
    memory_api: MemoryApi, labels: dict[str, str], of_nodes: dict[str, str], ours: bool
) -> None:
    await memory_api.load(*crd_manifests(), nodepool_definition())
    client = memory_api.client()
    workspace: dict[str, Any] = {
        "metadata": {"name": "phi", "namespace": "default"},
        "inference": {"preset": {"name": "x"}},
        "resource": {"labelSelector": {"matchLabels": {"a": "b"}}},
    }
    await client.create(WORKSPACES, with_type(workspace, WORKSPACES))
    reference = {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"}
    spec = {"nodeClassRef": reference, "requirements": []}
    pool = {
        "metadata": {"name": "p", "labels": labels},
        "spec": {"replicas": 3, "template": {"metadata": {"labels": of_nodes}, "spec": spec}},
    }
    await client.create(NODEPOOLS, with_type(pool, NODEPOOLS))
    claim = {"metadata": {"name": "p-1", "labels": {**of_nodes, "karpenter.sh/nodepool": "p"}}, "spec": spec}
    await client.create(NODECLAIMS, with_type(claim, NODECLAIMS))
    there = await costs(client)
    found = [describe_claim(each) for each in there.claims]
    assert found == (["NodePool p (replicas: 3)", "NodeClaim p-1"] if ours else [])
    assert len(there.others) == (0 if ours else 2)


async def lease(memory_api: MemoryApi, **spec: Any) -> None:
    metadata = {"name": LEASE_NAME, "namespace": "somewhere"}
    client = memory_api.client()
    await client.create(NAMESPACES, {"metadata": {"name": "somewhere"}})
    await client.create(LEASES, {"metadata": metadata, "spec": {"leaseDurationSeconds": 15, **spec}})


async def test_a_lease_that_nobody_renews_is_no_operator(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    """Its time is not compared with ours: what counts is whether it moves."""
    assert "no Deployment kaito-operator" in await operator_runs(memory_api.client())
    await lease(memory_api, holderIdentity="me", renewTime="2099-01-01T00:00:00.000000Z")
    began = virtual_clock.now()
    assert "nobody renews a Lease kaito-operator" in await operator_runs(memory_api.client())
    assert virtual_clock.now() - began == 15.0


async def test_a_lease_that_moves_is_an_operator(memory_api: MemoryApi, virtual_clock: VirtualClock) -> None:
    await lease(memory_api, holderIdentity="me", renewTime="1999-01-01T00:00:00.000000Z")

    async def renew() -> None:
        await virtual_clock.sleep(2.5)
        patch = {"spec": {"renewTime": "1999-01-01T00:00:02.000000Z"}}
        await memory_api.client().patch(LEASES, LEASE_NAME, "somewhere", patch=patch)

    renewing = asyncio.create_task(renew())
    assert await operator_runs(memory_api.client()) == ""
    assert virtual_clock.now() == 3.0
    await renewing


async def test_it_speaks_when_something_changes_and_every_minute(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(*crd_manifests())
    labels = {"kaito.sh/workspace-uid": "u"}
    body = {
        "metadata": {"name": "m", "labels": labels, "finalizers": ["karpenter.sh/termination"]},
        "spec": {},
    }
    await memory_api.client().create(MACHINES, with_type(body, MACHINES))
    said: list[tuple[float, str]] = []

    async def nobody(prompt: str) -> str | None:
        raise AssertionError("--yes asks nothing")

    def say(text: str) -> None:
        said.append((virtual_clock.now(), text))

    async def cloud() -> None:
        await virtual_clock.sleep(10.5)
        condition = {"type": "InstanceTerminating", "status": "Unknown", "message": "the cloud is busy"}
        await memory_api.client().patch_status(MACHINES, "m", None, {"conditions": [condition]})

    working = asyncio.create_task(cloud())
    options = Options(yes=True, timeout=100.0)
    with pytest.raises(CliError) as raised:
        await Uninstall(memory_api.client(), options, say, nobody).run()
    await working
    assert raised.value.code == NOT_IN_TIME
    assert "goes on where this one stopped" in str(raised.value)
    waits = [(moment, text) for moment, text in said if text.startswith("[")]
    assert [round(moment, 6) for moment, _ in waits] == [0.0, 0.2, 11.0, 11.0 + REMINDER]
    assert waits[0][1] == "[0 s] removing 1 Machine"
    assert waits[1][1] == "[0 s] waiting for 1 Machine\n  Machine m"
    assert waits[2][1].endswith("the cloud is busy")

    await memory_api.client().patch(MACHINES, "m", patch={"metadata": {"finalizers": None}})
    said.clear()
    await Uninstall(memory_api.client(), replace(options, definitions=True), say, nobody).run()
    assert said[-1][1] == "KAITO is removed."


async def test_an_api_server_that_goes_away_is_waited_for(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(*crd_manifests())
    body = {"metadata": {"name": "m", "labels": {"kaito.sh/workspace-uid": "u"}}, "spec": {}}
    await memory_api.client().create(MACHINES, with_type(body, MACHINES))
    # The first list is for the question.
    memory_api.faults.add(Match(verb="list", resource="machines"), Refuse(), times=20, skip=1)
    memory_api.faults.add(Match(verb="list", resource="machines"), Answer(503), skip=1)
    said: list[str] = []

    async def nobody(prompt: str) -> str | None:
        raise AssertionError("--yes asks nothing")

    await Uninstall(memory_api.client(), Options(yes=True), said.append, nobody).run()
    assert any("the API server does not answer" in text for text in said)
    assert said[-1].startswith("KAITO is removed.")
    assert await memory_api.direct_client().list(MACHINES) == []


async def test_without_a_question_the_cluster_is_named() -> None:
    with pytest.raises(CliError) as raised:
        await run_uninstall(Options(yes=True), None, None)
    assert raised.value.code == NOT_CONFIRMED
    assert "--context" in str(raised.value)
