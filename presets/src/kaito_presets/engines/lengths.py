"""Prompts that are far too long are refused by their beginning.

Turning ten megabytes of text into tokens takes a minute of a core and gigabytes of memory, and a few such requests at
once would end the server. So a long text is not read further than it takes to know that it is too long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kaito_presets.engines import PromptTooLong

#: Characters read first for each token that the model takes: about what a token of English stands for.
CHARACTERS_PER_TOKEN = 4
#: Characters that are not worth reading in parts.
SHORT = 4096


def tokens_of(text: str, limit: int, encode: Callable[[str], list[int]]) -> list[int]:
    """The tokens of `text`. Raises PromptTooLong once it is certain that they are more than `limit`."""
    for beginning in beginnings(text, limit):
        refuse_if_certain(len(encode(beginning)), limit)
    return encode(text)


def beginnings(text: str, limit: int) -> Iterator[str]:
    """Ever longer beginnings of a text that is long for a model of `limit` tokens: each twice the one before."""
    length = max(SHORT, CHARACTERS_PER_TOKEN * limit)
    while length < len(text):
        yield text[:length]
        length *= 2


def refuse_if_certain(tokens: int, limit: int) -> None:
    """Raises PromptTooLong where a beginning has so many tokens that the whole text has more than `limit`: twice as
    many, because the word that was cut off at its end may be other tokens in the whole."""
    if tokens >= 2 * limit:
        raise PromptTooLong(tokens, limit, at_least=True)
