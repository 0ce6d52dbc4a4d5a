"""Streaming subresources: log, exec, attach, portforward and proxy.

The server only finds out which kubelet has the pod and carries bytes or WebSocket messages between it and the client;
what they mean is between kubectl and the kubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Final, Protocol

import aiohttp
import orjson
from aiohttp import WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from kaito.embedded.apiserver import streams_target as target_rules
from kaito.embedded.apiserver.routing import Target
from kaito.embedded.apiserver.streams_target import ProxyName
from kaito.runtime.errors import ApiError, BadRequest, MethodNotAllowed, NotFound, ServiceUnavailable
from kaito.runtime.transport import Request, Response

Object = dict[str, Any]

HOP_BY_HOP: Final = frozenset(
    {"authorization", "connection", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te"}
    | {"trailer", "transfer-encoding", "upgrade"}
)
WEBSOCKET_PATHS: Final = {"exec": "exec", "attach": "attach", "portforward": "portForward"}


class Server(Protocol):
    """What this needs of the API server."""

    streams: Any
    options: Any

    def find(self, name: str, namespace: str | None, object_name: str) -> Object: ...

    async def handle(self, request: Request) -> Response: ...


def register(server: Server) -> None:
    """Make the server answer streaming subresources."""
    server.streams = Streams(server, server.options.kubelet_token).serve


class Streams:
    """Answers requests whose subresource is streamed; raises ApiError before an answer has begun."""

    def __init__(self, server: Server, kubelet_token: str) -> None:
        self._server = server
        self._token = kubelet_token
        self._turn = itertools.count()

    async def serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        match target.plural, target.subresource:
            case "pods", "log":
                return await self._log(request, target)
            case "pods", "exec" | "attach" | "portforward":
                return await self._websocket(request, target)
            case "pods", "proxy":
                end = ProxyName.parse(target.name or "")
                pod = self._server.find("pods", target.namespace, end.name)
                return await self._proxy(request, pod, target_rules.pod_port(pod, end.port))
            case "services", "proxy":
                return await self._service(request, target)
        raise ApiError(
            f"{target.plural}/{target.subresource} is not implemented: only pods and services are proxied",
            status=501,
            reason="NotImplemented",
        )

    # Which kubelet

    def _kubelet(self, pod: Object, path: str, query: str = "") -> URL:
        port = target_rules.kubelet_port(pod, self._node)
        return URL(f"http://127.0.0.1:{port}{path}" + (f"?{query}" if query else ""), encoded=True)

    def _node(self, name: str) -> Object:
        try:
            return self._server.find("nodes", None, name)
        except NotFound as error:
            raise ServiceUnavailable(f"node {name} of the pod is gone") from error

    def _headers(self, request: web.Request) -> CIMultiDict[str]:
        headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP)
        headers["Authorization"] = f"Bearer {self._token}"
        return headers

    # Logs

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        if request.method != "GET":
            raise MethodNotAllowed("pods/log can only be read")
        pod = self._server.find("pods", target.namespace, target.name or "")
        container = target_rules.container_name(pod, request.query.get("container", ""))
        if not pod["spec"].get("nodeName"):
            name = pod["metadata"]["name"]
            raise BadRequest(
                f'container "{container}" in pod "{name}" is waiting to start: the pod is not assigned to a node'
            )
        url = self._kubelet(pod, _path("containerLogs", pod, container), request.rel_url.raw_query_string)
        return await self._pass(request, url)

    # Plain HTTP

    async def _service(self, request: web.Request, target: Target) -> web.StreamResponse:
        end = ProxyName.parse(target.name or "")
        service = self._server.find("services", target.namespace, end.name)
        port = target_rules.service_port(service, end.port)
        spec = service.get("spec") or {}
        pods = [
            pod
            for pod in await self._selected(service)
            if target_rules.is_endpoint(pod, bool(spec.get("publishNotReadyAddresses")))
        ]
        if not pods:
            raise target_rules.no_endpoints(service)
        pod = pods[next(self._turn) % len(pods)]
        return await self._proxy(request, pod, str(port.get("targetPort", port.get("port"))))

    async def _selected(self, service: Object) -> list[Object]:
        selector = target_rules.selector_text(service)
        if not selector:
            return []
        path = f"/api/v1/namespaces/{service['metadata']['namespace']}/pods"
        answer = await self._server.handle(Request("GET", path, (("labelSelector", selector),)))
        return list(orjson.loads(await answer.read()).get("items") or ())

    async def _proxy(self, request: web.Request, pod: Object, port: str) -> web.StreamResponse:
        if request.headers.get("Upgrade"):
            raise ApiError(
                "upgrading a proxied connection is not implemented: use kubectl port-forward",
                status=501,
                reason="NotImplemented",
            )
        base, slash, rest = request.rel_url.raw_path.partition("/proxy/")
        path = f"{_path('podProxy', pod, port)}/{rest}"
        url = self._kubelet(pod, path, request.rel_url.raw_query_string)
        prefix = base + (slash or "/proxy/").rstrip("/")
        return await self._pass(request, url, lambda location: _relocate(location, prefix))

    async def _pass(
        self, request: web.Request, url: URL, relocate: Callable[[str], str] | None = None
    ) -> web.StreamResponse:
        """Pass a request on; bodies stream both ways."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(trust_env=False, auto_decompress=False, timeout=timeout) as session:
            try:
                answer = await session.request(
                    request.method,
                    url,
                    headers=self._headers(request),
                    data=request.content if request.body_exists else None,
                    allow_redirects=False,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                )
            except (aiohttp.ClientError, OSError) as error:
                raise ServiceUnavailable(f"the kubelet does not answer: {error}") from error
            async with answer:
                return await _relay(request, answer, relocate)

    # WebSockets

    async def _websocket(self, request: web.Request, target: Target) -> web.StreamResponse:
        pod = self._server.find("pods", target.namespace, target.name or "")
        parts = [WEBSOCKET_PATHS[target.subresource], pod]
        if target.subresource != "portforward":
            parts.append(target_rules.container_name(pod, request.query.get("container", "")))
        url = self._kubelet(pod, _path(*parts), request.rel_url.raw_query_string)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await self._pass(request, url)
        offered = [
            p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if p.strip()
        ]
        async with aiohttp.ClientSession(trust_env=False) as session:
            try:
                upstream = await session.ws_connect(
                    url,
                    protocols=offered,
                    headers={"Authorization": f"Bearer {self._token}"},
                    autoclose=False,
                    autoping=False,
                    compress=0,
                    max_msg_size=0,
                )
            except aiohttp.WSServerHandshakeError:
                # Its body says why; the same request without the upgrade fetches it.
                return await self._pass(request, url)
            except (aiohttp.ClientError, OSError) as error:
                raise ServiceUnavailable(f"the kubelet does not answer: {error}") from error
            async with upstream:
                return await _join(request, upstream)


