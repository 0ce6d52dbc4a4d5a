"""The command line of `vllm serve`, from what the Workspace says: pure, and the same for the same settings.

Who wins: the ConfigMap's `vllm:` section, then the command line of kaito-serve, then what the catalogue says of the
preset (--vllm), then the defaults here. Flags are sorted by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito_presets.engines.vllm.flags import BadSetting, FlagSet, known, normalized, rendered

#: Ranks that vLLM has room for; a smaller one is served in the next one's room.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: Share of a GPU's memory that vLLM takes. The plan is made with the same number.
GPU_MEMORY_UTILIZATION = 0.84
#: Answers computed at the same time, where nothing else is asked for.
MAX_NUM_SEQS = 256
#: Adapters that may be used in one step; for each, GPUs keep room of the largest rank.
ADAPTERS_AT_ONCE = 4
#: Seconds that running answers get to end after SIGTERM; below Kubernetes' default grace period of 30.
DRAIN_SECONDS = 25
FRONT = "kaito_presets.engines.vllm.front.Front"

#: Flags that say how this server is put together; a file that sets them would take it apart.
OURS = {
    "config": "write the settings into the ConfigMap itself",
    "grpc": "this server speaks HTTP",
    "headless": "decided by the Workspace's nodes",
    "host": "set KAITO_BIND_HOST",
    "lora-modules": "name adapters in the Workspace's inference.adapters",
    "master-addr": "decided by the Workspace's nodes",
    "master-port": "decided by the Workspace's nodes",
    "model": "weights are named in the Workspace's inference.preset",
    "nnodes": "decided by the Workspace's nodes",
    "node-rank": "decided by the Workspace's nodes",
    "port": "set KAITO_PORT",
    "revision": "a revision is named in the Workspace's inference.preset.weights",
    "served-model-name": "one name is given",
    "uds": "this server listens on a port",
}
#: Architectures whose cache is not all of one kind, or whose cache vLLM can't move to the CPU's memory.
_CACHE_STAYS = ("NemotronH", "Gemma4", "Qwen3_5", "DeepseekV4", "DeepseekV32", "GptOss")
#: Architectures whose kernels are compiled when they start, by DeepGEMM.
_DEEP_GEMM = ("DeepseekV4", "DeepseekV32", "GlmMoeDsa")


@dataclass(frozen=True, slots=True)
class Node:
    """This machine's place among those that serve one model: number `rank` of `count`, which meet at `meeting`."""

    rank: int = 0
    count: int = 1
    meeting: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Adapters:
    """What vLLM mounts: `modules` are (name, PEFT directory), `rank` is the largest of their ranks."""

    modules: tuple[tuple[str, Path], ...] = ()
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """All that the command line is made of.

    preset: the catalogue's settings by their flags' names, as text. options: the `vllm:` section without what is in the
    other fields. max_model_len: None is as much as fits. names: what the base model answers to. architecture, own_code,
    own_sampling: from the weights' config.json and generation_config.json. templates: a directory of chat templates.
    template: one for weights that bring none. kv_cache_gib: memory of the node for what the GPUs' caches have no room
    for; 0: none.
    """

    weights: Path
    names: tuple[str, ...]
    preset: Mapping[str, str]
    options: Mapping[str, Any]
    max_model_len: int | None = None
    dtype: str = "auto"
    max_num_seqs: int = MAX_NUM_SEQS
    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    max_lora_rank: int | None = None
    adapters: Adapters = Adapters()
    node: Node = Node()
    architecture: str = ""
    own_code: bool = False
    own_sampling: bool = False
    templates: Path | None = None
    template: Path | None = None
    kv_cache_gib: float = 0.0
    performance_mode: str | None = None


def command_line(asked: Asked, host: str, port: int, where: str = "vllm") -> list[str]:
    """What follows `vllm serve WEIGHTS`. `where`: the path of the ConfigMap's section, for sentences.

    Raises BadSetting for a setting that vLLM would not take, or that contradicts another.
    """
    flags = known()
    file = normalized(asked.options, where, flags)
    for name, instead in OURS.items():
        if name in file:
            raise BadSetting(f"{where}.{name} can't be set here: {instead}.")
    values = {**_defaults(asked), **_catalogued(asked, flags), **_told(asked)}
    _lora(asked, file, values, where)
    for name, value in file.items():
        before = values.get(name)
        values[name] = {**before, **value} if isinstance(value, dict) and isinstance(before, dict) else value
    if values.get("tokenizer-mode") == "mistral" and asked.template and "chat-template" not in file:
        values["chat-template"] = None  # that tokenizer words conversations itself, and refuses a template
    _consistent(values, file, where)
    values |= _place(asked, host, port, values.get("middleware"))
    line: list[str] = []
    for name in sorted(values):
        if name in flags.flags and values[name] is not None:
            path = f"{where}.{name}" if name in file else name
            line += rendered(flags.flags[name], values[name], path)
    return line


def _defaults(asked: Asked) -> dict[str, Any]:
    values: dict[str, Any] = {
        "api-server-count": 1,  # requests are counted in one process
        "compilation-config": {"pass_config": {"fuse_allreduce_rms": False}},  # would need a CUDA compiler
        "disable-uvicorn-access-log": True,
        "dtype": "auto",
        "gpu-memory-utilization": GPU_MEMORY_UTILIZATION,
        "max-model-len": "auto",
        "max-num-seqs": MAX_NUM_SEQS,
        "shutdown-timeout": DRAIN_SECONDS,
        "trust-remote-code": True if asked.own_code else None,
        "chat-template": str(asked.template) if asked.template is not None else None,
    }
    if not asked.own_sampling:
        values["override-generation-config"] = {"temperature": 0.0}  # as the other engines: greedy
    return values


