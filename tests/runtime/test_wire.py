"""Framing of watch streams, however they are cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.objects import decode_envelope
from kaito.runtime.wire import LineSplitter, MalformedStream, PageSplitter, decode_event, decode_page


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


metadata = st.fixed_dictionaries({"name": st.text('ab{},:[]"\\', min_size=1, max_size=6)})
templates = st.lists(st.fixed_dictionaries({"metadata": metadata}), max_size=3)
items = st.lists(
    st.fixed_dictionaries(
        {"metadata": metadata, "volumeClaimTemplates": templates}, optional={"x": json_values}
    ),
    max_size=6,
)


@given(items, st.booleans(), st.booleans(), st.data())
def test_a_list_is_cut_into_its_items_while_it_arrives(
    items: list[dict[str, object]], spaced: bool, items_first: bool, data: st.DataObject
) -> None:
    """However it is written and cut, and although items hold lists of objects that begin like items."""
    head = {"kind": "XList", "metadata": {"resourceVersion": "7", "continue": "t"}}
    tree = {"items": items, **head} if items_first else {**head, "items": items}
    body = json.dumps(tree, separators=None if spaced else (",", ":")).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    splitter = PageSplitter()
    seen: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        for item in splitter.feed(body[start:end]):
            seen.append(item.object)
            if item.envelope is not None:
                assert item.envelope.metadata.name == json.loads(item.object)["metadata"]["name"]
    page = splitter.finish()
    seen += [bytes(raw) for raw in page.items or ()]
    assert [json.loads(raw) for raw in seen] == items
    assert (page.metadata.resource_version, page.metadata.continue_token) == ("7", "t")


def test_a_long_list_is_not_kept_as_a_whole() -> None:
    item = json.dumps({"metadata": {"name": "a"}, "data": "x" * 1000}, separators=(",", ":")).encode()
    splitter = PageSplitter(limit=5000)
    chunks = [b'{"metadata":{"resourceVersion":"7"},"items":[', *[item + b","] * 999, item, b"]}"]
    seen = 0
    for chunk in chunks:
        seen += len(list(splitter.feed(chunk)))
        assert len(splitter._rest) < 3 * len(item)
    assert seen + len(splitter.finish().items or ()) == 1000


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_item_beyond_the_cap_is_refused(size: int) -> None:
    body = json.dumps(
        {"items": [{"a": "x" * 10}, {"a": "x" * 200}, {"a": 1}]}, separators=(",", ":")
    ).encode()
    splitter = PageSplitter(limit=100)
    with pytest.raises(MalformedStream, match="an item of the list is larger than 100 bytes"):
        [list(splitter.feed(body[start : start + size])) for start in range(0, len(body), size)]


@pytest.mark.parametrize(
    "body", [b'{"metadata":{"resourceVersion":"7"},"items":[{"a":1},{"a"', b"", b'{"items":[']
)
def test_a_list_that_breaks_off_is_refused(body: bytes) -> None:
    splitter = PageSplitter()
    list(splitter.feed(body))
    with pytest.raises(MalformedStream, match="not a Kubernetes list"):
        splitter.finish()
