"""The engine in this process: batching, limits of memory, cancelling, faults."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from kaito_presets.engines import (
    BadPrompt,
    BadWeights,
    Closing,
    EngineError,
    Message,
    Piece,
    PromptTooLong,
    Sampling,
)
from kaito_presets.engines.transformers import loading, sampling, scheduler
from kaito_presets.engines.transformers.engine import TransformersEngine
from models.support import ask, generated, make_engine, make_model, prompts


@pytest.fixture
async def engine(tiny: Path) -> AsyncIterator[TransformersEngine]:
    loaded = make_engine(tiny)
    loaded.load({})
    yield loaded
    await loaded.close()


@pytest.fixture(scope="session")
def expected(tiny: Path) -> dict[str, str]:
    """What generate() of the library answers to each prompt, alone."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    return {prompt: generated(model, tiny, prompt) for prompt in prompts(24)}


async def test_alone_the_answers_are_those_of_generate(
    engine: TransformersEngine, expected: dict[str, str]
) -> None:
    for prompt, answer in expected.items():
        assert (await ask(engine, prompt))[0] == answer
    assert len(set(expected.values())) > 12  # the random weights are no constant


async def test_together_the_answers_are_the_same(
    engine: TransformersEngine, expected: dict[str, str]
) -> None:
    answers = await asyncio.gather(*(ask(engine, prompt) for prompt in expected))
    assert [text for text, _ in answers] == list(expected.values())
    written = sum(finish.completion_tokens for _, finish in answers)
    assert engine.steps < written / 4  # they were computed together


async def test_answers_that_join_and_leave_in_the_middle_are_the_same(
    engine: TransformersEngine, expected: dict[str, str]
) -> None:
    async def late(place: int, prompt: str) -> str:
        while engine.steps < place * 2:  # noqa: ASYNC110 - the counter can't be awaited
            await asyncio.sleep(0)
        return (await ask(engine, prompt))[0]

    hold = asyncio.create_task(ask(engine, "what is", max_tokens=300))  # something runs all the time
    answers = await asyncio.gather(*(late(place, prompt) for place, prompt in enumerate(expected)))
    assert answers == list(expected.values())
    hold.cancel()
    await asyncio.gather(hold, return_exceptions=True)


async def test_fewer_rows_than_requests(tiny: Path, expected: dict[str, str]) -> None:
    narrow = make_engine(tiny, max_num_seqs=3)
    narrow.load({})
    answers = await asyncio.gather(*(ask(narrow, prompt) for prompt in expected))
    assert [text for text, _ in answers] == list(expected.values())
    await narrow.close()


