"""Requests as they go over the wire, below the verbs.

Everything that is the same for every request is here: who is asking, time limits, repeating what the server
asks to repeat, the typed error for every answer that is no success, the server's warnings, and the record of
each exchange for metrics. `kaito.runtime.client.Client` adds the verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from kaito import __version__
from kaito.runtime.clock import Clock
from kaito.runtime.errors import (
    ApiError,
    MalformedAnswer,
    TransportError,
    from_status,
    parse_retry_after,
)
from kaito.runtime.server_warnings import WarningHandler, WarningLog, parse_warnings
from kaito.runtime.transport import Request, Response, Transport
from kaito.runtime.writes import Write

JSON_TYPE = "application/json"
DEFAULT_TIMEOUT = 30.0
"""Seconds for one request that is not a watch."""

_OPEN_ENDED = ("watch", "follow")
"""Parameters of requests whose answer goes on for as long as somebody listens."""

RETRY_LIMIT = 10
"""Times that a request is repeated because the server named a Retry-After, as client-go does."""

Query = Sequence[tuple[str, str]]
Parameters = list[tuple[str, str]]
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One finished HTTP exchange, for metrics and tests.

    `code` is the HTTP status as text or "<error>" when no answer came (client-go's word); `duration` is in
    seconds until the response's head for streams and its last byte otherwise; `path` has no query. `attempt`
    counts from 0: anything above is a repetition that a Retry-After asked for. Sizes are in bytes of body;
    `response_size` is None for streams and where no answer came.
    """

    method: str
    path: str
    code: str
    user_agent: str
    duration: float
    watch: bool = False
    attempt: int = 0
    request_size: int = 0
    response_size: int | None = None


Observer = Callable[[RequestRecord], None]


class Hooks:
    """What clients of one connection share, whatever name each goes by."""

    __slots__ = ("on_warning", "on_write")

    def __init__(self, on_warning: WarningHandler) -> None:
        self.on_write: Callable[[Write], None] | None = None
        self.on_warning = on_warning


class RestClient:
    """Sends requests to one API server under one name; see `Client` for the arguments."""

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Clock,
        user_agent: str = f"kaito-runtime/{__version__}",
        field_manager: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        observer: Observer | None = None,
        on_warning: WarningHandler | None = None,
    ) -> None:
        self.transport = transport
        self.clock = clock
        self.user_agent = user_agent
        self.field_manager = field_manager
        self.timeout = timeout
        self.observer = observer
        self._hooks = Hooks(WarningLog() if on_warning is None else on_warning)

    @property
    def on_write(self) -> Callable[[Write], None] | None:
        """Told of each write that the server accepted. One for all clients that `named` derives."""
        return self._hooks.on_write

    @on_write.setter
    def on_write(self, callback: Callable[[Write], None] | None) -> None:
        self._hooks.on_write = callback

    @property
    def on_warning(self) -> WarningHandler:
        """Told of each warning that the server sends. One for all clients that `named` derives."""
        return self._hooks.on_warning

    @on_warning.setter
    def on_warning(self, callback: WarningHandler) -> None:
        self._hooks.on_warning = callback

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = JSON_TYPE,
        accept: str = JSON_TYPE,
        timeout: float | None = None,
    ) -> bytes:
        """Send any request and return the body of a 2xx answer.

        `timeout` is in seconds, retries included; None means the client's.

        429 and 5xx answers that carry a Retry-After header are repeated after that time, at most
        `RETRY_LIMIT` times and only while the wait fits into the client's timeout. Every other answer is
        raised as an `ApiError` with the reason of its Status.
        """
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        if method == "GET":
            headers["Accept-Encoding"] = "identity"
        request = Request(method, path, tuple(query), self._identify(headers), body)
        deadline = self.clock.now() + (self.timeout if timeout is None else timeout)
        for attempt in range(RETRY_LIMIT + 1):
            response = await self._exchange(request, deadline - self.clock.now(), attempt=attempt)
            if 200 <= response.status < 300:
                return await response.read()
            pause = parse_retry_after(response.headers.get("Retry-After"))
            if pause is None or not _may_retry(response.status) or self.clock.now() + pause >= deadline:
                break
            if attempt < RETRY_LIMIT:
                await self.clock.sleep(pause)
        raise await _error(request, response)

    async def stream(
        self, path: str, *, query: Query = (), accept: str = JSON_TYPE, head_timeout: float | None = None
    ) -> Response:
        """GET whose body is read as it arrives (watch, logs); the caller closes the response.

        Not repeated and not decompressed. `head_timeout` (seconds, default: the client's timeout) covers the
        wait for the response's head; silence afterwards is the caller's to notice.
        """
        headers = self._identify({"Accept": accept, "Accept-Encoding": "identity"})
        request = Request("GET", path, tuple(query), headers)
        response = await self._exchange(
            request, self.timeout if head_timeout is None else head_timeout, stream=True
        )
        if 200 <= response.status < 300:
            return response
        try:
            async with self.clock.timeout(self.timeout):
                raise await _error(request, response)
        except TimeoutError:
            raise from_status(response.status, None, context=f"GET {path}") from None
        finally:
            await response.close()

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Any = None,
        content_type: str = JSON_TYPE,
        accept: str = JSON_TYPE,
    ) -> Object:
        """`request` with a JSON body and a JSON object for an answer; an empty answer is an empty object.

        Raises MalformedAnswer where the answer is something else.
        """
        answer = await self.request(
            method,
            path,
            query=query,
            body=None if body is None else encode(body),
            content_type=content_type,
            accept=accept,
        )
        return parse_object(answer, f"{method} {path}")

    async def _exchange(
        self, request: Request, timeout: float, *, stream: bool = False, attempt: int = 0
    ) -> Response:
        started = self.clock.now()
        code, size = "<error>", None
        try:
            response = await self.transport.send(request, timeout=timeout, stream=stream)
            code = str(response.status)
            if not stream:
                size = len(await response.read())
        finally:
            if self.observer is not None:
                self.observer(
                    RequestRecord(
                        method=request.method,
                        path=request.path,
                        code=code,
                        user_agent=self.user_agent,
                        duration=self.clock.now() - started,
                        watch=stream and any(name in _OPEN_ENDED for name, _ in request.query),
                        attempt=attempt,
                        request_size=len(request.body or b""),
                        response_size=size,
                    )
                )
        if "Warning" in response.headers:
            for text in parse_warnings(response.headers):
                self._hooks.on_warning(text)
        return response

    def _identify(self, headers: dict[str, str]) -> dict[str, str]:
        headers["User-Agent"] = self.user_agent
        return headers


def _may_retry(status: int) -> bool:
    return status == 429 or status >= 500


async def _error(request: Request, response: Response) -> ApiError:
    try:
        body = await response.read()
    except TransportError:
        body = b""
    return from_status(
        response.status,
        body,
        retry_after=parse_retry_after(response.headers.get("Retry-After")),
        context=f"{request.method} {request.path}",
    )


def encode(body: Any) -> bytes:
    """A request's body."""
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)


def parse_object(body: bytes, context: str) -> Object:
    """The JSON object in an answer; nothing at all is an empty one. Raises MalformedAnswer."""
    if not body:
        return {}
    try:
        tree = orjson.loads(body)
    except orjson.JSONDecodeError:
        tree = None
    if not isinstance(tree, dict):
        raise MalformedAnswer(context, body)
    return cast("Object", tree)
