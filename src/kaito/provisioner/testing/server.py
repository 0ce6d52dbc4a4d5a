"""The fake over HTTP on loopback, for programs that are not in the test's process."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from aiohttp import web

from kaito.provisioner.testing.arm import FakeArm
from kaito.provisioner.testing.messages import ConnectionDropped
from kaito.runtime.clock import Clock


class ArmServer:
    """Serves `arm` from `async with` to its end; `url` is where, without a slash at its end.

    port: 0: a free one.
    """

    def __init__(self, arm: FakeArm, clock: Clock, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._arm = arm
        self._clock = clock
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            reply = self._arm.handle(
                request.method, request.path, request.query, request.headers, body, base=self.url
            )
        except ConnectionDropped:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if self._arm.latency:
            await self._clock.sleep(self._arm.latency)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
