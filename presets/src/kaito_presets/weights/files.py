"""The files of a model, wherever they are: what is needed to judge them without loading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """What lies at the top of the place that a server would read."""

    def names(self) -> Sequence[str]:
        """Everything there, sorted; directories too."""

    def size(self, name: str) -> int:
        """Bytes."""

    def read(self, name: str, start: int, length: int) -> bytes:
        """A part of a file; shorter only where the file ends. Raises OSError."""


class Directory:
    """Files on a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> Sequence[str]:
        return sorted(each.name for each in self._path.iterdir()) if self._path.is_dir() else []

    def size(self, name: str) -> int:
        return (self._path / name).stat().st_size

    def read(self, name: str, start: int, length: int) -> bytes:
        with (self._path / name).open("rb") as file:
            file.seek(start)
            return file.read(length)
