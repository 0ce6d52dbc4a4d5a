"""The small server by which the parts of a model on several nodes hear of one another, and its questions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence

from kaito_presets.engines.vllm.nodes import PERIOD, Watch, Word

#: Seconds to wait for an answer.
TIMEOUT = 5.0
_LARGEST = 4096
#: Parts are in the same cluster: a proxy for the world outside doesn't know them.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

log = logging.getLogger(__name__)


async def belong(
    watch: Watch,
    others: Sequence[tuple[int, str]],
    host: str,
    ask_port: int,
    probe_port: int | None,
    alive: Callable[[], bool],
) -> str:
    """Answers the other parts and asks them, until there is a reason to end: a sentence.

    `others`: their numbers and addresses. `probe_port`: where a part that serves no model itself answers the pod's
    probes; None for the first, where vLLM does. `alive`: whether this part's process runs.
    """
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(listening(watch, host, ask_port, alive))
        if probe_port is not None:
            await stack.enter_async_context(listening(watch, host, probe_port, alive))
        while True:
            for peer, address in others:
                word = await asyncio.to_thread(ask, address)
                why = watch.heard(peer, word, time.monotonic())
                if why:
                    return why
            await asyncio.sleep(PERIOD)


@contextlib.asynccontextmanager
async def listening(
    watch: Watch, host: str, port: int, alive: Callable[[], bool]
) -> AsyncIterator[asyncio.Server]:
    """A server of two routes: `/part` says who this is, `/health` and `/healthz` whether it belongs to a model."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            status, body = respond(watch, head.decode("latin-1").split(" ", 2)[:2], alive())
            text = json.dumps(body).encode()
            lines = (f"HTTP/1.1 {status}", "Content-Type: application/json",
                     f"Content-Length: {len(text)}", "Connection: close")  # fmt: skip
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + text)
            await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(answer, host, port, limit=_LARGEST)
    async with server:
        yield server


def respond(watch: Watch, request: Sequence[str], alive: bool) -> tuple[str, dict[str, str]]:
    """(status, body) of a request, given as method and path."""
    path = request[1].partition("?")[0] if len(request) == 2 else ""
    if path == "/part":
        return "200 OK", {"own": watch.own, "start": watch.start}
    if path not in ("/health", "/healthz"):
        return "404 Not Found", {"detail": "This part of a model answers the first part alone; ask that one."}
    if not alive:
        return "503 Service Unavailable", {"detail": "vLLM does not run here"}
    if not watch.start:
        return "503 Service Unavailable", {"detail": "Waiting for the first part of the model"}
    return "200 OK", {"status": "Healthy"}


def ask(address: str) -> Word | None:
    """What a part says of itself; None when it does not answer."""
    try:
        with _DIRECT.open(f"{address}/part", timeout=TIMEOUT) as response:
            told = json.loads(response.read(_LARGEST))
        return Word(str(told["own"]), str(told["start"]))
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError):
        return None
