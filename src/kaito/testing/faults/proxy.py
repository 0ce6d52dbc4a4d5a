"""Faults over sockets: a reverse proxy on loopback, in front of any API server.

Whatever program is pointed at the proxy's kubeconfig meets the faults, whatever language and library it is written in.
The proxy speaks HTTPS with a certificate of its own, passes the Authorization header on as it comes, and streams:
nothing is held back that no rule holds back. Upgraded connections (exec, attach, port-forward) are refused by name.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NoReturn

import aiohttp
import orjson
import yaml
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from kaito.embedded.apiserver.security import kubeconfig, make_identity
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, ConfigurationError, TransportError
from kaito.runtime.files import write_private
from kaito.runtime.transport import Request, Response, StreamedResponse
from kaito.testing.faults.actions import Action
from kaito.testing.faults.calls import ApiCall
from kaito.testing.faults.rules import Faults
from kaito.testing.faults.watches import WatchAction

LOOPBACK: Final = "127.0.0.1"
MAX_BODY: Final = 16 << 20
"""Bytes of a request's body; API servers take 3 MiB."""

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would make up where the client sent none."""

Answered = Callable[[ApiCall, int, bytes], None]
"""Told of every write's answer: the call, the status, the answer's body."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The API server behind the proxy: its URL, how to trust it, and the token of its kubeconfig."""

    url: str
    ssl_context: ssl.SSLContext | None
    token: str

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Upstream:
        """The current context of a kubeconfig.

        Raises:
            ConfigurationError: it identifies its user by something else than a token, which a proxy cannot pass on.
        """
        config = yaml.safe_load(path.read_text())
        named = {
            kind: {entry["name"]: entry[kind[:-1]] for entry in config[kind]}
            for kind in ("clusters", "users", "contexts")
        }
        context = named["contexts"][config["current-context"]]
        cluster, user = named["clusters"][context["cluster"]], named["users"][context["user"]]
        if "token" not in user:
            raise ConfigurationError(
                f"kubeconfig {path}: user {context['user']!r} has no token. The fault proxy passes tokens on; client "
                "certificates and plugins end at it."
            )
        return cls(cluster["server"].rstrip("/"), _trust(cluster, path.parent), user["token"])


def _trust(cluster: dict[str, Any], folder: Path) -> ssl.SSLContext | None:
    if not cluster["server"].startswith("https:"):
        return None
    if data := cluster.get("certificate-authority-data"):
        return ssl.create_default_context(cadata=b64decode(data).decode())
    if file := cluster.get("certificate-authority"):
        return ssl.create_default_context(cafile=str(folder / file))
    return ssl.create_default_context()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


