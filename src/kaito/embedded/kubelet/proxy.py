"""The HTTP proxy through which containers reach Services, pods and the rest of the world.

Virtual addresses exist only here: `http://<cluster IP>/chat` goes to the process behind it, anything outside the
cluster is passed on. Each connection carries one request, so bodies of any length stream both ways without being
understood. The credential in each pod's proxy URL names the pod's namespace, in which short Service names are looked
up, and keeps others on this machine (a browser, say) out.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

from kaito.embedded.kubelet.resolve import Destination, Elsewhere, Here, Refused
from kaito.runtime.clock import Clock
from kaito.runtime.logs import get_logger

log = get_logger(__name__)

HEAD_LIMIT: Final = 64 * 1024
HEAD_TIMEOUT: Final = 60.0
CONNECT_TIMEOUT: Final = 30.0
CHUNK: Final = 64 * 1024
HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te"})

Resolve = Callable[[str, int, str], Destination]
Headers = list[tuple[str, str]]


class _Answer(Exception):
    """Ends a request with a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    target: str
    version: str
    headers: Headers

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


def parse_head(data: bytes) -> tuple[str, str, str, Headers]:
    """Request line and headers. Raises ValueError."""
    lines = data.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    headers = []
    for line in lines[1:]:
        if line:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError(f"malformed header line {line!r}")
            headers.append((name, value.strip()))
    return method, target, version, headers


@dataclass(frozen=True, slots=True)
class Upstream:
    """An HTTP proxy that this machine itself needs to reach the world."""

    host: str
    port: int
    authorization: str = ""

    @classmethod
    def of(cls, url: str) -> Upstream:
        """From `http://[user:password@]host:port`. Raises ValueError."""
        parts = urlsplit(url if "//" in url else f"//{url}")
        if not parts.hostname:
            raise ValueError("the upstream proxy must look like http://host:port")
        credential = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            credential = "Basic " + base64.b64encode(pair.encode()).decode()
        return cls(parts.hostname, parts.port or 80, credential)


