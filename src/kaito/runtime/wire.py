"""LIST bodies and watch streams as bytes: framing and the little decoding that a cache needs.

A watch is newline-delimited JSON of any length in chunks of any size. The splitter is our own because line
readers with a fixed limit fail on large objects; it still has a cap, so that a broken server cannot fill the
memory. A LIST is one JSON document, which some servers send whole however long it is: it is cut into its items
while it arrives, so that neither memory nor the longest pause depends on its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import orjson

from kaito.runtime.errors import ApiError, from_status
from kaito.runtime.objects import Envelope, quick_envelope

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""Largest watch event and list item accepted by default. etcd's default object limit is 1.5 MiB; aggregated
servers may exceed it."""

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

    kind: str = ""
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    items: list[msgspec.Raw] | None = None


_decode_page = msgspec.json.Decoder(ListPage).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_decode_any_line = msgspec.json.Decoder(_AnyLine).decode

_NO_LISTS = ("Table", "Status")
"""Kinds that have `metadata` too; a Table even has a resourceVersion."""

_USUAL_START = re.compile(rb'\{"type":"[A-Z]+","object":(?=\{)')


def decode_page(body: bytes | bytearray) -> ListPage:
    """Raises MalformedStream when the body is not a list of objects with a version."""
    try:
        page = _decode_page(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedStream(f"the answer to LIST is not a Kubernetes list: {error}") from error
    if page.kind in _NO_LISTS:
        raise MalformedStream(f"the answer to LIST is a {page.kind}, not a list of objects")
    if not page.metadata.resource_version:
        raise MalformedStream("the answer to LIST has no metadata.resourceVersion")
    return page


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


class PageItem(NamedTuple):
    """One object of a LIST. `envelope` is None where the quick look at it failed."""

    object: bytes
    envelope: Envelope | None


class PageSplitter:
    """Cuts the body of a LIST into its items while it arrives.

    An item ends where the next one begins: with a brace, a comma and the words with which the first one began.
    The same words may stand inside an item (pod templates are objects in lists), so a cut counts only if what lies
    before it is one complete JSON value, and a JSON object is never the beginning of another. Bodies that are
    written otherwise are kept and decoded at their end.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        """`limit` is the size of the largest item in bytes."""
        self._limit = limit
        self._head = b""
        self._rest = bytearray()
        self._separator = b""
        self._gap = 0  # bytes of the separator before the next item begins
        self._searched = 0  # there is no separator before this position of the rest

    def feed(self, chunk: bytes) -> Iterator[PageItem]:
        """The items completed by this chunk. Raises MalformedStream when one exceeds the limit."""
        self._rest += chunk
        start = 0
        if self._separator or self._learn():
            rest, separator = self._rest, self._separator
            while (cut := rest.find(separator, self._searched)) >= 0:
                self._searched = cut + 1
                self._check(cut + 1 - start)
                item = _whole_item(bytes(memoryview(rest)[start : cut + 1]))
                if item is not None:
                    start = cut + self._gap
                    yield item
            del rest[:start]
            self._searched = max(0, len(rest) - len(separator) + 1)
        self._check(len(self._rest))

    def finish(self) -> ListPage:
        """The list's own metadata and the items not given out yet. Raises MalformedStream."""
        return decode_page(self._head + self._rest)

    def _learn(self) -> bool:
        """Find the first item, and how the second is set off from it; False while they are not there yet."""
        if not self._head:
            items = _ITEMS.search(self._rest)
            if items is None:
                return False
            self._head = bytes(self._rest[: items.end()])
            del self._rest[: items.end()]
        first = _FIRST_KEY.match(self._rest)
        if first is None:
            return False
        boundary = re.compile(rb"\}\s*,\s*(?=" + re.escape(first[1]) + rb")").search(self._rest)
        if boundary is None:
            return False
        self._separator, self._gap = boundary[0] + first[1], len(boundary[0])
        return True

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise MalformedStream(f"an item of the list is larger than {self._limit} bytes")


_ITEMS = re.compile(rb'"items"\s*:\s*\[\s*')
_FIRST_KEY = re.compile(rb'(\{\s*"[^"\\]*")')


def _whole_item(raw: bytes) -> PageItem | None:
    """None where these bytes are not one complete JSON value."""
    try:
        return PageItem(raw, quick_envelope(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # not whole, or written in a way that is looked at more closely later
    try:
        _decode_any(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return PageItem(raw, None)


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


def stream_error(raw: bytes) -> ApiError:
    """The ApiError for the Status object of an ERROR event. Raises MalformedStream where it is none."""
    try:
        status = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedStream(f"an ERROR event holds no Status: {error}") from error
    code = status.get("code") if isinstance(status, dict) else None
    return from_status(code if isinstance(code, int) else 500, status if isinstance(status, dict) else None)
