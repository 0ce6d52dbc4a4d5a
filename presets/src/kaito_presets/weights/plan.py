"""Decides which files of a repository make a model that runs here, and whether disk and memory suffice for it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaito_presets.engines.device import on_gpu
from kaito_presets.weights.hub import Hub, HubError, RemoteFile
from kaito_presets.weights.shared import directory_of

GIB = 1024**3
#: Memory needed is the weights' size times this, plus WORKING_BYTES: room for caches of a 4k context and for buffers.
MEMORY_FACTOR = 1.1
#: On a CPU the engine computes with 32-bit numbers, which safetensors of 16 bit become when they are loaded, and keeps
#: GGUF tensors in an order of its own beside the file. Measured with mistralrs 0.9.5: a Llama of 258 MiB in bfloat16
#: took 549 MiB, GGUF files of 222 MiB (Q4_0) 326 MiB and of 419 MiB (Q8_0) 955 MiB.
WIDENED = 2
WORKING_BYTES = GIB
#: Free disk that must remain after the download.
SPARE_DISK_BYTES = GIB // 2

#: 4-bit GGUF variants, best trade of size and quality first. The last one is how some publishers name Q4_K_M.
_FOUR_BIT = ("q4_k_m", "q4_k_s", "q4_k_l", "q4_0", "q4_1", "iq4_xs", "iq4_nl", "q4")
#: Those of more bits, the smallest first, for repositories that have no other.
_MORE_BITS = ("q5_k_m", "q5_k_s", "q5_0", "q5_1", "q6_k", "q8_0", "bf16", "f16", "fp16", "f32")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_HUGGING_FACE = re.compile(
    r"^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template|"
    r"preprocessor_config|processor_config)\.json$|^merges\.txt$|^tokenizer\.model$|^chat_template\.jinja$|"
    r"^[^/]*\.safetensors(\.index\.json)?$"
)
#: What models have that the library does not know by itself, and Mistral's own names.
_OWN = re.compile(
    r"^[^/]+\.py$|^(params|tekken)\.json$|^(tiktoken|sentencepiece\.bpe)\.model$|^[^/]+\.(jinja|tiktoken)$"
)
_INDEX = re.compile(r"\.index\.json$")


class DoesNotFit(Exception):
    """The weights do not fit this machine. str() is a sentence with the numbers."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a preset's weights are published. With `gguf_repository`, its 4-bit file is preferred."""

    repository: str
    revision: str = "main"
    gguf_repository: str | None = None
    gguf_revision: str = "main"


