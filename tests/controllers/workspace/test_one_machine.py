"""The operator of one machine: what is downloaded there, what stands in, and what the machine cannot serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import CATALOG, CONFIG, decided, step, workspace, written
from kaito.catalog.one_machine import needed_gib, refusal
from kaito.controllers.workspace import Observed, OneMachine, WorkspaceConfig
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.controllers.workspace.decide.weights_source import BAKED, Hub, WeightsSource
from kaito_presets.weights import plan as download

MACHINE = OneMachine(64.0, held=frozenset({"tiny-phi-3", "phi-3-mini-128k-instruct"}))
LOCAL = replace(CONFIG, machine=MACHINE, stand_in_weights="tiny-phi-3")


def source(
    preset: str, inference: dict[str, Any] | None = None, config: WorkspaceConfig = LOCAL
) -> WeightsSource:
    made = make_plan(workspace(preset, inference=inference), None, CATALOG, config)
    assert isinstance(made, Plan), made
    return made.weights


def refused(preset: str, machine: OneMachine = MACHINE) -> str:
    found = make_plan(workspace(preset), None, CATALOG, replace(LOCAL, machine=machine))
    assert isinstance(found, tuple), found
    (problem,) = found
    assert problem.reason == "UnsupportedModel"
    assert problem.path == "inference.preset.name"
    return problem.message


def test_what_the_machine_holds_comes_with_the_image_and_everything_else_from_the_hub() -> None:
    assert source("phi-3-mini-128k-instruct") == BAKED
    assert source("tiny-phi-3") == BAKED
    phi4 = CATALOG.preset("phi-4")
    assert phi4 is not None
    assert source("phi-4") == Hub("microsoft/phi-4", phi4.revision)
    assert phi4.revision is not None, "an image of the same commit serves it in a cluster"


def test_the_publishers_gguf_files_are_taken_where_there_are_some() -> None:
    assert source("phi-3-mini-4k-instruct") == Hub("microsoft/Phi-3-mini-4k-instruct-gguf", None)


def test_no_commit_of_the_model_is_asked_for_where_its_gguf_files_are_downloaded() -> None:
    """They lie in another repository, which has commits of its own."""
    _, decision = step(Observed(workspace("phi-3-mini-4k-instruct")), LOCAL)
    assert decision.needs == ()


def test_an_image_that_the_workspace_names_is_taken_as_it_is() -> None:
    inference = {"preset": {"name": "phi-4", "presetOptions": {"image": "r.example/mine:1"}}}
    assert source("phi-4", inference) == BAKED


def test_gated_models_want_a_token_there_too() -> None:
    made = make_plan(workspace("llama-3.1-8b-instruct"), None, CATALOG, LOCAL)
    assert isinstance(made, tuple)
    assert made[0].path == "inference.preset.presetOptions.modelAccessSecret"


def test_in_a_cluster_nothing_changes() -> None:
    assert source("phi-4", config=CONFIG) == BAKED
    assert source("phi-3-mini-128k-instruct", config=CONFIG) == BAKED


def test_too_little_memory_is_refused_with_both_figures() -> None:
    said = refused("phi-4", OneMachine(16.0))
    assert (
        "phi-4 takes about 61.1 GiB of memory (weights of 27.3 GiB, twice that to compute with on a CPU)"
        in said
    )
    assert "this machine has 16.0 GiB" in said


def test_a_gpu_of_the_machine_computes_with_what_the_files_hold() -> None:
    assert isinstance(source("phi-4", config=replace(LOCAL, machine=OneMachine(32.0, on_gpu=True))), Hub)
    said = refused("phi-4", OneMachine(24.0, on_gpu=True))
    assert "phi-4 takes about 31.0 GiB of memory (weights of 27.3 GiB), and this machine has 24.0 GiB" in said


def test_a_machine_that_does_not_say_its_memory_is_tried() -> None:
    assert isinstance(source("phi-4", config=replace(LOCAL, machine=OneMachine())), Hub)


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("qwen3-8b-awq", "are quantised (awq) for GPUs"),
        (
            "gemma-3-27b-instruct",
            "does not serve Gemma3ForConditionalGeneration, which gemma-3-27b-instruct is",
        ),
    ],
)
def test_what_the_engine_does_not_take_is_refused_with_what_it_does(preset: str, words: str) -> None:
    assert words in refused(preset, OneMachine(4096.0))


def test_weights_of_ones_own_are_judged_where_they_are_seen() -> None:
    """They may be smaller, or GGUF files: the pod compares their real size with the machine's memory."""
    inference = {"preset": {"name": "phi-4", "weights": {"huggingFace": "me/phi-4-gguf"}}}
    assert source("phi-4", inference, replace(LOCAL, machine=OneMachine(8.0))) == Hub(
        "me/phi-4-gguf", None, own=True
    )


def test_nothing_is_bought_for_what_is_refused() -> None:
    decision = decided(Observed(workspace("falcon-40b")), LOCAL)
    assert [write.resource.kind for write in decision.writes] == []


def test_a_model_without_gpus_needs_no_size_on_one_machine() -> None:
    observed, decision = step(Observed(workspace("tiny-phi-3", instance_type=None)), LOCAL)
    for _ in range(3):
        if any(write.resource.kind == "Machine" for write in decision.writes):
            break
        observed, decision = step(observed, LOCAL)
    claim = written(decision, "Machine")
    wanted = {each["key"]: each["values"] for each in claim["spec"]["requirements"]}
    assert wanted["node.kubernetes.io/instance-type"] == ["Standard_D8s_v5"]


def test_in_a_cluster_it_is_told_which_size_to_write() -> None:
    found = make_plan(workspace("tiny-phi-3", instance_type=None), None, CATALOG, CONFIG)
    assert isinstance(found, tuple)
    text = (
        "write the machine size to use; tiny-phi-3 needs no GPU: one without will do, such as Standard_D8s_v5"
    )
    assert text in found[0].message


def test_the_machine_and_the_download_count_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    phi4 = CATALOG.preset("phi-4")
    assert phi4 is not None
    assert phi4.weights_gib is not None
    size = int(phi4.weights_gib * download.GIB)
    for on_gpu in (False, True):
        monkeypatch.setattr(download, "on_gpu", lambda found=on_gpu: found)
        files = (download.RemoteFile("model.safetensors", size),)
        plan = download.Plan("microsoft/phi-4", "main", files, download.Path("/nowhere"), 0)
        assert needed_gib(phi4, on_gpu=on_gpu) == pytest.approx(plan.memory / download.GIB, abs=0.01)


def test_a_model_of_which_nothing_is_recorded_is_tried() -> None:
    llama = CATALOG.preset("llama-2-7b")
    assert llama is not None
    assert llama.weights_gib is None
    assert refusal(llama, 8.0, on_gpu=False) is None
