"""Runs the application until a signal ends it, or until it is clear that it can't serve."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Generator
from types import FrameType

import prometheus_client
import uvicorn

from kaito_presets.adapters import BadAdapter
from kaito_presets.engines import BadWeights, Engine, EngineMissing, make_engine
from kaito_presets.server.app import create_app
from kaito_presets.server.connections import BACKLOG, TAKEN_AT_ONCE, bounded, room
from kaito_presets.server.exits import EXIT_FAILED, exit_code, fail
from kaito_presets.server.service import Service
from kaito_presets.server.settings import Settings

#: Seconds that running answers get to end after SIGTERM; below Kubernetes' default grace period of 30.
DRAIN_SECONDS = 25

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal, where uvicorn raises the signal again after it has drained."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(BACKLOG)  # asyncio has one number for this and for how many it takes at once

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            log.info("Got %s: finishing running answers.", signal.Signals(number).name)
            self.handle_exit(number, frame)

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(settings: Settings, host: str, port: int) -> None:
    """Blocks. Ends the process with an exit code of exits.py when it can't serve."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types here
    try:
        service = Service(settings, _engine(settings))
    except (BadAdapter, BadWeights, EngineMissing) as error:
        fail(exit_code(error), str(error))
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(service, failed),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        http=bounded(room()),
        ws="none",
        backlog=TAKEN_AT_ONCE,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config)
    try:
        listening = _without_delay(config.bind_socket())
    except SystemExit:  # uvicorn has logged the system's reason
        fail(EXIT_FAILED, f"Can't listen on {host}:{port}. Set KAITO_PORT to a free port (0: any).")
    with listening:
        server.run([listening])
    for failure in failures:
        if exit_code(failure) == EXIT_FAILED:
            log.error("The model could not be loaded", exc_info=failure)
        fail(exit_code(failure), str(failure) or type(failure).__name__)


def _without_delay(listening: socket.socket) -> socket.socket:
    """The same socket, known as TCP by name.

    asyncio turns Nagle's algorithm off only then; with it, each answer waits 40 ms for an acknowledgement.
    """
    return socket.socket(listening.family, listening.type, socket.IPPROTO_TCP, fileno=listening.detach())


def _engine(settings: Settings) -> Engine:
    return make_engine(
        settings.engine,
        settings.weights,
        max_model_len=settings.max_model_len,
        dtype=settings.dtype,
        max_num_seqs=settings.max_num_seqs,
        preset=settings.preset,
    )
