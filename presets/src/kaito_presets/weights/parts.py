"""Reads parts of a layer as a file, without the rest of it: from a registry by Range requests, or from a disk."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

Part = Callable[[int, int], bytes]
"""(start, length) to the bytes there."""

MIB: Final = 1024 * 1024
#: Bytes that looking at an image may fetch. An image's own layers (Debian's Python: 45 MB) and models of half a billion
#: parameters are seen whole with it, for a quarter of a minute at 40 MB/s.
MOST_FETCHED: Final = 512 * MIB
#: Bytes that one read may ask for: longer than every header of a tensor file that is in use, and of an archive.
LONGEST_READ: Final = 100 * MIB


class Unseen(Exception):
    """Cannot be looked at before it is pulled. str() is the reason, as the end of a sentence."""


class Budget:
    """What may still be fetched, in bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.left = size

    def take(self, size: int) -> None:
        """Raises Unseen when that is more than is left."""
        if size > self.left:
            raise Unseen(f"more than {self._size // MIB} MiB would have to be read for that")
        self.left -= size

    def counted(self, part: Part) -> Part:
        """The same part, paid for."""

        def read(start: int, length: int) -> bytes:
            self.take(length)
            return part(start, length)

        return read


def of_file(path: Path) -> Part:
    """Parts of a file. They raise OSError."""

    def read(start: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    return read


class Window:
    """A file over parts, with what tarfile and gzip need of one. What is passed over is not fetched.

    ahead: bytes that are fetched at once, so that small reads do not become a request each.
    """

    def __init__(self, part: Part, size: int, ahead: int) -> None:
        self._part = part
        self._size = size
        self._ahead = ahead
        self._position = 0
        self._held, self._held_from = b"", 0

    def read(self, size: int = -1) -> bytes:
        """Raises Unseen, and what the parts raise."""
        left = max(0, self._size - self._position)
        size = left if size < 0 else min(size, left)
        if size > LONGEST_READ:
            raise Unseen("it holds a header that is longer than headers are")
        start = self._position
        inside = self._held_from <= start < self._held_from + len(self._held)
        found = self._held[start - self._held_from :] if inside else b""
        if len(found) < size:
            end = start + len(found)
            length = min(max(size - len(found), self._ahead), self._size - end)
            found += self._part(end, length)
            self._held, self._held_from = found, start
        self._position += size
        return found[:size]

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + position)
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True
