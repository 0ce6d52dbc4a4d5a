"""The HTTP face: who may ask, and how requests and answers cross the wire.

Streaming subresources (logs, exec, port-forward, proxy) need the connection itself; they go to the stream handler and
nothing else here knows them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict

from kaito.embedded.apiserver.api import Api
from kaito.embedded.apiserver.authorization import Authorizer
from kaito.embedded.apiserver.bodies import MAX_BODY
from kaito.embedded.apiserver.documents import HEALTH_PATHS
from kaito.embedded.apiserver.messages import WARNING_SEPARATOR, error_response, not_implemented
from kaito.embedded.apiserver.routing import STREAMED_SUBRESOURCES, Target, parse_target
from kaito.embedded.apiserver.subjects import Subject
from kaito.embedded.apiserver.watching import WatchResponse
from kaito.runtime.errors import ApiError, Forbidden, RequestEntityTooLarge, Unauthorized
from kaito.runtime.transport import Request, Response

log = logging.getLogger(__name__)

StreamHandler = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]
"""Answers a streaming subresource. May raise ApiError before it has answered."""

_OPEN_PATHS: Final = frozenset(HEALTH_PATHS)


_STREAMED: Final = re.compile(f"/(?:{'|'.join(STREAMED_SUBRESOURCES)})(?:/|$)")


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.Request:
    # Kubernetes cuts bodies off at its own limit and answers with a Status; aiohttp's comes a little later.
    loop = asyncio.get_running_loop()
    return web.Request(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY + 1024)


class Front:
    """Adapts aiohttp to the API.

    Args:
        api: answers everything but streams.
        authenticate: whether a bearer token is the server's.
        hosts: names the Host header may carry, without port. A page on the web can make a browser send requests to
            a loopback address under a name of its own; such a name is not among them.
    """

    def __init__(self, api: Api, authenticate: Callable[[str], bool], hosts: frozenset[str]) -> None:
        self._api = api
        self._authenticate = authenticate
        self._hosts = hosts
        self._authorizer = Authorizer(api.core)
        self.streams: StreamHandler | None = None

    def server(self, *, keepalive_timeout: float) -> web.Server:
        """An aiohttp server without router and middlewares: all paths lead to one handler."""
        return web.Server(
            self._serve,  # type: ignore[arg-type] # the factory below makes the Request that it takes
            request_factory=_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=keepalive_timeout,
        )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            self._admit(request)
            if _STREAMED.search(request.path):
                target = parse_target(request.path)
                if target is not None and target.streamed:
                    return await self._stream_subresource(request, target)
            try:
                body = await request.read() if request.body_exists else None
            except web.HTTPRequestEntityTooLarge:
                raise RequestEntityTooLarge(f"limit is {MAX_BODY} bytes") from None
        except ApiError as error:
            return await self._send(request, error_response(error))
        query = tuple(request.query.items())
        neutral = Request(request.method, request.rel_url.raw_path, query, request.headers, body)
        return await self._send(request, await self._api.handle(neutral))

    def _admit(self, request: web.Request) -> None:
        """Refuses foreign Host headers, requests without the token, and what an impersonated user may not do.

        Raises:
            Forbidden: the Host is not this server's, or the user has not the right.
            Unauthorized: no token, or another.
        """
        host = request.host
        name = host[: host.rfind(":")] if host.rfind(":") > host.rfind("]") else host
        if name.lower() not in self._hosts:
            raise Forbidden(
                f"this server does not answer to the Host {name!r}; use the URL of its kubeconfig"
            )
        if request.path in _OPEN_PATHS:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._authenticate(token.strip()):
            raise Unauthorized("Unauthorized")
        if user := request.headers.get("Impersonate-User"):
            subject = Subject.impersonated(user, request.headers.getall("Impersonate-Group", []))
            self._authorizer.check(subject, request.method, request.path, request.query)

    async def _stream_subresource(self, request: web.Request, target: Target) -> web.StreamResponse:
        if self.streams is None:
            raise not_implemented(f"{target.plural}/{target.subresource}", "no kubelet is attached")
        await self._api.admit_connect(target, tuple(request.query.items()), request.headers)
        return await self.streams(request, target)

    async def _send(self, request: web.Request, response: Response) -> web.StreamResponse:
        headers = CIMultiDict((key, value) for key, value in response.headers.items() if key != "Warning")
        for warning in filter(None, response.headers.get("Warning", "").split(WARNING_SEPARATOR)):
            headers.add("Warning", warning)
        if isinstance(response, WatchResponse):
            return await self._send_stream(request, response, headers)
        return web.Response(status=response.status, body=await response.read(), headers=headers)

    @staticmethod
    async def _send_stream(
        request: web.Request, response: WatchResponse, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        answer = web.StreamResponse(status=response.status, headers=headers)
        try:
            await answer.prepare(request)
            async for chunk in response.chunks():
                await answer.write(chunk)
            await answer.write_eof()
        except (ConnectionError, OSError):
            log.debug("watcher of %s went away", request.path)
        finally:
            await response.close()
        return answer
