"""The store against a plain dict, indexes included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey
from kaito.runtime.store import Added, Deleted, Delta, Store, Updated


def thing(version: int, name: str, namespace: str, color: str, uid: str = "") -> CachedObject:
    metadata = {
        "name": name,
        "namespace": namespace,
        "resourceVersion": str(version),
        "labels": {"color": color},
    }
    return CachedObject.from_dict({"metadata": {**metadata, "uid": uid or name}})


def swap(store: Store, objects: dict[ObjectKey, CachedObject], **arguments: Any) -> list[Delta]:
    """All of it at once."""
    swapping = store.swap(objects, **arguments)
    for _ in swapping:
        pass
    deltas = list(swapping.deltas)
    for _ in swapping.let_go():
        pass
    return deltas


def by_color(obj: CachedObject) -> Iterable[str]:
    color = obj.meta.labels["color"]
    if color == "invisible":
        raise ValueError(color)
    return color.split("+") if color else ()


names = st.sampled_from("abc")
namespaces = st.sampled_from(["x", "y"])
colors = st.sampled_from(["", "red", "blue", "red+blue", "invisible"])
one = st.tuples(names, namespaces, colors)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), one),
        st.tuples(st.just("drop"), one),
        st.tuples(st.just("swap"), st.lists(one, max_size=5)),
    ),
    max_size=25,
)


@given(steps=steps, index_at=st.integers(0, 25))
def test_reads_and_indexes_agree_with_a_plain_dict(steps: list[tuple[str, Any]], index_at: int) -> None:
    store = Store()
    model: dict[ObjectKey, CachedObject] = {}
    for version, (kind, argument) in enumerate(steps):
        if version == min(index_at, len(steps) - 1):
            store.add_index("color", by_color)
        if kind == "swap":
            objects = {each.key: each for each in (thing(version, *arguments) for arguments in argument)}
            swap(store, dict(objects))
            model = objects
        else:
            obj = thing(version, *argument)
            if kind == "put":
                store.put(obj)
                model[obj.key] = obj
            else:
                store.drop(obj)
                model.pop(obj.key, None)
    if not steps:
        return
    assert {obj.key: obj for obj in store} == model
    assert len(store) == len(model)
    for namespace in ("x", "y", "z"):
        assert set(store.select(namespace, None)) == {
            obj for obj in model.values() if obj.key.namespace == namespace
        }
    for color in ("red", "blue", "invisible"):
        expected = {obj for obj in model.values() if color in obj.meta.labels["color"].split("+")}
        assert set(store.by_index("color", color)) == (set() if color == "invisible" else expected)


def test_deltas_are_the_differences() -> None:
    store = Store()
    a1, a2, b1 = thing(1, "a", "x", ""), thing(2, "a", "x", ""), thing(1, "b", "x", "")
    assert [*store.put(a1)] == [Added(a1)]
    assert [*store.put(thing(1, "a", "x", ""))] == []
    assert store.get(a1.key) is a1
    assert [*store.put(a2)] == [Updated(a1, a2)]
    assert swap(store, {b1.key: b1, a2.key: thing(2, "a", "x", "")}) == [Added(b1)]
    assert store.get(a2.key) is a2
    assert swap(store, {b1.key: b1}) == [Deleted(a2, stale=True)]
    other = thing(5, "b", "x", "", uid="other")
    assert [*store.put(other)] == [Deleted(b1, stale=True), Added(other)]
    assert [*store.drop(other)] == [Deleted(other, stale=False)]
    assert [*store.drop(other)] == [Deleted(other, stale=False)], (
        "a deletion is told even if the object was unknown"
    )
    assert len(store) == 0


def test_objects_without_a_version_always_count_as_changed() -> None:
    store = Store()
    one = CachedObject.from_dict({"metadata": {"name": "a"}})
    two = CachedObject.from_dict({"metadata": {"name": "a"}})
    store.put(one)
    assert [*store.put(two)] == [Updated(one, two)]
