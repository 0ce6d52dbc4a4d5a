"""The calls of `Arm`, through the real SDK, against the fake Azure in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError
from azure.core.rest import AsyncHttpResponse, HttpRequest

from kaito.provisioner import errors
from kaito.provisioner.aks.arm import Arm, Operation
from kaito.provisioner.testing import AZURE_ASYNC, LOCATION, FakeArm, Reply, Style
from kaito.provisioner.testing.azure import MemoryResponse, MemoryTransport
from kaito.runtime.clock import Clock
from provisioner.aks.armworld import CLIENT_ID, body, in_memory

WRITE = "Microsoft.ContainerService/managedClusters/agentPools/write"


@pytest.fixture
def fake(virtual_clock: Clock) -> FakeArm:
    return FakeArm(virtual_clock)


@pytest.fixture
async def arm(fake: FakeArm, virtual_clock: Clock) -> AsyncIterator[Arm]:
    async with in_memory(fake, virtual_clock) as arm:
        yield arm


async def test_a_pool_from_nothing_to_running_and_gone(arm: Arm, fake: FakeArm, virtual_clock: Clock) -> None:
    with pytest.raises(errors.InstanceNotFound):
        await arm.get_pool("ws1")
    started = await arm.put_pool("ws1", body(nodeLabels={"a": "b"}), etag=None)
    assert started.body["properties"]["provisioningState"] == "Creating"
    assert virtual_clock.now() == 0, "nobody waited for the operation"
    assert await arm.operation(started.operation) == Operation("InProgress")
    await virtual_clock.sleep(300)
    assert await arm.operation(started.operation) == Operation("Succeeded")
    found = await arm.get_pool("ws1")
    assert found.body["properties"]["provisioningState"] == "Succeeded"
    assert found.body["properties"]["nodeLabels"]["a"] == "b"
    assert [each["name"] for each in await arm.list_pools()] == ["ws1"]
    assert len(await arm.list_machines("ws1")) == 1
    leaving = await arm.delete_pool("ws1", etag=found.etag)
    assert leaving.operation
    await virtual_clock.sleep(120)
    assert await arm.operation(leaving.operation) == Operation("Succeeded")
    with pytest.raises(errors.InstanceNotFound):
        await arm.get_pool("ws1")
    with pytest.raises(errors.InstanceNotFound):
        await arm.delete_pool("ws1", etag=None)


async def test_what_each_call_sends(arm: Arm, fake: FakeArm, virtual_clock: Clock) -> None:
    await arm.put_pool("ws1", body(), etag=None)
    await virtual_clock.sleep(300)
    etag = (await arm.get_pool("ws1")).etag
    assert etag == fake.pools["ws1"].etag
    await arm.put_pool("ws1", body(tags={"a": "b"}), etag=etag)
    await virtual_clock.sleep(60)
    await arm.delete_pool("ws1", etag=(await arm.get_pool("ws1")).etag)
    first, second = (each.request for each in fake.calls("put_pool"))
    assert first.headers["if-none-match"] == "*"
    assert "if-match" not in first.headers
    assert first.body == body(), "nothing is added and nothing taken away"
    assert second.headers["if-match"].strip('"') == etag
    (deletion,) = (each.request for each in fake.calls("delete_pool"))
    assert deletion.query["ignore-pod-disruption-budget"] == "true"
    assert "if-match" in deletion.headers
    assert {each.request.headers["user-agent"].split("/")[0] for each in fake.requests} == {
        "kaito-provisioner"
    }


async def test_a_pool_that_is_there_or_has_changed_is_not_written_over(
    arm: Arm, fake: FakeArm, virtual_clock: Clock
) -> None:
    theirs = fake.portal.create_pool("ws1")
    before = theirs.etag
    with pytest.raises(errors.PreconditionFailed):
        await arm.put_pool("ws1", body(), etag=None)
    fake.portal.change_pool("ws1", tags={"who": "they"})
    for attempt in (arm.put_pool("ws1", body(), etag=before), arm.delete_pool("ws1", etag=before)):
        with pytest.raises(errors.PreconditionFailed):
            await attempt
    assert fake.pools["ws1"].properties["tags"] == {"who": "they"}


async def test_the_cluster_and_its_power_state(arm: Arm, fake: FakeArm) -> None:
    assert (await arm.get_cluster()).body["properties"]["powerState"] == {"code": "Running"}
    fake.stop_cluster(seconds=0)
    assert (await arm.get_cluster()).body["properties"]["powerState"] == {"code": "Stopped"}
    with pytest.raises(errors.ClusterNotRunning):
        await arm.put_pool("ws1", body(), etag=None)


async def test_a_cluster_that_is_gone_is_never_a_pool_that_is_gone(arm: Arm, fake: FakeArm) -> None:
    fake.portal.create_pool("ws1")
    fake.portal.delete_cluster()
    for call in (
        arm.get_pool("ws1"),
        arm.delete_pool("ws1", etag=None),
        arm.put_pool("ws2", body(), etag=None),
        arm.list_pools(),
        arm.list_machines("ws1"),
        arm.get_cluster(),
    ):
        with pytest.raises(errors.ClusterNotFound) as caught:
            await call
        assert fake.place.cluster in caught.value.message


@pytest.mark.parametrize("call", ["get_pool", "delete_pool", "list_machines"])
async def test_a_404_that_does_not_say_of_what_is_asked_about(arm: Arm, fake: FakeArm, call: str) -> None:
    async def ask() -> None:
        if call == "delete_pool":
            await arm.delete_pool("ws1", etag=None)
        else:
            await getattr(arm, call)("ws1")

    fake.fail_next(call, code="NotFound", message="Not found.", status=404, times=None)  # type: ignore[arg-type]
    with pytest.raises(errors.InstanceNotFound):
        await ask()
    assert len(fake.calls("get_cluster")) == 1
    fake.portal.delete_cluster()
    with pytest.raises(errors.ClusterNotFound):
        await ask()
    fake.deny("Microsoft.ContainerService/managedClusters/read")
    fake.world.cluster.exists = True
    with pytest.raises(errors.Unauthorized):
        await ask()


async def test_an_answer_without_a_pool_s_deletion_is_its_absence(arm: Arm, fake: FakeArm) -> None:
    fake.delete_absent = 204
    with pytest.raises(errors.InstanceNotFound):
        await arm.delete_pool("ws1", etag=None)


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_every_good_status_of_a_put_is_taken_as_accepted(arm: Arm, fake: FakeArm, status: int) -> None:
    fake.put_style = Style(status)
    assert (await arm.put_pool("ws1", body(), etag=None)).operation
    assert "ws1" in fake.pools


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("headers", [(), (LOCATION,), (AZURE_ASYNC, LOCATION)])
async def test_a_deletion_is_taken_as_accepted_and_says_where_to_look_if_azure_does(
    arm: Arm, fake: FakeArm, virtual_clock: Clock, status: int, headers: tuple[str, ...]
) -> None:
    fake.portal.create_pool("ws1")
    fake.delete_style = Style(status, headers)
    answer = await arm.delete_pool("ws1", etag=None)
    assert bool(answer.operation) == bool(headers)
    if headers:
        assert (await arm.operation(answer.operation)).status == "InProgress"
        await virtual_clock.sleep(120)
        assert (await arm.operation(answer.operation)).status == "Succeeded"


async def test_operations_that_fail_are_canceled_or_forgotten(
    arm: Arm, fake: FakeArm, virtual_clock: Clock
) -> None:
    fake.provisioning_error("*", "ZonalAllocationFailed", "Allocation failed.", pool="ws1")
    fake.end_next("create", "Canceled", pool="ws2")
    fake.end_next("create", "InProgress", pool="ws3")
    started = {name: await arm.put_pool(name, body(), etag=None) for name in ("ws1", "ws2", "ws3")}
    await virtual_clock.sleep(3000)
    failed = await arm.operation(started["ws1"].operation)
    assert failed.status == "Failed"
    assert isinstance(failed.error, errors.InsufficientCapacity)
    assert failed.error.why == "ZonalAllocationFailure"
    canceled = await arm.operation(started["ws2"].operation)
    assert canceled.status == "Canceled"
    assert isinstance(canceled.error, errors.OperationCanceled)
    assert (await arm.operation(started["ws3"].operation)).status == "InProgress"
    fake.fail_next("operation", code="NotFound", status=404)
    assert await arm.operation(started["ws3"].operation) == Operation("Unknown")
    detail = (await arm.get_pool("ws1")).body["properties"]["status"]["provisioningError"]
    assert arm.problem(detail).why == "ZonalAllocationFailure"


async def test_retry_after_comes_with_every_answer(arm: Arm, fake: FakeArm) -> None:
    fake.retry_after = 17
    started = await arm.put_pool("ws1", body(), etag=None)
    assert started.retry_after == 17
    assert (await arm.operation(started.operation)).retry_after == 17
    fake.throttle("get_pool", retry_after=21)
    with pytest.raises(errors.Throttled) as caught:
        await arm.get_pool("ws1")
    assert caught.value.retry_after == 21


@pytest.mark.parametrize("nested", [True, False])
async def test_both_shapes_of_a_conflict(arm: Arm, fake: FakeArm, nested: bool) -> None:
    fake.fail_next("put_pool", code="AnotherOperationInProgress", nested=nested, retry_after=9)
    with pytest.raises(errors.OperationInProgress) as caught:
        await arm.put_pool("ws1", body(), etag=None)
    assert caught.value.retry_after == 9
    assert not isinstance(caught.value, errors.PreconditionFailed)


async def test_another_operation_on_the_cluster_as_aks_itself_words_it(arm: Arm, fake: FakeArm) -> None:
    fake.exclusive = True
    await arm.put_pool("ws1", body(), etag=None)
    with pytest.raises(errors.OperationInProgress) as caught:
        await arm.put_pool("ws2", body(), etag=None)
    assert type(caught.value) is errors.OperationInProgress


async def test_a_quota_as_the_fake_has_it(arm: Arm, fake: FakeArm) -> None:
    fake.quota.limit("standardNCSv3Family", 8, used=6)
    with pytest.raises(errors.QuotaReached) as caught:
        await arm.put_pool("ws1", body(), etag=None)
    assert "standardNCSv3Family" in caught.value.message
    assert "6 vCPUs needed, 2 left" in caught.value.message


async def test_usages_and_sizes_of_the_region_on_all_their_pages(arm: Arm, fake: FakeArm) -> None:
    usages = await arm.usages()
    assert {"cores", "lowPriorityCores"} <= {each["name"]["value"] for each in usages}
    at_once = await arm.resource_skus()
    fake.sku_page = 4
    assert await arm.resource_skus() == at_once
    first, *more = (each.request for each in fake.calls("skus"))
    assert first.query["$filter"] == f"location eq '{fake.place.location}'"
    assert len(more) > 3


async def test_a_role_that_lacks_is_named_with_the_identity_and_the_command(arm: Arm, fake: FakeArm) -> None:
    fake.deny(WRITE, "Microsoft.Compute/locations/usages/read")
    with pytest.raises(errors.Unauthorized) as caught:
        await arm.put_pool("ws1", body(), etag=None)
    assert {CLIENT_ID, WRITE, "az"} <= set(caught.value.message.replace(";", " ").split())
    with pytest.raises(errors.Unauthorized) as caught:
        await arm.usages()
    assert '"Reader"' in caught.value.message


async def test_a_lost_connection_is_tried_once_more_after_half_a_second(
    arm: Arm, fake: FakeArm, virtual_clock: Clock
) -> None:
    fake.drop_next("list_pools")
    assert await arm.list_pools() == []
    assert virtual_clock.now() == 0.5
    fake.drop_next("list_pools", times=None)
    with pytest.raises(errors.CloudUnreachable):
        await arm.list_pools()
    assert virtual_clock.now() == 1.0
    assert len(fake.calls("list_pools")) == 4


async def test_a_put_whose_answer_was_lost_does_not_make_a_second_pool(arm: Arm, fake: FakeArm) -> None:
    fake.drop_next("put_pool", applied=True)
    with pytest.raises(errors.PreconditionFailed):
        await arm.put_pool("ws1", body(), etag=None)
    assert len(fake.operations) == 1


async def test_nothing_else_is_tried_again(arm: Arm, fake: FakeArm, virtual_clock: Clock) -> None:
    for code in ("InternalServerError", "ServiceUnavailable", "TooManyRequests", "Conflict"):
        fake.fail_next("get_pool", code=code, retry_after=3)
        with pytest.raises(errors.CloudError):
            await arm.get_pool("ws1")
    assert len(fake.requests) == 4
    assert virtual_clock.now() == 0


async def test_a_service_that_is_not_registered_is_left_so(
    arm: Arm, fake: FakeArm, virtual_clock: Clock
) -> None:
    message = "The subscription is not registered to use namespace 'Microsoft.ContainerService'."
    fake.fail_next("put_pool", code="MissingSubscriptionRegistration", message=message)
    with pytest.raises(errors.ProviderNotRegistered):
        await arm.put_pool("ws1", body(), etag=None)
    assert [each.call for each in fake.requests] == ["put_pool"], "the SDK would POST a registration and poll"


async def test_every_request_has_its_limit_of_time(arm: Arm, fake: FakeArm, virtual_clock: Clock) -> None:
    fake.latency = 3600
    for call in (arm.get_pool("ws1"), arm.usages(), arm.put_pool("ws1", body(), etag=None)):
        before = virtual_clock.now()
        with pytest.raises(errors.CloudUnreachable) as caught:
            await call
        assert virtual_clock.now() - before == 30
        assert "within 30 seconds" in caught.value.message


class Dripping(MemoryTransport):
    """Sends headers at once and the body never."""

    def __init__(self, fake: FakeArm, clock: Clock) -> None:
        super().__init__(fake, clock)
        self._drips = clock

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        response = await super().send(request, **kwargs)
        clock = self._drips

        class Slow(MemoryResponse):
            async def read(self) -> bytes:
                await clock.sleep(1e9)
                return b""

        return Slow(request, Reply(response.status_code, dict(response.headers), response.content))


async def test_a_body_that_does_not_end_falls_under_the_limit_too(
    fake: FakeArm, virtual_clock: Clock
) -> None:
    async with in_memory(fake, virtual_clock, transport=Dripping(fake, virtual_clock)) as arm:
        with pytest.raises(errors.CloudUnreachable):
            await arm.put_pool("ws1", body(), etag=None)
    assert virtual_clock.now() == 30


async def test_calls_in_flight_are_limited_and_go_in_turn(fake: FakeArm, virtual_clock: Clock) -> None:
    fake.latency = 1.0
    ended: list[float] = []
    async with in_memory(fake, virtual_clock, calls_in_flight=4) as arm:

        async def call() -> None:
            await arm.list_pools()
            ended.append(virtual_clock.now())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(call())
            await virtual_clock.sleep(0.5)
            assert (arm.metrics.in_flight, arm.metrics.waiting) == (4, 6)
    assert ended == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert (arm.metrics.in_flight, arm.metrics.waiting) == (0, 0)


async def test_a_call_that_is_cancelled_gives_its_turn_back(fake: FakeArm, virtual_clock: Clock) -> None:
    fake.latency = 10.0
    async with in_memory(fake, virtual_clock, calls_in_flight=1) as arm:
        first, second = (asyncio.create_task(arm.list_pools()) for _ in range(2))
        await virtual_clock.sleep(1)
        first.cancel()
        await asyncio.wait([first])
        assert await second == []
        assert virtual_clock.now() == 11
        assert (arm.metrics.in_flight, arm.metrics.waiting) == (0, 0)


class Scripted(MemoryTransport):
    """Gives these answers, then the fake's."""

    def __init__(self, fake: FakeArm, clock: Clock, *replies: Reply) -> None:
        super().__init__(fake, clock)
        self.replies = list(replies)
        self.asked: list[str] = []

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        self.asked.append(request.url)
        if self.replies:
            return MemoryResponse(request, self.replies.pop(0))
        return await super().send(request, **kwargs)


