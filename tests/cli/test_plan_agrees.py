"""The plan and the controller give the same answer: nodes, size, arguments of the server, what is remembered.

Every preset of the catalogue meets a sample of sizes, named, ranked or left out. The controller runs for real, in
virtual time, against stand-ins that make each claim a node of the size it asks for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from controllers.workspace.cluster import Cluster, cluster
from kaito.api.labels import CONCURRENCY_ANNOTATION, WORKSPACE_LABEL
from kaito.api.resources import MACHINES, WORKSPACES
from kaito.catalog import Preset, load_catalog
from kaito.catalog.prices import Prices
from kaito.cli.plan.report import WorkspacePlan, plan_workspace
from kaito.cli.plan.world import CLAIMS, WORKLOADS, instance_types
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.compare import difference
from kaito.runtime.resources import DEPLOYMENTS, STATEFULSETS
from kaito.runtime.testing import VirtualClock
from kaito.runtime.testing.virtual import EPOCH

Object = dict[str, Any]

CATALOG = load_catalog()
SIZES = [sku.name for sku in CATALOG.skus if sku.cloud == "azure" and not sku.unusable]
PRESETS = [each.name for each in CATALOG.presets if not each.deprecated]
MANY: int = 16
"""Nodes above which a Workspace is left out, to keep the test short."""
PARTS: int = 4


def priced(seed: str) -> WorkspaceConfig:
    """An operator that knows a price for every size; the amounts are made up."""
    chance = random.Random(seed)
    rows = [
        {
            "cloud": "azure",
            "region": "westeurope",
            "size": size,
            "per_hour": round(chance.uniform(0.5, 50), 2),
            "currency": "USD",
            "dated": "2026-01-02",
            "source": "http://127.0.0.1/",
        }
        for size in SIZES
    ]
    return WorkspaceConfig(prices=Prices.model_validate({"prices": rows}))


def samples(preset: Preset) -> Iterator[Object]:
    """What a user may write under `resource`; the same on every run."""
    chance = random.Random(preset.name)
    one, *several = chance.sample(SIZES, 4)
    count = chance.choice([None, 1, 2, 3])
    for wanted in (
        {"instanceType": one},
        {"instanceTypes": several},
        {},
        {"instanceType": one, "count": count},
    ):
        yield {key: value for key, value in wanted.items() if value is not None}


def workspaces(presets: list[str]) -> Iterator[Object]:
    for name in presets:
        preset = CATALOG.preset(name)
        assert preset is not None
        for number, resource in enumerate(samples(preset)):
            options = {"image": "registry.example.com/own:1"} if preset.private else {}
            if preset.gated:
                options |= {"modelAccessSecret": "hub"}
            label = f"{PRESETS.index(name)}-{number}"
            metadata: Object = {"name": f"ws-{label}", "namespace": "default"}
            if number % 2:
                metadata["annotations"] = {CONCURRENCY_ANNOTATION: str(1 + PRESETS.index(name) % 3)}
            yield {
                "apiVersion": WORKSPACES.api_version,
                "kind": WORKSPACES.kind,
                "metadata": metadata,
                "resource": {"labelSelector": {"matchLabels": {"for": label}}, **resource},
                "inference": {
                    "preset": {"name": name, "presetOptions": options} if options else {"name": name}
                },
            }


@pytest.mark.parametrize("part", range(PARTS))
async def test_plan_and_controller_give_the_same_answer(virtual_clock: VirtualClock, part: int) -> None:
    config = WorkspaceConfig() if part % 2 else priced(str(part))
    bodies = list(workspaces(PRESETS[part::PARTS]))
    plans = {each["metadata"]["name"]: plan_workspace(each, CATALOG, config, EPOCH, {}) for each in bodies}
    chosen = [each for each in bodies if plans[each["metadata"]["name"]].nodes <= MANY]
    assert len(chosen) > len(bodies) / 2
    async with cluster(virtual_clock, config) as world, world.operator(world.wire()):
        world.gpus = {sku.name: sku.gpus for sku in CATALOG.skus}
        for body in chosen:
            await world.client.create(WORKSPACES, body)
        for body in chosen:
            name = body["metadata"]["name"]
            await settle(world, name, plans[name])
        claims = await world.client.list(MACHINES)
        workloads = [*await world.client.list(DEPLOYMENTS), *await world.client.list(STATEFULSETS)]
        for body in chosen:
            name = body["metadata"]["name"]
            ours = [each for each in claims if each["metadata"]["labels"][WORKSPACE_LABEL] == name]
            mine = [each for each in workloads if each["metadata"]["name"] == name]
            compare(plans[name], world.status(name), ours, mine)
    kinds = {(plan.ok, plan.nodes > 1, len(plan.sizes) > 1) for plan in plans.values()}
    assert {(True, False, False), (True, False, True), (True, True, False), (False, False, False)} <= kinds


async def test_a_new_price_list_moves_nothing_that_runs(virtual_clock: VirtualClock) -> None:
    bodies = [
        each
        for each in workspaces(["phi-4", "mistral-7b-instruct"])
        if "instanceType" not in each["resource"]
    ]
    before, after = priced("last year"), priced("this year")
    names = [each["metadata"]["name"] for each in bodies]
    plans = [
        [plan_workspace(each, CATALOG, config, EPOCH, {}) for each in bodies] for config in (before, after)
    ]
    assert [plan.sizes[0] for plan in plans[0]] != [plan.sizes[0] for plan in plans[1]]
    async with cluster(virtual_clock, before) as world:
        world.gpus = {sku.name: sku.gpus for sku in CATALOG.skus}
        async with world.operator(world.wire()):
            for body in bodies:
                await world.client.create(WORKSPACES, body)
            for name, plan in zip(names, plans[0], strict=True):
                await settle(world, name, plan)
        there = [await world.client.list(each) for each in (WORKSPACES, MACHINES, DEPLOYMENTS, STATEFULSETS)]
        world.config = after
        wire = world.wire()
        async with world.operator(wire):
            await world.clock.sleep(60)
        now = [await world.client.list(each) for each in (WORKSPACES, MACHINES, DEPLOYMENTS, STATEFULSETS)]
        assert now == there
        assert wire.writes == []


async def settle(world: Cluster, name: str, plan: WorkspacePlan) -> None:
    deadline = world.clock.now() + 300
    while not is_settled(world, name, plan):
        assert world.clock.now() < deadline, (name, plan.problems, world.status(name))
        await world.clock.sleep(1)


def is_settled(world: Cluster, name: str, plan: WorkspacePlan) -> bool:
    if plan.ok:
        return world.holds("WorkspaceReady", name)
    conditions = world.status(name).get("conditions") or ()
    return any(each["type"] == "ResourceReady" and each["status"] == "False" for each in conditions)


def compare(plan: WorkspacePlan, status: Object, claims: list[Object], workloads: list[Object]) -> None:
    assert len(claims) == plan.nodes
    assert {tuple(instance_types(each)) for each in claims} <= {(plan.sizes[0].name,) if plan.sizes else ()}
    planned = [child for child in plan.children if child.kind in CLAIMS]
    assert [
        difference(one.body["spec"], other["spec"]) for one, other in zip(planned, claims, strict=True)
    ] in (
        [None] * len(claims),
        ["machineTemplateRef.name"] * len(claims),
    )
    pods = [child.body for child in plan.children if child.kind in WORKLOADS]
    assert [each["kind"] for each in pods] == [each["kind"] for each in workloads]
    assert [difference(one["spec"], other["spec"]) for one, other in zip(pods, workloads, strict=True)] in (
        [],
        [None],
    )
    if not plan.ok:
        return
    way, remembered = plan.ways[0], status["resolved"]["serving"]
    assert {
        key: remembered.get(key) for key in ("instanceType", "nodes", "copies", "runtime", "dtype", "context")
    } == {
        "instanceType": way.size,
        "nodes": way.nodes,
        "copies": way.copies,
        "runtime": way.runtime,
        "dtype": way.dtype,
        "context": way.context,
    }
    assert remembered.get("concurrency", 1) == way.sequences
    assert [remembered[key] for key in ("tensor", "pipeline", "data")] == [
        way.parallelism.tensor,
        way.parallelism.pipeline,
        way.parallelism.data,
    ]
