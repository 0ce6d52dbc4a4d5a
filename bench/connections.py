"""What 10,000 connections at once do to kaito-serve: `python -m bench.connections`, with the mistralrs engine.

Four waves of as many connections as asked for: each asks a question as soon as it is open; each says nothing; each
asks again, twice. Meanwhile a probe (`GET /healthz`) is sent every quarter of a second, and afterwards one more
question. Told are the answers' codes ("closed": without an answer), the probes' and how long the slowest took, the most
files that the server had open, and its memory. The callers are one process on the same machine, which opens all
connections before it comes to say something on the last; the probes are sent by another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bench.inference import resident

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

BODY = b'{"prompt": "What is the capital of France?"}'
HEAD = (
    f"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
)
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Caller(asyncio.Protocol):
    """Says something at once, and keeps the first line of what comes back."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._says:
            transport.write(self._says)

    def data_received(self, data: bytes) -> None:
        if not self.code.done():
            self.code.set_result(data.split(b" ", 2)[1].decode())
        if self._says:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.code.done():
            self.code.set_result("closed")


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def connect(port: int, says: bytes) -> Caller:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Caller(says), "127.0.0.1", port)
    return connection


async def ask(port: int, says: bytes) -> str:
    try:
        return await (await connect(port, says)).code
    except OSError as error:
        return type(error).__name__


def probe(port: int, ended: Event, found: Connection) -> None:
    """In a process of its own, as a kubelet is. Sends back how often each code came, and the slowest in seconds."""
    codes: Counter[str] = Counter()
    slowest = 0.0
    while not ended.wait(0.25):
        begin = time.perf_counter()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as one:
                one.sendall(PROBE)
                codes[one.recv(4096).split(b" ", 2)[1].decode()] += 1
        except (OSError, IndexError) as error:
            codes[type(error).__name__] += 1
        slowest = max(slowest, time.perf_counter() - begin)
    found.send((codes, slowest))


async def wave(port: int, pid: int, count: int, says: bytes) -> dict[str, Any]:
    ended = multiprocessing.Event()
    ours, theirs = multiprocessing.Pipe()
    prober = multiprocessing.Process(target=probe, args=(port, ended, theirs))
    prober.start()
    begin = time.perf_counter()
    files = 0
    if says:
        asking = asyncio.gather(*(ask(port, says) for _ in range(count)))
        while not asking.done():
            files = max(files, open_files(pid))
            await asyncio.sleep(0.05)
        codes = Counter(await asking)
    else:
        silent = await asyncio.gather(*(connect(port, b"") for _ in range(count)))
        for _ in range(40):
            files = max(files, open_files(pid))
            await asyncio.sleep(0.05)
        codes = Counter("closed" if one.code.done() else "open" for one in silent)
        for one in silent:
            one._transport.close()
    took = time.perf_counter() - begin
    ended.set()
    probes, slowest = await asyncio.to_thread(ours.recv)
    prober.join()
    return {
        "answers": dict(codes), "seconds": round(took, 1), "most_open_files": files,
        "probes": dict(probes), "slowest_probe_ms": round(1e3 * slowest),
    }  # fmt: skip


async def waves(port: int, pid: int, count: int) -> dict[str, Any]:
    result: dict[str, Any] = {"rss_mib": round(resident(pid), 1)}
    question = HEAD.encode() + BODY
    for name, says in (
        ("asking", question),
        ("silent", b""),
        ("asking_again", question),
        ("a_last_time", question),
    ):
        result[name] = await wave(port, pid, count, says)
        result[name]["rss_mib"] = round(resident(pid), 1)
    result["afterwards"] = await ask(port, HEAD.encode() + BODY)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--connections", type=int, default=10_000, help="(default: %(default)s)")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * options.connections + 1000, hard), hard))
    from presets.support import ServerProcess, container_root

    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as directory:
        process = ServerProcess(container_root(Path(directory)), "--preset=phi-3-mini-4k-instruct")
        try:
            process.ready()
            port = int(process.url.rsplit(":", 1)[1])
            result = asyncio.run(waves(port, process.process.pid, options.connections))
        finally:
            code = process.stop()
    print(json.dumps({"cores": os.cpu_count(), **result, "exit_code": code}, indent=2))


if __name__ == "__main__":
    main()
