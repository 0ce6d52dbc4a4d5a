"""The ways of monitoring: each renders, finds the operator and its models, and can be taken away again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.alerts.files import TARGET
from kaito.api.labels import WORKSPACE_LABEL
from support.kustomize import render

VARIANTS = ("kube-prometheus-stack", "azure-managed-prometheus", "scrape-annotations")
Object = dict[str, Any]


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Object]]:
    return {variant: render(TARGET / variant) for variant in VARIANTS}


@pytest.fixture(scope="module")
def pods() -> dict[str, Object]:
    """Pod templates of operator and provisioner, by component."""
    found = {}
    for folder in ("operator", "provisioner"):
        for each in render(TARGET.parent / folder):
            if each["kind"] == "Deployment":
                found[folder] = each["spec"]["template"]
    return found


@pytest.mark.parametrize("variant", VARIANTS)
class TestEvery:
    def test_everything_can_be_found_by_its_labels(
        self, rendered: dict[str, list[Object]], variant: str
    ) -> None:
        for each in rendered[variant]:
            assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "kaito", each["metadata"][
                "name"
            ]
            assert each["metadata"]["namespace"] == "kaito-system"

    def test_services_lead_to_the_metrics_port_of_the_pods(
        self, rendered: dict[str, list[Object]], pods: dict[str, Object], variant: str
    ) -> None:
        services = {
            each["metadata"]["name"]: each["spec"] for each in rendered[variant] if each["kind"] == "Service"
        }
        assert set(services) == {"kaito-operator-metrics", "kaito-provisioner-metrics"}
        for component, template in pods.items():
            spec = services[f"kaito-{component}-metrics"]
            assert spec["selector"].items() <= template["metadata"]["labels"].items()
            ports = {
                port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]
            }
            assert ports[spec["ports"][0]["targetPort"]] == spec["ports"][0]["port"] == 8080


@pytest.mark.parametrize(
    ("variant", "group"),
    [
        ("kube-prometheus-stack", "monitoring.coreos.com/v1"),
        ("azure-managed-prometheus", "azmonitoring.coreos.com/v1"),
    ],
)
class TestMonitors:
    def test_the_service_monitor_finds_the_services(
        self, rendered: dict[str, list[Object]], variant: str, group: str
    ) -> None:
        [monitor] = [each for each in rendered[variant] if each["kind"] == "ServiceMonitor"]
        assert monitor["apiVersion"] == group
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        services = [each for each in rendered[variant] if each["kind"] == "Service"]
        assert all(wanted <= each["metadata"]["labels"].items() for each in services)
        assert [each["port"] for each in monitor["spec"]["endpoints"]] == [
            services[0]["spec"]["ports"][0]["name"]
        ]

    def test_the_pod_monitor_finds_models_everywhere_and_says_whose(
        self, rendered: dict[str, list[Object]], variant: str, group: str
    ) -> None:
        [monitor] = [each for each in rendered[variant] if each["kind"] == "PodMonitor"]
        assert monitor["apiVersion"] == group
        assert monitor["spec"]["namespaceSelector"] == {"any": True}
        assert monitor["spec"]["selector"]["matchExpressions"] == [
            {"key": WORKSPACE_LABEL, "operator": "Exists"}
        ]
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        [relabeling] = endpoint["relabelings"]
        label = WORKSPACE_LABEL.replace(".", "_").replace("/", "_")
        assert relabeling == {
            "sourceLabels": [f"__meta_kubernetes_pod_label_{label}"],
            "targetLabel": "workspace",
        }


def test_the_release_label_is_changed_in_one_place(tmp_path: Path) -> None:
    copied = tmp_path / "monitoring"
    shutil.copytree(TARGET, copied)
    file = copied / "kube-prometheus-stack" / "kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    assert text.count("value: kube-prometheus-stack") == 1
    file.write_text(text.replace("value: kube-prometheus-stack", "value: mine"), encoding="utf-8")
    custom = [each for each in render(file.parent) if "coreos" in each["apiVersion"]]
    assert {each["kind"] for each in custom} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert {each["metadata"]["labels"]["release"] for each in custom} == {"mine"}


def test_annotations_and_no_custom_resources(rendered: dict[str, list[Object]]) -> None:
    found = rendered["scrape-annotations"]
    assert {each["apiVersion"] for each in found} == {"v1"}
    for each in found:
        if each["kind"] == "Service":
            assert each["metadata"]["annotations"]["prometheus.io/scrape"] == "true"
    [rules] = [each for each in found if each["metadata"]["name"] == "kaito-rules"]
    written = (TARGET / "rules" / "kaito.rules.yaml").read_text(encoding="utf-8")
    assert rules["data"] == {"kaito.rules.yaml": written}


def test_the_scrape_job_of_models() -> None:
    text = (TARGET / "scrape-annotations" / "inference.scrape.yaml").read_text(encoding="utf-8")
    [job] = yaml.safe_load(text)
    [role] = job["kubernetes_sd_configs"]
    assert role["selectors"] == [{"role": "pod", "label": WORKSPACE_LABEL}]
    targets = {each.get("target_label") for each in job["relabel_configs"]} - {None}
    assert targets == {"workspace", "namespace", "pod"}
