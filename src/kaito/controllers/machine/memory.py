"""What is remembered of claims between two passes.

A process that starts anew knows nothing of it, and comes to the same end: it asks the cloud once more than it had to,
or says something twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kaito.controllers.machine.decide import Warned
from kaito.runtime.clock import Clock
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey


class _Hold(NamedTuple):
    """joined: Nodes of the claim when it began, where a Node is what it waits for."""

    about: tuple[str, bool]
    until: float
    joined: frozenset[str] | None


class ClaimMemory:
    """Of the claims of one shape. joined: ids of the Nodes that the cloud's label gives to the claim of that name."""

    def __init__(self, clock: Clock, joined: Callable[[str], frozenset[str]]) -> None:
        self._clock = clock
        self._joined = joined
        self._told: dict[ObjectKey, Warned] = {}
        self._logged: dict[ObjectKey, set[tuple[str, str]]] = {}
        self._ended: dict[ObjectKey, str] = {}
        self._missing: dict[ObjectKey, tuple[str, float]] = {}
        self._holds: dict[ObjectKey, _Hold] = {}
        self._woken: set[ObjectKey] = set()

    def forget(self, key: ObjectKey) -> None:
        """The claim is gone."""
        for kept in (self._told, self._logged, self._ended, self._missing, self._holds):
            kept.pop(key, None)

    # How long the provider is left in peace

    def begin(self, key: ObjectKey) -> None:
        """A pass begins: what woke the claim up is heard."""
        self._woken.discard(key)

    def wake(self, key: ObjectKey) -> None:
        """The provider may be asked at once, also when a pass is just under way."""
        self._woken.add(key)
        self._holds.pop(key, None)

    def hold(self, cached: CachedObject, seconds: float | None, *, for_node: bool) -> None:
        """Leaves the provider in peace for that long, although events may bring the claim back sooner.

        for_node: until the claim has another Node.
        """
        self._holds.pop(cached.key, None)
        if seconds is None or cached.key in self._woken:
            return
        joined = self._joined(cached.meta.name) if for_node else None
        self._holds[cached.key] = _Hold(_phase(cached), self._clock.now() + seconds, joined)

    def hold_left(self, cached: CachedObject) -> float:
        """Seconds."""
        hold = self._holds.get(cached.key)
        if hold is None or hold.about != _phase(cached):
            return 0.0
        if hold.joined is not None and hold.joined != self._joined(cached.meta.name):
            return 0.0  # the Node that was waited for is there
        return max(0.0, hold.until - self._clock.now())

    # The instance and its Node

    def end(self, cached: CachedObject) -> None:
        """The instance is gone for good: whatever is left to do, the cloud need not be asked again."""
        self._ended[cached.key] = cached.meta.uid

    def is_ended(self, cached: CachedObject) -> bool:
        return self._ended.get(cached.key) == cached.meta.uid

    def misses_node(self, cached: CachedObject, running: bool) -> None:
        """The instance is there and its Node is not. running: as far as known; the time of a cluster
        that stands still does not count."""
        if running:
            self._missing.setdefault(cached.key, (cached.meta.uid, self._clock.now()))
        else:
            self._missing.pop(cached.key, None)

    def missing_for(self, cached: CachedObject, found: bool) -> float:
        """Seconds for which it has missed its Node. found: there is one now."""
        uid, since = self._missing.get(cached.key, ("", 0.0))
        if not found and uid == cached.meta.uid:
            return self._clock.now() - since
        self._missing.pop(cached.key, None)
        return 0.0

    # What has been said

    def is_told(self, cached: CachedObject, warning: Warned) -> bool:
        """Whether this was the last that was told of a claim on its way out, whose status may not remember it.

        From now on it is.
        """
        if cached.meta.deletion_timestamp is None:
            return False
        known, self._told[cached.key] = self._told.get(cached.key), warning
        return known == warning

    def is_logged(self, cached: CachedObject, reason: str) -> bool:
        """Whether this reason was logged of the claim. From now on it is."""
        logged, told = self._logged.setdefault(cached.key, set()), (cached.meta.uid, reason)
        known = told in logged
        logged.add(told)
        return known


def _phase(cached: CachedObject) -> tuple[str, bool]:
    """A claim on its way out does not wait for what held up its launch."""
    return cached.meta.uid, cached.meta.deletion_timestamp is not None
