"""The same calls over sockets: aiohttp's own errors, and no token on plain http."""

from __future__ import annotations

import pytest

from kaito.provisioner import errors
from kaito.provisioner.aks.identity import LOOPBACK_TOKEN
from kaito.provisioner.testing import ArmServer, FakeArm
from kaito.runtime.clock import LoopClock
from kaito.testing.backends.programs import free_port
from provisioner.aks.armworld import body, over_http


async def test_a_pool_is_made_and_deleted_over_http_without_a_credential() -> None:
    clock = LoopClock()
    fake = FakeArm(clock)
    fake.accepted_tokens = {LOOPBACK_TOKEN}
    async with ArmServer(fake, clock) as server, over_http(fake, clock, server.url) as arm:
        started = await arm.put_pool("ws1", body(), etag=None)
        assert (await arm.operation(started.operation)).status == "InProgress"
        found = await arm.get_pool("ws1")
        assert found.body["properties"]["provisioningState"] == "Creating"
        with pytest.raises(errors.PreconditionFailed):
            await arm.put_pool("ws1", body(), etag=None)
        await arm.delete_pool("ws1", etag=found.etag)
        assert len(await arm.resource_skus()) > 10
        assert await arm.usages()
        with pytest.raises(errors.InstanceNotFound):
            await arm.get_pool("ws2")


async def test_a_connection_that_is_refused_or_reset_is_not_reachable() -> None:
    clock = LoopClock()
    fake = FakeArm(clock)
    async with over_http(fake, clock, f"http://127.0.0.1:{free_port()}") as arm:
        with pytest.raises(errors.CloudUnreachable) as caught:
            await arm.list_pools()
        assert "127.0.0.1" in caught.value.message
    async with ArmServer(fake, clock) as server, over_http(fake, clock, server.url) as arm:
        fake.drop_next("list_pools", times=None)
        with pytest.raises(errors.CloudUnreachable):
            await arm.list_pools()
        fake.forgive()
        assert await arm.list_pools() == []


async def test_an_answer_that_does_not_come_ends_at_the_limit() -> None:
    clock = LoopClock()
    fake = FakeArm(clock)
    fake.latency = 0.5
    async with (
        ArmServer(fake, clock) as server,
        over_http(fake, clock, server.url, request_timeout=0.05) as arm,
    ):
        with pytest.raises(errors.CloudUnreachable) as caught:
            await arm.put_pool("ws1", body(), etag=None)
        assert "within 0.05 seconds" in caught.value.message


async def test_a_token_that_is_not_accepted_is_unauthorized() -> None:
    clock = LoopClock()
    fake = FakeArm(clock)
    fake.accepted_tokens = {"another"}
    async with ArmServer(fake, clock) as server, over_http(fake, clock, server.url) as arm:
        with pytest.raises(errors.Unauthorized):
            await arm.list_pools()
