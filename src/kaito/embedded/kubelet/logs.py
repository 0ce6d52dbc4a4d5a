"""Container logs: files in the CRI format, written by the kubelet and read back for `kubectl logs`.

One line of a file is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; P marks a piece of a line whose end is still to
come. Files are cut at 10 MiB with one older file kept, so that a server that logs every probe cannot fill a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from kaito.runtime.clock import Clock, parse_time, rfc3339_micro

NAMES: Final = {1: b"stdout", 2: b"stderr"}
MAX_FILE: Final = 10 * 1024 * 1024
MAX_PIECE: Final = 16 * 1024
"""A line longer than this is written in pieces, as container engines do."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What to show. `tail` is a number of lines from the end (None = all), `limit_bytes` cuts the answer."""

    follow: bool = False
    tail: int | None = None
    since: datetime | None = None
    timestamps: bool = False
    limit_bytes: int | None = None

    @classmethod
    def of(cls, query: dict[str, str], now: datetime) -> LogOptions:
        """From the query of `pods/log`. Raises ValueError with a sentence that names the parameter."""

        def number(name: str, least: int) -> int | None:
            text = query.get(name)
            if text is None:
                return None
            if not text.lstrip("-").isdigit() or int(text) < least:
                raise ValueError(
                    f"{name}: invalid value {text!r}: must be a whole number of at least {least}"
                )
            return int(text)

        def flag(name: str) -> bool:
            return query.get(name, "false").lower() in ("true", "1", "t", "")

        since: datetime | None = None
        seconds = number("sinceSeconds", 1)
        if seconds is not None:
            since = now - timedelta(seconds=seconds)
        if "sinceTime" in query:
            if seconds is not None:
                raise ValueError("at most one of sinceTime and sinceSeconds may be given")
            try:
                since = parse_time(query["sinceTime"])
            except ValueError as error:
                raise ValueError(f"sinceTime: {error}") from error
        return cls(
            flag("follow") if "follow" in query else False,
            number("tailLines", 0),
            since,
            flag("timestamps") if "timestamps" in query else False,
            number("limitBytes", 1),
        )


class LogWriter:
    """Appends one container run's output to its file and wakes those who follow it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.closed = False
        self.generation = 0
        self._clock = clock
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        self._partial: dict[int, bytes] = {}
        self._waiters: set[asyncio.Event] = set()

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, stream: int, data: bytes) -> None:
        """Take output as it came; whole lines are written at once, the rest when its line ends."""
        if self.closed:
            return
        *lines, rest = (self._partial.pop(stream, b"") + data).split(b"\n")
        entries = [self._entry(stream, b"F", line) for line in lines]
        if len(rest) > MAX_PIECE:
            entries.append(self._entry(stream, b"P", rest))
            rest = b""
        if rest:
            self._partial[stream] = rest
        self._append(b"".join(entries))

    def _entry(self, stream: int, tag: bytes, text: bytes) -> bytes:
        return b" ".join((rfc3339_micro(self._clock.wall()).encode(), NAMES[stream], tag, text)) + b"\n"

    def _append(self, data: bytes) -> None:
        if not data:
            return
        if self._size + len(data) > MAX_FILE:
            os.close(self._fd)
            self.path.replace(older(self.path))
            self._fd, self._size = self._open(), 0
            self.generation += 1
        with contextlib.suppress(OSError):  # a full disk costs lines of the log, and nothing else
            self._size += os.write(self._fd, data)
        self.wake()

    def flush(self) -> None:
        """Write what has no line end yet (a prompt, `curl`'s answer)."""
        if self.closed:
            return
        pieces, self._partial = self._partial, {}
        self._append(b"".join(self._entry(stream, b"P", rest) for stream, rest in pieces.items()))

    def close(self) -> None:
        """The run is over: flush, and let followers come to their end."""
        if not self.closed:
            self.flush()
            self.closed = True
            os.close(self._fd)
            self.wake()

    def wake(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    @contextlib.contextmanager
    def follower(self) -> Iterator[asyncio.Event]:
        """An event that is set at each change, for the time of the `with` block."""
        event = asyncio.Event()
        self._waiters.add(event)
        try:
            yield event
        finally:
            self._waiters.discard(event)


def older(path: Path) -> Path:
    """Where a file goes when it is cut."""
    return path.with_suffix(".log.1")


def _lines(path: Path) -> Iterator[bytes]:
    for file in (older(path), path):
        with contextlib.suppress(FileNotFoundError), file.open("rb") as stream:
            yield from stream


class _Renderer:
    """Turns lines of the file into what the user sees."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._middle = False
        self._left = options.limit_bytes

    @property
    def full(self) -> bool:
        return self._left == 0

    def __call__(self, line: bytes) -> bytes:
        stamp, _, rest = line.partition(b" ")
        _, _, rest = rest.partition(b" ")
        tag, _, text = rest.rstrip(b"\n").partition(b" ")
        if self._options.since is not None and parse_time(stamp.decode()) < self._options.since:
            return b""
        head = stamp + b" " if self._options.timestamps and not self._middle else b""
        self._middle = tag == b"P"
        shown = head + text + (b"" if self._middle else b"\n")
        if self._left is not None:
            shown = shown[: self._left]
            self._left -= len(shown)
        return shown


def _selected(path: Path, tail: int | None) -> Iterator[bytes]:
    if tail is None:
        yield from _lines(path)
        return
    whole: deque[list[bytes]] = deque(maxlen=tail)
    current: list[bytes] = []
    for line in _lines(path):
        current.append(line)
        if line.split(b" ", 3)[2:3] != [b"P"]:
            whole.append(current)
            current = []
    if current:
        whole.append(current)
    for pieces in whole:
        yield from pieces


def tail_text(path: Path, lines: int, limit: int) -> str:
    """The last lines as text, at most `limit` bytes: a termination message taken from the log."""
    render = _Renderer(LogOptions())
    data = b"".join(render(line) for line in _selected(path, lines))
    return data[-limit:].decode("utf-8", "replace")


class _Follower:
    """Reads on in a file that is being written, across its being cut."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._generation = writer.generation
        self._file = writer.path.open("rb")
        self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[bytes]:
        """What has been added since the last call."""
        self._writer.flush()
        added = self._file.readlines()
        if self._generation != self._writer.generation:
            self._file.close()
            self._file, self._generation = self._writer.path.open("rb"), self._writer.generation
            added += self._file.readlines()
        return added

    def close(self) -> None:
        self._file.close()


def _existing(path: Path, options: LogOptions, render: _Renderer) -> Iterator[bytes]:
    """What the log holds now, in pieces of 64 KiB."""
    batch = bytearray()
    for line in _selected(path, options.tail):
        batch += render(line)
        if render.full:
            break
        if len(batch) > 1 << 16:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


async def read_log(path: Path, options: LogOptions, writer: LogWriter | None) -> AsyncGenerator[bytes, None]:
    """The log as `kubectl logs` shows it; with `follow` it goes on until `writer` is closed."""
    render = _Renderer(options)
    if writer is not None:
        writer.flush()
    if writer is None or not options.follow:
        for piece in _existing(path, options, render):
            yield piece
        return
    with writer.follower() as changed:
        # What exists and where to go on are taken without a pause in between: nothing is lost or shown twice.
        pieces = list(_existing(path, options, render))
        follower = _Follower(writer)
        try:
            for piece in pieces:
                yield piece
            while not render.full:
                changed.clear()
                data = b"".join(map(render, follower.lines()))
                if data:
                    yield data
                elif writer.closed:
                    return
                else:
                    changed.clear()
                    await changed.wait()
        finally:
            follower.close()
