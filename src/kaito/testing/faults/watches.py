"""What can go wrong with a watch, line by line.

`after_events` counts the events that carry an object (ADDED, MODIFIED, DELETED) and are still delivered on this stream;
bookmarks pass uncounted.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import orjson

from kaito.runtime.clock import Clock
from kaito.runtime.errors import TransportError, from_status
from kaito.runtime.transport import Response
from kaito.testing.faults.actions import FOREVER, ChangedResponse, Forward
from kaito.testing.faults.calls import ApiCall

Lines = AsyncGenerator[bytes, None]


class WatchAction:
    """An action that rewrites the lines of a watch; subclasses say how in `lines`."""

    def applies(self, call: ApiCall) -> bool:
        return call.is_watch

    async def respond(self, call: ApiCall, forward: Forward, clock: Clock) -> Response:
        response = await forward()
        if response.status != 200:
            return response
        return ChangedResponse(response, self._changed(response.chunks(), clock))

    async def _changed(self, chunks: AsyncIterator[bytes], clock: Clock) -> Lines:
        async with aclosing(_split(chunks)) as sent, aclosing(self.lines(sent, clock)) as changed:
            async for line in changed:
                yield line

    def lines(self, lines: Lines, clock: Clock) -> Lines:
        """The lines, newline included, that the client gets. A TransportError breaks its connection."""
        raise NotImplementedError


async def _split(chunks: AsyncIterator[bytes]) -> Lines:
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def _kind(line: bytes) -> str:
    """Type of an event: ADDED, MODIFIED, DELETED, BOOKMARK, ERROR; "" if it cannot be told."""
    try:
        return str(orjson.loads(line)["type"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def _is_event(line: bytes) -> bool:
    return _kind(line) in ("ADDED", "MODIFIED", "DELETED")


async def _first(lines: Lines, events: int) -> Lines:
    """Lines up to and including so many events."""
    if events <= 0:
        return
    async for line in lines:
        yield line
        events -= _is_event(line)
        if not events:
            return


@dataclass(frozen=True)
class DropWatch(WatchAction):
    """The stream ends as if the server had closed it in good order."""

    after_events: int = 0
    """Events delivered before."""

    async def lines(self, lines: Lines, clock: Clock) -> Lines:
        async for line in _first(lines, self.after_events):
            yield line


@dataclass(frozen=True)
class CutWatch(WatchAction):
    """The connection breaks in the middle of the next line."""

    after_events: int = 0
    """Events delivered whole before."""

    async def lines(self, lines: Lines, clock: Clock) -> Lines:
        async for line in _first(lines, self.after_events):
            yield line
        async for line in lines:
            yield line[: len(line) // 2]
            break
        raise TransportError("the watch was cut in mid-line by an injected fault")


@dataclass(frozen=True)
class WatchError(WatchAction):
    """An ERROR event with a Status comes, and the stream ends."""

    status: int = 410
    """Code in the Status."""

    reason: str = ""
    """Its reason. Default: the one that belongs to the code."""

    message: str = "injected fault"
    """Its message."""

    after_events: int = 0
    """Events delivered before."""

    async def lines(self, lines: Lines, clock: Clock) -> Lines:
        async for line in _first(lines, self.after_events):
            yield line
        error = from_status(self.status, {"reason": self.reason, "message": self.message})
        yield orjson.dumps({"type": "ERROR", "object": error.to_status()}) + b"\n"


@dataclass(frozen=True)
class HalfOpenWatch(WatchAction):
    """Nothing comes any more, not even bookmarks, but the connection stays open."""

    after_events: int = 0
    """Events delivered before."""

    async def lines(self, lines: Lines, clock: Clock) -> Lines:
        async for line in _first(lines, self.after_events):
            yield line
        await clock.sleep(FOREVER)


@dataclass(frozen=True)
class NoBookmarks(WatchAction):
    """Bookmarks do not come through, as from a server or a proxy that has none."""

    async def lines(self, lines: Lines, clock: Clock) -> Lines:
        async for line in lines:
            if _kind(line) != "BOOKMARK":
                yield line


@dataclass(frozen=True)
class DelayEvents(WatchAction):
    """Every line comes later than it was sent, in order: a cache that lags behind."""

    seconds: float
    """How much later."""

    async def lines(self, lines: Lines, clock: Clock) -> Lines:
        queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

        async def pump() -> None:
            try:
                async for line in lines:
                    queue.put_nowait((clock.now() + self.seconds, line))
            finally:
                queue.put_nowait(None)

        pumping = asyncio.ensure_future(pump())
        try:
            while (entry := await queue.get()) is not None:
                due, line = entry
                await clock.sleep(due - clock.now())
                yield line
            await pumping
        finally:
            pumping.cancel()
            with suppress(asyncio.CancelledError, TransportError):
                await pumping


class HoldEvents(WatchAction):
    """Every line waits until `release()`: a cache that stays behind for exactly as long as a test wants.

    `release` and `hold` may be called from any thread and again; what was held comes at the release, in order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._holding = True

    def hold(self) -> None:
        """Keep back what comes from now on, as from the start."""
        with self._lock:
            self._holding = True

    def release(self) -> None:
        """Let go."""
        with self._lock:
            self._holding = False
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    async def lines(self, lines: Lines, clock: Clock) -> Lines:
        async for line in lines:
            await self._until_released()
            yield line

    async def _until_released(self) -> None:
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        with self._lock:
            if not self._holding:
                return
            self._waiting.append(entry)
        try:
            await event.wait()
        finally:
            with self._lock, suppress(ValueError):
                self._waiting.remove(entry)

    def __repr__(self) -> str:
        return "HoldEvents()"
