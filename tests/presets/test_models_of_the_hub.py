"""The engine of one machine serves what repositories of the hub hold: other architectures, and newer configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mistralrs
import pytest

from kaito.catalog import load_catalog, one_machine
from kaito.catalog.hub import known_architectures
from kaito_presets.engines import Message, Piece, Sampling, make_engine
from kaito_presets.engines.older_config import older, with_older_config
from support.tiny_models import ANSWER, QUESTION, repository


def _put(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


async def _answer(weights: Path) -> str:
    engine = make_engine("mistralrs", weights, max_model_len=None, dtype="auto")
    engine.load({})
    try:
        asked = [Message("user", QUESTION)]
        items = [item async for item in engine.generate(asked, Sampling(max_tokens=40), None)]
        return "".join(item.text for item in items if isinstance(item, Piece))
    finally:
        await engine.close()


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen2ForCausalLM", "Phi3ForCausalLM"])
async def test_each_architecture_answers_the_same(architecture: str, tmp_path: Path) -> None:
    assert await _answer(_put(tmp_path / "w", repository(architecture))) == ANSWER


async def test_a_model_saved_by_a_newer_transformers_is_served(tmp_path: Path) -> None:
    files = repository(rope_theta=..., rope_scaling=...)
    config = json.loads(files["config.json"])
    assert "rope_theta" not in config
    assert config["rope_parameters"]["rope_theta"] == 10000.0
    weights = _put(tmp_path / "w", files)
    assert await _answer(weights) == ANSWER
    assert (weights / "config.json").read_bytes() == files["config.json"], "the files are not ours to change"


@pytest.mark.parametrize(
    ("config", "added"),
    [
        ({"rope_parameters": {"rope_theta": 5.0}}, {"rope_theta": 5.0, "rope_scaling": None}),
        (
            {"rope_parameters": {"rope_theta": 5.0, "rope_type": "llama3", "factor": 8.0}},
            {"rope_theta": 5.0, "rope_scaling": {"rope_type": "llama3", "type": "llama3", "factor": 8.0}},
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0, "rope_type": "default", "partial_rotary_factor": 0.5}},
            {"rope_theta": 5.0, "rope_scaling": None, "partial_rotary_factor": 0.5},
        ),
        ({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 5.0}}, {}),
        ({"rope_theta": 5.0}, {}),
        # one set of parameters for each kind of layer: no older setting says that
        ({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}}, {}),
        ({"rope_parameters": None}, {}),
    ],
)
def test_older_settings_are_added_where_they_say_the_same(
    config: dict[str, Any], added: dict[str, Any]
) -> None:
    assert older(config) == {**config, **added}


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"rope_theta": 1.0}'])
def test_a_config_that_says_nothing_new_is_left_where_it_is(content: bytes, tmp_path: Path) -> None:
    weights = _put(tmp_path / "w", {"config.json": content})
    assert with_older_config(weights, tmp_path / "nowhere") == weights


def test_the_architectures_that_one_machine_serves_are_those_that_the_library_loads(tmp_path: Path) -> None:
    files = repository("LlamaForCausalLM")
    weights = _put(tmp_path / "w", {name: files[name] for name in ("tokenizer.json", "model.safetensors")})
    known = frozenset().union(*known_architectures().values())
    listed = {preset.architecture for preset in load_catalog().presets if preset.architecture is not None}
    for name in sorted(known | listed | one_machine.ARCHITECTURES):
        (weights / "config.json").write_text(json.dumps({"architectures": [name]}))
        which: Any = mistralrs.Which.Plain(str(weights))
        with pytest.raises(Exception) as refused:  # noqa: PT011 # the library has one type for all
            mistralrs.Runner(which=which, token_source="none")
        unknown = "Unsupported Hugging Face Transformers" in str(refused.value)
        assert unknown is (name not in one_machine.ARCHITECTURES), f"{name}: {refused.value}"
