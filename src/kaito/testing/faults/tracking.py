"""Answers on their way, so that they can be broken from outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from kaito.runtime.errors import TransportError
from kaito.runtime.transport import BufferedResponse, Response
from kaito.testing.faults.actions import ChangedResponse
from kaito.testing.faults.calls import ApiCall


class _Stream:
    """One answer being streamed in one event loop."""

    def __init__(self, call: ApiCall) -> None:
        self.call = call
        self._loop = asyncio.get_running_loop()
        self.broken = asyncio.Event()

    def cut(self) -> None:
        """Break it; may be called from any thread."""
        with suppress(RuntimeError):  # its loop has ended, and the stream with it
            self._loop.call_soon_threadsafe(self.broken.set)


class OpenStreams:
    """The answers that are being streamed now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[_Stream] = set()

    def track(self, call: ApiCall, response: Response) -> Response:
        """The same response, which breaks (TransportError) when it is cut."""
        if isinstance(response, BufferedResponse):
            return response
        return ChangedResponse(response, self._chunks(_Stream(call), response))

    def cut(self, meant: Callable[[ApiCall], bool]) -> int:
        """Break those whose request is meant; returns how many."""
        with self._lock:
            chosen = [stream for stream in self._open if meant(stream.call)]
        for stream in chosen:
            stream.cut()
        return len(chosen)

    async def _chunks(self, stream: _Stream, response: Response) -> AsyncGenerator[bytes, None]:
        chunks = aiter(response.chunks())
        broken = asyncio.ensure_future(stream.broken.wait())
        waiting: asyncio.Future[bytes | None] | None = None
        with self._lock:
            self._open.add(stream)
        try:
            while True:
                waiting = asyncio.ensure_future(anext(chunks, None))
                await asyncio.wait({waiting, broken}, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    raise TransportError(f"{stream.call.method} {stream.call.path}: the connection was cut")
                chunk = await waiting
                if chunk is None:
                    return
                yield chunk
        finally:
            with self._lock:
                self._open.discard(stream)
            for task in (broken, waiting):
                if task is not None and not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError, TransportError):
                        await task
