"""An API server with KAITO's CRDs in it, in this process and in virtual time if the clock says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kaito.api.crds import crd_manifests
from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import CRDS
from kaito.runtime.transport import Request, Response


@dataclass
class ControlPlane:
    """A server and a client of it. `requests` records what other clients than `client` send, watches aside."""

    server: ApiServer
    transport: MemoryTransport
    client: Client
    clock: Clock
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(user agent, method, path) of each request."""

    def writes(self, agent: str = "") -> list[tuple[str, str]]:
        """Method and path of the requests of one agent."""
        return [(method, path) for who, method, path in self.requests if who.startswith(agent)]


@asynccontextmanager
async def control_plane(clock: Clock) -> AsyncIterator[ControlPlane]:
    """Runs until the block ends."""
    server = ApiServer(ApiServerOptions(clock=clock))
    requests: list[tuple[str, str, str]] = []

    async def handle(request: Request) -> Response:
        agent = request.headers.get("User-Agent", "")
        if ("watch", "true") not in request.query:
            requests.append((agent, request.method, request.path))
        return await server.handle(request)

    transport = MemoryTransport(handle, clock)
    client = Client(transport, clock=clock, user_agent="test", field_manager="test")
    try:
        for manifest in crd_manifests():
            await client.create(CRDS, manifest)
        requests.clear()
        yield ControlPlane(server, transport, client, clock, requests)
    finally:
        await transport.close()
        await server.stop()