def _catalogued(asked: Asked, flags: FlagSet) -> dict[str, Any]:
    values = normalized(asked.preset, "--vllm", flags)
    template = values.pop("chat-template", None)
    if template and asked.templates is not None:
        path = asked.templates / f"{template}.jinja"
        if path.is_file():
            values["chat-template"] = str(path)
    if values.get("tool-call-parser"):
        values["enable-auto-tool-choice"] = True
    if asked.performance_mode:
        values["performance-mode"] = asked.performance_mode
    return values


def _told(asked: Asked) -> dict[str, Any]:
    """What kaito-serve's own flags say."""
    values: dict[str, Any] = {"served-model-name": list(asked.names), "max-num-seqs": asked.max_num_seqs}
    if asked.max_model_len is not None:
        values["max-model-len"] = asked.max_model_len
    if asked.dtype != "auto":
        values["dtype"] = asked.dtype
    for name, parts in (("tensor", asked.tensor), ("pipeline", asked.pipeline), ("data", asked.data)):
        if parts is not None:
            values[f"{name}-parallel-size"] = parts
    if asked.kv_cache_gib > 0 and not cache_stays(asked):
        values["kv-offloading-size"] = round(asked.kv_cache_gib, 1)
    return values


def cache_stays(asked: Asked) -> str:
    """Why the cache is not extended into the node's memory, as the end of a sentence; "" where it can be."""
    if asked.architecture.startswith(_CACHE_STAYS):
        return f"models of the architecture {asked.architecture} have a cache of several kinds"
    if (asked.data or 1) > 1 or (asked.pipeline or 1) > 1 or asked.node.count > 1:
        return "the model is served in several parts or copies"
    return ""


def _lora(asked: Asked, file: Mapping[str, Any], values: dict[str, Any], where: str) -> None:
    if not asked.adapters.modules:
        return
    if file.get("enable-lora") in (False, "false", "False"):
        raise BadSetting(
            f"{where}.enable-lora is false, but the Workspace has adapters; remove one of the two."
        )
    needed = room_for(asked.adapters.rank)
    asked_for = max(asked.max_lora_rank or 0, needed)
    values["enable-lora"] = True
    values["max-lora-rank"] = room_for(asked_for)
    values["max-loras"] = min(len(asked.adapters.modules), ADAPTERS_AT_ONCE)
    values["max-cpu-loras"] = len(asked.adapters.modules)
    values["lora-modules"] = [f"{name}={path}" for name, path in asked.adapters.modules]
    given = str(file.get("max-lora-rank", needed))
    if given.isdecimal() and int(given) < needed:
        raise BadSetting(
            f"{where}.max-lora-rank is {given}, but the adapters need {needed} (the sum of all has rank "
            f"{asked.adapters.rank}); raise it, or leave it out."
        )


def room_for(rank: int) -> int:
    """The smallest of vLLM's ranks that holds `rank`. Raises BadSetting above the largest."""
    for room in RANKS:
        if rank <= room:
            return room
    raise BadSetting(
        f"The adapters together have rank {rank}, and vLLM takes at most {RANKS[-1]}: "
        "use fewer adapters, or the transformers runtime (annotation kaito.sh/runtime: transformers)."
    )


def _consistent(values: Mapping[str, Any], file: Mapping[str, Any], where: str) -> None:
    flags = known()
    parsers = (("tool-call-parser", flags.tool_parsers, "tool-parser-plugin"),
               ("reasoning-parser", flags.reasoning_parsers, "reasoning-parser-plugin"))  # fmt: skip
    for name, there, plugin in parsers:
        value = values.get(name)
        named = isinstance(value, str | int | float) and value
        if name in file and named and str(value) not in there and not values.get(plugin):
            raise BadSetting(
                f"{where}.{name}: vLLM {flags.version} has no {value!r}; it has {', '.join(sorted(there))}."
            )
    if values.get("enable-auto-tool-choice") in (True, "true", "True") and not values.get("tool-call-parser"):
        raise BadSetting(f"{where}.enable-auto-tool-choice needs {where}.tool-call-parser.")


def _place(asked: Asked, host: str, port: int, middleware: Any) -> dict[str, Any]:
    """Where this process listens, and how it meets the others. Nothing overrides these."""
    node = asked.node
    values: dict[str, Any] = {}
    if node.rank == 0:
        others = middleware if isinstance(middleware, list) else [middleware] if middleware else []
        values |= {"host": host, "port": port, "middleware": [*others, FRONT]}  # the last is asked first
    if node.count > 1 and node.meeting is not None:
        values |= {"nnodes": node.count, "node-rank": node.rank, "distributed-executor-backend": "mp"}
        values |= {"master-addr": node.meeting[0], "master-port": node.meeting[1]}
        if node.rank > 0:
            values |= {"headless": True, "api-server-count": None}
    return values


def environment(architecture: str) -> dict[str, str]:
    """Variables that vLLM reads, where they are not set: nothing is downloaded or reported, and nothing compiled that
    the image has no compiler for."""
    return {
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_DEEP_GEMM": "1" if architecture.startswith(_DEEP_GEMM) else "0",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
    }


def parse_settings(given: Sequence[str]) -> dict[str, str]:
    """--vllm NAME=VALUE, several times. Raises BadSetting."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise BadSetting(f"--vllm={text}: write NAME=VALUE, where NAME is an option of vLLM.")
        found[name] = value
    return found
