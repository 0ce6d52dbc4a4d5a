"""How fast kaito-serve answers with the transformers engine: `python -m bench.inference` in .venv-models.

One random Phi-3 of some hundred kilobytes; so the measure is what is ours, the loop and HTTP, not the arithmetic.
What is compared takes turns, in slices of half a second and never two at once, because a machine's speed changes from
one second to the next:

    raw_loop           16 prompts in one batch that never changes: forward, argmax, nothing else
    unary, streaming   16 clients of a server process, each asking again as soon as it has its answer
    engine             16 answers at once from the engine, without HTTP
    one_at_a_time      the library's generate(), one prompt after the other

A slice of the raw loop stands before and after every other slice, and a share is the median over all slices of the
slice's speed beside its two neighbours'. Processor time is told beside it: it counts what the server does for a token,
whatever else the machine does meanwhile. Also the latency that HTTP adds for one client, the server's start, and its
memory before and after many requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

CLIENTS = 16
NEW_TOKENS = 96
#: Answers that each client gets in a slice.
ANSWERS = 4
#: Prompts that generate() answers in a slice: it is slow.
ALONE = 4
#: Requests in a row on either side of the latency's comparison.
ASKED_IN_A_ROW = 20


class Client:
    """One HTTP/1.1 connection that asks for one answer after the other. Small, so that it isn't what is measured."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def post(self, path: str, body: bytes) -> bytes:
        """The answer's body, as it came (a stream's with the marks of its chunks)."""
        fields = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        head = f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n"
        self._writer.write(head.encode() + body)
        headers = await self._reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in headers.split(b"\r\n", 1)[0]:
            raise RuntimeError(headers.decode())
        for line in headers.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return await self._reader.readexactly(int(line.split(b":")[1]))
        return await self._reader.readuntil(b"\r\n0\r\n\r\n")

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def question(prompt: str, *, stream: bool, tokens: int = NEW_TOKENS) -> bytes:
    body = {"prompt": prompt, "max_tokens": tokens, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def written(answer: bytes) -> int:
    """Tokens of an answer, from its usage."""
    if not answer.startswith(b"{"):
        chunk = answer[answer.rindex(b'data: {"') + 6 :]
        answer = chunk[: chunk.index(b"\n")]
    return int(json.loads(answer)["usage"]["completion_tokens"])


async def many(port: int, prompt: str, count: int) -> None:
    clients = [await Client(port).open() for _ in range(CLIENTS)]
    body = question(prompt, stream=False, tokens=1)

    async def ask(client: Client) -> None:
        for _ in range(count // CLIENTS):
            await client.post("/v1/completions", body)

    await asyncio.gather(*map(ask, clients))
    for client in clients:
        await client.close()


def resident(pid: int) -> float:
    """MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def busy(pid: int) -> tuple[float, float]:
    """Seconds of processor time so far: of the first thread (the event loop), and of all others (the model's)."""
    taken = {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
    first = taken.pop(pid)
    return first, sum(taken.values())


@dataclass(frozen=True)
class Slice:
    """Tokens, seconds of the clock, and seconds of the processor: `loop` and `model` are a server's threads."""

    tokens: int
    seconds: float
    loop: float
    model: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds

    @property
    def work(self) -> float:
        """Milliseconds of the processor for 1,000 tokens."""
        return 1e6 * (self.loop + self.model) / self.tokens


class Contest:
    """The ways to get tokens that are compared. Each is asked for one slice at a time."""

    def __init__(self, engine: Any, prompts: list[str], port: int, pid: int) -> None:
        self._engine, self._prompts, self._port, self._pid = engine, prompts, port, pid
        self._turn = 0

    async def raw_loop(self) -> Slice:
        return await self._timed(os.getpid(), lambda: sum(self._batch() for _ in range(ANSWERS)))

    async def one_at_a_time(self) -> Slice:
        return await self._timed(os.getpid(), self._alone)

    async def engine(self) -> Slice:
        return await self._timed(os.getpid(), self._direct)

    async def unary(self) -> Slice:
        return await self._served(stream=False)

    async def streaming(self) -> Slice:
        return await self._served(stream=True)

    async def _timed(self, pid: int, work: Callable[[], Any]) -> Slice:
        loop, model = busy(pid)
        begin = time.perf_counter()
        tokens = work()
        if asyncio.iscoroutine(tokens):
            tokens = await tokens
        seconds = time.perf_counter() - begin
        loop_now, model_now = busy(pid)
        return Slice(tokens, seconds, loop_now - loop, model_now - model)

    async def _served(self, *, stream: bool) -> Slice:
        clients = [await Client(self._port).open() for _ in self._prompts]

        async def ask(client: Client, prompt: str) -> int:
            body = question(prompt, stream=stream)
            return sum([written(await client.post("/v1/completions", body)) for _ in range(ANSWERS)])

        async def all_ask() -> int:
            return sum(await asyncio.gather(*map(ask, clients, self._prompts)))

        found = await self._timed(self._pid, all_ask)
        for client in clients:
            await client.close()
        return found

    async def _direct(self) -> int:
        from models.support import ask

        async def repeat(prompt: str) -> int:
            asked = [(await ask(self._engine, prompt, max_tokens=NEW_TOKENS))[1] for _ in range(ANSWERS)]
            return sum(finish.completion_tokens for finish in asked)

        return sum(await asyncio.gather(*map(repeat, self._prompts)))

    def _alone(self) -> int:
        import torch

        loaded = self._engine._loaded
        total, self._turn = 0, self._turn + ALONE
        with torch.inference_mode():
            for number in range(self._turn - ALONE, self._turn):
                ids = torch.tensor([loaded.encode(self._prompts[number % CLIENTS], True)])
                out = loaded.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=NEW_TOKENS,
                    do_sample=False,
                )
                total += out.shape[1] - ids.shape[1]
        return total

    def _batch(self) -> int:
        import torch
        from transformers.cache_utils import DynamicCache

        loaded = self._engine._loaded
        with torch.inference_mode():
            rows = [loaded.encode(prompt, True) for prompt in self._prompts]
            width = max(map(len, rows))
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows])
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            cache = DynamicCache()
            for _ in range(NEW_TOKENS):
                scores = loaded.model(
                    input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
                    use_cache=True, logits_to_keep=1,
                ).logits[:, -1]  # fmt: skip
                tokens = scores.argmax(-1, keepdim=True)
                tokens.tolist()
                mask = torch.cat([mask, mask.new_ones((len(rows), 1))], -1)
                positions = positions[:, -1:] + 1
        return len(rows) * NEW_TOKENS


async def turn_about(contest: Contest, rounds: int) -> dict[str, Any]:
    """Speeds, and shares of the raw loop that was measured around each slice."""
    ways = {name: getattr(contest, name) for name in ("unary", "streaming", "engine", "one_at_a_time")}
    for way in (contest.raw_loop, *ways.values()):
        await way()
    raws, taken = [await contest.raw_loop()], {name: list[tuple[Slice, float, float]]() for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            found = await ways[name]()
            raws.append(await contest.raw_loop())
            before, after = raws[-2:]
            beside = (before.tokens + after.tokens) / (before.seconds + after.seconds)
            taken[name].append((found, found.speed / beside, (before.work + after.work) / 2 / found.work))
    result: dict[str, Any] = {"raw_loop_tokens_per_second": statistics.median(raw.speed for raw in raws)}
    alone = statistics.median(share for _, share, _ in taken["one_at_a_time"])
    result["raw_loop_cpu_ms_per_1000_tokens"] = statistics.median(raw.work for raw in raws)
    for name, slices in taken.items():
        result[f"{name}_tokens_per_second"] = statistics.median(found.speed for found, _, _ in slices)
        shares = sorted(share for _, share, _ in slices)
        result[f"{name}_share_of_raw_loop"] = statistics.median(shares)
        result[f"{name}_share_quarters"] = [round(shares[len(shares) * n // 4], 3) for n in (1, 3)]
        if name in ("unary", "streaming"):
            result[f"{name}_times_one_at_a_time"] = statistics.median(shares) / alone
            result |= {
                f"{name}_{part}_cpu_ms_per_1000_tokens": statistics.median(
                    1e6 * getattr(found, part) / found.tokens for found, _, _ in slices
                )
                for part in ("loop", "model")
            }
        result[f"{name}_share_by_cpu"] = statistics.median(share for _, _, share in slices)
    return result


async def latency(engine: Any, client: Client, prompt: str, rounds: int) -> dict[str, float]:
    """Median milliseconds of an answer of one token: over HTTP for one client, and what that adds to the engine's."""
    from models.support import ask

    body = question(prompt, stream=False, tokens=1)

    async def direct() -> None:
        await ask(engine, prompt, max_tokens=1)

    async def over_http() -> None:
        await client.post("/v1/completions", body)

    async def milliseconds(work: Callable[[], Any]) -> float:
        took = []
        for _ in range(ASKED_IN_A_ROW):
            begin = time.perf_counter()
            await work()
            took.append(1e3 * (time.perf_counter() - begin))
        return statistics.median(took)

    pairs = [(await milliseconds(over_http), await milliseconds(direct)) for _ in range(rounds)]
    return {
        "latency_ms": statistics.median(http for http, _ in pairs),
        "latency_added_by_http_ms": statistics.median(http - bare for http, bare in pairs),
    }


def make_weights(directory: Path) -> Path:
    from models.support import make_model

    # No token ends an answer: every one has the same length.
    weights = make_model(directory, max_position_embeddings=4096, eos_token_id=None)
    (weights / "generation_config.json").write_text("{}")
    settings = json.loads((weights / "tokenizer_config.json").read_text())
    (weights / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": None}))
    return weights


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    from models.support import make_engine, prompts

    imported = time.perf_counter() - begin
    from presets.support import ServerProcess

    weights = make_weights(directory / "weights")
    texts = prompts(CLIENTS)
    engine = make_engine(weights)
    engine.load({})
    if engine._loaded.ends:
        raise RuntimeError(f"answers would end early, at {sorted(engine._loaded.ends)}")
    begin = time.perf_counter()
    process = ServerProcess(
        weights.parent, "--preset=tiny", "--engine=transformers", "--weights=/weights", "--log-level=info"
    )
    try:
        process.ready()
        started = time.perf_counter() - begin
        port, pid = int(process.url.rsplit(":", 1)[1]), process.process.pid

        async def run() -> dict[str, Any]:
            found = await turn_about(Contest(engine, texts, port, pid), options.rounds)
            client = await Client(port).open()
            found |= await latency(engine, client, texts[0], options.rounds)
            await client.close()
            await engine.close()
            return found

        result = {"import_seconds": imported, "start_seconds": started, **asyncio.run(run())}
        result["rss_mib"] = resident(pid)
        asyncio.run(many(port, texts[0], options.requests))
        return result | {"requests": options.requests, "rss_after_requests_mib": resident(pid)}
    finally:
        process.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20, help="of all slices (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=100_000, help="for the memory (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as directory:
        result = measure(options, Path(directory))
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}
    print(json.dumps({"cores": os.cpu_count(), "rounds": options.rounds, **rounded}, indent=2))


if __name__ == "__main__":
    main()
