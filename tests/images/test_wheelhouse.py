"""Wheels are gathered in versions that hold for the base's Python; a failed download leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hack.images import wheelhouse
from hack.images.engine import Base, BuildError
from hack.images.wheelhouse import ROOT, gather, pythons

BASE = Base("localhost/base:1", "3.13.5", "x86_64", "")
VLLM = ROOT / "images" / "runtime-vllm" / "constraints.txt"


def test_constraints_say_for_which_pythons_they_are() -> None:
    assert pythons(VLLM) == ["3.11", "3.12"]
    assert pythons(ROOT / "constraints.txt") == []


def test_a_base_with_another_python_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as refusal:
        gather("./presets[vllm]", VLLM, tmp_path, BASE, tmp_path, tmp_path / "wheelhouse")
    assert str(refusal.value) == (
        "localhost/base:1 has Python 3.13.5; images/runtime-vllm/constraints.txt is for 3.11 and 3.12. "
        "Name an image that has it: BASE=…."
    )


def commands(monkeypatch: pytest.MonkeyPatch, returncode: int) -> list[list[str]]:
    """What is run in place of pip, which says that nothing fits where it fails."""
    run: list[list[str]] = []

    def fake(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        run.append(list(command))
        folder = next(Path(word.removeprefix("--dest=")) for word in command if word.startswith("--dest="))
        (folder / "a-1-py3-none-any.whl").write_bytes(b"a wheel")
        return subprocess.CompletedProcess(command, returncode, "", "no matching distribution")

    monkeypatch.setattr("hack.images.wheelhouse.subprocess.run", fake)
    return run


def test_every_glibc_up_to_the_oldest_bases_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = commands(monkeypatch, 0)
    wheelhouse._download(["a==1"], BASE, tmp_path)
    (command,) = run
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    platforms = {word.removeprefix("--platform=") for word in command if word.startswith("--platform=")}
    assert {f"manylinux_2_{minor}_x86_64" for minor in range(5, 32)} <= platforms
    assert {"manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"} <= platforms
    assert "manylinux_2_32_x86_64" not in platforms


def test_downloaded_wheels_are_kept_and_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = commands(monkeypatch, 0)
    first = wheelhouse._download(["a==1"], BASE, tmp_path)
    assert [path.name for path in first] == ["a-1-py3-none-any.whl"]
    assert wheelhouse._download(["a==1"], BASE, tmp_path) == first
    assert len(run) == 1
    assert [path.name for path in tmp_path.iterdir()] == [first[0].parent.name]


def test_a_failed_download_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(monkeypatch, 1)
    with pytest.raises(BuildError, match="pip failed with exit code 1"):
        wheelhouse._download(["a==1"], BASE, tmp_path)
    assert list(tmp_path.iterdir()) == []
