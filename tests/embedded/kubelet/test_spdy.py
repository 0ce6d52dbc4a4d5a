"""SPDY frames."""

from __future__ import annotations

import zlib

import pytest

from kaito.embedded.kubelet.spdy import DICTIONARY, Codec, Frame, SpdyError, Type

FRAMES = [
    Frame(Type.SYN_STREAM, 1, 1, {"streamtype": "error", "port": "5000", "requestid": "0"}),
    Frame(Type.SYN_STREAM, 3, 0, {"streamtype": "data", "port": "5000", "requestid": "0"}),
    Frame(Type.SYN_REPLY, 3, 0, {}),
    Frame(Type.DATA, 3, 0, data=b"x" * 70_000),
    Frame(Type.DATA, 3, 1, data=b""),
    Frame(Type.PING, value=7),
    Frame(Type.RST_STREAM, 3, value=5),
    Frame(Type.GOAWAY, data=b"\0" * 8),
]


def test_the_dictionary_is_the_drafts() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
def test_frames_survive_any_cut(size: int) -> None:
    sender, receiver = Codec(), Codec()
    data = b"".join(sender.encode(frame) for frame in FRAMES)
    seen = []
    for start in range(0, len(data), size):
        seen += receiver.feed(data[start : start + size])
    assert seen == FRAMES


@pytest.mark.parametrize(
    "data",
    [b"\x80\x02\x00\x01\x00\x00\x00\x00", b"\x80\x03\x00\x01\x00\x00\x00\x0c" + b"\xff" * 12],
    ids=["another version", "damaged headers"],
)
def test_what_is_not_spdy_is_refused(data: bytes) -> None:
    with pytest.raises(SpdyError):
        Codec().feed(data)
