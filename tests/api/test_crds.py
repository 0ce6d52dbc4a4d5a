"""The CRDs of KAITO: equal to the files, structural, and one model under both names of Workspace."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api import resources
from kaito.api.crds import CUSTOM_RESOURCES, KEPT, LABELS, crd_manifests, file_name
from kaito.api.generate import drift, main, rendered, write
from kaito.runtime.crd import CustomResource, problems

MANIFESTS = Path(__file__).parents[2] / "manifests"


def crd(name: str) -> dict[str, Any]:
    return next(each for each in crd_manifests() if each["metadata"]["name"] == name)


def version(name: str, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = crd(name)["spec"]["versions"][number]
    return found


def test_the_files_are_what_the_models_say() -> None:
    assert drift(MANIFESTS) == [], "run `python -m kaito.api.generate`"


def test_the_generator_repairs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert drift(tmp_path) == []
    assert main([str(tmp_path), "--check"]) == 0
    changed = tmp_path / "crd" / "kaito.sh_adapters.yaml"
    changed.write_text("kind: Other\n")
    (tmp_path / "crd" / "old.yaml").write_text("kind: Old\n")
    assert main([str(tmp_path), "--check"]) == 1
    assert "differs" in capsys.readouterr().out
    assert changed.read_text() == "kind: Other\n"
    assert write(tmp_path) == ["crd/kaito.sh_adapters.yaml", "crd/old.yaml"]
    there = (path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*"))
    assert sorted(there) == sorted(rendered())


@pytest.mark.parametrize("resource", CUSTOM_RESOURCES, ids=lambda each: each.name)
def test_each_schema_is_structural(resource: CustomResource) -> None:
    for each in resource.manifest()["spec"]["versions"]:
        assert problems(each["schema"]["openAPIV3Schema"]) == []
    (file,) = MANIFESTS.glob(f"*/{file_name(resource)}")
    written = yaml.safe_load(file.read_text())
    assert written["metadata"].pop("annotations") == KEPT
    assert written["metadata"].pop("labels") == LABELS
    assert written == resource.manifest()


def test_both_versions_of_workspace_differ_in_name_and_storage_only() -> None:
    old, new = copy.deepcopy(crd("workspaces.kaito.sh")["spec"]["versions"])
    assert (old.pop("name"), new.pop("name")) == ("v1alpha1", "v1beta1")
    assert (old.pop("storage"), new.pop("storage")) == (False, True)
    assert old == new
    assert old["served"] is True


def test_names_scope_and_subresources_match_the_resource_constants() -> None:
    constants = (resources.WORKSPACES, resources.ADAPTERS, resources.MACHINES, resources.NODECLAIMS)
    for constant in (*constants, resources.WORKSPACES_V1ALPHA1):
        spec = crd(f"{constant.plural}.{constant.group}")["spec"]
        assert spec["names"]["kind"] == constant.kind
        assert spec["names"]["singular"] == constant.kind.lower()
        assert (spec["scope"] == "Namespaced") is constant.namespaced
        served = {each["name"]: each for each in spec["versions"]}
        assert served[constant.version]["subresources"] == {"status": {}}
    for constant in constants:
        served = {
            each["name"]: each for each in crd(f"{constant.plural}.{constant.group}")["spec"]["versions"]
        }
        assert served[constant.version]["storage"] is True
    names = crd("workspaces.kaito.sh")["spec"]["names"]
    assert (names["shortNames"], names["categories"]) == (["wk", "wks"], ["workspace", "kaito"])
    assert crd("machines.karpenter.sh")["spec"]["names"]["categories"] == ["karpenter"]
    assert crd("nodeclaims.karpenter.sh")["spec"]["names"]["categories"] == ["karpenter"]


def test_no_category_is_another_kinds_name() -> None:
    """kubectl takes `get workspace` for the category: with two kinds in it, both would be listed."""
    names = {each["spec"]["names"]["singular"]: each["spec"]["names"] for each in crd_manifests()}
    for name, own in names.items():
        for other, theirs in names.items():
            if other != name:
                assert not {name, own["plural"], *own.get("shortNames", ())} & set(theirs["categories"])


def columns(name: str, *, wide: bool) -> list[str]:
    found = version(name)["additionalPrinterColumns"]
    return [each["name"] for each in found if bool(each.get("priority")) is wide]


def test_the_columns_of_workspace() -> None:
    name = "workspaces.kaito.sh"
    assert columns(name, wide=False) == [
        "Instance",
        "ResourceReady",
        "InferenceReady",
        "WorkspaceReady",
        "Reason",
        "Age",
    ]
    assert columns(name, wide=True) == ["SKU", "JobStarted", "State", "Nodes", "Endpoint"]
    paths = {each["name"]: each["jsonPath"] for each in version(name)["additionalPrinterColumns"]}
    assert paths["Instance"] == ".resource.instanceType"
    assert paths["SKU"] == ".status.instanceType"
    assert paths["Reason"] == ".status.reason"


def test_the_columns_of_the_others() -> None:
    assert columns("adapters.kaito.sh", wide=False) == ["Source", "Base", "Rank", "Size", "Ready", "Age"]
    assert columns("machines.karpenter.sh", wide=False) == [
        "Type",
        "Capacity",
        "Zone",
        "Node",
        "Ready",
        "Age",
    ]
    assert columns("machines.karpenter.sh", wide=True) == ["Provisioner", "Template"]
    assert columns("nodeclaims.karpenter.sh", wide=False) == [
        "Type",
        "Capacity",
        "Zone",
        "Node",
        "Ready",
        "Age",
    ]
    assert columns("nodeclaims.karpenter.sh", wide=True) == [
        "ImageID",
        "ID",
        "NodePool",
        "NodeClass",
        "Drifted",
    ]


def test_workspace_has_no_spec_and_no_default_for_what_costs_money() -> None:
    schema = version("workspaces.kaito.sh")["schema"]["openAPIV3Schema"]
    assert "spec" not in schema["properties"]
    assert {"resource", "inference", "tuning", "status"} <= set(schema["properties"])
    resource = schema["properties"]["resource"]["properties"]
    assert "default" not in resource["instanceType"]
    assert "default" not in resource["count"]
    assert resource["instanceTypes"]["maxItems"] == 16


def test_template_and_volume_sources_are_schemaless() -> None:
    schema = version("workspaces.kaito.sh")["schema"]["openAPIV3Schema"]["properties"]
    inference = schema["inference"]["properties"]
    tuning = schema["tuning"]["properties"]
    for node in (
        inference["template"],
        inference["adapters"]["items"]["properties"]["source"]["properties"]["volumeSource"],
        inference["preset"]["properties"]["weights"]["properties"]["volumeSource"],
        tuning["input"]["properties"]["volumeSource"],
        tuning["output"]["properties"]["volumeSource"],
    ):
        assert node["type"] == "object"
        assert node["x-kubernetes-preserve-unknown-fields"] is True
        assert "properties" not in node


FIELDS = """
resource.count resource.instanceType resource.instanceTypes resource.labelSelector resource.preferredNodes
resource.partition.mode resource.partition.profile resource.partition.count inference.preset.name
inference.preset.accessMode inference.preset.presetOptions.image
inference.preset.presetOptions.imagePullSecrets inference.preset.presetOptions.modelAccessSecret
inference.preset.weights.image inference.preset.weights.imagePullSecrets
inference.preset.weights.huggingFace inference.preset.weights.revision inference.preset.weights.volumeSource
inference.preset.weights.path inference.preset.weights.storageClassName
inference.template inference.config inference.adapters.strength inference.adapters.source.name
inference.adapters.source.image inference.adapters.source.imagePullSecrets
inference.adapters.source.volumeSource inference.adapters.adapterRef.name tuning.preset.name tuning.method
tuning.config tuning.input.name tuning.input.urls tuning.input.volumeSource tuning.input.image
tuning.input.imagePullSecrets tuning.output.volumeSource tuning.output.image tuning.output.imagePushSecret
status.workerNodes status.conditions.type status.state status.targetNodeCount status.performance.metrics
status.instanceType status.endpoint status.reason status.resolved status.nodes.slot status.nodes.attempt
status.nodes.claimName status.nodes.nodeName status.nodes.instanceType
"""


@pytest.mark.parametrize("path", FIELDS.split())
def test_every_documented_field_is_there(path: str) -> None:
    node = version("workspaces.kaito.sh", 1)["schema"]["openAPIV3Schema"]
    for part in path.split("."):
        node = node.get("items", node)["properties"][part]
    assert node


def walk(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key, step in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(child := node.get(key), dict):
            yield from walk(child, path + step)


@pytest.mark.parametrize("resource", CUSTOM_RESOURCES, ids=lambda each: each.name)
def test_every_field_has_a_description(resource: CustomResource) -> None:
    schema = resource.manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    named = [path for path, node in walk(schema) if not path.endswith(("[]", ".*", ".metadata")) and path]
    described = [path for path, node in walk(schema) if node.get("description")]
    assert set(named) <= set(described)


@pytest.mark.parametrize("resource", CUSTOM_RESOURCES, ids=lambda each: each.name)
def test_every_rule_of_a_changing_root_knows_the_stored_object(resource: CustomResource) -> None:
    """A root rule runs on every write, so it must pass what was stored before it existed."""
    schema = resource.manifest()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for rule in schema.get("x-kubernetes-validations", ()):
        assert rule["optionalOldSelf"] is True
        assert "oldSelf" in rule["rule"]
