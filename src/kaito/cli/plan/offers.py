"""How a plan's model is served on the sizes that are tried, what that costs, and what other sizes would be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kaito.catalog import Catalog, Machine, Refused, Sizing, machine_of_sku
from kaito.catalog.memory import Ledger, Parallelism
from kaito.catalog.prices import Price, sold_first
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.decide.images import serving_image
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.problems import Size
from kaito.controllers.workspace.decide.resolved import Choice
from kaito.controllers.workspace.decide.serving import Serving
from kaito.controllers.workspace.decide.weights_source import Baked


@dataclass(frozen=True, slots=True)
class Serves:
    """One way to serve the model. size: "" for nodes that are there already. price: of all nodes; None: unknown.

    image: of its pods. ledger: of the fullest GPU; None where no GPU is needed, or too little is known. planned: tokens
    of each request that cache is counted for; sequences: those requests, of all copies together.
    """

    size: str
    nodes: int
    copies: int
    runtime: str
    dtype: str
    context: int | None
    parallelism: Parallelism
    image: str
    ledger: Ledger | None
    planned: int | None
    sequences: int
    price: Price | None


@dataclass(frozen=True, slots=True)
class Other:
    """A size that is not tried. nodes: that it would take, where that would do; price: of all of them."""

    size: str
    sentence: str
    nodes: int | None = None
    price: Price | None = None

    @property
    def fits(self) -> bool:
        return self.nodes is not None


def ways(plan: Plan, config: WorkspaceConfig) -> tuple[Serves, ...]:
    """How the model is served on each size, in the order that they are tried; none for a user's own pods."""
    if plan.serving is None:
        return ()
    pairs = list(zip(plan.sizes, plan.choices, strict=False))
    if not pairs and plan.choice is not None:
        return (_way(plan, plan.serving, plan.choice, None, config),)
    return tuple(_way(plan, plan.serving, choice, size, config) for size, choice in pairs)


def _machine(size: Size) -> Machine | None:
    """Its GPUs; None where none is known to serve."""
    return machine_of_sku(size.sku) if size.sku is not None and not size.sku.unusable else None


def _way(plan: Plan, serving: Serving, choice: Choice, size: Size | None, config: WorkspaceConfig) -> Serves:
    answer = serving.offer(size).answer if size is not None else None
    machine = _machine(size) if size is not None else plan.machine
    price = config.price(size.name) if size is not None else None
    image = serving_image(
        serving.preset,
        choice.runtime,
        size.sku if size is not None else machine,
        config,
        plan.preset_options,
        baked=isinstance(plan.weights, Baked),
    )
    return Serves(
        choice.instance_type,
        choice.nodes,
        choice.copies,
        choice.runtime,
        choice.dtype,
        choice.context,
        choice.parallelism,
        image,
        serving.ledger(choice, machine) if machine is not None else None,
        answer.planned if isinstance(answer, Sizing) else None,
        choice.sequences,
        price.times(choice.nodes) if price is not None else None,
    )


def others(
    serving: Serving, tried: Iterable[Size], catalog: Catalog, config: WorkspaceConfig
) -> tuple[Other, ...]:
    """What every other size of the cloud would be: those that hold the model, the cheapest first, and then the rest."""
    if serving.preset.gpus == 0:
        return ()
    tried = list(tried)
    names = {each.name.lower() for each in tried}
    first = _answer(serving, tried[0]) if tried else None
    sizings: list[Sizing] = []
    rest: list[Other] = []
    for sku in catalog.skus:
        if sku.cloud != config.cloud or sku.name.lower() in names:
            continue
        if sku.unusable:
            rest.append(Other(sku.name, sku.unusable))
        elif sku.retired is not None:
            rest.append(Other(sku.name, f"{sku.cloud.capitalize()} retired this size on {sku.retired}"))
        elif isinstance(found := _answer(serving, Size(sku.name, sku)), Sizing):
            sizings.append(found)
        elif isinstance(found, Refused):
            rest.append(Other(sku.name, found.sentence))
    reference = first if isinstance(first, Sizing) else None
    return (*_fitting(sizings, reference, config), *rest)


def _answer(serving: Serving, size: Size) -> Sizing | Refused | None:
    return serving.offer(size).answer


def _fitting(sizings: list[Sizing], first: Sizing | None, config: WorkspaceConfig) -> Iterator[Other]:
    ours = config.price(first.machine.name) if first is not None else None
    cost = ours.times(first.nodes) if ours is not None and first is not None else None
    for each, price in sold_first(sizings, config.price, config.is_absent):
        text = _compared(each, price, first, cost)
        if config.is_absent(each.machine.name):
            text += "; not in the region's price list"
        yield Other(each.machine.name, text, each.nodes, price)


def _compared(each: Sizing, price: Price | None, first: Sizing | None, cost: Price | None) -> str:
    """By money where that is known of both, else by GPU memory."""
    if price is not None and cost is not None and price.currency == cost.currency:
        more = price.per_hour - cost.per_hour
        return f"{_more(more, f'{abs(more):.2f} {price.currency} an hour')}"
    if first is None:
        return f"{each.total_gib:,.6g} GiB of GPU memory"
    more = each.total_gib - first.total_gib
    return _more(more, f"{abs(more):,.6g} GiB of GPU memory")


def _more(difference: float, amount: str) -> str:
    if difference == 0:
        return f"as much {'an hour' if amount.endswith('hour') else 'GPU memory'}"
    return f"{amount} {'more' if difference > 0 else 'less'}"
