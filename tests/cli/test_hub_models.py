"""Models of the hub and catalogues of the user's own, as somebody at a terminal has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaito.catalog import load_catalog
from kaito.catalog.additions import added, read_file
from kaito.cli.main import app
from support.hub_models import COMMIT, LLAMA, OLDER, TOKEN, Model, ModelHub

ID = "acme/Writer-8B"
UNPINNED = "Qwen/Qwen3-8B-AWQ"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    server = ModelHub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()


def kaito(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
    """Exit status, output, and what went wrong."""
    result = CliRunner().invoke(app, list(arguments), input=text)
    wrong = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        wrong += str(result.exception)
    return result.exit_code, result.stdout, wrong


def workspace(name: str = ID) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "kaito.sh/v1beta1",
            "kind": "Workspace",
            "metadata": {"name": "writer"},
            "resource": {"labelSelector": {"matchLabels": {"apps": "writer"}}},
            "inference": {"preset": {"name": name}},
        }
    )


def test_a_plan_asks_the_hub_and_plans_for_what_it_says(hub: ModelHub) -> None:
    hub.models[ID] = Model()
    code, out, _ = kaito("plan", "-f", "-", text=workspace())
    assert code == 0, out
    assert f"writer-8b ({ID}, commit {COMMIT[:12]})" in out
    assert "1 x Standard_NV36ads_A10_v5" in out
    assert len(hub.asked()) == 2


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, f"has no {ID}"),
        (Model(gated=True), "set HF_TOKEN to a token that may read it"),
        (
            Model(config={**LLAMA, "architectures": ["BertModel"]}),
            "BertModel, which neither vLLM nor Transformers",
        ),
    ],
)
def test_a_plan_for_what_the_hub_refuses_says_why_and_fails(
    hub: ModelHub, model: Model | None, said: str
) -> None:
    if model is not None:
        hub.models[ID] = model
    code, out, _ = kaito("plan", "-f", "-", text=workspace())
    assert code == 1
    assert "problem   inference.preset.name: " in out
    assert said in out


def test_a_plan_without_a_way_to_the_hub_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    code, out, _ = kaito("plan", "-f", "-", text=workspace())
    assert code == 1
    assert "cannot be reached" in out
    assert "HF_ENDPOINT" in out


def test_a_plan_for_models_of_the_catalogue_asks_nobody(hub: ModelHub) -> None:
    code, out, _ = kaito("plan", "-f", "-", text=workspace(UNPINNED))
    assert code == 0, out
    assert "unpinned" in out
    assert hub.asked() == []


def test_the_sizes_of_a_model_of_the_hub_are_told(hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.models[ID] = Model(gated=True)
    code, _, wrong = kaito("models", "sizes", ID)
    assert code == 1
    assert "the hub wants a token" in wrong
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code, out, _ = kaito("models", "sizes", ID, "--json")
    assert code == 0
    assert json.loads(out)["model"] == "writer-8b"


def entries(text: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in yaml.safe_load(text)["presets"]}


def test_pinning_prints_entries_that_a_catalogue_takes(hub: ModelHub, tmp_path: Path) -> None:
    hub.models = {ID: Model(), UNPINNED: Model()}
    code, out, wrong = kaito("models", "pin", ID, UNPINNED, "phi-3-mini-4k-instruct")
    assert (code, wrong) == (0, "")
    found = entries(out)
    assert found["writer-8b"]["revision"] == found["qwen3-8b-awq"]["revision"] == COMMIT
    assert found["qwen3-8b-awq"]["quantization"] == {
        "method": "awq",
        "bits": 4,
    }  # the rest is the catalogue's
    ours = load_catalog().preset("phi-3-mini-4k-instruct")
    assert ours is not None
    assert found["phi-3-mini-4k-instruct"]["revision"] == ours.revision  # pinned already: not asked
    assert not any("Phi-3" in each for each in hub.asked())

    (tmp_path / "mine.yaml").write_text(out)
    wider = added(load_catalog(), read_file(tmp_path / "mine.yaml"))
    pinned = wider.preset(UNPINNED)
    assert pinned is not None
    assert pinned.revision == COMMIT
    assert len(wider.presets) == len(load_catalog().presets) + 1


def test_the_newest_commit_of_a_pinned_model_keeps_the_earlier_one_in_mind(hub: ModelHub) -> None:
    hub.models["microsoft/Phi-3-mini-4k-instruct"] = Model(revisions=(OLDER,))
    code, out, _ = kaito("models", "pin", "phi-3-mini-4k-instruct", "--newest")
    assert code == 0
    found = entries(out)["phi-3-mini-4k-instruct"]
    ours = load_catalog().preset("phi-3-mini-4k-instruct")
    assert ours is not None
    assert found["revision"] == OLDER
    assert found["earlier_revisions"] == [ours.revision, *ours.earlier_revisions]


def test_a_config_map_is_one_that_the_operator_reads(hub: ModelHub, tmp_path: Path) -> None:
    hub.models[ID] = Model()
    code, out, _ = kaito("models", "pin", ID, "--config-map", "models")
    assert code == 0
    found = yaml.safe_load(out)
    assert found["metadata"] == {
        "name": "models",
        "namespace": "kaito-system",
        "labels": {"kaito.sh/catalog": "true"},
    }
    (tmp_path / "map.yaml").write_text(out)
    code, listed, _ = kaito("models", "list", "--json", "--catalog", str(tmp_path / "map.yaml"))
    assert code == 0
    assert any(each["repo"] == ID and each["revision"] == COMMIT for each in json.loads(listed))


def test_what_cannot_be_pinned_is_told_and_never_made_up(hub: ModelHub) -> None:
    hub.models[ID] = Model()
    code, out, wrong = kaito("models", "pin", ID, UNPINNED)
    assert code == 1
    assert set(entries(out)) == {"writer-8b"}
    assert f"Not pinned: {UNPINNED}: the hub {hub.url} has no {UNPINNED}." in wrong


def test_all_that_are_not_pinned_can_be_asked_for_at_once(hub: ModelHub) -> None:
    open_ones = [
        each for each in load_catalog().presets if each.repo and not each.revision and not each.deprecated
    ]
    hub.models = {each.repo: Model() for each in open_ones if each.repo}
    code, out, _ = kaito("models", "pin", "--unpinned")
    assert code == 0
    assert set(entries(out)) == {each.name for each in open_ones}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Name the models to pin"),
        (("phi-4", "--unpinned"), "Name the models to pin"),
        (("no-such-model",), "no-such-model is not known; nearest: "),
    ],
)
def test_what_is_asked_for_in_vain_is_said_before_the_hub_is_asked(
    hub: ModelHub, arguments: tuple[str, ...], said: str
) -> None:
    code, out, wrong = kaito("models", "pin", *arguments)
    assert (code, out) == (1, "")
    assert said in wrong
    assert hub.asked() == []


def test_a_catalogue_of_ones_own_is_planned_with(tmp_path: Path) -> None:
    size = {
        "name": "Standard_NEW8_v9",
        "cloud": "azure",
        "gpus": 8,
        "memory_gib": 1536,
        "model": "NVIDIA B200",
    }
    model = {
        "name": "our-writer",
        "weights_gib": 14.96,
        "dimensions": {"hidden_size": 4096, "layers": 32, "attention_heads": 32, "key_value_heads": 8},
        "context_tokens": 131072,
        "runtimes": ["vllm"],
        "tag": "1",
    }
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"presets": [model], "skus": [size]}))
    asked = yaml.safe_load(workspace("our-writer"))
    asked["resource"]["instanceType"] = "standard_new8_v9"
    code, out, _ = kaito("plan", "-f", "-", "--catalog", str(own), text=yaml.safe_dump(asked))
    assert code == 0, out
    assert "1 x Standard_NEW8_v9 (8 x NVIDIA B200, 1536 GiB)" in out
    code, out, _ = kaito("models", "search", "our-writer", "--catalog", str(own), "--json")
    assert [each["name"] for each in json.loads(out)] == ["our-writer"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("presets: [", "own.yaml: "),
        ("presets:\n- {name: x}\n", "own.yaml: presets[0] (x): runtimes: Field required"),
        ("models: []", "expected a map with the keys presets and skus"),
        ("", "holds neither a catalogue nor a ConfigMap with one"),
        ("kind: ConfigMap\ndata: {a: 'skus: 7'}\n", "own.yaml, a: skus: expected a list"),
    ],
)
def test_a_bad_catalogue_is_refused_with_file_and_field(tmp_path: Path, text: str, said: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    code, out, wrong = kaito("models", "list", "--catalog", str(own))
    assert (code, out) == (1, "")
    assert said in wrong
