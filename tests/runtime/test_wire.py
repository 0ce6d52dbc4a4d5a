"""Framing of watch streams, however they are cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.objects import decode_envelope
from kaito.runtime.wire import LineSplitter, MalformedStream, decode_event, decode_page


@given(
    st.lists(st.binary(min_size=1, max_size=20).filter(lambda line: b"\n" not in line and line.strip())),
    st.data(),
)
def test_lines_do_not_depend_on_how_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    splitter = LineSplitter()
    seen: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += splitter.feed(stream[start:end])
    assert seen == lines
    assert splitter.rest() == b""


def test_blank_lines_are_dropped_and_the_rest_is_kept() -> None:
    splitter = LineSplitter()
    assert list(splitter.feed(b"\n \r\na\n\nb")) == [b"a"]
    assert splitter.rest() == b"b"
    assert list(splitter.feed(b"c\n")) == [b"bc"]


@pytest.mark.parametrize(
    "chunks", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"x" * 11 + b"\n"], [b"x" * 8, b"xxx\n"]]
)
def test_an_event_beyond_the_cap_is_refused(chunks: list[bytes]) -> None:
    splitter = LineSplitter(limit=10)
    with pytest.raises(MalformedStream, match="larger than 10 bytes"):
        [list(splitter.feed(chunk)) for chunk in chunks]


def test_events_of_the_allowed_size_pass() -> None:
    splitter = LineSplitter(limit=10)
    assert list(splitter.feed(b"x" * 10 + b"\n" + b"y" * 10 + b"\n")) == [b"x" * 10, b"y" * 10]


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"ADDED","object":{"kind":"X","metadata":{"name":"a"},"data":[{"object":{}}]}}',
        b'{"type":"ADDED","object":{"kind":"X","metadata":{"name":"a"},"data":[{"object":{}}]},"later":{"a":{}}}',
        b'{"object":{"kind":"X","metadata":{"name":"a"},"data":[{"object":{}}]},"type":"ADDED"}',
        b' {"type": "ADDED", "object": {"kind":"X","metadata":{"name":"a"},"data":[{"object":{}}]}} \r',
    ],
    ids=["usual", "more fields", "other order", "spaces"],
)
def test_an_event_is_read_however_it_is_written(line: bytes) -> None:
    event = decode_event(line)
    assert event.type == "ADDED"
    assert event.object == b'{"kind":"X","metadata":{"name":"a"},"data":[{"object":{}}]}'
    envelope = event.envelope or decode_envelope(event.object)
    assert (envelope.kind, envelope.metadata.name) == ("X", "a")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["ADDED", "ERROR", "weird"]), json_values, st.booleans())
def test_the_objects_bytes_are_exact(kind: str, value: object, compact: bool) -> None:
    value = {"metadata": {"name": "a"}, "value": value} if compact else value
    line = json.dumps({"type": kind, "object": value}, separators=(",", ":") if compact else None).encode()
    event = decode_event(line)
    assert (event.type, json.loads(event.object)) == (kind, value)
    assert (event.envelope is not None) == (compact and kind.isupper())


def test_pages_are_cut_into_items() -> None:
    page = decode_page(
        b'{"metadata":{"resourceVersion":"7","continue":"t","remainingItemCount":3},"items":[{"a":1},{}]}'
    )
    assert (page.metadata.resource_version, page.metadata.continue_token) == ("7", "t")
    assert [bytes(item) for item in page.items or ()] == [b'{"a":1}', b"{}"]
    assert decode_page(b'{"metadata":{"resourceVersion":"1"},"items":null}').items is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"items":3}', b'{"metadata":{"resourceVersion":7}}']
)
def test_what_is_not_a_list_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedStream, match="not a Kubernetes list"):
        decode_page(body)
