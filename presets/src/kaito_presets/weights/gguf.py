"""Reads what a GGUF file says of its model, from its beginning.

The file format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

from __future__ import annotations

import struct
from typing import Final

#: Bytes that hold the numbers of every model: the vocabulary, which is what makes the part long, follows them.
FIRST_BYTES: Final = 1024 * 1024
MAGIC: Final = b"GGUF"
_STRING, _ARRAY = 8, 9
#: struct's letter for each kind of number, by the format's numbers for them.
_NUMBERS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
#: What config.json calls a number, and a GGUF file after its architecture's name.
_NAMES: Final = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
}


class _Ended(Exception):
    """The value goes on after the bytes at hand."""


class _Reader:
    def __init__(self, raw: bytes, position: int) -> None:
        self._raw = raw
        self._position = position

    def number(self, letter: str) -> int | float:
        width = struct.calcsize(f"<{letter}")
        value: int | float = struct.unpack(f"<{letter}", self._take(width))[0]
        return value

    def count(self) -> int:
        return int(self.number("Q"))

    def string(self) -> str:
        return self._take(self.count()).decode(errors="replace")

    def value(self) -> int | float | str | None:
        """A number or string; None for an array, which is passed over."""
        kind = int(self.number("I"))
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.number(self._letter(kind))
        inner, length = int(self.number("I")), self.count()
        if inner in _NUMBERS:
            self._take(length * struct.calcsize(f"<{_NUMBERS[inner]}"))
        elif inner == _STRING:
            for _ in range(length):
                self._take(self.count())
        else:
            raise _Ended
        return None

    @staticmethod
    def _letter(kind: int) -> str:
        if kind not in _NUMBERS:
            raise _Ended
        return _NUMBERS[kind]

    def _take(self, length: int) -> bytes:
        end = self._position + length
        if end > len(self._raw):
            raise _Ended
        taken = self._raw[self._position : end]
        self._position = end
        return taken


def numbers(raw: bytes) -> dict[str, int]:
    """The model's dimensions by the names that config.json has for them, of those that the file's first bytes tell."""
    if raw[:4] != MAGIC or len(raw) < 24 or struct.unpack("<I", raw[4:8])[0] not in (2, 3):
        return {}
    said: dict[str, int | float | str | None] = {}
    reader = _Reader(raw, 16)
    try:
        for _ in range(reader.count()):
            key = reader.string()
            said[key] = reader.value()
    except _Ended:
        pass
    architecture = said.get("general.architecture")
    found = {name: said.get(f"{architecture}.{key}") for name, key in _NAMES.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)}
