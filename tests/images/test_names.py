"""`make images` builds what Workspaces ask for: the names in rendered pods are the names that are built."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controllers.workspace.builders import adapter_status, provisioned, step, workspace
from hack.images import catalogue
from hack.images.engine import BuildError
from kaito.catalog import Machine, load_catalog
from kaito.catalog.lines import LINES, Line, line_for
from kaito.controllers.workspace import Observed, WorkspaceConfig
from kaito.controllers.workspace.decide.images import runtime_image, serving_image
from kaito.runtime.resources import DEPLOYMENTS

ROOT = Path(__file__).parents[2]
REGISTRY = "registry.example:5000/kaito"
CONFIG = WorkspaceConfig(registry=REGISTRY, stand_in_weights="tiny-phi-3")


def rendered_pod() -> dict[str, Any]:
    """The pod of a Workspace with an adapter, as the controller writes it."""
    adapters = [{"source": {"name": "pirate", "image": "r.example/pirate:1"}}]
    observed, _ = step(Observed(workspace(inference={"adapters": adapters})), CONFIG)
    read = {name: {**each, "status": adapter_status()} for name, each in observed.adapters.items()}
    observed, _ = step(replace(observed, adapters=read), CONFIG)
    _, decision = step(provisioned(observed), CONFIG)
    (workload,) = [write.body for write in decision.writes if write.resource == DEPLOYMENTS]
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def test_the_images_of_a_workspace_are_built_under_the_names_that_it_renders() -> None:
    spec = rendered_pod()
    preset = catalogue.recipe("phi-3-mini-4k-instruct", "9.9.9", None)
    puller = catalogue.recipe("puller", "9.9.9", None)  # the tag is the operator's, whatever pods ask for
    assert spec["containers"][0]["image"] in preset.names(REGISTRY)
    assert spec["initContainers"][0]["image"] == puller.name(REGISTRY)
    assert preset.name(REGISTRY) == f"{REGISTRY}/kaito-phi-3-mini-4k-instruct:0.2.0-mistralrs"


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_a_preset_with_real_weights_stands_on_the_runtime_that_its_pods_ask_for(
    tmp_path: Path, line: Line
) -> None:
    (tmp_path / "config.json").write_text("{}")
    preset = load_catalog().preset("phi-3-mini-4k-instruct")
    assert preset is not None
    gpus = Machine("", "NVIDIA X", 1, 80.0, line.least_capability or None)
    image = serving_image(preset, line.runtime, gpus, CONFIG, {})
    built = catalogue.recipe(preset.name, "9.9.9", tmp_path, line.name)
    assert built.names(REGISTRY) == [image]
    assert built.line == line
    assert catalogue.recipe(preset.name, "9.9.9", tmp_path).line == line_for(preset.runtime, None)


@pytest.mark.parametrize(
    "line", [line for line in LINES if (ROOT / "images" / f"runtime-{line.runtime}").is_dir()], ids=str
)
def test_a_runtime_without_weights_is_built_under_the_name_that_pods_ask_for(line: Line) -> None:
    gpus = Machine("", "NVIDIA X", 1, 80.0, line.least_capability or None)
    built = catalogue.recipe(f"runtime-{line.name}", "9.9.9", None)
    assert runtime_image(line.runtime, gpus, CONFIG) == built.name(REGISTRY)
    assert built.requirement == f"./presets[{line.runtime}]"
    if line.torch is not None:
        assert f"\ntorch=={line.torch}" in built.constraints.read_text()


def test_the_commands_of_the_pods_are_the_entry_points() -> None:
    spec = rendered_pod()
    images = ROOT / "images"
    for container, image in (
        (spec["containers"][0], "runtime-mistralrs"),
        (spec["initContainers"][0], "puller"),
    ):
        assert container["command"][0] in (images / image / "Dockerfile").read_text().split("ENTRYPOINT")[1]


def test_the_operator_gets_the_tag_that_is_asked_for() -> None:
    assert catalogue.recipe("operator", "1.2.3", None).name("kaito") == "kaito/operator:1.2.3"
    assert catalogue.recipe("runtime-mistralrs", "1.2.3", None).name("r/k") == "r/k/runtime-mistralrs:0.1.0"
    assert catalogue.recipe("operator", catalogue.default_tag(), None).name("kaito") == "kaito/operator:0.1.0"


def test_one_image_runs_the_operator_and_the_provisioner_of_every_cloud() -> None:
    """The manifests name one image for both, and the packages of a cloud are an extra."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    requirement = catalogue.recipe("operator", "1", None).requirement
    assert requirement == ".[azure,webhook]"
    assert "kaito[operator]" in extras["azure"]


def test_stand_in_weights_are_called_what_they_are(tmp_path: Path) -> None:
    assert catalogue.recipe("phi-3-mini-4k-instruct", "1", None).weights_name() == "stand-in tiny-phi-3"
    (tmp_path / "config.json").write_text("{}")
    assert (
        catalogue.recipe("phi-3-mini-4k-instruct", "1", tmp_path).weights_name() == "phi-3-mini-4k-instruct"
    )


@pytest.mark.parametrize(
    ("wanted", "weights", "says"),
    [
        ("phi-4-mini-typo", None, "is no image"),
        ("mistral-7b-instruct", None, "no weights. Name their directory: WEIGHTS=DIR"),
        ("mistral-7b-instruct", "empty", "expected a Hugging Face directory"),
    ],
)
def test_what_cannot_be_built_is_said(tmp_path: Path, wanted: str, weights: str | None, says: str) -> None:
    with pytest.raises(BuildError, match=says):
        catalogue.recipe(wanted, "1", tmp_path if weights else None)


def test_a_runtime_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(BuildError, match="RUNTIME=tensorrt: write vllm, transformers, "):
        catalogue.recipe("phi-3-mini-4k-instruct", "1", None, "tensorrt")
