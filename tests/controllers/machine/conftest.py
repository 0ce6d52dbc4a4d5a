"""The world of these tests: an API server in this process and in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kaito.provisioner.testing import FakeArm, FakeKubelets
from kaito.runtime.testing.virtual import VirtualClock
from support.control_plane import ControlPlane, control_plane


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


@pytest.fixture
def fake(world: ControlPlane) -> FakeArm:
    return FakeArm(world.clock)


@pytest.fixture
async def kubelets(world: ControlPlane, fake: FakeArm) -> AsyncIterator[FakeKubelets]:
    async with FakeKubelets(fake, world.client, world.clock) as found:
        yield found
