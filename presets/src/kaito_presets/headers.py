"""Reads the headers of .safetensors files: names, types and shapes, with the standard library alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

#: The reference implementation refuses longer headers, too.
MAX_HEADER_BYTES = 100_000_000


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
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise BadTensorFile(
                f"{path.name} is not a safetensors file (or was cut off while it was copied)."
            )
        raw = file.read(length)
    try:
        entries = {
            name: TensorInfo(entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
            for name, entry in json.loads(raw).items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTensorFile(f"{path.name} has a damaged header.") from error
    available = size - 8 - length
    for name, info in entries.items():
        if not 0 <= info.start <= info.end <= available:
            raise BadTensorFile(
                f"{path.name} ends before the data of {name}: it was cut off while it was copied."
            )
    return entries, 8 + length
