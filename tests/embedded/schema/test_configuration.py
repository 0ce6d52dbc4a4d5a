"""ConfigMaps, Secrets, Namespaces, Events and other small kinds."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kaito.embedded.apiserver.strategy import KindStrategy
from support.kinds import created, obj, problems, workload


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("configmaps", {"data": {"a b": "1"}}, 'data[a b]: Invalid value: "a b": a valid config key'),
        ("configmaps", {"data": {"..a": "1"}}, "must not start with '..'"),
        (
            "configmaps",
            {"data": {"a": "1"}, "binaryData": {"a": "AA=="}},
            "duplicate of key present in binaryData",
        ),
        ("configmaps", {"data": {"a": "x" * (1 << 20 | 1)}}, "Too long: may not be more than 1048576 bytes"),
        ("secrets", {"data": {"a/b": "AA=="}}, "data[a/b]: Invalid value"),
        (
            "secrets",
            {"type": "kubernetes.io/tls", "data": {"tls.crt": "AA=="}},
            "data[tls.key]: Required value",
        ),
        (
            "roles.rbac.authorization.k8s.io",
            {"rules": [{"resources": ["pods"]}]},
            "rules[0].verbs: Required value",
        ),
        (
            "rolebindings.rbac.authorization.k8s.io",
            {"roleRef": {"kind": "Pod", "name": "x"}},
            'roleRef.kind: Unsupported value: "Pod"',
        ),
        ("leases.coordination.k8s.io", {"spec": {"leaseDurationSeconds": 0}}, "must be greater than 0"),
        ("events", {"involvedObject": {"namespace": "other"}}, "does not match event.namespace"),
        ("endpointslices.discovery.k8s.io", {"addressType": "MAC"}, 'addressType: Unsupported value: "MAC"'),
        ("nodes", {"spec": {"taints": [{"key": "a", "effect": "Scare"}]}}, "metadata.taints[0].effect"),
        ("persistentvolumeclaims", {"spec": {}}, "spec.accessModes: Required value"),
    ],
)
def test_other_objects_that_are_refused(
    kinds: dict[str, KindStrategy], name: str, fields: Any, text: str
) -> None:
    found = problems(kinds[name], **fields)
    assert any(text in message for message in found), found


def test_secrets_fold_string_data_in(kinds: dict[str, KindStrategy]) -> None:
    new = created(kinds["secrets"], data={"a": "MQ==", "b": "MQ=="}, stringData={"b": "2"})
    assert (new["type"], new["data"]) == ("Opaque", {"a": "MQ==", "b": "Mg=="})
    assert "stringData" not in new


@pytest.mark.parametrize("name", ["configmaps", "secrets"])
def test_immutable_data(kinds: dict[str, KindStrategy], name: str) -> None:
    kind = kinds[name]
    old = created(kind, data={"a": "AAAA"}, immutable=True)
    new = copy.deepcopy(old)
    new["data"] = {"a": "BBBB"}
    kind.prepare_update(new, old)
    assert [str(error) for error in kind.validate(new, old)] == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]


def test_a_namespace_is_active_and_labelled(kinds: dict[str, KindStrategy]) -> None:
    new = created(kinds["namespaces"])
    assert new["spec"] == {"finalizers": ["kubernetes"]}
    assert new["status"] == {"phase": "Active"}
    assert new["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}


def test_both_kinds_of_event_are_one(kinds: dict[str, KindStrategy]) -> None:
    new, core = kinds["events.events.k8s.io"], kinds["events"]
    event = created(new, regarding={"kind": "Pod", "namespace": "n"}, note="hello", reportingController="k")
    stored = new.to_storage(copy.deepcopy(event))
    assert (stored["apiVersion"], stored["message"], stored["involvedObject"]) == (
        "v1",
        "hello",
        {"kind": "Pod", "namespace": "n"},
    )
    assert core.prune(copy.deepcopy(stored)) == []
    assert new.from_storage(stored) == event


@pytest.mark.parametrize(
    "name", ["validatingadmissionpolicies.admissionregistration.k8s.io", "resourcequotas", "limitranges"]
)
def test_what_would_have_no_effect_is_refused_by_name(kinds: dict[str, KindStrategy], name: str) -> None:
    kind = kinds[name]
    assert kind.refuse(obj(kind)).startswith(f"{kind.resource.kind} is not implemented by this API server")


def test_the_status_of_a_builtin_is_apart(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["deployments.apps"]
    old = created(kind, **workload())
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 9
    new["metadata"]["labels"] = {"x": "y"}
    new["status"] = {"replicas": 1}
    kind.prune(new)
    kind.prepare_status_update(new, old)
    assert new == {**old, "status": {"replicas": 1}}
    assert kind.validate(new, old, "status") == []
