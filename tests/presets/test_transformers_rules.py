"""The rules of the transformers engine that need no torch: the number format, and text from tokens."""

from __future__ import annotations

import pytest

from kaito_presets.engines.transformers import dtypes
from kaito_presets.engines.transformers.text import TextStream

V100, T4, A100 = (7, 0), (7, 5), (8, 0)


@pytest.mark.parametrize(
    ("asked", "weights", "capability", "chosen"),
    [
        ("auto", "bfloat16", None, "float32"),
        ("auto", "float16", None, "float32"),
        ("bfloat16", "bfloat16", None, "bfloat16"),
        ("float16", "bfloat16", None, "float16"),
        ("auto", "bfloat16", V100, "float16"),
        ("auto", "bfloat16", T4, "float16"),
        ("auto", "bfloat16", A100, "bfloat16"),
        ("auto", "float16", A100, "float16"),
        ("auto", "float32", A100, "bfloat16"),
        ("auto", "float32", V100, "float16"),
        ("auto", None, A100, "bfloat16"),
        ("auto", None, V100, "float16"),
        ("float32", "bfloat16", V100, "float32"),
        ("float16", "bfloat16", A100, "float16"),
        ("bfloat16", "float16", A100, "bfloat16"),
    ],
)
def test_the_number_format_is_one_that_the_processor_has(
    asked: str, weights: str | None, capability: tuple[int, int] | None, chosen: str
) -> None:
    assert dtypes.choose(asked, weights, capability) == (chosen, None)


@pytest.mark.parametrize("capability", [V100, T4])
def test_who_asks_for_bfloat16_on_an_old_gpu_gets_float16_and_is_told(capability: tuple[int, int]) -> None:
    chosen, notice = dtypes.choose("bfloat16", "bfloat16", capability)
    assert chosen == "float16"
    assert notice is not None
    assert f"compute capability {capability[0]}.{capability[1]}" in notice
    assert "float16 is used" in notice


def decode(tokens: list[int]) -> str:
    """Tokens are bytes."""
    return bytes(tokens).decode(errors="replace")


def told(found: TextStream, token: int) -> str:
    found.add(token)
    return found.take()


def stream(text: str, *stops: str, every: int = 1) -> tuple[list[str], bool]:
    """The pieces when they are taken after `every` tokens."""
    found = TextStream(decode, stops)
    pieces = []
    for place, byte in enumerate(text.encode(), 1):
        found.add(byte)
        if found.stopped:
            break
        if place % every == 0:
            pieces.append(found.take())
    pieces.append(found.finish())
    return [piece for piece in pieces if piece], found.stopped


def test_only_whole_characters_are_told() -> None:
    assert stream("aß€😀z") == (["a", "ß", "€", "😀", "z"], False)


def test_what_is_half_a_character_at_the_end_is_told_as_it_is() -> None:
    found = TextStream(decode, ())
    assert [told(found, byte) for byte in "a€".encode()[:-1]] == ["a", "", ""]
    assert found.finish() == "�"


@pytest.mark.parametrize(
    ("text", "stops", "answer", "stopped"),
    [
        ("one two three", ("two",), "one ", True),
        ("one two three", ("three", "two"), "one ", True),
        ("one tw", ("two",), "one tw", False),
        ("aaab", ("aab",), "a", True),
        ("abab", ("abc",), "abab", False),
        ("x€y", ("€",), "x", True),
    ],
)
def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(
    text: str, stops: tuple[str, ...], answer: str, stopped: bool
) -> None:
    for every in (1, 2, 3, 100):
        pieces, ended = stream(text, *stops, every=every)
        assert ("".join(pieces), ended) == (answer, stopped)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 100])
def test_seldom_taken_pieces_make_the_same_text(every: int) -> None:
    text = "aß€😀z and more €€"
    pieces, _ = stream(text, every=every)
    assert "".join(pieces) == text
    assert len(pieces) <= len(text.encode()) // every + 1


def test_text_that_can_be_no_stop_is_not_held_back() -> None:
    found = TextStream(decode, ("zz",))
    assert [told(found, byte) for byte in b"azbzz"] == ["a", "", "zb", "", ""]
    assert found.stopped
    assert found.finish() == ""
