"""Who else is in the cluster, and whether that is in the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaito.cli.beside.rights import OPERATOR_RIGHTS, PROVISIONER_RIGHTS
from kaito.cli.beside.rules import GO_WEBHOOK, Installation, Kind, conflicts, kind_of, refusal

Object = dict[str, Any]

NOW = datetime(2026, 11, 21, 13, 0, 0, tzinfo=UTC)
OPERATOR = Installation("kaito-system", workspaces=True, claims=False)
PROVISIONER = Installation("kaito-system", workspaces=False, claims=True)
BOTH = Installation("kaito-system", workspaces=True, claims=True)
ALL = (OPERATOR, PROVISIONER, BOTH)


def deployment(
    name: str,
    namespace: str,
    image: str = "example.com/other:1",
    *,
    labels: dict[str, str] | None = None,
    replicas: int | None = 1,
    args: list[str] | None = None,
    env: tuple[str, ...] = (),
) -> Object:
    container: Object = {"name": "main", "image": image, "args": args or []}
    container["env"] = [{"name": each, "value": "x"} for each in env]
    spec: Object = {"template": {"spec": {"containers": [container]}}}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}, "spec": spec}


def ours(component: str, namespace: str, *args: str) -> Object:
    labels = {"app.kubernetes.io/name": "kaito", "app.kubernetes.io/component": component}
    return deployment(f"kaito-{component}", namespace, labels=labels, args=[component, *args])


CHART = deployment("workspace", "kaito-workspace", "mcr.microsoft.com/aks/kaito/workspace:0.12.0")
MIRRORED = deployment(
    "workspace",
    "tools",
    "registry.example:5000/mirror/ws@sha256:" + "0" * 64,
    labels={"app.kubernetes.io/name": "workspace"},
    env=("CLOUD_PROVIDER", "WEBHOOK_SERVICE", "PRESET_REGISTRY_NAME"),
)
ADD_ON = deployment("kaito-workspace", "kube-system", "mcr.microsoft.com/oss/v2/kaito/workspace:v0.9")
ADD_ON_PROVISIONER = deployment("kaito-gpu-provisioner", "kube-system")
KUSTOMIZE = deployment("kaito-controller-manager", "kaito-system", "controller:latest")
CALLED_KAITO = deployment(
    "manager",
    "tools",
    "registry.example:5000/kaito/workspace:0.12.0",
    labels={"app.kubernetes.io/name": "kaito", "app.kubernetes.io/component": "manager"},
)
GPU_PROVISIONER = deployment(
    "gpu-provisioner", "gpu-provisioner", labels={"app.kubernetes.io/name": "gpu-provisioner"}
)
MIRRORED_PROVISIONER = deployment("gp", "tools", "registry.example:5000/gpu-provisioner:0.4.3")
ELSEWHERE = ours("operator", "kaito-old")
PROVISIONER_ELSEWHERE = ours("provisioner", "kaito-old")


@pytest.mark.parametrize(
    ("found", "kind", "in_the_way_of"),
    [
        (CHART, Kind.GO_OPERATOR, {OPERATOR, BOTH}),
        (MIRRORED, Kind.GO_OPERATOR, {OPERATOR, BOTH}),
        (ADD_ON, Kind.GO_OPERATOR, {OPERATOR, BOTH}),
        (KUSTOMIZE, Kind.GO_OPERATOR, {OPERATOR, BOTH}),
        (CALLED_KAITO, Kind.GO_OPERATOR, {OPERATOR, BOTH}),
        (deployment("kaito", "shop", labels=CALLED_KAITO["metadata"]["labels"]), None, set()),
        (GPU_PROVISIONER, Kind.GPU_PROVISIONER, {PROVISIONER, BOTH}),
        (MIRRORED_PROVISIONER, Kind.GPU_PROVISIONER, {PROVISIONER, BOTH}),
        (ADD_ON_PROVISIONER, Kind.GPU_PROVISIONER, {PROVISIONER, BOTH}),
        (ELSEWHERE, Kind.OPERATOR, {OPERATOR, BOTH}),
        (ours("operator", "kaito-old", "--cloud-provider=none"), Kind.OPERATOR, {OPERATOR, BOTH}),
        (ours("operator", "kaito-old", "--cloud-provider=existing"), Kind.OPERATOR, set(ALL)),
        (ours("operator", "kaito-system", "--cloud-provider", "existing"), Kind.OPERATOR, {PROVISIONER}),
        (ours("operator", "kaito-system"), Kind.OPERATOR, set()),
        (PROVISIONER_ELSEWHERE, Kind.PROVISIONER, {PROVISIONER, BOTH}),
        (ours("provisioner", "kaito-system"), Kind.PROVISIONER, {BOTH}),
        (
            deployment("o", "lab", "r.example/kaito/operator:1", args=["provisioner"]),
            Kind.PROVISIONER,
            {PROVISIONER, BOTH},
        ),
        (
            deployment("o", "lab", "r.example/kaito/operator:1", args=["operator"]),
            Kind.OPERATOR,
            {OPERATOR, BOTH},
        ),
        (deployment("web", "shop", "nginx"), None, set()),
        (deployment("workspace", "coder", labels={"app.kubernetes.io/name": "workspace"}), None, set()),
        (deployment("ragengine", "kaito", "mcr.microsoft.com/aks/kaito/ragengine:0.12"), None, set()),
        (deployment("karpenter", "kube-system", "mcr.microsoft.com/aks/karpenter:1"), None, set()),
    ],
)
def test_deployments(found: Object, kind: Kind | None, in_the_way_of: set[Installation]) -> None:
    assert kind_of(found) == kind
    assert {mine for mine in ALL if conflicts(mine, [found], [], [], NOW)} == in_the_way_of


@pytest.mark.parametrize("found", [CHART, ADD_ON, GPU_PROVISIONER, ELSEWHERE, PROVISIONER_ELSEWHERE])
def test_what_is_scaled_to_nothing_does_not_count(found: Object) -> None:
    stopped = {**found, "spec": {**found["spec"], "replicas": 0}}
    assert conflicts(BOTH, [stopped], [], [], NOW) == []
    defaulted = {**found, "spec": {key: each for key, each in found["spec"].items() if key != "replicas"}}
    assert len(conflicts(BOTH, [defaulted], [], [], NOW)) == 1


def lease(
    name: str, namespace: str, holder: str = "pod_uuid", *, age: float = 3.0, duration: int = 15
) -> Object:
    renewed = (NOW - timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": renewed}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    ("found", "in_the_way_of"),
    [
        (lease("ef60f9b0.io", "kaito-workspace"), {OPERATOR, BOTH}),
        (lease("ef60f9b0.io", "kaito-system"), {OPERATOR, BOTH}),
        (lease("ef60f9b0.io", "kaito-workspace", age=15.5), set()),
        (lease("ef60f9b0.io", "kaito-workspace", age=40, duration=60), {OPERATOR, BOTH}),
        (lease("ef60f9b0.io", "kaito-workspace", ""), set()),
        (lease("kaito-operator", "kaito-old"), {OPERATOR, BOTH}),
        (lease("kaito-operator", "kaito-system"), set()),
        (lease("kaito-provisioner", "kaito-old"), {PROVISIONER, BOTH}),
        (lease("kaito-provisioner", "kaito-system"), {BOTH}),
        (lease("karpenter-leader-election", "kube-system", "karpenter-5c_uuid"), set()),
        (
            lease("karpenter-leader-election", "kube-system", "kaito-gpu-provisioner-5c_uuid"),
            {PROVISIONER, BOTH},
        ),
        (lease("karpenter-leader-election", "gpu-provisioner", "x_uuid"), {PROVISIONER, BOTH}),
        (lease("gpu-provisioner-leader-election", "tools", "x_uuid"), {PROVISIONER, BOTH}),
        (lease("my-own", "kaito-old"), set()),
        ({"metadata": {"name": "ef60f9b0.io", "namespace": "n"}, "spec": {"holderIdentity": "x"}}, set()),
        ({"metadata": {"name": "ef60f9b0.io", "namespace": "n"}}, set()),
    ],
)
def test_leases(found: Object, in_the_way_of: set[Installation]) -> None:
    assert {mine for mine in ALL if conflicts(mine, [], [found], [], NOW)} == in_the_way_of


def webhook(name: str, *policies: str) -> Object:
    return {
        "metadata": {"name": name},
        "webhooks": [{"name": name, "failurePolicy": each} for each in policies],
    }


def test_the_webhook_that_go_kaito_leaves_behind() -> None:
    (found,) = conflicts(OPERATOR, [], [], [webhook(GO_WEBHOOK, "Fail")], NOW)
    assert f"kubectl delete validatingwebhookconfiguration {GO_WEBHOOK}" in str(found)
    assert len(conflicts(OPERATOR, [], [], [{"metadata": {"name": GO_WEBHOOK}, "webhooks": [{}]}], NOW)) == 1
    assert conflicts(OPERATOR, [], [], [webhook(GO_WEBHOOK, "Ignore")], NOW) == []
    assert conflicts(OPERATOR, [], [], [webhook("kaito-admission", "Fail")], NOW) == []
    assert conflicts(PROVISIONER, [], [], [webhook(GO_WEBHOOK, "Fail")], NOW) == []


def test_everything_is_told_at_once_with_what_to_do() -> None:
    held = [
        lease("ef60f9b0.io", "kaito-workspace", "workspace-6f_x"),
        lease("kaito-operator", "lab", "pod-1", age=4),
    ]
    told = refusal(conflicts(OPERATOR, [CHART, ADD_ON], held, [webhook(GO_WEBHOOK, "Fail")], NOW))
    assert told == (
        "cannot start beside what is in this cluster. Go KAITO's workspace operator runs as Deployment "
        "kaito-workspace/workspace: scale it down with `kubectl scale deployment workspace -n kaito-workspace "
        "--replicas=0`; Go KAITO's workspace operator runs as Deployment kube-system/kaito-workspace (the AKS add-on): "
        "turn the add-on off with `az aks update --resource-group GROUP --name CLUSTER "
        "--disable-ai-toolchain-operator`; another installation of this operator holds Lease lab/kaito-operator: "
        "pod-1, renewed 4 s ago: stop it; 15 s later the Lease no longer counts; ValidatingWebhookConfiguration "
        "validation.workspace.kaito.sh is left from Go KAITO, and refuses every write of a Workspace, its status "
        "included: remove it with `kubectl delete validatingwebhookconfiguration validation.workspace.kaito.sh`. See "
        "docs/from-go-kaito.md."
    ), "the chart's Lease is not told beside its Deployment"


def test_rights_name_what_is_read() -> None:
    names = {right.resource: right.names for right in OPERATOR_RIGHTS}
    assert names == {
        "deployments": (),
        "leases": ("ef60f9b0.io", "kaito-operator"),
        "validatingwebhookconfigurations": (GO_WEBHOOK,),
    }
    assert {right.resource for right in PROVISIONER_RIGHTS} == {"deployments", "leases"}
