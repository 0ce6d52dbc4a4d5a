"""Builtin objects as they are decoded, and metadata."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kaito.embedded.apiserver.strategy import KindStrategy
from kaito.runtime.errors import BadRequest
from support.kinds import CONTAINER, container, created, obj, pod, problems, workload


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        (
            "pods",
            pod(containers={}),
            r"cannot unmarshal object into Go struct field PodSpec.spec.containers of type \[\]v1",
        ),
        (
            "pods",
            pod(nodeName=1),
            "cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string",
        ),
        (
            "pods",
            pod(hostNetwork="yes"),
            "cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            "deployments.apps",
            workload(replicas="3"),
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        ("deployments.apps", workload(replicas=1.5), "cannot unmarshal number 1.5 into"),
        ("deployments.apps", workload(replicas=1 << 40), "cannot unmarshal number into"),
        ("configmaps", {"data": {"a": 1}}, "ConfigMap.data.a of type string"),
        ("secrets", {"data": {"a": "not base64!"}}, "illegal base64 data at input byte 0"),
        (
            "pods",
            container(resources={"limits": {"cpu": "lots"}}),
            "quantities must match the regular expression",
        ),
        ("pods", {"spec": "x"}, r"cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec"),
        ("leases.coordination.k8s.io", {"spec": {"renewTime": "now"}}, "parsing time"),
    ],
)
def test_wrong_types_are_a_400(kinds: dict[str, KindStrategy], name: str, fields: Any, text: str) -> None:
    kind = kinds[name]
    with pytest.raises(BadRequest, match=text) as caught:
        kind.prune(obj(kind, **fields))
    assert caught.value.message.startswith(f'{kind.resource.kind} in version "v1" cannot be handled as a')


def test_unknown_fields_are_named_and_dropped(kinds: dict[str, KindStrategy]) -> None:
    new = obj(
        kinds["deployments.apps"],
        **workload(template={"containers": [{**CONTAINER, "imagee": "x"}]}, replica=1),
    )
    assert kinds["deployments.apps"].prune(new) == ["spec.template.spec.containers[0].imagee", "spec.replica"]
    assert "replica" not in new["spec"]


def test_what_the_typed_form_does_not_keep_is_dropped(kinds: dict[str, KindStrategy]) -> None:
    spec = pod(hostNetwork=False, nodeName="", tolerations=[], terminationGracePeriodSeconds=0, affinity=None)
    new = obj(kinds["pods"], **spec)
    kinds["pods"].prune(new)
    assert new["spec"] == {"containers": [CONTAINER], "terminationGracePeriodSeconds": 0}


def test_quantities_get_their_canonical_spelling(kinds: dict[str, KindStrategy]) -> None:
    new = obj(
        kinds["pods"],
        **container(resources={"limits": {"cpu": 0.5, "memory": "1024Mi", "nvidia.com/gpu": 1}}),
    )
    kinds["pods"].prune(new)
    limits = new["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ({"name": "Bad"}, 'metadata.name: Invalid value: "Bad": a lowercase RFC 1123 subdomain'),
        ({"name": ""}, "metadata.name: Required value: name or generateName is required"),
        ({"name": "a" * 254}, "must be no more than 253 characters"),
        ({"generateName": "Bad-"}, "metadata.generateName: Invalid value"),
        ({"namespace": ""}, "metadata.namespace: Required value"),
        ({"labels": {"a b": "1"}}, 'metadata.labels: Invalid value: "a b": name part must consist of'),
        ({"labels": {"a": "b c"}}, 'metadata.labels: Invalid value: "b c": a valid label must be'),
        ({"labels": {"a/b/c": "1"}}, "with an optional DNS subdomain prefix"),
        ({"annotations": {"a b": "1"}}, "metadata.annotations: Invalid value"),
        ({"annotations": {"a": "x" * 300_000}}, "metadata.annotations: Too long"),
        ({"finalizers": ["mine"]}, "name is neither a standard finalizer name nor is it fully qualified"),
        ({"ownerReferences": [{"kind": "A", "name": "a"}]}, "metadata.ownerReferences.apiVersion"),
        (
            {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "A", "name": f"a{i}", "uid": f"{i}", "controller": True}
                    for i in range(2)
                ]
            },
            "Only one reference can have Controller set to true",
        ),
    ],
)
def test_metadata(kinds: dict[str, KindStrategy], meta: Any, text: str) -> None:
    found = problems(kinds["configmaps"], metadata=meta)
    assert any(text in message for message in found), found


def test_cluster_scoped_objects_have_no_namespace(kinds: dict[str, KindStrategy]) -> None:
    assert problems(kinds["nodes"], metadata={"namespace": "n"}) == [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]


@pytest.mark.parametrize("field", ["name", "namespace", "uid", "creationTimestamp"])
def test_identity_never_changes(kinds: dict[str, KindStrategy], field: str) -> None:
    kind = kinds["configmaps"]
    old = created(kind, metadata={"creationTimestamp": "2026-01-01T00:00:00Z"})
    new = copy.deepcopy(old)
    new["metadata"][field] = "other"
    kind.prepare_update(new, old)
    # Said twice, as by Kubernetes, which checks once for all kinds and once for this one.
    assert [error.path for error in kind.validate(new, old)] == 2 * [f"metadata.{field}"]
