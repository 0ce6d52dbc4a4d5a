"""Weights whose tokenizer brings no chat template: every engine words conversations with ours, or takes one prompt."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from kaito_presets import demo
from kaito_presets.engines import Message, make_engine
from kaito_presets.engines.template import ChatTemplate
from kaito_presets.engines.vllm.arguments import Node, command_line
from kaito_presets.engines.vllm.prepare import prepare
from kaito_presets.server.app import create_app
from kaito_presets.server.service import Service
from kaito_presets.server.settings import Settings, VllmSettings
from presets.test_same_questions import FRANCE, INSTALLED, PARIS, WORDED, ask, content, vllm_client


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model's, without their template."""
    directory = tmp_path_factory.mktemp("weights") / "tiny"
    shutil.copytree(demo.weights_path(), directory)
    (directory / "kaito-stand-in.json").unlink()
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["chat_template"]
    path.write_text(json.dumps(settings))
    return directory


@contextmanager
def served(engine: str, preset: str, weights: Path, scratch: Path) -> Iterator[Any]:
    if engine == "vllm":
        yield from vllm_client(scratch, scratch / "root", preset, weights)
        return
    settings = Settings(preset, None, weights, scratch)
    made = make_engine(engine, weights, max_model_len=None, dtype="float32", preset=preset)
    with TestClient(create_app(Service(settings, made), lambda _: None)) as client:
        while client.get("/healthz").status_code != 200:
            time.sleep(0.01)
        yield client


@pytest.mark.parametrize(
    "engine", [name for name in INSTALLED if name != "vllm"]
)  # which is told the same below
def test_a_conversation_is_worded_with_our_template(engine: str, weights: Path, tmp_path: Path) -> None:
    with served(engine, "phi-3-mini-4k-instruct", weights, tmp_path) as client:
        assert content(ask(client, None)) == PARIS
        assert client.post("/chat", json={"prompt": FRANCE}).json() == {"Result": PARIS}


NAMES = ("llama-3.1-8b-instruct", "llama-2-7b-chat", "mistral-7b-instruct", "phi-2", "falcon-7b-instruct")


@pytest.mark.skipif("mistralrs" not in INSTALLED, reason="the others' templates are rendered by Jinja itself")
@pytest.mark.parametrize("preset", NAMES)
def test_the_engine_that_renders_by_itself_words_it_in_the_same_way(
    preset: str, weights: Path, tmp_path: Path
) -> None:
    """It counts the prompt's tokens when it answers; before, they are counted by our own rendering."""
    turns = [{"role": role, "content": "Hi"} for role in ("system", "user", "assistant", "user")]
    template = ChatTemplate.of(weights, preset)
    assert template is not None
    text = template.render([Message(turn["role"], turn["content"]) for turn in turns])
    with served("mistralrs", preset, weights, tmp_path) as client:
        answer = client.post("/v1/chat/completions", json={"messages": turns, "max_tokens": 1})
        again = client.post("/v1/completions", json={"prompt": text, "max_tokens": 1})
        assert answer.json()["usage"] == again.json()["usage"], answer.text


@pytest.mark.parametrize("engine", INSTALLED)
def test_one_prompt_is_continued_and_a_conversation_refused(
    engine: str, weights: Path, tmp_path: Path
) -> None:
    with served(engine, "falcon-7b", weights, tmp_path) as client:
        assert client.post("/chat", json={"prompt": WORDED}).json() == {"Result": PARIS}
        turns = [{"role": role, "content": "Hi"} for role in ("user", "assistant", "user")]
        for path in ("/chat", "/v1/chat/completions"):
            refused = client.post(path, json={"messages": turns})
            assert refused.status_code == 400
            assert "conversation" in refused.text


def template_flag(weights: Path, scratch: Path, preset: str, *said: str, **options: Any) -> str | None:
    """What vLLM is told, without its flag."""
    settings = Settings(preset, None, weights, scratch, engine="vllm", vllm=VllmSettings(said, options))
    line = command_line(prepare(settings, Node(), scratch).asked, "127.0.0.1", 5000)
    flag = "--chat-template="
    return next((each.removeprefix(flag) for each in line if each.startswith(flag)), None)


def test_vllm_is_told_of_a_template_where_the_weights_bring_none(weights: Path, tmp_path: Path) -> None:
    told = template_flag(weights, tmp_path, "phi-2")
    assert told is not None
    assert "Instruct: " in Path(told).read_text()
    told = template_flag(weights, tmp_path, "falcon-7b")
    assert told is not None
    assert "was not made for conversations" in Path(told).read_text()
    assert template_flag(demo.weights_path(), tmp_path, "phi-2") is None


def test_what_the_catalogue_or_the_user_says_goes_before_it(weights: Path, tmp_path: Path) -> None:
    told = template_flag(weights, tmp_path, "phi-2", "chat-template=tool-chat-hermes")
    assert told is not None
    assert told.endswith("/tool-chat-hermes.jinja")
    assert template_flag(weights, tmp_path, "phi-2", **{"chat-template": "/mine"}) == "/mine"
    assert template_flag(weights, tmp_path, "phi-2", "tokenizer-mode=mistral") is None
