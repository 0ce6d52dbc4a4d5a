"""Continuous batching: one thread that runs the model, one token of every running answer at a time.

Answers join between two steps and leave when they end, when their client is gone, or when memory is short (they go
back to the head of the queue and are read anew later). Long prompts are read in parts, so that running answers go on
meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from kaito_presets.engines import CLOSING, Closing, EngineError, Finish, Piece, Sampling
from kaito_presets.engines.transformers import sampling
from kaito_presets.engines.transformers.deltas import Deltas
from kaito_presets.engines.transformers.loading import Loaded
from kaito_presets.engines.transformers.sampling import Row
from kaito_presets.engines.transformers.slots import Slots
from kaito_presets.engines.transformers.text import TextStream

#: Prompt tokens read in one call of the model.
PREFILL_TOKENS = 2048
#: Columns kept free for each answer that joins, so that it isn't sent back at once.
HEADROOM_TOKENS = 32

#: Seconds between two looks at what running answers have to say. A piece is then the tokens of that time: nobody reads
#: faster, and writing each token of a fast model by itself costs more than computing it. First tokens don't wait.
TELL_SECONDS = 0.02
#: At least this much for each answer that is read as it comes: to tell one costs the event loop a tenth of a
#: millisecond, in which the model waits. So telling takes a twentieth of the time, however many are told.
TELL_SECONDS_EACH = 0.002
MOST_TELL_SECONDS = 0.1

#: Seconds for which prompts wait for more, after answers that ended together: their clients often ask again, and
#: reading prompts one by one costs a call of the model each. A client alone never waits.
GATHER_SECONDS = 0.01

#: Seconds after which Python takes the interpreter from the event loop when this thread wants it. With the default of
#: 5 ms every call of torch could wait that long for a server that is busy writing answers.
SWITCH_SECONDS = 0.0002

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Job:
    """One answer. `tokens` are those of the prompt, then those generated; `most` is how many there may be in all.

    `whole`: nobody reads it before its end.
    """

    tokens: list[int]
    prompt_length: int
    most: int
    sampling: Sampling
    adapter: str | None
    text: TextStream
    tell: Callable[[Piece | Finish | Exception], None]
    whole: bool = False
    cancelled: bool = False
    row: Row = field(init=False)

    def __post_init__(self) -> None:
        self.row = Row(self.sampling, self.tokens, self.prompt_length)


@dataclass(slots=True)
class _Prefill:
    """Prompts that are being read together. Every row ends at the last column."""

    jobs: list[Job]
    lengths: list[int]
    columns: int
    cache: Any = field(default_factory=DynamicCache)
    done: int = 0


class Scheduler:
    """`submit` from the event loop; everything else happens in the thread."""

    def __init__(self, loaded: Loaded, deltas: Deltas | None, max_rows: int) -> None:
        self._loaded = loaded
        self._deltas = deltas
        self._max_rows = max_rows
        self._budget = loaded.kv_tokens
        self._slots = self._empty_slots()
        self._running: list[Job] = []  # in the order of the slots' rows
        self._prefill: _Prefill | None = None
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._outbox: list[tuple[Job, Piece | Finish | Exception]] = []
        self._told_at = 0.0
        self._ended = 0  # answers that ended, and whose clients may ask again any moment
        self._ended_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="generate", daemon=True)
        self.steps = 0
        self.readings = 0

    def submit(self, job: Job) -> None:
        """Queues the job. `job.tell` is called in the event loop of the first submission."""
        with self._changed:
            if self._closing:
                raise Closing(CLOSING)
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
                self._thread.start()
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """The job's row is given up before the next step. Nothing happens when it has ended."""
        job.cancelled = True

    def close(self) -> None:
        """Ends the thread after its step; unfinished jobs fail. Blocks."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    # --- the thread

    def _run(self) -> None:
        sys.setswitchinterval(SWITCH_SECONDS)
        with torch.inference_mode():
            while True:
                with self._changed:
                    while not (self._closing or self._prefill or self._running):
                        patience = self._patience()
                        if self._waiting and not patience:
                            break
                        self._changed.wait(patience if self._waiting else None)
                    if self._closing:
                        break
                self._guarded_step()
                self._tell_now_and_then()
                self._flush()
        for job in [*self._running, *(self._prefill.jobs if self._prefill else ()), *self._waiting]:
            self._say(job, Closing(CLOSING))
        self._flush()
        log.debug(
            "The model was called %d times for tokens, %d times for prompts.", self.steps, self.readings
        )

    def _guarded_step(self) -> None:
        """A failure costs the answers that were being computed, never the thread."""
        try:
            self._drop_cancelled()
            self._admit()
            if self._prefill:
                self._read_prompts(self._prefill)
            if self._running:
                self._step()
        except torch.OutOfMemoryError:
            self._make_room()
        except Exception:
            log.exception("The engine failed")
            self._fail_all("The engine failed on a request.")

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if not outbox:
            return
        assert self._loop is not None

        def deliver() -> None:
            for job, item in outbox:
                job.tell(item)

        try:
            self._loop.call_soon_threadsafe(deliver)
        except RuntimeError:  # the loop is closed: nobody listens
            return

    def _say(self, job: Job, item: Piece | Finish | Exception) -> None:
        self._outbox.append((job, item))

    def _drop_cancelled(self) -> None:
        for row in range(len(self._running) - 1, -1, -1):
            if self._running[row].cancelled:
                self._leave(row)
        if self._prefill and all(job.cancelled for job in self._prefill.jobs):
            self._prefill = None
        with self._changed:
            if any(job.cancelled for job in self._waiting):
                self._waiting = deque(job for job in self._waiting if not job.cancelled)

    def _empty_slots(self) -> Slots:
        return Slots(self._max_rows, self._loaded.takes_whole_mask)

    def _leave(self, row: int) -> None:
        self._slots.leave(row)
        last = self._running.pop()
        if row < len(self._running):
            self._running[row] = last

    def _admit(self) -> None:
        """Takes prompts from the queue, as many as fit in memory and in one call of the model."""
        if self._prefill or not self._waiting or self._patience():
            return
        taken: list[Job] = []
        longest = max(self._slots.lengths, default=0)
        columns = 0
        with self._changed:
            while self._waiting:
                rows = len(self._running) + len(taken) + 1
                length = len(self._waiting[0].tokens)
                widest = max(longest, columns, length)
                if rows > self._max_rows:
                    break
                if rows > 1 and rows * (widest + HEADROOM_TOKENS) > self._budget:
                    break
                if taken and max(columns, length) * (len(taken) + 1) > PREFILL_TOKENS:
                    break
                taken.append(self._waiting.popleft())
                columns = max(columns, length)
            self._ended = max(0, self._ended - len(taken))
        if taken:
            self._prefill = _Prefill(taken, [len(job.tokens) for job in taken], columns)

    def _patience(self) -> float:
        """Seconds that prompts still wait for others."""
        if len(self._waiting) >= self._ended:
            return 0.0
        rest = self._ended_at + GATHER_SECONDS - time.monotonic()
        if rest > 0:
            return rest
        self._ended = 0
        return 0.0

    def _read_prompts(self, prefill: _Prefill) -> None:
        device = self._loaded.model.device
        begin = prefill.done
        end = min(prefill.columns, begin + max(1, PREFILL_TOKENS // len(prefill.jobs)))
        padded = [
            [0] * (prefill.columns - length) + job.tokens[:length]
            for job, length in zip(prefill.jobs, prefill.lengths, strict=True)
        ]
        spare = torch.tensor(
            [prefill.columns - length for length in prefill.lengths], device=device
        ).unsqueeze(-1)
        columns = torch.arange(end, device=device)
        self.readings += 1
        scores = self._forward(
            torch.tensor(padded, device=device)[:, begin:end],
            prefill.jobs,
            attention_mask=(columns >= spare).long(),
            position_ids=(columns[begin:] - spare).clamp(min=0),
            past_key_values=prefill.cache,
        )
        prefill.done = end
        if end < prefill.columns:
            return
        self._prefill = None
        self._slots.join(prefill.cache, prefill.lengths)
        first = len(self._running)
        self._running += prefill.jobs
        self._continue(scores, first)
        self._tell(self._running[first:])

    def _step(self) -> None:
        while len(self._running) > 1 and len(self._running) * (max(self._slots.lengths) + 1) > self._budget:
            self._send_back()
        device = self._loaded.model.device
        tokens = torch.tensor([[job.tokens[-1]] for job in self._running], device=device)
        scores = self._forward(tokens, self._running, **self._slots.next_step(device))
        self._slots.advance()
        self.steps += 1
        self._continue(scores, 0)

    def _forward(self, tokens: Any, jobs: Sequence[Job], **arguments: Any) -> Any:
        """Scores after the last token of each row."""
        if not self._loaded.takes_positions:
            del arguments["position_ids"]
        if self._loaded.keeps_scores:
            arguments["logits_to_keep"] = 1
        if self._deltas:
            self._deltas.select([job.adapter for job in jobs])
        output = self._loaded.model(input_ids=tokens, use_cache=True, **arguments)
        return output.logits[:, -1]

    def _continue(self, scores: Any, first: int) -> None:
        """Chooses and tells the next token of the rows from `first` on; those that end leave."""
        jobs = self._running[first:]
        tokens = sampling.choose(scores, [job.row for job in jobs])
        ended = []
        for row, (job, token) in enumerate(zip(jobs, tokens, strict=True), first):
            reason = self._add(job, token)
            if reason:
                self._end(job, reason)
                ended.append(row)
        for row in reversed(ended):
            self._leave(row)

    def _add(self, job: Job, token: int) -> str | None:
        """One more token of the answer; the reason when it ends with that token."""
        job.tokens.append(token)
        if token in self._loaded.ends:
            return "stop"
        job.text.add(token)
        if job.text.stopped:
            return "stop"
        return "length" if len(job.tokens) >= job.most else None

    def _end(self, job: Job, reason: str) -> None:
        self._ended += 1
        self._ended_at = time.monotonic()
        rest = job.text.finish()
        if rest:
            self._say(job, Piece(rest))
        self._say(job, Finish(reason, job.prompt_length, len(job.tokens) - job.prompt_length))

    def _tell_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._told_at < TELL_SECONDS:
            return
        read = [job for job in self._running if not job.whole]
        if now - self._told_at < min(TELL_SECONDS_EACH * len(read), MOST_TELL_SECONDS):
            return
        self._told_at = now
        self._tell(read)

    def _tell(self, jobs: Sequence[Job]) -> None:
        """Gives out what is new in these answers."""
        for job in jobs:
            text = job.text.take()
            if text:
                self._say(job, Piece(text))

    # --- when memory is short

    def _send_back(self) -> None:
        """The shortest answer waits again, as it is read anew soonest; what it has said stays said."""
        row = min(range(len(self._running)), key=lambda row: len(self._running[row].tokens))
        job = self._running[row]
        self._leave(row)
        with self._changed:
            self._waiting.appendleft(job)

    def _make_room(self) -> None:
        """After a call of the model that ran out of memory: fewer answers at once from now on."""
        prefill, self._prefill = self._prefill, None
        jobs = [*self._running, *(prefill.jobs if prefill else ())]
        self._running = []
        self._slots = self._empty_slots()
        torch.cuda.empty_cache()
        if len(jobs) > 1:
            longest = max(len(job.tokens) for job in jobs)
            self._budget = max(longest, (len(jobs) // 2) * longest)
            log.warning("The GPU's memory is full: %d tokens are kept from now on.", self._budget)
            with self._changed:
                self._waiting.extendleft(reversed(jobs))
            return
        for job in jobs:
            self._say(job, EngineError("The GPU's memory is too small for this prompt. Shorten it."))

    def _fail_all(self, sentence: str) -> None:
        prefill, self._prefill = self._prefill, None
        for job in [*self._running, *(prefill.jobs if prefill else ())]:
            self._say(job, EngineError(sentence))
        self._running = []
        self._slots = self._empty_slots()
