"""From bytes that a server sent to objects that a cache keeps.

What is not an object of the selection is logged, counted and left out; what is becomes as small as can be had
cheaply: without managed fields, and sharing what is equal in many objects' metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kaito.runtime.errors import MalformedObject
from kaito.runtime.objects import CachedObject, Envelope, Pool, decode_envelope
from kaito.runtime.reflector_states import ReflectorStats
from kaito.runtime.selection import Selection

log = logging.getLogger(__name__)


class Intake:
    """Takes objects in for one reflector."""

    def __init__(
        self,
        stats: ReflectorStats,
        transform: Callable[[CachedObject], CachedObject] | None,
        *,
        keep_managed_fields: bool,
    ) -> None:
        """Counts in `stats`. `transform` may make an object smaller still."""
        self._stats = stats
        self._transform = transform
        self._keep_managed_fields = keep_managed_fields
        self._pool = Pool()

    def take(self, raw: bytes, envelope: Envelope | None, selection: Selection) -> CachedObject | None:
        """The object to keep; None (and a line in the log) when these bytes are not one."""
        try:
            envelope = envelope or decode_envelope(raw)
        except MalformedObject as error:
            self.skip(str(error), selection)
            return None
        problem = selection.misfit(envelope)
        if problem:
            self.skip(problem, selection)
            return None
        if self._keep_managed_fields:
            envelope.forget_managed_fields()
        else:
            raw = envelope.cut_managed_fields(raw)
        self._pool.share(envelope.metadata)
        obj = CachedObject(raw, selection.resource, envelope.metadata)
        if self._transform is None:
            return obj
        try:
            return self._transform(obj)
        except Exception:
            log.exception("transform failed, keeping the object as it came", extra=where(selection))
            return obj

    def skip(self, problem: str, selection: Selection) -> None:
        """Leave something out."""
        self._stats.skipped += 1
        log.warning("skipping what %s sent: %s", selection, problem, extra=where(selection))


def where(selection: Selection) -> dict[str, dict[str, str]]:
    """What a log record gets as `extra`: the fields that `kaito.runtime.logs` writes beside the message."""
    return {"fields": {"resource": str(selection.resource), "path": selection.path}}
