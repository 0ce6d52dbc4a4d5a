"""How many nodes of a size a model needs, how it is cut over their GPUs, and how long its context may be.

`size(preset, machine, demand)` answers with a `Sizing`, or with `Refused` and a sentence. Pure: the same facts always
give the same answer; nothing here knows of clusters, prices or what users wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from kaito.catalog.adapters import rows
from kaito.catalog.cuts import most_nodes, ways
from kaito.catalog.gpus import Machine, machine_of_sku
from kaito.catalog.kernels import without_kernels
from kaito.catalog.lines import first_runtime, least_capability, line_for
from kaito.catalog.memory import BLOCK_TOKENS, Ledger, Parallelism, ledger, usable_share
from kaito.catalog.models import Dtype, GpuSku, Preset, Runtime

DEFAULT_CONTEXT: Final = 8192
"""Tokens that nodes are counted for where the user names no context: a page or ten with a question about them. The Go
KAITO counts for 2,048 and lets the engine shrink the context to what happens to fit."""
SPREAD_SAVES: Final = 2
"""A model that one node holds is spread over nodes, for requests at once, only where copies of it take more than this
many times the nodes: parts that talk over a network answer more slowly, and one node that is lost stops them all."""
UNRECORDED_LAYERS: Final = ("NemotronH", "Gemma4", "DeepseekV4", "DeepseekV32")
"""Architectures (as names begin) whose layers differ in what they cache, which the catalogue does not know."""
SPOKEN: Final = {"vllm": "vLLM"}
"""Runtimes whose name is written in another way."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is wanted of a model. context None: as long as fits, and at least DEFAULT_CONTEXT or the model's own limit.

    sequences: answered at the same time, each with the whole context. runtime None: the first of the preset's that can.
    nodes: take that many, instead of the fewest that do. adapters: ranks of the LoRA adapters that are mounted.
    """

    context: int | None = None
    sequences: int = 1
    runtime: Runtime | None = None
    nodes: int | None = None
    adapters: tuple[int, ...] = ()


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


def max_context(
    preset: Preset, machine: Machine, parallelism: Parallelism, sequences: int = 1, rows: int = 0
) -> int:
    """Tokens for which `sequences` of one copy have cache, up to the model's own limit; 0 where not even weights and
    adapters (`adapters.rows`) fit. The model's limit, or else a multiple of BLOCK_TOKENS."""
    limit = preset.context_tokens or DEFAULT_CONTEXT

    def fits(tokens: int) -> bool:
        return ledger(preset, machine, parallelism, tokens, sequences, rows).free >= 0

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
    return None


