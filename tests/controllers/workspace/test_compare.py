"""In sync or not: hash, fields, quantities, lists by key."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.controllers.workspace.compare import desired_hash, difference, in_sync, same_quantity, stamped

Object = dict[str, Any]

DESIRED: Object = stamped(
    {
        "kind": "Deployment",
        "metadata": {"name": "phi", "labels": {"a": "b"}},
        "spec": {
            "replicas": 1,
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "phi",
                            "args": ["--a", "--b"],
                            "ports": [{"name": "http", "containerPort": 5000, "protocol": "TCP"}],
                            "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}},
                            "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": False}],
                        }
                    ],
                    "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu"}],
                }
            },
        },
    }
)


POD = ("spec", "template", "spec")


def live() -> Object:
    """The same after the API server has filled in what it fills in."""
    obj = copy.deepcopy(DESIRED)
    obj["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": [{}]}
    obj["spec"]["progressDeadlineSeconds"] = 600
    spec = obj["spec"]["template"]["spec"]
    spec["dnsPolicy"] = "ClusterFirst"
    container = spec["containers"][0]
    container["imagePullPolicy"] = "IfNotPresent"
    container["resources"]["limits"] = {"nvidia.com/gpu": "1", "memory": "1024Mi"}
    del container["volumeMounts"][0]["readOnly"]
    container["ports"].insert(0, {"containerPort": 9, "protocol": "TCP"})
    spec["containers"].insert(0, {"name": "injected"})
    spec["volumes"] = [{"name": "token"}]
    return obj


def test_what_servers_add_does_not_matter() -> None:
    assert difference(DESIRED, live()) is None


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ((*POD, "containers", 1, "args"), ["--b", "--a"], "spec.template.spec.containers.0.args.0"),
        ((*POD, "containers", 1, "args"), ["--a"], "spec.template.spec.containers.0.args"),
        (("spec", "replicas"), 2, "spec.replicas"),
        (("metadata", "labels"), {}, "metadata.labels.a"),
        (
            ("metadata", "annotations", "kaito.sh/desired-hash"),
            "0",
            "metadata.annotations.kaito.sh/desired-hash",
        ),
        ((*POD, "tolerations"), [], "spec.template.spec.tolerations"),
        ((*POD, "containers"), [], "spec.template.spec.containers.0"),
        (
            (*POD, "containers", 1, "resources", "limits", "memory"),
            "2Gi",
            "spec.template.spec.containers.0.resources.limits.memory",
        ),
        (
            (*POD, "containers", 1, "ports"),
            "x",
            "spec.template.spec.containers.0.ports",
        ),
        (("spec",), None, "spec"),
    ],
)
def test_what_somebody_changed_is_found(path: tuple[str | int, ...], value: object, found: str) -> None:
    obj: Any = live()
    target = obj
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    assert difference(DESIRED, obj) == found
    assert not in_sync(DESIRED, obj)


def test_what_is_no_longer_wanted_shows_in_the_hash() -> None:
    before = stamped({"metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}})
    after = stamped({"metadata": {"name": "a"}, "spec": {"x": 1}})
    assert not in_sync(after, before)
    assert desired_hash({"a": 1, "b": 2}) == desired_hash({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1", 1, True),
        ("1000m", "1", True),
        ("1Gi", "1024Mi", True),
        ("1G", "1Gi", False),
        ("1e3", "1k", True),
        ("0.5", "500m", True),
        ("2E", "2000P", True),
        ("100n", "0.1u", True),
        ("", "", True),
        ("nonsense", "1", False),
    ],
)
def test_quantities(left: object, right: object, same: bool) -> None:
    assert same_quantity(left, right) is same


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(min_size=1, max_size=5), children, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), trees, max_size=4))
def test_everything_is_in_sync_with_itself(tree: Object) -> None:
    assert in_sync(tree, copy.deepcopy(tree))
