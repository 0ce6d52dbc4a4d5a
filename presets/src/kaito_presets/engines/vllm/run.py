"""Runs vLLM until a signal ends it, or until it is clear that it can't serve: then with a sentence that says why.

vLLM is a process of its own, because it says why it failed in logs of many hundred lines, from several processes, and
because the parts of a model on several nodes have to be watched while they load.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import re
import signal
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kaito_presets.adapters import BadAdapter
from kaito_presets.engines import BadWeights
from kaito_presets.engines.vllm import nodes, part
from kaito_presets.engines.vllm.arguments import DRAIN_SECONDS, Node, command_line, environment
from kaito_presets.engines.vllm.flags import BadSetting
from kaito_presets.engines.vllm.front import VARIABLE, Serving
from kaito_presets.engines.vllm.prepare import Prepared, prepare
from kaito_presets.server.exits import (
    EXIT_BAD_WEIGHTS,
    EXIT_ENGINE_MISSING,
    EXIT_FAILED,
    EXIT_USAGE,
    exit_code,
    fail,
)
from kaito_presets.server.settings import Settings

#: Lines of vLLM's log that are kept to find the reason of a failure.
KEPT_LINES = 400
#: Seconds after its own time to finish, after which vLLM is killed.
PATIENCE = 10

_MEMORY = re.compile(
    r"Model loading took (\d+(?:\.\d+)?) GiB memory|Available KV cache memory: (\d+(?:\.\d+)?) GiB"
)
#: What the web server in vLLM writes when it begins to answer.
_STARTED = "Application startup complete"

log = logging.getLogger(__name__)


def serve(settings: Settings, host: str, port: int) -> None:
    """Blocks. Ends the process with an exit code of exits.py."""
    if importlib.util.find_spec("vllm") is None:
        fail(
            EXIT_ENGINE_MISSING,
            "The vllm engine needs Python packages that are not here: install kaito-presets[vllm], on a machine with "
            "NVIDIA GPUs of compute capability 7.5 or newer.",
        )
    try:
        node = nodes.node_of(settings.nodes, settings.rendezvous, os.environ, nodes.host_name())
        with tempfile.TemporaryDirectory(prefix="kaito-adapters-") as scratch:
            prepared = prepare(settings, node, _place(node, Path(scratch)))
            line = command_line(prepared.asked, host, port, "inference_config.yaml: vllm")
            others = nodes.peers(node)
            told = Told(Path(scratch) / "memory.json", line, node.count, prepared.dtype)
            code, sentence = asyncio.run(_run(settings, prepared, line, others, told, host, port))
    except (BadAdapter, BadWeights) as error:
        fail(exit_code(error), str(error))
    except (BadSetting, nodes.BadPlace) as error:
        fail(EXIT_USAGE, str(error))
    if code:
        fail(code, sentence)


class Told:
    """What vLLM's log says of the memory of one GPU, written to a file for the routes once both figures are known."""

    def __init__(self, file: Path, line: Sequence[str], nodes: int, dtype: str) -> None:
        self.file = file
        ways = dict(each.removeprefix("--").split("=", 1) for each in line if "-parallel-size=" in each)
        self._copies = int(ways.get("data-parallel-size", 1))
        parts = int(ways.get("tensor-parallel-size", 1)) * int(ways.get("pipeline-parallel-size", 1))
        self._gpus = max(1, parts * self._copies // nodes)
        self._dtype = dtype
        self._found: dict[str, int] = {}

    def take(self, text: str) -> None:
        """One more line of the log."""
        match = _MEMORY.search(text)
        if match is None:
            return
        part = "weights" if match[1] is not None else "cache"
        self._found[part] = int(float(match[1] or match[2]) * 2**30)
        if len(self._found) == len(("weights", "cache")):
            more = {"gpus": self._gpus, "copies": self._copies, "dtype": self._dtype}
            self.file.write_text(json.dumps(self._found | more), encoding="utf-8")


def _place(node: Node, scratch: Path) -> Path:
    """Where the adapters' copies are: on several nodes at the same path, because the first tells the rest."""
    return scratch if node.count == 1 else Path(tempfile.gettempdir()) / "kaito-adapters"


async def _run(
    settings: Settings,
    prepared: Prepared,
    line: Sequence[str],
    others: Sequence[tuple[int, str]],
    told: Told,
    host: str,
    port: int,
) -> tuple[int, str]:
    """(exit code, sentence) of vLLM's process, or of the watch over the other parts."""
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(prepared.asked.weights), *line]
    log.info("Starting vLLM: %s", " ".join(command[2:]))
    process = await asyncio.create_subprocess_exec(
        *command,
        env={
            **environment(prepared.asked.architecture),
            **os.environ,
            VARIABLE: _serving(settings, prepared, told.file),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**20,
    )
    stopped = False

    def stop(number: int) -> None:
        nonlocal stopped
        stopped = True
        _closing(told.file).touch()
        log.info("Got %s: finishing running answers.", signal.Signals(number).name)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    kept: deque[str] = deque(maxlen=KEPT_LINES)
    reading = asyncio.create_task(_read(process, kept, prepared, told))
    ending = asyncio.create_task(process.wait())
    watching = asyncio.create_task(_watch(prepared.asked.node, others, process, host, port))
    try:
        await asyncio.wait((ending, watching), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await _end(process)
            return EXIT_FAILED, watching.result()
        await reading
        return (0, "") if stopped else reason(kept, process.returncode or 0)
    finally:
        watching.cancel()
        await asyncio.gather(watching, reading, ending, return_exceptions=True)


def _serving(settings: Settings, prepared: Prepared, memory_file: Path) -> str:
    names = prepared.names
    return Serving(
        preset=settings.preset,
        served=settings.served_model_name,
        stand_in=names.stand_in,
        adapters=tuple((choice.name, choice.strength) for choice in prepared.choices),
        max_num_seqs=settings.max_num_seqs * (settings.vllm.data_parallel_size or 1),
        max_queued=settings.max_queued,
        engine_version=_version(),
        memory_file=str(memory_file),
        closing_file=str(_closing(memory_file)),
    ).to_json()


def _closing(memory_file: Path) -> Path:
    return memory_file.with_name("closing")


def _version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return "unknown"


async def _read(
    process: asyncio.subprocess.Process, kept: deque[str], prepared: Prepared, told: Told
) -> None:
    """Hands vLLM's log on, keeps its last lines, and says when the model answers."""
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # a line of more than a megabyte
            continue
        if not line:
            return
        text = line.decode(errors="replace")
        kept.append(text.rstrip())
        sys.stderr.write(text)
        sys.stderr.flush()
        told.take(text)
        if _STARTED in text:
            adapted = (
                ", ".join(f"{one.name} at strength {one.strength:g}" for one in prepared.choices) or "none"
            )
            log.info(
                "Ready: serving %s with vllm %s, adapters: %s.", prepared.names.served, _version(), adapted
            )
            if prepared.names.notice:
                log.warning("%s", prepared.names.notice)


async def _watch(
    node: Node, others: Sequence[tuple[int, str]], process: asyncio.subprocess.Process, host: str, port: int
) -> str:
    """Returns why this part has to start again; never returns where one node serves alone."""
    if node.meeting is None:
        await asyncio.Event().wait()
    assert node.meeting is not None
    watch = nodes.Watch(node.rank, uuid.uuid4().hex)
    asked_at = node.meeting[1] + nodes.ASK
    return await part.belong(
        watch, [(number, f"http://{name}:{asked_at}") for number, name in others],
        host, asked_at, port if node.rank > 0 else None, lambda: process.returncode is None,
    )  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(DRAIN_SECONDS + PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()


#: What vLLM's log says, and what that means: (pattern, exit code, sentence; {0} is the line).
_REASONS = (
    (
        r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver",
        EXIT_ENGINE_MISSING,
        "vLLM finds no NVIDIA GPU here. Check the node's driver and device plugin, and that the pod asks for GPUs.",
    ),
    (
        r"no kernel image is available",
        EXIT_ENGINE_MISSING,
        "This image of vLLM has no code for these GPUs: use the transformers runtime (annotation kaito.sh/runtime).",
    ),
    (r"OutOfMemoryError|CUDA out of memory", EXIT_FAILED, "The GPUs' memory does not suffice: {0}"),
    (
        r"larger than the (?:available KV cache memory|maximum number of tokens)|No available memory for the cache",
        EXIT_FAILED,
        "The context does not fit the GPUs' memory beside the weights: {0}",
    ),
    (r"^vllm serve: error:|error: unrecognized arguments|error: argument", EXIT_USAGE, "vLLM refuses a setting: {0}"),
    (
        r"Couldn't instantiate the backend tokenizer",
        EXIT_BAD_WEIGHTS,
        "The weights directory has no tokenizer that vLLM can use: tokenizer.json or tokenizer.model is missing.",
    ),
    (r"^(?:[\w.]*\.)?SafetensorError: ", EXIT_BAD_WEIGHTS, "The weights can't be read: {0}"),
)  # fmt: skip
_PREFIX = re.compile(r"^(\(\w+[^)]*\)\s*)?((DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\S+\s+\S+\s+\[[^\]]*\]\s*)?")
_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Exit))\b: (.+)$")
#: What is wrong with a value: pydantic says it on the line after its error, or after one more with the value's name.
_DETAIL = re.compile(r"^(?:Value error, |Assertion failed, )?(.+?) \[type=.*$")
_DETAIL_ALONE = re.compile(r"^(?:Value error, |Assertion failed, )(.+)$")
_OF_PYDANTIC = re.compile(r":? ?\d+ validation errors? for \w+$")
#: Errors that only say that there was another.
_POINTERS = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "Engine core proc",
    "EngineCore encountered an issue",
)


