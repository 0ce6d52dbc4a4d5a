"""`kaito-serve`: reads the command line, loads the model and listens.

Exit codes: 0 ended as asked (SIGTERM, SIGINT), 1 the address can't be listened on or something unforeseen, 2 wrong
arguments, 3 an adapter can't be served, 4 the engine is missing, 5 the weights can't be served. The sentence that
explains the code is on the log and in the container's termination message.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from kaito_presets import paths
from kaito_presets.adapters import BadAdapter, parse_choice
from kaito_presets.engines import EngineMissing, engine_name
from kaito_presets.server.exits import EXIT_USAGE, exit_code, fail
from kaito_presets.server.settings import Settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(EXIT_USAGE, f"{message[:1].upper()}{message[1:]}. See kaito-serve --help.")


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs until a signal ends it."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        host, port = paths.bind_host(), paths.bind_port(options.port)
        settings = _settings(options)
    except (BadAdapter, EngineMissing) as error:
        fail(exit_code(error), str(error))
    except ValueError as error:
        fail(EXIT_USAGE, str(error))
    from kaito_presets.server.run import serve  # noqa: PLC0415 - takes a second; wrong arguments are told at once

    serve(settings, host, port)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        preset=options.preset,
        served_model_name=options.served_model_name,
        weights=paths.resolve(options.weights),
        adapters_dir=paths.resolve(options.adapters_dir),
        adapters=tuple(parse_choice(text) for text in options.adapter),
        engine=engine_name(options.engine),
        max_model_len=options.max_model_len,
        dtype=options.dtype,
    )


if __name__ == "__main__":
    main()
