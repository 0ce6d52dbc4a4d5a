"""`kaito proxy`: an OpenAI-compatible address on this machine that leads to a Workspace's inference server."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from kaito.cli.inference import InferenceService
from kaito.runtime.errors import TransportError

_HOP_BY_HOP = frozenset(
    {
        "authorization", "connection", "content-encoding", "content-length", "host", "keep-alive",
        "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that belong to one connection (RFC 9110, section 7.6.1), and the local client's credentials."""

_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost"})


class InferenceProxy:
    """Forwards every request on a loopback port to one inference Service, streams both ways."""

    def __init__(self, service: InferenceService, *, port: int = 0) -> None:
        self._service = service
        self._wanted_port = port
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None)
        self.port = 0

    async def start(self) -> None:
        """Listens on 127.0.0.1. Raises OSError when the wanted port is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._wanted_port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if (request.host or "").rsplit(":", 1)[0] not in _LOCAL_NAMES:
            # A web page that resolves its own name to 127.0.0.1 must not reach the model through the browser.
            raise web.HTTPForbidden(
                text=f"This proxy answers to 127.0.0.1 and localhost, not to {request.host!r}."
            )
        headers = tuple((k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP)
        try:
            upstream = await self._service.send(
                request.method,
                request.rel_url.raw_path,  # as it came: a model's id may hold an escaped slash
                headers=headers,
                query=tuple(request.query.items()),
                body=await request.read() or None,
                stream=True,
            )
        except TransportError as error:
            raise web.HTTPBadGateway(text=f"The API server cannot be reached: {error}") from None
        try:
            response = web.StreamResponse(status=upstream.status)
            for name, value in upstream.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    response.headers[name] = value
            await response.prepare(request)
            async for chunk in upstream.chunks():
                await response.write(chunk)
            await response.write_eof()
            return response
        finally:
            await upstream.close()


def usage(port: int, model: str, echo: Callable[[str], None]) -> None:
    """What to type in the next window."""
    echo(f"export OPENAI_BASE_URL=http://127.0.0.1:{port}/v1")
    echo("export OPENAI_API_KEY=unused")
    echo("")
    echo("# with the openai package, for example:")
    echo("from openai import OpenAI")
    echo("answer = OpenAI().chat.completions.create(")
    echo(f'    model="{model}",')
    echo('    messages=[{"role": "user", "content": "What is the capital of France?"}])')
    echo("print(answer.choices[0].message.content)")
