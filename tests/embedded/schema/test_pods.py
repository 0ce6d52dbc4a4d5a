"""Pods: defaults, validation, what may change."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.embedded.apiserver.strategy import KindStrategy
from support.kinds import CONTAINER, changed, container, created, pod, problems


def test_pod_defaults(kinds: dict[str, KindStrategy]) -> None:
    new = created(
        kinds["pods"],
        **container(ports=[{"containerPort": 80}], readinessProbe={"httpGet": {"port": 80}}, image="r/x:1"),
    )
    spec = new["spec"]
    assert spec["containers"] == [
        {
            "name": "c",
            "image": "r/x:1",
            "imagePullPolicy": "IfNotPresent",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "readinessProbe": {
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1,
                "periodSeconds": 10,
                "successThreshold": 1,
                "failureThreshold": 3,
            },
        }
    ]
    del spec["containers"]
    assert [item["tolerationSeconds"] for item in spec.pop("tolerations")] == [300, 300]
    assert spec == {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    assert new["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert new["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("x", "Always"),
        ("x:latest", "Always"),
        ("x:1", "IfNotPresent"),
        ("localhost:5000/x", "Always"),
        ("x@sha256:aa", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(kinds: dict[str, KindStrategy], image: str, policy: str) -> None:
    assert (
        created(kinds["pods"], **container(image=image))["spec"]["containers"][0]["imagePullPolicy"] == policy
    )


@pytest.mark.parametrize(
    ("resources", "qos", "requests"),
    [
        ({}, "BestEffort", None),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed", {"cpu": "1", "memory": "1Gi"}),
        ({"requests": {"cpu": "1"}}, "Burstable", {"cpu": "1"}),
        ({"limits": {"nvidia.com/gpu": "1"}}, "BestEffort", {"nvidia.com/gpu": "1"}),
    ],
)
def test_requests_follow_limits(
    kinds: dict[str, KindStrategy], resources: Any, qos: str, requests: Any
) -> None:
    new = created(kinds["pods"], **container(resources=resources))
    assert new["status"]["qosClass"] == qos
    assert new["spec"]["containers"][0]["resources"].get("requests") == requests


C0 = "spec.containers[0]"
POD_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"spec": {}}, "spec.containers: Required value"),
    (container(name="C"), f'{C0}.name: Invalid value: "C": a lowercase RFC 1123 label'),
    (container(name=""), f"{C0}.name: Required value"),
    (container(image=""), f"{C0}.image: Required value"),
    (container(image=" x"), f'{C0}.image: Invalid value: " x": must not have leading or trailing whitespace'),
    (pod(containers=[CONTAINER, CONTAINER]), 'spec.containers[1].name: Duplicate value: "c"'),
    (pod(initContainers=[CONTAINER]), f'{C0}.name: Duplicate value: "c"'),
    (container(ports=[{"containerPort": 0}]), f"{C0}.ports[0].containerPort: Required value"),
    (
        container(ports=[{"containerPort": 70000}]),
        f"{C0}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ),
    (
        container(ports=[{"containerPort": 80, "protocol": "HTTP"}]),
        f'{C0}.ports[0].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"',
    ),
    (container(ports=[{"containerPort": 80, "name": "Http"}]), f"{C0}.ports[0].name: Invalid value"),
    (container(env=[{"name": ""}]), f"{C0}.env[0].name: Required value"),
    (container(env=[{"name": "a=b"}]), f'{C0}.env[0].name: Invalid value: "a=b"'),
    (
        container(
            env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
        ),
        f'{C0}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty',
    ),
    (container(env=[{"name": "A", "valueFrom": {}}]), f"{C0}.env[0].valueFrom: Invalid value"),
    (
        container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
        f'{C0}.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.x"',
    ),
    (
        container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]),
        f"{C0}.env[0].valueFrom.secretKeyRef.key: Required value",
    ),
    (container(envFrom=[{}]), f"{C0}.envFrom[0]: Invalid value"),
    (
        container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        f'{C0}.volumeMounts[0].name: Not found: "v"',
    ),
    (container(livenessProbe={}), f"{C0}.livenessProbe: Required value: must specify a handler type"),
    (
        container(livenessProbe={"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}),
        f"{C0}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
    ),
    (
        container(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
        f"{C0}.livenessProbe.successThreshold: Invalid value: 2: must be 1",
    ),
    (
        container(readinessProbe={"httpGet": {"port": 0}}),
        f"{C0}.readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
    ),
    (container(imagePullPolicy="Sometimes"), f'{C0}.imagePullPolicy: Unsupported value: "Sometimes"'),
    (
        container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
        f'{C0}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
    ),
    (container(resources={"limits": {"cpu": "-1"}}), "must be greater than or equal to 0"),
    (container(resources={"limits": {"gpu": "1"}}), "must be a standard resource type or fully qualified"),
    (container(resources={"limits": {"nvidia.com/gpu": "0.5"}}), "must be an integer"),
    (
        container(resources={"requests": {"nvidia.com/gpu": "1"}}),
        f"{C0}.resources.limits: Required value: Limit must be set for non overcommitable resources",
    ),
    (pod(restartPolicy="Maybe"), 'spec.restartPolicy: Unsupported value: "Maybe"'),
    (pod(dnsPolicy="Maybe"), 'spec.dnsPolicy: Unsupported value: "Maybe"'),
    (pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds: Invalid value: -1"),
    (pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds: Invalid value: 0"),
    (pod(nodeSelector={"a": "b c"}), 'spec.nodeSelector: Invalid value: "b c"'),
    (pod(hostname="A"), 'spec.hostname: Invalid value: "A"'),
    (pod(tolerations=[{"operator": "Equal"}]), "spec.tolerations[0].operator: Invalid value"),
    (
        pod(tolerations=[{"key": "a", "operator": "Like"}]),
        'spec.tolerations[0].operator: Unsupported value: "Like"',
    ),
    (
        pod(tolerations=[{"key": "a", "effect": "Hide"}]),
        'spec.tolerations[0].effect: Unsupported value: "Hide"',
    ),
    (pod(volumes=[{"name": "V"}]), 'spec.volumes[0].name: Invalid value: "V"'),
    (
        pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
        "may not specify more than 1 volume type",
    ),
    (pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]), "must not contain '..'"),
    (pod(volumes=[{"name": "v", "configMap": {}}]), "spec.volumes[0].configMap.name: Required value"),
    (pod(volumes=[{"name": "v"}, {"name": "v"}]), 'spec.volumes[1].name: Duplicate value: "v"'),
    (
        pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
        "must have at least one node selector term",
    ),
    (
        pod(
            affinity={
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}
            }
        ),
        "topologyKey: Required value: can not be empty",
    ),
    (pod(topologySpreadConstraints=[{}]), "spec.topologySpreadConstraints[0].maxSkew: Invalid value"),
    (pod(ephemeralContainers=[CONTAINER]), "ephemeral containers are not implemented by this API server"),
]


@pytest.mark.parametrize(("fields", "text"), POD_ERRORS, ids=[str(i) for i in range(len(POD_ERRORS))])
def test_pods_that_are_refused(kinds: dict[str, KindStrategy], fields: Any, text: str) -> None:
    found = problems(kinds["pods"], **fields)
    assert any(text in message for message in found), found


def test_a_pod_of_every_kind_of_thing_passes(kinds: dict[str, KindStrategy]) -> None:
    fields = pod(
        initContainers=[{"name": "init", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        containers=[
            {
                **CONTAINER,
                "ports": [{"containerPort": 5000, "name": "http"}],
                "env": [{"name": "A.b-c", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "c"}}],
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
                "startupProbe": {"exec": {"command": ["true"]}},
                "resources": {"limits": {"nvidia.com/gpu": 1}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "shm", "mountPath": "/dev/shm"}],
            }
        ],
        volumes=[
            {"name": "v", "hostPath": {"path": "/x"}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
        tolerations=[
            {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
            {"operator": "Exists"},
        ],
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
                    ]
                }
            }
        },
    )
    assert problems(kinds["pods"], **fields) == []


def test_only_some_fields_of_a_pod_may_change(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["pods"]
    old = created(kind, **pod(activeDeadlineSeconds=10))
    new, found = changed(kind, old, containers=[{**old["spec"]["containers"][0], "image": "other"}])
    assert found == []
    assert new["metadata"]["generation"] == 2
    assert changed(kind, old, activeDeadlineSeconds=5)[1] == []
    assert "must be less than or equal" in changed(kind, old, activeDeadlineSeconds=50)[1][0]
    assert "may not change fields other than" in changed(kind, old, hostname="h")[1][0]
    assert (
        "may not add or remove containers"
        in changed(kind, old, containers=[CONTAINER, {**CONTAINER, "name": "d"}])[1][0]
    )
    more = [*old["spec"]["tolerations"], {"key": "x", "operator": "Exists"}]
    assert changed(kind, old, tolerations=more)[1] == []
    tolerant = changed(kind, old, tolerations=more)[0]
    fewer = tolerant["spec"]["tolerations"][:-1]
    assert "existing toleration can not be modified" in changed(kind, tolerant, tolerations=fewer)[1][0]
    # Those of admission come back by themselves.
    assert changed(kind, old, tolerations=[])[1] == []
