"""`kaito models sizes`: what a model takes of each machine size, GPU by GPU, and why others will not do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from kaito.catalog import Catalog, Cloud, Demand, Preset, Refused, Sizing, choices
from kaito.catalog.prices import Price, PricesError, sold_first
from kaito.cli.catalogs import known, read_catalog
from kaito.cli.errors import CliError
from kaito.cli.models.command import WIDTH
from kaito.cli.prices.file import price_json, read
from kaito.controllers.workspace import parse_cloud

RUNTIMES: Final = ("transformers", "vllm", "mistralrs")
FIGURES: Final = ("reserved", "weights", "kv_cache", "activations", "runtime", "free", "capacity")


@dataclass(frozen=True, slots=True)
class SizesFlags:
    """The flags of `kaito models sizes`, as given."""

    model: str
    cloud: str
    context: int | None
    sequences: int
    runtime: str | None
    json: bool
    prices: Path | None = None
    location: str | None = None
    catalogs: Sequence[Path] | None = None


def run_sizes(flags: SizesFlags) -> None:
    """Prints the sizes. Raises CliError for an unknown model or runtime, typer.Exit(1) where no size will do."""
    catalog = read_catalog(flags.catalogs)
    preset = asyncio.run(known(flags.model, catalog))
    try:
        cloud = parse_cloud(flags.cloud)
    except ValueError as error:
        raise CliError(str(error)) from None
    try:
        prices = read(flags.prices)
    except PricesError as error:
        raise CliError(str(error)) from None
    sizings, refused = sizes_of(preset, catalog, cloud, _demand(flags))
    price = prices.at(cloud, flags.location)
    found = sold_first(sizings, price, lambda size: prices.is_absent(size, cloud, flags.location))
    if flags.json:
        text = orjson.dumps(as_json(preset, found, refused), option=orjson.OPT_INDENT_2)
        typer.echo(text.decode())
    else:
        console = Console()
        show(found, refused, flags.sequences, console if console.is_terminal else Console(width=WIDTH))
    if not found:
        raise typer.Exit(1)


def sizes_of(
    preset: Preset, catalog: Catalog, cloud: Cloud, demand: Demand
) -> tuple[list[Sizing], list[Refused]]:
    """Sizes of one cloud that serve the preset, and those that will not do."""
    return choices(preset, (sku for sku in catalog.skus if sku.cloud == cloud), demand)


def _demand(flags: SizesFlags) -> Demand:
    for each in RUNTIMES:
        if flags.runtime == each:
            return Demand(flags.context, flags.sequences, each)
    if flags.runtime is not None:
        raise CliError(f"--runtime {flags.runtime}: write {', '.join(RUNTIMES)}")
    return Demand(flags.context, flags.sequences)


Found = list[tuple[Sizing, Price | None]]
"""Sizes that will do with the price of all their nodes, the cheapest first."""


def as_json(preset: Preset, found: Found, refused: list[Refused]) -> dict[str, Any]:
    """Memory is in GiB of one GPU, the fullest."""
    return {
        "model": preset.name,
        "sizes": [{**_sizing(each), "price": price_json(price)} for each, price in found],
        "refused": [
            {
                "name": each.machine.name,
                "message": each.sentence,
                "nodes": each.nodes,
                "shortGiB": each.short_gib,
            }
            for each in refused
        ],
    }


def _sizing(each: Sizing) -> dict[str, Any]:
    way = each.parallelism
    memory = None
    if each.ledger is not None:
        memory = {name: round(getattr(each.ledger, name), 3) for name in FIGURES}
    return {
        "name": each.machine.name,
        "gpus": each.machine.gpus,
        "gpuModel": each.machine.model,
        "nodes": each.nodes,
        "copies": each.copies,
        "runtime": each.runtime,
        "dtype": each.dtype,
        "tensorParallel": way.tensor,
        "pipelineParallel": way.pipeline,
        "dataParallel": way.data,
        "context": each.context,
        "plannedContext": each.planned,
        "memory": memory,
        "notes": list(each.notes),
    }


def show(priced: Found, refused: list[Refused], sequences: int, console: Console) -> None:
    """Prints a table of what fits, then why the others do not."""
    found = [each for each, _ in priced]
    if found:
        console.print(_table(priced))
    planned = {each.planned for each in found if each.planned is not None}
    if planned:
        requests = f"{sequences:,} requests, shared by all nodes, of " if sequences > 1 else ""
        console.print(
            f"GiB of one GPU, the fullest. CACHE is for {requests}{max(planned):,} tokens; what is FREE becomes cache "
            "too, and CONTEXT is what one request may have with it.",
            soft_wrap=True,
            highlight=False,
        )
    for note in dict.fromkeys(note for each in found for note in each.notes):
        console.print(f"Note: {note}.", soft_wrap=True, highlight=False)
    alike: dict[str, list[str]] = {}
    for each in refused:
        alike.setdefault(each.sentence, []).append(each.machine.name)
    for sentence, names in alike.items():
        console.print(f"Not {', '.join(names)}: {sentence}.", soft_wrap=True, highlight=False)


def _table(found: Found) -> Table:
    priced = any(price is not None for _, price in found)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("SIZE", no_wrap=True)
    table.add_column("NODES", justify="right")
    if priced:
        table.add_column("AN HOUR", justify="right", no_wrap=True)
    table.add_column("GPUS OF A NODE", no_wrap=True)
    table.add_column("RUNTIME", no_wrap=True)
    table.add_column("PARALLEL", no_wrap=True)
    for name in ("WEIGHTS", "CACHE", "OTHER", "FREE", "CONTEXT"):
        table.add_column(name, justify="right", no_wrap=True)
    for each, price in found:
        parts = each.ledger
        memory = ["?"] * 4
        if parts is not None:
            other = parts.reserved + parts.activations + parts.runtime
            memory = [f"{value:.1f}" for value in (parts.weights, parts.kv_cache, other, parts.free)]
        table.add_row(
            each.machine.name,
            str(each.nodes),
            *([f"{price.per_hour:,.2f} {price.currency}" if price is not None else "?"] if priced else []),
            f"{each.machine.gpus} x {each.machine.model}, {each.machine.memory_gib:g} GiB",
            f"{each.runtime}, {each.dtype}",
            _parallel(each),
            *memory,
            f"{each.context:,}" if each.context is not None else "?",
        )
    return table


def _parallel(each: Sizing) -> str:
    way = each.parallelism
    said = (("tensor", way.tensor), ("pipeline", way.pipeline), ("data", way.data))
    parts = [f"{name} {number}" for name, number in said if number > 1]
    return ", ".join([*parts, *([f"{each.copies} copies"] if each.copies > 1 else [])]) or "-"
