"""Opens files that somebody else put there: never through a link, never anything but a regular file."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from kaito.controllers.adapter.facts import Unreadable

_CHUNK: Final = 1 << 20
_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)
"""O_NONBLOCK: opening a pipe that nobody writes to would wait for ever."""


def open_regular(path: Path, shown: str, limit: int) -> tuple[BinaryIO, int]:
    """The file open for reading, and its size. Raises `Unreadable` with `shown` as the file's name."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise Unreadable(f"{shown} is missing") from None
    except OSError as error:
        raise Unreadable(f"{shown} cannot be opened: {error.strerror or error}") from None
    stream = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(found.st_mode):
        problem = f"{shown} is no regular file"
    elif found.st_size > limit:
        problem = f"{shown} has {found.st_size} bytes; at most {limit} are read"
    if problem:
        stream.close()
        raise Unreadable(problem)
    return stream, found.st_size


def read_regular(path: Path, shown: str, limit: int) -> bytes:
    """The whole file. Raises `Unreadable`."""
    stream, _ = open_regular(path, shown, limit)
    with stream:
        return _read(stream, shown, limit)


def sha256_of(stream: BinaryIO) -> str:
    """Hex digest of what is left of the stream."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _read(stream: BinaryIO, shown: str, limit: int) -> bytes:
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise Unreadable(f"{shown} has more than {limit} bytes")
    return content
