"""The rights that the page about deployment grants are enough for an operator, with leader election and events."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import CONFIGMAPS, EVENTS, LEASES, NAMESPACES, Resource
from support.cluster import Object, Wire, World
from support.sample import CRD, GREETINGS, greeting, sample_operator

pytestmark = pytest.mark.needs("api")

PAGE = Path(__file__).parents[2] / "docs" / "runtime" / "deploying.md"
SYSTEM = "greeter-system"
USER = f"system:serviceaccount:{SYSTEM}:greeter"
PLURALS = {
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Deployment": "deployments",
}


def manifests() -> list[Object]:
    """The page's manifests, in their order."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("```yaml\n")
    return list(yaml.safe_load_all(rest.partition("```")[0]))


def resource_of(manifest: Object) -> Resource:
    group, _, version = str(manifest["apiVersion"]).rpartition("/")
    kind = manifest["kind"]
    return Resource(group, version, PLURALS[kind], kind, namespaced="namespace" in manifest["metadata"])


async def test_the_rights_on_the_page_are_enough(world: World) -> None:
    await world.define(yaml.safe_load(CRD.read_text()))
    space, *rest = manifests()
    assert {manifest["kind"] for manifest in rest} == set(PLURALS)
    await world.client.create(NAMESPACES, space)
    try:
        for manifest in rest:
            await world.client.create(resource_of(manifest), manifest)
        await runs_with_those_rights(world)
    finally:
        for manifest in rest:
            if "namespace" not in manifest["metadata"]:
                await world.client.delete(resource_of(manifest), manifest["metadata"]["name"])
        await world.client.delete(NAMESPACES, SYSTEM)


async def runs_with_those_rights(world: World) -> None:
    client = world.connect("greeter", "greeter", wire=Wire(world.backend, USER))
    election = LeaderElectionOptions("greeter", SYSTEM, identity="one")
    options = ManagerOptions(leader_election=election, grace_period=5.0)
    manager = Manager(client, clock=world.clock, options=options)
    sample_operator().setup(manager)

    async def greeted() -> bool:
        found = await world.find(GREETINGS, "hello")
        return bool(
            found
            and (found.get("status") or {}).get("ready")
            and await world.find(CONFIGMAPS, "greeting-hello")
            and await world.client.list(EVENTS, world.namespace)
        )

    async with world.running(manager):
        await world.client.create(GREETINGS, greeting("hello", world.namespace, "world"))
        await world.until(greeted, "ConfigMap, status and event")
        lease = await world.client.get(LEASES, "greeter", SYSTEM)
        assert lease["spec"]["holderIdentity"] == "one"
    lease = await world.client.get(LEASES, "greeter", SYSTEM)
    assert not lease["spec"].get("holderIdentity"), "given back at the end"
    refused = [each for each in world.requests if each.code == "403"]
    assert not refused
