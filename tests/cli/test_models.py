"""`kaito models`: list, search, JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from kaito.catalog import load_catalog
from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.cli.models.command import properties, run_models, search

CATALOG = load_catalog()


def names(*words: str) -> list[str]:
    return [each.name for each in search(CATALOG, words)]


def test_without_words_every_model_comes_by_name() -> None:
    assert names() == sorted(each.name for each in CATALOG.presets)
    assert names("", " ") == names()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("Phi-4",), ["phi-4"]),
        (("microsoft/PHI-4",), ["phi-4"]),
        (("phi-4", "mini"), ["phi-4-mini-instruct"]),
        (("awq",), ["qwen3-8b-awq"]),
        (("mit", "tuning", "medium"), ["phi-3-medium-128k-instruct", "phi-3-medium-4k-instruct"]),
        (("deprecated",), ["phi-2"]),
        (("no gpu",), ["tiny-phi-3"]),
        (("own image", "chat"), ["llama-2-13b-chat", "llama-2-70b-chat", "llama-2-7b-chat"]),
        (("any-to-any", "e4b"), ["gemma-4-e4b-it"]),
        (("mxfp4",), ["gpt-oss-120b", "gpt-oss-20b"]),
        (("nothing of the kind",), []),
    ],
)
def test_all_words_must_occur_in_what_is_known_of_a_model(words: tuple[str, ...], found: list[str]) -> None:
    assert names(*words) == found


def test_properties_say_what_a_user_must_bring_or_expect() -> None:
    of = {each.name: properties(each) for each in CATALOG.presets}
    assert of["phi-3-mini-4k-instruct"] == ["tuning", "several nodes"]
    assert of["falcon-7b"] == ["tuning"]
    assert of["llama-3.1-8b-instruct"] == ["token", "several nodes"]
    assert of["qwen3.6-35b-a3b"] == ["experts", "several nodes", "unpinned"]
    assert of["llama-2-7b"] == ["own image"]


def test_the_table_names_each_model_and_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    run_models((), json=False)
    out = capsys.readouterr().out
    for each in CATALOG.presets:
        assert f" {each.name} " in out
    assert "641.3 GiB" in out
    assert "294,912" in out
    assert f"{len(CATALOG.presets)} models." in out


def test_json_has_all_fields_of_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    run_models(["gpt-oss-20b"], json=True)
    (found,) = json.loads(capsys.readouterr().out)
    assert found["name"] == "gpt-oss-20b"
    assert found["quantization"] == {"method": "mxfp4", "bits": None}
    assert found["attention_layers"]["window"] == 128
    assert found["gpu_memory_gib"] is None
    assert found["vllm"]["reasoning_parser"] == "openai_gptoss"


def test_nothing_found_names_what_is_near() -> None:
    with pytest.raises(
        CliError, match="no model is about 'fhi-4-mini'; the nearest names are phi-4-mini-instruct"
    ):
        run_models(["fhi-4-mini"], json=False)


def test_the_commands_are_there() -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["models", "list", "--json"])
    assert listed.exit_code == 0
    assert len(json.loads(listed.stdout)) == len(CATALOG.presets)
    found = runner.invoke(app, ["models", "search", "granite"])
    assert found.exit_code == 0
    assert "ibm-granite/granite-4.1-8b" in found.stdout
    assert runner.invoke(app, ["models", "search"]).exit_code == 2