async def test_a_token_goes_nowhere_but_to_the_resource_manager(fake: FakeArm, virtual_clock: Clock) -> None:
    elsewhere = "https://management.azure.com.example.net/next"
    page = Reply.of(200, {"value": [], "nextLink": elsewhere})
    moved = Reply.of(302, None, {"Location": elsewhere})
    transport = Scripted(fake, virtual_clock, page, page, moved)
    async with in_memory(fake, virtual_clock, transport=transport) as arm:
        for call in (
            arm.list_pools(),
            arm.usages(),
            arm.get_cluster(),
            arm.operation(elsewhere),
            arm.operation("http://management.azure.com/operations/1"),
            arm.operation("https://user@management.azure.com/operations/1"),
        ):
            with pytest.raises(errors.CloudError):
                await call
    assert not [url for url in transport.asked if not url.startswith("https://management.azure.com/")]
    assert len(transport.asked) == 3


async def test_an_operation_in_one_of_the_resource_manager_s_regions_is_asked_there(
    fake: FakeArm, virtual_clock: Clock
) -> None:
    transport = Scripted(fake, virtual_clock, Reply.of(200, {"status": "Succeeded"}))
    async with in_memory(fake, virtual_clock, transport=transport) as arm:
        assert (await arm.operation("https://eastus.management.azure.com/operations/1")).status == "Succeeded"


