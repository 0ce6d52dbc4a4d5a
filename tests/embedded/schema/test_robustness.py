"""Whatever a client sends, the answer is a decision or an API error, never a crash."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.embedded.apiserver.kinds.crd import crd_strategy
from kaito.embedded.apiserver.kinds.registry import builtin_strategies
from kaito.embedded.apiserver.patching.apply import server_side_apply, track_update
from kaito.embedded.apiserver.strategy import KindStrategy
from kaito.runtime.errors import ApiError, BadRequest
from support.kinds import CONTAINER, obj, pod, workload

NOW = "2026-01-01T00:00:00Z"
KINDS = {kind.resource.name: kind for kind in builtin_strategies()}
WORKSPACES = Path(__file__).parents[3] / "manifests" / "crd" / "kaito.sh_workspaces.yaml"


def _definition() -> dict[str, Any]:
    crd = yaml.safe_load(WORKSPACES.read_text())
    KINDS["customresourcedefinitions.apiextensions.k8s.io"].prepare_create(crd)
    return crd  # type: ignore[no-any-return]


CRD = _definition()
RICH_POD = pod(
    containers=[
        {
            **CONTAINER,
            "ports": [{"containerPort": 80, "name": "http"}],
            "env": [{"name": "A", "value": "b"}],
            "readinessProbe": {"httpGet": {"port": "http"}},
            "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }
    ],
    volumes=[{"name": "v", "emptyDir": {}}],
    tolerations=[{"key": "a", "operator": "Exists"}],
)
SEEDS: list[tuple[KindStrategy, dict[str, Any]]] = [
    (KINDS["pods"], RICH_POD),
    (KINDS["deployments.apps"], workload(template=RICH_POD["spec"], strategy={"type": "Recreate"})),
    (KINDS["statefulsets.apps"], workload(volumeClaimTemplates=[{"metadata": {"name": "c"}, "spec": {}}])),
    (KINDS["jobs.batch"], {"spec": {"template": {"spec": {**RICH_POD["spec"], "restartPolicy": "Never"}}}}),
    (
        KINDS["services"],
        {"spec": {"type": "NodePort", "ports": [{"port": 80, "name": "a"}], "selector": {"a": "b"}}},
    ),
    (KINDS["secrets"], {"data": {"a": "AA=="}, "stringData": {"a": "b"}}),
    (KINDS["nodes"], {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
    (
        KINDS["customresourcedefinitions.apiextensions.k8s.io"],
        {"spec": CRD["spec"], "metadata": CRD["metadata"]},
    ),
    (
        crd_strategy(CRD, "v1beta1"),
        {
            "resource": {"instanceType": "x", "count": 1, "labelSelector": {"matchLabels": {"a": "b"}}},
            "inference": {
                "preset": {"name": "p"},
                "adapters": [{"source": {"name": "n", "image": "i"}, "strength": "0.5"}],
            },
        },
    ),
]
ODD = [
    None,
    0,
    -1,
    1.5,
    "",
    "x",
    "A B",
    [],
    {},
    True,
    [None],
    [{}],
    ["x"],
    {"a": None},
    {"a": {}},
    {"name": "x"},
]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path and path[0] not in ("apiVersion", "kind") and path != ("metadata",):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def spoil(value: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """A copy with up to three places removed or replaced by something odd."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(paths(value), key=str)))
        target: Any = value
        for key in path[:-1]:
            target = target[key]
        if data.draw(st.booleans()):
            target[path[-1]] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
        else:
            del target[path[-1]]
    return value


def write(kind: KindStrategy, new: dict[str, Any], old: dict[str, Any] | None) -> bool:
    """One write as the server does it; whether it was accepted."""
    try:
        kind.prune(new)
        if old is None:
            kind.prepare_create(new)
        else:
            kind.prepare_update(new, old)
        errors = kind.validate(new, old)
        assert all(str(error) for error in errors)
        if not errors:
            track_update(old, new, manager="m", schema=kind.merge_schema, now=NOW)
    except ApiError:
        return False
    return not errors


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(range(len(SEEDS))), st.data())
def test_odd_objects_are_answered(number: int, data: st.DataObject) -> None:
    kind, fields = SEEDS[number]
    whole = obj(kind, **fields)
    try:
        created = spoil(whole, data)
        if write(kind, created, None):
            write(kind, spoil(created, data), created)
            applied = spoil(whole, data)
            kind.prune(applied)
            server_side_apply(created, applied, manager="a", force=True, schema=kind.merge_schema, now=NOW)
    except ApiError:
        pass
    finally:
        kind.release(whole)


@pytest.mark.parametrize(
    "schema",
    [
        [],
        {"type": 5},
        {"properties": []},
        {"properties": {"a": None}},
        {"required": [1]},
        {"required": "a"},
        {"items": 1},
        {"anyOf": [1]},
        {"minimum": "1"},
        {"maxLength": True},
        {"x-kubernetes-validations": ["self.a"]},
        {"x-kubernetes-validations": [{"rule": 1}]},
    ],
)
def test_schemas_of_a_wrong_shape_are_a_400(schema: Any) -> None:
    crd = copy.deepcopy(CRD)
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    with pytest.raises(BadRequest, match="JSONSchemaProps"):
        KINDS["customresourcedefinitions.apiextensions.k8s.io"].prune(crd)


@pytest.mark.parametrize(
    "sent",
    [
        "x",
        [1],
        [{"manager": 1, "operation": "Apply", "fieldsV1": {}}],
        [{"manager": "a", "operation": "Guess", "fieldsV1": {}}],
        [{"manager": "a", "operation": "Apply", "fieldsV1": {"f:a": 1}}],
        [{"manager": "a", "operation": "Apply", "fieldsV1": {"f:a": {"nonsense": {"f:b": 1}}}}],
    ],
)
def test_managed_fields_that_are_none_are_ignored(sent: Any) -> None:
    kind = KINDS["configmaps"]
    old = obj(kind, data={"a": "1"})
    track_update(None, old, manager="m", schema=kind.merge_schema, now=NOW)
    new = copy.deepcopy(old)
    new["metadata"]["managedFields"] = sent
    track_update(old, new, manager="m", schema=kind.merge_schema, now=NOW)
    assert new["metadata"]["managedFields"] == old["metadata"]["managedFields"]
