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


def relax_collector() -> None:
    """For a process of one purpose, once everything is imported and set up: what exists now is not walked again."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
