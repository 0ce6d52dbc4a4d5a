"""The backend that is always there: the embedded Kubernetes, in the event loop that asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.clock import Clock
from kaito.testing.backends.base import API, CONTEXT, PROCESSES, READY_PODS, SERVICE_NETWORK, WORKLOADS

if TYPE_CHECKING:
    from kaito.testing.backends.companions import Companions


class EmbeddedBackend:
    """An `ApiServer` on loopback, and the controllers that were asked for beside it."""

    name = "embedded"

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._server = ApiServer(ApiServerOptions(clock=clock, service_cidr=SERVICE_NETWORK, context=CONTEXT))
        self._offers: frozenset[str] = frozenset({API})
        self._url = ""
        self._companions: Companions | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def kubeconfig(self) -> Path:
        return self._directory / "kubeconfig"

    @property
    def offers(self) -> frozenset[str]:
        return self._offers

    async def start(self, needs: frozenset[str]) -> None:
        """Starts the server and what is needed beside it; returns when all of it works."""
        await self._server.start()
        self._url = self._server.url
        self._server.write_kubeconfig(self.kubeconfig)
        if needs & {WORKLOADS, READY_PODS, PROCESSES}:
            from kaito.testing.backends.companions import Companions

            self._offers |= needs | {WORKLOADS}
            self._companions = Companions(self._server, self._directory / "pods", self._clock)
            await self._companions.start(needs)

    async def stop(self) -> None:
        """Ends everything. What was stored is gone."""
        if self._companions is not None:
            await self._companions.stop()
            self._companions = None
        await self._server.stop()

    async def restart(self, outage: float = 0.0) -> None:
        """See `Backend.restart`."""
        await self._server.crash()
        if outage:
            await self._clock.sleep(outage)
        await self._server.start()

    async def compact(self) -> None:
        """See `Backend.compact`."""
        self._server.core.store.compact()
        await self.restart()

    def last_words(self) -> str:
        """Nothing: what runs in this process logs with the test."""
        return ""
