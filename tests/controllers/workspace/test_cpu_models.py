"""A real model on machines without GPUs: the entry that docs/catalog.md shows, through to its pod."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from controllers.workspace import builders
from controllers.workspace.builders import Object, provisioned, step, workspace
from kaito.catalog import load_catalog
from kaito.catalog.additions import added, read_addition
from kaito.controllers.workspace import Observed, WorkspaceConfig
from kaito.controllers.workspace.model import Answer
from kaito.runtime.resources import DEPLOYMENTS

PAGE = (Path(__file__).parents[3] / "docs" / "catalog.md").read_text()
NAME = "phi-3-mini-4k-instruct-cpu"
CONFIG = WorkspaceConfig(registry="r.example/kaito")


@pytest.fixture(autouse=True)
def with_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if NAME in block]
    monkeypatch.setattr(builders, "CATALOG", added(load_catalog(), [read_addition("the page", text)]))


def pod(given: Object) -> Object:
    """The pod, on a node without GPUs, while the hub cannot be asked for the newest commit."""
    observed, first = step(Observed(given), CONFIG)
    unanswered = {need: Answer(None, "HubUnreachable", "no answer", 10.0) for need in first.needs}
    observed, _ = step(replace(observed, answers=unanswered), CONFIG)
    _, decision = step(provisioned(observed, 0), CONFIG)
    (workload,) = [write.body for write in decision.writes if write.resource == DEPLOYMENTS]
    found: Object = workload["spec"]["template"]["spec"]
    return found


def test_it_is_served_by_the_runtime_for_the_cpu_and_asks_for_no_gpu() -> None:
    spec = pod(workspace(NAME, instance_type="Standard_D16s_v5"))
    (serving,) = spec["containers"]
    assert serving["image"] == "r.example/kaito/runtime-mistralrs:0.1.0"
    assert "limits" not in serving["resources"]
    assert f"--preset={NAME}" in serving["args"]
    assert not [each for each in serving["args"] if each.startswith(("--dtype", "--tensor"))]


def test_its_weights_are_fetched_before_the_server_starts() -> None:
    spec = pod(workspace(NAME, instance_type="Standard_D16s_v5"))
    fetching = [each for each in spec["initContainers"] if each["command"] == ["kaito-weights"]]
    assert fetching
    assert all("--repository=microsoft/Phi-3-mini-4k-instruct-gguf" in each["args"] for each in fetching)