class FaultProxy:
    """Listens on a free loopback port between `start` and `stop`.

    `faults` may be replaced at any time: requests that come later meet the new ones.
    """

    def __init__(
        self, upstream: Upstream, faults: Faults, clock: Clock, *, on_answer: Answered | None = None
    ) -> None:
        self.faults = faults
        self._upstream = upstream
        self._clock = clock
        self._on_answer = on_answer
        self._identity = make_identity([LOOPBACK], clock.wall())
        self._session: aiohttp.ClientSession | None = None
        self._server: asyncio.Server | None = None
        self._front: web.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"https://{LOOPBACK}:{self._port}"

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return self._port

    def write_kubeconfig(self, path: Path, *, namespace: str = "default", token: str | None = None) -> None:
        """Write a kubeconfig (mode 0600) that leads to the proxy, with the server's own token unless given."""
        config = orjson.loads(
            kubeconfig("kube-api", self.url, self._identity.ca, token or self._upstream.token)
        )
        config["contexts"][0]["context"]["namespace"] = namespace
        write_private(path, orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n")

    async def start(self) -> None:
        """Listen; after an outage, at the same address as before."""
        context = self._upstream.ssl_context
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=True if context is None else context, limit=0),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._front = web.Server(
            self._serve, request_factory=_request, handler_cancellation=True, access_log=None
        )
        self._server = await asyncio.get_running_loop().create_server(
            self._front, LOOPBACK, self._port, ssl=self._identity.server_context()
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and break those there are. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._front is not None:
            for connection in self._front.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await self._front.shutdown(0)
            self._front = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> FaultProxy:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        neutral = Request(
            request.method,
            request.rel_url.raw_path,
            tuple(request.rel_url.query.items()),
            request.headers,
            await _body(request),
        )
        call = ApiCall.of(neutral)
        if "upgrade" in request.headers.get("Connection", "").lower():
            return _refusal(call)
        actions = self.faults.take(call)
        try:
            response = await self.faults.respond(
                call, actions, lambda: self._forward(request, neutral, actions)
            )
            try:
                return await self._send(request, response)
            finally:
                await response.close()
        except TransportError:
            _break(request)

    async def _forward(
        self, request: web.BaseRequest, neutral: Request, actions: tuple[Action, ...]
    ) -> Response:
        """Ask the server."""
        session = self._session
        if session is None:
            raise TransportError("the proxy is down")
        headers = _end_to_end(request.headers)
        del headers["Host"]
        if any(isinstance(action, WatchAction) for action in actions):
            headers["Accept"] = _as_json(headers.get("Accept", "*/*"))
            headers["Accept-Encoding"] = "identity"
        url = URL(self._upstream.url + request.rel_url.raw_path_qs, encoded=True)
        try:
            answer = await session.request(
                request.method,
                url,
                headers=headers,
                data=None if neutral.body is None else BytesIO(neutral.body),
                allow_redirects=False,
                skip_auto_headers=_NOT_ADDED,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(f"the API server does not answer: {error}") from error
        call = ApiCall.of(neutral)
        if self._on_answer is not None and call.method not in ("GET", "HEAD"):
            body = await _read(answer)
            self._on_answer(call, answer.status, body)
            return StreamedResponse(answer.status, _once(body), _end_to_end(answer.headers))
        return _Upstreamed(answer)

    async def _send(self, request: web.BaseRequest, response: Response) -> web.StreamResponse:
        headers = _end_to_end(response.headers)
        answer = web.StreamResponse(status=response.status, headers=headers)
        if "Content-Length" not in headers:
            answer.enable_chunked_encoding()
        await answer.prepare(request)
        async for chunk in response.chunks():
            await answer.write(chunk)
        await answer.write_eof()
        return answer


class _Upstreamed(StreamedResponse):
    """The server's answer as it comes."""

    __slots__ = ("_answer",)

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        super().__init__(answer.status, _stream(answer), _end_to_end(answer.headers))
        self._answer = answer

    async def close(self) -> None:
        await super().close()
        self._answer.close()


async def _stream(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise TransportError(f"the API server broke off: {error}") from error


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    if body:
        yield body


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    try:
        return await answer.read()
    except (aiohttp.ClientError, OSError) as error:
        raise TransportError(f"the API server broke off: {error}") from error
    finally:
        answer.release()


async def _body(request: web.BaseRequest) -> bytes | None:
    if not request.body_exists:
        return None
    return await request.read()


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    """The headers that a proxy passes on."""
    listed: CIMultiDictProxy[str] | CIMultiDict[str] = headers
    named = {name.strip().lower() for name in listed.get("Connection", "").split(",")}
    return CIMultiDict(
        (key, value) for key, value in listed.items() if key.lower() not in _HOP_BY_HOP | named
    )


def _as_json(accept: str) -> str:
    """The same wish with JSON instead of protobuf: a watch's lines are told apart by their newlines."""
    return accept.replace("application/vnd.kubernetes.protobuf;stream=watch", "application/json").replace(
        "application/vnd.kubernetes.protobuf", "application/json"
    )


def _refusal(call: ApiCall) -> web.Response:
    error = ApiError(
        f"{call}: the fault proxy does not carry upgraded connections (exec, attach, port-forward); send these to the "
        "API server itself, with the kubeconfig `kube_api.direct_kubeconfig`",
        status=501,
        reason="NotImplemented",
    )
    return web.Response(status=501, body=orjson.dumps(error.to_status()), content_type="application/json")


def _break(request: web.BaseRequest) -> NoReturn:
    """End the connection without the rest of the answer, and the handler with it: nobody is left to be told."""
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError
