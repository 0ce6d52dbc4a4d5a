"""Sends reviews to webhooks over HTTPS."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import orjson
from yarl import URL

from kaito.embedded.apiserver.admission.endpoints import Endpoint, Unreachable

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of an answer that are read."""

Send = Callable[[Endpoint, bytes], Awaitable[bytes]]
"""(where, review) -> the body of a successful answer. Raises Unreachable with the reason otherwise."""


class HttpsSender:
    """Keeps connections to webhooks, one TLS context per authority."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[bytes, ssl.SSLContext] = {}

    async def send(self, endpoint: Endpoint, body: bytes) -> bytes:
        """POSTs a review; the caller limits the time.

        Raises:
            Unreachable: no connection, no trust, or an answer that is no success.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        shown = URL(endpoint.url)
        url, headers = shown, {"Content-Type": "application/json", "Accept": "application/json"}
        if endpoint.address is not None:
            url = shown.with_host(endpoint.address[0]).with_port(endpoint.address[1])
            headers["Host"] = shown.authority
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                ssl=self._context(endpoint.ca),
                server_hostname=endpoint.server_name or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                answer = await response.content.read(MAX_ANSWER)
                status = response.status
        except aiohttp.ClientConnectorCertificateError as error:
            why = f"tls: failed to verify certificate: {error.certificate_error}"
        except aiohttp.ClientConnectorError as error:
            why = f"dial tcp {error.host}:{error.port}: connect: {_os_text(error.os_error)}"
        except (aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
        else:
            if 200 <= status < 300 and answer:
                return answer
            if 200 <= status < 300:
                raise Unreachable(
                    f"0-length response with status code: {status} and content type: "
                    f"{response.headers.get('Content-Type', 'application/json')}"
                )
            raise Unreachable(_status_text(status, answer))
        raise Unreachable(f'Post "{shown}": {why}')

    async def close(self) -> None:
        """Drops all connections; the next call makes new ones."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _context(self, ca: bytes) -> ssl.SSLContext:
        context = self._contexts.get(ca)
        if context is None:
            try:
                context = ssl.create_default_context(cadata=ca.decode() if ca else None)
            except (ssl.SSLError, ValueError) as error:
                raise Unreachable(f"unable to load root certificates: {error}") from None
            # What an authority made by hand lacks (key identifiers) Kubernetes does not ask for either.
            context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
            self._contexts[ca] = context
        return context


def _os_text(error: OSError) -> str:
    """The system's words for an error (`connection refused`), which asyncio replaces by its own."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


_STATUS_TEXTS: Final = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}
_SPEAK_FOR_THEMSELVES: Final = (403, 406, 415, 503)
"""Statuses whose body is the message."""


def _status_text(status: int, body: bytes) -> str:
    """A failed HTTP status as client-go tells it (NewGenericServerResponse)."""
    if status in _STATUS_TEXTS:
        return _STATUS_TEXTS[status]
    text = body[:2048].decode(errors="replace").strip() or "unknown"
    if status in _SPEAK_FOR_THEMSELVES:
        return text
    if status >= 500:
        quoted = orjson.dumps(text).decode()
        return f"an error on the server ({quoted}) has prevented the request from succeeding"
    return f"the server responded with the status code {status} but did not return more information"
