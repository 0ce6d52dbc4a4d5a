"""exec and attach over WebSocket, as kubectl speaks it: subprotocols v5.channel.k8s.io and v4.channel.k8s.io.

The first byte of a frame is its channel. v5 adds channel 255, by which the client says that a channel has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import WSMsgType, web

from kaito.embedded.kubelet.attach import Queue
from kaito.embedded.kubelet.containers import ContainerRun
from kaito.embedded.kubelet.processes import Process, StartFailed
from kaito.runtime.clock import Clock

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
SETTLE: Final = 0.1
"""Seconds between the upgrade and the first frame. kubectl before 1.34 begins to read before it has made its streams
and throws away what comes between ("Unknown stream id 1, discarding message", kubernetes/kubernetes#131189); a server
behind a network and a container runtime is never that quick, this one is."""
SUCCESS: Final = {"metadata": {}, "status": "Success"}


def failure(message: str, reason: str = "InternalError", **more: Any) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": 500, **more}


def exit_status(code: int) -> dict[str, Any]:
    """What the error channel says about a program's end."""
    if code == 0:
        return SUCCESS
    return failure(
        f"command terminated with non-zero exit code: exit status {code}",
        "NonZeroExitCode",
        details={"causes": [{"reason": "ExitCode", "message": str(code)}]},
    )


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams the client wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, query: Any) -> StreamOptions:
        def flag(name: str) -> bool:
            return str(query.get(name, "")).lower() in ("true", "1")

        return cls(flag("stdin"), flag("stdout"), flag("stderr"), flag("tty"))


@dataclass(slots=True)
class Inputs:
    """Where the client's frames go."""

    write: Callable[[bytes], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    resize: Callable[[int, int], None]


async def open_socket(request: web.Request, options: StreamOptions, clock: Clock) -> web.WebSocketResponse:
    """Accept the upgrade and, once the client has had time to make its streams, tell it that they are there."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS, compress=False, max_msg_size=0, timeout=5.0)
    await socket.prepare(request)
    await clock.sleep(SETTLE)
    first = STDOUT if options.stdout else STDERR if options.stderr else ERROR
    await socket.send_bytes(bytes([first]))
    return socket


async def converse(
    socket: web.WebSocketResponse,
    options: StreamOptions,
    output: Queue,
    inputs: Inputs,
    verdict: Callable[[], Awaitable[dict[str, Any]]],
) -> bool:
    """Carry frames both ways until the output ends, then send the verdict; False when the client left first."""
    reading = asyncio.create_task(_read(socket, options, inputs), name="remote command input")
    writing = asyncio.create_task(_write(socket, options, output, verdict), name="remote command output")
    try:
        done, _ = await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        return writing in done and writing.exception() is None
    finally:
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)


async def _read(socket: web.WebSocketResponse, options: StreamOptions, inputs: Inputs) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN and options.stdin:
            await inputs.write(data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            await inputs.close()
        elif channel == RESIZE:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                size = orjson.loads(data)
                inputs.resize(int(size["Width"]), int(size["Height"]))


async def _write(
    socket: web.WebSocketResponse,
    options: StreamOptions,
    output: Queue,
    verdict: Callable[[], Awaitable[dict[str, Any]]],
) -> None:
    wanted = {STDOUT: options.stdout, STDERR: options.stderr and not options.tty}
    async for stream, data in output.pieces():
        if wanted[stream]:
            await socket.send_bytes(bytes([stream]) + data)
    await socket.send_bytes(bytes([ERROR]) + orjson.dumps(await verdict()))
    await socket.close()


async def serve_exec(request: web.Request, run: ContainerRun, argv: list[str]) -> web.StreamResponse:
    """`kubectl exec`: a program beside the container's own; it is killed when the client leaves."""
    options = StreamOptions.of(request.query)
    socket = await open_socket(request, options, run.clock)
    output = Queue()
    try:
        process = await run.exec(argv, stdin=options.stdin, tty=options.tty, on_output=output.put)
    except StartFailed as error:
        text = failure(f"error executing command in container: {error}")
        await socket.send_bytes(bytes([ERROR]) + orjson.dumps(text))
        await socket.close()
        return socket
    output.source = process
    ending = asyncio.create_task(_close_after(process, output), name="end of exec")

    async def verdict() -> dict[str, Any]:
        return exit_status((await process.wait()).code)

    inputs = Inputs(process.write, process.close_input, process.resize)
    try:
        await converse(socket, options, output, inputs, verdict)
    finally:
        output.release()
        if not process.ended:
            await process.kill()
        run.execs.discard(process)
        await ending
    return socket


async def _close_after(process: Process, output: Queue) -> None:
    await process.wait()
    output.close()


async def serve_attach(request: web.Request, run: ContainerRun) -> web.StreamResponse:
    """`kubectl attach`: the container's own streams; leaving does not end it."""
    options = StreamOptions.of(request.query)
    process = run.process
    assert process is not None
    socket = await open_socket(request, options, run.clock)
    output = run.hub.attach()

    async def close() -> None:
        if run.stdin_once:
            await process.close_input()

    async def verdict() -> dict[str, Any]:
        return SUCCESS

    inputs = Inputs(process.write, close, process.resize)
    try:
        finished = await converse(socket, options, output, inputs, verdict)
        if not finished and options.stdin:
            await close()
    finally:
        run.hub.detach(output)
    return socket
