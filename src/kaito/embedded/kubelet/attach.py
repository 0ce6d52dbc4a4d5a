"""Output for those who attach to a container.

`kubectl run -it` attaches a moment after the container has started, and a `curl` may have ended by then. So an
interactive container's output is kept for the first one who attaches, even after its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

KEPT: Final = 1 << 20
"""Bytes of output kept for the first attach; older output goes (it is in the log)."""
HIGH_WATER: Final = 1 << 20
LOW_WATER: Final = 1 << 18

Piece = tuple[int, bytes]


class Throttle(Protocol):
    """What can be held back while a reader is slow: the process."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Queue:
    """Output on its way to one reader; holds the producer back when the reader is slow."""

    def __init__(self) -> None:
        self.source: Throttle | None = None
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self._held = False
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, stream: int, data: bytes) -> None:
        if self._closed:
            return
        self._pieces.append((stream, data))
        self._size += len(data)
        self._changed.set()
        if self._size > HIGH_WATER and not self._held and self.source is not None:
            self._held = True
            self.source.pause()

    def close(self) -> None:
        """No more will come; the reader still gets what is there."""
        self._closed = True
        self._changed.set()

    def release(self) -> None:
        """The reader has gone."""
        self.close()
        self._size = 0
        self._pieces.clear()
        self._let_go()

    def _let_go(self) -> None:
        if self._held and self._size < LOW_WATER and self.source is not None:
            self._held = False
            self.source.resume()

    async def pieces(self) -> AsyncIterator[Piece]:
        """Everything, in order, until `close`."""
        while True:
            while self._pieces:
                stream, data = self._pieces.popleft()
                self._size -= len(data)
                self._let_go()
                yield stream, data
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()


class Hub:
    """Fans a container's output out to those attached."""

    def __init__(self, keep: bool) -> None:
        self._kept: deque[Piece] | None = deque() if keep else None
        self._kept_size = 0
        self._queues: set[Queue] = set()
        self._closed = False
        self.source: Throttle | None = None

    @property
    def waiting(self) -> bool:
        """Whether output is kept that nobody has seen."""
        return self._kept is not None

    def feed(self, stream: int, data: bytes) -> None:
        if self._kept is not None:
            self._kept.append((stream, data))
            self._kept_size += len(data)
            while self._kept_size > KEPT and len(self._kept) > 1:
                self._kept_size -= len(self._kept.popleft()[1])
        for queue in self._queues:
            queue.put(stream, data)

    def close(self) -> None:
        """The container has ended."""
        self._closed = True
        for queue in self._queues:
            queue.close()

    def attach(self) -> Queue:
        """Start to receive. `detach` it afterwards."""
        queue = Queue()
        queue.source = self.source
        kept, self._kept = self._kept, None
        for stream, data in kept or ():
            queue.put(stream, data)
        if self._closed:
            queue.close()
        else:
            self._queues.add(queue)
        return queue

    def detach(self, queue: Queue) -> None:
        self._queues.discard(queue)
        queue.release()
