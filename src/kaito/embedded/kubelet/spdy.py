"""SPDY/3.1 frames, as far as port-forwarding needs them (draft-mbelshe-httpbis-spdy-00).

`kubectl port-forward` speaks SPDY inside a WebSocket. This module turns bytes into frames and frames into bytes;
what the streams mean is in `portforward.py`. No flow control: kubectl's implementation has none either.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

VERSION: Final = 3
FLAG_FIN: Final = 1
MAX_FRAME: Final = 16 * 1024 * 1024

_PREFIXED = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status|200 OK|version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    """The header dictionary of the SPDY/3 draft: words with their lengths, then bare text."""
    words = [word for part in _PREFIXED.split("|") for word in ([part] if part == "200 OK" else part.split())]
    return b"".join(struct.pack(">I", len(word)) + word.encode() for word in words) + _TAIL.encode()


DICTIONARY: Final = _dictionary()


class Type(IntEnum):
    DATA = 0
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `stream` is 0 where the frame concerns the connection; `value` is a PING's id or a status."""

    type: int
    stream: int = 0
    flags: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    value: int = 0

    @property
    def fin(self) -> bool:
        return bool(self.flags & FLAG_FIN)


class SpdyError(ValueError):
    """The other side sent something that is not SPDY/3.1."""


class Codec:
    """Frames of one connection; header compression makes both directions stateful."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(level=9, zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """Frames completed by these bytes, in order. Raises SpdyError."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= 8:
            length = int.from_bytes(self._buffer[5:8])
            if length > MAX_FRAME:
                raise SpdyError(f"frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                break
            head, body = bytes(self._buffer[:8]), bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            frames.append(self._decode(head, body))
        return frames

    def _decode(self, head: bytes, body: bytes) -> Frame:
        first, flags = struct.unpack(">I", head[:4])[0], head[4]
        if not first & 0x80000000:
            return Frame(Type.DATA, first, flags, data=body)
        version, kind = (first >> 16) & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"version {version}")
        try:
            match kind:
                case Type.SYN_STREAM:
                    return Frame(kind, _word(body, 0) & 0x7FFFFFFF, flags, self._headers(body[10:]))
                case Type.SYN_REPLY | Type.HEADERS:
                    return Frame(kind, _word(body, 0) & 0x7FFFFFFF, flags, self._headers(body[4:]))
                case Type.RST_STREAM | Type.WINDOW_UPDATE:
                    return Frame(kind, _word(body, 0) & 0x7FFFFFFF, flags, value=_word(body, 4))
                case Type.PING:
                    return Frame(kind, flags=flags, value=_word(body, 0))
                case _:
                    return Frame(kind, flags=flags, data=body)
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise SpdyError(f"damaged frame: {error}") from error

    def _headers(self, block: bytes) -> dict[str, str]:
        plain = self._inflate.decompress(block)
        offset, headers = 4, {}
        for _ in range(_word(plain, 0)):
            pair = []
            for _ in range(2):
                length = _word(plain, offset)
                pair.append(plain[offset + 4 : offset + 4 + length].decode())
                offset += 4 + length
            headers[pair[0].lower()] = pair[1]
        return headers

    def encode(self, frame: Frame) -> bytes:
        """The bytes of a frame."""
        match frame.type:
            case Type.DATA:
                return (
                    struct.pack(">IB", frame.stream, frame.flags) + len(frame.data).to_bytes(3) + frame.data
                )
            case Type.SYN_STREAM:
                body = struct.pack(">IIH", frame.stream, 0, 0) + self._block(frame.headers)
            case Type.SYN_REPLY | Type.HEADERS:
                body = struct.pack(">I", frame.stream) + self._block(frame.headers)
            case Type.RST_STREAM | Type.WINDOW_UPDATE:
                body = struct.pack(">II", frame.stream, frame.value)
            case Type.PING:
                body = struct.pack(">I", frame.value)
            case _:
                body = frame.data
        return struct.pack(">HHB", 0x8000 | VERSION, frame.type, frame.flags) + len(body).to_bytes(3) + body

    def _block(self, headers: dict[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers))
        for pair in headers.items():
            for text in pair:
                plain += struct.pack(">I", len(text.encode())) + text.encode()
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _word(data: bytes, offset: int) -> int:
    return int(struct.unpack_from(">I", data, offset)[0])
