"""The operator and the provisioner as their service accounts, with the generated roles: nothing is refused, nothing is
granted that is not used, and nothing is asked for that nobody declared."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from kaito.api.resources import MACHINES, WORKSPACES
from kaito.cli.operator.config import OperatorConfig, ProvisionerConfig
from kaito.cli.operator.names import LEASE_NAME, PROVISIONER_LEASE_NAME, CloudName
from kaito.cli.operator.provisioner import provisioner_manager
from kaito.cli.operator.run import operator_manager
from kaito.cli.rbac.roles import NAMESPACE, operator_rights, provisioner_rights
from kaito.controllers.workspace import NodeProvisioner
from kaito.provisioner import existing
from kaito.provisioner.errors import CloudError
from kaito.runtime import access
from kaito.runtime.client import Client
from kaito.testing.faults import Faults
from support.cluster import GC_LIMIT, Object, World
from support.installed import applied, flags, installed, leader, replica, speaking_as
from support.rights import Account, apply_roles, roles
from support.rights_scenario import STEPS, Scene, lose_an_answer

pytestmark = pytest.mark.needs("workloads", "ready-pods")

MODES = (NodeProvisioner.MACHINE, NodeProvisioner.NODECLAIM)


@asynccontextmanager
async def operator(
    world: World, account: Account, mode: NodeProvisioner, faults: Faults
) -> AsyncIterator[asyncio.Event]:
    """One replica of `kaito operator`; setting the event stops it."""
    webhook = ("--webhook", "--webhook-bind-address=127.0.0.1:0")
    settings = flags("operator", OperatorConfig, f"--node-provisioner={mode}", *webhook)
    async with speaking_as(world, account, faults) as client:
        manager = operator_manager(client, world.clock, settings, NAMESPACE)
        async with replica(manager) as stop:
            yield stop


@asynccontextmanager
async def provisioner(world: World, account: Account, faults: Faults) -> AsyncIterator[None]:
    """Two replicas of `kaito provisioner`, the second of which waits."""
    settings = flags("provisioner", ProvisionerConfig, "--cloud-provider=existing")
    async with speaking_as(world, account, faults) as client:
        first = provisioner_manager(client, world.clock, settings, NAMESPACE)
        second = provisioner_manager(client.named("kaito-provisioner/2"), world.clock, settings, NAMESPACE)
        async with replica(first):
            await leader(world, PROVISIONER_LEASE_NAME)
            async with replica(second):
                yield


async def play(world: World, mode: NodeProvisioner, operators: Account, provisioners: Account) -> None:
    """The scenario once, with two replicas of the operator, the leader of which is stopped in the middle."""
    claims = mode.claims
    assert claims is not None
    faults = Faults(world.clock)
    lose_an_answer(faults, claims)
    cloud_faults = Faults(world.clock)
    scene = Scene(world, faults, cloud_faults, claims)
    world.stack.push_async_callback(scene.remove_nodes)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(provisioner(world, provisioners, cloud_faults))
        first = await stack.enter_async_context(operator(world, operators, mode, faults))

        before = await leader(world, LEASE_NAME)
        await stack.enter_async_context(operator(world, operators, mode, faults))
        for number, step in enumerate(STEPS):
            if number == 1:
                first.set()
                await leader(world, LEASE_NAME, other_than=before)
            await step.play(scene)
            assert not [*operators.refused, *provisioners.refused], step.what


async def test_the_rights_are_exactly_what_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # A provisioner tries again after half a minute; the scenario need not wait that long.
    monkeypatch.setattr(CloudError, "delay", 0.5)
    monkeypatch.setattr(existing, "RETRY", 0.5)
    operators, provisioners = Account("kaito-operator"), Account("kaito-provisioner")
    async with (
        installed(world),
        applied(world, roles("", "provisioner", "components/provisioner-cloud-existing")),
    ):
        for mode in MODES:
            operators.streams_lists = provisioners.streams_lists = mode is MODES[0]
            async with applied(world, roles(f"components/claims-{mode}")):
                await play(world, mode, operators, provisioners)
    declared = [right for mode in MODES for right in operator_rights(mode)]
    lenders = provisioner_rights(CloudName.EXISTING)
    assert operators.undeclared(declared) == []
    assert provisioners.undeclared(lenders) == []
    assert "; ".join(operators.unused(declared)) == ""
    assert "; ".join(provisioners.unused(lenders)) == ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_a_right_that_is_taken_away_is_named_and_comes_back(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "RETRY", 1.0)
    port = free_port()
    account = Account("kaito-operator")
    own = roles("")
    everywhere = next(each for each in own if each["kind"] == "ClusterRole")
    smaller = copy.deepcopy(everywhere)
    smaller["rules"] = [each for each in smaller["rules"] if each["resources"] != ["services"]]
    settings = replace(
        flags("operator", OperatorConfig, "--node-provisioner=byo", "--no-webhook"),
        health_probe_bind_address=f"127.0.0.1:{port}",
    )
    scene = Scene(world, Faults(world.clock), Faults(world.clock), MACHINES)

    async def ready(check: str = "") -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"http://127.0.0.1:{port}/readyz{check}") as answer:
                return answer.status == 200
        return False

    async def unready() -> bool:
        return not await ready("/rights")

    def missing() -> float:
        return manager.metrics.registry.get_sample_value("kaito_operator_missing_rights") or 0.0

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(installed(world))
        await stack.enter_async_context(applied(world, own))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        client = await stack.enter_async_context(speaking_as(world, account, Faults(world.clock)))
        manager = operator_manager(client, world.clock, settings, NAMESPACE)
        await stack.enter_async_context(replica(manager))
        await world.until(ready, "the operator is ready")
        assert missing() == 0
        world.stack.push_async_callback(scene.remove_nodes)
        await scene.add_nodes(apps=world.namespace)

        await apply_roles(world, [smaller])

        async def in_force() -> bool:
            return not await may(world, account, "patch", "services")

        await world.until(in_force, "the smaller role is in force")
        await scene.create("one", on_nodes_of(world.namespace))
        await world.until(unready, "a right is missing")
        assert missing() >= 1
        assert "a right is missing" in caplog.text
        told = [
            getattr(each, "fields", {}) for each in caplog.records if "a right is missing" in each.message
        ]
        assert ("patch", "services") in {(each.get("verb"), each.get("resource")) for each in told}
        status = (await world.client.get(WORKSPACES, "one", world.namespace)).get("status") or {}
        assert "services" in str(status), "the Workspace's author is told too"

        await apply_roles(world, [everywhere])
        await world.until(lambda: ready("/rights"), "the right is there again")
        await scene.until_ready("one")
        assert missing() == 0
        await world.client.delete(WORKSPACES, "one", world.namespace)
        await world.gone(WORKSPACES, "one", GC_LIMIT)


def on_nodes_of(label: str) -> Object:
    return {
        "resource": {"labelSelector": {"matchLabels": {"apps": label}}},
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
    }


async def may(world: World, account: Account, verb: str, resource: str) -> bool:
    """Whether the account has the right, as the API server tells itself."""
    wire = account.wire(world.backend)
    spec = {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": world.namespace}}
    kind = "SelfSubjectAccessReview"
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    try:
        client = Client(wire, clock=world.clock)
        answer = await client.json("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body=body)
    finally:
        await wire.close()
    return bool(answer["status"]["allowed"])
