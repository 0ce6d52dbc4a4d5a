"""Which machine sizes are tried for a Workspace, in which order, and how the model is served on each of them.

The user writes one size, several, or none. What is written is tried in its order, and what is too small is left out or,
where nothing else is there, refused with what is missing. Where none is written the plan takes the cheapest that holds
the model, by prices where they are known and by GPU memory where not, and goes on to others only when the cloud has
none of it, and to none that costs more than MOST_EXPENSIVE times as much. A model is spread over nodes only where no
node holds it: parts that talk over a network answer more slowly, and one node that is lost stops them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from kaito.api.labels import BYPASS_RESOURCE_CHECKS_ANNOTATION, RUNTIME_ANNOTATION
from kaito.catalog import Catalog, Demand, GpuSku, Preset, Refused, Sizing, machine_of_sku, size
from kaito.catalog.prices import Price, cheapest_first, comparable
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.asked import (
    NO_ADAPTERS,
    Settings,
    bypasses,
    not_at_once,
    serving_of,
)
from kaito.controllers.workspace.decide.problems import Problem, Size
from kaito.controllers.workspace.decide.resolved import Choice
from kaito.controllers.workspace.decide.serving import (
    ANYTHING,
    Serving,
    Terms,
    TooManyParts,
    answer,
    choice_of,
)
from kaito.controllers.workspace.model import Object

MOST_EXPENSIVE: Final = 2.0
"""A size that the plan goes on to may cost this many times the first, in money or in GPU memory."""
ALTERNATIVES: Final = 3
"""Sizes that the plan tries where the user names none."""
SHOWN: Final = 3
"""Sizes that a message names."""
WITHOUT_GPU: Final = "Standard_D8s_v5"
"""A size without GPUs, where one has to be named."""


@dataclass(frozen=True, slots=True)
class Sized:
    """The sizes that are tried, and how the preset is served on each; `serving` is None for a user's own pods."""

    sizes: tuple[Size, ...] = ()
    choices: tuple[Choice, ...] = ()
    serving: Serving | None = None


def read_sizes(
    workspace: Object,
    preset: Preset | None,
    catalog: Catalog,
    config: WorkspaceConfig,
    settings: Settings | None,
    adapters: Mapping[str, Object] = NO_ADAPTERS,
) -> Sized | Problem:
    """What is tried, or why nothing can be. `settings` None: nothing is known of the ConfigMap. `adapters`: the
    Adapters that the Workspace may use, by name."""
    if (wrong := not_at_once(workspace)) is not None:
        return wrong
    serving = serving_of(workspace, preset, settings, adapters) if preset is not None else None
    if serving is not None and (wrong := _no_runtime(serving) or _too_long(serving)) is not None:
        return wrong
    if config.node_provisioner is NodeProvisioner.BYO:
        return Sized(serving=serving)
    resource = workspace.get("resource") or {}
    several = bool(resource.get("instanceTypes"))
    names = resource.get("instanceTypes") or [resource.get("instanceType") or ""]
    if not any(names):
        return _chosen(serving, catalog, config)
    found: list[tuple[Size, Choice | None]] = []
    refused: list[tuple[Size, Refused]] = []
    for index, name in enumerate(names):
        path = f"resource.instanceTypes[{index}]" if several else "resource.instanceType"
        each = _named(name, path, serving, catalog, config, bypass=bypasses(workspace))
        if isinstance(each, Problem):
            return each
        choice = serving.choose(each) if serving is not None else None
        if isinstance(choice, Refused):
            refused.append((each, choice))
        else:
            found.append((each, choice))
    if not found:
        assert serving is not None  # only a preset can make a size too small
        return _refused(serving, refused, catalog, config, several=several)
    if serving is not None and refused:
        over = tuple(f"{each.name} is passed over: {why.sentence}" for each, why in refused)
        serving = replace(serving, passed_over=over)
    choices = tuple(choice for _, choice in found if choice is not None)
    return Sized(tuple(each for each, _ in found), choices, serving)


