"""What a repository of the hub holds, without downloading it: config.json, and the headers of its safetensors files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kaito.catalog.hub.errors import unsupported

FIRST_BYTES: Final = 128 * 1024
"""Bytes that are read of a file at first: most headers are shorter."""
LONGEST_HEADER: Final = 16 * 2**20
MOST_FILES: Final = 64
"""Files whose headers are read; of a larger model config.json alone is looked at."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is in a repository at one commit. tensors: name to shape; empty where there are too many files. size: bytes
    of the files that a server loads, None where that is not known. quantization: how they are stored in fewer bits than
    16, in config.json's word for it."""

    revision: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Sequence[int]]
    size: int | None = None
    quantization: str | None = None


def header_length(first: bytes, name: str) -> int:
    """Bytes of the file's header, with the eight that tell its length. Raises HubError."""
    length = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else 0
    if not 2 <= length <= LONGEST_HEADER:
        raise unsupported(f"{name} is no safetensors file")
    return int(8 + length)


def shapes(header: bytes, name: str) -> dict[str, tuple[int, ...]]:
    """The shapes in a header, without the eight bytes before it. Raises HubError."""
    try:
        entries = json.loads(header)
        return {
            tensor: tuple(int(each) for each in entry["shape"])
            for tensor, entry in entries.items()
            if tensor != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise unsupported(f"{name} has a damaged header") from None
