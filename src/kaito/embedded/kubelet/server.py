"""The kubelet's own HTTP server: what the API server asks for on behalf of `kubectl logs`, `exec` and the like.

Loopback only, and only for who knows the kubelet token. Errors are Status objects that the API server passes on.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from kaito.embedded.kubelet import portforward, remotecommand
from kaito.embedded.kubelet.allocation import named_port
from kaito.embedded.kubelet.containers import ContainerRun
from kaito.embedded.kubelet.logs import LogOptions, read_log
from kaito.embedded.kubelet.records import ContainerRecord
from kaito.embedded.kubelet.worker import PodWorker
from kaito.runtime.clock import Clock
from kaito.runtime.errors import (
    ApiError,
    BadRequest,
    InternalError,
    NotFound,
    ServiceUnavailable,
    Unauthorized,
)

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
    }
    | {"upgrade", "host", "authorization"}
)

FindPod = Callable[[str, str], PodWorker | None]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KubeletServer:
    """Serves on 127.0.0.1 and any free port; `port` is known after `start`."""

    def __init__(self, find: FindPod, token: str, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._find = find
        self._token = token
        self._session = session
        self._clock = clock
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/healthz", _healthz),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                web.route("*", "/exec/{namespace}/{pod}/{container}", self._exec),
                web.route("*", "/attach/{namespace}/{pod}/{container}", self._attach),
                web.route("*", "/portForward/{namespace}/{pod}", self._port_forward),
                web.route("*", "/podProxy/{namespace}/{pod}/{port}/{path:.*}", self._proxy),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        self.port = 0

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(shown, f"Bearer {self._token}".encode()):
                raise Unauthorized("the kubelet answers only the API server")
            return await handler(request)
        except ApiError as error:
            return web.json_response(error.to_status(), status=error.status)

    # What is asked for

    def _pod(self, request: web.Request) -> PodWorker:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        worker = self._find(namespace, name)
        if worker is None:
            raise NotFound(f'pod "{name}" in namespace "{namespace}" does not run on this node')
        return worker

    def _record(self, request: web.Request) -> tuple[PodWorker, ContainerRecord]:
        worker, name = self._pod(request), request.match_info["container"]
        record = worker.records.get(name)
        if record is None:
            raise BadRequest(f"container {name} is not valid for pod {worker.key.name}")
        return worker, record

    def _running(self, request: web.Request) -> ContainerRun:
        worker, record = self._record(request)
        run = worker.runs.get(record.name)
        if run is None or run.process is None or run.process.ended:
            raise InternalError(
                f"Internal error occurred: container {record.name} is not running: {_state(record)}"
            )
        return run

    # Handlers

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        worker, record = self._record(request)
        query = dict(request.query)
        try:
            options = LogOptions.of(query, self._clock.wall())
        except ValueError as error:
            raise BadRequest(str(error)) from error
        run = worker.runs.get(record.name)
        restart = record.restart_count
        if query.get("previous", "").lower() in ("true", "1"):
            if not worker.log_file(record.name, restart - 1).is_file() or restart == 0:
                raise BadRequest(
                    f'previous terminated container "{record.name}" in pod "{worker.key.name}" not found'
                )
            restart, run = restart - 1, None
        path = worker.log_file(record.name, restart)
        if not path.is_file():
            how = f"is waiting to start: {_reason(record)}"
            end = record.terminated
            if end is not None and end.started_at is None:
                how = f"did not start: {end.message or end.reason}"
            raise BadRequest(f'container "{record.name}" in pod "{worker.key.name}" {how}')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        writer = run.log if run is not None and run.log.path == path else None
        with contextlib.suppress(ConnectionError):
            async with contextlib.aclosing(read_log(path, options, writer)) as pieces:
                async for piece in pieces:
                    await response.write(piece)
            await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        run = self._running(request)
        argv = request.query.getall("command", [])
        if not argv:
            raise BadRequest("you must specify at least one command for the container")
        _need_upgrade(request)
        return await remotecommand.serve_exec(request, run, list(argv))

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        worker, record = self._record(request)
        run = worker.runs.get(record.name)
        # An interactive container's output is kept until someone has attached, also after its end.
        if run is None or run.process is None or not run.hub.waiting:
            run = self._running(request)
        options = remotecommand.StreamOptions.of(request.query)
        if options.tty and not run.tty:
            raise BadRequest(f"Unable to use a TTY - container {record.name} did not allocate one")
        _need_upgrade(request)
        return await remotecommand.serve_attach(request, run)

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._pod(request)
        _need_upgrade(request)

        def port(number: int) -> int:
            try:
                return worker.sandbox.ports[number]
            except KeyError:
                raise LookupError(_undeclared(worker, number)) from None

        return await portforward.serve(request, port)

    async def _proxy(self, request: web.Request) -> web.StreamResponse:
        """Pass one HTTP request on to a container; bodies stream both ways."""
        worker, wanted = self._pod(request), request.match_info["port"]
        number = named_port(worker.containers, wanted)
        port = worker.sandbox.ports.get(number) if number is not None else None
        if port is None:
            raise ServiceUnavailable(_undeclared(worker, wanted))
        path = request.raw_path.split("/", 5)[5] if request.raw_path.count("/") >= 5 else ""
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP]
        try:
            async with self._session.request(
                request.method,
                URL(f"http://127.0.0.1:{port}/{path}", encoded=True),
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as answer:
                return await _pass_on(request, answer)
        except aiohttp.ClientConnectorError as error:
            text = error.strerror or str(error)
            raise ServiceUnavailable(f"error trying to reach pod {worker.key}: {text}") from error
        except aiohttp.ClientError as error:
            raise ApiError(
                f"error trying to reach pod {worker.key}: {error}", status=502, reason="BadGateway"
            ) from error


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _pass_on(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP]
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    response.headers.extend(headers)
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    return response


def _need_upgrade(request: web.Request) -> None:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise BadRequest(
            "this server speaks the WebSocket form of exec, attach and port-forward only: use kubectl 1.31 or newer "
            "(and do not set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false)"
        )


def _reason(record: ContainerRecord) -> str:
    return record.waiting_reason or "ContainerCreating"


def _state(record: ContainerRecord) -> str:
    if record.terminated is not None:
        return f"it ended with exit code {record.terminated.exit_code} ({record.terminated.reason})"
    return f"it waits: {_reason(record)}"


def _undeclared(worker: PodWorker, port: Any) -> str:
    declared = ", ".join(map(str, worker.sandbox.ports)) or "none"
    return f"pod {worker.key} declares no containerPort {port}; on this node only declared ports work: {declared}"
