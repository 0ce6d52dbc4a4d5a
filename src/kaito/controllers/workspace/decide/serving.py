"""How a Workspace's model is served on each machine size that may be tried: `kaito.catalog.sizing`, asked for a spec.

The only place where the controller, its webhook and `kaito plan` size anything. What a user's file says of parallelism,
numbers and context wins over what is found here, and `notes` tells what that means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from kaito.catalog import (
    Demand,
    Machine,
    Parallelism,
    Preset,
    Refused,
    Sizing,
    machine_of_sku,
    no_bfloat16,
    size,
)
from kaito.catalog.adapters import rows
from kaito.catalog.cuts import shares_evenly, tensor_ways
from kaito.catalog.lines import first_runtime
from kaito.catalog.memory import Ledger, ledger
from kaito.catalog.models import Runtime
from kaito.catalog.sizing import DEFAULT_CONTEXT, dtype_on
from kaito.controllers.workspace.decide.problems import Size
from kaito.controllers.workspace.decide.resolved import Choice
from kaito.controllers.workspace.decide.settings import NOTHING_SAID, Settings

FILLED_IN: Final = 1
"""The number of nodes that older versions of the API wrote where a user had written none."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a spec says of sizing."""

    count: int | None = None
    """resource.count."""
    runtime: Runtime | None = None
    bypass: bool = False
    """Whether what is too small is used all the same."""
    settings: Settings = NOTHING_SAID
    """What the user's file says to the runtime that is wanted, or else to the preset's first."""
    others: tuple[tuple[Runtime, Settings], ...] = ()
    """What it says to the preset's other runtimes, which GPUs may be served by that are too old for the first."""
    sequences: int = 1
    """Requests at once that each have the whole context."""
    ranks: tuple[int, ...] = ()
    """Of the adapters."""
    assumed: bool = False
    """Whether some of the ranks were not read yet: those refuse nothing."""

    def to(self, runtime: Runtime) -> Terms:
        """The terms for that runtime."""
        return replace(self, settings=dict(self.others).get(runtime, self.settings), others=())

    def on(self, preset: Preset, machine: Machine) -> Terms:
        """The terms on such machines."""
        return self.to(self.runtime or first_runtime(preset, machine.compute_capability))

    @property
    def demand(self) -> Demand:
        return Demand(
            context=self.settings.context,
            sequences=self.sequences,
            runtime=self.runtime,
            adapters=self.ranks,
        )


ANYTHING: Final = Terms()


@dataclass(frozen=True, slots=True)
class TooManyParts(Refused):
    """The user's file cuts the model into more parts than there are GPUs, or as it cannot be cut."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine size: what the model would be on it, or why not."""

    size: Size
    answer: Sizing | Refused | None
    """None for a size of which nothing is known, or whose accelerators are of no use."""

    @property
    def sizing(self) -> Sizing | None:
        return self.answer if isinstance(self.answer, Sizing) else None

    @property
    def ledger(self) -> Ledger | None:
        """Memory of the fullest GPU; None where it is not known."""
        return self.sizing.ledger if self.sizing is not None else None


