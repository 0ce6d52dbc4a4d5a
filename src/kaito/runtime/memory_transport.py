"""The transport without sockets.

Calls a handler in the same event loop, streams included, so that a client, a cache or a whole control plane
runs in virtual time. Faults are part of it, because what matters about a network is how it fails: a
`FaultScript` refuses, delays, breaks off, stalls or answers for the server, request by request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kaito.runtime.clock import Clock
from kaito.runtime.errors import TransportError
from kaito.runtime.transport import BufferedResponse, Request, Response

Handler = Callable[[Request], Awaitable[Response]]
_FOREVER = 10.0 * 365 * 86400
"""Seconds that a stalled stream stays silent; ends only because somebody gives up."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request; several may be combined.

    `refuse`: TransportError with these words instead of an answer. `delay`: seconds before anything else
    happens. `answer`: this response, made anew by the callable, instead of the handler's. `break_after` /
    `stall_after`: the stream breaks (TransportError) or falls silent for good after that many chunks.
    """

    refuse: str | None = None
    delay: float = 0.0
    answer: Callable[[], Response] | None = None
    break_after: int | None = None
    stall_after: int | None = None


class FaultPlan(Protocol):
    """Decides about each request; None lets it pass."""

    def __call__(self, request: Request) -> Fault | None: ...


@dataclass
class _Rule:
    matches: Callable[[Request], bool]
    fault: Fault
    times: int


@dataclass
class FaultScript:
    """Faults in the order in which they were added; each is used up after `times` matching requests."""

    rules: list[_Rule] = field(default_factory=list)

    def add(
        self, fault: Fault, *, matches: Callable[[Request], bool] = lambda _: True, times: int = 1
    ) -> None:
        self.rules.append(_Rule(matches, fault, times))

    def __call__(self, request: Request) -> Fault | None:
        for rule in self.rules:
            if rule.times > 0 and rule.matches(request):
                rule.times -= 1
                return rule.fault
        return None


class MemoryTransport:
    """Carries requests to `handler`.

    An exception of the handler reaches the caller unchanged: it is a bug in the server under test, not
    weather.
    """

    def __init__(self, handler: Handler, clock: Clock, faults: FaultPlan | None = None) -> None:
        self._handler = handler
        self._clock = clock
        self._faults = faults
        self._open: set[_MemoryStream] = set()
        self._closed = False

    @property
    def open_streams(self) -> int:
        """Streamed responses that nobody has closed yet."""
        return len(self._open)

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        if self._closed:
            raise TransportError("this transport has been closed")
        fault = self._faults(request) if self._faults else None
        try:
            async with self._clock.timeout(timeout):
                response = _MemoryStream(self, await self._answer(request, fault), fault)
                if stream:
                    self._open.add(response)
                    return response
                return await response.buffered()
        except TimeoutError as error:
            raise TransportError(
                f"{request.method} {request.path}: no answer within {timeout:g} s"
            ) from error

    async def _answer(self, request: Request, fault: Fault | None) -> Response:
        if fault is not None:
            if fault.delay:
                await self._clock.sleep(fault.delay)
            if fault.refuse is not None:
                raise TransportError(f"{request.method} {request.path}: {fault.refuse}")
            if fault.answer is not None:
                return fault.answer()
        return await self._handler(request)

    async def close(self) -> None:
        self._closed = True
        for stream in list(self._open):
            await stream.close()


class _MemoryStream:
    """The handler's response seen through the fault."""

    def __init__(self, owner: MemoryTransport, response: Response, fault: Fault | None) -> None:
        self._owner = owner
        self._response = response
        self._fault = fault or Fault()
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def buffered(self) -> Response:
        try:
            return BufferedResponse(self.status, await self.read(), self.headers)
        finally:
            await self.close()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    def chunks(self) -> AsyncIterator[bytes]:
        if self._chunks is None:
            self._chunks = self._through_fault()
        return self._chunks

    async def _through_fault(self) -> AsyncGenerator[bytes, None]:
        count = 0
        await self._apply_fault(count)
        async for chunk in self._response.chunks():
            yield chunk
            count += 1
            await self._apply_fault(count)

    async def _apply_fault(self, count: int) -> None:
        if self._fault.break_after == count:
            raise TransportError("connection reset in mid-stream")
        if self._fault.stall_after == count:
            await self._owner._clock.sleep(_FOREVER)

    async def close(self) -> None:
        self._owner._open.discard(self)
        if self._chunks is not None:
            await self._chunks.aclose()
        await self._response.close()
