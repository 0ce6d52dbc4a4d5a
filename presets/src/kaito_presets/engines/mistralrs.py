"""The engine of the local mode: mistral.rs, which runs Hugging Face directories and GGUF files on the CPU.

Some facts of the library shape this file. Its `Runner` refuses concurrent calls ("Already borrowed"), but a streaming
call returns at once and its iterator is independent: so every request streams, and only the short calls are behind a
lock. And its iterators block, so each runs in a thread; the library then works on all of them in one batch. Dropping
an iterator ends its request. It streams conversations only; text without a template is therefore a conversation of
one message whose role, `raw`, our wrapper of the model's own template writes as it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mistralrs

from kaito_presets.adapters import CONFIG_FILE, BadAdapter
from kaito_presets.engines import (
    BadPrompt,
    BadWeights,
    EngineError,
    Finish,
    Message,
    Piece,
    Prompt,
    PromptTooLong,
    Sampling,
    Unsupported,
)
from kaito_presets.engines.device import mistralrs_device
from kaito_presets.engines.lengths import tokens_of
from kaito_presets.engines.older_config import with_older_config
from kaito_presets.engines.template import ChatTemplate

#: The role of a message that is no message but the whole prompt.
RAW = "raw"
#: The library keeps adapters resident up to a rank; ranks of combined adapters add up.
MIN_MAX_RANK = 256
#: The library draws at random only among the top_k tokens, and among one when top_k isn't given: this means all.
EVERY_TOKEN = 1_000_000
_DTYPES = {"auto": "Auto", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


class MistralEngine:
    """See `kaito_presets.engines.Engine`. `dtype` is auto, float32, float16 or bfloat16."""

    name = "mistralrs"

    def __init__(
        self, weights: Path, *, max_model_len: int | None, dtype: str, max_num_seqs: int, preset: str = ""
    ) -> None:
        self._weights = weights
        self._max_model_len = max_model_len
        self._dtype = dtype
        self._max_num_seqs = max_num_seqs
        self._preset = preset
        self._runner: Any = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_num_seqs, thread_name_prefix="generate")
        self._template: ChatTemplate | None = None
        self._context_length = 0

    @property
    def version(self) -> str:
        return version("mistralrs")

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def memory(self) -> None:
        return None

    # --- loading

    def load(self, adapters: Mapping[str, Path]) -> None:
        gguf = self._find_weights()
        with tempfile.TemporaryDirectory(prefix="kaito-config-") as scratch:
            weights = self._weights if gguf else with_older_config(self._weights, Path(scratch))
            self._runner = self._loaded(weights, gguf, adapters)
        for alias, directory in adapters.items():
            try:
                self._runner.load_lora_adapter(alias, str(directory))
            except Exception as error:
                raise BadAdapter(f"The engine can't apply adapter {alias}: {_first_line(error)}") from error
        own = int(self._runner.max_sequence_length() or 0)
        if self._max_model_len and own and self._max_model_len > own:
            log.warning(
                "--max-model-len=%d is more than this model can do (%d tokens).", self._max_model_len, own
            )
        self._context_length = min(filter(None, (own, self._max_model_len)), default=0)
        if not self._context_length:
            raise BadWeights("The weights do not say how long a context they take; give --max-model-len.")

    def _loaded(self, weights: Path, gguf: Sequence[Path], adapters: Mapping[str, Path]) -> Any:
        dtype = getattr(mistralrs.ModelDType, _DTYPES[self._dtype])
        limits: dict[str, Any] = {
            "max_adapters": len(adapters) + 1,
            "max_rank": max([MIN_MAX_RANK, *map(_rank, adapters.values())]),
        }
        which: Any
        if gguf:
            tuning: dict[str, Any] = {"adapters": [], **limits} if adapters else {}
            which = mistralrs.Which.GGUF(str(weights), [path.name for path in gguf], dtype=dtype, **tuning)
        elif adapters:
            which = mistralrs.Which.Lora(str(weights), adapters=[], dtype=dtype, **limits)
        else:
            which = mistralrs.Which.Plain(str(weights), dtype=dtype)
        self._template = ChatTemplate.of(self._weights, self._preset)
        if self._template is None and not gguf:
            self._template = ChatTemplate.of_one_prompt(self._weights)
        log.info("Computing on %s.", mistralrs_device())
        try:
            return self._start(which)
        except Exception as error:
            raise BadWeights(f"The weights can't be loaded: {_first_line(error)}") from error

    def _start(self, which: Any) -> Any:
        settings: dict[str, Any] = {"max_seqs": self._max_num_seqs, "token_source": "none"}
        if not self._template:
            return mistralrs.Runner(which=which, **settings)
        with tempfile.TemporaryDirectory(prefix="kaito-template-") as scratch:
            wrapper = Path(scratch, "template.jinja")
            wrapper.write_text(
                f"{{% if messages[0]['role'] == '{RAW}' %}}{{{{ messages[0]['content'] }}}}"
                f"{{% else %}}{self._template.source}{{% endif %}}",
                encoding="utf-8",
            )
            return mistralrs.Runner(which=which, jinja_explicit=str(wrapper), **settings)

    def _find_weights(self) -> list[Path]:
        """The GGUF files (several are the parts of one model), or [] for a Hugging Face directory."""
        if not self._weights.is_dir():
            raise BadWeights("There is no weights directory; check the volume, or give --weights=DIRECTORY.")
        gguf = sorted(self._weights.glob("*.gguf"))
        if gguf:
            return gguf
        missing = [name for name in ("config.json", "tokenizer.json") if not (self._weights / name).is_file()]
        if not any(self._weights.glob("*.safetensors")):
            missing.append("*.safetensors")
        if missing:
            raise BadWeights(
                f"The weights directory holds neither a .gguf file nor a complete Hugging Face model "
                f"(missing: {', '.join(missing)})."
            )
        return []

    # --- answering

    async def count_tokens(self, prompt: Prompt) -> int:
        return await asyncio.to_thread(self._count, self._messages(prompt))

    async def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None, *, whole: bool = False
    ) -> AsyncGenerator[Piece | Finish]:
        # The library has one seed for all requests.
        if sampling.seed is not None and sampling.temperature > 0:
            raise Unsupported(
                "seed",
                "seed can't be kept together with a temperature above 0 by this engine; leave it out, or set "
                "temperature to 0, which always gives the same answer.",
            )
        messages = self._messages(prompt)
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Piece | Finish | _Failure] = asyncio.Queue()
        stopped = threading.Event()

        def put(item: Piece | Finish | _Failure) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def work() -> None:
            try:
                self._stream(messages, sampling, adapter, stopped, put)
            except Exception as error:  # crosses the thread boundary, raised again below
                put(_Failure(error))

        job = self._threads.submit(work)
        try:
            while True:
                item = await queue.get()
                if isinstance(item, _Failure):
                    raise item.error
                yield item
                if isinstance(item, Finish):
                    return
        finally:
            stopped.set()
            job.cancel()

    def _stream(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        adapter: str | None,
        stopped: threading.Event,
        put: Any,
    ) -> None:
        """Runs in a thread until the answer ends or `stopped` is set."""
        if stopped.is_set():
            return
        room = self._context_length - self._count(messages)
        if room < 1:
            raise PromptTooLong(self._context_length - room, self._context_length)
        wanted = min(room, sampling.max_tokens or room)
        usage, reason, begun = None, "stop", messages[0].role != RAW
        try:
            with self._lock:
                chunks = self._runner.send_chat_completion_request(
                    self._request(messages, sampling, wanted, adapter)
                )
            for chunk in chunks:
                if stopped.is_set():
                    return
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    text = choice.delta.content or ""
                    if not begun:
                        text = _spaced(text, choice.logprobs)
                        begun = bool(text.strip())
                    if text:
                        put(Piece(text))
                    if choice.finish_reason:
                        reason = "length" if choice.finish_reason == "length" else "stop"
        except Exception as error:
            if "Prompt sequence length is greater" in str(error):
                raise BadPrompt(
                    f"The prompt is longer than the {self._context_length} tokens that this model takes. Shorten it."
                ) from error
            log.exception("The engine failed on a request")
            raise EngineError("The engine failed on this request; the server's log says why.") from error
        if usage is None:
            raise EngineError("The engine ended the answer without saying how it went.")
        put(Finish(reason, usage.prompt_tokens, usage.completion_tokens))

    def _messages(self, prompt: Prompt) -> Sequence[Message]:
        if not isinstance(prompt, str):
            return prompt
        if not self._template:
            raise BadPrompt(
                "This engine can't continue text with a GGUF file; ask with messages (/v1/chat/completions)."
            )
        if not self._template.begin + prompt:
            raise BadPrompt("The prompt is empty.")
        return [Message(RAW, self._template.begin + prompt)]

    def _count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt; without a readable template (GGUF), of the messages' texts alone."""
        template = self._template
        if template and messages[0].role != RAW:
            text = template.render(messages)
        else:
            text = "\n".join(message.content for message in messages)
        with self._lock:
            return len(
                tokens_of(
                    text, self._context_length, lambda part: self._runner.tokenize_text(part, False, None)
                )
            )

    @staticmethod
    def _request(
        messages: Sequence[Message], sampling: Sampling, max_tokens: int, adapter: str | None
    ) -> Any:
        return mistralrs.ChatCompletionRequest(
            messages=[{"role": message.role, "content": message.content} for message in messages],
            model="default",
            max_tokens=max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=(sampling.top_k or EVERY_TOKEN) if sampling.temperature > 0 else None,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            stop_seqs=list(sampling.stop) or None,
            stream=True,
            logprobs=messages[0].role == RAW,
            adapter=adapter,
        )

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._runner = None


def _spaced(text: str, told: Any) -> str:
    """The answer's first text with the white space that the library takes off a conversation's answer. What the token
    itself says has it still."""
    token = told.token if told is not None else ""
    space = token[: len(token) - len(token.lstrip())]
    return text if text.startswith(space) else space + text


def _rank(adapter: Path) -> int:
    return int(json.loads((adapter / CONFIG_FILE).read_text(encoding="utf-8"))["r"])


def _first_line(error: Exception) -> str:
    """The library's messages carry a backtrace after the first line."""
    return str(error).strip().split("\n", 1)[0]
