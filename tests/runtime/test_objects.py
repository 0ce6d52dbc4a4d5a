"""Objects as bytes: metadata, decoding, views."""

from __future__ import annotations

import orjson
import pytest

from kaito.runtime.errors import MalformedObject
from kaito.runtime.objects import CachedObject, decode_meta
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
    assert (meta.labels, meta.annotations, meta.finalizers) == ({"a": "b"}, {"c": "d"}, ["f"])
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
    assert (meta.labels, meta.owner_references, meta.generation) == ({}, [], 0)


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