def fitting_sizes(
    preset: Preset, catalog: Catalog, config: WorkspaceConfig, demand: Demand | None = None
) -> str:
    """The cheapest sizes on offer that hold the preset, and their prices if they are known, as a list in words."""
    ranked = _ranked(preset, catalog, config, ANYTHING, demand)[:SHOWN]
    return ", ".join(_counted(each, cost) for each, cost in ranked) or "none in the catalogue"


def _counted(sizing: Sizing, cost: Price | None) -> str:
    name = sizing.machine.name if sizing.nodes == 1 else f"{sizing.nodes} x {sizing.machine.name}"
    return name if cost is None else f"{name} ({cost.per_hour:.2f} {cost.currency} an hour)"


def _no_runtime(serving: Serving) -> Problem | None:
    wanted, preset = serving.terms.runtime, serving.preset
    if wanted is None or wanted in preset.runtimes:
        return None
    text = (
        f"{preset.name} is served by {' or '.join(preset.runtimes)}, not {wanted}; leave the annotation out"
    )
    return Problem.at(f"metadata.annotations[{RUNTIME_ANNOTATION}]", "InvalidSpec", text)


def _too_long(serving: Serving) -> Problem | None:
    wanted, limit = serving.terms.settings.context, serving.preset.context_tokens
    if wanted is None or limit is None or wanted <= limit:
        return None
    name = serving.preset.name
    text = f"asks for a context of {wanted:,} tokens, and {name} has at most {limit:,}; write max-model-len: {limit}"
    return Problem.at("inference.config", "InvalidSpec", text)


# --- a size that the user wrote ---------------------------------------------------------------------------------


def _named(
    name: str, path: str, serving: Serving | None, catalog: Catalog, config: WorkspaceConfig, *, bypass: bool
) -> Size | Problem:
    preset = serving.preset if serving is not None else None
    if not name:
        return _no_size(path, preset, catalog, config)
    sku = catalog.sku(name)
    if sku is not None and sku.cloud != config.cloud and not bypass:
        return Problem.at(path, "UnknownInstanceType", _of_another_cloud(sku, catalog, config))
    if sku is not None and sku.unusable and not bypass and preset is not None and preset.gpus > 0:
        return Problem.at(path, "UnsupportedInstanceType", _unusable(sku, preset, catalog, config))
    if sku is None and not bypass and not _plain_machine(name, preset, config):
        return Problem.at(path, "UnknownInstanceType", _unknown_size(name, preset, catalog, config))
    return Size(sku.name if sku is not None else name, sku)


def _refused(
    serving: Serving,
    refused: list[tuple[Size, Refused]],
    catalog: Catalog,
    config: WorkspaceConfig,
    *,
    several: bool,
) -> Problem:
    """No path in the condition's message: it speaks of preset, size and count together."""
    count = serving.terms.count
    short = next((each for _, each in refused if each.nodes is not None and count is not None), None)
    if short is not None and serving.preset.multi_node:
        most = ", or leave count out" if (count or 0) < (short.nodes or 0) else ""
        text = f"{'; '.join(each.sentence for _, each in refused)}; write {short.nodes}{most}"
        bypass = f"; the annotation {BYPASS_RESOURCE_CHECKS_ANNOTATION} lets any count pass"
        return Problem("InsufficientGpuMemory", text + bypass, "resource.count")
    if all(isinstance(why, TooManyParts) for _, why in refused):
        text = "; ".join(why.sentence for _, why in refused)
        return Problem.at(
            "inference.config", "InvalidSpec", f"{text}; write smaller numbers, or leave them out"
        )
    text = "; ".join(f"{each.name}: {why.sentence}" for each, why in refused)
    text += f"; sizes that fit: {fitting_sizes(serving.preset, catalog, config, serving.terms.demand)}"
    path = "resource.instanceTypes" if several else "resource.instanceType"
    return Problem("InsufficientGpuMemory", text, path)


