"""What may be wrong with a Workspace, and a machine size that may be tried: words that the rules share."""

from __future__ import annotations

from dataclasses import dataclass

from kaito.catalog import GpuSku


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing can be planned: a condition of type `reason` is True while it lasts."""

    reason: str
    message: str
    path: str = ""
    """The field to blame, where it is one; `message` then begins with it."""

    @staticmethod
    def at(path: str, reason: str, sentence: str) -> Problem:
        """A problem of one field."""
        return Problem(reason, f"{path}: {sentence}", path)

    @property
    def sentence(self) -> str:
        """The message without the path."""
        return self.message.removeprefix(f"{self.path}: ") if self.path else self.message


@dataclass(frozen=True, slots=True)
class Size:
    """An instance type that may be tried; `sku` is None for one the catalogue does not know."""

    name: str
    sku: GpuSku | None
