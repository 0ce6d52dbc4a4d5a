"""Deployments, StatefulSets, Jobs and their like: defaults, validation, generations."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kaito.embedded.apiserver.strategy import KindStrategy
from support.kinds import CONTAINER, changed, created, problems, workload


def test_deployment_defaults_and_generation(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["deployments.apps"]
    old = created(kind, **workload(), status={"replicas": 9})
    spec = {key: value for key, value in old["spec"].items() if key not in ("template", "selector")}
    assert spec == {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
    }
    assert old["status"] == {}
    assert old["metadata"]["generation"] == 1
    assert "enableServiceLinks" not in old["spec"]["template"]["spec"]
    assert changed(kind, old)[0]["metadata"]["generation"] == 1
    assert changed(kind, old, replicas=2)[0]["metadata"]["generation"] == 2
    annotated = copy.deepcopy(old)
    annotated["metadata"]["annotations"] = {"a": "b"}
    kind.prepare_update(annotated, old)
    kind.complete_update(annotated, old, "")
    assert annotated["metadata"]["generation"] == 2


WORKLOAD_ERRORS: list[tuple[str, dict[str, Any], str]] = [
    (
        "deployments.apps",
        workload(replicas=-1),
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "deployments.apps",
        workload(labels={"a": "c"}),
        'spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`',
    ),
    ("deployments.apps", workload(selector=None), "spec.selector: Required value"),
    (
        "deployments.apps",
        workload(selector={}),
        "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
    ),
    (
        "deployments.apps",
        workload(selector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
        "spec.selector.matchExpressions[0].values: Required value",
    ),
    (
        "deployments.apps",
        workload(template={"restartPolicy": "Never"}),
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ),
    (
        "deployments.apps",
        workload(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
        "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
    ),
    (
        "deployments.apps",
        workload(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
    ),
    (
        "deployments.apps",
        workload(progressDeadlineSeconds=5, minReadySeconds=10),
        "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
    ),
    (
        "deployments.apps",
        workload(template={"containers": []}),
        "spec.template.spec.containers: Required value",
    ),
    ("replicasets.apps", workload(labels={}), "spec.template.metadata.labels: Invalid value"),
    (
        "statefulsets.apps",
        workload(podManagementPolicy="Wild"),
        'spec.podManagementPolicy: Unsupported value: "Wild"',
    ),
    (
        "statefulsets.apps",
        workload(updateStrategy={"type": "Never"}),
        "spec.updateStrategy.type: Unsupported value",
    ),
    (
        "jobs.batch",
        {"spec": {"template": {"spec": {"containers": [CONTAINER]}}}},
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
    ),
    (
        "jobs.batch",
        {
            "spec": {
                "completionMode": "Indexed",
                "parallelism": 2,
                "template": {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}},
            }
        },
        "spec.completions: Required value: when completion mode is Indexed",
    ),
    (
        "jobs.batch",
        workload(template={"restartPolicy": "Never"}),
        "`selector` not auto-generated",
    ),
    (
        "cronjobs.batch",
        {
            "spec": {
                "schedule": "often",
                "jobTemplate": {
                    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}}
                },
            }
        },
        "spec.schedule: Invalid value",
    ),
    ("poddisruptionbudgets.policy", {"spec": {"minAvailable": 1, "maxUnavailable": 1}}, "cannot be both set"),
    ("poddisruptionbudgets.policy", {"spec": {"minAvailable": "half"}}, "a valid percent string"),
]


@pytest.mark.parametrize(
    ("name", "fields", "text"), WORKLOAD_ERRORS, ids=[str(i) for i in range(len(WORKLOAD_ERRORS))]
)
def test_workloads_that_are_refused(
    kinds: dict[str, KindStrategy], name: str, fields: Any, text: str
) -> None:
    found = problems(kinds[name], **fields)
    assert any(text in message for message in found), found


def test_selectors_never_change(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["deployments.apps"]
    old = created(kind, **workload(labels={"a": "b", "c": "d"}))
    found = changed(kind, old, selector={"matchLabels": {"c": "d"}})[1]
    assert found == ['spec.selector: Invalid value: {"matchLabels":{"c":"d"}}: field is immutable']


def test_most_of_a_stateful_set_never_changes(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["statefulsets.apps"]
    old = created(kind, **workload(serviceName="s"))
    assert old["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert old["spec"]["podManagementPolicy"] == "OrderedReady"
    assert changed(kind, old, replicas=3)[1] == []
    assert changed(kind, old, serviceName="t")[1][0].startswith(
        "spec: Forbidden: updates to statefulset spec"
    )


def test_a_job_selects_by_its_uid(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["jobs.batch"]
    template = {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}
    old = created(kind, spec={"template": template})
    assert old["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert old["spec"]["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": "u-1",
        "controller-uid": "u-1",
        "batch.kubernetes.io/job-name": "x",
        "job-name": "x",
    }
    numbers = {key: value for key, value in old["spec"].items() if key not in ("selector", "template")}
    assert numbers == {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "TerminatingOrFailed",
        "manualSelector": False,
    }
    assert [str(error) for error in kind.validate(old)] == []
    assert changed(kind, old, parallelism=0)[1] == []
    assert changed(kind, old, completions=5)[1] == ["spec.completions: Invalid value: 5: field is immutable"]
    other = copy.deepcopy(old["spec"]["template"])
    other["spec"]["containers"][0]["image"] = "other"
    assert "spec.template: Invalid value" in changed(kind, old, template=other)[1][0]
