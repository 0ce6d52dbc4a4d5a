"""A provisioner of AKS as a process would be one: its own connections, the real SDK, a fake Azure, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from azure.core.rest import AsyncHttpResponse, HttpRequest

from kaito.controllers import machine
from kaito.provisioner import aks
from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.testing import FakeArm
from kaito.provisioner.testing.azure import MemoryTransport as Azure
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import NODES
from support.control_plane import ControlPlane


class SlowPuts(Azure):
    """Azure over a line on which requests that make something take their time, and arrive though nobody waits."""

    def __init__(self, arm: FakeArm, clock: Clock) -> None:
        super().__init__(arm, clock)
        self.delay = 0.0
        self.under_way: list[asyncio.Task[AsyncHttpResponse]] = []
        self._time = clock

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        if request.method != "PUT" or not self.delay:
            return await super().send(request, **kwargs)
        self.under_way.append(asyncio.create_task(self._send_late(request)))
        return await asyncio.shield(self.under_way[-1])

    async def _send_late(self, request: HttpRequest) -> AsyncHttpResponse:
        await self._time.sleep(self.delay)
        return await super().send(request)


def settings(fake: FakeArm) -> AksConfig:
    """Of the fake's cluster."""
    place = fake.place
    return AksConfig(
        place.location, place.resource_group, place.cluster, place.subscription, sign_in=SignIn.NONE
    )


class Provisioner:
    """Runs from its making to `end`. lease: whether it leads only while it holds the lease."""

    def __init__(
        self,
        name: str,
        world: ControlPlane,
        fake: FakeArm,
        *,
        lease: bool = False,
        limits: machine.Limits = machine.DEFAULT_LIMITS,
    ) -> None:
        self.faults = FaultScript()
        self.transport = MemoryTransport(world.server.handle, world.clock, self.faults)
        client = Client(self.transport, clock=world.clock, user_agent=name, field_manager="kaito-machine")
        election = LeaderElectionOptions("kaito-provisioner", "default", identity=name)
        options = ManagerOptions(leader_election=election if lease else None)
        self.manager = Manager(client, clock=world.clock, options=options)
        self.azure = SlowPuts(fake, world.clock)
        self.way = Arm(settings(fake), world.clock, transport=self.azure)
        nodes = self.manager.cache.informer(NODES).lister
        provider = aks.build(settings(fake), world.clock, nodes, arm=self.way)
        machine.setup(self.manager, provider, limits=limits)
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.manager.run(self.stop), name=name)

    def cut(self) -> None:
        """Nothing it sends to the API server arrives any more; Azure still hears it."""
        self.faults.add(Fault(refuse="cut off"), times=100_000)

    def kill(self) -> None:
        """As `kill -9`: nothing that it sends arrives any more, and nothing is tidied up."""
        self.cut()
        self.task.cancel()

    async def end(self) -> None:
        self.stop.set()
        await asyncio.gather(self.task, *self.azure.under_way, return_exceptions=True)
        await self.way.close()
        await self.transport.close()


@asynccontextmanager
async def provisioner(world: ControlPlane, fake: FakeArm, **options: Any) -> AsyncIterator[Provisioner]:
    """One that runs inside the block."""
    running = Provisioner("provisioner", world, fake, **options)
    try:
        await world.clock.sleep(0.1)
        yield running
    finally:
        await running.end()