@dataclass(frozen=True, slots=True)
class Plan:
    """A download: which files, where to, what is there already, and what it needs. All sizes in bytes."""

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]
    directory: Path
    present: int

    @property
    def total(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """What is still to be downloaded."""
        return self.total - self.present

    @property
    def memory(self) -> int:
        """Memory that serving these weights takes, by the engine of one machine."""
        weights = sum(file.size for file in self.files if file.path.endswith((".gguf", ".safetensors")))
        return int(weights * (1 if on_gpu() else WIDENED) * MEMORY_FACTOR) + WORKING_BYTES

    def summary(self) -> str:
        """Size, disk and memory, in one sentence."""
        there = f", {gigabytes(self.present)} of it there already" if self.present else ""
        return (
            f"{self.repository}: {len(self.files)} files, {gigabytes(self.total)} to download{there}; "
            f"takes {gigabytes(self.total)} of disk and {gigabytes(self.memory)} of memory."
        )


def make_plan(hub: Hub, source: Source, cache: Path) -> Plan:
    """Asks the hub for the files and looks at what is below `cache` already. Raises HubError."""
    if source.gguf_repository:
        repository, revision = source.gguf_repository, source.gguf_revision
        files = choose_gguf(hub.files(repository, revision))
        if not files:
            raise HubError(f"The repository {repository} has no GGUF file of 4 bits or more.")
    else:
        repository, revision = source.repository, source.revision
        files = choose_safetensors(hub.files(repository, revision))
        if not any(file.path.endswith(".safetensors") for file in files):
            raise HubError(f"The repository {repository} has no safetensors files.")
    directory = directory_of(cache, repository, revision)
    present = sum(
        file.size if (directory / file.place).is_file() else _partial(directory, file) for file in files
    )
    return Plan(repository, revision, tuple(files), directory, present)


def pod_plan(hub: Hub, repository: str, revision: str, directory: Path, *, mistral: bool = False) -> Plan:
    """What a server in a pod needs of a repository, into `directory` itself. Raises HubError.

    mistral: the files of Mistral's own format, of a repository that has both.
    """
    files = choose_served(hub.files(repository, revision), mistral=mistral)
    if not any(file.path.endswith((".safetensors", ".gguf")) for file in files):
        raise HubError(
            f"The repository {repository} has no safetensors files; weights in other formats may run code when they "
            "are opened. Save them as safetensors."
        )
    present = sum(
        file.size if (directory / file.place).is_file() else _partial(directory, file) for file in files
    )
    return Plan(repository, revision, tuple(files), directory, present)


def partial_path(directory: Path, file: RemoteFile) -> Path:
    """Where an unfinished file is kept."""
    return directory / f"{file.place}.partial"


def _partial(directory: Path, file: RemoteFile) -> int:
    path = partial_path(directory, file)
    return min(path.stat().st_size, file.size) if path.is_file() else 0


def choose_gguf(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The best GGUF file of 4 bits or else of more, or all parts of it; the only one there is, whatever it is called;
    [] when there is none."""
    candidates = [
        file for file in files if file.path.lower().endswith(".gguf") and "mmproj" not in file.path.lower()
    ]
    for variant in (*_FOUR_BIT, *_MORE_BITS):
        pattern = re.compile(rf"(^|[-_./]){variant}([-_./]|$)")
        matching = [file for file in candidates if pattern.search(file.path.lower())]
        if matching:
            first = matching[0]
            if _PART.search(first.path):
                stem = _PART.sub("", first.path)
                return [file for file in matching if _PART.sub("", file.path) == stem]
            return [first]
    return candidates if len(candidates) == 1 else []


def choose_safetensors(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """What a Hugging Face directory needs to be served: no other formats, no subdirectories, no documentation."""
    return [file for file in files if _HUGGING_FACE.match(file.path)]


def choose_served(files: Sequence[RemoteFile], *, mistral: bool = False) -> list[RemoteFile]:
    """What servers read at the top of a repository: with the code of models and tokenizers that have their own, and
    of weights in two formats one. Falls back to a GGUF file where there is nothing else."""
    chosen = [file for file in files if _HUGGING_FACE.match(file.path) or _OWN.match(file.path)]
    weights = [file for file in chosen if file.path.endswith(".safetensors")]
    if not weights:
        gguf = choose_gguf(files)
        return [*(file for file in chosen if not _INDEX.match(file.path)), *gguf] if gguf else chosen
    consolidated = {file.path for file in weights if file.path.startswith("consolidated")}
    others = {file.path for file in weights} - consolidated
    if consolidated and others:
        dropped = others if mistral else consolidated
        return [file for file in chosen if file.path not in dropped]
    return chosen


def check_fit(plan: Plan, *, disk_free: int | None = None, memory_free: int | None = None) -> None:
    """Raises DoesNotFit when disk or memory is too small. Sizes in bytes; default: this machine's."""
    if disk_free is None:
        existing = next(
            path for path in (plan.directory, *plan.directory.absolute().parents) if path.exists()
        )
        disk_free = shutil.disk_usage(existing).free
    needed = plan.missing + SPARE_DISK_BYTES
    if plan.missing and disk_free < needed:
        raise DoesNotFit(
            f"{plan.repository} needs {gigabytes(needed)} of free disk and there are {gigabytes(disk_free)} in "
            f"{plan.directory.parent}. Make room there, or choose another directory."
        )
    memory_free = available_memory() if memory_free is None else memory_free
    if memory_free is not None and memory_free < plan.memory:
        raise DoesNotFit(
            f"{plan.repository} needs {gigabytes(plan.memory)} of memory and {gigabytes(memory_free)} are available. "
            "Close other programs or choose a smaller model; the stand-in weights run anywhere."
        )


def available_memory() -> int | None:
    """Bytes that a new process can use; the machine's whole memory where the system doesn't say; None if unknown."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
        if match:
            return int(match[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def gigabytes(size: int) -> str:
    """A size in words, decimal."""
    if size < 10**7:
        return f"{size / 10**6:.1f} MB"
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"
