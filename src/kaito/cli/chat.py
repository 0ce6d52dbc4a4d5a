"""`kaito chat` and `kaito proxy`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import typer

from kaito.cli.connect import USER_AGENT, choose_kubeconfig, connect
from kaito.cli.errors import CliError
from kaito.cli.inference import InferenceService, find_service
from kaito.cli.proxy import InferenceProxy, usage
from kaito.cli.terminal import LineReader
from kaito.runtime.clock import LoopClock


@asynccontextmanager
async def service_of(
    workspace: str, *, namespace: str, kubeconfig: Path | None, context: str | None
) -> AsyncIterator[InferenceService]:
    """The Workspace's inference server, for as long as the block runs."""
    connection, client = connect(choose_kubeconfig(kubeconfig), context, LoopClock())
    try:
        service = await find_service(client, connection.transport, workspace, namespace, USER_AGENT)
        if service.note:
            typer.echo(service.note, err=True)
        yield service
    finally:
        await connection.close()


async def converse(service: InferenceService, reader: LineReader, *, prompt_text: str = "> ") -> None:
    """Reads questions until their end, answers each as it comes.

    Earlier turns are remembered until they no longer fit; stand-in weights get each question by itself.
    """
    remember = not await service.is_stand_in()
    messages: list[dict[str, str]] = []
    while True:
        line = await reader.line(prompt_text)
        if line is None:
            typer.echo("")
            return
        question = line.strip()
        if not question:
            continue
        asked = {"role": "user", "content": question}
        try:
            answer = await _answer(service, [*messages, asked])
        except CliError as error:
            typer.echo(f"({error})")
            if not messages:
                continue
            typer.echo("(Once more, without what was said before.)")
            messages.clear()
            try:
                answer = await _answer(service, [asked])
            except CliError as again:
                typer.echo(f"({again})")
                continue
        if remember:
            messages += [asked, {"role": "assistant", "content": answer}]


async def _answer(service: InferenceService, messages: list[dict[str, str]]) -> str:
    """Prints the pieces of the answer as they come, and gives the whole."""
    pieces: list[str] = []
    try:
        async for piece in service.stream_chat(messages):
            pieces.append(piece)
            typer.echo(piece, nl=False)
    finally:
        if pieces:
            typer.echo("")
    return "".join(pieces)


async def run_chat(
    workspace: str, prompt: str | None, *, namespace: str, kubeconfig: Path | None, context: str | None
) -> None:
    async with service_of(workspace, namespace=namespace, kubeconfig=kubeconfig, context=context) as service:
        if prompt is not None:
            async for piece in service.stream_chat([{"role": "user", "content": prompt}]):
                typer.echo(piece, nl=False)
            typer.echo("")
            return
        if sys.stdin.isatty():
            typer.echo(f"{await service.model()} answers. Ctrl-D ends.")
        await converse(service, LineReader(), prompt_text="> " if sys.stdin.isatty() else "")


async def run_proxy(
    workspace: str, *, namespace: str, port: int, kubeconfig: Path | None, context: str | None
) -> None:
    async with service_of(workspace, namespace=namespace, kubeconfig=kubeconfig, context=context) as service:
        model = await service.model()
        proxy = InferenceProxy(service, port=port)
        try:
            await proxy.start()
        except OSError as error:
            await proxy.stop()
            raise CliError(
                f"Cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno or 0)}. Choose another --port."
            ) from None
        try:
            usage(proxy.port, model, typer.echo)
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            typer.echo("\n# serving; Ctrl-C ends it", err=True)
            await stop.wait()
        finally:
            await proxy.stop()
