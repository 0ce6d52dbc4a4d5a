"""The engine for GPUs that vLLM doesn't serve, and for any model that the transformers library knows: `transformers`.

Why it has a batching loop of its own is told in docs/decisions/028-transformers-engine.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import transformers

from kaito_presets.engines import (
    BadPrompt,
    BadWeights,
    EngineError,
    Finish,
    Memory,
    Piece,
    Prompt,
    PromptTooLong,
    Sampling,
)
from kaito_presets.engines.lengths import tokens_of
from kaito_presets.engines.template import ChatTemplate
from kaito_presets.engines.transformers.deltas import Deltas
from kaito_presets.engines.transformers.loading import Loaded, load
from kaito_presets.engines.transformers.scheduler import Job, Scheduler
from kaito_presets.engines.transformers.text import TextStream

#: Prompts of more characters are worded and turned into tokens in a thread.
LONG_TEXT = 20_000

_Item = Piece | Finish | Exception

log = logging.getLogger(__name__)


class TransformersEngine:
    """See `kaito_presets.engines.Engine`. `dtype` is auto, float32, float16 or bfloat16."""

    name = "transformers"

    def __init__(
        self, weights: Path, *, max_model_len: int | None, dtype: str, max_num_seqs: int, preset: str = ""
    ) -> None:
        self._weights = weights
        self._max_model_len = max_model_len
        self._dtype = dtype
        self._max_num_seqs = max_num_seqs
        self._preset = preset
        self._loaded: Loaded | None = None
        self._scheduler: Scheduler | None = None
        self._template: ChatTemplate | None = None
        self._context_length = 0

    @property
    def version(self) -> str:
        return str(transformers.__version__)

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def memory(self) -> Memory | None:
        return self._loaded.memory if self._loaded else None

    @property
    def steps(self) -> int:
        """Calls of the model for one more token of every running answer, since the start."""
        return self._scheduler.steps if self._scheduler else 0

    def load(self, adapters: Mapping[str, Path]) -> None:
        loaded = load(self._weights, self._dtype)
        deltas = Deltas(loaded.model, adapters) if adapters else None
        self._template = ChatTemplate.of(self._weights, self._preset)
        self._context_length = self._context(loaded)
        self._scheduler = Scheduler(loaded, deltas, self._max_num_seqs)
        self._loaded = loaded

    def _context(self, loaded: Loaded) -> int:
        asked = self._max_model_len
        if asked and loaded.context and asked > loaded.context:
            log.warning(
                "--max-model-len=%d is more than this model can do (%d tokens).", asked, loaded.context
            )
        wanted = min(filter(None, (loaded.context, asked)), default=0)
        if not wanted:
            raise BadWeights("The weights do not say how long a context they take; give --max-model-len.")
        if wanted > loaded.kv_tokens:
            log.warning(
                "Memory holds %d tokens of context, fewer than the model's %d.", loaded.kv_tokens, wanted
            )
        return min(wanted, loaded.kv_tokens)

    async def count_tokens(self, prompt: Prompt) -> int:
        return len(await self._encode(prompt))

    async def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None, *, whole: bool = False
    ) -> AsyncGenerator[Piece | Finish]:
        tokens = await self._encode(prompt)
        room = self._context_length - len(tokens)
        if room < 1:
            raise PromptTooLong(len(tokens), self._context_length)
        if not tokens:
            raise BadPrompt("The prompt is empty.")
        assert self._loaded is not None
        assert self._scheduler is not None
        items: asyncio.Queue[_Item] = asyncio.Queue()
        job = Job(
            tokens=tokens,
            prompt_length=len(tokens),
            most=len(tokens) + min(room, sampling.max_tokens or room),
            sampling=sampling,
            adapter=adapter,
            text=TextStream(self._loaded.decode, sampling.stop),
            tell=items.put_nowait,
            whole=whole,
        )
        self._scheduler.submit(job)
        try:
            while True:
                for item in _waiting(await items.get(), items):
                    if isinstance(item, Exception):
                        raise item
                    yield item
                    if isinstance(item, Finish):
                        return
        finally:
            self._scheduler.cancel(job)

    async def _encode(self, prompt: Prompt) -> list[int]:
        if self._loaded is None:
            raise EngineError("The model is not loaded.")
        characters = len(prompt) if isinstance(prompt, str) else sum(len(each.content) + 1 for each in prompt)
        if characters > LONG_TEXT:
            return await asyncio.to_thread(self._tokens, self._loaded, prompt)
        return self._tokens(self._loaded, prompt)

    def _tokens(self, loaded: Loaded, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            text, special = prompt, True
        elif self._template:
            text, special = self._template.render(prompt), False
        elif len(prompt) == 1 and prompt[0].role == "user":
            text, special = prompt[0].content, True
        else:
            raise BadPrompt("This model has no chat template; send one prompt instead of a conversation.")
        return tokens_of(text, self._context_length, lambda part: loaded.encode(part, special))

    async def close(self) -> None:
        if self._scheduler:
            await asyncio.to_thread(self._scheduler.close)


def _waiting(first: _Item, items: asyncio.Queue[_Item]) -> list[_Item]:
    """`first` and all that came meanwhile, with pieces made one: the busier the server, the fewer events."""
    found, texts = [first], []
    while not items.empty():
        found.append(items.get_nowait())
    if len(found) == 1:
        return found
    while found and isinstance(piece := found[0], Piece):
        texts.append(piece.text)
        found.pop(0)
    return [*([Piece("".join(texts))] if texts else []), *found]
