"""What the fake refuses as Azure does: names, sizes, fields, callers, quotas, operations that are in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest
from azure.mgmt.containerservice.aio import ContainerServiceClient

from kaito.provisioner.testing import FakeArm, Place, Size
from kaito.runtime.testing import VirtualClock
from provisioner.testing.sdk import A100, body, in_memory, names

FAMILY = "standardNCADSA100v4Family"
POOLS = "Microsoft.ContainerService/managedClusters/agentPools"


@pytest.fixture
def arm(virtual_clock: VirtualClock) -> FakeArm:
    return FakeArm(virtual_clock)


@pytest.fixture
async def sdk(arm: FakeArm, virtual_clock: VirtualClock) -> AsyncIterator[ContainerServiceClient]:
    async with in_memory(arm, virtual_clock) as client:
        yield client


class Azure:
    """The SDK and the fake behind it, in the words of these tests."""

    def __init__(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        self.sdk = sdk
        self.arm = arm

    async def put(self, pool: str = "ws1", content: Any = None, **properties: Any) -> None:
        content = body(**properties) if content is None else content
        await self.sdk.agent_pools.begin_create_or_update(*names(self.arm, pool), content, polling=False)

    async def delete(self, pool: str = "ws1") -> None:
        await self.sdk.agent_pools.begin_delete(*names(self.arm, pool), polling=False)

    async def refusal(self, pool: str = "ws1", **properties: Any) -> tuple[int | None, str, str]:
        """Status, code and message of a PUT that must be refused."""
        with pytest.raises(HttpResponseError) as caught:
            await self.put(pool, **properties)
        assert caught.value.error is not None
        return caught.value.status_code, str(caught.value.error.code), str(caught.value.error.message)

    async def compute(self, path: str, **query: str) -> list[dict[str, Any]]:
        """`value` of all pages of a request to Compute."""
        url = f"https://management.azure.com/subscriptions/{self.arm.place.subscription}/providers/Microsoft.Compute/"
        request = HttpRequest("GET", url + path, params={"api-version": "2021-07-01", **query})
        found: list[dict[str, Any]] = []
        while True:
            response = await self.sdk.send_request(request)
            response.raise_for_status()
            page = response.json()
            found += page["value"]
            if "nextLink" not in page:
                return found
            request = HttpRequest("GET", page["nextLink"])


@pytest.fixture
def azure(sdk: ContainerServiceClient, arm: FakeArm) -> Azure:
    return Azure(sdk, arm)


class TestAgentPools:
    @pytest.mark.parametrize("name", ["invalid-name", "1ws", "Ws1", "abcdefghijklm"])
    async def test_names(self, azure: Azure, name: str) -> None:
        status, code, message = await azure.refusal(name)
        assert (status, code) == (400, "InvalidParameter")
        assert "agentPoolProfile.name" in message

    @pytest.mark.parametrize(
        ("properties", "named"),
        [
            ({"mode": "user"}, "mode"),
            ({"osSKU": "Debian"}, "osSKU"),
            ({"osDiskSizeGB": 10}, "osDiskSizeGB"),
            ({"osDiskSizeGB": 4096}, "osDiskSizeGB"),
            ({"osDiskSizeGB": -8}, "osDiskSizeGB"),
            ({"osDiskType": "Ephemeral", "osDiskSizeGB": 1024}, "osDiskSizeGB"),
            ({"nodeTaints": ["sku=gpu"]}, "nodeTaints"),
            ({"nodeLabels": {"a/b/c": "d"}}, "nodeLabels"),
            ({"nodeLabels": {"kubernetes.azure.com/agentpool": "x"}}, "nodeLabels"),
            ({"tags": {"kaito.sh/claim-uid": "x"}}, "tags"),
            ({"scaleSetEvictionPolicy": "Delete"}, "scaleSetEvictionPolicy"),
            ({"spotMaxPrice": 0.5}, "spotMaxPrice"),
            ({"scaleSetPriority": "Spot", "spotMaxPrice": 0}, "spotMaxPrice"),
            ({"scaleSetPriority": "Spot", "mode": "System"}, "mode"),
            ({"scaleSetPriority": "Spot", "vm_size": "Standard_NC40ads_H100_v5"}, "scaleSetPriority"),
            ({"gpuInstanceProfile": "MIG5g"}, "gpuInstanceProfile"),
            ({"gpuInstanceProfile": "MIG1g", "vm_size": "Standard_NC6s_v3"}, "gpuInstanceProfile"),
            ({"gpuProfile": {"driver": "Later"}}, "gpuProfile.driver"),
            ({"vnetSubnetID": "default"}, "vnetSubnetID"),
            ({"vm_size": ""}, "vmSize"),
            ({"availabilityZones": ["7"]}, "availabilityZones"),
        ],
    )
    async def test_fields_are_named(self, azure: Azure, properties: dict[str, Any], named: str) -> None:
        with pytest.raises(HttpResponseError) as caught:
            await azure.put(**properties)
        assert caught.value.status_code == 400
        assert caught.value.error is not None
        assert caught.value.error.target == f"agentPoolProfile.{named}"
        assert not azure.arm.pools

    @pytest.mark.parametrize("content", [b"[]", b"{}", b"no json"])
    async def test_what_is_no_pool(self, azure: Azure, content: bytes) -> None:
        with pytest.raises(HttpResponseError) as caught:
            await azure.put(content=content)
        assert caught.value.status_code == 400

    async def test_sizes_that_the_region_lacks_or_the_subscription_may_not_use(self, azure: Azure) -> None:
        azure.arm.sizes.restrict("Standard_NC6s_v3")
        for size in ("Standard_NC6s_v9", "Standard_NC6s_v3"):
            status, code, message = await azure.refusal(vm_size=size)
            assert (status, code) == (400, "VMSizeNotSupported")
            assert "standard_nc24ads_a100_v4" in message
            assert "standard_nc6s_v3" not in message.partition("available")[2]

    async def test_a_zone_that_the_subscription_may_not_use(self, azure: Azure) -> None:
        azure.arm.sizes.restrict(A100, "1", "3")
        assert (await azure.refusal(availabilityZones=["1"]))[1] == "AvailabilityZoneNotSupported"
        await azure.put(availabilityZones=["2"])

    async def test_defaults_are_filled_in(self, azure: Azure) -> None:
        await azure.put(vm_size="Standard_NC24ads_A100_v4", osDiskSizeGB=512, scaleSetPriority="Spot")
        found = azure.arm.pools["ws1"].properties
        assert (found["osDiskType"], found["osSKU"], found["type"]) == (
            "Managed",
            "Ubuntu",
            "VirtualMachineScaleSets",
        )
        assert found["nodeTaints"] == ["kubernetes.azure.com/scalesetpriority=spot:NoSchedule"]
        assert found["scaleSetEvictionPolicy"] == "Delete"

    async def test_what_a_pool_was_made_with_stays(self, azure: Azure) -> None:
        azure.arm.portal.create_pool("ws1", A100)
        assert (await azure.refusal(vm_size="Standard_NC48ads_A100_v4"))[1] == "PropertyChangeNotAllowed"
        await azure.put(tags={"a": "b"})
        assert azure.arm.pools["ws1"].state == "Updating"

    async def test_each_change_has_an_etag_of_its_own(
        self, azure: Azure, virtual_clock: VirtualClock
    ) -> None:
        await azure.put()
        etags = [azure.arm.pools["ws1"].etag]
        await virtual_clock.sleep(300)
        etags.append(azure.arm.pools["ws1"].etag)
        azure.arm.portal.change_pool("ws1", tags={"a": "b"})
        etags.append(azure.arm.pools["ws1"].etag)
        assert len(set(etags)) == 3


class TestCallers:
    async def test_without_a_token(self, arm: FakeArm) -> None:
        for headers in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer "}):
            reply = arm.handle("GET", arm.place.cluster_id, {"api-version": "1"}, headers)
            assert (reply.status, reply.json()["error"]["code"]) == (401, "AuthenticationFailed")

    async def test_with_an_expired_token(self, azure: Azure) -> None:
        azure.arm.accepted_tokens = {"new"}
        assert (await azure.refusal())[:2] == (401, "ExpiredAuthenticationToken")

    async def test_without_the_role(self, azure: Azure) -> None:
        azure.arm.deny(f"{POOLS}/write")
        status, code, message = await azure.refusal()
        assert (status, code) == (403, "AuthorizationFailed")
        assert f"'{POOLS}/write'" in message
        assert [pool async for pool in azure.sdk.agent_pools.list(*names(azure.arm)[:2])] == []

    @pytest.mark.parametrize(
        ("place", "code"),
        [
            (Place(subscription="5"), "SubscriptionNotFound"),
            (Place(resource_group="other"), "ResourceGroupNotFound"),
            (Place(cluster="other"), "ResourceNotFound"),
        ],
    )
    async def test_in_the_wrong_place(self, arm: FakeArm, place: Place, code: str) -> None:
        reply = arm.handle("GET", place.cluster_id, {"api-version": "1"}, {"Authorization": "Bearer x"})
        assert (reply.status, reply.json()["error"]["code"]) == (404, code)

    async def test_paths_may_be_written_in_any_case(self, arm: FakeArm) -> None:
        path = arm.place.cluster_id.upper()
        assert arm.handle("GET", path, {"api-version": "1"}, {"Authorization": "Bearer x"}).status == 200

    async def test_without_an_api_version_or_a_known_path(self, arm: FakeArm) -> None:
        token = {"Authorization": "Bearer x"}
        assert arm.handle("GET", arm.place.cluster_id, {}, token).status == 400
        assert arm.handle("GET", "/nowhere", {"api-version": "1"}, token).status == 404

    async def test_after_the_cluster_was_deleted(self, azure: Azure) -> None:
        azure.arm.portal.delete_cluster()
        assert (await azure.refusal())[:2] == (404, "ResourceNotFound")

    async def test_requests_are_kept_without_their_tokens(self, azure: Azure) -> None:
        await azure.put()
        [call] = azure.arm.calls("put_pool", pool="ws1")
        assert "authorization" not in call.request.headers
        assert call.request.body["properties"]["vmSize"] == A100
        assert str(call) == "0: put_pool ws1 -> 201"

    async def test_too_many_at_once(self, azure: Azure, virtual_clock: VirtualClock) -> None:
        azure.arm.limit_rate("put_pool", burst=2, per_second=1 / 60)
        for number in range(2):
            await azure.put(f"ws{number}")
        with pytest.raises(HttpResponseError) as caught:
            await azure.put("ws2")
        assert caught.value.response is not None
        assert (caught.value.status_code, caught.value.response.headers["Retry-After"]) == (429, "60")
        await virtual_clock.sleep(60)
        await azure.put("ws2")


class TestOperations:
    async def test_in_parallel_each_pool_has_its_own(self, azure: Azure, virtual_clock: VirtualClock) -> None:
        for number in range(50):
            await azure.put(f"ws{number}")
        await virtual_clock.sleep(300)
        assert {pool.state for pool in azure.arm.pools.values()} == {"Succeeded"}

    async def test_exclusively_the_second_waits_for_the_first(
        self, azure: Azure, virtual_clock: VirtualClock
    ) -> None:
        azure.arm.exclusive = True
        await azure.put("ws1")
        status, code, message = await azure.refusal("ws2")
        assert (status, code) == (409, "OperationNotAllowed")
        assert "Another operation" in message
        await virtual_clock.sleep(300)
        await azure.put("ws2")

    async def test_a_pool_that_is_being_made_is_not_made_again(self, azure: Azure) -> None:
        await azure.put()
        message = (await azure.refusal())[2]
        assert "there's an in progress create node pool operation" in message

    async def test_a_delete_ends_what_else_runs_on_the_pool(
        self, azure: Azure, virtual_clock: VirtualClock
    ) -> None:
        azure.arm.exclusive = True
        await azure.put()
        await azure.delete()
        [creating, _] = azure.arm.operations
        assert creating.error is not None
        assert (creating.status, creating.error.code) == ("Failed", "AKSOperationPreemptedByDelete")
        with pytest.raises(HttpResponseError, match="in progress delete"):
            await azure.delete()
        await virtual_clock.sleep(120)
        assert not azure.arm.pools

    async def test_a_failed_delete_leaves_half_a_pool(
        self, azure: Azure, virtual_clock: VirtualClock
    ) -> None:
        azure.arm.portal.create_pool("ws1", A100)
        azure.arm.end_next("delete", "Failed", code="InUseSubnetCannotBeDeleted")
        await azure.delete()
        await virtual_clock.sleep(120)
        assert azure.arm.pools["ws1"].state == "Failed"
        assert azure.arm.world.machines() == []

    async def test_an_abort_cancels(self, azure: Azure) -> None:
        azure.arm.end_next("create", "InProgress")
        await azure.put()
        await azure.sdk.agent_pools.begin_abort_latest_operation(*names(azure.arm), polling=False)
        assert azure.arm.pools["ws1"].state == "Canceled"

    async def test_a_pool_that_vanishes_while_it_is_made(
        self, azure: Azure, virtual_clock: VirtualClock
    ) -> None:
        await azure.put()
        azure.arm.portal.delete_pool("ws1")
        await virtual_clock.sleep(300)
        assert not azure.arm.pools
        assert not azure.arm.world.running

    @pytest.mark.parametrize("running", [False, True])
    async def test_nothing_is_done_while_the_cluster_stops_or_starts(
        self, azure: Azure, virtual_clock: VirtualClock, running: bool
    ) -> None:
        azure.arm.portal.create_pool("ws0", A100)
        azure.arm.stop_cluster(seconds=120)
        for state, after in (("Stopping", 0), ("Succeeded", 120)):
            await virtual_clock.sleep(after)
            cluster = await azure.sdk.managed_clusters.get(*names(azure.arm)[:2])
            assert cluster.provisioning_state == state
            assert (await azure.refusal())[:2] == (409, "OperationNotAllowed")
            with pytest.raises(HttpResponseError, match="power state"):
                await azure.delete("ws0")
        assert cluster.power_state.code == "Stopped"
        if running:
            await azure.sdk.managed_clusters.begin_start(*names(azure.arm)[:2], polling=False)
            assert (await azure.refusal())[1] == "OperationNotAllowed"
            await virtual_clock.sleep(180)
            await azure.put()

    async def test_machines_of_a_pool(self, azure: Azure, virtual_clock: VirtualClock) -> None:
        await azure.put(count=2)
        await virtual_clock.sleep(300)
        found = [each async for each in azure.sdk.machines.list(*names(azure.arm))]
        assert [each.name for each in found] == [
            f"aks-ws1-{azure.arm.place.hash}-vmss00000{number}" for number in range(2)
        ]
        assert str(found[1].properties.resource_id).endswith("-vmss/virtualMachines/1")

    async def test_a_rule_ends_when_it_is_cancelled(self, azure: Azure, virtual_clock: VirtualClock) -> None:
        rule = azure.arm.provisioning_error("*", "AllocationFailed", "No room.", zone="1", spot=False)
        for pool, properties in (
            ("a", {"availabilityZones": ["1"]}),
            ("b", {"availabilityZones": ["2"]}),
            ("c", {"availabilityZones": ["1"], "scaleSetPriority": "Spot"}),
        ):
            await azure.put(pool, **properties)
        await virtual_clock.sleep(300)
        assert {name: pool.state for name, pool in azure.arm.pools.items()} == {
            "a": "Failed",
            "b": "Succeeded",
            "c": "Succeeded",
        }
        assert rule.used == 1
        rule.cancel()
        await azure.put("d", availabilityZones=["1"])
        await virtual_clock.sleep(300)
        assert azure.arm.pools["d"].state == "Succeeded"


class TestCores:
    async def test_a_family_that_is_used_up(self, azure: Azure) -> None:
        azure.arm.quota.limit(FAMILY.upper(), 48, used=0)
        await azure.put("ws1")
        await azure.put("ws2")
        status, code, message = await azure.refusal("ws3")
        assert (status, code) == (400, "ErrCode_InsufficientVCPUQuota")
        assert f"requested 24, remaining 0 for family {FAMILY.upper()} for region eastus" in message

    async def test_the_region_and_spot_have_limits_of_their_own(self, azure: Azure) -> None:
        azure.arm.quota.limit("cores", 30)
        azure.arm.quota.limit("lowPriorityCores", 24)
        await azure.put("ws1", scaleSetPriority="Spot")
        await azure.put("ws2")
        assert "regional vcpu quota" in (await azure.refusal("ws3"))[2]
        assert "family lowPriorityCores" in (await azure.refusal("ws4", scaleSetPriority="Spot"))[2]

    async def test_figures_lag_and_what_slips_through_fails_later(
        self, azure: Azure, virtual_clock: VirtualClock
    ) -> None:
        azure.arm.quota.limit(FAMILY, 24)
        azure.arm.quota.lag = 120
        await azure.put("ws1")
        await azure.put("ws2")
        await virtual_clock.sleep(60)
        failed = azure.arm.pools["ws2"]
        assert (azure.arm.pools["ws1"].state, failed.state) == ("Creating", "Failed")
        assert failed.error is not None
        assert failed.error.code == "OperationNotAllowed"
        assert f"exceeding approved {FAMILY} Cores quota" in failed.error.message
        assert await self.used(azure, FAMILY) == 0
        await virtual_clock.sleep(60)
        assert await self.used(azure, FAMILY) == 24

    async def test_cores_come_back_with_the_pool_and_with_its_failure(
        self, azure: Azure, virtual_clock: VirtualClock
    ) -> None:
        azure.arm.quota.limit(FAMILY, 24, used=0)
        azure.arm.provisioning_error(A100, "AllocationFailed", "No room.", times=1)
        await azure.put("ws1")
        await virtual_clock.sleep(300)
        await azure.put("ws2")
        await virtual_clock.sleep(300)
        assert await self.used(azure, FAMILY) == 24
        await azure.delete("ws2")
        await virtual_clock.sleep(120)
        assert await self.used(azure, FAMILY) == 0

    async def test_usages_have_the_shape_of_compute(self, azure: Azure) -> None:
        azure.arm.quota.limit("cores", 100, used=7)
        found = await azure.compute("locations/eastus/usages")
        named = {each["name"]["value"]: each for each in found}
        assert named["cores"] == {
            "limit": 100,
            "unit": "Count",
            "currentValue": 7,
            "name": {"value": "cores", "localizedValue": "Total Regional vCPUs"},
        }
        assert {"lowPriorityCores", "virtualMachines", FAMILY, "Standard NCASv3_T4 Family"} <= named.keys()

    async def test_sizes_have_the_shape_of_compute(self, azure: Azure) -> None:
        azure.arm.sizes.restrict("Standard_NC6s_v3")
        azure.arm.sizes.restrict(A100, "2")
        azure.arm.sizes.add(Size("Standard_X1", 1, 2, 0, "standardXFamily", zones=()))
        azure.arm.sizes.remove("Standard_D2s_v3")
        found = await azure.compute("skus", **{"$filter": "location eq 'eastus'"})
        named = {each["name"]: each for each in found if each["resourceType"] == "virtualMachines"}
        assert len(found) > len(named)
        assert {"name": "GPUs", "value": "1"} in named[A100]["capabilities"]
        assert {"name": "vCPUs", "value": "24"} in named[A100]["capabilities"]
        assert named[A100]["restrictions"] == [
            {
                "type": "Zone",
                "values": ["eastus"],
                "restrictionInfo": {"locations": ["eastus"], "zones": ["2"]},
                "reasonCode": "NotAvailableForSubscription",
            }
        ]
        assert named["Standard_NC6s_v3"]["restrictions"][0]["type"] == "Location"
        assert named["Standard_X1"]["locationInfo"][0]["zones"] == []
        assert "Standard_D2s_v3" not in named

    async def test_sizes_come_in_pages_and_by_region(self, azure: Azure) -> None:
        every = await azure.compute("skus", **{"$filter": "location eq 'eastus'"})
        azure.arm.sku_page = 3
        assert await azure.compute("skus", **{"$filter": "location eq 'eastus'"}) == every
        assert len(azure.arm.calls("skus")) == 1 + -(-len(every) // 3)
        assert await azure.compute("skus", **{"$filter": "location eq 'westus'"}) == []

    @staticmethod
    async def used(azure: Azure, family: str) -> int:
        found = await azure.compute("locations/eastus/usages")
        return next(int(each["currentValue"]) for each in found if each["name"]["value"] == family)
