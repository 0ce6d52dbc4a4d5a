"""How many nodes of a size a model needs, how it is cut over their GPUs, and how long its context may be.

`size(preset, machine, demand)` answers with a `Sizing`, or with `Refused` and a sentence. Pure: the same facts always
give the same answer; nothing here knows of clusters, prices or what users wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from kaito.catalog.gpus import Machine, machine_of_sku
from kaito.catalog.lines import first_runtime, least_capability, line_for
from kaito.catalog.memory import BLOCK_TOKENS, Ledger, Parallelism, ledger, usable_share
from kaito.catalog.models import Dtype, GpuSku, Preset, Runtime

DEFAULT_CONTEXT: Final = 8192
"""Tokens that nodes are counted for where the user names no context: a page or ten with a question about them. The Go
KAITO counts for 2,048 and lets the engine shrink the context to what happens to fit."""
COPIES_FROM: Final = 2
"""A GPU with more than this many times the weights gets a copy of its own, and no layers are shared. Go KAITO."""
LEAST_CAPABILITY: Final = {"awq": 7.5, "gptq": 7.0, "fp8": 7.5}
"""Compute capability from which vLLM has kernels for a quantisation. vLLM's documentation: "Quantization, supported
hardware" for AWQ and GPTQ, "FP8 W8A8" for fp8 (weights alone below 8.9). Methods that it does not list are not checked.
"""
UNRECORDED_LAYERS: Final = ("NemotronH", "Gemma4", "DeepseekV4", "DeepseekV32")
"""Architectures (as names begin) whose layers differ in what they cache, which the catalogue does not know."""
SPOKEN: Final = {"vllm": "vLLM"}
"""Runtimes whose name is written in another way."""
MOST_STAGES: Final = 64
"""Stages that are tried for a model whose number of layers is not recorded."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is wanted of a model. context None: as long as fits, and at least DEFAULT_CONTEXT or the model's own limit.

    sequences: answered at the same time, each with the whole context. runtime None: the first of the preset's that can.
    nodes: take that many, instead of the fewest that do.
    """

    context: int | None = None
    sequences: int = 1
    runtime: Runtime | None = None
    nodes: int | None = None


_ANYTHING: Final = Demand()


@dataclass(frozen=True, slots=True)
class Sizing:
    """A way to serve the model."""

    machine: Machine
    runtime: Runtime
    nodes: int
    copies: int
    """More than 1: each node serves the whole model. 1: all nodes serve one copy together."""
    parallelism: Parallelism
    """Of one copy, and of the copies that one node's GPUs hold (data)."""
    dtype: Dtype
    context: int | None
    """Tokens that a request may have: what was asked for, or else all that fit. None: not known."""
    planned: int | None = None
    """Tokens that the ledger's cache is for."""
    ledger: Ledger | None = None
    """None where the model needs no GPU, or only its whole need is recorded."""
    notes: tuple[str, ...] = ()
    """What was assumed, as sentences."""

    @property
    def total_gib(self) -> float:
        """Memory of all GPUs of all nodes."""
        return self.nodes * self.machine.gpus * self.machine.memory_gib


@dataclass(frozen=True, slots=True)
class Refused:
    """The model cannot be served so; `short_gib` is what one GPU lacks, None where memory is not the reason."""

    machine: Machine
    sentence: str
    short_gib: float | None = None
    nodes: int | None = None
    """Nodes of this size that would do, if the model could be spread, or more were allowed."""


def size(preset: Preset, machine: Machine, demand: Demand = _ANYTHING) -> Sizing | Refused:
    """The fewest nodes that hold the model with the context and sequences asked for.

    Raises ValueError for a demand that is no number above 0.
    """
    for name, value in (
        ("context", demand.context),
        ("sequences", demand.sequences),
        ("nodes", demand.nodes),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name}: {value} is not above 0")
    refusal = _never(preset, machine, demand)
    if refusal is not None:
        return refusal
    if preset.gpus == 0:
        nodes = demand.nodes or 1
        context = demand.context or preset.context_tokens
        return Sizing(machine, preset.runtime, nodes, nodes, Parallelism(), preset.dtype, context)
    if preset.weights_gib is None or (preset.dimensions is None and preset.bytes_per_token is None):
        return _by_stated_memory(preset, machine, demand)
    refused: list[Refused] = []
    for runtime in preset.runtimes if demand.runtime is None else (demand.runtime,):
        answer = _by_ledger(preset, machine, demand, runtime)
        if isinstance(answer, Sizing):
            return answer
        refused.append(answer)
    return min(refused, key=_distance)


def _distance(refused: Refused) -> tuple[bool, float]:
    """How far it is from working: more nodes would do, then the less memory is missing, then the rest."""
    return refused.nodes is None, math.inf if refused.short_gib is None else refused.short_gib


