"""`kaito plan` and weights of the user's own: what the hub says of them, and what only the operator can see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from controllers.workspace.builders import CATALOG, CONFIG, NOW, Object, workspace
from controllers.workspace.test_own_weights import COMMIT, fitting, known
from kaito.cli.main import app
from kaito.cli.plan.report import WorkspacePlan, plan_workspace
from kaito.controllers.workspace.model import Answer, Need
from kaito_presets import demo
from presets.hub_server import HubServer

NEED = Need("weights", "me/mine")
SMALL = "Standard_NV36ads_A10_v5"
"""24 GB; the weights of phi-4 itself have 27 GiB."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    files = {path.name: path.read_bytes() for path in demo.weights_path().iterdir()}
    server.repositories = {"me/mine": files}
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()


def owned(name: str, size: str, **weights: Any) -> Object:
    made: Object = workspace(
        name, instance_type=size, inference={"preset": {"name": name, "weights": weights}}
    )
    return made


def plan(made: Object) -> tuple[int, str]:
    for key in ("uid", "generation", "resourceVersion", "finalizers"):
        made["metadata"].pop(key, None)
    result = CliRunner().invoke(app, ["plan", "-f", "-"], input=yaml.safe_dump(made))
    return result.exit_code, result.stdout


def planned(made: Object, answer: Answer) -> WorkspacePlan:
    return plan_workspace(made, CATALOG, CONFIG, NOW, {}, answers={NEED: answer})


def test_the_hub_is_asked_about_own_weights(hub: HubServer) -> None:
    code, out = plan(owned("tiny-phi-3", "Standard_D4s_v5", huggingFace="me/mine"))
    assert code == 0, out
    assert "weights" not in "".join(line for line in out.splitlines() if "note" in line)
    assert any(wanted for _, wanted in hub.file_requests()), "only the beginnings of files are read"


def test_weights_of_another_model_are_a_problem(hub: HubServer) -> None:
    code, out = plan(owned("phi-3-mini-4k-instruct", "Standard_NC24ads_A100_v4", huggingFace="me/mine"))
    assert code == 1
    assert "problem   inference.preset.weights.huggingFace: " in out
    assert "hidden_size is 128, not 3072" in out


def test_a_repository_that_is_not_there_is_a_problem(hub: HubServer) -> None:
    code, out = plan(owned("phi-3-mini-4k-instruct", "Standard_NC24ads_A100_v4", huggingFace="me/none"))
    assert code == 1
    assert "problem   inference.preset.weights.huggingFace: " in out


def test_without_a_hub_it_is_said_that_nobody_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, out = plan(owned("phi-3-mini-4k-instruct", "Standard_NC24ads_A100_v4", huggingFace="me/mine"))
    assert code == 0, out
    assert "cannot be reached" in out
    assert "the operator asks the hub before a node is bought" in out


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (
            {"image": "r.example/w:1"},
            "weights.image: what is in it is checked by the operator before a node is",
        ),
        (
            {"volumeSource": {"persistentVolumeClaim": {"claimName": "w"}}},
            "weights.volumeSource: what is in it is checked by the operator",
        ),
        ({"volumeSource": {"hostPath": {"path": "/w"}}}, "weights.volumeSource: only the node has the files"),
        ({"path": "/w"}, "weights.path: only the node has the files"),
    ],
)
def test_what_a_plan_cannot_look_into_is_said(weights: Object, says: str) -> None:
    found = plan_workspace(
        owned("phi-3-mini-4k-instruct", "Standard_NC24ads_A100_v4", **weights), CATALOG, CONFIG, NOW, {}
    )
    assert found.ok
    assert any(says in each for each in found.notes), found.notes


def test_weights_that_are_smaller_than_the_presets_are_planned_as_they_are() -> None:
    made = owned("phi-4", SMALL, huggingFace="me/mine")
    facts = {**fitting(known("phi-4")), "revision": COMMIT}
    large = planned(made, Answer({**facts, "bytes": 29_300_000_000}))
    small = planned(made, Answer({**facts, "bytes": 9_100_000_000, "quantization": "gptq"}))
    assert (large.nodes, small.nodes) == (2, 1)
    assert small.ways[0].ledger is not None
    assert 8 < small.ways[0].ledger.weights < 9
