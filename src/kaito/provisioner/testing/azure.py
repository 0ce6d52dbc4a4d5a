"""The fake inside the Azure SDK: a transport that calls it instead of opening a socket.

So the real client, with its pipeline, its pollers and its parsing of errors, runs in virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import orjson
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseTimeoutError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.core.utils import CaseInsensitiveDict

from kaito.provisioner.testing.arm import FakeArm
from kaito.provisioner.testing.messages import ConnectionDropped, Reply
from kaito.runtime.clock import Clock


class FakeCredential:
    """An async credential that has a token at once: `token`, which may be changed; asked: scopes, oldest first."""

    def __init__(self, token: str = "fake") -> None:
        self.token = token
        self.asked: list[tuple[str, ...]] = []

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked.append(scopes)
        return AccessToken(self.token, 2**33)

    async def close(self) -> None:
        return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return


class MemoryTransport(AsyncHttpTransport[HttpRequest, AsyncHttpResponse]):
    """`transport=` of an Azure client; requests go to `arm`, waits and latency by `clock`.

    A request that takes longer than `read_timeout` (seconds, as the client asks) fails as on a network.
    """

    def __init__(self, arm: FakeArm, clock: Clock) -> None:
        self._arm = arm
        self._clock = clock

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        url = urlsplit(request.url)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        base = f"{url.scheme}://{url.netloc}"
        limit = kwargs.get("read_timeout")
        try:
            async with self._clock.timeout(limit):
                reply = await self._ask(request, url.path, query, base)
        except TimeoutError as error:
            raise ServiceResponseTimeoutError(f"no answer within {limit:g} s", error=error) from error
        except ConnectionDropped as error:
            raise ServiceRequestError(f"Server disconnected: {error}", error=error) from error
        return MemoryResponse(request, reply)

    async def _ask(self, request: HttpRequest, path: str, query: dict[str, str], base: str) -> Reply:
        content = request.content
        body = content.encode() if isinstance(content, str) else content or b""
        try:
            return self._arm.handle(request.method, path, query, request.headers, body, base=base)
        finally:
            if self._arm.latency:
                await self._clock.sleep(self._arm.latency)

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def sleep(self, duration: float) -> None:
        await self._clock.sleep(duration)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


class MemoryResponse(AsyncHttpResponse):
    """A reply as the SDK wants to see it: read already."""

    def __init__(self, request: HttpRequest, reply: Reply) -> None:
        self._request = request
        self._reply = reply
        self._headers = CaseInsensitiveDict({"Content-Length": str(len(reply.body)), **reply.headers})

    @property
    def request(self) -> HttpRequest:
        return self._request

    @property
    def status_code(self) -> int:
        return self._reply.status

    @property
    def headers(self) -> MutableMapping[str, str]:
        return self._headers

    @property
    def reason(self) -> str:
        return HTTPStatus(self._reply.status).phrase

    @property
    def content_type(self) -> str | None:
        return self._headers.get("Content-Type")

    @property
    def is_closed(self) -> bool:
        return True

    @property
    def is_stream_consumed(self) -> bool:
        return True

    @property
    def encoding(self) -> str | None:
        return "utf-8"

    @encoding.setter
    def encoding(self, value: str | None) -> None:
        raise NotImplementedError("what the fake answers is UTF-8")

    @property
    def url(self) -> str:
        return self._request.url

    @property
    def content(self) -> bytes:
        return self._reply.body

    def text(self, encoding: str | None = None) -> str:
        return self._reply.body.decode(encoding or "utf-8-sig")

    def json(self) -> Any:
        return orjson.loads(self._reply.body)

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise HttpResponseError(response=self)

    async def read(self) -> bytes:
        return self._reply.body

    async def iter_raw(self, **_: Any) -> AsyncIterator[bytes]:
        yield self._reply.body

    async def iter_bytes(self, **_: Any) -> AsyncIterator[bytes]:
        yield self._reply.body

    def body(self) -> bytes:
        """The name of `content` in pollers, which were written for an older response type."""
        return self._reply.body

    async def close(self) -> None:
        return

    async def __aexit__(self, *_: object) -> None:
        return
