"""Faults in memory: around any transport, on its clock, so exact under virtual time."""

from __future__ import annotations

from contextlib import AsyncExitStack

from kaito.runtime.clock import Clock
from kaito.runtime.errors import TransportError
from kaito.runtime.transport import BufferedResponse, Request, Response, Transport
from kaito.testing.faults.calls import ApiCall
from kaito.testing.faults.rules import Faults


class FaultyTransport:
    """A transport whose requests go through `faults` before they reach `inner`.

    api = ApiServer(ApiServerOptions(clock=virtual_clock))
    faults = Faults(virtual_clock)
    faults.script(Match(verb="list"), Answer(429, retry_after=2), Answer(503))
    transport = FaultyTransport(MemoryTransport(api.handle, virtual_clock), faults, virtual_clock)
    client = Client(transport, clock=virtual_clock)
    """

    def __init__(self, inner: Transport, faults: Faults, clock: Clock) -> None:
        self._inner = inner
        self._faults = faults
        self._clock = clock
        self._down = False

    async def outage(self, seconds: float) -> None:
        """The server goes away and comes back: open answers break now, and requests are refused for so long."""
        self._down = True
        self._faults.cut()
        try:
            await self._clock.sleep(seconds)
        finally:
            self._down = False

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        if self._down:
            raise TransportError(f"{request.method} {request.path}: connection refused")
        call = ApiCall.of(request)
        actions = self._faults.take(call)
        try:
            async with self._clock.timeout(timeout), AsyncExitStack() as stack:
                response = await self._faults.respond(
                    call, actions, lambda: self._inner.send(request, stream=stream)
                )
                if stream:
                    return response
                stack.push_async_callback(response.close)
                return BufferedResponse(response.status, await response.read(), response.headers)
        except TimeoutError as error:
            raise TransportError(
                f"{request.method} {request.path}: no answer within {timeout:g} s"
            ) from error

    async def close(self) -> None:
        await self._inner.close()
