"""What the server needs from an engine, and the choice of one.

An engine turns chat messages into a stream of text. The server knows nothing else of it; the engine knows nothing of
HTTP. Which one runs is the image's business (`KAITO_ENGINE`), never the manifest's.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: Used when neither --engine nor KAITO_ENGINE says otherwise.
DEFAULT_ENGINE = "mistralrs"
#: Answers computed at the same time, where nothing else is asked for.
DEFAULT_MAX_NUM_SEQS = 16
ENGINES = ("mistralrs", "transformers", "vllm")
#: The sentence for requests that come while the server ends.
CLOSING = "The server is shutting down."
#: Weights below this size are computed by one thread.
SMALL_MODEL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; role is system, user, assistant or tool."""

    role: str
    content: str


#: What an answer is generated for: a conversation, or text that is continued as it is, without any template.
Prompt = str | Sequence[Message]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose the next token. The defaults are greedy: the same question gives the same answer.

    max_tokens: most new tokens; None is as many as the context has room for.
    temperature: 0 is greedy. top_p, top_k: None is off. stop: texts that end the answer and are not part of it.
    seed: the same seed draws the same tokens from the same scores; an engine that can't refuses the request.
    Penalties: None is off; repetition_penalty 1, the other two 0 mean the same.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer. reason: "stop" (the model or a stop text ended it) or "length". Counts are tokens."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


class EngineError(Exception):
    """The engine failed on a request. str() is safe to show to the client."""


class BadPrompt(EngineError):
    """The request can't be answered as it is (over-long, or refused by the model's chat template)."""


class Unsupported(BadPrompt):
    """This engine has no such setting. `setting` is its name in the request."""

    def __init__(self, setting: str, sentence: str) -> None:
        self.setting = setting
        super().__init__(sentence)


class PromptTooLong(BadPrompt):
    """The prompt leaves no room for an answer. Counts are tokens; `at_least`: the rest was not read."""

    def __init__(self, prompt_tokens: int, limit: int, *, at_least: bool = False) -> None:
        self.prompt_tokens = prompt_tokens
        self.limit = limit
        more = "more than " if at_least else ""
        super().__init__(
            f"The prompt is {more}{prompt_tokens} tokens long, but this model takes fewer than {limit} tokens, "
            "so that there is room for an answer. Shorten the prompt or the conversation."
        )


class Overloaded(EngineError):
    """More requests wait already than may. The client should ask again later."""


class Closing(EngineError):
    """The server is ending. The client should ask again: another copy answers, or the next one."""


class BadWeights(Exception):
    """The weights directory can't be served. str() is a sentence that says what is wrong and what to do."""


class EngineMissing(Exception):
    """The engine that was asked for can't run here. str() is a sentence that names what is missing."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a loaded model takes, measured, in bytes: its weights, the cache of keys and values that answers may fill,
    and one token's part of that cache. `dtype`: float32, float16 or bfloat16."""

    weights: int
    cache: int
    cache_token: int
    dtype: str


class Engine(Protocol):
    """One loaded model. `load` blocks (call it in a thread); the rest is asynchronous."""

    @property
    def name(self) -> str:
        """mistralrs, transformers or vllm."""

    @property
    def version(self) -> str:
        """Version of the engine's library."""

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together; 0 before `load`."""

    @property
    def memory(self) -> Memory | None:
        """None before `load`, and where the engine's library does not tell."""

    def load(self, adapters: Mapping[str, Path]) -> None:
        """Loads the weights and the LoRA directories. Raises BadWeights, or BadAdapter for one of `adapters`."""

    async def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of the prompt, with the chat template of a conversation. Raises EngineError."""

    def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None, *, whole: bool = False
    ) -> AsyncGenerator[Piece | Finish]:
        """Streams the answer: pieces, then one Finish. Closing the generator stops the work.

        `adapter` is a key of the mapping given to `load`, or None for the base model. `whole`: nobody reads the answer
        before its end, so what follows the first piece may come at once. Raises EngineError.
        """

    async def close(self) -> None:
        """Frees threads. A request that still runs fails with EngineError."""


def engine_name(argument: str | None) -> str:
    """--engine, else KAITO_ENGINE, else the default. Raises EngineMissing for a name that isn't one."""
    name = argument or os.environ.get("KAITO_ENGINE") or DEFAULT_ENGINE
    if name not in ENGINES:
        raise EngineMissing(f"There is no engine {name!r}; choose one of {', '.join(ENGINES)}.")
    return name


def make_engine(
    name: str,
    weights: Path,
    *,
    max_model_len: int | None,
    dtype: str,
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS,
    preset: str = "",
) -> Engine:
    """The engine of that name, not loaded yet. `preset`: what is served, for weights without a chat template.

    Raises EngineMissing.
    """
    if name == "vllm":
        raise EngineMissing(
            "The vllm engine is a server of its own: start it with kaito-serve --engine=vllm."
        )
    if importlib.util.find_spec("torch" if name == "transformers" else name) is None:
        raise EngineMissing(
            f"The {name} engine needs Python packages that are not here: install kaito-presets[{name}]."
        )
    if name == "transformers":
        return _transformers(weights, max_model_len, dtype, max_num_seqs, preset)
    return _mistralrs(weights, max_model_len, dtype, max_num_seqs, preset)


def _transformers(
    weights: Path, max_model_len: int | None, dtype: str, max_num_seqs: int, preset: str
) -> Engine:
    if 0 < _weights_size(weights) < SMALL_MODEL_BYTES:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from kaito_presets.engines.transformers.engine import TransformersEngine  # noqa: PLC0415 - an optional dependency

    return TransformersEngine(
        weights, max_model_len=max_model_len, dtype=dtype, max_num_seqs=max_num_seqs, preset=preset
    )


def _mistralrs(
    weights: Path, max_model_len: int | None, dtype: str, max_num_seqs: int, preset: str
) -> Engine:
    if 0 < _weights_size(weights) < SMALL_MODEL_BYTES:
        # Threads that wait for one another cost a small model up to a hundred times its own work on busy cores.
        os.environ.setdefault("RAYON_NUM_THREADS", "1")
        os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
    # The library reads these when it is imported. What is not in the directory must fail, not be downloaded.
    os.environ.setdefault("RUST_LOG", "warn")
    os.environ.setdefault("NO_COLOR", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from kaito_presets.engines.mistralrs import MistralEngine  # noqa: PLC0415 - an optional dependency

    return MistralEngine(
        weights, max_model_len=max_model_len, dtype=dtype, max_num_seqs=max_num_seqs, preset=preset
    )


def _weights_size(weights: Path) -> int:
    """Bytes of the weights in a directory; 0 when there are none."""
    return sum(path.stat().st_size for path in weights.glob("*") if path.suffix in (".safetensors", ".gguf"))
