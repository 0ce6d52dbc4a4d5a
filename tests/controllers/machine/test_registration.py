"""A Node becomes its claim's: what is written onto it, once, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.machine.builders import GPU_TAINT, NC6, SHAPES
from controllers.machine.lives import (
    INSTANCE,
    NAME,
    NODE,
    POOL_LABEL,
    PROVIDER_ID,
    ScriptedCloud,
    controller,
    create,
    given_up,
    join,
    ready,
    stage,
    until,
    warnings,
)
from kaito.api import labels
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner import errors
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

STARTUP = {"key": "driver", "effect": "NoSchedule"}


def settled(world: ControlPlane) -> ScriptedCloud:
    cloud = ScriptedCloud(world.clock)
    cloud.answer = INSTANCE
    return cloud


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestNode:
    async def test_it_gets_what_the_claim_says_and_keeps_what_is_its_own(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, settled(world)):
            made = await create(
                world,
                shape,
                metadata={"annotations": {labels.DO_NOT_DISRUPT_ANNOTATION: "true"}},
                spec={"startupTaints": [STARTUP]},
            )
            await join(
                world,
                labels={POOL_LABEL: NAME, labels.INSTANCE_TYPE_LABEL: NC6, "apps": "old", "own": "kept"},
                annotations={"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
            )
            node = await world.client.get(NODES, NODE)
            claim = await world.client.get(shape.resource, NAME)
        found = node["metadata"]
        assert claim["metadata"]["labels"].items() <= found["labels"].items()
        assert found["labels"]["own"] == "kept"
        assert found["labels"]["apps"] == "phi-3"
        assert found["labels"][labels.REGISTERED_LABEL] == "true"
        assert labels.INITIALIZED_LABEL not in found["labels"]
        assert found["annotations"] == {
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            labels.DO_NOT_DISRUPT_ANNOTATION: "true",
        }
        assert node["spec"]["taints"] == [GPU_TAINT, STARTUP]
        assert found["finalizers"] == [labels.TERMINATION_FINALIZER]
        assert found["ownerReferences"] == [
            {
                "apiVersion": shape.resource.api_version,
                "kind": shape.resource.kind,
                "name": NAME,
                "uid": made["metadata"]["uid"],
                "blockOwnerDeletion": True,
            }
        ]
        assert claim["status"]["nodeName"] == NODE
        assert claim["status"]["providerID"] == PROVIDER_ID

    async def test_zone_and_capacity_type_reach_claim_and_node(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, settled(world)):
            await create(world, shape)
            await join(world)
            claim = await world.client.get(shape.resource, NAME)
            node = await world.client.get(NODES, NODE)
        for found in (claim, node):
            assert found["metadata"]["labels"][labels.ZONE_LABEL] == "westus3-1"
            assert found["metadata"]["labels"][labels.CAPACITY_TYPE_LABEL] == "on-demand"

    async def test_its_id_is_known_in_any_spelling(self, world: ControlPlane, shape: ClaimShape) -> None:
        async with controller(world, settled(world)):
            await create(world, shape)
            await join(world, provider_id=PROVIDER_ID.replace("resourceGroups/MC_rg", "RESOURCEGROUPS/mc_RG"))
            await ready(world)
            assert await stage(world, shape, "Ready") == ("True", "Ready")

    async def test_startup_taints_that_were_taken_away_stay_away(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, settled(world)):
            await create(world, shape, spec={"startupTaints": [STARTUP]})
            await join(world)
            await ready(world)
            assert await stage(world, shape, shape.initialized) == ("Unknown", "StartupTaintsExist")
            await world.client.patch(NODES, NODE, patch={"spec": {"taints": [GPU_TAINT]}})
            await world.clock.sleep(1)
            assert await stage(world, shape, "Ready") == ("True", "Ready")
        async with controller(world, settled(world)):
            await world.clock.sleep(60)
            node = await world.client.get(NODES, NODE)
        assert node["spec"]["taints"] == [GPU_TAINT]

    async def test_two_nodes_of_one_id_are_told_until_one_of_them_is_gone(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        async with controller(world, settled(world)):
            await join(world)
            await join(world, "twin", provider_id=PROVIDER_ID.lower())
            await create(world, shape)
            assert await stage(world, shape, shape.registered) == ("False", "MultipleNodesFound")
            for name in (NODE, "twin"):
                node = await world.client.get(NODES, name)
                assert "ownerReferences" not in node["metadata"]
            await world.client.delete(NODES, "twin")
            await ready(world)
            assert await stage(world, shape, "Ready") == ("True", "Ready")

    async def test_one_that_its_machine_makes_again_becomes_the_claims_again(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        """Somebody took the Node's finalizer off and deleted it; the kubelet adds it once more."""
        async with controller(world, settled(world)):
            await create(world, shape, spec={"startupTaints": [STARTUP]})
            await join(world)
            await world.client.patch(NODES, NODE, patch={"spec": {"taints": [GPU_TAINT]}})
            await ready(world)
            assert await stage(world, shape, "Ready") == ("True", "Ready")
            await world.client.patch(NODES, NODE, patch={"metadata": {"finalizers": None}})
            await world.client.delete(NODES, NODE)
            await world.clock.sleep(30)
            await join(world)
            await ready(world)
            node = await world.client.get(NODES, NODE)
            assert not await given_up(world, shape)
        assert node["spec"]["taints"] == [GPU_TAINT]
        assert node["metadata"]["finalizers"] == [labels.TERMINATION_FINALIZER]
        assert node["metadata"]["labels"][labels.REGISTERED_LABEL] == "true"
        assert node["metadata"]["labels"][labels.INITIALIZED_LABEL] == "true"

    async def test_one_that_the_cloud_removes_while_the_cluster_starts_is_let_go_and_taken_back(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = settled(world)
        async with controller(world, cloud):
            await create(world, shape)
            await join(world)
            await ready(world)
            cloud.refusal = errors.ClusterNotRunning("the cluster is starting", retry_after=60)
            await world.client.delete(NODES, NODE)
            await world.clock.sleep(600)
            assert not await given_up(world, shape)
            assert [each["metadata"]["name"] for each in await world.client.list(NODES)] == []
            await join(world)
            await ready(world)
            cloud.refusal = None
            await world.clock.sleep(600)
            assert not await given_up(world, shape)
            node = await world.client.get(NODES, NODE)
            assert await warnings(world) == []
        assert node["metadata"]["labels"][labels.REGISTERED_LABEL] == "true"
        assert "delete" not in dict(cloud.asked)


class TestNodeClass:
    async def test_its_label_comes_onto_claim_and_node(self, world: ControlPlane) -> None:
        async with controller(world, settled(world)):
            await create(world, NODECLAIM_SHAPE)
            await join(world)
            claim = await world.client.get(NODECLAIM_SHAPE.resource, NAME)
            node = await world.client.get(NODES, NODE)
        for found in (claim, node):
            assert found["metadata"]["labels"][labels.NODE_CLASS_LABEL] == "default"

    async def test_a_claim_that_another_provisioner_made_ready_gets_it_and_nothing_else(
        self, world: ControlPlane
    ) -> None:
        async with controller(world, settled(world)):
            await create(world, NODECLAIM_SHAPE)
            await join(world)
            await ready(world)
        for resource, name in ((NODECLAIM_SHAPE.resource, NAME), (NODES, NODE)):
            patch = {"metadata": {"labels": {labels.NODE_CLASS_LABEL: None}}}
            await world.client.patch(resource, name, patch=patch)
        world.requests.clear()
        async with controller(world, settled(world)):
            await world.clock.sleep(60)
            node = await world.client.get(NODES, NODE)
        assert node["metadata"]["labels"][labels.NODE_CLASS_LABEL] == "default"
        assert world.writes("kaito-machine") == [
            ("PATCH", f"{NODECLAIM_SHAPE.resource.path()}/{NAME}"),
            ("PATCH", f"/api/v1/nodes/{NODE}"),
        ]

    @pytest.mark.parametrize(
        "reference",
        [
            {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"},
            {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
        ],
        ids=lambda reference: reference["kind"],
    )
    async def test_claims_of_another_are_never_touched_whatever_their_labels_say(
        self, world: ControlPlane, reference: dict[str, Any]
    ) -> None:
        cloud = settled(world)
        async with controller(world, cloud):
            before = await create(world, NODECLAIM_SHAPE, spec={"nodeClassRef": reference})
            await join(world)
            await ready(world)
            cloud.wake()
            await until(world, 7200)
            after = await world.client.get(NODECLAIM_SHAPE.resource, NAME)
            node = await world.client.get(NODES, NODE)
            await world.client.delete(NODECLAIM_SHAPE.resource, NAME)
            await world.clock.sleep(60)
        assert after == before
        assert "finalizers" not in node["metadata"]
        assert world.writes("kaito-machine") == []
        assert cloud.asked == []
