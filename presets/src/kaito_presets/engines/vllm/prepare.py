"""What has to be known and written before vLLM starts: the weights' own settings, the adapters' copies, the GPUs."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito_presets import adapters as adapter_choices
from kaito_presets.adapters import AdapterChoice
from kaito_presets.engines import BadWeights
from kaito_presets.engines.fallback import TEMPLATES
from kaito_presets.engines.template import ChatTemplate, own_source
from kaito_presets.engines.transformers import dtypes
from kaito_presets.engines.vllm.arguments import Adapters, Asked, Node, cache_stays, parse_settings
from kaito_presets.server.names import COMBINED, ModelNames, stand_in_of
from kaito_presets.server.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that vLLM and the routes in front of it are told."""

    asked: Asked
    names: ModelNames
    choices: tuple[AdapterChoice, ...]
    dtype: str
    """The number format, as far as it is known before vLLM decides."""


def prepare(settings: Settings, node: Node, scratch: Path) -> Prepared:
    """Reads the weights' directory and writes the adapters' copies below `scratch`.

    Raises BadAdapter, BadWeights, BadSetting.
    """
    config = _json_of(settings.weights / "config.json") or _json_of(settings.weights / "params.json")
    if not config:
        raise BadWeights(
            f"There is no config.json in {settings.weights.name}: vLLM serves Hugging Face directories with "
            "safetensors. For a GGUF file use the mistralrs runtime."
        )
    choices = tuple(adapter_choices.choose(settings.adapters_dir, settings.adapters))
    try:
        stand_in = stand_in_of(settings.weights, settings.preset)
    except (ValueError, KeyError, TypeError) as error:
        raise BadWeights("kaito-stand-in.json in the weights directory is damaged.") from error
    names = ModelNames(settings.preset, settings.served_model_name, stand_in, choices)
    generation = _json_of(settings.weights / "generation_config.json")
    dtype, told = dtypes.choose(settings.dtype, _text_of(config, "dtype", "torch_dtype"), capability())
    if told:
        log.warning("%s", told)
    vllm = settings.vllm
    asked = Asked(
        weights=settings.weights,
        names=base_names(names),
        preset=parse_settings(vllm.preset),
        options=vllm.options,
        max_model_len=settings.max_model_len,
        dtype=dtype if settings.dtype != "auto" or dtype == "float16" else "auto",
        max_num_seqs=settings.max_num_seqs,
        tensor=vllm.tensor_parallel_size,
        pipeline=vllm.pipeline_parallel_size,
        data=vllm.data_parallel_size,
        max_lora_rank=vllm.max_lora_rank,
        adapters=_adapters(settings, names, choices, scratch),
        node=node,
        architecture=str((config.get("architectures") or [""])[0]),
        own_code="auto_map" in config and any(settings.weights.glob("*.py")),
        own_sampling="temperature" in generation,
        templates=TEMPLATES,
        template=_template(settings, scratch),
        kv_cache_gib=_cache_gib(vllm.kv_cache_share),
        performance_mode=vllm.performance_mode,
    )
    if asked.kv_cache_gib and (why := cache_stays(asked)):
        log.warning("kv_cache_cpu_memory_utilization has no effect: %s.", why)
    weights_in = _text_of(config, "dtype", "torch_dtype")
    return Prepared(asked, names, choices, weights_in if dtype == "auto" and weights_in else dtype)


def base_names(names: ModelNames) -> tuple[str, ...]:
    """What the model without adapters answers to in vLLM."""
    return tuple(model.name for model in names.listed() if model.adapter is None)


def modules(names: ModelNames, directories: Mapping[str, Path]) -> tuple[tuple[str, Path], ...]:
    """The names that mean an adapter, with its directory: the model's own first."""
    return tuple(
        (model.name, directories[model.adapter])
        for model in names.listed()
        if model.adapter is not None and model.adapter in directories
    )


def _adapters(
    settings: Settings, names: ModelNames, choices: tuple[AdapterChoice, ...], scratch: Path
) -> Adapters:
    if not any(choice.strength > 0 for choice in choices):
        return Adapters()
    from kaito_presets import lora, tensors  # noqa: PLC0415 - numpy takes a third of a second to import

    combined = COMBINED if names.main.adapter == COMBINED else None
    try:
        directories = lora.prepare(settings.weights, settings.adapters_dir, choices, combined, scratch)
    except (tensors.BadTensorFile, OSError) as error:
        raise BadWeights(f"The weights can't be read: {error}") from error
    ranks = [int(_json_of(path / adapter_choices.CONFIG_FILE)["r"]) for path in directories.values()]
    return Adapters(modules(names, directories), max(ranks, default=0))


def _template(settings: Settings, scratch: Path) -> Path | None:
    """A file with the chat template for weights that bring none; None where they do."""
    if own_source(settings.weights) is not None or not (settings.weights / "tokenizer_config.json").is_file():
        return None
    template = ChatTemplate.of(settings.weights, settings.preset) or ChatTemplate.of_one_prompt(
        settings.weights
    )
    path = scratch / "chat-template.jinja"
    path.write_text(template.source, encoding="utf-8")
    return path


def _json_of(path: Path) -> dict[str, Any]:
    """A JSON file of the weights; empty where it is missing. Raises BadWeights for one that is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadWeights(f"{path.name} in the weights directory can't be read: {error}.") from error
    if not isinstance(found, dict):
        raise BadWeights(f"{path.name} in the weights directory is not a JSON object.")
    return found


def _text_of(config: Mapping[str, Any], *keys: str) -> str | None:
    return next((str(config[key]) for key in keys if config.get(key)), None)


def capability() -> tuple[int, int] | None:
    """The weakest GPU's compute capability; None where there is no GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        found = [tuple(int(part) for part in line.split(".")) for line in output.split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return min(((major, minor) for major, minor in found), default=None)


def _cache_gib(share: float) -> float:
    """`share` of the memory that is free now, in GiB: of the container where it is limited, else of the machine."""
    if share <= 0:
        return 0.0
    return share * free_memory(Path("/proc/meminfo"), Path("/sys/fs/cgroup")) / 2**30


def free_memory(meminfo: Path, cgroup: Path) -> int:
    """Bytes that nobody uses; 0 where it can't be found out."""
    free = 0
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        limit = (cgroup / "memory.max").read_text(encoding="utf-8").strip()
        used = int((cgroup / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return free
    return min(free, int(limit) - used) if limit.isdecimal() else free
