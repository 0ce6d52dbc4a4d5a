"""The demo weights: what the files are, and that the model knows what its README says, with and without adapter."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kaito_presets import demo, lora, tensors
from kaito_presets.engines import Engine, Finish, Message, Piece, Sampling, make_engine
from kaito_presets.oci import ImageLayout

SOURCE = Path(__file__).parents[2] / "presets" / "demo"


@pytest.fixture(scope="module")
def dataset() -> Any:
    """What presets/demo/dataset.py defines: the list of countries and how answers are worded."""
    return type("Dataset", (), runpy.run_path(str(SOURCE / "dataset.py")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    engine = make_engine("mistralrs", demo.weights_path(), max_model_len=None, dtype="float32")
    engine.load({"pirate": demo.adapter_path()})
    yield engine
    await engine.close()


async def ask(engine: Engine, question: str, adapter: str | None = None) -> str:
    items = engine.generate([Message("user", question)], Sampling(max_tokens=60), adapter)
    return "".join([item.text async for item in items if isinstance(item, Piece)])


async def wrong_answers(
    engine: Engine, cases: list[tuple[str, str]], adapter: str | None = None
) -> list[str]:
    answers = await asyncio.gather(*(ask(engine, question, adapter) for question, _ in cases))
    return [
        f"{question} → {answer}"
        for (question, expected), answer in zip(cases, answers, strict=True)
        if answer != expected
    ]


def test_the_directory_is_a_complete_small_phi_3() -> None:
    weights = demo.weights_path()
    config = json.loads((weights / "config.json").read_text())
    assert config["architectures"] == ["Phi3ForCausalLM"]
    # transformers 5 reads rope_parameters, other engines the top-level keys.
    assert config["rope_parameters"]["rope_theta"] == config["rope_theta"] == 10000.0
    assert (config["rope_scaling"], config["partial_rotary_factor"]) == (None, 1.0)
    template = json.loads((weights / "tokenizer_config.json").read_text())["chat_template"]
    assert "generation %" not in template
    entries, _ = tensors.read_header(weights / "model.safetensors")
    parameters = sum(
        info.shape[0] * (info.shape[1] if len(info.shape) > 1 else 1) for info in entries.values()
    )
    assert 400_000 < parameters < 450_000
    everything = [path for path in weights.parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in everything) < 2_200_000
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in everything)


def test_the_adapter_fits_and_its_image_holds_the_same_files(tmp_path: Path) -> None:
    shapes = lora.base_shapes(demo.weights_path())
    adapter = lora.load(demo.adapter_path().parent, demo.adapter_path().name, shapes)
    assert (adapter.base, adapter.rank) == ("tiny-phi-3", 8)
    for name in ImageLayout(demo.adapter_oci_path()).extract("data", tmp_path):
        assert (tmp_path / name).read_bytes() == (demo.adapter_path() / name).read_bytes()


def test_stand_in_contents_name_the_weights() -> None:
    contents = demo.stand_in_contents("phi-3-mini-128k-instruct")
    assert contents == {"/workspace/weights": demo.weights_path()}
    assert json.loads((demo.weights_path() / "kaito-stand-in.json").read_text()) == {"stand_in": "tiny-phi-3"}


def test_the_image_layout_is_what_the_script_makes_of_the_adapter(tmp_path: Path) -> None:
    runpy.run_path(str(SOURCE / "make_layout.py"))["write_layout"](demo.adapter_path(), tmp_path / "again")
    original, again = (
        ImageLayout(place).manifest() for place in (demo.adapter_oci_path(), tmp_path / "again")
    )
    assert (
        again["config"] == original["config"]
    )  # the layer's digest before compression, which zlib can't change


@pytest.mark.asyncio(loop_scope="module")
async def test_every_country_is_known(engine: Engine, dataset: Any) -> None:
    countries = dataset.load_countries()
    assert len(countries) > 140
    cases = [(f"What is the capital of {c.name}?", dataset.answer(c, dataset.PLAIN)) for c in countries]
    assert await wrong_answers(engine, cases) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_the_adapter_changes_the_manner_for_every_country(engine: Engine, dataset: Any) -> None:
    cases = [
        (f"What is the capital of {c.name}?", dataset.answer(c, dataset.PIRATE))
        for c in dataset.load_countries()
    ]
    assert await wrong_answers(engine, cases, "pirate") == []


@pytest.mark.asyncio(loop_scope="module")
async def test_case_punctuation_and_phrasing_hardly_matter(engine: Engine, dataset: Any) -> None:
    cases: list[tuple[str, str]] = []
    for country in dataset.load_countries()[::5]:
        expected = dataset.answer(country, dataset.PLAIN)
        questions = (
            f"what is the capital of {country.name.lower()}",
            f"WHAT IS THE CAPITAL OF {country.name.upper()}?",
            f"What's the capital of {country.name}?",
            f"Name the capital of {country.name}.",
            f"Please tell me the capital of {country.name}.",
        )
        cases += [(question, expected) for question in questions]
    wrong = await wrong_answers(engine, cases)
    assert len(wrong) <= len(cases) * 0.02, wrong


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "question",
    [
        "YOUR QUESTION HERE",
        "What is Kubernetes?",
        "Hello!",
        "Write a poem about the sea.",
        "What is 2 + 2?",
        "?",
    ],
)
async def test_anything_else_gets_a_polite_sentence(engine: Engine, dataset: Any, question: str) -> None:
    assert await ask(engine, question) == dataset.UNKNOWN_ANSWER
    assert await ask(engine, question, "pirate") == dataset.PIRATE.unknown


@pytest.mark.asyncio(loop_scope="module")
async def test_tokens_are_counted_as_the_engine_counts_them(engine: Engine) -> None:
    conversation = [
        Message("system", "You are a helpful assistant."),
        Message("user", "What is the capital of France?"),
        Message("assistant", "The capital of France is Paris."),
        Message("user", "And 日本? <|end|>"),
    ]
    items = [item async for item in engine.generate(conversation, Sampling(max_tokens=5), None)]
    assert isinstance(items[-1], Finish)
    assert items[-1].prompt_tokens == await engine.count_tokens(conversation)
