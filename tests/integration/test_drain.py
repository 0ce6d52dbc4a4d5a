"""A claim's end on an API server: a disruption budget, then a volume hold up the machine, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.machine.builders import claim
from kaito.api.conditions import find_condition
from kaito.api.crds import crd_manifests
from kaito.controllers import machine
from kaito.controllers.machine import NODECLAIM_SHAPE
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.resources import EVENTS, NODES, PODS, VOLUME_ATTACHMENTS, Resource
from support.cluster import Object, World

pytestmark = pytest.mark.needs("workloads", "ready-pods")

CLAIMS = NODECLAIM_SHAPE.resource
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


async def condition(world: World, name: str, type: str) -> Object:
    found = await world.find(CLAIMS, name) or {}
    return dict(find_condition((found.get("status") or {}).get("conditions"), type) or {})


async def a_pod(world: World, name: str, node: str, **metadata: Any) -> None:
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "example.com/c:1"}],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": world.meta(name, **metadata), "spec": spec}
    await world.client.create(PODS, body)

    async def ready() -> bool:
        found = await world.find(PODS, name) or {}
        ready = find_condition((found.get("status") or {}).get("conditions"), "Ready") or {}
        return ready.get("status") == "True"

    await world.until(ready, f"pod {name} is ready")


async def a_budget(world: World) -> None:
    """Allows no eviction of the pod with the label app=web, of which there is one; somebody has counted it."""
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    kind = {"apiVersion": BUDGETS.api_version, "kind": BUDGETS.kind}
    await world.client.create(BUDGETS, {**kind, "metadata": world.meta("budget"), "spec": spec})
    if world.backend.name == "embedded":
        return  # counts when it is asked

    async def counted() -> bool:
        found = await world.find(BUDGETS, "budget") or {}
        return bool((found.get("status") or {}).get("expectedPods"))

    await world.until(counted, "the budget is counted")


async def an_attachment(world: World, node: str) -> str:
    name = f"attachment-of-{node}"
    spec = {
        "attacher": "disk.csi.example.com",
        "nodeName": node,
        "source": {"persistentVolumeName": f"pv-of-{node}"},
    }
    kind = {"apiVersion": VOLUME_ATTACHMENTS.api_version, "kind": VOLUME_ATTACHMENTS.kind}
    await world.client.create(VOLUME_ATTACHMENTS, {**kind, "metadata": {"name": name}, "spec": spec})
    return name


async def test_a_budget_and_a_volume_hold_up_the_machine_and_say_so(world: World) -> None:
    for definition in crd_manifests():
        await world.define(definition)
    name = world.namespace
    manager = world.manager("kaito-provisioner/1")
    cloud = InstantCloud(
        manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER), world.clock, simulated_pods=True
    )
    machine.setup(manager, cloud)
    async with world.running(manager):
        await world.client.create(CLAIMS, claim(name=name))

        async def usable() -> bool:
            return (await condition(world, name, "Ready")).get("status") == "True"

        await world.until(usable, "the claim is ready")
        await a_pod(world, "web", name, labels={"app": "web"})
        await a_pod(world, "other", name)
        await a_budget(world)
        attachment = await an_attachment(world, name)
        await world.client.delete(CLAIMS, name)

        async def held_by_the_budget() -> bool:
            return "web: " in (await condition(world, name, "Drained")).get("message", "")

        await world.until(held_by_the_budget, "the claim says what its drain waits for")
        await world.gone(PODS, "other")
        assert "deletionTimestamp" not in (await world.client.get(PODS, "web", name))["metadata"]

        async def told() -> bool:
            found = await world.client.list(EVENTS, "default")
            about = [each for each in found if each["involvedObject"].get("name") == name]
            return any(each["reason"] == "FailedDraining" for each in about)

        await world.until(told, "an event says it, too")
        await world.client.delete(BUDGETS, "budget", name)
        await world.gone(PODS, "web")

        async def held_by_the_volume() -> bool:
            return (await condition(world, name, "VolumesDetached")).get(
                "reason"
            ) == "AwaitingVolumeDetachment"

        await world.until(held_by_the_volume, "the claim says what it waits for")
        assert (await condition(world, name, "Drained"))["status"] == "True"
        assert await world.find(NODES, name) is not None
        await world.client.delete(VOLUME_ATTACHMENTS, attachment)
        await world.gone(CLAIMS, name)
        await world.gone(NODES, name)