def _plain_machine(name: str, preset: Preset | None, config: WorkspaceConfig) -> bool:
    """Whether a size that is in no GPU table may be one without GPUs, where none is needed."""
    if preset is not None and preset.gpus > 0:
        return False
    return config.cloud != "azure" or name.lower().startswith("standard_d")


def _no_size(path: str, preset: Preset | None, catalog: Catalog, config: WorkspaceConfig) -> Problem:
    fitting = f"; sizes that fit: {fitting_sizes(preset, catalog, config)}" if preset is not None else ""
    if preset is not None and preset.gpus == 0:
        example = f", such as {WITHOUT_GPU}" if config.cloud == "azure" else ""
        fitting = f"; {preset.name} needs no GPU: one without will do{example}"
    return Problem.at(path, "InstanceTypeMissing", f"write the machine size to use{fitting}")


def _of_another_cloud(sku: GpuSku, catalog: Catalog, config: WorkspaceConfig) -> str:
    nearest = ", ".join(catalog.nearest_skus(sku.name, cloud=config.cloud))
    return f"{sku.name} is a size of {sku.cloud}, and this operator's are those of {config.cloud}; nearest: {nearest}"


def _unusable(sku: GpuSku, preset: Preset, catalog: Catalog, config: WorkspaceConfig) -> str:
    return (
        f"{sku.name} cannot serve {preset.name}: {sku.unusable}; sizes that fit: "
        f"{fitting_sizes(preset, catalog, config)}"
    )


def _unknown_size(name: str, preset: Preset | None, catalog: Catalog, config: WorkspaceConfig) -> str:
    text = f"{name} is not known; nearest: {', '.join(catalog.nearest_skus(name, cloud=config.cloud))}"
    if preset is not None and preset.gpus > 0:
        text += f"; sizes that fit {preset.name}: {fitting_sizes(preset, catalog, config)}"
    return f"{text}; the annotation {BYPASS_RESOURCE_CHECKS_ANNOTATION} lets any name pass"


# --- no size written --------------------------------------------------------------------------------------------


def _chosen(serving: Serving | None, catalog: Catalog, config: WorkspaceConfig) -> Sized | Problem:
    """The cheapest sizes that hold the preset, or those that were chosen before."""
    path = "resource.instanceType"
    if serving is not None and serving.preset.gpus == 0 and config.machine is not None:
        return _with_choices([Size(WITHOUT_GPU, None)], serving)  # all sizes are the one machine
    if serving is None or serving.preset.gpus == 0:
        return _no_size(path, serving.preset if serving is not None else None, catalog, config)
    chosen = serving.stored or serving.former
    if chosen is not None and chosen.sizes:
        return _as_before(serving, chosen, catalog, config)
    ranked = _ranked(serving.preset, catalog, config, serving.terms)
    if not ranked:
        return _nothing_fits(serving, catalog, config)
    by_money = comparable(cost for _, cost in ranked)
    ranked = [pair for pair in ranked if not choice_of(pair[0]).distributed] or ranked
    ranked = [pair for pair in ranked if _holds(serving, pair[0])] or ranked
    cheapest, price = ranked[0]
    near = [each for each, cost in ranked[:ALTERNATIVES] if _near(each, cost, cheapest, price)]
    names = tuple(each.machine.name for each in near)
    what = f"{cheapest.nodes} x {cheapest.machine.name}"
    if by_money and price is not None:
        by = f"costs least: {price.per_hour:.2f} {price.currency} an hour ({price.dated})"
    else:
        by = f"has the least GPU memory, {cheapest.total_gib:g} GiB; {_unpriced(ranked)}"
    why = f"no machine size was written: of {len(ranked)} that hold {serving.preset.name}, {what} {by}"
    serving = replace(serving, why=why, tried=names)
    sizes = [Size(name, catalog.sku(name)) for name in names]
    found = _with_choices(sizes, serving)
    if found.sizes:
        return found
    refused = [(each, no) for each in sizes if isinstance(no := serving.choose(each), Refused)]
    return _refused(serving, refused, catalog, config, several=False)


