"""What the engine mistralrs computes on, told without starting it.

The library takes the first GPU where it was built for one, and has no call that says so. Its wheel for Apple silicon is
built with Metal, those for Linux for the CPU alone: which one is installed shows in what the library is linked with.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

#: Bytes at the start of a library for macOS that hold the list of what it is linked with.
HEADER = 64 * 1024
_METAL = b"/System/Library/Frameworks/Metal.framework/"
_MACH_O = b"\xcf\xfa\xed\xfe"


def mistralrs_device() -> str:
    """Such as "the GPU (arm64, by Metal)" or "the CPU (x86_64)"; "" where mistralrs is not installed."""
    if not _folders():
        return ""
    return f"the GPU ({_processor()}, by Metal)" if on_gpu() else f"the CPU ({_processor()})"


def on_gpu() -> bool:
    """Whether it computes on a GPU, in 16-bit numbers; on a CPU it takes 32."""
    libraries = sorted(path for folder in _folders() for path in Path(folder).glob("mistralrs*.so"))
    return any(built_with_metal(path) for path in libraries)


def _folders() -> list[str]:
    """Where mistralrs is installed; [] where it is not."""
    spec = importlib.util.find_spec("mistralrs")
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def built_with_metal(library: Path) -> bool:
    """Whether a native library is one for macOS that is linked with Metal."""
    try:
        with library.open("rb") as file:
            header = file.read(HEADER)
    except OSError:
        return False
    return header.startswith(_MACH_O) and _METAL in header


def _processor() -> str:
    return platform.machine() or "unknown"
