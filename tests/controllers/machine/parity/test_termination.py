"""Karpenter's suites of claim and Node termination, and gpu-provisioner's end-to-end cases of deletion."""

from __future__ import annotations

import orjson
import pytest

from controllers.machine.builders import SHAPES, claim
from controllers.machine.lives import controller
from controllers.machine.parity.ends import (
    NAME,
    Pools,
    a_claim,
    a_daemon_set,
    a_node,
    a_pod,
    an_attachment,
    condition,
    delete,
    ends,
    events,
    is_gone,
    leaving,
    owner,
    turn,
)
from kaito.api import labels
from kaito.controllers import machine
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner.errors import ClusterNotRunning, Unauthorized
from kaito.runtime.errors import Forbidden, Invalid
from kaito.runtime.memory_transport import BufferedResponse
from kaito.runtime.resources import NODES, PODS, PVCS, VOLUME_ATTACHMENTS
from kaito.runtime.transport import Request, Response
from support.control_plane import ControlPlane

CLAIMS = NODECLAIM_SHAPE.resource


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestBothKinds:
    async def test_deleting_the_claim_leaves_no_claim_no_node_and_no_instance(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, shape)
            await delete(world, shape)
            await world.clock.sleep(1)
            assert await is_gone(world, shape.resource)
            assert await is_gone(world, NODES)
        assert cloud.instances == {}

    async def test_deleting_the_node_leaves_no_claim_no_node_and_no_instance(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, shape)
            await world.client.delete(NODES, NAME)
            await world.clock.sleep(1)
            assert await is_gone(world, shape.resource)
            assert await is_gone(world, NODES)
        assert cloud.instances == {}

    async def test_the_machine_ends_after_the_pods_and_not_before(
        self, world: ControlPlane, shape: ClaimShape
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, shape)
            await a_pod(world)
            await delete(world, shape)
            assert await leaving(world, "web") == [True]
            status, reason, told = await condition(world, "Drained", shape)
            assert (status, reason) == ("Unknown", "Draining")
            assert NAME in told
            await world.clock.sleep(29)
            assert cloud.deletions == []
            await ends(world, "web")
            assert cloud.instances == {}
            await world.clock.sleep(1)
            assert await is_gone(world, shape.resource)


