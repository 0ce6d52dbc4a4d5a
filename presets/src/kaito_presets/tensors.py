"""Reads and writes .safetensors files with numpy alone (the format: 8 bytes header length, JSON header, raw data).

Only what adapters need: 16- and 32-bit floats. bfloat16, which numpy lacks, is widened to float32 on reading.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaito_presets.headers import BadTensorFile, TensorInfo, read_header

__all__ = ["BadTensorFile", "TensorInfo", "read", "read_header", "write"]

Array = np.ndarray[Any, np.dtype[Any]]

_WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def read(path: Path) -> dict[str, Array]:
    """Every tensor as float32. Raises BadTensorFile for other types than floats, and for data that misses its shape."""
    entries, offset = read_header(path)
    found: dict[str, Array] = {}
    with path.open("rb") as file:
        for name, info in entries.items():
            width = _WIDTH.get(info.dtype)
            if width is None:
                raise BadTensorFile(
                    f"{path.name}: {name} has type {info.dtype}; supported are {', '.join(_WIDTH)}."
                )
            if math.prod(info.shape) * width != info.end - info.start:
                raise BadTensorFile(
                    f"{path.name}: {name} does not have as much data as its shape {info.shape} says."
                )
            file.seek(offset + info.start)
            raw = file.read(info.end - info.start)
            if info.dtype == "BF16":
                bits = np.frombuffer(raw, dtype="<u2").astype("<u4") << 16
                values: Array = bits.view("<f4")
            else:
                values = np.frombuffer(raw, dtype={"F64": "<f8", "F32": "<f4", "F16": "<f2"}[info.dtype])
            found[name] = values.astype(np.float32).reshape(info.shape)
    return found


def write(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes float32 tensors, names sorted."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name in sorted(tensors):
        size = tensors[name].size * 4
        header[name] = {
            "dtype": "F32",
            "shape": list(tensors[name].shape),
            "data_offsets": [position, position + size],
        }
        position += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for name in sorted(tensors):
            file.write(np.ascontiguousarray(tensors[name], dtype="<f4").tobytes())
