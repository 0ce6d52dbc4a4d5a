"""An `Arm` whose Azure is the fake: in memory on any clock, or over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.aks.pipeline import Transport
from kaito.provisioner.testing import FakeArm
from kaito.provisioner.testing.azure import FakeCredential, MemoryTransport
from kaito.runtime.clock import Clock

GPU = "Standard_NC6s_v3"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"


def config(fake: FakeArm, **fields: Any) -> AksConfig:
    """The settings of the fake's cluster."""
    place = fake.place
    return replace(
        AksConfig(
            location=place.location,
            resource_group=place.resource_group,
            cluster=place.cluster,
            subscription_id=place.subscription,
            client_id=CLIENT_ID,
        ),
        **fields,
    )


@asynccontextmanager
async def in_memory(
    fake: FakeArm, clock: Clock, *, transport: Transport | None = None, **fields: Any
) -> AsyncIterator[Arm]:
    """fields: of the configuration. transport: default: the fake's own."""
    arm = Arm(
        config(fake, **fields),
        clock,
        credential=FakeCredential(),
        transport=transport or MemoryTransport(fake, clock),
    )
    try:
        yield arm
    finally:
        await arm.close()


@asynccontextmanager
async def over_http(fake: FakeArm, clock: Clock, url: str, **fields: Any) -> AsyncIterator[Arm]:
    """As a process would be configured with a fake on loopback: no credential."""
    arm = Arm(config(fake, arm=url, sign_in=SignIn.NONE, **fields), clock)
    try:
        yield arm
    finally:
        await arm.close()


def body(vm_size: str = GPU, **properties: Any) -> dict[str, Any]:
    return {"properties": {"vmSize": vm_size, "count": 1, "mode": "User", "osType": "Linux", **properties}}
