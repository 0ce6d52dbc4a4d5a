"""Builtin kinds: defaults, validation, what may change, generations."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kaito.embedded.apiserver.kinds.registry import builtin_strategies
from kaito.embedded.apiserver.strategy import KindStrategy
from kaito.runtime.errors import BadRequest, Invalid

CONTAINER = {"name": "c", "image": "i"}


@pytest.fixture(name="kinds")
def _kinds() -> dict[str, KindStrategy]:
    return {kind.resource.name: kind for kind in builtin_strategies()}


def obj(kind: KindStrategy, **fields: Any) -> dict[str, Any]:
    resource = kind.resource
    meta = {"name": "x", "uid": "u-1"} | ({"namespace": "n"} if resource.namespaced else {})
    return copy.deepcopy(
        {"apiVersion": resource.api_version, "kind": resource.kind, **fields}
        | {"metadata": meta | fields.get("metadata", {})}
    )


def created(kind: KindStrategy, **fields: Any) -> dict[str, Any]:
    new = obj(kind, **fields)
    assert kind.prune(new) == []
    kind.prepare_create(new)
    return new


def problems(kind: KindStrategy, **fields: Any) -> list[str]:
    return [str(error) for error in kind.validate(created(kind, **fields))]


def changed(kind: KindStrategy, old: dict[str, Any], **spec: Any) -> tuple[dict[str, Any], list[str]]:
    new = copy.deepcopy(old)
    for key, value in spec.items():
        new["spec"].pop(key, None)
        if value is not None:
            new["spec"][key] = value
    kind.prune(new)
    kind.prepare_update(new, old)
    return new, [str(error) for error in kind.validate(new, old)]


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [CONTAINER], **spec}}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{**CONTAINER, **fields}])


def workload(labels: Any = None, template: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"} if labels is None else labels},
                "spec": {"containers": [CONTAINER], **(template or {})},
            },
            **spec,
        }
    }


# --- decoding -------------------------------------------------------------------------------------------------


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


# --- metadata -------------------------------------------------------------------------------------------------


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
        ({"ownerReferences": [{"kind": "A", "name": "a"}]}, "metadata.ownerReferences[0].apiVersion"),
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
    assert [error.path for error in kind.validate(new, old)] == [f"metadata.{field}"]


# --- pods -----------------------------------------------------------------------------------------------------


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
    assert "existing toleration can not be modified" in changed(kind, old, tolerations=more[1:])[1][0]


# --- workloads ------------------------------------------------------------------------------------------------


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
    }
    assert [str(error) for error in kind.validate(old)] == []
    assert changed(kind, old, parallelism=0)[1] == []
    assert changed(kind, old, completions=5)[1] == ["spec.completions: Invalid value: 5: field is immutable"]
    other = copy.deepcopy(old["spec"]["template"])
    other["spec"]["containers"][0]["image"] = "other"
    assert "spec.template: Invalid value" in changed(kind, old, template=other)[1][0]


# --- configuration --------------------------------------------------------------------------------------------


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
        ("nodes", {"spec": {"taints": [{"key": "a", "effect": "Scare"}]}}, "spec.taints[0].effect"),
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
    "name", ["validatingwebhookconfigurations.admissionregistration.k8s.io", "resourcequotas", "limitranges"]
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


# --- services -------------------------------------------------------------------------------------------------


def service(**spec: Any) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": 80}], **spec}}


def test_service_defaults(kinds: dict[str, KindStrategy]) -> None:
    new = created(kinds["services"], **service(selector={"a": "b"}))
    address = new["spec"]["clusterIP"]
    assert address.startswith("10.96.")
    assert new["spec"] == {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "selector": {"a": "b"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert new["status"] == {"loadBalancer": {}}
    other = created(kinds["services"], **service(), metadata={"name": "y", "uid": "u-2"})
    assert other["spec"]["clusterIP"] != address


def test_addresses_are_given_back(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["services"]
    first = created(kind, **service(clusterIP="10.96.7.7"))
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        created(kind, **service(clusterIP="10.96.7.7"), metadata={"name": "y", "uid": "u-2"})
    kind.release(first)
    assert created(kind, **service(clusterIP="10.96.7.7"), metadata={"name": "y", "uid": "u-2"})["spec"][
        "clusterIPs"
    ] == ["10.96.7.7"]
    with pytest.raises(Invalid, match="is not in the valid range"):
        created(kind, **service(clusterIP="1.2.3.4"), metadata={"name": "z", "uid": "u-3"})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"ports": []}, "spec.ports: Required value"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name: Required value"),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, "spec.ports[1]: Duplicate value"),
        ({"ports": [{"port": 80, "protocol": "X"}]}, 'spec.ports[0].protocol: Unsupported value: "X"'),
        ({"ports": [{"port": 80, "targetPort": "Http"}]}, "spec.ports[0].targetPort: Invalid value"),
        (
            {"ports": [{"port": 80, "nodePort": 30000}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ({"type": "Magic"}, 'spec.type: Unsupported value: "Magic"'),
        ({"sessionAffinity": "Cookie"}, 'spec.sessionAffinity: Unsupported value: "Cookie"'),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"type": "NodePort", "clusterIP": "None"},
            "may not be set to 'None' for NodePort and LoadBalancer services",
        ),
        ({"selector": {"a b": "c"}}, "spec.selector: Invalid value"),
    ],
)
def test_services_that_are_refused(kinds: dict[str, KindStrategy], spec: Any, text: str) -> None:
    found = problems(kinds["services"], **service(**spec))
    assert any(text in message for message in found), found


def test_service_names_are_stricter(kinds: dict[str, KindStrategy]) -> None:
    assert "a DNS-1035 label" in problems(kinds["services"], **service(), metadata={"name": "1x"})[0]


def test_headless_and_external_services_have_no_address(kinds: dict[str, KindStrategy]) -> None:
    headless = created(kinds["services"], **service(clusterIP="None"))
    assert (headless["spec"]["clusterIP"], headless["spec"]["clusterIPs"]) == ("None", ["None"])
    external = created(kinds["services"], spec={"type": "ExternalName", "externalName": "a.example"})
    assert external["spec"] == {
        "type": "ExternalName",
        "externalName": "a.example",
        "sessionAffinity": "None",
    }


def test_the_address_of_a_service_stays(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["services"]
    old = created(kind, **service())
    address = old["spec"]["clusterIP"]
    new, found = changed(kind, old, clusterIP=None, clusterIPs=None)
    assert (new["spec"]["clusterIPs"], found) == ([address], [])
    found = changed(kind, old, clusterIP="10.96.9.9", clusterIPs=["10.96.9.9"])[1]
    assert found == ['spec.clusterIPs[0]: Invalid value: ["10.96.9.9"]: may not change once set']


def test_node_ports_come_and_go_with_the_type(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["services"]
    old = created(kind, **service(type="NodePort"))
    port = old["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port < 32768
    kept, found = changed(kind, old, ports=[{"port": 80}])
    assert (kept["spec"]["ports"][0]["nodePort"], found) == (port, [])
    plain, found = changed(kind, old, type="ClusterIP")
    assert ("nodePort" in plain["spec"]["ports"][0], found) == (False, [])
    balanced, found = changed(kind, plain, type="LoadBalancer")
    assert found == []
    assert balanced["spec"]["allocateLoadBalancerNodePorts"] is True
    assert balanced["spec"]["ports"][0]["nodePort"] >= 30000
