"""What the fixture `memory_api` gives to a test: an API server in the test's own event loop, in virtual time."""

from __future__ import annotations

from pathlib import Path

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.client import Client
from kaito.runtime.crd import Source, manifests
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.testing import VirtualClock
from kaito.testing.crds import serve
from kaito.testing.faults import Faults, FaultyTransport


class MemoryApi:
    """The embedded API server without sockets: hours pass in milliseconds, and moments are exact.

    Attributes
        clock: the test's clock.
        server: the server itself.
        faults: what goes wrong between clients and the server, and what has gone wrong.
        transport: how clients reach it, through the faults.
        namespace: "default", which is there; nothing is shared with other tests.
    """

    namespace = "default"

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.server = ApiServer(ApiServerOptions(clock=clock))
        self.faults = Faults(clock)
        self._memory = MemoryTransport(self.server.handle, clock)
        self.transport = FaultyTransport(self._memory, self.faults, clock)

    def client(self, user_agent: str = "test", field_manager: str | None = None) -> Client:
        """A client that meets the faults."""
        return Client(
            self.transport, clock=self.clock, user_agent=user_agent, field_manager=field_manager or user_agent
        )

    def direct_client(self, user_agent: str = "test", field_manager: str | None = None) -> Client:
        """A client that does not."""
        return Client(
            self._memory, clock=self.clock, user_agent=user_agent, field_manager=field_manager or user_agent
        )

    async def load(self, *sources: Source) -> None:
        """Serve custom resources; sources as for `KubeApi.load`."""
        found = [definition for source in sources for definition in manifests(source, Path.cwd())]
        await serve(self.direct_client("kaito-testing"), found, self.clock)

    async def restart(self, outage: float = 0.0) -> None:
        """The server goes away as in a crash and comes back with its data: all watches break, and requests through
        the faults are refused for `outage` seconds. Returns when it serves."""
        await self.transport.outage(outage)

    async def close(self) -> None:
        """End watches and the server."""
        await self.transport.close()
        await self.server.stop()
