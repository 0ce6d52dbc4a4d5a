"""`kaito new`: what it prints applies as it is, for every model; what it cannot print, it explains."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaito.api.views import check
from kaito.api.workspace import Workspace
from kaito.catalog import load_catalog
from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.cli.new.command import workspace_name
from kaito.cli.new.sources import read_adapter, read_weights
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.admission import judge
from kaito.controllers.workspace.decide.plan import Plan, make_plan

CATALOG = load_catalog()
USUAL = [each.name for each in CATALOG.presets if not each.deprecated and not each.private]


def new(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output, and what is wrong."""
    done = CliRunner().invoke(app, ["new", *arguments])
    return done.exit_code, done.stdout, f"{done.stderr}{done.exception or ''}"


def printed(*arguments: str) -> dict[str, Any]:
    code, text, wrong = new(*arguments)
    assert code == 0, wrong
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def planned(document: dict[str, Any]) -> Plan:
    """The controller's plan for it, after the webhook has let it pass."""
    document["metadata"] |= {"namespace": "default", "uid": "u"}
    assert not check(Workspace, document)[1]
    assert judge(document, CATALOG, WorkspaceConfig(), {}).refusals == ()
    plan = make_plan(document, None, CATALOG, WorkspaceConfig())
    assert isinstance(plan, Plan), plan
    return plan


@pytest.mark.parametrize("name", USUAL)
def test_what_is_printed_for_a_model_applies_as_it_is(name: str) -> None:
    preset = CATALOG.preset(name)
    assert preset is not None
    plan = planned(printed(name))
    assert plan.preset == preset
    assert plan.sizes
    assert (plan.preset_options.get("modelAccessSecret") == "hf-token") is preset.gated


def test_weights_and_adapters_of_the_users_own() -> None:
    document = printed(
        "phi-3-mini-4k-instruct",
        "--weights=me/my-phi-3@v1.0",
        "--adapter=pirate=r.example/pirate:1:0.5",
        "--adapter=disk=pvc:adapters",
        "--adapter=shared=adapter:0.25",
        "--secret=mine",
        "--name=phi",
        "--instance-type=Standard_NC24ads_A100_v4",
    )
    assert document["metadata"]["name"] == "phi"
    assert document["resource"]["instanceType"] == "Standard_NC24ads_A100_v4"
    preset = document["inference"]["preset"]
    assert preset["weights"] == {"huggingFace": "me/my-phi-3", "revision": "v1.0"}
    assert preset["presetOptions"] == {"modelAccessSecret": "mine"}
    claim = {"persistentVolumeClaim": {"claimName": "adapters"}}
    assert document["inference"]["adapters"] == [
        {"source": {"name": "pirate", "image": "r.example/pirate:1"}, "strength": "0.5"},
        {"source": {"name": "disk", "volumeSource": claim}, "strength": "1.0"},
        {"adapterRef": {"name": "shared"}, "strength": "0.25"},
    ]
    planned(document)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("me/model", {"huggingFace": "me/model"}),
        ("me/model@0a67737cc96d", {"huggingFace": "me/model", "revision": "0a67737cc96d"}),
        ("r.example/me/model:1", {"image": "r.example/me/model:1"}),
        ("localhost:5000/model:1", {"image": "localhost:5000/model:1"}),
        ("me/model:1", {"image": "me/model:1"}),
        ("/opt/models/mine", {"path": "/opt/models/mine"}),
        ("pvc:models", {"volumeSource": {"persistentVolumeClaim": {"claimName": "models"}}}),
    ],
)
def test_a_source_of_weights_is_one_word(text: str, weights: dict[str, Any]) -> None:
    assert read_weights(text) == weights
    planned(printed("phi-4", f"--weights={text}"))


@pytest.mark.parametrize(
    ("text", "source", "strength"),
    [
        ("a=r.example/x:1", {"image": "r.example/x:1"}, "1.0"),
        ("a=r.example/x:0.5", {"image": "r.example/x:0.5"}, "1.0"),
        ("a=r.example:5000/x:1:0", {"image": "r.example:5000/x:1"}, "0"),
        (f"a=x/y@sha256:{'a' * 64}:.5", {"image": f"x/y@sha256:{'a' * 64}"}, ".5"),
        ("a=adapter", None, "1.0"),
    ],
)
def test_the_strength_is_what_follows_an_images_tag(text: str, source: Any, strength: str) -> None:
    found = read_adapter(text)
    assert (found.name, found.source, found.strength) == ("a", source, strength)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["phi-3-mini"], "phi-3-mini is not known; nearest: phi-3.5-mini-instruct"),
        (["llama-2-7b"], "say where your copy of its weights is, with --weights."),
        (["phi-2"], "no longer supported"),
        (["phi-4", "--weights=r.example/x"], "the image has no tag"),
        (["phi-4", "--weights=pvc:"], "write the name of a PersistentVolumeClaim"),
        (["phi-4", "--weights=/a/../b"], "write the absolute path of a directory of the nodes"),
        (["phi-4", "--adapter=x"], "write NAME=IMAGE:TAG[:STRENGTH]"),
        (["phi-4", "--adapter=base=r.example/x:1"], "requests say base for the model without adapters"),
        (["phi-4", "--adapter=x=r.example/x:1:1.5"], "above 1"),
        (["phi-4", "--adapter=x=r.example/x:1:3"], "above 1"),
        (["phi-4", "--name=Phi"], "lower-case letters"),
        (["phi-4", "--instance-type=Standard_NC6s_v3"], "GiB are missing"),
        (["phi-4", "--cloud=mars"], "is not known; use azure"),
    ],
)
def test_what_cannot_be_applied_is_explained_and_not_printed(arguments: list[str], says: str) -> None:
    code, text, wrong = new(*arguments)
    assert code == 1
    assert text == ""
    assert says in wrong


def test_a_model_that_may_not_be_published_applies_with_weights() -> None:
    plan = planned(printed("llama-2-7b", "--weights=me/llama-2-7b"))
    assert plan.preset is not None


def test_a_model_that_only_the_hub_knows_says_so() -> None:
    code, text, wrong = new("acme/Writer-8B")
    assert code == 0
    assert "# acme/Writer-8B is not in the catalogue: the operator asks the Hugging Face hub" in text
    assert "Warning: inference.preset.name" in wrong
    assert yaml.safe_load(text)["metadata"]["name"] == "workspace-writer-8b"


def test_names_are_those_of_services() -> None:
    assert workspace_name("Qwen/Qwen3.5-9B") == "workspace-qwen3-5-9b"
    assert len(workspace_name("x" * 80)) == 63


def test_a_bad_adapter_is_refused_before_anything_else() -> None:
    with pytest.raises(CliError, match="write NAME=IMAGE"):
        read_adapter("=x")
