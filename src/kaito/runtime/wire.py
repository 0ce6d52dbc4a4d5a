"""LIST bodies and watch streams as bytes: framing and the little decoding that a cache needs.

A watch is newline-delimited JSON of any length in chunks of any size. The splitter is our own because line
readers with a fixed limit fail on large objects; it still has a cap, so that a broken server cannot fill the
memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from kaito.runtime.objects import Envelope

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""Largest watch event accepted. etcd's default object limit is 1.5 MiB; aggregated servers may exceed it."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation (value "true") of the bookmark that ends a streaming list."""


class MalformedStream(Exception):
    """A LIST or watch body that cannot be understood: events may have been lost, so the cache must list
    again.
    """


class WatchEvent(NamedTuple):
    """One line of a watch stream. `envelope` is None where `object` is not known to be an object."""

    type: str
    object: bytes
    envelope: Envelope | None


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line as every server writes it: read in one pass."""

    type: str
    object: Envelope


class _AnyLine(msgspec.Struct, gc=False):
    """Any other line: the object is cut out first and looked at later."""

    type: str
    object: msgspec.Raw


class ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion", "continue_token": "continue"}):
    """`metadata` of a list."""

    resource_version: str = ""
    continue_token: str = ""


class ListPage(msgspec.Struct):
    """One page of a LIST with its items as bytes."""

    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    items: list[msgspec.Raw] | None = None


_decode_page = msgspec.json.Decoder(ListPage).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_any_line = msgspec.json.Decoder(_AnyLine).decode

_USUAL_START = re.compile(rb'\{"type":"[A-Z]+","object":(?=\{)')


def decode_page(body: bytes) -> ListPage:
    """Raises MalformedStream when the body is not a list."""
    try:
        return _decode_page(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedStream(f"the answer to LIST is not a Kubernetes list: {error}") from error


def decode_event(line: bytes) -> WatchEvent:
    """Raises MalformedStream when the line is not a watch event."""
    start = _USUAL_START.match(line)
    if start is not None and line.endswith(b"}}"):
        try:
            usual = _decode_line(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass  # looked at more closely below
        else:
            # No other fields and the usual order: what lies between is the object, byte for byte.
            return WatchEvent(usual.type, line[start.end() : -1], usual.object)
    try:
        event = _decode_any_line(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedStream(f"a line of the watch stream is not a watch event: {error}") from error
    return WatchEvent(event.type, bytes(event.object), None)


class LineSplitter:
    """Cuts chunks into lines. Blank lines are dropped; an unfinished last line is kept for the next chunk."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines completed by this chunk. Raises MalformedStream when one exceeds the limit (bytes)."""
        start = 0
        end = chunk.find(b"\n")
        while end >= 0:
            line = chunk[start:end]
            if self._parts:
                self._parts.append(line)
                line = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
            if len(line) > self._limit:
                raise self._too_long()
            if line and not line.isspace():
                yield line
            start = end + 1
            end = chunk.find(b"\n", start)
        if start < len(chunk):
            self._keep(chunk[start:] if start else chunk)

    def rest(self) -> bytes:
        """What came after the last newline: a server that ends properly leaves nothing."""
        return b"".join(self._parts)

    def _keep(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._limit:
            raise self._too_long()

    def _too_long(self) -> MalformedStream:
        return MalformedStream(f"a watch event is larger than {self._limit} bytes")