def _unpriced(ranked: list[tuple[Sizing, Price | None]]) -> str:
    """Why sizes are not told apart by money."""
    known = sum(cost is not None for _, cost in ranked)
    return f"prices are known of {known} only, or not in one currency" if known else "prices are not known"


def _as_before(
    serving: Serving, chosen: Choice, catalog: Catalog, config: WorkspaceConfig
) -> Sized | Problem:
    """The sizes that were chosen once: what a ConfigMap says since then buys no other machine."""
    serving = replace(serving, why=chosen.why, tried=chosen.sizes)
    in_use = Size(chosen.instance_type, catalog.sku(chosen.instance_type))
    if in_use.sku is None:
        text = _unknown_size(in_use.name, serving.preset, catalog, config)
        return Problem.at("resource.instanceType", "UnknownInstanceType", text)
    found = serving.choose(in_use)
    if isinstance(found, Refused):
        return _refused(serving, [(in_use, found)], catalog, config, several=False)
    known = [Size(name, sku) for name in chosen.sizes if (sku := catalog.sku(name)) is not None]
    return _with_choices(known, serving)


def _holds(serving: Serving, each: Sizing) -> bool:
    """Whether the model has room as the user's file has it cut."""
    choice = serving.on(each.machine)
    if not isinstance(choice, Choice):
        return False
    ledger = serving.ledger(choice, each.machine)
    return ledger is None or ledger.free >= 0


def _with_choices(sizes: list[Size], serving: Serving) -> Sized:
    found = [(each, choice) for each in sizes if isinstance(choice := serving.choose(each), Choice)]
    return Sized(tuple(each for each, _ in found), tuple(choice for _, choice in found), serving)


def _near(each: Sizing, cost: Price | None, first: Sizing, price: Price | None) -> bool:
    if cost is not None and price is not None and cost.currency == price.currency:
        return cost.per_hour <= MOST_EXPENSIVE * price.per_hour
    return each.total_gib <= MOST_EXPENSIVE * first.total_gib


def _ranked(
    preset: Preset, catalog: Catalog, config: WorkspaceConfig, terms: Terms, demand: Demand | None = None
) -> list[tuple[Sizing, Price | None]]:
    """Every size on offer that holds the preset, the cheapest first; without those that the cloud does not sell there,
    unless there are no others."""
    answers = (
        answer(preset, machine_of_sku(sku), terms)
        if demand is None
        else size(preset, machine_of_sku(sku), demand)
        for sku in _on_offer(catalog, config)
    )
    found = [each for each in answers if isinstance(each, Sizing)]
    sold = [each for each in found if not config.is_absent(each.machine.name)]
    return cheapest_first(sold or found, config.price)


def _on_offer(catalog: Catalog, config: WorkspaceConfig) -> Iterable[GpuSku]:
    return (
        sku for sku in catalog.skus if sku.cloud == config.cloud and not sku.unusable and sku.retired is None
    )


def _nothing_fits(serving: Serving, catalog: Catalog, config: WorkspaceConfig) -> Problem:
    refused = [
        found
        for sku in _on_offer(catalog, config)
        if isinstance(found := answer(serving.preset, machine_of_sku(sku), serving.terms), Refused)
    ]
    path = "resource.instanceType"
    if not refused:
        return _no_size(path, serving.preset, catalog, config)
    closest = min(refused, key=lambda each: (each.short_gib is None, each.short_gib or 0.0))
    text = f"no size of {config.cloud} holds {serving.preset.name}; nearest is {closest.machine.name}: "
    return Problem("InsufficientGpuMemory", f"{path}: {text}{closest.sentence}", path)