def _path(kind: Any, pod: Any, *more: Any) -> str:
    metadata = pod["metadata"]
    return "/".join(["", kind, metadata["namespace"], metadata["name"], *more])


def _relocate(location: str, prefix: str) -> str:
    """A redirect of the pod's server, as seen through the proxy."""
    return prefix + location if location.startswith("/") and not location.startswith("//") else location


async def _relay(
    request: web.Request, answer: aiohttp.ClientResponse, relocate: Callable[[str], str] | None
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for key, value in answer.headers.items():
        if key.lower() == "location" and relocate is not None:
            value = relocate(value)
        if key.lower() not in HOP_BY_HOP:
            response.headers.add(key, value)
    with contextlib.suppress(ConnectionError, aiohttp.ClientPayloadError):
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    return response


async def _join(request: web.Request, upstream: aiohttp.ClientWebSocketResponse) -> web.StreamResponse:
    """Connect the client's WebSocket with the kubelet's until one of them closes."""
    client = web.WebSocketResponse(
        protocols=(upstream.protocol,) if upstream.protocol else (),
        autoclose=False,
        autoping=False,
        compress=False,
        max_msg_size=0,
        timeout=5.0,
    )
    await client.prepare(request)
    ways = [
        asyncio.create_task(_carry(client, upstream), name="websocket to the kubelet"),
        asyncio.create_task(_carry(upstream, client), name="websocket to the client"),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    return client


WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _carry(source: WebSocket, sink: WebSocket) -> None:
    """Messages from one side to the other; a close goes on with its code and reason."""
    with contextlib.suppress(ConnectionError):
        while True:
            message = await source.receive()
            match message.type:
                case WSMsgType.BINARY:
                    await sink.send_bytes(message.data)
                case WSMsgType.TEXT:
                    await sink.send_str(message.data)
                case WSMsgType.PING:
                    await sink.ping(message.data)
                case WSMsgType.PONG:
                    await sink.pong(message.data)
                case WSMsgType.CLOSE:
                    await sink.close(code=message.data or 1000, message=str(message.extra or "").encode())
                    await source.close(code=message.data or 1000)
                    return
                case _:
                    await sink.close(code=1001)
                    return
