"""Which events are worth a reconcile: small callables that compose.

A predicate takes an `Event` and says whether it passes. Predicates about changes let creations and deletions
pass, so an object that was deleted and made again under the same name is always seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import NamedTuple

from kaito.runtime.objects import CachedObject
from kaito.runtime.selectors import parse_label_selector


class EventType(Enum):
    """What happened to an object, as an informer sees it."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Event(NamedTuple):
    """One change of one object. `obj` is its newest known state, `old` (updates only) the one before."""

    type: EventType
    obj: CachedObject
    old: CachedObject | None = None
    initial: bool = False
    """The object existed before the informer started (creations only)."""
    stale: bool = False
    """The deletion itself was missed, so `obj` may be older than the object's last state (deletions only)."""


Predicate = Callable[[Event], bool]


def changed(projection: Callable[[CachedObject], Hashable]) -> Predicate:
    """Passes updates for which `projection` gives something else than before."""

    def predicate(event: Event) -> bool:
        return event.old is None or projection(event.old) != projection(event.obj)

    return predicate


resource_version_changed: Predicate = changed(lambda obj: obj.meta.resource_version)
"""Drops resyncs: updates that bring the very same version."""

generation_changed: Predicate = changed(lambda obj: (obj.meta.generation, obj.meta.deletion_timestamp))
"""Passes updates of the spec, and the start of a deletion; drops those of status and metadata."""

labels_changed: Predicate = changed(lambda obj: tuple(sorted(obj.meta.labels.items())))
annotations_changed: Predicate = changed(lambda obj: tuple(sorted(obj.meta.annotations.items())))


def has_labels(selector: str) -> Predicate:
    """Passes objects that match a label selector such as `app=web,tier in (a, b)`, before or after the
    change.
    """

    parsed = parse_label_selector(selector)

    def predicate(event: Event) -> bool:
        return parsed.matches(event.obj.meta.labels) or (
            event.old is not None and parsed.matches(event.old.meta.labels)
        )

    return predicate


def by_type(
    *, create: Predicate | None = None, update: Predicate | None = None, delete: Predicate | None = None
) -> Predicate:
    """One predicate for each type of event; a type without one passes."""
    predicates = {EventType.CREATE: create, EventType.UPDATE: update, EventType.DELETE: delete}

    def predicate(event: Event) -> bool:
        wanted = predicates[event.type]
        return wanted is None or wanted(event)

    return predicate


def only(*types: EventType) -> Predicate:
    """Passes only these types of event."""
    return lambda event: event.type in types


def all_of(*predicates: Predicate) -> Predicate:
    return lambda event: all(predicate(event) for predicate in predicates)


def any_of(*predicates: Predicate) -> Predicate:
    return lambda event: any(predicate(event) for predicate in predicates)


def negate(predicate: Predicate) -> Predicate:
    return lambda event: not predicate(event)
