"""What mistralrs computes on: read off the library that is installed."""

from __future__ import annotations

import importlib.util
import platform
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from kaito_presets.engines.device import HEADER, built_with_metal, mistralrs_device

MACH_O = b"\xcf\xfa\xed\xfe"
METAL = b"/System/Library/Frameworks/Metal.framework/Versions/A/Metal\x00"


@pytest.mark.parametrize(
    ("content", "metal"),
    [
        (MACH_O + bytes(2000) + METAL, True),
        (MACH_O + bytes(2000) + b"/System/Library/Frameworks/Security.framework/Versions/A/Security", False),
        (MACH_O + bytes(HEADER) + METAL, False),  # text of the program, not what it is linked with
        (b"\x7fELF" + METAL, False),
    ],
)
def test_metal_is_what_a_library_for_macos_is_linked_with(
    tmp_path: Path, content: bytes, metal: bool
) -> None:
    library = tmp_path / "mistralrs.abi3.so"
    library.write_bytes(content)
    assert built_with_metal(library) is metal


def test_a_library_that_is_gone_is_none(tmp_path: Path) -> None:
    assert not built_with_metal(tmp_path / "absent.so")


@pytest.mark.parametrize(
    ("content", "words"), [(MACH_O + METAL, ("the GPU (", "by Metal")), (b"\x7fELF", ("the CPU (",))]
)
def test_the_installed_library_says_what_it_computes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / "mistralrs.abi3.so").write_bytes(content)
    spec = ModuleSpec("mistralrs", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    said = mistralrs_device()
    assert all(word in said for word in (*words, platform.machine()))


def test_nothing_is_said_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert mistralrs_device() == ""


@pytest.mark.skipif(platform.system() != "Linux", reason="other systems' wheels may be built with a GPU")
def test_the_wheel_for_linux_computes_on_the_cpu() -> None:
    assert mistralrs_device() == f"the CPU ({platform.machine()})"
