"""Events are kept for an hour after they last happened."""

from __future__ import annotations

from collections import deque
from typing import Final

from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.store import DELETED, Collection, Event, Key

EVENT_TTL: Final = 3600.0
"""Seconds; kube-apiserver's --event-ttl."""


class EventRetention:
    """Forgets old events whenever a new one is written, so it needs no timer."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._written: deque[tuple[float, Key, int]] = deque()
        core.store.on_commit(self._committed)

    def _committed(self, collection: Collection, event: Event) -> None:
        if collection.name != "events" or event.type == DELETED:
            return
        now = self._core.clock.now()
        self._written.append((now, event.record.key, event.revision))
        served = self._core.registry.stored(collection.name)
        while served is not None and self._written[0][0] < now - EVENT_TTL:
            _, key, revision = self._written.popleft()
            record = collection.get(key)
            if record is not None and record.revision == revision:
                self._core.remove(served, key)
