"""The instant cloud: what its Nodes look like, and that each verb may be repeated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kaito.api import labels
from kaito.provisioner import errors
from kaito.provisioner.cloud import ClaimSpec, Instance, InstanceRef
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import NODES
from kaito.runtime.testing.virtual import EPOCH, VirtualClock
from support.control_plane import ControlPlane, control_plane

TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
NC6 = "Standard_NC6s_v3"


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


def cloud(world: ControlPlane, **options: Any) -> InstantCloud:
    return InstantCloud(world.client, world.clock, **options)


def wanted(**changes: Any) -> ClaimSpec:
    spec = ClaimSpec("ws1", "uid-1", EPOCH, (NC6,), labels={"apps": "phi-3"}, taints=(TAINT,))
    return replace(spec, **changes)


async def test_an_instance_is_a_node_with_what_cloud_and_driver_put_on_it(world: ControlPlane) -> None:
    instance = await cloud(world).create(wanted())
    node = await world.client.get(NODES, "ws1")
    assert node["spec"]["providerID"] == instance.provider_id == "instant://ws1"
    found = node["metadata"]["labels"]
    assert found == {
        "apps": "phi-3",
        "node.kubernetes.io/instance-type": NC6,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": "ws1",
        "kaito.sh/instant-cloud": "true",
        "kaito.sh/machine-type": "gpu",
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.memory": "16384",
        "nvidia.com/gpu.product": found["nvidia.com/gpu.product"],
    }
    assert "V100" in found["nvidia.com/gpu.product"]
    assert TAINT in node["spec"]["taints"]
    assert {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}.items() <= node["spec"]["taints"][
        1
    ].items()
    assert instance.capacity == {"nvidia.com/gpu": "1"}
    assert instance.instance_type == NC6
    assert instance.claim_uid == "uid-1"


async def test_simulated_pods_only_where_asked_for(world: ControlPlane) -> None:
    await cloud(world, simulated_pods=True).create(wanted())
    assert (await world.client.get(NODES, "ws1"))["metadata"]["labels"][labels.SIMULATED_PODS_LABEL] == "true"


async def test_creating_again_is_finding_it(world: ControlPlane) -> None:
    first = await cloud(world).create(wanted())
    assert await cloud(world).create(wanted()) == first
    assert len(await world.client.list(NODES)) == 1


async def test_another_claim_of_the_same_name_does_not_get_it(world: ControlPlane) -> None:
    await cloud(world).create(wanted())
    with pytest.raises(errors.NameTaken, match="a Node named ws1 exists"):
        await cloud(world).create(wanted(uid="uid-2"))


async def test_delay_counts_from_the_claims_creation_even_over_a_restart(world: ControlPlane) -> None:
    claim = wanted(created=EPOCH + timedelta(seconds=10))
    with pytest.raises(errors.InstancePending) as caught:
        await cloud(world, delay=30).create(claim)
    assert caught.value.retry_after == 40
    await world.clock.sleep(40)
    assert (await cloud(world, delay=30).create(claim)).provider_id == "instant://ws1"


@pytest.mark.parametrize(
    ("types", "chosen"),
    [
        (("Standard_Nowhere", NC6), NC6),
        (("standard_nc6s_V3",), "standard_nc6s_V3"),
        (("Standard_D4s_v5",), "Standard_D4s_v5"),
    ],
)
async def test_the_first_type_that_exists(world: ControlPlane, types: tuple[str, ...], chosen: str) -> None:
    instance = await cloud(world).create(wanted(instance_types=types))
    assert instance.instance_type == chosen
    assert bool(instance.capacity) is ("NC6" in chosen.upper())


async def test_an_unknown_type_names_the_nearest(world: ControlPlane) -> None:
    with pytest.raises(errors.InstanceTypeUnavailable, match=NC6) as caught:
        await cloud(world).create(wanted(instance_types=("Standard_NC6s_v4",)))
    assert caught.value.terminal
    assert await world.client.list(NODES) == []


async def test_get_list_and_delete(world: ControlPlane) -> None:
    instance = await cloud(world).create(wanted())
    other = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "real"},
        "spec": {"providerID": "azure:///x"},
    }
    await world.client.create(NODES, other)
    assert await cloud(world).get(InstanceRef("instant://ws1")) == instance
    assert await cloud(world).list() == [instance]
    assert await cloud(world).delete(InstanceRef("instant://ws1")) is True
    assert await cloud(world).delete(InstanceRef("instant://ws1")) is True
    assert await cloud(world).list() == []
    with pytest.raises(errors.InstanceNotFound):
        await cloud(world).get(InstanceRef("instant://ws1"))
    with pytest.raises(errors.InstanceNotFound, match="no instance of the instant cloud"):
        await cloud(world).delete(InstanceRef("azure:///x"))
    assert [node["metadata"]["name"] for node in await world.client.list(NODES)] == ["real"]


async def test_a_node_that_is_being_deleted_is_an_instance_no_more(world: ControlPlane) -> None:
    await cloud(world).create(wanted())
    await world.client.patch(NODES, "ws1", patch={"metadata": {"finalizers": ["kaito.sh/keep"]}})
    assert await cloud(world).delete(InstanceRef("instant://ws1")) is True
    assert "deletionTimestamp" in (await world.client.get(NODES, "ws1"))["metadata"]
    with pytest.raises(errors.InstanceNotFound):
        await cloud(world).get(InstanceRef("instant://ws1"))
    with pytest.raises(errors.InstancePending, match="still going away"):
        await cloud(world).create(wanted())


async def test_a_node_of_that_name_that_is_not_the_clouds_is_not_deleted(world: ControlPlane) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "ws1"},
        "spec": {"providerID": "azure:///x"},
    }
    await world.client.create(NODES, node)
    assert await cloud(world).delete(InstanceRef("instant://ws1")) is True
    assert len(await world.client.list(NODES)) == 1


@pytest.mark.parametrize("verb", ["create", "get", "delete", "list"])
async def test_an_api_server_that_fails_is_a_cloud_error(world: ControlPlane, verb: str) -> None:
    faults = FaultScript()
    faults.add(Fault(refuse="connection reset"), times=99)
    transport = MemoryTransport(world.server.handle, world.clock, faults)
    broken = InstantCloud(Client(transport, clock=world.clock, user_agent="broken"), world.clock)
    calls = {
        "create": lambda: broken.create(wanted()),
        "get": lambda: broken.get(InstanceRef("instant://ws1")),
        "delete": lambda: broken.delete(InstanceRef("instant://ws1")),
        "list": broken.list,
    }
    with pytest.raises(errors.CloudError) as caught:
        await calls[verb]()
    assert not caught.value.terminal
    assert not isinstance(caught.value, errors.InstanceNotFound)


def test_errors_carry_a_reason_a_sentence_and_a_time() -> None:
    error = errors.Throttled("the cloud asks for patience", retry_after=7)
    assert (error.why, error.message, error.retry_after, error.terminal) == (
        "Throttled",
        "the cloud asks for patience",
        7,
        False,
    )
    assert errors.QuotaReached("x", reason="RegionalQuotaReached").why == "RegionalQuotaReached"
    assert Instance("a", "b").labels == {}
