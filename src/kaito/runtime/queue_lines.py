"""The lines in which the keys of a work queue stand: what is known of a key, and who is first in one priority."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

import msgspec


class Entry(msgspec.Struct, gc=False, eq=False):
    """A key that is queued, held by a worker, or both. Structs without garbage collection: there may be millions."""

    key: Any
    priority: int
    counter: int
    """Place in line: what became ready earlier has the lower one."""
    since: float
    """Clock reading when it became ready."""
    ready_at: float | None = None
    """Clock reading at which it becomes ready; None where it is."""
    queued: bool = True
    """Is to be handed out; otherwise a worker holds it and nothing more is known."""
    started: float | None = None
    """Clock reading when it was handed out; None where no worker holds it."""
    stale: bool = False
    """Another entry has taken its place; skip it."""


class Line:
    """The ready keys of one priority, in order."""

    __slots__ = ("line", "priority", "returned")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.line: deque[Entry] = deque()
        """By counter: whatever becomes ready goes to the end."""
        self.returned: list[tuple[int, Entry]] = []
        """A heap by counter: keys that were added while held get the place back that they had."""

    def push(self, entry: Entry) -> None:
        if not self.line or self.line[-1].counter < entry.counter:
            self.line.append(entry)
        else:
            heapq.heappush(self.returned, (entry.counter, entry))

    def pop(self) -> Entry | None:
        """The first in line."""
        line, returned = self.line, self.returned
        while line or returned:
            if returned and (not line or returned[0][0] < line[0].counter):
                entry = heapq.heappop(returned)[1]
            else:
                entry = line.popleft()
            if not entry.stale:
                return entry
        return None

    def drop_stale(self) -> None:
        self.line = deque(entry for entry in self.line if not entry.stale)
        self.returned = [pair for pair in self.returned if not pair[1].stale]
        heapq.heapify(self.returned)


def is_current(place: tuple[float, int, Entry]) -> bool:
    """Whether a place in the heap of waiting keys still means something; counters never repeat."""
    _, counter, entry = place
    return entry.ready_at is not None and entry.counter == counter
