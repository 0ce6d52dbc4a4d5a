"""A scripted API server for tests of clients, reflectors and controllers.

A script is a list of `Exchange`s: what request is expected next and what is answered, chunk by chunk, at
which moments. Requests are matched in order; one that does not fit fails the test with both sides shown. For
a server that keeps objects, use a real one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.transport import BufferedResponse, Request, Response, StreamedResponse

_JSON = {"Content-Type": "application/json"}
_FOREVER = 10.0 * 365 * 86400


def json_response(body: Mapping[str, Any], status: int = 200) -> Response:
    """A buffered JSON answer."""
    return BufferedResponse(status, orjson.dumps(body), _JSON)


def watch_line(event: str, obj: Mapping[str, Any]) -> bytes:
    """One line of a watch stream: `event` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""
    return orjson.dumps({"type": event, "object": obj}) + b"\n"


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it arrived, and when (`at`, clock seconds)."""

    at: float
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") in ("1", "true")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One expected request and its answer.

    `method`, `path` and `query` (a subset: the value None means that the parameter must be absent) must fit
    the request; empty ones fit anything. Then exactly one kind of answer: `body` (a JSON object, with
    `status`), `error` (an ApiError, with Retry-After if it has one), `refuse` (words of a TransportError), or
    `stream`: a sequence of chunks (bytes), pauses (seconds) and exceptions to raise in mid-stream. A stream
    ends with its script unless `hold` keeps it open and silent.
    """

    method: str = ""
    path: str = ""
    query: Mapping[str, str | None] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    status: int = 200
    error: ApiError | None = None
    refuse: str | None = None
    stream: Sequence[bytes | float | Exception] | None = None
    hold: bool = False

    def mismatch(self, call: Call) -> str:
        """Why the request does not fit; empty when it does."""
        if self.method and self.method != call.method:
            return f"method {call.method}, expected {self.method}"
        if self.path and self.path != call.path:
            return f"path {call.path}, expected {self.path}"
        for name, wanted in self.query.items():
            if call.query.get(name) != wanted:
                return f"query {name}={call.query.get(name)!r}, expected {wanted!r}"
        return ""


class ScriptedServer:
    """Plays a script; use `MemoryTransport(server.handle, clock)`.

    `calls` records every request. Requests beyond the script get the answer `otherwise`, or fail the test if
    there is none; `mismatches` tells what went wrong, and `assert_done()` checks that the whole script was
    played.
    """

    def __init__(
        self, clock: Clock, script: Iterable[Exchange] = (), otherwise: Exchange | None = None
    ) -> None:
        self._clock = clock
        self._script = list(script)
        self._otherwise = otherwise
        self.calls: list[Call] = []
        self.mismatches: list[str] = []

    def extend(self, *exchanges: Exchange) -> None:
        """Add to the end of the script."""
        self._script += exchanges

    def assert_done(self) -> None:
        """Raise AssertionError if a request did not fit or an expected one never came."""
        assert not self.mismatches, self.mismatches
        assert not self._script, f"never requested: {self._script}"

    async def handle(self, request: Request) -> Response:
        call = Call(
            at=self._clock.now(),
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers=request.headers,
            body=request.body,
        )
        self.calls.append(call)
        exchange = self._next(call)
        if exchange.refuse is not None:
            raise TransportError(exchange.refuse)
        if exchange.error is not None:
            return _error_response(exchange.error)
        if exchange.stream is not None or exchange.hold:
            return StreamedResponse(exchange.status, self._play(exchange), _JSON)
        return json_response(exchange.body or {}, exchange.status)

    def _next(self, call: Call) -> Exchange:
        if self._script:
            problem = self._script[0].mismatch(call)
            if not problem:
                return self._script.pop(0)
        elif self._otherwise is not None:
            return self._otherwise
        else:
            problem = "the script has ended"
        message = f"request {len(self.calls)} at t={call.at:g}, {call.method} {call.path}: {problem}"
        self.mismatches.append(message)
        raise AssertionError(message)

    async def _play(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        for step in exchange.stream or ():
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                yield step
            else:
                await self._clock.sleep(step)
        if exchange.hold:
            await self._clock.sleep(_FOREVER)


def _error_response(error: ApiError) -> Response:
    headers = dict(_JSON)
    if error.retry_after is not None:
        headers["Retry-After"] = f"{error.retry_after:g}"
    return BufferedResponse(error.status, orjson.dumps(error.to_status()), headers)
