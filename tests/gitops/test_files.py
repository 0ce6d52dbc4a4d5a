"""What Argo CD is given: settings that are written by their generator, and Applications that do what the guide says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.argocd.files import FOLDER, checks, stale

ROOT = Path(__file__).parents[2]
APPLICATIONS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((FOLDER / "applications").glob("*.yaml"))
}
GUIDE = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")


def options(application: dict[str, Any]) -> list[str]:
    found: list[str] = application["spec"]["syncPolicy"]["syncOptions"]
    return found


def wave(name: str) -> int:
    return int(APPLICATIONS[name]["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])


def test_the_files_are_what_the_generator_writes() -> None:
    assert stale() == [], "run `make manifests`"


def test_the_settings_hold_the_scripts_and_nothing_else() -> None:
    settings = yaml.safe_load((FOLDER / "argocd-cm.yaml").read_text(encoding="utf-8"))
    assert (settings["kind"], settings["metadata"]["name"]) == ("ConfigMap", "argocd-cm")
    data = settings["data"]
    for name, script in checks().items():
        assert data.pop(f"resource.customizations.health.{name}") == script
    ((key, ignored),) = data.items()
    assert key == (
        "resource.customizations.ignoreDifferences."
        "admissionregistration.k8s.io_ValidatingWebhookConfiguration"
    )
    assert yaml.safe_load(ignored) == {"jqPathExpressions": [".webhooks[]?.clientConfig.caBundle"]}


def test_kinds_come_before_the_operator_and_the_operator_before_workspaces() -> None:
    assert wave("crd") == wave("crd-karpenter") < wave("operator") < wave("models")


@pytest.mark.parametrize("name", sorted(APPLICATIONS))
def test_every_application_applies_on_the_server_and_finds_its_files(name: str) -> None:
    spec = APPLICATIONS[name]["spec"]
    assert "ServerSideApply=true" in options(APPLICATIONS[name])
    source = ROOT / spec["source"]["path"]
    assert source.is_dir()
    included = spec["source"].get("directory", {}).get("include")
    assert (source / (included or "kustomization.yaml")).is_file()


def test_nothing_that_costs_money_or_holds_objects_is_pruned() -> None:
    pruned = {name for name, each in APPLICATIONS.items() if each["spec"]["syncPolicy"]["automated"]["prune"]}
    assert pruned == {"operator"}
    assert all("finalizers" not in each["metadata"] for each in APPLICATIONS.values())
    for folder in ("crd", "crd-karpenter"):
        for path in (ROOT / "manifests" / folder).glob("*_*.yaml"):
            annotations = yaml.safe_load(path.read_text(encoding="utf-8"))["metadata"]["annotations"]
            assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
            assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"


def test_the_certificate_that_the_operator_writes_is_no_drift() -> None:
    operator = APPLICATIONS["operator"]
    (ignored,) = operator["spec"]["ignoreDifferences"]
    webhook = yaml.safe_load(
        (ROOT / "manifests" / "webhook" / "configuration.yaml").read_text(encoding="utf-8")
    )
    assert (ignored["kind"], ignored["name"]) == (webhook["kind"], webhook["metadata"]["name"])
    assert ignored["jqPathExpressions"] == [".webhooks[]?.clientConfig.caBundle"]
    assert all("caBundle" not in each["clientConfig"] for each in webhook["webhooks"])
    assert "RespectIgnoreDifferences=true" in options(operator)


def test_the_first_application_makes_the_others() -> None:
    first = yaml.safe_load((FOLDER / "application.yaml").read_text(encoding="utf-8"))
    assert first["spec"]["source"]["path"] == "manifests/argocd/applications"
    repositories = {each["spec"]["source"]["repoURL"] for each in (first, *APPLICATIONS.values())}
    assert repositories == {"https://git.example.com/platform/kaito.git"}
    assert first["spec"]["syncPolicy"]["automated"]["prune"] is False


def test_the_guide_names_every_file_that_is_there_and_the_flux_objects_parse() -> None:
    for path in (
        FOLDER / "argocd-cm.yaml",
        FOLDER / "application.yaml",
        *(FOLDER / "applications").glob("*"),
    ):
        assert path.name in GUIDE, path.name
    flux = [block.split("```")[0] for block in GUIDE.split("```yaml\n")[1:]]
    documents = [each for block in flux for each in yaml.safe_load_all(block)]
    kustomizations = {
        each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "Kustomization"
    }
    assert [each for each, spec in kustomizations.items() if spec["prune"]] == ["kaito-operator"]
    assert [one["name"] for one in kustomizations["models"]["dependsOn"]] == ["kaito-operator"]
    assert {one["name"] for one in kustomizations["kaito-operator"]["dependsOn"]} == {
        "kaito-crd",
        "kaito-crd-karpenter",
    }
    for spec in kustomizations.values():
        assert (ROOT / spec["path"]).is_dir(), spec["path"]
