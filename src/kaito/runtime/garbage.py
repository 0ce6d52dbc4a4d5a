"""Python's cyclic collector, set for programs that hold and decode many JSON trees.

Trees have no cycles, so reference counts free them at once; the cyclic collector finds nothing in them, yet by default
it walks all that live after every 700 new containers, and everything that was ever imported now and then. Converging
300 Workspaces, that was a fifth of the processor time of each process.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 50)
"""Containers made and not freed until the youngest are looked at, and how often that happens before the next older
ones are. Cycles do occur (exceptions with their frames), a few hundred bytes each: they wait a little longer."""


CACHE_THRESHOLDS: Final = (10_000, 10, 100)
"""The same for a process that only has caches in it: each look takes a millisecond at most, and the few cycles that
the rest of the program makes wait no longer than that many containers."""

FREEZE_FROM: Final = 1000
"""Objects in the caches from which on they are worth being taken out of the collector's sight."""


def relax_collector() -> None:
    """For a process of one purpose, once everything is imported and set up: what exists now is not walked again."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class CollectorCare:
    """What one set of caches asks of the collector: to look seldom, and not at what they hold.

    The collector belongs to the process, so everything is put back as far as it can be: thresholds are only ever
    raised, and restored by `end` unless somebody has changed them since. Objects taken out of sight are freed as ever
    when the last reference goes, so changes in the caches are not affected; only garbage in cycles that existed at
    that one moment stays.
    """

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None
        self._ours: tuple[int, int, int] | None = None

    def begin(self) -> None:
        """Lists are about to come."""
        before = gc.get_threshold()
        if before[0]:  # else somebody has switched it off
            first, second, third = (max(pair) for pair in zip(before, CACHE_THRESHOLDS, strict=True))
            gc.set_threshold(first, second, third)
            self._before, self._ours = before, gc.get_threshold()

    def settle(self, objects: int) -> None:
        """The caches are full, with so many objects: these will mostly stay."""
        if objects >= FREEZE_FROM:
            gc.freeze()

    def end(self) -> None:
        """The caches have stopped."""
        if self._before is not None and gc.get_threshold() == self._ours:
            gc.set_threshold(*self._before)
        self._before = self._ours = None
