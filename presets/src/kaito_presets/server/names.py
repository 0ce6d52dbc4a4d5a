"""The names under which the server answers, and what each of them means.

The plain name of the model answers with all adapters at their strengths; `base` without any; an adapter's name with
that adapter alone, at its strength. Stand-in weights never hide: the name that the server gives itself then says so,
and the plain name is only understood, not announced.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaito_presets.adapters import RESERVED_NAMES, AdapterChoice

STAND_IN_FILE = "kaito-stand-in.json"
#: The adapter key under which the engine holds the sum of all of them; no directory can have this name.
COMBINED = "/all"


def stand_in_of(weights: Path, preset: str) -> str | None:
    """What stands in for `preset` according to the marker in the weights directory; None for the real weights."""
    marker = weights / STAND_IN_FILE
    if not marker.is_file():
        return None
    name = str(json.loads(marker.read_text(encoding="utf-8"))["stand_in"])
    return None if name == preset else name


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of /v1/models. `adapter` is the engine's key, None for the base model."""

    name: str
    adapter: str | None
    parent: str | None = None


class ModelNames:
    """Resolves the `model` of a request. Names and adapters are fixed at start."""

    def __init__(
        self,
        preset: str,
        served: str | None,
        stand_in: str | None,
        adapters: Sequence[AdapterChoice],
    ) -> None:
        plain = served or preset
        self.stand_in = stand_in
        self.preset = preset
        self.served = f"{plain}-stand-in-{stand_in}" if stand_in else plain
        combined = [choice.name for choice in adapters if choice.strength > 0]
        main = COMBINED if len(combined) > 1 else next(iter(combined), None)
        self.main = Model(self.served, main)
        self._listed = [self.main]
        if adapters:
            self._listed += [Model(name, None, self.served) for name in sorted(RESERVED_NAMES)]
            self._listed += [
                Model(choice.name, choice.name if choice.strength > 0 else None, self.served)
                for choice in adapters
            ]
        self._by_name = {plain: self.main, preset: self.main} | {model.name: model for model in self._listed}

    def listed(self) -> list[Model]:
        """For /v1/models: the served name first."""
        return list(self._listed)

    def find(self, name: str | None) -> Model | None:
        """The model of that name (None means the served one), or None when there is no such name."""
        return self.main if name is None else self._by_name.get(name)

    @property
    def notice(self) -> str | None:
        """The sentence that says that these are not the real weights; None when they are."""
        if not self.stand_in:
            return None
        return (
            f"These are the stand-in weights {self.stand_in}, not {self.preset}: a tiny demo model that knows the "
            "capitals of countries and nothing else."
        )
