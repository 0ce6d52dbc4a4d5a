"""From events to keys: mappers, predicates, priorities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kaito.runtime.handlers import Enqueue, by_object, by_owner
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import (
    Event,
    EventType,
    Predicate,
    all_of,
    annotations_changed,
    any_of,
    changed,
    generation_changed,
    has_labels,
    labels_changed,
    negate,
    only,
    resource_version_changed,
)
from kaito.runtime.resources import DEPLOYMENTS, NODES, PODS, REPLICASETS, ObjectKey
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.workqueue import WorkQueue


def make(
    name: str = "a", namespace: str | None = "n", rv: str = "1", owners: list[Any] | None = None, **meta: Any
) -> CachedObject:
    metadata = {"name": name, "resourceVersion": rv, "ownerReferences": owners or [], **meta}
    if namespace:
        metadata["namespace"] = namespace
    return CachedObject.from_dict({"metadata": metadata}, PODS)


def owner(kind: str, name: str, api_version: str = "apps/v1", **extra: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "apiVersion": api_version, "uid": name, **extra}


CONTROLLED = [
    owner("Deployment", "d", controller=True),
    owner("Deployment", "e"),
    owner("Other", "o", controller=True),
]


@pytest.mark.conforms(
    "controller-runtime handler EnqueueRequestForObject",
    "controller-runtime handler EnqueueRequestForOwner",
    "controller-runtime handler EnqueueRequestForOwner: only controller owner, or every owner",
)
@pytest.mark.parametrize(
    ("mapper", "obj", "keys"),
    [
        (by_object, make(), [ObjectKey("n", "a")]),
        (by_object, make(namespace=None), [ObjectKey(None, "a")]),
        (by_owner(DEPLOYMENTS), make(owners=CONTROLLED), [ObjectKey("n", "d")]),
        (
            by_owner(DEPLOYMENTS, every_owner=True),
            make(owners=CONTROLLED),
            [ObjectKey("n", "d"), ObjectKey("n", "e")],
        ),
        (by_owner(REPLICASETS), make(owners=CONTROLLED), []),
        (
            by_owner(DEPLOYMENTS),
            make(owners=[owner("Deployment", "d", "apps/v1beta2", controller=True)]),
            [ObjectKey("n", "d")],
        ),
        (by_owner(DEPLOYMENTS), make(owners=[owner("Deployment", "d", "x.io/v1", controller=True)]), []),
        (by_owner(NODES), make(owners=[owner("Node", "w", "v1", controller=True)]), [ObjectKey(None, "w")]),
    ],
)
def test_mappers_name_the_keys(mapper: Any, obj: CachedObject, keys: list[ObjectKey]) -> None:
    assert list(mapper(obj)) == keys


def update(old: CachedObject, new: CachedObject) -> Event:
    return Event(EventType.UPDATE, new, old)


@pytest.mark.conforms(
    "controller-runtime predicate ResourceVersionChanged, GenerationChanged, LabelChanged, AnnotationChanged",
    "controller-runtime predicate And, Or, Not",
    "controller-runtime predicate LabelSelector",
)
@pytest.mark.parametrize(
    ("predicate", "old", "new", "passes"),
    [
        (resource_version_changed, make(rv="1"), make(rv="1"), False),
        (resource_version_changed, make(rv="1"), make(rv="2"), True),
        (generation_changed, make(generation=1), make(generation=1, rv="2"), False),
        (generation_changed, make(generation=1), make(generation=2), True),
        (
            generation_changed,
            make(generation=1),
            make(generation=1, deletionTimestamp="2026-01-01T00:00:00Z"),
            True,
        ),
        (labels_changed, make(labels={"a": "1", "b": "2"}), make(labels={"b": "2", "a": "1"}), False),
        (labels_changed, make(labels={"a": "1"}), make(labels={"a": "2"}), True),
        (annotations_changed, make(annotations={"a": "1"}), make(annotations={"a": "1"}), False),
        (annotations_changed, make(), make(annotations={"a": "1"}), True),
        (has_labels("app=web"), make(labels={"app": "db"}), make(labels={"app": "db"}), False),
        (has_labels("app=web"), make(labels={"app": "web"}), make(labels={"app": "db"}), True),
        (
            changed(lambda obj: len(obj.meta.finalizers)),
            make(finalizers=["x"]),
            make(finalizers=["y"]),
            False,
        ),
        (only(EventType.CREATE), make(), make(), False),
        (negate(only(EventType.CREATE)), make(), make(), True),
        (any_of(only(EventType.CREATE), labels_changed), make(), make(labels={"a": "1"}), True),
        (all_of(resource_version_changed, labels_changed), make(rv="1"), make(rv="2"), False),
    ],
)
def test_predicates_on_updates(
    predicate: Predicate, old: CachedObject, new: CachedObject, passes: bool
) -> None:
    assert predicate(update(old, new)) is passes


@pytest.mark.conforms(
    "controller-runtime predicate ResourceVersionChanged, GenerationChanged, LabelChanged, AnnotationChanged"
)
@pytest.mark.parametrize("predicate", [resource_version_changed, generation_changed, labels_changed])
@pytest.mark.parametrize("kind", [EventType.CREATE, EventType.DELETE])
def test_predicates_about_changes_let_the_rest_pass(predicate: Predicate, kind: EventType) -> None:
    assert predicate(Event(kind, make()))


Call = Callable[[Enqueue], None]


@pytest.mark.conforms("controller-runtime handler Lower priority for the initial list")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda h: h.on_add(make(), True), [("a", -100)]),
        (lambda h: h.on_add(make(), False), [("a", 0)]),
        (lambda h: h.on_update(make(rv="1"), make(rv="2")), [("a", 0)]),
        (lambda h: h.on_update(make(rv="1"), make(rv="1")), [("a", -100)]),
        (lambda h: h.on_delete(make(), True), [("a", 0)]),
        (lambda h: h.on_update(make("a", rv="1"), make("b", rv="2")), [("a", 0), ("b", 0)]),
    ],
)
async def test_events_become_keys_with_a_priority(
    virtual_clock: VirtualClock, call: Call, expected: list[tuple[str, int]]
) -> None:
    queue: WorkQueue[ObjectKey] = WorkQueue(virtual_clock)
    call(Enqueue(queue))
    taken = []
    while len(queue) and (item := await queue.get()) is not None:
        taken.append((item.key.name, item.priority))
    assert taken == expected


async def test_every_predicate_has_to_pass(virtual_clock: VirtualClock) -> None:
    queue: WorkQueue[ObjectKey] = WorkQueue(virtual_clock)
    handler = Enqueue(queue, by_object, [only(EventType.CREATE), has_labels("app=web")])
    handler.on_add(make(), False)
    handler.on_delete(make(labels={"app": "web"}), False)
    assert len(queue) == 0
    handler.on_add(make(labels={"app": "web"}), False)
    assert len(queue) == 1