def _too_old(preset: Preset, machine: Machine, runtime: Runtime) -> Refused | None:
    """That no image of the runtime has code for the GPUs, or none for this model."""
    sentence = without_kernels(preset, machine, runtime)
    if sentence:
        return Refused(machine, sentence)
    capability = machine.compute_capability
    if capability is None or line_for(runtime, capability) is not None:
        return None
    least, name = least_capability(runtime), SPOKEN.get(runtime, runtime)
    return Refused(
        machine, f"{name} needs GPUs of compute capability {least:g}; {machine.model} has {capability:g}"
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """One question: a model by one runtime on one kind of machine, with cache for so many tokens of each sequence."""

    preset: Preset
    machine: Machine
    demand: Demand
    runtime: Runtime
    planned: int
    rows: int
    """Of adapters."""

    def ledger(self, way: Parallelism, sequences: int) -> Ledger:
        return ledger(self.preset, self.machine, way, self.planned, sequences, self.rows)

    def sequences(self, way: Parallelism, copies: int = 1) -> int:
        """Those of the fullest copy."""
        return math.ceil(self.demand.sequences / (way.data * copies))

    def most_sequences(self, way: Parallelism) -> int:
        """Those that one copy has cache for; 0 where not even the first fits."""
        one = self.ledger(way, 1)
        found = math.floor(one.free / one.kv_cache) + 1 if one.free >= 0 else 0
        return (
            found - 1 if found > 1 and self.ledger(way, found).free < 0 else found
        )  # as numbers are rounded


def _by_ledger(preset: Preset, machine: Machine, demand: Demand, runtime: Runtime) -> Sizing | Refused:
    refusal = _too_old(preset, machine, runtime)
    if refusal is not None:
        return refusal
    try:
        taken = rows(runtime, demand.adapters)
    except ValueError as error:
        return Refused(machine, str(error))
    planned = demand.context or min(preset.context_tokens or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    case = _Case(preset, machine, demand, runtime, planned, taken)
    copies = _fewest_copies(case)
    if copies is not None and copies[0] == 1:
        return _settled(case, *copies, copied=True)
    spread, missing = _fewest_stages(case)
    if copies is not None and (
        spread is None or copies[0] <= SPREAD_SAVES * spread[0] or not preset.multi_node
    ):
        return _settled(case, *copies, copied=True)
    return _settled(case, *spread) if spread is not None else _missing(case, missing)


def _fewest_copies(case: _Case) -> tuple[int, Parallelism] | None:
    """Nodes that each serve the whole model and share the sequences, and how one of them is cut; None where no node
    holds the model and a sequence."""
    found = [
        (math.ceil(case.demand.sequences / (most * way.data)), way)
        for way in ways(case.preset, case.machine, case.runtime, 1)
        if (most := case.most_sequences(way)) > 0
    ]
    return min(found, key=lambda pair: pair[0], default=None)


def _fewest_stages(case: _Case) -> tuple[tuple[int, Parallelism] | None, float]:
    """Nodes that serve one copy of the model together, and how it is cut; else None, and what one GPU lacks, in GiB."""
    missing = math.inf
    for nodes in range(1, most_nodes(case.preset, case.machine, case.runtime) + 1):
        for way in ways(case.preset, case.machine, case.runtime, nodes):
            found = case.ledger(way, case.sequences(way))
            if found.free >= 0:
                return (nodes, way), 0.0
            missing = min(missing, -found.free)
    return None, missing


def _missing(case: _Case, missing: float) -> Refused:
    have, demand = usable_gib(case.machine), case.demand
    at_once = f" for {demand.sequences:,} requests at once" if demand.sequences > 1 else ""
    beside = f" and adapters of rank {sum(demand.adapters):,} together" if demand.adapters else ""
    return Refused(
        case.machine,
        f"{case.preset.name} with a context of {case.planned:,} tokens{at_once}{beside} needs {have + missing:.1f} GiB "
        f"on each GPU; of {case.machine.model} {have:.1f} GiB can be used, so {max(missing, 0.1):.1f} GiB are missing",
        missing,
    )


def _settled(case: _Case, need: int, way: Parallelism, *, copied: bool = False) -> Sizing | Refused:
    """The nodes that are needed, or those that were asked for. copied: each of them serves the whole model."""
    preset, machine, demand = case.preset, case.machine, case.demand
    if not copied and not preset.multi_node:
        text = f"{preset.name} would need {need} nodes of {_named(machine)}, and cannot be spread over nodes"
        return Refused(machine, text, nodes=need)
    nodes = demand.nodes or need
    if nodes < need:
        return _too_few(preset, machine, need, nodes)
    if nodes > need and not copied:
        most = most_nodes(preset, machine, case.runtime)
        if nodes > most:
            text = f"{preset.name} has too few layers for {nodes} nodes of {_named(machine)}; {most} can share them"
            return Refused(machine, text, nodes=most)
        way = next(iter(ways(preset, machine, case.runtime, nodes)))
    copies = nodes if copied else 1
    sequences = case.sequences(way, copies)
    return Sizing(
        machine,
        case.runtime,
        nodes,
        copies,
        way,
        dtype_on(preset, machine),
        demand.context or max_context(preset, machine, way, sequences, case.rows),
        case.planned,
        case.ledger(way, sequences),
        tuple(_notes(preset, machine)),
    )


def _too_few(preset: Preset, machine: Machine, need: int, nodes: int) -> Refused:
    text = f"{preset.name} needs {need} nodes of {_named(machine)}; {nodes} {'is' if nodes == 1 else 'are'} too few"
    return Refused(machine, text, nodes=need)


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
    refusal = _too_old(preset, machine, runtime)
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
