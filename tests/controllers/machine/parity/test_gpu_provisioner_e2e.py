"""What gpu-provisioner's end-to-end suite shows on a real AKS, over the fake one and the real SDK, on virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.machine.builders import SHAPES, claim
from controllers.machine.lives import NAME, stage, until
from controllers.machine.provisioners import provisioner
from kaito.api import labels
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner.testing import FakeArm
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane

pytestmark = pytest.mark.usefixtures("kubelets")
READY = 400.0
"""Seconds after which a claim of the fake's five-minute operations is ready."""
GONE = 600.0
"""Seconds after which it is gone."""


async def is_gone(world: ControlPlane, shape: ClaimShape) -> bool:
    try:
        await world.client.get(shape.resource, NAME)
    except NotFound:
        return not await world.client.list(NODES)
    return False


async def one_ready_node(world: ControlPlane) -> dict[str, Any]:
    (node,) = await world.client.list(NODES)
    found = node["metadata"]["labels"]
    assert found[labels.REGISTERED_LABEL] == found[labels.INITIALIZED_LABEL] == "true"
    assert node["status"]["allocatable"][labels.GPU_RESOURCE] == "1"
    return dict(node)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
@pytest.mark.parametrize(
    "owner",
    [
        {labels.WORKSPACE_LABEL: "ws", labels.WORKSPACE_NAMESPACE_LABEL: "default"},
        {labels.RAGENGINE_LABEL: "rag", "kaito.sh/ragenginenamespace": "default"},
    ],
    ids=["workspace", "ragengine"],
)
async def test_a_claim_of_a_workspace_or_ragengine_becomes_one_ready_node(
    world: ControlPlane, fake: FakeArm, shape: ClaimShape, owner: dict[str, str]
) -> None:
    async with provisioner(world, fake):
        await world.client.create(shape.resource, claim(shape, metadata={"labels": owner}))
        await until(world, READY)
        assert await stage(world, shape, "Ready") == ("True", "Ready")
        node = await one_ready_node(world)
    assert owner.items() <= node["metadata"]["labels"].items()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
@pytest.mark.parametrize("what", ["claim", "node"])
async def test_deleting_the_claim_or_its_node_leaves_neither_nor_a_pool(
    world: ControlPlane, fake: FakeArm, shape: ClaimShape, what: str
) -> None:
    async with provisioner(world, fake):
        await world.client.create(shape.resource, claim(shape))
        await until(world, READY)
        node = await one_ready_node(world)
        if what == "claim":
            await world.client.delete(shape.resource, NAME)
        else:
            await world.client.delete(NODES, node["metadata"]["name"])
        await world.clock.sleep(GONE)
        assert await is_gone(world, shape)
        assert not fake.pools


async def test_a_claim_of_our_node_class_needs_no_label_of_kaito(world: ControlPlane, fake: FakeArm) -> None:
    async with provisioner(world, fake):
        made = claim(metadata={"labels": {"apps": "x"}})
        await world.client.create(NODECLAIM_SHAPE.resource, made)
        await until(world, READY)
        await one_ready_node(world)


async def test_a_claim_of_another_node_class_gets_no_finalizer_and_no_node(
    world: ControlPlane, fake: FakeArm
) -> None:
    reference = {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"}
    async with provisioner(world, fake):
        made = claim(metadata={"labels": {"apps": "x"}}, spec={"nodeClassRef": reference})
        await world.client.create(NODECLAIM_SHAPE.resource, made)
        await until(world, READY)
        found = await world.client.get(NODECLAIM_SHAPE.resource, NAME)
        assert "finalizers" not in found["metadata"]
        assert await world.client.list(NODES) == []
    assert fake.calls("put_pool") == []


@pytest.mark.parametrize(
    ("family", "sku"), [("azurelinux", "AzureLinux"), ("ubuntu", "Ubuntu"), (None, "Ubuntu")]
)
async def test_the_annotation_of_the_image_family_chooses_the_nodes_system(
    world: ControlPlane, fake: FakeArm, family: str | None, sku: str
) -> None:
    annotations = {labels.NODE_IMAGE_FAMILY_ANNOTATION: family} if family else {}
    async with provisioner(world, fake):
        await world.client.create(NODECLAIM_SHAPE.resource, claim(metadata={"annotations": annotations}))
        await until(world, READY)
        await one_ready_node(world)
        assert fake.pools[NAME].properties["osSKU"] == sku
