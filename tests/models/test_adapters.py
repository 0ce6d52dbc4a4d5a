"""Adapters beside PEFT, which is the measure: the same scores and the same words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from kaito_presets import lora
from kaito_presets.adapters import AdapterChoice, BadAdapter
from kaito_presets.engines.transformers.engine import TransformersEngine
from kaito_presets.server.names import COMBINED
from models.support import (
    AdapterSpec,
    ask,
    generated,
    make_adapter,
    make_engine,
    make_model,
    pefts_warnings_ignored,
    prompts,
)

STRENGTHS = {"one": 0.5, "two": 1.0, "three": 0.25}
PROMPT = "what is the capital of France"


@pytest.fixture(scope="module")
def prepared(tiny: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the server hands to the engine."""
    choices = [AdapterChoice(name, strength) for name, strength in STRENGTHS.items()]
    return lora.prepare(tiny, adapters, choices, COMBINED, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def oracle(tiny: Path, adapters: Path) -> dict[str | None, Any]:
    """For each name a model into whose weights strength times PEFT's own change was added.

    (PEFT's add_weighted_adapter isn't the measure: it takes an rsLoRA's scale for that of a plain LoRA.)
    """

    def base() -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()

    models = {key: base() for key in (None, *STRENGTHS, COMBINED)}
    for name, strength in STRENGTHS.items():
        with pefts_warnings_ignored():
            trained = peft.PeftModel.from_pretrained(base(), adapters / name)
        for module, layer in trained.base_model.model.named_modules():
            if isinstance(layer, peft.tuners.lora.LoraLayer):
                for key in (name, COMBINED):
                    weight = models[key].get_submodule(module).weight
                    weight.data += strength * layer.get_delta_weight("default").detach()
    return models


@pytest.fixture
async def engine(tiny: Path, prepared: dict[str, Path]) -> AsyncIterator[TransformersEngine]:
    loaded = make_engine(tiny)
    loaded.load(prepared)
    yield loaded
    await loaded.close()


async def test_each_name_says_what_peft_says(
    engine: TransformersEngine, oracle: dict[str | None, Any], tiny: Path
) -> None:
    answers = {}
    for adapter in (None, *STRENGTHS, COMBINED):
        answers[adapter] = (await ask(engine, PROMPT, adapter))[0]
        assert answers[adapter] == generated(oracle[adapter], tiny, PROMPT)
    assert len(set(answers.values())) == 5  # every adapter changes the answer


async def test_in_one_batch_each_row_has_its_own_adapter(
    engine: TransformersEngine, oracle: dict[str | None, Any], tiny: Path
) -> None:
    asked = [(prompt, adapter) for prompt in prompts(5) for adapter in (None, *STRENGTHS, COMBINED)]
    answers = await asyncio.gather(*(ask(engine, prompt, adapter) for prompt, adapter in asked))
    for (prompt, adapter), (text, _) in zip(asked, answers, strict=True):
        assert text == generated(oracle[adapter], tiny, prompt)


def test_scores_are_pefts_scores(engine: TransformersEngine, oracle: dict[str | None, Any]) -> None:
    loaded, scheduler = engine._loaded, engine._scheduler
    assert loaded is not None
    assert scheduler is not None
    assert scheduler._deltas is not None
    tokens = torch.tensor([loaded.encode(PROMPT, True)])
    keys = [None, *STRENGTHS, COMBINED]
    with torch.inference_mode():
        scheduler._deltas.select(keys)
        ours = loaded.model(input_ids=tokens.expand(len(keys), -1)).logits
        for row, key in enumerate(keys):
            theirs = oracle[key](input_ids=tokens).logits[0]
            torch.testing.assert_close(ours[row], theirs, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_another_model_is_refused(tiny: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", hidden_size=32)
    make_adapter(other, tmp_path / "adapters" / "wrong", AdapterSpec(rank=2, alpha=2, seed=0))
    with pytest.raises(BadAdapter, match="does not fit this model"):
        lora.prepare(tiny, tmp_path / "adapters", [AdapterChoice("wrong")], None, tmp_path / "out")


def test_what_is_no_linear_layer_is_refused(tiny: Path, prepared: dict[str, Path], tmp_path: Path) -> None:
    whole = lora.load(prepared["one"].parent, prepared["one"].name, None)
    change = next(iter(whole.changes.values()))
    lora.save({"model.layers.0.self_attn.q_proj": change}, tmp_path / "odd", base="x")
    with pytest.raises(BadAdapter, match=r"Adapter odd changes .*q_proj, which is no plain linear layer"):
        make_engine(tiny).load({"odd": tmp_path / "odd"})
