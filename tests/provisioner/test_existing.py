"""Existing nodes: which one a claim gets, what is written onto it, and that giving it back undoes exactly that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from kaito.api import labels
from kaito.catalog import load_catalog
from kaito.provisioner import errors
from kaito.provisioner import existing_rules as rules
from kaito.provisioner.cloud import ClaimSpec, Instance, InstanceRef
from kaito.provisioner.existing import SELECTOR, ExistingNodes
from kaito.runtime.client import Client
from kaito.runtime.manager import Manager
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import NODES
from kaito.runtime.testing import json_response
from kaito.runtime.testing.virtual import EPOCH, VirtualClock
from support.control_plane import ControlPlane, control_plane

NC6 = "Standard_NC6s_v3"
NC12 = "Standard_NC12s_v3"
SKU_TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
CATALOG = load_catalog()
Object = dict[str, Any]


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


def wanted(**changes: Any) -> ClaimSpec:
    spec = ClaimSpec(
        "ws1",
        "uid-1",
        EPOCH,
        (NC6,),
        labels={"apps": "phi-3", labels.OS_LABEL: "linux", labels.WORKSPACE_LABEL: "ws"},
        annotations={"note": "hello"},
        taints=(SKU_TAINT,),
        requests={"storage": "50Gi"},
    )
    return replace(spec, **changes)


def a_node(name: str = "a", *, gpus: str | None = "1", ready: str = "True", **marks: str) -> Object:
    resources = {"cpu": "8", "memory": "64Gi", **({labels.GPU_RESOURCE: gpus} if gpus else {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kaito.sh/existing-node": "true", labels.OS_LABEL: "linux", **marks},
        },
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "capacity": resources,
            "allocatable": resources,
        },
    }


def changed(node: Object, *, labels: Object | None = None, **spec: Any) -> Object:
    node["metadata"]["labels"].update(labels or {})
    node["spec"].update(spec)
    return node


@asynccontextmanager
async def provider(
    world: ControlPlane, *nodes: Object, client: Client | None = None, **options: Any
) -> AsyncIterator[ExistingNodes]:
    """The provider with a cache of these nodes, which is followed inside the block."""
    for node in nodes:
        await world.client.create(NODES, node)
        await world.client.patch_status(NODES, node["metadata"]["name"], None, node["status"])
    manager = Manager(world.client.named("manager"), clock=world.clock)
    informer = manager.cache.informer(NODES)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    await world.clock.sleep(0.1)
    try:
        yield ExistingNodes(client or world.client.named("provider"), informer.lister, **options)
    finally:
        stop.set()
        await running


class TestRules:
    @pytest.mark.parametrize(
        ("node", "chosen", "obstacle"),
        [
            (a_node(), NC6, ""),
            (changed(a_node(), labels={labels.INSTANCE_TYPE_LABEL: NC6}), NC6, ""),
            (changed(a_node(), labels={labels.INSTANCE_TYPE_LABEL: "k3s"}), NC6, ""),
            (changed(a_node(), labels={labels.INSTANCE_TYPE_LABEL: NC12}), "", f"is a {NC12}, not {NC6}"),
            (a_node(gpus=None), "", "offers 0 of 1 nvidia.com/gpu"),
            (a_node(ready="Unknown"), "", "is not Ready"),
            (changed(a_node(), unschedulable=True), "", "is cordoned"),
            (changed(a_node(), labels={"apps": "other"}), "", "has the label apps=other, not phi-3"),
            (changed(a_node(), labels={rules.CLAIM_LABEL: "ws9", labels.REGISTERED_LABEL: "true"}), "",
             "is taken by ws9"),
            (changed(a_node(), labels={labels.REGISTERED_LABEL: "true"}), "", "is taken by another controller"),
            (changed(a_node(), labels={labels.GPU_MEMORY_LABEL: "8192"}), "",
             f"has GPUs of 8192 MiB, and those of {NC6} have 16384"),
            (changed(a_node(), labels={labels.GPU_MEMORY_LABEL: "16160"}), NC6, ""),
        ],
    )  # fmt: skip
    def test_which_node_fits(self, node: Object, chosen: str, obstacle: str) -> None:
        found = rules.fitting_type(node, wanted(), CATALOG)
        if obstacle:
            assert found[1] == obstacle
        else:
            assert found == (chosen, "")

    def test_a_request_that_the_node_does_not_offer(self) -> None:
        claim = wanted(requests={"storage": "1Ti", "example.com/fpga": "1"})
        assert rules.fitting_type(a_node(), claim, CATALOG) == ("", "offers no example.com/fpga")

    def test_the_first_type_whose_gpus_are_there(self) -> None:
        claim = wanted(instance_types=(NC12, NC6))
        assert rules.fitting_type(a_node(gpus="1"), claim, CATALOG) == (NC6, "")
        assert rules.fitting_type(a_node(gpus="2"), claim, CATALOG) == (NC12, "")

    def test_a_refusal_names_five_nodes_and_counts_the_others(self) -> None:
        many = [(f"n{number}", "is cordoned") for number in range(7)]
        text = rules.refusal(many, SELECTOR)
        assert text.count("is cordoned") == 5
        assert text.endswith("; and 2 more")

    def test_a_restore_note_that_somebody_destroyed_still_frees_the_node(self) -> None:
        node = changed(a_node(), labels={labels.WORKSPACE_LABEL: "ws", labels.REGISTERED_LABEL: "true"})
        node["metadata"] |= {"resourceVersion": "1", "annotations": {rules.RESTORE_ANNOTATION: "not json"}}
        patch = rules.returning_patch(node)
        assert patch["metadata"]["labels"] == {
            labels.WORKSPACE_LABEL: None,
            labels.REGISTERED_LABEL: None,
            rules.CLAIM_LABEL: None,
        }


async def test_a_claim_gets_a_node_marked_as_its_own(world: ControlPlane) -> None:
    async with provider(world, a_node()) as cloud:
        instance = await cloud.create(wanted())
    assert instance == Instance(
        "existing://a", NC6, "uid-1", capacity={labels.GPU_RESOURCE: "1"}, claim_name="ws1"
    )
    node = await world.client.get(NODES, "a")
    assert node["metadata"]["annotations"][labels.CLAIM_UID_ANNOTATION] == "uid-1"
    assert node["metadata"]["labels"][labels.INSTANCE_TYPE_LABEL] == NC6
    assert node["metadata"]["labels"][rules.CLAIM_LABEL] == "ws1"
    assert "providerID" not in node["spec"]
    assert "ownerReferences" not in node["metadata"]
    assert "finalizers" not in node["metadata"]


async def test_creating_again_finds_it_with_and_without_the_cache(world: ControlPlane) -> None:
    async with provider(world, a_node("a"), a_node("b")) as cloud:
        first = await cloud.create(wanted())
        # The cache has not seen the mark yet.
        assert await cloud.create(wanted()) == first
        await world.clock.sleep(0.1)
        world.requests.clear()
        assert await cloud.create(wanted()) == first
        assert world.writes("provider") == []
        assert (await cloud.create(wanted(name="ws2", uid="uid-2"))).provider_id == "existing://b"


async def test_nodes_that_have_the_users_labels_come_first(world: ControlPlane) -> None:
    async with provider(world, a_node("a"), a_node("b", apps="phi-3")) as cloud:
        assert (await cloud.create(wanted())).provider_id == "existing://b"


async def test_no_node_is_said_in_a_sentence_and_looking_again_costs_nothing(world: ControlPlane) -> None:
    unlabelled = a_node("other")
    del unlabelled["metadata"]["labels"]["kaito.sh/existing-node"]
    async with provider(world, unlabelled) as cloud:
        with pytest.raises(errors.InsufficientCapacity) as caught:
            await cloud.create(wanted())
        assert caught.value.message == (
            "no node has the label kaito.sh/existing-node=true; "
            "`kubectl label node NAME kaito.sh/existing-node=true` lends one to Workspaces"
        )
        assert (caught.value.why, caught.value.retry_after, caught.value.terminal) == (
            "AllocationFailure", 10.0, False,
        )  # fmt: skip
        assert world.writes("provider") == []


async def test_another_selector(world: ControlPlane) -> None:
    async with provider(world, a_node("a"), a_node("b", pool="lab"), selector="pool=lab") as cloud:
        assert (await cloud.create(wanted())).provider_id == "existing://b"
        await world.clock.sleep(0.1)
        with pytest.raises(
            errors.InsufficientCapacity, match="with the label pool=lab fits: b is taken by ws1"
        ):
            await cloud.create(wanted(name="ws2", uid="uid-2"))


async def test_claims_at_the_same_time_get_different_nodes(world: ControlPlane) -> None:
    names = [f"n{number}" for number in range(8)]
    async with provider(world, *(a_node(name) for name in names)) as cloud:
        claims = [wanted(name=f"ws{number}", uid=f"uid-{number}") for number in range(8)]

        async def persist(claim: ClaimSpec) -> Instance:
            while True:
                try:
                    return await cloud.create(claim)
                except errors.CloudError as error:
                    await world.clock.sleep(error.retry_after)

        got = await asyncio.gather(*map(persist, claims))
        assert sorted(each.provider_id for each in got) == [f"existing://{name}" for name in names]
        assert sorted(each.claim_uid for each in await cloud.list()) == sorted(each.uid for each in claims)


async def test_giving_back_leaves_the_node_as_it_was(world: ControlPlane) -> None:
    other = {"key": "mine", "effect": "NoSchedule"}
    before = changed(a_node(), labels={labels.INSTANCE_TYPE_LABEL: "k3s", "apps": "phi-3"}, taints=[other])
    async with provider(world, before) as cloud:
        claim = wanted()
        instance = await cloud.create(claim)
        # What the machine controller writes when it registers the Node, and somebody else meanwhile.
        written = {
            "labels": {
                **claim.labels,
                labels.REGISTERED_LABEL: "true",
                labels.INITIALIZED_LABEL: "true",
                "new": "1",
            },
            "annotations": dict(claim.annotations),
        }
        await world.client.patch(
            NODES, "a", patch={"metadata": written, "spec": {"taints": [other, SKU_TAINT]}}
        )
        assert await cloud.delete(InstanceRef(instance.provider_id)) is True
        assert await cloud.delete(InstanceRef(instance.provider_id)) is True
        assert await cloud.list() == []
        with pytest.raises(errors.InstanceNotFound):
            await cloud.get(InstanceRef(instance.provider_id))
    after = await world.client.get(NODES, "a")
    assert after["metadata"]["labels"] == {**before["metadata"]["labels"], "new": "1"}
    assert "annotations" not in after["metadata"]
    assert after["spec"]["taints"] == [other]


async def test_a_node_that_is_gone_is_given_back(world: ControlPlane) -> None:
    async with provider(world) as cloud:
        assert await cloud.delete(InstanceRef("existing://never")) is True
        for verb in (cloud.get, cloud.delete):
            with pytest.raises(errors.InstanceNotFound, match="is no existing node"):
                await verb(InstanceRef("azure:///x"))


async def test_a_change_in_between_is_tried_again(world: ControlPlane) -> None:
    faults = FaultScript()
    client = Client(
        MemoryTransport(world.server.handle, world.clock, faults), clock=world.clock, user_agent="p"
    )
    async with provider(world, a_node(), client=client) as cloud:
        # Another writer is quicker, and the cache does not know it yet.
        await world.client.patch(NODES, "a", patch={"metadata": {"labels": {"new": "1"}}})
        with pytest.raises(errors.InstancePending):
            await cloud.create(wanted())
        await world.clock.sleep(0.1)
        await cloud.create(wanted())
        faults.add(
            Fault(answer=lambda: json_response({"kind": "Status", "code": 409, "reason": "Conflict"}, 409)),
            matches=lambda request: request.method == "PATCH",
        )
        with pytest.raises(errors.CloudError) as caught:
            await cloud.delete(InstanceRef("existing://a"))
        assert caught.value.retry_after == 1.0
        assert await cloud.delete(InstanceRef("existing://a")) is True


@pytest.mark.parametrize("verb", ["create", "get", "delete", "list"])
async def test_an_api_server_that_fails_is_a_cloud_error(world: ControlPlane, verb: str) -> None:
    faults = FaultScript()
    faults.add(Fault(refuse="connection reset"), times=99)
    transport = MemoryTransport(world.server.handle, world.clock, faults)
    broken = Client(transport, clock=world.clock, user_agent="broken")
    async with provider(world, a_node(), client=broken) as cloud:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "create": lambda: cloud.create(wanted()),
            "get": lambda: cloud.get(InstanceRef("existing://a")),
            "delete": lambda: cloud.delete(InstanceRef("existing://a")),
            "list": cloud.list,
        }
        with pytest.raises(errors.CloudError) as caught:
            await calls[verb]()
    assert not caught.value.terminal
    assert not isinstance(caught.value, errors.InstanceNotFound)
