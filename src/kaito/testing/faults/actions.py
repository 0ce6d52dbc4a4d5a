"""What can go wrong with any request.

An action stands between the client and the server: it may answer itself, pass the request on, or change the answer on
its way. Several actions of one rule are nested, the first one outermost. Yours is any object with the two methods of
`Action`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from kaito.runtime.clock import Clock
from kaito.runtime.errors import TransportError, from_status
from kaito.runtime.transport import BufferedResponse, Response, StreamedResponse
from kaito.testing.faults.calls import ApiCall

Forward = Callable[[], Awaitable[Response]]
"""Passes the request on and returns the answer."""

FOREVER: Final = 10.0 * 365 * 86400
"""Seconds that something silent stays silent; ends only because somebody gives up."""

_JSON: Final = {"Content-Type": "application/json"}


class Action(Protocol):
    """Something that happens to a request or its answer."""

    def applies(self, call: ApiCall) -> bool:
        """Whether it can happen to this request at all; a rule passes over requests where it cannot."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        """The answer that the client gets. TransportError, also in mid-body, breaks its connection."""


class ChangedResponse(StreamedResponse):
    """A response whose body is another one's, changed on its way; closing it closes both."""

    __slots__ = ("_original",)

    def __init__(self, original: Response, chunks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(original.status, chunks, original.headers)
        self._original = original

    async def close(self) -> None:
        await super().close()
        await self._original.close()


class _AnyRequest:
    def applies(self, call: ApiCall) -> bool:
        return True


class _AnyButWatch:
    def applies(self, call: ApiCall) -> bool:
        return not call.is_watch


@dataclass(frozen=True)
class Pass(_AnyRequest):
    """Nothing happens: a place in a script, before or between faults."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        return await forward()


@dataclass(frozen=True)
class Answer(_AnyRequest):
    """An error with a proper Status body; the request never reaches the server."""

    status: int
    """HTTP code: 409, 410, 429, 500, 503, …"""

    reason: str = ""
    """Reason in the Status. Default: the one that belongs to the code (409: Conflict, 410: Expired)."""

    message: str = "injected fault"
    """Message in the Status."""

    retry_after: float | None = None
    """Seconds in the header Retry-After and in the Status's details. Default: neither."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        error = from_status(self.status, {"reason": self.reason, "message": self.message})
        headers = dict(_JSON)
        if self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
            error.details["retryAfterSeconds"] = int(self.retry_after)
        return BufferedResponse(self.status, orjson.dumps(error.to_status()), headers)


@dataclass(frozen=True)
class Refuse(_AnyRequest):
    """The connection ends before any answer, and the request never reaches the server.

    HTTP libraries repeat a GET by themselves when that happens (aiohttp once; Go's net/http on connections that it had
    used before). The repeated request is one more that may meet the rule.
    """

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        raise TransportError(f"{call.method} {call.path}: connection reset by an injected fault")


@dataclass(frozen=True)
class LoseAnswer(_AnyButWatch):
    """The server does what it is asked; then the connection ends before the client learns of it."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        response = await forward()
        try:
            await response.read()
        finally:
            await response.close()
        raise TransportError(f"{call.method} {call.path}: the answer was lost by an injected fault")


@dataclass(frozen=True)
class NoAnswer(_AnyRequest):
    """Silence: the connection stays open, the request goes nowhere, and nothing ever comes back."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        await clock.sleep(FOREVER)
        raise TransportError(f"{call.method} {call.path}: no answer")


@dataclass(frozen=True)
class Delay(_AnyRequest):
    """The request reaches the server late."""

    seconds: float
    """How late."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        await clock.sleep(self.seconds)
        return await forward()


@dataclass(frozen=True)
class LateAnswer(_AnyButWatch):
    """The server answers at once; the client gets that answer, old by then, late."""

    seconds: float
    """How late."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        response = await _buffered(await forward())
        await clock.sleep(self.seconds)
        return response


@dataclass(frozen=True)
class Slow(_AnyRequest):
    """The body trickles."""

    size: int = 256
    """Bytes at a time."""

    pause: float = 0.05
    """Seconds before each of them."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        response = await forward()
        return ChangedResponse(response, self._trickle(response.chunks(), clock))

    async def _trickle(self, chunks: AsyncIterator[bytes], clock: Clock) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            for start in range(0, len(chunk), self.size):
                await clock.sleep(self.pause)
                yield chunk[start : start + self.size]


@dataclass(frozen=True)
class Truncate(_AnyButWatch):
    """The body breaks off; the header Content-Length, where there is one, promised more."""

    after: int | None = None
    """Bytes that still come. Default: half of the body."""

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        response = await _buffered(await forward())
        return ChangedResponse(response, self._cut_off(await response.read()))

    async def _cut_off(self, body: bytes) -> AsyncGenerator[bytes, None]:
        kept = len(body) // 2 if self.after is None else self.after
        if kept:
            yield body[:kept]
        raise TransportError("the body was cut off by an injected fault")


async def _buffered(response: Response) -> BufferedResponse:
    try:
        headers: Mapping[str, str] = response.headers
        return BufferedResponse(response.status, await response.read(), headers)
    finally:
        await response.close()