def max_context(preset: Preset, machine: Machine, parallelism: Parallelism, sequences: int = 1) -> int:
    """Tokens for which `sequences` of one copy have cache, up to the model's own limit; 0 where not even the weights
    fit. The model's limit, or else a multiple of BLOCK_TOKENS."""
    limit = preset.context_tokens or DEFAULT_CONTEXT

    def fits(tokens: int) -> bool:
        return ledger(preset, machine, parallelism, tokens, sequences).free >= 0

    if fits(limit):
        return limit
    low, high = 0, limit // BLOCK_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * BLOCK_TOKENS) else (low, middle - 1)
    return low * BLOCK_TOKENS


def dtype_on(preset: Preset, machine: Machine) -> Dtype:
    """Numbers that the model computes with: float16 on GPUs without bfloat16, else the preset's own."""
    if machine.bfloat16 is False and preset.dtype in ("auto", "bfloat16"):
        return "float16"
    return preset.dtype


def choices(
    preset: Preset, skus: Iterable[GpuSku], demand: Demand = _ANYTHING
) -> tuple[list[Sizing], list[Refused]]:
    """What each size would be, the least GPU memory first; and why the others will not do, in their order.

    Sizes that were retired or have no runtime are left out.
    """
    found: list[Sizing] = []
    refused: list[Refused] = []
    for sku in skus:
        if sku.unusable or sku.retired is not None:
            continue
        answer = size(preset, machine_of_sku(sku), demand)
        if isinstance(answer, Sizing):
            found.append(answer)
        else:
            refused.append(answer)
    found.sort(key=lambda each: (each.total_gib, each.nodes, each.machine.gpus, each.machine.name))
    return found, refused


def _never(preset: Preset, machine: Machine, demand: Demand) -> Refused | None:
    """What no number of nodes would change."""
    limit = preset.context_tokens
    if demand.context is not None and limit is not None and demand.context > limit:
        return Refused(
            machine, f"a context of {demand.context:,} tokens is above the limit of {preset.name}, {limit:,}"
        )
    if demand.runtime is not None and demand.runtime not in preset.runtimes:
        return Refused(
            machine, f"{preset.name} is served by {' or '.join(preset.runtimes)}, not {demand.runtime}"
        )
    method = preset.quantization.method if preset.quantization is not None else ""
    least, capability = LEAST_CAPABILITY.get(method), machine.compute_capability
    if least is not None and capability is not None and capability < least:
        return Refused(
            machine,
            f"the weights of {preset.name} are stored as {method}, for which GPUs need compute capability {least:g}; "
            f"{machine.model} has {capability:g}",
        )
    return None


def _too_old(machine: Machine, runtime: Runtime) -> Refused | None:
    """That no image of the runtime has code for the GPUs."""
    capability = machine.compute_capability
    if capability is None or line_for(runtime, capability) is not None:
        return None
    least, name = least_capability(runtime), SPOKEN.get(runtime, runtime)
    return Refused(
        machine, f"{name} needs GPUs of compute capability {least:g}; {machine.model} has {capability:g}"
    )


