"""Prompts that are far too long are refused by their beginning."""

from __future__ import annotations

import pytest

from kaito_presets.engines import PromptTooLong
from kaito_presets.engines.lengths import SHORT, tokens_of


class Reader:
    """An encoder that notes how many characters it was given; every `per` of them are one token."""

    def __init__(self, per: int) -> None:
        self.per = per
        self.read: list[int] = []

    def __call__(self, text: str) -> list[int]:
        self.read.append(len(text))
        return [0] * (len(text) // self.per)


def test_a_text_that_may_fit_is_read_once() -> None:
    encode = Reader(4)
    assert len(tokens_of("x" * 40_000, 10_000, encode)) == 10_000
    assert encode.read == [40_000]


def test_a_text_that_is_far_too_long_is_refused_by_its_beginning() -> None:
    encode = Reader(2)
    with pytest.raises(PromptTooLong) as refused:
        tokens_of("x" * 10_000_000, 1024, encode)
    assert encode.read == [4096]
    assert str(refused.value).startswith(
        "The prompt is more than 2048 tokens long, but this model takes fewer than"
    )


def test_a_text_of_long_words_is_read_until_that_is_certain() -> None:
    encode = Reader(64)
    with pytest.raises(PromptTooLong):
        tokens_of("x" * 10_000_000, 1024, encode)
    assert encode.read == [4096 * 2**turn for turn in range(6)]
    assert encode.read[-1] // 64 == 2 * 1024


def test_a_text_of_few_tokens_is_read_whole_however_long_it_is() -> None:
    encode = Reader(10_000)
    assert len(tokens_of("x" * 1_000_000, 1024, encode)) == 100
    assert encode.read[-1] == 1_000_000


def test_a_text_that_is_little_too_long_is_counted_exactly() -> None:
    encode = Reader(4)
    assert len(tokens_of("x" * (SHORT + 40), 1024, encode)) == SHORT // 4 + 10
    assert encode.read == [SHORT, SHORT + 40]