class HttpProxy:
    """Listens on 127.0.0.1. `url(namespace)` is what goes into a container's http_proxy."""

    def __init__(self, resolve: Resolve, clock: Clock, upstream: Upstream | None = None) -> None:
        self._resolve = resolve
        self._clock = clock
        self._upstream = upstream
        self._secret = secrets.token_bytes(32)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_LIMIT)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def _password(self, namespace: str) -> str:
        return hmac.new(self._secret, namespace.encode(), sha256).hexdigest()[:32]

    def url(self, namespace: str) -> str:
        """The proxy URL for pods of a namespace, with their credential."""
        return f"http://{namespace}:{self._password(namespace)}@127.0.0.1:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except _Answer as answer:
            await _reply(writer, answer.status, str(answer))
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        except asyncio.CancelledError:
            if self._server is not None and self._server.is_serving():
                raise
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self._read_head(reader)
        namespace = self._authenticate(head.get("proxy-authorization"))
        if head.method == "CONNECT":
            host, _, port = head.target.rpartition(":")
            if not port.isdigit():
                raise _Answer(400, f"CONNECT needs host:port, not {head.target}")
            up_reader, up_writer = await self._tunnel(self._destination(host, int(port), namespace))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            up_reader, up_writer = await self._forward(head, namespace)
        try:
            await _pipe_both(reader, writer, up_reader, up_writer)
        finally:
            up_writer.close()

    async def _read_head(self, reader: asyncio.StreamReader) -> _Head:
        try:
            async with self._clock.timeout(HEAD_TIMEOUT):
                data = await reader.readuntil(b"\r\n\r\n")
            return _Head(*parse_head(data))
        except asyncio.LimitOverrunError:
            raise _Answer(431, "the request's headers are longer than 64 KiB") from None
        except ValueError as error:
            raise _Answer(400, f"not an HTTP request: {error}") from error

    def _authenticate(self, header: str) -> str:
        """The namespace of the caller."""
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "basic":
            with contextlib.suppress(ValueError):
                namespace, _, password = base64.b64decode(value).decode().partition(":")
                if hmac.compare_digest(password, self._password(namespace)):
                    return namespace
        raise _Answer(
            407, "this proxy serves only the containers of this node, by the http_proxy of their environment"
        )

    def _destination(self, host: str, port: int, namespace: str) -> Here | Elsewhere:
        found = self._resolve(host, port, namespace)
        if isinstance(found, Refused):
            raise _Answer(found.status, found.message)
        return found

    async def _connect(
        self, host: str, port: int, what: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with self._clock.timeout(CONNECT_TIMEOUT):
                return await asyncio.open_connection(host, port)
        except TimeoutError:
            raise _Answer(504, f"{what} did not answer within {CONNECT_TIMEOUT:g} s") from None
        except OSError as error:
            raise _Answer(502, f"cannot connect to {what}: {error.strerror or error}") from error

    async def _tunnel(self, end: Here | Elsewhere) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(end, Here):
            return await self._connect("127.0.0.1", end.port, "the container's process")
        if self._upstream is None:
            return await self._connect(end.host, end.port, f"{end.host}:{end.port}")
        reader, writer = await self._connect(
            self._upstream.host, self._upstream.port, "this machine's HTTP proxy"
        )
        headers: Headers = [("Host", f"{end.host}:{end.port}")]
        if self._upstream.authorization:
            headers.append(("Proxy-Authorization", self._upstream.authorization))
        writer.write(_encode(f"CONNECT {end.host}:{end.port} HTTP/1.1", headers))
        reply = await reader.readuntil(b"\r\n\r\n")
        if reply.split(b" ", 2)[1:2] != [b"200"]:
            writer.close()
            raise _Answer(502, f"this machine's HTTP proxy refused a connection to {end.host}:{end.port}")
        return reader, writer

    async def _forward(
        self, head: _Head, namespace: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send the request's head on; its body follows as it comes."""
        parts = urlsplit(head.target)
        if parts.scheme != "http" or not parts.hostname:
            raise _Answer(400, "an HTTP proxy needs absolute http:// URLs (https goes through CONNECT)")
        end = self._destination(parts.hostname, parts.port or 80, namespace)
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        named = {word.strip().lower() for word in head.get("connection").split(",")}
        dropped = HOP_BY_HOP | (named - {"upgrade"})
        headers = [(name, value) for name, value in head.headers if name.lower() not in dropped]
        headers.append(("Connection", "Upgrade" if "upgrade" in named else "close"))
        if isinstance(end, Elsewhere) and self._upstream is not None:
            what = "this machine's HTTP proxy"
            reader, writer = await self._connect(self._upstream.host, self._upstream.port, what)
            target = head.target
            if self._upstream.authorization:
                headers.append(("Proxy-Authorization", self._upstream.authorization))
        elif isinstance(end, Elsewhere):
            reader, writer = await self._connect(end.host, end.port, f"{end.host}:{end.port}")
        else:
            reader, writer = await self._connect("127.0.0.1", end.port, f"the process behind {parts.netloc}")
        writer.write(_encode(f"{head.method} {target} {head.version}", headers))
        return reader, writer


def _encode(first: str, headers: Headers) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _reply(writer: asyncio.StreamWriter, status: int, message: str) -> None:
    body = message.encode() + b"\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    headers.append(("Connection", "close"))
    if status == 407:
        headers.append(("Proxy-Authenticate", 'Basic realm="kaito"'))
    with contextlib.suppress(OSError):
        writer.write(_encode(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", headers) + body)
        await writer.drain()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _pipe_both(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    up_reader: asyncio.StreamReader,
    up_writer: asyncio.StreamWriter,
) -> None:
    """Until the far side has said all; what the near side still sends then is of no use to anybody."""
    sending = asyncio.create_task(_pipe(reader, up_writer), name="proxy request body")
    try:
        await _pipe(up_reader, writer)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
