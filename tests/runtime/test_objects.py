"""Objects as bytes: metadata, decoding, views."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.runtime.errors import MalformedObject
from kaito.runtime.objects import CachedObject, Pool, decode_envelope, decode_meta, is_older
from kaito.runtime.resources import NODES, PODS, ObjectKey

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": "2026-11-21T13:00:00Z",
        "deletionTimestamp": "2026-11-21T14:00:00Z",
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
        "finalizers": ["f"],
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "ru", "controller": True},
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "nu"},
        ],
        "managedFields": [{"manager": "x", "fieldsV1": {"f:metadata": {}}}],
    },
    "spec": {"containers": [{"name": "c"}]},
}


def test_metadata_is_read_and_the_rest_stays_bytes() -> None:
    obj = CachedObject(orjson.dumps(POD), PODS)
    meta = obj.meta
    assert obj.key == ObjectKey("ns", "p") == meta.key
    assert str(obj.key) == "ns/p"
    assert (meta.uid, meta.resource_version, meta.generation) == ("u", "7", 3)
    assert (meta.creation_timestamp, meta.deletion_timestamp) == (
        "2026-11-21T13:00:00Z",
        "2026-11-21T14:00:00Z",
    )
    assert (meta.labels, meta.annotations, meta.finalizers) == ({"a": "b"}, {"c": "d"}, ("f",))
    assert meta.controller is not None
    assert (meta.controller.kind, meta.controller.api_version) == ("ReplicaSet", "apps/v1")
    assert [reference.controller for reference in meta.owner_references] == [True, None]
    assert obj.decode() == POD
    assert obj.decode() is not obj.decode()


def test_defaults_are_not_shared_between_objects() -> None:
    one, two = (CachedObject.from_dict({"metadata": {"name": name}}) for name in "ab")
    one.meta.labels["x"] = "y"
    assert two.meta.labels == {}


def test_cluster_scoped_objects_have_no_namespace() -> None:
    obj = CachedObject.from_dict({"metadata": {"name": "n", "namespace": ""}}, NODES)
    assert obj.key == ObjectKey(None, "n")
    assert str(obj.key) == "n"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"metadata":null}',
        b'{"metadata":{}}',
        b'{"metadata":{"name":""}}',
        b'{"metadata":{"name":5}}',
        b"\xff",
    ],
)
def test_what_is_not_an_object_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedObject, match="not a Kubernetes object"):
        decode_meta(raw)


def test_nulls_count_as_absent() -> None:
    meta = decode_meta(b'{"metadata":{"name":"a","labels":null,"ownerReferences":null,"generation":null}}')
    assert (meta.labels, meta.owner_references, meta.generation) == ({}, (), 0)


def test_a_view_is_made_once_per_version() -> None:
    calls = []

    def view(obj: CachedObject) -> str:
        calls.append(obj)
        return obj.meta.name.upper()

    obj = CachedObject.from_dict({"metadata": {"name": "a"}})
    assert [obj.cached_view(view), obj.cached_view(view)] == ["A", "A"]
    assert obj.cached_view(len_of_raw) == len(obj.raw)
    assert calls == [obj]


def len_of_raw(obj: CachedObject) -> int:
    return len(obj.raw)


fields = st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=9), max_size=2), max_size=3)
decoys = st.sampled_from(['"managedFields":[]', '"managedFields": [{"a":1}]', "plain", '\\"managedFields":'])


@given(fields, decoys, st.permutations(["managedFields", "name", "labels", "annotations"]), st.booleans())
def test_managed_fields_are_cut_and_nothing_else(
    managed: list[dict[str, str]], decoy: str, order: list[str], spaced: bool
) -> None:
    metadata: dict[str, Any] = {
        "managedFields": managed,
        "name": "a",
        "labels": {"managedFields": decoy},
        "annotations": {decoy: decoy},
    }
    tree = {"metadata": {name: metadata[name] for name in order}, "data": {"managedFields": managed}}
    raw = json.dumps(tree, separators=None if spaced else (",", ":")).encode()
    envelope = decode_envelope(raw)
    kept = orjson.loads(envelope.cut_managed_fields(raw))
    del tree["metadata"]["managedFields"]
    assert kept == tree


def test_annotations_are_read_when_asked_for() -> None:
    obj = CachedObject.from_dict({"metadata": {"name": "a", "annotations": {"x": "y"}}})
    assert obj.meta.read_annotations is None
    assert obj.meta.annotations == {"x": "y"}
    assert obj.meta.annotations is obj.meta.annotations
    for odd in (None, {"x": 1}, []):
        assert CachedObject.from_dict({"metadata": {"name": "a", "annotations": odd}}).meta.annotations == {}


def test_equal_parts_of_metadata_are_shared() -> None:
    pool = Pool()
    metas = [decode_meta(orjson.dumps(POD)) for _ in range(2)]
    for meta in metas:
        pool.share(meta)
    one, two = metas
    assert one.labels == {"a": "b"}
    assert one.labels["a"] is two.labels["a"]
    assert one.owner_references is two.owner_references
    assert one.finalizers is two.finalizers
    assert one.creation_timestamp is two.creation_timestamp


def test_a_pool_does_not_grow_for_ever() -> None:
    pool = Pool()
    for number in range(3 * Pool.SIZE):
        pool.share(decode_meta(orjson.dumps({"metadata": {"name": "a", "labels": {"a": f"{number}"}}})))
        assert len(pool._values) <= Pool.SIZE + 10


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [("9", "10", True), ("10", "10", False), ("11", "10", False), ("", "10", False), ("a", "b", False)],
)
def test_versions_that_are_no_numbers_are_never_older(version: str, than: str, older: bool) -> None:
    assert is_older(version, than) is older
