"""Reads lines from standard input without a thread.

`input()` in a worker thread cannot be interrupted: Ctrl-C would hang until the next Enter. Here the event loop watches
the file descriptor; where it cannot (a regular file never blocks) the line is read directly.
"""

from __future__ import annotations

import asyncio
import os
import sys


class LineReader:
    """Lines of a file descriptor, one `await` each. One reader at a time."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._buffer = b""
        self._ended = False

    async def line(self, prompt: str = "") -> str | None:
        """The next line without its end, None at the end of input. Writes `prompt` first."""
        if prompt:
            sys.stdout.write(prompt)
            sys.stdout.flush()
        while b"\n" not in self._buffer and not self._ended:
            chunk = await self._read()
            self._buffer += chunk
            self._ended = not chunk
        if not self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()

        def can_read() -> None:
            if not readable.done():
                readable.set_result(None)

        try:
            loop.add_reader(self._fd, can_read)
        except (PermissionError, NotImplementedError, ValueError):  # a regular file: reading cannot block
            return os.read(self._fd, 65536)
        try:
            await readable
        finally:
            loop.remove_reader(self._fd)
        try:
            return os.read(self._fd, 65536)
        except OSError:  # a pseudo-terminal whose other side is gone answers EIO
            return b""
