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


LIST_THRESHOLDS: Final = (10_000, 1_000, 1_000)
"""The same while a large list is being received: a look at the youngest takes a millisecond or two, the next would
take twenty."""

LARGE_LIST: Final = 1000
"""Objects from which on a list is large."""


def relax_collector() -> None:
    """For a process of one purpose, once everything is imported and set up: what exists now is not walked again."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class CollectorCare:
    """Spares the objects of large lists the collector's attention.

    While any large list is being received the collector only looks at what is youngest; once it is in the cache,
    everything there is taken out of its sight, since most of it will stay. Objects out of sight are freed as ever when
    the last reference goes, so later changes are not affected; only garbage in cycles that existed at that one moment
    stays. The collector belongs to the whole process: thresholds are only ever raised, and put back when the list is
    there unless somebody has changed them since.
    """

    def __init__(self) -> None:
        self._lists: set[object] = set()
        self._before: tuple[int, int, int] | None = None
        self._ours: tuple[int, int, int] | None = None

    def begin(self, reader: object) -> None:
        """A list that `reader` receives has turned out to be large. Harmless when repeated."""
        if not self._lists:
            before = gc.get_threshold()
            if before[0]:  # else somebody has switched the collector off
                first, second, third = (max(pair) for pair in zip(before, LIST_THRESHOLDS, strict=True))
                gc.set_threshold(first, second, third)
                self._before, self._ours = before, gc.get_threshold()
        self._lists.add(reader)

    def end(self, reader: object, changes: int) -> None:
        """The list is in the cache and has changed so many objects, or has been given up."""
        if reader not in self._lists:
            return
        if changes >= LARGE_LIST:
            gc.collect(0)
            gc.freeze()
        self._lists.discard(reader)
        if not self._lists and self._before is not None:
            if gc.get_threshold() == self._ours:
                gc.set_threshold(*self._before)
            self._before = self._ours = None
