"""The manager's HTTP endpoints: `/healthz`, `/readyz` and `/metrics`.

A probe is a set of named checks. `/healthz` runs all of them, `/healthz/NAME` one, `?verbose` lists each,
`?exclude=` leaves some out; a failing check answers 500 without saying why, because probes are
unauthenticated (the reason goes to the log). Semantics and texts follow the Kubernetes components' own
endpoints.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from kaito.runtime.logs import get_logger

Check = Callable[[], Awaitable[None] | None]
"""Raises when something is wrong; may be a coroutine function."""
KEEPALIVE = 90.0
"""Seconds that an idle connection is kept."""

log = get_logger(__name__)


class Probe:
    """One endpoint with sub-checks. A probe without checks has one, `ping`, that always passes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._checks: dict[str, Check] = {"ping": lambda: None}

    def add(self, name: str, check: Check) -> None:
        """Adds a check. Raises ValueError where the name is taken."""
        if name in self._checks:
            raise ValueError(f"{self.name} already has a check named {name!r}")
        self._checks[name] = check

    async def handle(self, request: web.Request) -> web.Response:
        """Answers `/NAME` and `/NAME/CHECK`."""
        wanted = request.match_info.get("check", "")
        if wanted and wanted not in self._checks:
            return web.Response(status=404, text=f"{self.name} has no check named {wanted!r}\n")
        excluded = set(request.query.getall("exclude", []))
        lines, failed = [], []
        for name, check in self._checks.items():
            if (wanted and name != wanted) or name in excluded:
                continue
            if await self._passes(name, check):
                lines.append(f"[+]{name} ok")
            else:
                lines.append(f"[-]{name} failed: reason withheld")
                failed.append(name)
        if failed:
            return web.Response(status=500, text="\n".join([*lines, f"{self.name} check failed", ""]))
        if "verbose" in request.query:
            return web.Response(text="\n".join([*lines, f"{self.name} check passed", ""]))
        return web.Response(text="ok")

    async def _passes(self, name: str, check: Check) -> bool:
        try:
            result = check()
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            log.warning("health check failed", probe=self.name, check=name, reason=str(error))
            return False
        return True


def probe_routes(*probes: Probe) -> list[web.RouteDef]:
    """Routes of some probes."""
    return [
        route
        for probe in probes
        for route in (
            web.get(f"/{probe.name}", probe.handle),
            web.get(f"/{probe.name}/{{check}}", probe.handle),
        )
    ]


def metrics_routes(registry: CollectorRegistry) -> list[web.RouteDef]:
    """`/metrics` in whichever exposition format the scraper asks for."""

    async def handle(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    return [web.get("/metrics", handle)]


def split_address(address: str) -> tuple[str | None, int]:
    """`127.0.0.1:8080`, `[::1]:8080` or `:8080` (every interface) as host and port. Raises ValueError."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if port is None:
        raise ValueError(f"address {address!r} is not HOST:PORT; write for example 127.0.0.1:8080, or :8080")
    return host, port


def cannot_listen(host: str | None, port: int, error: OSError) -> OSError:
    """The same error as a sentence that names the address and says what to do."""
    reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
    return OSError(
        error.errno,
        f"cannot listen on {host or ''}:{port}: {reason}; end what uses this address, or choose another (port 0: any)",
    )


class HttpServer:
    """A runnable that serves routes on one address; port 0 takes any free one, then see `port`."""

    def __init__(self, address: str, routes: list[web.RouteDef]) -> None:
        self._host, self._port = split_address(address)
        self._app = web.Application()
        self._app.add_routes(routes)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is being served. Raises RuntimeError before the start."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the server is not listening")
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listens. Raises OSError, which names the address, when it is taken or not ours."""
        runner = web.AppRunner(self._app, access_log=None, keepalive_timeout=KEEPALIVE, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise cannot_listen(self._host, self._port, error) from error
        self._runner = runner

    async def stop(self) -> None:
        """Closes the socket and its connections."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
