"""The transport over sockets.

One aiohttp session of our own per API server: `trust_env` is off because it costs a netrc and proxy look-up
in a thread per request, time limits are always set, and sockets are set up so that the kernel notices dead
peers.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp
from yarl import URL

from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.errors import TransportError
from kaito.runtime.transport import BufferedResponse, Request, Response

CONNECT_TIMEOUT = 10.0
"""Seconds to establish one connection."""

CONNECTION_LIMIT = 200
"""Connections at a time; each watch holds one."""

READ_BUFFER = 1 << 20
"""Bytes that aiohttp buffers before it slows the sender down; large enough for chunks of a big LIST."""

LARGE_BODY = 1 << 19
"""Bytes of a request's body above which it is sent in pieces."""

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES = 30, 5, 3
"""Seconds of silence before the peer's kernel is asked whether it is there, seconds between such questions, and
questions without an answer after which the connection is dead: 45 s in all, as Go's HTTP/2 pings take."""

UNACKNOWLEDGED = 45
"""Seconds for which sent data may stay unacknowledged; it takes the place of keep-alive while there is any."""

_TCP_OPTIONS = (
    ("TCP_KEEPIDLE", KEEPALIVE_IDLE),  # Linux
    ("TCP_KEEPALIVE", KEEPALIVE_IDLE),  # the same on macOS
    ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
    ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ("TCP_USER_TIMEOUT", UNACKNOWLEDGED * 1000),  # Linux; milliseconds
)


@dataclass(frozen=True, slots=True)
class Authentication:
    """What one request shows: an Authorization header, a TLS context with a client certificate, both or none."""

    header: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None


class Credentials(Protocol):
    """Supplies what a request authenticates with, and learns when it was refused."""

    async def current(self) -> Authentication:
        """What to send now, refreshed if due. Raises CredentialsError."""

    def rejected(self) -> None:
        """The server answered 401: the next `current()` should not come from memory."""


def watchful_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket whose kernel notices a peer that is gone, idle or not: the half of it that platforms have.

    Idle connections are probed (`KEEPALIVE_IDLE` and so on), and data that stays unacknowledged for
    `UNACKNOWLEDGED` seconds ends the connection.
    """
    family, kind, protocol = info[0], info[1], info[2]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):  # known to Python, but not to this kernel
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


class AioHttpTransport:
    """Sends requests to one base URL.

    `ssl_context` None means the defaults of the platform for https; `server_hostname` overrides the name that
    is checked and sent in the handshake; `proxy` is an explicit proxy URL. The session is made on first use,
    inside the running loop.
    """

    def __init__(
        self,
        url: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        proxy: str | None = None,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self.url = url.rstrip("/")
        self._ssl = ssl_context
        self._server_hostname = server_hostname
        self._proxy = proxy
        self._credentials = credentials
        self._clock = clock or LoopClock()
        self._connect_timeout = connect_timeout
        self._session: aiohttp.ClientSession | None = None
        self._streams: WeakSet[_AioHttpStream] = WeakSet()
        self._closed = False

    def separate(self) -> AioHttpTransport:
        """Another transport to the same server, as the same user, that shares no connection with this one."""
        return AioHttpTransport(
            self.url,
            ssl_context=self._ssl,
            server_hostname=self._server_hostname,
            proxy=self._proxy,
            credentials=self._credentials,
            clock=self._clock,
            connect_timeout=self._connect_timeout,
        )

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        try:
            async with self._clock.timeout(timeout):
                response = await self._start(request)
                if response.status == 401 and self._credentials is not None:
                    self._credentials.rejected()
                if stream:
                    opened = _AioHttpStream(response)
                    self._streams.add(opened)
                    return opened
                async with response:
                    return BufferedResponse(response.status, await response.read(), response.headers)
        except aiohttp.ServerTimeoutError as error:
            raise TransportError(
                f"{request.method} {self.url}{request.path}: no connection within {self._connect_timeout:g} s"
            ) from error
        except TimeoutError as error:
            raise TransportError(
                f"{request.method} {self.url}{request.path}: no answer within {timeout or 0:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(f"{request.method} {self.url}{request.path}: {_reason(error)}") from error

    async def _start(self, request: Request) -> aiohttp.ClientResponse:
        session = self._open_session()
        headers = dict(request.headers)
        auth = await self._credentials.current() if self._credentials is not None else Authentication()
        if auth.header:
            headers["Authorization"] = auth.header
        extra: dict[str, Any] = {}
        if self._server_hostname:
            extra["server_hostname"] = self._server_hostname
        if auth.ssl_context or self._ssl:
            extra["ssl"] = auth.ssl_context or self._ssl
        url = URL(f"{self.url}{request.path}", encoded=True)
        return await session.request(
            request.method,
            url.with_query(list(request.query)) if request.query else url,
            headers=headers,
            data=_payload(request.body),
            proxy=self._proxy,
            allow_redirects=False,
            **extra,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise TransportError(f"{self.url}: this transport has been closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTION_LIMIT, socket_factory=watchful_socket),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout),
                trust_env=False,
                read_bufsize=READ_BUFFER,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        self._closed = True
        for stream in list(self._streams):  # or their readers would wait for ever
            await stream.close()
        if self._session is not None:
            await self._session.close()
            self._session = None


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """aiohttp warns of bytes above this size, because it writes them in one go; a file it reads in pieces."""
    return body if body is None or len(body) <= LARGE_BODY else io.BytesIO(body)


def _reason(error: BaseException) -> str:
    """One line for people: the system's words rather than a class name."""
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the server's certificate is not accepted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        number = 0 if isinstance(cause, ssl.SSLError) else cause.errno or 0
        return f"cannot connect: {os.strerror(number).lower() if number > 0 else cause}"
    return text


class _AioHttpStream:
    """A response whose body is read as it arrives."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self) -> bytes:
        try:
            return await self._response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TransportError(f"connection lost while reading: {_reason(error)}") from error

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TransportError(f"connection lost in mid-stream: {_reason(error)}") from error

    async def close(self) -> None:
        # An unfinished body makes the connection useless, so it is dropped rather than drained; at once, since a TLS
        # farewell would outlast this event loop.
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._response.close()
