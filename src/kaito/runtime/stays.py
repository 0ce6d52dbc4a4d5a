"""How long objects stay in the phases of their life: the numbers behind a phase gauge and its histogram.

Moving an object costs two dictionary look-ups; one that stays where it is costs one. Ages are worked out when somebody
asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kaito.runtime.histogram import Histogram

STAY_BUCKETS = (
    *(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
    *(7200.0, 21600.0, 86400.0, 604800.0),
)
"""Seconds; from a node that is there at once to a model that is served for a week."""


class Stays:
    """Which phase each object is in, since when, and how long earlier stays were."""

    def __init__(self, phases: Iterable[str], now: Callable[[], float]) -> None:
        """`phases` are all there are, in the order they are shown. `now` is the clock's monotonic reading."""
        self.seconds = {phase: Histogram(STAY_BUCKETS) for phase in phases}
        """Lengths of the stays that have ended, by phase."""
        self._now = now
        self._stays: dict[str, tuple[str, float]] = {}

    def enter(self, key: str, phase: str, age: float = 0.0) -> str | None:
        """The object is in this phase. Gives the phase that it was in before: None for one that is new here.

        `age` is for new ones: for how many seconds they have been in the phase already.
        """
        before = self._stays.get(key)
        if before is None:
            self._stays[key] = phase, self._now() - max(0.0, age)
            return None
        if before[0] != phase:
            now = self._now()
            self.seconds[before[0]].observe(now - before[1])
            self._stays[key] = phase, now
        return before[0]

    def leave(self, key: str) -> None:
        """The object is gone."""
        before = self._stays.pop(key, None)
        if before is not None:
            self.seconds[before[0]].observe(self._now() - before[1])

    def counts(self) -> dict[str, int]:
        """How many objects are in each phase."""
        found = dict.fromkeys(self.seconds, 0)
        for phase, _ in self._stays.values():
            found[phase] += 1
        return found

    def oldest(self) -> dict[str, float]:
        """Seconds that the object that came first has been in each phase; 0.0 where there is none."""
        starts: dict[str, float] = {}
        for phase, since in self._stays.values():
            starts[phase] = min(since, starts.get(phase, since))
        now = self._now()
        return {phase: now - starts[phase] if phase in starts else 0.0 for phase in self.seconds}
