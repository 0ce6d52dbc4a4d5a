"""What the Azure SDK makes of the fake's answers: the ways in which Azure starts, follows and refuses operations.

Each is what the same SDK makes of the real service; the moments are exact, for the SDK sleeps by the test's clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.mgmt.containerservice.aio import ContainerServiceClient

from kaito.provisioner.testing import AZURE_ASYNC, LOCATION, FakeArm, Style
from kaito.runtime.testing import VirtualClock
from provisioner.testing.sdk import A100, body, in_memory, names


@pytest.fixture
def arm(virtual_clock: VirtualClock) -> FakeArm:
    return FakeArm(virtual_clock)


@pytest.fixture
async def sdk(arm: FakeArm, virtual_clock: VirtualClock) -> AsyncIterator[ContainerServiceClient]:
    async with in_memory(arm, virtual_clock) as client:
        yield client


async def create(sdk: ContainerServiceClient, arm: FakeArm, **options: Any) -> Any:
    poller = await sdk.agent_pools.begin_create_or_update(*names(arm), body(), **options)
    return await poller.result()


async def delete(sdk: ContainerServiceClient, arm: FakeArm, **options: Any) -> None:
    await (await sdk.agent_pools.begin_delete(*names(arm), **options)).result()


class TestCreating:
    @pytest.mark.parametrize("status", [200, 201])
    async def test_the_operation_is_polled_and_the_pool_read_once_more(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock, status: int
    ) -> None:
        arm.put_style = Style(status)
        pool = await create(sdk, arm)
        assert (pool.name, pool.provisioning_state, pool.vm_size) == ("ws1", "Succeeded", A100)
        assert virtual_clock.now() == 300
        assert [call.call for call in arm.requests] == ["put_pool", *["operation"] * 11, "get_pool"]

    @pytest.mark.parametrize("status", [200, 201])
    async def test_without_a_header_the_pool_itself_is_polled(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock, status: int
    ) -> None:
        arm.put_style = Style(status, ())
        assert (await create(sdk, arm)).provisioning_state == "Succeeded"
        assert {call.call for call in arm.requests} == {"put_pool", "get_pool"}
        assert virtual_clock.now() == 300

    async def test_with_a_location_alone_its_last_answer_is_the_pool(
        self, sdk: ContainerServiceClient, arm: FakeArm
    ) -> None:
        arm.put_style = Style(201, (LOCATION,))
        assert (await create(sdk, arm)).name == "ws1"
        assert not arm.calls("get_pool")

    async def test_a_location_that_has_nothing_to_say_gives_no_pool(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.put_style = Style(201, (LOCATION,))
        virtual_clock.call_later(299, arm.portal.delete_pool, "ws1")
        arm.end_next("create", "Succeeded", after=290)
        assert await create(sdk, arm) is None
        assert arm.calls("operation_result")[-1].status == 204

    async def test_accepted_is_no_answer_to_a_put(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        arm.put_style = Style(202)
        with pytest.raises(HttpResponseError) as caught:
            await create(sdk, arm)
        assert caught.value.status_code == 202

    async def test_no_polling_shows_the_pool_being_made(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        pool = await create(sdk, arm, polling=False)
        assert (pool.provisioning_state, virtual_clock.now()) == ("Creating", 0)
        assert len(arm.requests) == 1

    async def test_retry_after_sets_the_pace(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.retry_after = 100
        await create(sdk, arm)
        assert [call.at for call in arm.calls("operation")] == [0, 100, 200, 300]


class TestDeleting:
    @pytest.fixture(autouse=True)
    async def pool(self, arm: FakeArm) -> None:
        arm.portal.create_pool("ws1", A100)

    @pytest.mark.parametrize("headers", [(AZURE_ASYNC,), (AZURE_ASYNC, LOCATION)])
    async def test_the_operation_is_polled(
        self,
        sdk: ContainerServiceClient,
        arm: FakeArm,
        virtual_clock: VirtualClock,
        headers: tuple[str, ...],
    ) -> None:
        arm.delete_style = Style(202, headers)
        await delete(sdk, arm)
        assert virtual_clock.now() == 120
        assert not arm.pools

    async def test_a_location_alone_is_polled_until_it_is_empty(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.delete_style = Style(202, (LOCATION,))
        await delete(sdk, arm)
        assert [call.status for call in arm.calls("operation_result")] == [202, 202, 202, 202, 204]
        assert virtual_clock.now() == 120

    @pytest.mark.parametrize("style", [Style(202, ()), Style(204, ())])
    async def test_without_a_header_it_looks_done_at_once_and_is_not(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock, style: Style
    ) -> None:
        arm.delete_style = style
        await delete(sdk, arm)
        assert virtual_clock.now() == 0
        assert arm.pools["ws1"].state == "Deleting"

    async def test_ok_is_no_answer_to_a_delete(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        arm.delete_style = Style(200)
        with pytest.raises(HttpResponseError) as caught:
            await delete(sdk, arm)
        assert caught.value.status_code == 200

    async def test_a_pool_that_is_not_there(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        arm.portal.delete_pool("ws1")
        with pytest.raises(ResourceNotFoundError):
            await delete(sdk, arm)
        arm.delete_absent = 204
        await delete(sdk, arm)


class TestFailing:
    async def test_a_pool_that_is_not_there(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        with pytest.raises(ResourceNotFoundError) as caught:
            await sdk.agent_pools.get(*names(arm))
        assert caught.value.error is not None
        assert (caught.value.error.code, caught.value.error.message) == ("NotFound", "Agent Pool not found")

    async def test_an_operation_that_is_lost_while_it_is_polled(
        self, sdk: ContainerServiceClient, arm: FakeArm
    ) -> None:
        arm.fail_next("operation", code="NotFound", pool="ws1")
        with pytest.raises(HttpResponseError) as caught:
            await create(sdk, arm)
        assert type(caught.value) is HttpResponseError
        assert caught.value.status_code == 404
        assert arm.pools["ws1"].state == "Creating"

    async def test_a_pool_that_is_gone_when_its_operation_has_ended(
        self, sdk: ContainerServiceClient, arm: FakeArm
    ) -> None:
        arm.fail_next("get_pool", code="NotFound")
        with pytest.raises(HttpResponseError) as caught:
            await create(sdk, arm)
        assert caught.value.status_code == 404

    async def test_a_failed_operation_has_status_200_and_its_error(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        more = ({"code": "Detail", "message": "more"},)
        arm.provisioning_error(A100, "ZonalAllocationFailed", "No room.", after=60, details=more)
        with pytest.raises(HttpResponseError) as caught:
            await create(sdk, arm)
        error = caught.value.error
        assert (caught.value.status_code, virtual_clock.now()) == (200, 60)
        assert error is not None
        assert (error.code, error.message) == ("ZonalAllocationFailed", "No room.")
        assert error.details[0].code == "Detail"

    async def test_the_failed_pool_says_why(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        arm.provisioning_error("standard_nc24*", "AllocationFailed", "No room.")
        with pytest.raises(HttpResponseError):
            await create(sdk, arm)
        pool = await sdk.agent_pools.get(*names(arm))
        assert pool.provisioning_state == "Failed"
        assert pool.status.provisioning_error.code == "AllocationFailed"
        arm.shows_provisioning_error = False
        assert (await sdk.agent_pools.get(*names(arm))).status is None

    async def test_a_canceled_operation_has_no_error(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        arm.end_next("create", "Canceled", after=30)
        with pytest.raises(HttpResponseError) as caught:
            await create(sdk, arm)
        assert caught.value.error is None
        assert arm.pools["ws1"].state == "Canceled"

    async def test_an_operation_that_never_ends(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.end_next("create", "InProgress")
        with pytest.raises(TimeoutError):
            async with virtual_clock.timeout(86400):
                await create(sdk, arm)
        assert arm.pools["ws1"].state == "Creating"

    @pytest.mark.parametrize("nested", [True, False])
    async def test_both_shapes_of_a_conflict_are_understood(
        self, sdk: ContainerServiceClient, arm: FakeArm, nested: bool
    ) -> None:
        arm.fail_next("put_pool", code="OperationNotAllowed", message="Busy.", nested=nested)
        with pytest.raises(ResourceExistsError) as caught:
            await create(sdk, arm)
        assert caught.value.error is not None
        assert (caught.value.status_code, caught.value.error.code) == (409, "OperationNotAllowed")
        assert not arm.pools

    async def test_a_pool_that_exists_is_not_made_again(
        self, sdk: ContainerServiceClient, arm: FakeArm
    ) -> None:
        arm.portal.create_pool("ws1")
        with pytest.raises(ResourceExistsError) as caught:
            await create(sdk, arm, etag="*", match_condition=MatchConditions.IfMissing)
        assert caught.value.status_code == 412
        assert arm.calls("put_pool")[0].request.headers["if-none-match"] == "*"

    async def test_an_etag_must_still_be_right(self, sdk: ContainerServiceClient, arm: FakeArm) -> None:
        etag = arm.portal.create_pool("ws1").etag
        arm.portal.change_pool("ws1", tags={"by": "somebody"})
        with pytest.raises(ResourceModifiedError):
            await delete(sdk, arm, etag=etag, match_condition=MatchConditions.IfNotModified)
        await delete(sdk, arm, etag=arm.pools["ws1"].etag, match_condition=MatchConditions.IfNotModified)
        assert arm.calls("delete_pool")[0].request.headers["if-match"] == f'"{etag}"'

    async def test_throttling_is_waited_out_where_the_sdk_may(
        self, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.throttle(retry_after=1)
        async with in_memory(arm, virtual_clock, retry_total=10) as patient:
            assert [pool async for pool in patient.agent_pools.list(*names(arm)[:2])] == []
        assert virtual_clock.now() == 1

    async def test_throttling_for_a_while(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.throttle("get_cluster", retry_after=17, seconds=60)
        with pytest.raises(HttpResponseError) as caught:
            await sdk.managed_clusters.get(*names(arm)[:2])
        assert caught.value.response is not None
        assert (caught.value.status_code, caught.value.response.headers["Retry-After"]) == (429, "17")
        await virtual_clock.sleep(60)
        assert (await sdk.managed_clusters.get(*names(arm)[:2])).provisioning_state == "Succeeded"

    async def test_three_times_unavailable_is_tried_again(
        self, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.fail_next("get_cluster", code="ServiceUnavailable", times=3)
        async with in_memory(arm, virtual_clock, retry_total=10) as patient:
            await patient.managed_clusters.get(*names(arm)[:2])
        assert [call.status for call in arm.requests] == [503, 503, 503, 200]

    async def test_a_dropped_connection_may_have_had_its_effect(
        self, sdk: ContainerServiceClient, arm: FakeArm
    ) -> None:
        arm.drop_next("put_pool")
        arm.drop_next("put_pool", applied=True)
        for made in (0, 1):
            with pytest.raises(ServiceRequestError):
                await create(sdk, arm)
            assert len(arm.pools) == made


class TestLatency:
    async def test_an_answer_takes_its_time(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.latency = 2.5
        await sdk.managed_clusters.get(*names(arm)[:2])
        assert virtual_clock.now() == 2.5

    async def test_a_client_that_waits_no_longer_has_had_its_effect(
        self, sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
    ) -> None:
        arm.latency = 60
        with pytest.raises(ServiceResponseError):
            await create(sdk, arm, polling=False, read_timeout=20)
        assert virtual_clock.now() == 20
        assert list(arm.pools) == ["ws1"]


async def test_the_cluster_is_stopped_and_started_through_the_sdk(
    sdk: ContainerServiceClient, arm: FakeArm, virtual_clock: VirtualClock
) -> None:
    seen = []
    for begin in (sdk.managed_clusters.begin_stop, sdk.managed_clusters.begin_start):
        await (await begin(*names(arm)[:2])).result()
        cluster = await sdk.managed_clusters.get(*names(arm)[:2])
        seen.append((virtual_clock.now(), cluster.power_state.code, cluster.provisioning_state))
    assert seen == [(120, "Stopped", "Succeeded"), (300, "Running", "Succeeded")]
