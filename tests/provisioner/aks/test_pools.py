"""Bodies of agent pools, and what pools that are read mean."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kaito.api import labels
from kaito.provisioner.aks.offerings import Offering
from kaito.provisioner.aks.options import PoolOptions
from kaito.provisioner.aks.outcome import node_of
from kaito.provisioner.aks.pools import Phase, pool_body, pool_of, read_pool
from kaito.provisioner.cloud import ClaimSpec, InstanceRef
from kaito.runtime.testing.virtual import EPOCH
from support.agentpools import A100, a_claim

Object = dict[str, Any]
CREATED = "2026-01-01T00-00-01Z"
PROVIDER_ID = (
    "azure:///subscriptions/s/resourceGroups/MC_g/providers/Microsoft.Compute/virtualMachineScaleSets/"
    "aks-ws1-12345678-vmss/virtualMachines/0"
)


def body(claim: ClaimSpec | None = None, offering: Offering | None = None, **options: Any) -> Object:
    wanted = PoolOptions(**{"disk_gib": 100} | options)
    found = pool_body(claim or a_claim(), wanted, offering or Offering(A100), gpu=True, started=EPOCH)
    properties: Object = found["properties"]
    return properties


def pool(state: str = "Succeeded", name: str = "ws1", **properties: Any) -> Object:
    return {"name": name, "properties": {"provisioningState": state, "vmSize": A100, **properties}}


def stamped(uid: str = "uid-1", tag: str = "uid-1") -> Object:
    return {"nodeLabels": {"kaito.sh/claim-uid": uid}, "tags": {"kaito.sh_claim-uid": tag}}


def gpu_provisioners(created: str = CREATED, **more: str) -> Object:
    marks = {
        "karpenter.sh/nodepool": "kaito",
        "kaito.sh/workspace": "phi",
        "kaito.sh/machine-type": "gpu",
        "kaito.sh/creation-timestamp": created,
    }
    return {"nodeLabels": {**marks, **more}}


def _without(properties: Object, label: str) -> Object:
    return {key: value for key, value in properties["nodeLabels"].items() if key != label}


def test_the_body_of_a_plain_claim() -> None:
    assert body() == {
        "mode": "User",
        "type": "VirtualMachineScaleSets",
        "vmSize": A100,
        "count": 1,
        "osType": "Linux",
        "osSKU": "Ubuntu",
        "osDiskSizeGB": 100,
        "nodeLabels": {
            "karpenter.sh/nodepool": "kaito",
            "kaito.sh/workspace": "phi",
            "kaito.sh/machine-type": "gpu",
            "karpenter.sh/capacity-type": "on-demand",
            "kaito.sh/claim-uid": "uid-1",
            "kaito.sh/creation-timestamp": CREATED,
        },
        "nodeTaints": ["sku=gpu:NoSchedule"],
        "tags": {"kaito.sh_claim-uid": "uid-1", "kaito.sh_launch-started": "2026-01-01T00:00:00Z"},
    }


def test_spot_machines_have_their_own_fields() -> None:
    found = body(offering=Offering(A100, "spot", "2"), eviction_policy="Deallocate", spot_max_price=1.5)
    assert found["scaleSetPriority"] == "Spot"
    assert found["scaleSetEvictionPolicy"] == "Deallocate"
    assert found["spotMaxPrice"] == 1.5
    assert found["availabilityZones"] == ["2"]
    assert found["nodeLabels"]["karpenter.sh/capacity-type"] == "spot"


def test_what_is_asked_for_is_sent() -> None:
    found = body(
        os_disk_type="Ephemeral",
        subnet_id="/s",
        pod_subnet_id="/p",
        gpu_driver="None",
        mig_profile="MIG1g",
        tags={"team": "ml"},
        capacity_reservation_group_id="/c",
        proximity_placement_group_id="/g",
        max_pods=30,
        encryption_at_host=False,
    )
    assert found["osDiskType"] == "Ephemeral"
    assert found["vnetSubnetID"] == "/s"
    assert found["podSubnetID"] == "/p"
    assert found["gpuProfile"] == {"driver": "None"}
    assert found["gpuInstanceProfile"] == "MIG1g"
    assert found["tags"]["team"] == "ml"
    assert found["capacityReservationGroupID"] == "/c"
    assert found["proximityPlacementGroupID"] == "/g"
    assert found["maxPods"] == 30
    assert found["enableEncryptionAtHost"] is False


def test_a_users_tag_cannot_take_the_place_of_the_owners() -> None:
    assert body(tags={"kaito.sh_claim-uid": "mine"})["tags"]["kaito.sh_claim-uid"] == "uid-1"


def test_pools_of_single_machines_name_their_size_elsewhere() -> None:
    found = body(pool_type="VirtualMachines")
    assert "vmSize" not in found
    assert "count" not in found
    assert read_pool({"name": "ws1", "properties": found}).offering == Offering(A100)


@pytest.mark.parametrize(
    "key", ["kubernetes.io/os", "node.kubernetes.io/instance-type", "x.k8s.io/y", "kubernetes.azure.com/mode"]
)
def test_labels_that_aks_refuses_are_not_sent(key: str) -> None:
    assert key not in body(a_claim(labels={key: "x"}))["nodeLabels"]


def test_taints_with_and_without_value() -> None:
    taints = ({"key": "a", "value": "b", "effect": "NoExecute"}, {"key": "c", "effect": "NoSchedule"})
    assert body(a_claim(taints=taints))["nodeTaints"] == ["a=b:NoExecute", "c=:NoSchedule"]


def test_what_was_sent_is_read_back() -> None:
    offering = Offering(A100, "spot", "3")
    found = read_pool({"name": "ws1", "properties": body(offering=offering)})
    assert found.offering == offering
    assert found.uid == "uid-1"
    assert found.created == EPOCH + timedelta(seconds=1)
    assert found.started == EPOCH
    assert found.is_of(a_claim())


@pytest.mark.parametrize(
    ("properties", "phase"),
    [
        ({"state": "Creating"}, Phase.BUSY),
        ({"state": "Updating"}, Phase.BUSY),
        ({"state": "UpgradingNodeImageVersion"}, Phase.BUSY),
        ({"state": ""}, Phase.BUSY),
        ({"state": "succeeded"}, Phase.READY),
        ({"powerState": {"code": "Running"}}, Phase.READY),
        ({"powerState": {"code": "Stopped"}}, Phase.STOPPED),
        ({"state": "Failed"}, Phase.FAILED),
        ({"state": "Canceled"}, Phase.FAILED),
        ({"state": "Deleting"}, Phase.DELETING),
    ],
)
def test_phases(properties: Object, phase: Phase) -> None:
    assert read_pool(pool(**properties)).phase is phase


@pytest.mark.parametrize("half", [{}, {"name": "ws1"}, {"name": "ws1", "properties": None}])
def test_a_pool_of_which_little_is_left_is_neither_ready_nor_anybodys(half: Object) -> None:
    found = read_pool(half)
    assert found.phase is Phase.BUSY
    assert not found.for_a_claim
    assert not found.is_of(a_claim())


@pytest.mark.parametrize(
    ("properties", "ours"),
    [
        (stamped(), True),
        (stamped(tag=""), True),
        (stamped(uid=""), True),
        (stamped("uid-2", "uid-2"), False),
        (stamped("uid-1", "uid-2"), False),
        ({}, False),
        (gpu_provisioners(), True),
        (gpu_provisioners("2026-01-01T00-00-02Z"), False),
        (gpu_provisioners("yesterday"), False),
        ({"nodeLabels": _without(gpu_provisioners(), "kaito.sh/workspace")}, True),
        ({"nodeLabels": _without(gpu_provisioners(), "kaito.sh/machine-type")}, False),
        ({"nodeLabels": {"kaito.sh/workspace": "phi", "karpenter.sh/nodepool": "kaito"}}, False),
        (gpu_provisioners(**{"kaito.sh/claim-uid": "uid-2"}), False),
    ],
)
def test_whose_a_pool_is(properties: Object, ours: bool) -> None:
    found = read_pool(pool(**properties))
    claim = a_claim()
    assert found.is_of(claim) is ours
    assert found.is_meant(InstanceRef("", "ws1", "uid-1", claim.created)) is ours


def test_a_pool_of_another_name_is_not_meant() -> None:
    assert not read_pool(pool(name="ws2", **stamped())).is_of(a_claim())


def test_the_machines_id_names_a_pool_of_gpu_provisioner_where_the_claims_age_is_not_known() -> None:
    found = read_pool(pool(**gpu_provisioners()))
    assert found.is_meant(InstanceRef(PROVIDER_ID, "ws1", "uid-1"))
    assert not found.is_meant(InstanceRef("", "ws1", "uid-1"))
    assert not found.is_meant(InstanceRef(PROVIDER_ID.replace("-ws1-", "-ws2-"), "ws1", "uid-1"))


@pytest.mark.parametrize(
    ("provider_id", "name"),
    [
        (PROVIDER_ID, "ws1"),
        (PROVIDER_ID.lower(), "ws1"),
        (PROVIDER_ID.upper(), "ws1"),
        (
            "azure:///subscriptions/s/…/providers/Microsoft.Compute/virtualMachines/aks-ws1-12345678-vms0",
            "ws1",
        ),
        ("azure:///subscriptions/s/…/virtualMachineScaleSets/other/virtualMachines/0", ""),
        ("", ""),
    ],
)
def test_the_pool_that_a_machines_id_names(provider_id: str, name: str) -> None:
    assert pool_of(provider_id) == name


def test_what_a_failed_pool_says_is_kept() -> None:
    error = {"code": "X", "message": "y"}
    assert read_pool(pool("Failed", status={"provisioningError": error})).error == error


def test_the_machine_type_follows_the_size() -> None:
    cpu = pool_body(a_claim(), PoolOptions(30), Offering("Standard_D4s_v5"), gpu=False, started=EPOCH)
    assert cpu["properties"]["nodeLabels"][labels.MACHINE_TYPE_LABEL] == "cpu"


def test_a_pools_node_is_not_that_of_an_earlier_claim_of_its_name() -> None:
    found = read_pool(pool(**stamped()))

    def node(**more: str) -> Object:
        marks = {"kubernetes.azure.com/agentpool": "ws1", labels.INSTANCE_TYPE_LABEL: A100}
        return {"metadata": {"name": "n", "labels": marks | more}, "spec": {"providerID": PROVIDER_ID}}

    own, unmarked, earlier = node(**stamped()["nodeLabels"]), node(), node(**{"kaito.sh/claim-uid": "uid-0"})
    assert node_of(found, [earlier]) is None
    assert node_of(found, [earlier, own]) is own
    assert node_of(found, [unmarked]) is unmarked
