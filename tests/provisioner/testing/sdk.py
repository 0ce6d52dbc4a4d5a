"""The real Azure SDK, pointed at the fake: in memory and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.containerservice.aio import ContainerServiceClient

from kaito.provisioner.testing import FakeArm
from kaito.provisioner.testing.azure import FakeCredential, MemoryTransport
from kaito.runtime.clock import Clock

A100 = "Standard_NC24ads_A100_v4"


class Bearer(SansIOHTTPPolicy[Any, Any]):
    """A token for plain HTTP, which the SDK's own policy refuses to use."""

    def on_request(self, request: Any) -> None:
        request.http_request.headers["Authorization"] = "Bearer fake"


@asynccontextmanager
async def in_memory(arm: FakeArm, clock: Clock, **options: Any) -> AsyncIterator[ContainerServiceClient]:
    client = ContainerServiceClient(
        FakeCredential(),
        arm.place.subscription,
        transport=MemoryTransport(arm, clock),
        **{"retry_total": 0, "polling_interval": 30, **options},
    )
    async with client:
        yield client


@asynccontextmanager
async def over_http(arm: FakeArm, url: str, **options: Any) -> AsyncIterator[ContainerServiceClient]:
    client = ContainerServiceClient(
        FakeCredential(),
        arm.place.subscription,
        base_url=url,
        authentication_policy=Bearer(),
        **{"retry_total": 0, "polling_interval": 0, **options},
    )
    async with client:
        yield client


def body(vm_size: str = A100, **properties: Any) -> dict[str, Any]:
    return {"properties": {"vmSize": vm_size, "count": 1, "mode": "User", **properties}}


def names(arm: FakeArm, pool: str = "ws1") -> tuple[str, str, str]:
    return arm.place.resource_group, arm.place.cluster, pool