async def test_a_proxy_s_page_is_no_answer(fake: FakeArm, virtual_clock: Clock) -> None:
    page = Reply(200, {"Content-Type": "text/html"}, b"<html>Please sign in</html>")
    error = Reply(502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>")
    async with in_memory(fake, virtual_clock, transport=Scripted(fake, virtual_clock, page, error)) as arm:
        with pytest.raises(errors.CloudUnreachable) as caught:
            await arm.get_pool("ws1")
        assert "proxy" in caught.value.message
        with pytest.raises(errors.CloudUnavailable):
            await arm.get_pool("ws1")


@pytest.mark.parametrize("said", [b"", b"null", b"[]", b"{}"])
async def test_an_answer_with_nothing_in_it_is_not_an_empty_list(
    fake: FakeArm, virtual_clock: Clock, said: bytes
) -> None:
    replies = [Reply(200, {}, said)] * 3
    async with in_memory(fake, virtual_clock, transport=Scripted(fake, virtual_clock, *replies)) as arm:
        for call in (arm.list_pools(), arm.usages()):
            with pytest.raises(errors.CloudError):
                await call
        if said != b"{}":
            with pytest.raises(errors.CloudError):
                await arm.get_cluster()


async def test_a_list_without_an_end_is_given_up(fake: FakeArm, virtual_clock: Clock) -> None:
    page = Reply.of(200, {"value": [], "nextLink": "https://management.azure.com/subscriptions/again"})
    async with in_memory(fake, virtual_clock, transport=Scripted(fake, virtual_clock, *[page] * 500)) as arm:
        for call in (arm.list_pools(), arm.usages()):
            with pytest.raises(errors.CloudUnavailable):
                await call


async def test_a_list_whose_second_page_fails_is_no_list(fake: FakeArm, virtual_clock: Clock) -> None:
    page = Reply.of(200, {"value": [], "nextLink": "https://management.azure.com/subscriptions/again"})
    failure = Reply.of(503, None)
    replies = [page, failure, page, failure]
    async with in_memory(fake, virtual_clock, transport=Scripted(fake, virtual_clock, *replies)) as arm:
        for call in (arm.list_pools(), arm.usages()):
            with pytest.raises(errors.CloudUnavailable):
                await call


async def test_a_put_that_was_accepted_stays_so_with_a_date_in_retry_after(
    fake: FakeArm, virtual_clock: Clock
) -> None:
    headers = {
        "Date": "Sat, 21 Nov 2026 20:00:00 GMT",
        "Retry-After": "Sat, 21 Nov 2026 20:00:25 GMT",
        AZURE_ASYNC: "https://management.azure.com/operations/1",
    }
    accepted = Reply.of(201, {"name": "ws1", "properties": {"eTag": "e"}}, headers)
    async with in_memory(fake, virtual_clock, transport=Scripted(fake, virtual_clock, accepted)) as arm:
        answer = await arm.put_pool("ws1", body(), etag=None)
    assert answer.retry_after == 25
    assert answer.operation == headers[AZURE_ASYNC]
    assert answer.etag == "e"


class Silent(MemoryTransport):
    """The connection ends before an answer, in the way that is not tried again."""

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        raise ServiceResponseError("reset while reading")


async def test_the_numbers_of_all_calls(arm: Arm, fake: FakeArm, virtual_clock: Clock) -> None:
    def numbers() -> dict[tuple[str, ...], float]:
        return {
            (sample.name.removeprefix("kaito_provisioner_arm_"), *sample.labels.values()): sample.value
            for family in arm.metrics.collect()
            for sample in family.samples
        }

    before = numbers()
    assert set(before.values()) == {0}
    assert before["requests_total", "put_pool", "429"] == 0, "there from the start, for alerts that compare"
    fake.latency = 0.2
    fake.throttle("put_pool")
    fake.drop_next("get_pool")
    fake.fail_next("get_cluster", code="InternalServerError")
    for call in (arm.put_pool("ws1", body(), etag=None), arm.get_pool("ws1"), arm.get_cluster()):
        with pytest.raises(errors.CloudError):
            await call
    fake.sku_page = 10
    await arm.resource_skus()
    after = numbers()
    assert after["requests_total", "put_pool", "429"] == 1
    assert after["requests_total", "get_pool", "none"] == 1
    assert after["requests_total", "get_pool", "4xx"] == 1
    assert after["requests_total", "get_cluster", "5xx"] == 1
    assert after["requests_total", "resource_skus", "2xx"] == 3
    assert after["request_seconds_count", "resource_skus"] == 3
    assert after["request_seconds_sum", "resource_skus"] == pytest.approx(0.6)
    assert after["in_flight",] == after["waiting",] == 0


async def test_a_connection_that_breaks_in_an_answer_is_counted_as_none(
    fake: FakeArm, virtual_clock: Clock
) -> None:
    async with in_memory(fake, virtual_clock, transport=Silent(fake, virtual_clock)) as arm:
        with pytest.raises(errors.CloudUnreachable):
            await arm.get_cluster()
    assert arm.metrics.answers["get_cluster"]["none"] == 1