def _by_ledger(preset: Preset, machine: Machine, demand: Demand, runtime: Runtime) -> Sizing | Refused:
    refusal = _too_old(machine, runtime)
    if refusal is not None:
        return refusal
    planned = demand.context or min(preset.context_tokens or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    missing = math.inf
    for nodes in range(1, _most_nodes(preset, machine, runtime) + 1):
        for way in _ways(preset, machine, runtime, nodes):
            found = ledger(preset, machine, way, planned, math.ceil(demand.sequences / way.data))
            if found.free >= 0:
                return _settled(preset, machine, demand, runtime, nodes, way, planned)
            missing = min(missing, -found.free)
    have = usable_gib(machine)
    return Refused(
        machine,
        f"{preset.name} with a context of {planned:,} tokens needs {have + missing:.1f} GiB on each GPU; of "
        f"{machine.model} {have:.1f} GiB can be used, so {missing:.1f} GiB are missing",
        missing,
    )


def _settled(
    preset: Preset,
    machine: Machine,
    demand: Demand,
    runtime: Runtime,
    need: int,
    way: Parallelism,
    planned: int,
) -> Sizing | Refused:
    """The nodes that are needed, or those that were asked for."""
    if need > 1 and not preset.multi_node:
        text = f"{preset.name} would need {need} nodes of {_named(machine)}, and cannot be spread over nodes"
        return Refused(machine, text, nodes=need)
    nodes = demand.nodes or need
    if nodes < need:
        return _too_few(preset, machine, need, nodes)
    copies = nodes if need == 1 else 1
    if nodes > need > 1:
        most = _most_nodes(preset, machine, runtime)
        if nodes > most:
            text = f"{preset.name} has too few layers for {nodes} nodes of {_named(machine)}; {most} can share them"
            return Refused(machine, text, nodes=most)
        way = next(iter(_ways(preset, machine, runtime, nodes)))
    sequences = math.ceil(demand.sequences / (way.data * copies))
    return Sizing(
        machine,
        runtime,
        nodes,
        copies,
        way,
        dtype_on(preset, machine),
        demand.context or max_context(preset, machine, way, sequences),
        planned,
        ledger(preset, machine, way, planned, sequences),
        tuple(_notes(preset, machine)),
    )


def _too_few(preset: Preset, machine: Machine, need: int, nodes: int) -> Refused:
    text = f"{preset.name} needs {need} nodes of {_named(machine)}; {nodes} {'is' if nodes == 1 else 'are'} too few"
    return Refused(machine, text, nodes=need)


def _most_nodes(preset: Preset, machine: Machine, runtime: Runtime) -> int:
    """One for what cannot leave a node; else no more stages than layers."""
    if runtime != "vllm":
        return 1
    layers = preset.dimensions.layers if preset.dimensions is not None else MOST_STAGES
    return max(1, layers // (machine.gpus // tensor_ways(preset, machine.gpus)))


def _ways(preset: Preset, machine: Machine, runtime: Runtime, nodes: int) -> Iterator[Parallelism]:
    """How a copy may be cut over that many nodes, the best first."""
    if runtime != "vllm":
        yield Parallelism(1, machine.gpus, 1)  # accelerate puts whole layers on each GPU, one after the other
        return
    tensor = tensor_ways(preset, machine.gpus)
    rest = machine.gpus // tensor
    if nodes > 1:
        yield Parallelism(tensor, rest * nodes, 1)
        return
    if machine.gpus > 1 and (preset.weights_gib or 0) * COPIES_FROM < machine.memory_gib:
        yield Parallelism(1, 1, machine.gpus)
    yield Parallelism(tensor, 1, rest)
    if rest > 1:
        yield Parallelism(tensor, rest, 1)


def tensor_ways(preset: Preset, gpus: int) -> int:
    """The most GPUs of a node that may share a layer: they divide the heads evenly, and the key-value heads too or are
    divided by them. vLLM asserts both in every model (model_executor/models); MLA has no key-value heads to share."""
    dims = preset.dimensions
    if dims is None:
        return gpus
    for tensor in range(gpus, 1, -1):
        kv = dims.key_value_heads
        even = dims.latent is not None or kv % tensor == 0 or tensor % kv == 0
        if gpus % tensor == 0 and dims.attention_heads % tensor == 0 and even:
            return tensor
    return 1


def _by_stated_memory(preset: Preset, machine: Machine, demand: Demand) -> Sizing | Refused:
    """For models of which only the whole need of GPU memory is recorded."""
    need = preset.required_gpu_memory_gib
    if need == 0:
        return Refused(machine, f"{preset.name}: neither the size of its weights nor its need is recorded")
    by_memory = math.ceil(need / (machine.memory_gib * machine.gpus))
    nodes = max(by_memory, math.ceil(preset.gpus / machine.gpus))
    if nodes > 1 and not preset.multi_node:
        short = need / machine.gpus - machine.memory_gib
        have = f"{_named(machine)} has {machine.gpus * machine.memory_gib:g} GiB"
        if preset.gpus > machine.gpus:
            have += f" on {machine.gpus} GPUs, where {preset.gpus} are needed"
        text = f"{preset.name} needs {need:g} GiB of GPU memory; {have}"
        return Refused(machine, text, short if short > 0 else None)
    runtime = demand.runtime or first_runtime(preset, machine.compute_capability)
    refusal = _too_old(machine, runtime)
    if refusal is not None:
        return refusal
    if demand.nodes is not None and demand.nodes < nodes:
        return _too_few(preset, machine, nodes, demand.nodes)
    copies = (demand.nodes or 1) if nodes == 1 else 1
    stages = nodes if copies == 1 else 1
    return Sizing(
        machine,
        runtime,
        demand.nodes or nodes,
        copies,
        Parallelism(machine.gpus, stages, 1),
        dtype_on(preset, machine),
        demand.context or preset.context_tokens,
        notes=("only the whole need of GPU memory is recorded, not its parts",),
    )


def _notes(preset: Preset, machine: Machine) -> Iterator[str]:
    if preset.attention_layers is None and (preset.architecture or "").startswith(UNRECORDED_LAYERS):
        yield "every layer is counted as one that caches all tokens; it is not recorded which do not"
    if preset.mixture_of_experts:
        yield "all experts are in memory, whichever of them a token uses"
    if machine.bfloat16 is False and preset.dtype in ("auto", "bfloat16"):
        yield f"{machine.model} has no bfloat16: float16 is used"


def _named(machine: Machine) -> str:
    return machine.name or f"{machine.gpus} x {machine.model}"


def usable_gib(machine: Machine) -> float:
    """Memory of one GPU that the engine may take."""
    return machine.memory_gib * usable_share(machine)
