"""Handlers of an informer: each is told of everything, in order, however slow the others are.

A handler is a plain object called in the event loop. Usually it is called at once, while the change is being
applied. Where there is much to tell at a time (a first list, a handler that comes late, a resync) the calls are
queued and made in slices, with turns of the event loop between them; changes that come meanwhile queue up behind.

Invariants: the store holds a change before any handler is told of it; one handler is told in the store's order;
one that raises is logged and counted, and is told of the next change all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from kaito.runtime.clock import Clock, TimerHandle
from kaito.runtime.objects import CachedObject
from kaito.runtime.store import Added, Deleted, Delta, Store, Updated

log = logging.getLogger(__name__)

SLICE = 100
"""Calls of one handler between two turns of the event loop."""

MIN_RESYNC = 1.0
"""Least seconds between two resyncs (client-go)."""

_Item: TypeAlias = Delta | CachedObject | tuple[CachedObject]
"""What a handler is to be told: a change, an object of the initial list, or (in a tuple) one of a resync."""


class EventHandler(Protocol):
    """Told about every change. Must return quickly: put a key into a queue, set an event."""

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        """An object is new; `initial` when it was there before this handler knew of the collection."""

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        """An object has another resourceVersion; `old is new` in a resync."""

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        """An object is gone; `stale` when the deletion was missed, so that `obj` is only the last state
        known.
        """


class Registration:
    """One handler of one informer. The same handler registered twice is told twice."""

    def __init__(
        self,
        handler: EventHandler,
        store: Store,
        clock: Clock,
        *,
        resync: float,
        forget: Callable[[Registration], None],
        failed: Callable[[], None],
    ) -> None:
        """`resync`: see `Informer.add_handler`. `forget` is called once, by `remove`; `failed` at each exception."""
        self.failures = 0
        self.resync = max(MIN_RESYNC, resync) if resync > 0 else 0.0
        self._handler = handler
        self._store = store
        self._clock = clock
        self._forget = forget
        self._failed = failed
        self._items: deque[_Item] = deque()
        self._initial_left = 0
        self._told = asyncio.Event()  # nothing is queued
        self._told.set()
        self._listed = asyncio.Event()  # the initial list is in the queue, or has left it
        self._removed = False
        self._calling = False
        self._timer: TimerHandle | None = None

    @property
    def has_synced(self) -> bool:
        """Whether this handler has been called for every object of its initial list."""
        return self._listed.is_set() and not self._initial_left

    async def wait_synced(self) -> None:
        """Wait until `has_synced`, or until the handler is removed; put a limit around it with `clock.timeout`."""
        while not (self.has_synced or self._removed):
            await (self._told if self._listed.is_set() else self._listed).wait()

    def remove(self) -> None:
        """Call the handler no more; harmless when repeated. A call that is under way goes on to its end."""
        if not self._removed:
            self._removed = True
            self.stop_resync()
            self._items.clear()
            self._initial_left = 0
            self._told.set()
            self._listed.set()
            self._forget(self)

    def shutdown(self) -> None:
        """`remove`, after which the handler certainly is not running. RuntimeError inside its own call."""
        if self._calling:
            raise RuntimeError("a handler cannot wait for its own end: call remove() here")
        self.remove()

    # For the informer

    def start(self, objects: Iterable[CachedObject]) -> None:
        """The initial list is known."""
        if self._removed or self._listed.is_set():
            return
        before = len(self._items)
        self._items.extend(objects)
        self._initial_left = len(self._items) - before
        self._listed.set()
        self._tell_now()

    def tell(self, delta: Delta) -> None:
        """One change."""
        if self._items:
            self._items.append(delta)
        elif not self._removed:
            self._call(delta)

    def tell_all(self, deltas: Iterable[Delta]) -> None:
        """The changes that a new list brought."""
        if not self._removed:
            self._items.extend(deltas)
            self._tell_now()

    async def wait_told(self) -> None:
        """Wait until nothing is queued."""
        await self._told.wait()

    def start_resync(self) -> None:
        """From now on tell the handler of every object again each `resync` seconds."""
        if self.resync and self._timer is None and not self._removed:
            self._timer = self._clock.call_later(self.resync, self._on_resync)

    def stop_resync(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The queue

    def _on_resync(self) -> None:
        self._timer = None
        self.start_resync()
        if self.has_synced:
            self._items.extend(zip(self._store.all(), strict=True))
            self._tell_now()

    def _tell_now(self) -> None:
        """Make the first calls at once, so that little to tell is told when this returns."""
        if self._told.is_set():
            self._told.clear()
            self._tell_slice()

    def _tell_slice(self) -> None:
        items = self._items
        for _ in range(min(SLICE, len(items))):
            if not items:
                break  # removed by the handler itself
            item = items.popleft()
            self._call(item)
            if self._initial_left:
                self._initial_left -= 1
        if items:
            asyncio.get_running_loop().call_soon(self._tell_slice)
        else:
            self._told.set()

    def _call(self, item: _Item) -> None:
        """Call the handler; whatever it raises ends here."""
        self._calling, outer = True, self._calling
        try:
            match item:
                case CachedObject():
                    self._handler.on_add(item, True)
                case Added(obj):
                    self._handler.on_add(obj, False)
                case Updated(old, new):
                    self._handler.on_update(old, new)
                case Deleted(obj, stale):
                    self._handler.on_delete(obj, stale)
                case (obj,):
                    if self._store.get(obj.key) is obj:  # else it has changed, and that is or will be told
                        self._handler.on_update(obj, obj)
        except (Exception, asyncio.CancelledError):
            # Handlers do not wait, so nobody has cancelled one: it looked into something that was.
            self.failures += 1
            self._failed()
            fields = {"handler": repr(self._handler), "object": str(_key(item))}
            log.exception("event handler failed", extra={"fields": fields})
        finally:
            self._calling = outer


def _key(item: _Item) -> object:
    match item:
        case Updated(new=obj) | Added(obj) | Deleted(obj) | (obj,):
            return obj.key
        case CachedObject():
            return item.key
