"""The loaded model and its state, shared by all routes."""

from __future__ import annotations

import asyncio
import gc
import logging
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from kaito_presets import adapters
from kaito_presets.engines import BadWeights, Engine, Finish, Overloaded, Piece, Prompt, Sampling
from kaito_presets.server.metrics import Metrics
from kaito_presets.server.names import COMBINED, Model, ModelNames, stand_in_of
from kaito_presets.server.settings import Settings

log = logging.getLogger(__name__)


class Service:
    """Loads once, then answers. `names` is known before the weights are loaded."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        """Raises BadAdapter or BadWeights for what can be seen without loading anything."""
        self.settings = settings
        self.engine = engine
        self.started = int(time.time())
        self.choices = adapters.choose(settings.adapters_dir, settings.adapters)
        try:
            stand_in = stand_in_of(settings.weights, settings.preset)
        except (ValueError, KeyError, TypeError) as error:
            raise BadWeights("kaito-stand-in.json in the weights directory is damaged.") from error
        self.names = ModelNames(settings.preset, settings.served_model_name, stand_in, self.choices)
        self.metrics = Metrics(self.names, engine.name, engine.version)
        self.ready = False
        self._open = 0

    async def start(self) -> None:
        """Loads weights and adapters in a thread. Raises BadAdapter, BadWeights."""
        begin = time.monotonic()
        await asyncio.to_thread(self._load)
        self.ready = True
        self.metrics.ready(self.engine.context_length, self.engine.memory)
        adapted = (
            ", ".join(f"{choice.name} at strength {choice.strength:g}" for choice in self.choices) or "none"
        )
        log.info(
            "Ready: serving %s with %s %s, context of %d tokens, adapters: %s; loaded in %.2f s.",
            self.names.served, self.engine.name, self.engine.version, self.engine.context_length, adapted,
            time.monotonic() - begin,
        )  # fmt: skip
        if self.names.notice:
            log.warning("%s", self.names.notice)

    def _load(self) -> None:
        self._load_engine()
        # What is there now stays: looking through it for garbage took a tenth of a second, again and again.
        gc.collect()
        gc.freeze()

    def _load_engine(self) -> None:
        if not self.choices:
            self.engine.load({})
            return
        from kaito_presets import lora, tensors  # noqa: PLC0415 - numpy takes a third of a second to import

        with tempfile.TemporaryDirectory(prefix="kaito-adapters-") as scratch:
            combined = COMBINED if self.names.main.adapter == COMBINED else None
            try:
                directories = lora.prepare(
                    self.settings.weights, self.settings.adapters_dir, self.choices, combined, Path(scratch)
                )
            except (tensors.BadTensorFile, OSError) as error:
                raise BadWeights(f"The weights can't be read: {error}") from error
            self.engine.load(directories)

    async def answer(
        self, model: Model, prompt: Prompt, sampling: Sampling, *, whole: bool
    ) -> AsyncGenerator[Piece | Finish]:
        """Streams an answer and counts it. Raises EngineError; Overloaded when too many requests wait already.

        `whole`: nobody reads it before its end.
        """
        settings = self.settings
        if self._open >= settings.max_num_seqs + settings.max_queued:
            raise Overloaded(
                f"Too many requests: {settings.max_num_seqs} are being answered and {settings.max_queued} wait. "
                "Try again later."
            )
        self._open += 1
        begin, first = time.monotonic(), True
        try:
            async with aclosing(self.engine.generate(prompt, sampling, model.adapter, whole=whole)) as items:
                async for item in items:
                    if first:
                        self.metrics.first_token.observe(time.monotonic() - begin)
                        first = False
                    if isinstance(item, Finish):
                        self.metrics.prompt_tokens.inc(item.prompt_tokens)
                        self.metrics.generation_tokens.inc(item.completion_tokens)
                    yield item
        finally:
            self._open -= 1

    async def close(self) -> None:
        """Ends the engine's threads."""
        await self.engine.close()
