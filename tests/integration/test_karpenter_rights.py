"""The operator as its service account with the generated roles of karpenter mode: nothing is refused, what is granted
for the pools is used, and nothing is asked for that nobody declared."""

from __future__ import annotations

import contextlib

import pytest

from integration.test_karpenter import NAME, node_of_ones_own, ready, seed, status, until_gone
from integration.test_operator_rights import applied, flags, installed, replica, speaking_as
from kaito.api.resources import NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.cli.operator.config import OperatorConfig
from kaito.cli.operator.run import operator_manager
from kaito.cli.rbac.roles import NAMESPACE, claim_rights, operator_rights
from kaito.controllers.workspace import NodeProvisioner
from kaito.controllers.workspace.names import pool_name
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.resources import NODES
from kaito.testing.faults import DelayEvents, Faults, LoseAnswer, Match
from kaito.testing.nodepool import nodepool_definition
from support import karpenter_core
from support.cluster import Object, World
from support.rights import Account, roles
from support.rights_scenario import weights_are_looked_at

pytestmark = pytest.mark.needs("workloads", "ready-pods")

MODE = NodeProvisioner.KARPENTER


def earlier_claim(world: World) -> Object:
    """A NodeClaim that the operator made for the Workspace when it still made claims itself, and that has failed."""
    labels = {"kaito.sh/workspace": NAME, "kaito.sh/workspacenamespace": world.namespace}
    reference = {"group": "nobody.example.com", "kind": "Nothing", "name": "default"}
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {"name": f"earlier-{world.namespace}", "labels": labels},
        "spec": {"nodeClassRef": reference, "requirements": []},
    }


async def test_the_rights_of_karpenter_mode_are_exactly_what_is_used(world: World) -> None:
    client, pool, label = world.client, pool_name(world.namespace, NAME), f"apps-{world.namespace}"
    account, faults = Account("kaito-operator"), Faults(world.clock)
    # The pool is made, its maker does not know it, and its cache shows it late.
    faults.add(Match(verb="watch", resource="nodepools"), DelayEvents(1.0), times=None, at_least=0)
    faults.add(Match(verb="create", resource="nodepools"), LoseAnswer())
    settings = flags("operator", OperatorConfig, f"--node-provisioner={MODE}", "--no-webhook")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(installed(world))
        await world.define(nodepool_definition())
        await stack.enter_async_context(applied(world, roles("", f"components/claims-{MODE}")))
        karpenter = world.manager(karpenter_core.AGENT)
        named = karpenter.client.named(karpenter_core.AGENT, "karpenter")
        karpenter_core.setup(karpenter, InstantCloud(named, world.clock, simulated_pods=True))
        await stack.enter_async_context(world.running(karpenter))
        speaker = await stack.enter_async_context(speaking_as(world, account, faults))
        manager = operator_manager(speaker, world.clock, settings, NAMESPACE)
        await stack.enter_async_context(replica(manager))
        node = await node_of_ones_own(world, label)
        stack.push_async_callback(client.delete, NODES, node)

        await client.create(NODECLAIMS, earlier_claim(world))
        failed = {"type": "Launched", "status": "False", "reason": "LaunchFailed", "message": "none"}
        failed["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        await client.patch_status(
            NODECLAIMS, earlier_claim(world)["metadata"]["name"], None, {"conditions": [failed]}
        )
        body = seed(world, count=2, labelSelector={"matchLabels": {"apps": label}})
        await client.create(WORKSPACES, body)
        await world.until(lambda: ready(world), "WorkspaceReady")
        await world.gone(NODECLAIMS, earlier_claim(world)["metadata"]["name"])
        await client.delete(NODES, node)

        async def two_of_the_pool() -> bool:
            replicas = (await client.get(NODEPOOLS, pool))["spec"]["replicas"]
            return replicas == 2 and node not in ((await status(world)).get("workerNodes") or ())

        await world.until(two_of_the_pool, "another node is in its place")
        await weights_are_looked_at(world)
        await client.delete(WORKSPACES, "own", world.namespace)
        await world.gone(WORKSPACES, "own")
        await until_gone(world)
        assert [each for each in faults.injected if each.call.verb == "create"], "the answer was lost"
    assert account.refused == []
    assert account.undeclared(operator_rights(MODE, webhook=False)) == []
    assert "; ".join(account.unused(claim_rights(MODE))) == ""
