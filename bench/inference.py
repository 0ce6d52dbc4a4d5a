"""How fast kaito-serve answers with the transformers engine: `python -m bench.inference` in .venv-models.

One random Phi-3 of some hundred kilobytes; so the measure is what is ours, the loop and HTTP, not the arithmetic. All
in one run on one machine:

    one_at_a_time      the library's generate(), one prompt after the other
    raw_loop           16 prompts in one batch that never changes: forward, argmax, nothing else
    engine             16 answers at once from the engine, without HTTP
    unary, streaming   16 clients of a server process, each asking again as soon as it has its answer

Also the latency that HTTP adds for one client, the server's start, and its memory before and after many requests.
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
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

CLIENTS = 16
NEW_TOKENS = 96


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


async def load(port: int, prompts: list[str], *, stream: bool, seconds: float) -> float:
    """Tokens per second that all clients get together."""
    clients = [await Client(port).open() for _ in range(CLIENTS)]
    end = time.perf_counter() + seconds
    total = 0

    async def ask(client: Client, prompt: str) -> None:
        nonlocal total
        body = question(prompt, stream=stream)
        while time.perf_counter() < end:
            answer = await client.post("/v1/completions", body)
            total += written(answer)

    begin = time.perf_counter()
    await asyncio.gather(*map(ask, clients, prompts))
    took = time.perf_counter() - begin
    for client in clients:
        await client.close()
    return total / took


async def latency(port: int, prompt: str, count: int) -> float:
    """Median milliseconds of an answer of one token, for one client."""
    client = await Client(port).open()
    body = question(prompt, stream=False, tokens=1)
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        await client.post("/v1/completions", body)
        took.append(1e3 * (time.perf_counter() - begin))
    await client.close()
    return statistics.median(took)


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


def one_at_a_time(engine: Any, prompts: list[str]) -> float:
    import torch

    loaded = engine._loaded
    total, begin = 0, time.perf_counter()
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([loaded.encode(prompt, True)])
            out = loaded.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False
            )
            total += out.shape[1] - ids.shape[1]
    return total / (time.perf_counter() - begin)


def raw_loop(engine: Any, prompts: list[str]) -> float:
    import torch
    from transformers.cache_utils import DynamicCache

    loaded = engine._loaded
    rows = [loaded.encode(prompt, True) for prompt in prompts]
    width = max(map(len, rows))
    begin = time.perf_counter()
    with torch.inference_mode():
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
    return len(rows) * NEW_TOKENS / (time.perf_counter() - begin)


async def direct(engine: Any, prompts: list[str], rounds: int) -> tuple[float, float]:
    """Tokens per second of 16 at once, and the median milliseconds of one token for one client; without HTTP."""
    from models.support import ask

    async def repeat(prompt: str) -> int:
        return sum(
            [(await ask(engine, prompt, max_tokens=NEW_TOKENS))[1].completion_tokens for _ in range(rounds)]
        )

    begin = time.perf_counter()
    total = sum(await asyncio.gather(*map(repeat, prompts)))
    speed = total / (time.perf_counter() - begin)
    took = []
    for _ in range(100):
        begin = time.perf_counter()
        await ask(engine, prompts[0], max_tokens=1)
        took.append(1e3 * (time.perf_counter() - begin))
    return speed, statistics.median(took)


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    from models.support import make_engine, make_model, prompts

    imported = time.perf_counter() - begin
    # No token ends an answer: every one has the same length.
    weights = make_model(directory / "weights", max_position_embeddings=4096, eos_token_id=None)
    (weights / "generation_config.json").write_text("{}")
    settings = json.loads((weights / "tokenizer_config.json").read_text())
    (weights / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": None}))
    texts = prompts(CLIENTS)
    engine = make_engine(weights)
    engine.load({})
    if engine._loaded.ends:
        raise RuntimeError(f"answers would end early, at {sorted(engine._loaded.ends)}")

    async def inside() -> tuple[float, float]:
        await direct(engine, texts, 1)
        found = await direct(engine, texts, 3)
        await engine.close()
        return found

    raw_loop(engine, texts)
    ours, bare = asyncio.run(inside())
    result: dict[str, Any] = {
        "one_at_a_time_tokens_per_second": one_at_a_time(engine, texts),
        "raw_loop_tokens_per_second": statistics.median(raw_loop(engine, texts) for _ in range(5)),
        "engine_tokens_per_second": ours,
        "import_seconds": imported,
    }
    return result | served(options, weights, texts, bare)


def served(options: argparse.Namespace, weights: Path, texts: list[str], bare: float) -> dict[str, Any]:
    from presets.support import ServerProcess

    begin = time.perf_counter()
    process = ServerProcess(
        weights.parent, "--preset=tiny", "--engine=transformers", "--weights=/weights", "--log-level=info"
    )
    try:
        process.ready()
        started = time.perf_counter() - begin
        port, pid = int(process.url.rsplit(":", 1)[1]), process.process.pid
        asyncio.run(load(port, texts, stream=True, seconds=2))
        result: dict[str, Any] = {"start_seconds": started}
        for name, stream in (("unary", False), ("streaming", True)):
            speed = asyncio.run(load(port, texts, stream=stream, seconds=options.seconds))
            result[f"{name}_tokens_per_second"] = speed
        over = asyncio.run(latency(port, texts[0], 300))
        result |= {"latency_ms": over, "latency_added_by_http_ms": over - bare}
        result["rss_mib"] = resident(pid)
        asyncio.run(many(port, texts[0], options.requests))
        result |= {"requests": options.requests, "rss_after_requests_mib": resident(pid)}
    finally:
        process.stop()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=10, help="of load, each way (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=100_000, help="for the memory (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as directory:
        result = measure(options, Path(directory))
    one, raw = result["one_at_a_time_tokens_per_second"], result["raw_loop_tokens_per_second"]
    for name in ("unary", "streaming"):
        speed = result[f"{name}_tokens_per_second"]
        result |= {f"{name}_times_one_at_a_time": speed / one, f"{name}_share_of_raw_loop": speed / raw}
        result[f"{name}_share_of_engine"] = speed / result["engine_tokens_per_second"]
    result["engine_share_of_raw_loop"] = result["engine_tokens_per_second"] / raw
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}
    print(json.dumps({"cores": os.cpu_count(), **rounded}, indent=2))


if __name__ == "__main__":
    main()