@dataclass(frozen=True, slots=True)
class Serving:
    """A preset and what is wanted of it."""

    preset: Preset
    terms: Terms = ANYTHING
    key: str = ""
    """What a choice is remembered for: see `resolved.key_of`. Empty while it cannot be known."""
    stored: Choice | None = None
    """The choice that was made for this key."""
    former: Choice | None = None
    """The choice that was made for this spec when something else was beside it: see `resolved.with_settings`."""
    unwritten: tuple[str, int] | None = None
    """Machine size and nodes on which the model was served before choices were written down."""
    why: str = ""
    """Why these sizes are tried, where the user named none."""
    tried: tuple[str, ...] = field(default=())
    """Their names, where the user named none."""
    passed_over: tuple[str, ...] = ()
    """Of sizes that the user ranked: those that will not do, each with why."""

    def offer(self, each: Size) -> Offer:
        """The model on that size, whatever was chosen before."""
        if each.sku is None or each.sku.unusable:
            return Offer(each, None)
        return Offer(each, answer(self.preset, machine_of_sku(each.sku), self.terms))

    def choose(self, each: Size) -> Choice | Refused:
        """How the model is served on that size: as it was before, if it was."""
        if self.stored is not None and self.stored.instance_type.lower() == each.name.lower():
            return self._named(self.stored)
        if self.preset.gpus == 0 or each.sku is None or each.sku.unusable:
            return self._named(self._plain(each.name))
        machine = machine_of_sku(each.sku)
        if self.unwritten is not None and self.unwritten[0].lower() == each.name.lower():
            return self.kept(machine, self.unwritten[1])
        return self.on(machine)

    def on(self, machine: Machine) -> Choice | Refused:
        """How the model is served on such machines."""
        terms = self.terms.on(self.preset, machine)
        found = answer(self.preset, machine, terms)
        if isinstance(found, Sizing):
            choice = overridden(choice_of(found), terms.settings, machine)
            too_many = _too_many(choice, machine) or self._uneven(choice, machine)
            return too_many if too_many is not None and not terms.bypass else self._named(choice)
        if not terms.bypass:
            return found
        return self._named(overridden(_forced(self.preset, machine, terms), terms.settings, machine))

    def _uneven(self, choice: Choice, machine: Machine) -> TooManyParts | None:
        tensor, dims = choice.parallelism.tensor, self.preset.dimensions
        if choice.runtime != "vllm" or dims is None or shares_evenly(self.preset, tensor):
            return None
        return TooManyParts(
            machine,
            f"tensor-parallel-size {tensor} does not divide the {dims.attention_heads} attention heads of "
            f"{self.preset.name}, and their {dims.key_value_heads} keys and values, evenly",
        )

    def kept(self, machine: Machine, nodes: int) -> Choice:
        """What runs is not refused by a formula that came later, nor does it get other nodes."""
        terms = replace(self.terms.on(self.preset, machine), count=nodes)
        found = answer(self.preset, machine, terms)
        fits = isinstance(found, Sizing) and found.nodes == nodes
        choice = (
            choice_of(found) if isinstance(found, Sizing) and fits else _forced(self.preset, machine, terms)
        )
        return self._named(overridden(choice, terms.settings, machine))

    def unsized(self) -> Choice:
        """How the model is served on machines of which nothing is known."""
        return self._named(self._plain(""))

    def ledger(self, choice: Choice, machine: Machine) -> Ledger | None:
        """Memory of the fullest GPU with that choice, for the requests and the context that it was made for; None where
        too little is recorded."""
        if self.preset.gpus == 0:
            return None
        sequences = math.ceil(choice.sequences / (choice.parallelism.data * choice.copies))
        planned = self.planned(choice)
        try:
            taken = rows(choice.runtime, choice.ranks)
            return ledger(self.preset, machine, choice.parallelism, planned, sequences, taken)
        except ValueError:
            return None

    def planned(self, choice: Choice) -> int:
        """Tokens of each request that cache is counted for."""
        limit = min(self.preset.context_tokens or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
        return choice.planned or min(choice.context or limit, limit)

    def notes(self, choice: Choice, machine: Machine | None) -> tuple[str, ...]:
        """What the user should know of the choice, as sentences without a full stop."""
        return tuple(self._notes(choice, machine))

    def _named(self, choice: Choice) -> Choice:
        """The choice with what it is made for."""
        terms = self.terms.to(choice.runtime)
        return replace(
            choice,
            why=self.why,
            sizes=self.tried,
            planned=terms.settings.context,
            sequences=terms.sequences,
            ranks=terms.ranks,
        )

    def _plain(self, name: str) -> Choice:
        """Nothing is known of the GPUs, or none is needed: every node serves the whole model."""
        nodes = self.terms.count or 1
        found = Choice(
            name,
            nodes,
            nodes,
            self.terms.runtime or self.preset.runtime,
            Parallelism(),
            self.preset.dtype,
            self.terms.settings.context,
        )
        return overridden(found, self.terms.settings, None)

    def _notes(self, choice: Choice, machine: Machine | None) -> Iterator[str]:
        name, terms = self.preset.name, self.terms.to(choice.runtime)
        if self.why:
            yield self.why
        yield from self.passed_over
        if terms.count == FILLED_IN < choice.nodes:
            yield (
                f"resource.count is 1, as older versions of the API filled in where nothing was written: {name} needs "
                f"{choice.nodes} nodes of {choice.instance_type or 'these'} and gets them"
            )
        if machine is None or self.preset.gpus == 0:
            return
        if terms.count is None and terms.sequences > 1 and choice.nodes > 1:
            yield (
                f"{choice.nodes} nodes are there so that {terms.sequences:,} requests have "
                f"{self.planned(choice):,} tokens of context at once"
            )
        planned = answer(self.preset, machine, terms)
        if isinstance(planned, Refused):
            yield f"the checks of resources are bypassed: {planned.sentence}"
            return
        yield from _overrides(choice, planned, terms.settings, machine)
        missing = self.ledger(choice, machine)
        if missing is not None and missing.free < 0:
            yield f"so cut, {-missing.free:.1f} GiB are missing on each GPU: the server may not start"


def answer(preset: Preset, machine: Machine, terms: Terms) -> Sizing | Refused:
    """The nodes that are needed, or as many as are asked for. A count of 1 below the need counts as not written. Where
    adapters whose ranks are only assumed leave no room: without them."""
    found = _answer(preset, machine, terms)
    if isinstance(found, Refused) and terms.assumed:
        return _answer(preset, machine, replace(terms, ranks=()))
    return found


def _answer(preset: Preset, machine: Machine, terms: Terms) -> Sizing | Refused:
    terms = terms.on(preset, machine)
    found = size(preset, machine, terms.demand)
    if isinstance(found, Refused) or terms.count in (None, FILLED_IN, found.nodes):
        return found
    return size(preset, machine, replace(terms.demand, nodes=terms.count))


def choice_of(sizing: Sizing) -> Choice:
    """What is remembered of a way to serve the model."""
    return Choice(
        sizing.machine.name,
        sizing.nodes,
        sizing.copies,
        sizing.runtime,
        sizing.parallelism,
        sizing.dtype,
        sizing.context,
    )


def overridden(choice: Choice, settings: Settings, machine: Machine | None) -> Choice:
    """The choice with what the user's file says. Numbers that a GPU cannot compute with stay what was chosen."""
    ways = _cut(choice, settings, machine) if choice.runtime == "vllm" else choice.parallelism
    dtype = settings.dtype or choice.dtype
    if dtype == "bfloat16" and machine is not None and machine.bfloat16 is False:
        dtype = choice.dtype
    return replace(choice, parallelism=ways, dtype=dtype, context=settings.context or choice.context)


def _cut(choice: Choice, settings: Settings, machine: Machine | None) -> Parallelism:
    """The parts that the user's file names, and of the plan's others as many as there are GPUs for beside them."""
    plan = choice.parallelism
    if (settings.tensor, settings.pipeline, settings.data) == (None, None, None):
        return plan
    written = (settings.tensor or 1) * (settings.pipeline or 1) * (settings.data or 1)
    left = max(1, _gpus(choice, machine) // written) if machine is not None else plan.gpus
    tensor = settings.tensor or next(
        each for each in range(plan.tensor, 0, -1) if each <= left and plan.tensor % each == 0
    )
    left //= 1 if settings.tensor else tensor
    pipeline = settings.pipeline or min(plan.pipeline, left)
    left //= 1 if settings.pipeline else pipeline
    return Parallelism(tensor, pipeline, settings.data or min(plan.data, left))


def _too_many(choice: Choice, machine: Machine) -> TooManyParts | None:
    ways, there = choice.parallelism, _gpus(choice, machine)
    if choice.runtime != "vllm" or ways.gpus <= there:
        return None
    parts = [
        f"{each}-parallel-size {getattr(ways, each)}"
        for each in ("tensor", "pipeline", "data")
        if getattr(ways, each) > 1
    ]
    where = (
        f"{choice.nodes} x {choice.instance_type}"
        if choice.distributed
        else choice.instance_type or machine.model
    )
    has = "have" if choice.distributed else "has"
    return TooManyParts(
        machine,
        f"{', '.join(parts)} {'need' if len(parts) > 1 else 'needs'} {ways.gpus} GPUs, and {where} {has} {there}",
    )


def _gpus(choice: Choice, machine: Machine) -> int:
    """Those that one copy's nodes have."""
    return machine.gpus * (choice.nodes if choice.distributed else 1)


def _overrides(choice: Choice, planned: Sizing, settings: Settings, machine: Machine) -> Iterator[str]:
    """What the user's file changes."""
    before, after = planned.parallelism, choice.parallelism
    for kind in ("tensor", "pipeline", "data"):
        was, now = getattr(before, kind), getattr(after, kind)
        if getattr(settings, kind) is not None and was != now:
            yield f"inference.config has {kind}-parallel-size {now}, where {was} was planned"
    there = _gpus(choice, machine)
    if after != before and after.gpus < there:
        yield f"{after.gpus} of {there} GPUs are used"
    elif after.gpus > there:
        yield f"{after.gpus} GPUs are needed for that, and there are {there}: the server cannot start"
    if settings.dtype == "bfloat16" and machine.bfloat16 is False:
        yield f"inference.config asks for bfloat16; {no_bfloat16(machine)}"


def _forced(preset: Preset, machine: Machine, terms: Terms) -> Choice:
    """The nodes that were asked for, though they are too small as far as is known."""
    nodes = terms.count or 1
    together = preset.multi_node and nodes > 1
    return Choice(
        machine.name,
        nodes,
        1 if together else nodes,
        terms.runtime or first_runtime(preset, machine.compute_capability),
        Parallelism(tensor_ways(preset, machine.gpus), nodes if together else 1, 1),
        dtype_on(preset, machine),
        terms.settings.context,
    )


def arguments(choice: Choice, preset: Preset) -> list[str]:
    """The flags of `kaito-serve` that say so; what the model or a server does anyway is left out."""
    found: list[str] = []
    if choice.dtype != preset.dtype:
        found.append(f"--dtype={choice.dtype}")
    if choice.context is not None and choice.context != preset.context_tokens:
        found.append(f"--max-model-len={choice.context}")
    if choice.runtime != "vllm":
        return found  # the other runtimes find their GPUs by themselves
    ways = choice.parallelism
    for name, value in (("tensor", ways.tensor), ("pipeline", ways.pipeline), ("data", ways.data)):
        if value > 1:
            found.append(f"--{name}-parallel-size={value}")
    return found
