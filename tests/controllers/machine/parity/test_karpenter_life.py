"""Rules that Karpenter's own suites of launch, registration, initialization and liveness state, on virtual time.

Where a claim of KAITO goes on otherwise on purpose, the test's name says what it does, and its text why.
"""

from __future__ import annotations

from typing import Any

import pytest

from controllers.machine.builders import GPU_TAINT, NC6, SHAPES
from controllers.machine.lives import (
    INSTANCE,
    NAME,
    NODE,
    POOL_LABEL,
    ScriptedCloud,
    controller,
    create,
    given_up,
    join,
    message,
    ready,
    stage,
    until,
    warnings,
)
from kaito.api import labels
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape, Limits
from kaito.provisioner import errors
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

STARTUP = {"key": "example.com/starting", "effect": "NoSchedule"}
POOL = {POOL_LABEL: NAME, labels.INSTANCE_TYPE_LABEL: NC6}
pytestmark = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)


def launches(world: ControlPlane) -> ScriptedCloud:
    cloud = ScriptedCloud(world.clock)
    cloud.answer = INSTANCE
    return cloud


class TestLaunch:
    async def test_an_instance_sets_launched_and_nothing_else_true(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, launches(world)):
            await create(world, shape)
            assert await stage(world, shape, shape.launched) == ("True", shape.launched)
            assert (await stage(world, shape, shape.registered))[0] == "Unknown"
            assert (await stage(world, shape, shape.initialized))[0] == "Unknown"
            assert (await stage(world, shape, "Ready"))[0] == "Unknown"

    @pytest.mark.parametrize(
        "error",
        [
            errors.InsufficientCapacity("no machine left in westus3"),
            errors.QuotaReached("no quota left"),
            errors.CloudError("strange", reason="SomethingOfTheCloud"),
        ],
        ids=lambda error: error.why,
    )
    async def test_the_clouds_reason_and_words_stand_in_the_condition_and_the_claim_stays(
        self, world: ControlPlane, shape: ClaimShape, error: errors.CloudError
    ) -> None:
        """Karpenter deletes a claim for want of capacity, since its scheduler looks for other shapes then. A
        Workspace names its sizes; it sees the reason and takes the next of them, or keeps this claim waiting."""
        cloud = launches(world)
        cloud.answer = error
        async with controller(world, cloud):
            await create(world, shape)
            assert await stage(world, shape, shape.launched) == ("Unknown", error.why)
            assert await message(world, shape, shape.launched) == error.message
            assert not await given_up(world, shape)

    async def test_a_claim_that_nobody_marked_as_ours_is_ignored(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        spec = {"nodeClassRef": {"group": "example.com", "kind": "Other", "name": "x"}}
        cloud = launches(world)
        async with controller(world, cloud):
            made = await create(
                world,
                shape,
                metadata={"labels": {"apps": "x"}},
                spec=spec if shape is NODECLAIM_SHAPE else {},
            )
            await world.clock.sleep(60)
            assert await world.client.get(shape.resource, NAME) == made
        assert cloud.asked == []


class TestRegistration:
    async def test_labels_and_annotations_of_the_claim_come_onto_the_node(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, launches(world)):
            await create(world, shape, metadata={"annotations": {"example.com/a": "of claim"}})
            await join(world, labels={**POOL, "apps": "of-node"}, annotations={"example.com/a": "of node"})
            node = await world.client.get(NODES, NODE)
        assert node["metadata"]["labels"]["apps"] == "phi-3"
        assert node["metadata"]["annotations"]["example.com/a"] == "of claim"

    @pytest.mark.parametrize(
        ("mark", "expected"),
        [("true", []), ("false", [GPU_TAINT, STARTUP]), (None, [GPU_TAINT, STARTUP])],
    )
    async def test_taints_come_unless_the_node_says_true_and_nothing_else(
        self, world: ControlPlane, shape: ClaimShape, mark: str | None, expected: list[Any]
    ) -> None:
        found = {labels.DO_NOT_SYNC_TAINTS_LABEL: mark} if mark is not None else {}
        async with controller(world, launches(world)):
            await create(world, shape, spec={"startupTaints": [STARTUP]})
            await world.client.create(
                NODES,
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": NODE, "labels": {**POOL, **found}},
                    "spec": {"providerID": INSTANCE.provider_id},
                },
            )
            await world.clock.sleep(0.1)
            node = await world.client.get(NODES, NODE)
        assert node["spec"].get("taints", []) == expected
        assert node["metadata"]["labels"][labels.REGISTERED_LABEL] == "true"

    async def test_a_taint_that_the_node_has_already_is_not_put_on_twice(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, launches(world)):
            await create(world, shape)
            await join(world)
            node = await world.client.get(NODES, NODE)
        assert node["spec"]["taints"] == [GPU_TAINT]

    async def test_the_owner_is_named_once_beside_others(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        rack = await join(world, "rack", provider_id="azure:///rack", labels={})
        other = {"apiVersion": "v1", "kind": "Node", "name": "rack", "uid": rack["metadata"]["uid"]}
        async with controller(world, launches(world)):
            made = await create(world, shape)
            uid = made["metadata"]["uid"]
            mine = {
                "apiVersion": shape.resource.api_version,
                "kind": shape.resource.kind,
                "name": NAME,
                "uid": uid,
            }
            await join(world, ownerReferences=[other, mine])
            node = await world.client.get(NODES, NODE)
        assert [each["uid"] for each in node["metadata"]["ownerReferences"]] == [
            other["uid"],
            uid,
        ]

    @pytest.mark.parametrize("unregistered", [True, False])
    async def test_a_node_registers_with_the_mark_of_an_unregistered_one_and_without(
        self, world: ControlPlane, shape: ClaimShape, unregistered: bool
    ) -> None:
        taints = [{"key": labels.UNREGISTERED_TAINT, "effect": "NoExecute"}] if unregistered else []
        async with controller(world, launches(world)):
            await create(world, shape)
            await world.client.create(
                NODES,
                {
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": NODE, "labels": POOL},
                    "spec": {"providerID": INSTANCE.provider_id, "taints": taints},
                },
            )
            await world.clock.sleep(0.1)
            node = await world.client.get(NODES, NODE)
            assert await stage(world, shape, shape.registered) == ("True", shape.registered)
            assert await warnings(world) == []
        assert node["spec"]["taints"] == [GPU_TAINT]


class TestInitialization:
    async def test_a_claim_without_a_node_is_not_initialized(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, launches(world)):
            await create(world, shape)
            await until(world, 600)
            assert await stage(world, shape, shape.registered) == ("Unknown", "NodeNotFound")
            assert await stage(world, shape, shape.initialized) == ("Unknown", "AwaitingReconciliation")

    async def test_the_node_must_be_ready(self, world: ControlPlane, shape: ClaimShape) -> None:
        async with controller(world, launches(world)):
            await create(world, shape)
            await join(world)
            await ready(world, ready=False)
            assert await stage(world, shape, shape.initialized) == ("Unknown", "NodeNotReady")
            await ready(world)
            assert await stage(world, shape, shape.initialized) == ("True", shape.initialized)
            node = await world.client.get(NODES, NODE)
        assert node["metadata"]["labels"][labels.INITIALIZED_LABEL] == "true"

    async def test_what_was_requested_must_be_there(self, world: ControlPlane, shape: ClaimShape) -> None:
        requests = {"storage": "50Gi", "example.com/fpga": "1"}
        async with controller(world, launches(world)):
            await create(world, shape, spec={"resources": {"requests": requests}})
            await join(world)
            await ready(world)
            assert await stage(world, shape, shape.initialized) == ("Unknown", "ResourceNotRegistered")
            found = {"cpu": "6", labels.GPU_RESOURCE: "1", "example.com/fpga": "1"}
            status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": found}
            await world.client.patch_status(NODES, NODE, None, status)
            await world.clock.sleep(0.1)
            assert await stage(world, shape, "Ready") == ("True", "Ready")

    @pytest.mark.parametrize(
        ("taint", "reason"),
        [
            (STARTUP, "StartupTaintsExist"),
            ({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, "KnownEphemeralTaintsExist"),
            ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, "KnownEphemeralTaintsExist"),
            ({"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}, "KnownEphemeralTaintsExist"),
            (
                {"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"},
                "KnownEphemeralTaintsExist",
            ),
            ({"key": "readiness.k8s.io/network", "effect": "NoSchedule"}, "KnownEphemeralTaintsExist"),
        ],
        ids=lambda value: value["key"] if isinstance(value, dict) else "",
    )
    async def test_taints_of_a_node_that_starts_must_be_gone(
        self, world: ControlPlane, shape: ClaimShape, taint: dict[str, str], reason: str
    ) -> None:
        async with controller(world, launches(world)):
            await create(world, shape, spec={"startupTaints": [STARTUP]} if taint is STARTUP else {})
            await join(world)
            await world.client.patch(NODES, NODE, patch={"spec": {"taints": [GPU_TAINT, taint]}})
            await ready(world)
            assert await stage(world, shape, shape.initialized) == ("Unknown", reason)
            await world.client.patch(NODES, NODE, patch={"spec": {"taints": [GPU_TAINT]}})
            await world.clock.sleep(0.1)
            assert await stage(world, shape, "Ready") == ("True", "Ready")


class TestLiveness:
    @pytest.mark.parametrize("timeout", [900.0, 300.0])
    async def test_a_node_has_its_time_from_the_launch_and_no_less(
        self, world: ControlPlane, shape: ClaimShape, timeout: float
    ) -> None:
        cloud = ScriptedCloud(world.clock)
        cloud.answer = errors.QuotaReached("no quota left", retry_after=3600)
        async with controller(world, cloud, Limits(registration_timeout=timeout)):
            await create(world, shape)
            cloud.answer = INSTANCE
            await until(world, 3600 + timeout - 0.5)  # launched at 3600.1, which is written as 3600
            assert not await given_up(world, shape)
            await until(world, 3600 + timeout + 0.5)
            assert await given_up(world, shape)

    async def test_a_launch_has_its_time_and_no_less(self, world: ControlPlane, shape: ClaimShape) -> None:
        """Karpenter allows five minutes; AKS takes up to fifteen for a GPU pool."""
        async with controller(world, ScriptedCloud(world.clock)):
            await create(world, shape)
            await until(world, 1799.5)
            assert not await given_up(world, shape)
            await until(world, 1800.5)
            assert await given_up(world, shape)
