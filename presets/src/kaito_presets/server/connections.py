"""How many connections the server keeps, and what becomes of the others.

Without a bound, connections that say nothing use up the process's files, and then nobody is heard, probes neither. So
those that wait longest for a request are closed when too many are open; where none has waited for long, newcomers are
answered with 503, except probes and scrapes; and beyond twice the bound they are closed unanswered.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from kaito_presets.server.errors import openai_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Connections that are kept, where the process may open enough files.
MOST = 2048
#: Connections that the system holds for us until we look at them, as far as it does.
BACKLOG = 4096
#: Connections taken from it at once. Few, so that what those before have sent is read before more are taken.
TAKEN_AT_ONCE = 32
#: Files kept for everything that is no connection.
SPARE_FILES = 256
#: Seconds that a client may take to send a request's head, from its first byte or the connection's beginning.
SILENT_SECONDS = 30.0
#: Seconds of silence after which a connection may be closed in favour of another.
QUIET_SECONDS = 1.0
#: These are answered on any connection.
PROBES = frozenset({"/health", "/healthz", "/metrics"})

log = logging.getLogger(__name__)


def room() -> int:
    """Connections that this process may keep; raises the number of files that it may open as far as needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # macOS has a lower limit of its own beside an unlimited one
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST
    most = max(16, (soft - SPARE_FILES) // 2)
    log.warning("This process may open %d files, so it keeps %d connections, not %d.", soft, most, MOST)
    return most


def bounded(most: int) -> type[H11Protocol]:
    """uvicorn's protocol for one server that keeps `most` connections."""
    return type("Bounded", (_Bounded,), {"most": most, "quiet": {}})


class _Bounded(H11Protocol):
    most: ClassVar[int]
    quiet: ClassVar[dict[_Bounded, float]]
    """The server's connections without a request, and since when; the oldest first."""
    _silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self.most and not self._close_oldest():
            if len(self.connections) > 2 * self.most:
                transport.abort()
                return
            self.app = cast("Any", _TooMany(self.app, self.most))
        self._note()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _close_oldest(self) -> bool:
        """Whether one that waited long enough for a request was closed."""
        oldest = next(iter(self.quiet), None)
        if oldest is None or self.loop.time() - self.quiet[oldest] < QUIET_SECONDS:
            return False
        oldest._forget()
        oldest.transport.abort()
        self.connections.discard(oldest)
        return True

    def _note(self) -> None:
        """Keeps `quiet` right after anything has happened."""
        cycle: RequestResponseCycle | None = self.cycle
        if self.transport.is_closing() or (cycle is not None and not cycle.response_complete):
            self._forget()
        elif self not in self.quiet:
            self.quiet[self] = self.loop.time()
            self._silence = self.loop.call_later(SILENT_SECONDS, self.transport.close)

    def _forget(self) -> None:
        self.quiet.pop(self, None)
        if self._silence:
            self._silence.cancel()
            self._silence = None


class _TooMany:
    """ASGI application in place of ours on connections beyond the bound."""

    def __init__(self, app: Any, most: int) -> None:
        self._app: ASGIApp = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        sentence = f"Too many connections: {self._most} are open. Try again later, and use fewer connections."
        body = (
            openai_body(503, sentence, "too_many_connections")
            if scope["path"].startswith("/v1/")
            else {"detail": sentence}
        )
        await JSONResponse(body, 503, {"Retry-After": "1", "Connection": "close"})(scope, receive, send)
