"""An event loop in a thread of its own.

The API server of a test runs there, so that a test may be an ordinary function, block, or drive an operator in another
process, and the server still answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """Work that goes on in another thread: `await` it in an async test, ask for its `result()` in any other."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._future).__await__()

    def result(self, timeout: float | None = None) -> T:
        """Block until it is done; raises TimeoutError after `timeout` seconds (None: no limit)."""
        return self._future.result(timeout)


class ServerThread:
    """Runs coroutines in its own loop from construction to `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kube-api", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Pending[T]:
        """Start `work` there."""
        return Pending(asyncio.run_coroutine_threadsafe(work, self._loop))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` there and wait for it."""
        return self.submit(work).result()

    def close(self) -> None:
        """End the loop and its thread; what still runs is cancelled."""
        self.run(self._cancel_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_rest(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()
