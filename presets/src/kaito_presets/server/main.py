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
from kaito_presets.engines import DEFAULT_MAX_NUM_SEQS, EngineMissing, engine_name
from kaito_presets.engines.vllm.arguments import MAX_NUM_SEQS as VLLM_MAX_NUM_SEQS
from kaito_presets.server.config_file import FileSettings, read_config
from kaito_presets.server.exits import EXIT_USAGE, exit_code, fail
from kaito_presets.server.settings import DEFAULT_MAX_QUEUED, Settings, VllmSettings

log = logging.getLogger(__name__)


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
        "--max-num-seqs",
        type=_positive,
        help=f"answers computed at the same time (default: {DEFAULT_MAX_NUM_SEQS}, with vllm {VLLM_MAX_NUM_SEQS})",
    )
    parser.add_argument(
        "--max-queued",
        type=_positive,
        default=DEFAULT_MAX_QUEUED,
        help="requests that may wait; one more is refused with 429 (default: %(default)s)",
    )
    parser.add_argument("--config", help="YAML file that beats the command line (see config_file.py)")
    parser.add_argument(
        "--nodes",
        type=_positive,
        default=1,
        help="nodes that serve one model together, with the engine vllm (default: %(default)s)",
    )
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="where several nodes meet")
    _add_vllm(parser)
    parser.add_argument(
        "--engine", help="mistralrs, transformers or vllm (default: KAITO_ENGINE, else mistralrs)"
    )
    parser.add_argument(
        "--port", type=int, default=5000, help="unless KAITO_PORT says otherwise (default: %(default)s)"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _add_vllm(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with the engine vllm alone (the others take no notice)")
    for kind, what in (("tensor", "each layer"), ("pipeline", "the layers"), ("data", "the requests")):
        group.add_argument(
            f"--{kind}-parallel-size", type=_positive, help=f"parts that {what} are shared among"
        )
    group.add_argument(
        "--max-lora-rank", type=_positive, help="room for adapters (default: what those mounted need)"
    )
    group.add_argument("--performance-mode", choices=("balanced", "interactivity", "throughput"))
    group.add_argument(
        "--vllm",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of vLLM's own, as the catalogue has it for the model; the file beats it; repeatable",
    )


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
    if settings.engine == "vllm":
        from kaito_presets.engines.vllm import run as vllm  # noqa: PLC0415 - takes a second, as the other

        vllm.serve(settings, host, port)
        return
    from kaito_presets.server.run import serve  # noqa: PLC0415 - takes a second; wrong arguments are told at once

    serve(settings, host, port)


def _settings(options: argparse.Namespace) -> Settings:
    engine = engine_name(options.engine)
    if options.nodes > 1 and engine != "vllm":
        raise EngineMissing(
            f"The {engine} engine can't spread one model over {options.nodes} nodes (--nodes={options.nodes}). "
            "Choose the vllm runtime, or an instance type whose GPUs hold the whole model."
        )
    file = FileSettings()
    if options.config:
        file = read_config(paths.resolve(options.config), engine)
        if file.ignored:
            log.warning("%s: ignored by this server: %s.", options.config, ", ".join(file.ignored))
    return Settings(
        preset=options.preset,
        served_model_name=file.served_model_name or options.served_model_name,
        weights=paths.resolve(options.weights),
        adapters_dir=paths.resolve(options.adapters_dir),
        adapters=tuple(parse_choice(text) for text in options.adapter),
        engine=engine,
        max_model_len=file.max_model_len or options.max_model_len,
        dtype=file.dtype or options.dtype,
        max_num_seqs=file.max_num_seqs
        or options.max_num_seqs
        or (VLLM_MAX_NUM_SEQS if engine == "vllm" else DEFAULT_MAX_NUM_SEQS),
        max_queued=file.max_queued or options.max_queued,
        nodes=options.nodes,
        rendezvous=options.rendezvous,
        vllm=VllmSettings(
            tuple(options.vllm),
            file.options,
            options.tensor_parallel_size,
            options.pipeline_parallel_size,
            options.data_parallel_size,
            options.max_lora_rank,
            file.kv_cache_share,
            options.performance_mode,
        ),
    )


if __name__ == "__main__":
    main()