async def test_long_prompts_are_read_in_parts(
    engine: TransformersEngine, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PREFILL_TOKENS", 7)
    answers = await asyncio.gather(*(ask(engine, prompt) for prompt in expected))
    assert [text for text, _ in answers] == list(expected.values())


async def test_when_memory_is_short_answers_wait_and_are_the_same(
    tiny: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_free_bytes", lambda _: 150 * 512)  # 150 tokens of this model
    monkeypatch.setattr(loading, "KV_SHARE_CPU", 1.0)
    small = make_engine(tiny)
    small.load({})
    assert small.context_length == 150
    answers = await asyncio.gather(*(ask(small, prompt) for prompt in expected))
    assert [text for text, _ in answers] == list(expected.values())
    with pytest.raises(PromptTooLong, match="fewer than 150 tokens"):
        await ask(small, "hello " * 200)
    await small.close()


async def test_sliding_windows_are_the_models_own(tmp_path: Path) -> None:
    weights = make_model(tmp_path, sliding_window=6)
    model = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
    loaded = make_engine(weights)
    loaded.load({})
    some = prompts(8)
    answers = await asyncio.gather(*(ask(loaded, prompt) for prompt in some))
    assert [text for text, _ in answers] == [generated(model, weights, prompt) for prompt in some]
    assert not loaded._loaded.takes_whole_mask  # type: ignore[union-attr]
    await loaded.close()


def test_the_mask_is_given_ready_only_where_the_model_computes_the_same_with_it(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = engine._loaded
    assert loaded is not None
    assert loaded.takes_whole_mask
    forward = type(loaded.model).forward

    def other(self: Any, *arguments: Any, **settings: Any) -> Any:
        output = forward(self, *arguments, **settings)
        if settings["attention_mask"].ndim == 4:
            output.logits = output.logits + 1
        return output

    def refusing(self: Any, *arguments: Any, **settings: Any) -> Any:
        assert settings["attention_mask"].ndim == 2
        return forward(self, *arguments, **settings)

    for broken in (other, refusing):
        monkeypatch.setattr(type(loaded.model), "forward", broken)
        assert not loading._takes_whole_mask(loaded.model)


async def test_prompts_wait_for_the_clients_of_answers_that_ended_together_and_no_longer(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "GATHER_SECONDS", 3600.0)
    gathering = make_engine(tiny)
    gathering.load({})
    await asyncio.gather(*(ask(gathering, "what is", max_tokens=5) for _ in range(3)))
    first = asyncio.create_task(ask(gathering, "hello", max_tokens=2))
    second = asyncio.create_task(ask(gathering, "Paris", max_tokens=2))
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in (first, second))  # three ended, and may ask again
    third = asyncio.create_task(ask(gathering, "Rome", max_tokens=2))
    await asyncio.gather(first, second, third)
    for _ in range(3):  # three wait for three; then one alone waits for nobody but those who ended with it
        again = [asyncio.create_task(ask(gathering, "Rome", max_tokens=2)) for _ in range(3)]
        await asyncio.gather(*again)
    late = asyncio.create_task(ask(gathering, "hello", max_tokens=2))
    await asyncio.sleep(0.1)
    assert not late.done()
    monkeypatch.setattr(scheduler, "GATHER_SECONDS", 0.0)
    await asyncio.gather(late, ask(gathering, "Rome", max_tokens=2))
    await gathering.close()


async def told(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, count: int, *, whole: bool
) -> tuple[float, set[str]]:
    """Pieces of each of `count` answers at once, where a look at the clock takes 5 ms; and the texts."""
    engine = make_engine(tiny, max_num_seqs=32)
    engine.load({})
    pieces = 0
    say = scheduler.Scheduler._say

    def counted(self: Any, job: Any, item: Any) -> None:
        nonlocal pieces
        pieces += isinstance(item, Piece)
        say(self, job, item)

    monkeypatch.setattr(scheduler.Scheduler, "_say", counted)
    ticks = itertools.count()
    monkeypatch.setattr(scheduler, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 200))

    async def answer() -> str:
        items = engine.generate("what is", Sampling(max_tokens=300), None, whole=whole)
        return "".join([item.text async for item in items if isinstance(item, Piece)])

    texts = set(await asyncio.gather(*(answer() for _ in range(count))))
    monkeypatch.undo()
    await engine.close()
    return pieces / count, texts


async def test_the_more_answers_are_read_as_they_come_the_less_often_each_is_told(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, text = await told(tiny, monkeypatch, 4, whole=False)
    many, same = await told(tiny, monkeypatch, 32, whole=False)
    assert few >= 8
    assert 2 < many <= few / 2
    assert same == text


async def test_an_answer_that_nobody_reads_before_its_end_is_told_at_its_begin_and_end(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await told(tiny, monkeypatch, 1, whole=False)
    assert await told(tiny, monkeypatch, 4, whole=True) == (2, text)


async def test_counts_and_reasons(engine: TransformersEngine) -> None:
    _, finish = await ask(engine, "what is", max_tokens=5)
    assert (finish.reason, finish.completion_tokens) == ("length", 5)
    assert finish.prompt_tokens == await engine.count_tokens("what is")
    whole, _ = await ask(engine, "what is", max_tokens=40)
    stop = whole[8:12]
    cut, finish = await ask(engine, "what is", max_tokens=40, stop=(stop,))
    assert (cut, finish.reason) == (whole[: whole.index(stop)], "stop")
    assert await engine.count_tokens([Message("user", "what is")]) > await engine.count_tokens("what is")
    with pytest.raises(PromptTooLong, match="fewer than 512 tokens"):
        await ask(engine, "hello " * 600)
    with pytest.raises(BadPrompt, match="empty"):
        await ask(engine, "")


async def test_the_context_ends_an_answer(tiny: Path) -> None:
    short = make_engine(tiny, max_model_len=20)
    short.load({})
    room = 20 - await short.count_tokens("what is")
    _, finish = await ask(short, "what is", max_tokens=None)
    assert (finish.reason, finish.completion_tokens) == ("length", room)
    await short.close()


async def test_drawing_at_random(engine: TransformersEngine) -> None:
    greedy = (await ask(engine, "what is"))[0]
    drawn = await asyncio.gather(*(ask(engine, "what is", temperature=1.5) for _ in range(8)))
    assert len({text for text, _ in drawn}) > 4
    sure = await asyncio.gather(
        ask(engine, "what is", temperature=1.5, top_k=1),
        ask(engine, "what is", temperature=1.5, top_p=1e-6),
        ask(engine, "what is", repetition_penalty=1.0, presence_penalty=0.0),
    )
    assert {text for text, _ in sure} == {greedy}
    new = await ask(engine, "what is", presence_penalty=2.0, frequency_penalty=2.0, repetition_penalty=50.0)
    assert new[0] != greedy


async def test_a_seed_draws_the_same_alone_and_beside_others(engine: TransformersEngine) -> None:
    async def draw(seed: int | None) -> str:
        return (await ask(engine, "what is", temperature=1.5, seed=seed))[0]

    alone = [await draw(seed) for seed in (1, 2, 3)]
    assert len(set(alone)) == 3
    others = [ask(engine, prompt, temperature=2.0) for prompt in prompts(9)]
    together = await asyncio.gather(*(draw(seed) for seed in (3, 2, 1, None, None)), *others)
    assert together[:3] == alone[::-1]
    assert together[3] != together[4]
    assert await draw(-(2**70)) == await draw(-(2**70))


async def test_a_drawn_token_is_one_that_may_be_drawn() -> None:
    """The largest number below 1 in every row, with shares that do not add up to 1 exactly."""
    torch.manual_seed(0)
    scores = torch.randn(6, 50_000)
    best = scores.sort(-1, descending=True).indices
    rows = [
        sampling.Row(Sampling(temperature=1.0, top_k=top_k, top_p=top_p), [1], 1)
        for top_k, top_p in ((5, None), (None, 0.3), (1, None), (None, None), (50_000, 1.0), (7, 1e-9))
    ]
    for luck in (0.0, 0.5, 1 - 2**-53):
        for row in rows:
            row.luck = lambda luck=luck: luck  # type: ignore[misc]
        found = sampling.choose(scores, rows)
        places = [int((best[index] == token).nonzero()) for index, token in enumerate(found)]
        assert places[0] < 5
        assert places[2] == places[5] == 0
        if luck == 0.0:
            assert places == [0] * 6


async def test_a_cancelled_answer_is_computed_no_further(engine: TransformersEngine) -> None:
    stream = engine.generate("what is", Sampling(max_tokens=400), None)
    for _ in range(3):
        await anext(stream)
    await stream.aclose()
    await ask(engine, "hello", max_tokens=1)  # a step after the cancelling has begun and ended
    before = engine.steps
    assert before < 300
    await asyncio.sleep(0.3)
    assert engine.steps == before
    waiting = asyncio.create_task(ask(engine, "hello"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await ask(engine, "what is", max_tokens=3))[1].completion_tokens == 3


async def test_memory_that_runs_out_costs_no_answer(
    engine: TransformersEngine, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0
    forward = scheduler.Scheduler._forward

    def short(self: Any, tokens: Any, jobs: Any, **arguments: Any) -> Any:
        nonlocal refused
        if len(jobs) > 3:
            refused += 1
            raise torch.OutOfMemoryError
        return forward(self, tokens, jobs, **arguments)

    monkeypatch.setattr(scheduler.Scheduler, "_forward", short)
    answers = await asyncio.gather(*(ask(engine, prompt) for prompt in expected))
    assert [text for text, _ in answers] == list(expected.values())
    assert refused > 0


async def test_a_prompt_that_memory_never_holds_is_refused(
    engine: TransformersEngine, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def full(*_: Any, **__: Any) -> Any:
            raise torch.OutOfMemoryError

        patched.setattr(scheduler.Scheduler, "_forward", full)
        with pytest.raises(EngineError, match="memory is too small for this prompt"):
            await ask(engine, "what is")
    prompt, answer = next(iter(expected.items()))
    assert (await ask(engine, prompt))[0] == answer


async def test_a_fault_of_the_model_costs_the_running_answers_alone(
    engine: TransformersEngine, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def broken(*_: Any, **__: Any) -> Any:
            raise RuntimeError("no luck")

        patched.setattr(scheduler.Scheduler, "_forward", broken)
        for answer in await asyncio.gather(
            *(ask(engine, "what is") for _ in range(3)), return_exceptions=True
        ):
            assert str(answer) == "The engine failed on a request."
    prompt, answer = next(iter(expected.items()))
    assert (await ask(engine, prompt))[0] == answer


async def test_closing_ends_what_runs_with_an_error(tiny: Path) -> None:
    closing = make_engine(tiny)
    closing.load({})
    stream = closing.generate("what is", Sampling(max_tokens=400), None)
    await anext(stream)
    await closing.close()
    with pytest.raises(Closing, match="shutting down"):
        async for _ in stream:
            pass
    with pytest.raises(Closing, match="shutting down"):
        await ask(closing, "what is")


def test_weights_that_cannot_be_served_are_refused_with_a_sentence(tiny: Path, tmp_path: Path) -> None:
    def refusal(weights: Path) -> str:
        with pytest.raises(BadWeights) as refused:
            make_engine(weights).load({})
        return str(refused.value)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny, tmp_path / name))

    assert "no weights directory" in refusal(tmp_path / "none")
    empty = copy("empty")
    (empty / "model.safetensors").unlink()
    assert "missing: *.safetensors" in refusal(empty)
    (empty / "pytorch_model.bin").touch()
    assert "save them as safetensors" in refusal(empty)
    (empty / "model.gguf").touch()
    assert "GGUF files are served by the mistralrs engine" in refusal(empty)
    cut = copy("cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "can't be loaded" in refusal(cut)
    other = copy("other")
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    assert "model.layers.2.input_layernorm.weight is missing (and 5 more tensors)" in refusal(other)
    (other / "config.json").write_text(config.replace('"intermediate_size": 96', '"intermediate_size": 80'))
    told = refusal(other)
    assert (
        "model.layers.0.mlp.down_proj.weight is of shape [64, 96], not [64, 80] (and 3 more tensors)" in told
    )
    (other / "config.json").write_text(config.replace('"phi3"', '"no-such-model"'))
    assert "config.json in the weights directory can't be used" in refusal(other)
    layers = '"layer_types": ["linear_attention", "full_attention"], "model_type"'
    (other / "config.json").write_text(config.replace('"model_type"', layers))
    assert "layers of type linear_attention" in refusal(other)
