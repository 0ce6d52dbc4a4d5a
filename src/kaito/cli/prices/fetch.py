"""Reads from a price list over HTTP: tries again where that may help, and says where it does not.

Delays are the work queue's own: tenacity comes with Azure's packages, which a price list does not need.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import aiohttp
import orjson

from kaito.cli.errors import CliError
from kaito.runtime.clock import Clock
from kaito.runtime.ratelimit import ItemExponential

T = TypeVar("T")

TRIES: Final = 5
FIRST_DELAY: Final = 1.0
"""Seconds before the second try; each further one waits twice as long."""
LONGEST_DELAY: Final = 60.0
"""Seconds that are waited at most, whatever the server asks for."""
PAGE_SECONDS: Final = 60.0
LIST_SECONDS: Final = 3600.0
"""For a list of a whole region, which may have some hundred megabytes."""
PAGE_BYTES: Final = 32 << 20
LINE_BYTES: Final = 1 << 20
WORDS: Final = 200
"""Characters that are told of what a server says beside its status."""


class _TryAgain(Exception):
    """It may go better later; `wait`: seconds that the server asks for."""

    def __init__(self, sentence: str, wait: float | None = None) -> None:
        super().__init__(sentence)
        self.wait = wait


class Fetcher:
    """Reads from one server. `async with`; every failure is a CliError with the address and the reason."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:
        self._session = aiohttp.ClientSession(
            trust_env=True,
            read_bufsize=LINE_BYTES,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": "kaito"},
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def json(self, url: str, params: Mapping[str, str] | None = None) -> tuple[Any, str]:
        """A document, and the address that it came from, query included."""

        async def once() -> tuple[Any, str]:
            async with self._get(url, params, PAGE_SECONDS) as response:
                body = await _bounded(response)
                try:
                    return orjson.loads(body), str(response.url)
                except orjson.JSONDecodeError:
                    raise CliError(f"{url}: the answer is not JSON.") from None

        return await self._patiently(url, once)

    async def lines(self, url: str, read: Callable[[AsyncIterator[bytes]], Awaitable[T]]) -> T:
        """What `read` makes of a long text's lines; it begins anew where the connection is lost halfway."""

        async def once() -> T:
            async with self._get(url, None, LIST_SECONDS) as response:
                return await read(aiter(response.content))

        return await self._patiently(url, once)

    async def _patiently(self, url: str, once: Callable[[], Awaitable[T]]) -> T:
        delays = ItemExponential(FIRST_DELAY, LONGEST_DELAY)
        while True:
            try:
                return await once()
            except _TryAgain as error:
                delay = max(delays.when(url), min(error.wait or 0.0, LONGEST_DELAY))
                if delays.failures(url) >= TRIES:
                    raise CliError(f"{url}: {error} ({TRIES} tries).") from None
            await self._clock.sleep(delay)

    @contextlib.asynccontextmanager
    async def _get(
        self, url: str, params: Mapping[str, str] | None, seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        try:
            async with self._clock.timeout(seconds), self._session.get(url, params=params) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                yield response
        except TimeoutError:
            raise _TryAgain(f"no whole answer within {seconds:g} s") from None
        except aiohttp.InvalidURL:
            raise CliError(f"{url} is no address.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _TryAgain(f"cannot be read: {str(error) or type(error).__name__}") from None
        except ValueError:  # a line that is longer than the stream's limit
            raise CliError(f"{url}: a line has more than {LINE_BYTES:,} bytes.") from None

    async def _refusal(self, response: aiohttp.ClientResponse) -> Exception:
        said = " ".join((await response.content.read(4 * WORDS)).decode(errors="replace").split())[:WORDS]
        sentence = f"answers {response.status}" + (f": {said}" if said else "")
        if response.status == 429 or response.status >= 500:
            return _TryAgain(sentence, self._asked(response.headers.get("Retry-After", "")))
        return CliError(f"{response.url} {sentence}.")

    def _asked(self, text: str) -> float | None:
        """Seconds of a Retry-After, which is a number or a date."""
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), LONGEST_DELAY)
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return (until - self._clock.wall()).total_seconds()


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > PAGE_BYTES:
            raise CliError(f"{response.url}: the answer has more than {PAGE_BYTES:,} bytes.")
    return bytes(body)
