"""Reads the headers of .safetensors files: names, types and shapes, with the standard library alone."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: The reference implementation refuses longer headers, too.
MAX_HEADER_BYTES: Final = 100_000_000
#: Read of a file at first: most headers are shorter.
FIRST_BYTES: Final = 128 * 1024


class BadTensorFile(ValueError):
    """The file isn't what its name says. str() is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of a header: type ("F32"…), shape, and where the data is, in bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> tuple[dict[str, TensorInfo], int]:
    """(entries by name, offset of the data in the file). Raises BadTensorFile, OSError."""

    def read(start: int, length: int) -> bytes:
        file.seek(start)
        return file.read(length)

    with path.open("rb") as file:
        return read_header_of(path.name, path.stat().st_size, read)


def read_header_of(
    name: str, size: int, read: Callable[[int, int], bytes]
) -> tuple[dict[str, TensorInfo], int]:
    """The same of a file of `size` bytes that `read(start, length)` gives parts of."""
    first = read(0, min(size, FIRST_BYTES))
    length = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else -1
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise BadTensorFile(f"{name} is not a safetensors file (or was cut off while it was copied).")
    missing = 8 + length - len(first)
    raw = (first + read(len(first), missing) if missing > 0 else first)[8 : 8 + length]
    try:
        entries = {
            tensor: TensorInfo(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
            for tensor, entry in json.loads(raw).items()
            if tensor != "__metadata__"
        }
        available = size - 8 - length
        cut = next(
            (tensor for tensor, info in entries.items() if not 0 <= info.start <= info.end <= available),
            None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadTensorFile(f"{name} has a damaged header.") from error
    if cut is not None:
        raise BadTensorFile(f"{name} ends before the data of {cut}: it was cut off while it was copied.")
    return entries, 8 + length
