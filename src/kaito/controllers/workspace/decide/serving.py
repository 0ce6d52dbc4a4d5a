"""How a Workspace's model is served on each machine size that may be tried: `kaito.catalog.sizing`, asked for a spec.

The only place where the controller, its webhook and `kaito plan` size anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kaito.catalog import Demand, GpuSku, Machine, Preset, Refused, Sizing, machine_of_sku, size
from kaito.catalog.memory import Ledger
from kaito.controllers.workspace.decide.resolved import Choice


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine size: what the model would be on it, or why not."""

    name: str
    sku: GpuSku | None
    """None: the catalogue does not know it."""
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
    """How a preset is served on the sizes of a plan, in their order, and why others are not among them."""

    preset: Preset
    offers: tuple[Offer, ...] = ()
    refused: tuple[Refused, ...] = ()
    why: str = ""
    """Why these sizes, where the user named none."""
    key: str = field(default="", compare=False)
    """What the choice is remembered for: see `resolved.key_of`."""

    def offer(self, name: str) -> Offer | None:
        """The size of that name, whatever its letter case."""
        return next((each for each in self.offers if each.name.lower() == name.lower()), None)


def offers(preset: Preset, sizes: Iterable[tuple[str, GpuSku | None]], demand: Demand) -> tuple[Offer, ...]:
    """The model on each of these sizes."""
    return tuple(
        Offer(name, sku, None if sku is None or sku.unusable else size(preset, machine_of_sku(sku), demand))
        for name, sku in sizes
    )


def choice_of(sizing: Sizing, why: str = "", sizes: tuple[str, ...] = ()) -> Choice:
    """What is remembered of a way to serve the model."""
    return Choice(
        sizing.machine.name,
        sizing.nodes,
        sizing.copies,
        sizing.runtime,
        sizing.parallelism,
        sizing.dtype,
        sizing.context,
        why,
        sizes,
    )


def arguments(choice: Choice, machine: Machine | None = None) -> list[str]:
    """The flags of `kaito-serve` that say so; what is a server's default anyway is left out."""
    found: list[str] = []
    if choice.dtype == "float16" and machine is not None and machine.bfloat16 is False:
        found.append("--dtype=float16")
    if choice.context is not None:
        found.append(f"--max-model-len={choice.context}")
    ways = choice.parallelism
    for name, value in (("tensor", ways.tensor), ("pipeline", ways.pipeline), ("data", ways.data)):
        if value > 1:
            found.append(f"--{name}-parallel-size={value}")
    return found
