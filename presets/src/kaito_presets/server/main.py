"""`kaito-serve`: reads the command line, loads the model and listens.

Exit codes: 0 ended as asked (SIGTERM, SIGINT), 1 the address can't be listened on or something unforeseen, 2 wrong
arguments, 3 an adapter can't be served, 4 the engine is missing, 5 the weights can't be served. The sentence that
explains the code is on the log and in the container's termination message.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Generator, Sequence
from types import FrameType
from typing import NoReturn

import prometheus_client
import uvicorn

from kaito_presets import paths
from kaito_presets.adapters import BadAdapter, parse_choice
from kaito_presets.engines import BadWeights, EngineMissing, engine_name, make_engine
from kaito_presets.server.app import create_app
from kaito_presets.server.service import Service, Settings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BAD_ADAPTER = 3
EXIT_ENGINE_MISSING = 4
EXIT_BAD_WEIGHTS = 5
#: Seconds that running answers get to end after SIGTERM; below Kubernetes' default grace period of 30.
DRAIN_SECONDS = 25

log = logging.getLogger("kaito_presets.server")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(EXIT_USAGE, f"{message[:1].upper()}{message[1:]}. See kaito-serve --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kaito-serve", description="Serves one model over HTTP.", allow_abbrev=False)
    parser.add_argument("--preset", required=True, help="name of the preset whose weights are served")
    parser.add_argument("--served-model-name", help="name that clients use (default: the preset's)")
    parser.add_argument(
        "--weights",
        default="/workspace/weights",
        help="Hugging Face directory, or one with a .gguf (default: %(default)s)",
    )
    parser.add_argument(
        "--adapters-dir",
        default="/mnt/adapter",
        help="directory of adapter directories (default: %(default)s)",
    )
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=STRENGTH",
        help="adapter to use, strength 0 to 1; repeatable (default: all that are there, at strength 1)",
    )  # fmt: skip
    parser.add_argument(
        "--max-model-len", type=_positive, help="tokens of prompt and answer (default: the model's own)"
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "float16", "bfloat16"),
        help="default: %(default)s",
    )
    parser.add_argument(
        "--engine", help="mistralrs, transformers or vllm (default: KAITO_ENGINE, else mistralrs)"
    )
    parser.add_argument(
        "--port", type=int, default=5000, help="unless KAITO_PORT says otherwise (default: %(default)s)"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _fail(code: int, sentence: str) -> NoReturn:
    """Ends the process with the sentence on the log and in the container's termination message."""
    print(f"kaito-serve: {sentence}", file=sys.stderr, flush=True)
    paths.termination_log(sentence)
    sys.exit(code)


def exit_code(error: Exception) -> int:
    """Which exit code tells of this error."""
    if isinstance(error, BadAdapter):
        return EXIT_BAD_ADAPTER
    if isinstance(error, EngineMissing):
        return EXIT_ENGINE_MISSING
    if isinstance(error, BadWeights):
        return EXIT_BAD_WEIGHTS
    return EXIT_FAILED


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs until a signal ends it."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        host, port = paths.bind_host(), paths.bind_port(options.port)
        service = _make_service(options)
    except (BadAdapter, BadWeights, EngineMissing) as error:
        _fail(exit_code(error), str(error))
    except ValueError as error:
        _fail(EXIT_USAGE, str(error))
    _serve(service, host, port)


def _make_service(options: argparse.Namespace) -> Service:
    weights = paths.resolve(options.weights)
    settings = Settings(
        preset=options.preset,
        served_model_name=options.served_model_name,
        weights=weights,
        adapters_dir=paths.resolve(options.adapters_dir),
        adapters=tuple(parse_choice(text) for text in options.adapter),
    )
    engine = make_engine(
        engine_name(options.engine), weights, max_model_len=options.max_model_len, dtype=options.dtype
    )
    return Service(settings, engine)


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal, where uvicorn raises the signal again after it has drained."""

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


def _serve(service: Service, host: str, port: int) -> None:
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
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config)
    try:
        listening = config.bind_socket()
    except SystemExit:  # uvicorn has logged the system's reason
        _fail(EXIT_FAILED, f"Can't listen on {host}:{port}. Set KAITO_PORT to a free port (0: any).")
    with listening:
        server.run([listening])
    if failures:
        error = failures[0]
        if exit_code(error) == EXIT_FAILED:
            log.error("The model could not be loaded", exc_info=error)
        _fail(exit_code(error), str(error) or type(error).__name__)


if __name__ == "__main__":
    main()
