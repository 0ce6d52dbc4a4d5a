"""The seam between the client and the wire.

A `Transport` carries one HTTP request and gives back one response, buffered or streamed. Two implementations
exist: `AioHttpTransport` over sockets and `MemoryTransport`, which calls a handler in the same event loop so
that whole control planes run in virtual time. Servers that want to be reachable both ways answer with the two
response classes of this module.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from multidict import CIMultiDict

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `path` is absolute and already percent-encoded; `query` values are not."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    body: bytes | None = None

    def header(self, name: str, default: str = "") -> str:
        """Value of a header, whatever the case of its name."""
        wanted = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == wanted), default)


class Response(Protocol):
    """One HTTP response. Header names are looked up without regard to case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes:
        """The whole body. Raises TransportError when the connection breaks."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; ends at a normal close.

        Raises TransportError when the connection breaks.
        """

    async def close(self) -> None:
        """Give the connection back or drop it; idempotent."""


class Transport(Protocol):
    """Sends requests to one API server."""

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        """Send and return the response.

        Without `stream` the body has been read when this returns and `timeout` (seconds, None = no limit)
        covers all of it; with `stream` it covers the wait for the response's head only. Any status is a
        response, not an error. Raises TransportError when no answer came (refused, reset, timed out).
        """

    async def close(self) -> None:
        """Drop all connections; the transport cannot be used afterwards."""


@runtime_checkable
class Separable(Protocol):
    """A transport whose sessions can be told apart."""

    def separate(self) -> Transport:
        """Another transport to the same server, as the same user, that shares no connection with this one."""


def own_session(transport: Transport) -> Transport | None:
    """A transport of one's own to the same server, to be closed; None where there are no connections to share."""
    return transport.separate() if isinstance(transport, Separable) else None


class BufferedResponse:
    """A response whose body is already in memory."""

    __slots__ = ("_body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self.status = status
        self.headers: Mapping[str, str] = CIMultiDict(headers)
        self._body = body

    async def read(self) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body

    async def close(self) -> None:
        return None


class StreamedResponse:
    """A response whose body comes from an async generator, e.g. a watch. Closing it closes the generator."""

    __slots__ = ("_chunks", "headers", "status")

    def __init__(
        self, status: int, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str] = _NO_HEADERS
    ) -> None:
        self.status = status
        self.headers: Mapping[str, str] = CIMultiDict(headers)
        self._chunks = chunks

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self._chunks])

    def chunks(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def close(self) -> None:
        await self._chunks.aclose()
