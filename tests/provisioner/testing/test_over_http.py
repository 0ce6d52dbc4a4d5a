"""The fake over sockets: the same answers to the same SDK, links that lead back, and as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.mgmt.containerservice.aio import ContainerServiceClient

from kaito.provisioner.testing import ArmServer, FakeArm, Place
from kaito.provisioner.testing.__main__ import main
from kaito.runtime.clock import LoopClock
from provisioner.testing.sdk import body, names, over_http


@pytest.fixture
def arm() -> FakeArm:
    clock = LoopClock()
    arm = FakeArm(clock)
    arm.durations.create = arm.durations.delete = 0.2
    return arm


@pytest.fixture
async def sdk(arm: FakeArm) -> AsyncIterator[ContainerServiceClient]:
    async with ArmServer(arm, LoopClock()) as server, over_http(arm, server.url) as client:
        yield client


async def test_a_pool_comes_and_goes(sdk: ContainerServiceClient, arm: FakeArm) -> None:
    poller = await sdk.agent_pools.begin_create_or_update(*names(arm), body())
    assert (await poller.result()).provisioning_state == "Succeeded"
    await (await sdk.agent_pools.begin_delete(*names(arm))).result()
    assert not arm.pools
    order = list(dict.fromkeys(call.call for call in arm.requests))
    assert order == ["put_pool", "operation", "get_pool", "delete_pool"]


async def test_errors_have_status_code_and_body(sdk: ContainerServiceClient, arm: FakeArm) -> None:
    arm.throttle(retry_after=7)
    with pytest.raises(HttpResponseError) as caught:
        await sdk.agent_pools.get(*names(arm))
    assert caught.value.response is not None
    assert (caught.value.status_code, caught.value.response.headers["Retry-After"]) == (429, "7")
    assert caught.value.error is not None
    assert caught.value.error.code == "TooManyRequests"


async def test_a_connection_that_drops_twice(sdk: ContainerServiceClient, arm: FakeArm) -> None:
    """Once is not enough: aiohttp itself repeats a request whose connection broke."""
    arm.drop_next("put_pool", applied=True, times=2)
    with pytest.raises(ServiceRequestError):
        await sdk.agent_pools.begin_create_or_update(*names(arm), body(), polling=False)
    assert list(arm.pools) == ["ws1"]


@pytest.mark.processes
async def test_as_a_process_it_says_how_to_find_it_and_shows_what_it_is_asked(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "kaito.provisioner.testing", "--no-nodes", "--cluster", "mine", "--quota", "cores=30"),
        *("--fail", "Standard_D2s_v5=AllocationFailed", "--create-seconds", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        lines = [(await process.stdout.readline()).decode().strip() for _ in range(6)]
        settings = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        assert settings["AZURE_CLUSTER_NAME"] == "mine"
        arm = FakeArm(LoopClock(), Place(cluster="mine"))
        async with over_http(arm, settings["AZURE_RESOURCE_MANAGER_ENDPOINT"]) as sdk:
            poller = await sdk.agent_pools.begin_create_or_update(*names(arm), body())
            assert (await poller.result()).provisioning_state == "Succeeded"
            with pytest.raises(HttpResponseError, match="regional vcpu quota"):
                await sdk.agent_pools.begin_create_or_update(*names(arm, "ws2"), body())
            poller = await sdk.agent_pools.begin_create_or_update(*names(arm, "ws3"), body("Standard_D2s_v5"))
            with pytest.raises(HttpResponseError, match="AllocationFailed"):
                await poller.result()
    finally:
        process.send_signal(signal.SIGINT)
        _, seen = await process.communicate()
    assert process.returncode == 0
    assert "put_pool ws2 -> 400 ErrCode_InsufficientVCPUQuota" in seen.decode()


def test_a_kubeconfig_that_is_not_there_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--kubeconfig", "/nowhere/kubeconfig"]) == 1
    assert capsys.readouterr().err.startswith("error: kubeconfig not found: /nowhere/kubeconfig")


@pytest.mark.parametrize("option", ["--quota=cores", "--quota=cores=many", "--fail=Standard_X"])
def test_options_that_are_not_understood_are_explained(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([option])
    assert option.partition("=")[2] in capsys.readouterr().err