def reason(lines: Iterable[str], code: int) -> tuple[int, str]:
    """(exit code, sentence) from the last lines of vLLM's log and its process's exit code."""
    plain = [_PREFIX.sub("", line).strip() for line in lines]
    for pattern, ours, sentence in _REASONS:
        place = next((n for n in range(len(plain) - 1, -1, -1) if re.search(pattern, plain[n])), None)
        if place is not None:
            told = _ERROR.sub(r"\2", plain[place])
            detail = _detail(plain, place)
            if detail:
                told = _OF_PYDANTIC.sub(f": {detail}", told)
            return ours, sentence.format(told)
    for place in range(len(plain) - 1, -1, -1):
        match = _ERROR.match(plain[place])
        if match is None or match[2].startswith(_POINTERS):
            continue
        detail = _detail(plain, place)
        if detail:
            return EXIT_USAGE, f"vLLM refuses its settings: {detail}"
        return EXIT_FAILED, f"vLLM could not go on ({match[1]}): {match[2]}"
    if code < 0:
        killed = signal.Signals(-code).name
        more = ": the node or the pod ran out of memory, most likely" if killed == "SIGKILL" else ""
        return EXIT_FAILED, f"vLLM was ended by {killed}{more}."
    return EXIT_FAILED, f"vLLM ended with exit code {code}; its log says why."


def _detail(plain: Sequence[str], place: int) -> str:
    """What pydantic says after the line `place`; "" where it says nothing."""
    if not _OF_PYDANTIC.search(plain[place]):
        return ""
    after = plain[place + 1 : place + 3]
    for name, line in zip(("", *after), after, strict=False):
        match = _DETAIL.match(line) or _DETAIL_ALONE.match(line)
        if match:
            return f"{name}: {match[1]}" if name else match[1]
    return ""