class TestClaims:
    async def test_the_finalizers_stay_while_the_instance_exists_and_the_conditions_say_how_far_it_is(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        cloud.stays = True
        async with controller(world, cloud):
            await a_claim(world)
            await delete(world)
            for type in ("Drained", "VolumesDetached", "InstanceTerminating"):
                assert (await condition(world, type))[0] == "True"
            await world.clock.sleep(3600)
            assert not await is_gone(world, CLAIMS)
            node = await world.client.get(NODES, NAME)
            assert labels.TERMINATION_FINALIZER in node["metadata"]["finalizers"]
            assert len(cloud.deletions) > 100, "it is asked until it is really gone"
            cloud.stays = False
            await world.clock.sleep(6)
            assert await is_gone(world, CLAIMS)
            assert await is_gone(world, NODES)

    async def test_what_is_gone_for_good_is_not_asked_for_again(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await delete(world)
            await world.clock.sleep(1)
            assert await is_gone(world, CLAIMS)
        assert len(cloud.deletions) == 1

    async def test_a_provider_that_cannot_end_it_is_asked_again_when_it_says(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        cloud.cannot_delete = Unauthorized("may not delete agent pools; grant the role", retry_after=60)
        async with controller(world, cloud):
            await a_claim(world)
            await delete(world)
            assert (await condition(world, "InstanceTerminating"))[:2] == ("Unknown", "Unauthorized")
            await world.clock.sleep(59)
            assert len(cloud.deletions) == 1
            cloud.cannot_delete = None
            await world.clock.sleep(2)
            assert await is_gone(world, CLAIMS)
            assert len(await events(world, "Unauthorized")) == 1

    async def test_nothing_is_ended_while_the_cluster_is_not_running(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        cloud.refusal = ClusterNotRunning("the cluster is stopped; start it", retry_after=60)
        async with controller(world, cloud):
            await a_claim(world)
            await delete(world)
            await world.clock.sleep(3600)
            assert cloud.deletions == []
            assert (await condition(world, "InstanceTerminating"))[1] == "ClusterNotRunning"
            cloud.refusal = None
            await world.clock.sleep(61)
            assert await is_gone(world, CLAIMS)

    async def test_a_claim_that_was_never_launched_ends_without_a_node(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await world.client.create(CLAIMS, claim())
            await world.clock.sleep(0.1)
            await delete(world)
            assert await is_gone(world, CLAIMS)
        assert cloud.instances == {}

    async def test_a_node_of_a_claim_that_is_not_registered_is_left_alone(self, world: ControlPlane) -> None:
        """Two Nodes with one id: the claim never becomes theirs, and its end is not theirs."""
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_node(world, "one", provider_id=f"azure:///vmss/{NAME}")
            await a_node(world, "two", provider_id=f"azure:///vmss/{NAME}")
            await world.client.create(CLAIMS, claim())
            await world.clock.sleep(0.1)
            assert (await condition(world, "Registered"))[1] == "MultipleNodesFound"
            await a_pod(world, node="one")
            await delete(world)
            await world.clock.sleep(1)
            assert await leaving(world, "web") == [False]
            assert cloud.instances == {}

    async def test_all_nodes_of_a_claim_are_waited_for(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_node(world, "second", provider_id=f"azure:///vmss/{NAME}")
            await a_pod(world, "one")
            await a_pod(world, "two", node="second")
            await delete(world)
            await ends(world, "one")
            assert await leaving(world, "two") == [True]
            assert cloud.deletions == []
            await ends(world, "two")
            assert cloud.instances == {}

    async def test_an_invalid_claim_of_older_days_goes_although_no_status_can_be_written(
        self, world: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            refused = refuse_status(world, monkeypatch)
            cloud.stays = True
            await a_pod(world)
            await delete(world)
            await ends(world, "web")
            await world.clock.sleep(30)
            assert refused, "it was tried"
            cloud.stays = False
            await world.clock.sleep(6)
            assert await is_gone(world, CLAIMS)
            assert await is_gone(world, NODES)

    async def test_a_settled_claim_costs_nothing_and_its_pods_are_not_followed(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_pod(world)
            world.requests.clear()
            await world.clock.sleep(9 * 3600)
            assert world.writes(machine.USER_AGENT) == []

    async def test_a_blocked_drain_costs_no_requests_while_nothing_changes(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            kept = {labels.DO_NOT_DISRUPT_ANNOTATION: "true"}
            await a_pod(world, metadata={"annotations": kept})
            await delete(world)
            assert await leaving(world, "web") == [False]
            (event,) = await events(world, "FailedDraining")
            assert "default/web" in event["message"]
            await world.clock.sleep(60)
            world.requests.clear()
            await world.clock.sleep(3600)
            assert [each for each in world.writes(machine.USER_AGENT) if each[0] != "GET"] == []
            await world.client.patch(PODS, "web", "default", patch={"metadata": {"annotations": None}})
            await world.clock.sleep(0.1)
            assert await leaving(world, "web") == [True], "that it may go now is an event"


class TestNodes:
    async def test_pods_go_in_tiers_strictly_one_after_the_other(self, world: ControlPlane) -> None:
        critical = {"priorityClassName": "system-node-critical"}
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            daemon = await a_daemon_set(world)
            await a_pod(world, "plain")
            await a_pod(world, "daemon", metadata=daemon)
            await a_pod(world, "critical", **critical)
            await a_pod(world, "critical-daemon", metadata=daemon, **critical)
            tiers = ["plain", "daemon", "critical", "critical-daemon"]
            await delete(world)
            while tiers:
                assert await leaving(world, *tiers) == [True, *[False] * (len(tiers) - 1)]
                assert cloud.deletions == []
                await ends(world, tiers.pop(0))
            assert cloud.instances == {}

    async def test_static_tolerating_and_finished_pods_hold_up_nothing_and_stay(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        cloud.stays = True
        async with controller(world, cloud):
            await a_claim(world)
            node = await world.client.get(NODES, NAME)
            await a_pod(world, "static", metadata={"ownerReferences": [owner(node)]})
            await a_pod(world, "tolerates", tolerations=[{"operator": "Exists"}])
            await a_pod(world, "over")
            await world.client.patch_status(PODS, "over", "default", {"phase": "Succeeded"})
            await delete(world)
            assert cloud.deletions != []
            assert await leaving(world, "static", "tolerates", "over") == [False, False, False]

    async def test_a_pod_that_does_not_end_holds_it_up_for_a_minute_past_its_grace_period(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_pod(world, terminationGracePeriodSeconds=30)
            begun = world.clock.now()
            await delete(world)
            await world.clock.sleep(begun + 88 - world.clock.now())
            assert cloud.deletions == []
            await world.clock.sleep(begun + 92 - world.clock.now())
            assert cloud.instances == {}

    async def test_a_lost_machine_under_a_node_that_is_not_ready_is_not_waited_for(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_pod(world)
            await turn(world, ready="Unknown")
            cloud.instances.clear()
            await delete(world)
            assert await leaving(world, "web") == [False]
            assert await is_gone(world, CLAIMS)
            assert await is_gone(world, NODES)

    async def test_a_ready_node_is_drained_although_the_cloud_says_its_machine_is_gone(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_pod(world)
            cloud.instances.clear()
            await delete(world)
            assert await leaving(world, "web") == [True]
            assert not await is_gone(world, CLAIMS)

    async def test_the_node_is_tainted_and_leaves_the_load_balancers_at_once(
        self, world: ControlPlane
    ) -> None:
        async with controller(world, Pools(world.clock)):
            await a_claim(world)
            await a_pod(world)
            await delete(world)
            node = await world.client.get(NODES, NAME)
            taint = {"key": labels.DISRUPTED_TAINT, "effect": "NoSchedule"}
            assert taint in node["spec"]["taints"]
            assert node["metadata"]["labels"][labels.EXCLUDE_FROM_LB_LABEL] == "karpenter"

    async def test_a_node_of_nobody_with_our_finalizer_is_somebody_elses(self, world: ControlPlane) -> None:
        """Karpenter's own Nodes carry the same finalizer."""
        async with controller(world, Pools(world.clock)):
            await a_node(world, "karpenters")
            finalizers = {"metadata": {"finalizers": [labels.TERMINATION_FINALIZER]}}
            await world.client.patch(NODES, "karpenters", patch=finalizers)
            await world.client.delete(NODES, "karpenters")
            await world.clock.sleep(600)
            assert not await is_gone(world, NODES, "karpenters")


async def a_volumes_claim(world: ControlPlane, name: str, volume: str) -> None:
    """A PersistentVolumeClaim that is bound."""
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": volume,
        },
    }
    await world.client.create(PVCS, body)


class TestVolumes:
    async def test_attached_volumes_are_waited_for_and_their_going_is_an_event(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await an_attachment(world, "pv-1")
            await an_attachment(world, "pv-elsewhere", node="other")
            await delete(world)
            assert (await condition(world, "Drained"))[0] == "True"
            status, reason, told = await condition(world, "VolumesDetached")
            assert (status, reason) == ("Unknown", "AwaitingVolumeDetachment")
            assert "pv-1" in told
            await world.clock.sleep(600)
            assert cloud.deletions == []
            await world.client.delete(VOLUME_ATTACHMENTS, "of-pv-1")
            await world.clock.sleep(0.1)
            assert cloud.instances == {}

    async def test_volumes_of_pods_that_stay_are_not_waited_for(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_volumes_claim(world, "data", "pv-stays")
            volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
            await a_pod(world, "stays", tolerations=[{"operator": "Exists"}], volumes=volumes)
            await an_attachment(world, "pv-stays")
            await delete(world)
            assert cloud.instances == {}

    async def test_where_it_cannot_be_read_whose_they_are_all_are_waited_for_and_the_claim_says_why(
        self, world: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handle, forbidden = world.server.handle, Forbidden("persistentvolumeclaims is forbidden")

        async def refusing(request: Request) -> Response:
            if "persistentvolumeclaims" not in request.path:
                return await handle(request)
            return BufferedResponse(forbidden.status, orjson.dumps(forbidden.to_status()))

        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world)
            await a_volumes_claim(world, "data", "pv-1")
            volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
            await a_pod(world, "stays", tolerations=[{"operator": "Exists"}], volumes=volumes)
            await an_attachment(world, "pv-1")
            monkeypatch.setattr(world.server, "handle", refusing)
            await delete(world)
            status, reason, told = await condition(world, "VolumesDetached")
            assert (status, reason) == ("Unknown", "AwaitingVolumeDetachment")
            assert "pv-1" in told
            assert "persistentvolumeclaims is forbidden" in told
            await world.clock.sleep(600)
            assert cloud.deletions == []
            assert len(await events(world, "FailedDraining")) == 1
            monkeypatch.setattr(world.server, "handle", handle)
            await world.clock.sleep(11)
            assert cloud.instances == {}

    async def test_past_the_deadline_volumes_are_not_waited_for(self, world: ControlPlane) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, spec={"terminationGracePeriod": "5m"})
            await an_attachment(world, "pv-1")
            begun = world.clock.now()
            await delete(world)
            await world.clock.sleep(begun + 297 - world.clock.now())
            assert cloud.deletions == []
            await world.clock.sleep(begun + 302 - world.clock.now())
            assert cloud.instances == {}


class TestTerminationGracePeriod:
    async def test_it_is_noted_on_the_claim_and_never_overwritten(self, world: ControlPlane) -> None:
        async with controller(world, Pools(world.clock)):
            await a_claim(world, spec={"terminationGracePeriod": "1h"})
            await a_pod(world, metadata={"annotations": {labels.DO_NOT_DISRUPT_ANNOTATION: "true"}})
            await delete(world)
            found = (await world.client.get(CLAIMS, NAME))["metadata"]
            noted = found["annotations"][labels.TERMINATION_TIMESTAMP_ANNOTATION]
            assert noted > found["deletionTimestamp"]
            await turn(world, ready="True")
            again = (await world.client.get(CLAIMS, NAME))["metadata"]["annotations"]
            assert again[labels.TERMINATION_TIMESTAMP_ANNOTATION] == noted

    async def test_without_one_nothing_is_noted(self, world: ControlPlane) -> None:
        async with controller(world, Pools(world.clock)):
            await a_claim(world)
            await a_pod(world, metadata={"annotations": {labels.DO_NOT_DISRUPT_ANNOTATION: "true"}})
            await delete(world)
            assert "annotations" not in (await world.client.get(CLAIMS, NAME))["metadata"]

    async def test_a_protected_pod_is_deleted_early_enough_to_have_its_grace_period(
        self, world: ControlPlane
    ) -> None:
        cloud = Pools(world.clock)
        async with controller(world, cloud):
            await a_claim(world, spec={"terminationGracePeriod": "10m"})
            kept = {"annotations": {labels.DO_NOT_DISRUPT_ANNOTATION: "true"}}
            await a_pod(world, metadata=kept, terminationGracePeriodSeconds=120)
            begun = world.clock.now()
            await delete(world)
            await world.clock.sleep(begun + 477 - world.clock.now())
            assert await leaving(world, "web") == [False]
            await world.clock.sleep(begun + 482 - world.clock.now())
            assert await leaving(world, "web") == [True]
            pod = await world.client.get(PODS, "web", "default")
            assert 115 <= pod["metadata"]["deletionGracePeriodSeconds"] <= 120
            assert cloud.deletions == []
            await world.clock.sleep(begun + 603 - world.clock.now())
            assert cloud.instances == {}, "the machine goes at the deadline whatever the pod does"

    async def test_a_pod_that_needs_longer_than_that_is_deleted_at_once_with_what_there_is(
        self, world: ControlPlane
    ) -> None:
        async with controller(world, Pools(world.clock)):
            await a_claim(world, spec={"terminationGracePeriod": "5m"})
            await a_pod(world, terminationGracePeriodSeconds=3600)
            await delete(world)
            pod = await world.client.get(PODS, "web", "default")
            assert 295 <= pod["metadata"]["deletionGracePeriodSeconds"] <= 300


def refuse_status(world: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on the server takes no status of a claim, as its rules do for one without a group; what it refused."""
    refused: list[str] = []
    handle = world.server.handle

    async def refusing(request: Request) -> Response:
        if request.method == "PATCH" and request.path.endswith(f"{NAME}/status"):
            refused.append(request.path)
            error = Invalid("spec.nodeClassRef.group: write the group")
            return BufferedResponse(error.status, orjson.dumps(error.to_status()))
        return await handle(request)

    monkeypatch.setattr(world.server, "handle", refusing)
    return refused
