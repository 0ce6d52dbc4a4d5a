"""From tokens to text while they arrive: whole characters only, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: What a decoder writes for bytes that are not a whole character yet.
_UNFINISHED = "�"


class TextStream:
    """The text of one answer. `stopped` is set when a stop text has appeared; what follows it is never given out."""

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str]) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._tokens: list[int] = []
        self._begin = (
            0  # tokens from here on are decoded: the last ones told, so that spaces between words are kept
        )
        self._told = 0  # tokens whose text was given out
        self._held = ""  # text that may be the beginning of a stop text
        self._found = ""  # text that nobody has taken yet
        self.stopped = False

    def add(self, token: int) -> None:
        """One more token. It is decoded at once only where a stop text may end the answer."""
        self._tokens.append(token)
        if self._stops:
            self._found += self._decoded()

    def take(self) -> str:
        """The text that is certain and new; "" while a character or a stop text may be half there."""
        text = self._found + (self._decoded() if not self.stopped else "")
        self._found = ""
        return text

    def finish(self) -> str:
        """What is left at the end of an answer, with what was held back unless a stop text ended it."""
        text = self.take()
        if self.stopped:
            return text
        before = self._decode(self._tokens[self._begin : self._told])
        rest = self._release(self._decode(self._tokens[self._begin :])[len(before) :])
        self._told = len(self._tokens)
        if not self.stopped:
            rest, self._held = rest + self._held, ""
        return text + rest

    def _decoded(self) -> str:
        if self._told == len(self._tokens):
            return ""
        before = self._decode(self._tokens[self._begin : self._told])
        now = self._decode(self._tokens[self._begin :])
        if len(now) <= len(before) or now.endswith(_UNFINISHED):
            return ""
        self._begin, self._told = self._told, len(self._tokens)
        return self._release(now[len(before) :])

    def _release(self, more: str) -> str:
        if not self._stops:
            return more
        text = self._held + more
        ends = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        keep = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
