"""`kaito prices update`: asks a cloud's public list and keeps the answer in a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import orjson
import typer

from kaito.catalog import Catalog, Cloud
from kaito.catalog.prices import AbsentRow, PriceRow, Prices, PricesError
from kaito.cli.catalogs import read_catalog
from kaito.cli.errors import CliError
from kaito.cli.prices.aws import ENDPOINT as AWS
from kaito.cli.prices.aws import aws_prices
from kaito.cli.prices.azure import ENDPOINT as AZURE
from kaito.cli.prices.azure import azure_prices
from kaito.cli.prices.fetch import Fetcher
from kaito.cli.prices.found import Found, Said, settle
from kaito.controllers.workspace import parse_cloud
from kaito.runtime.clock import Clock, LoopClock

HEADER: Final = """\
# Prices of machine sizes: one hour of one machine, on demand, with Linux, before taxes and discounts.
# Written by `kaito prices update`, which replaces the rows of the regions that it asks about.
"""


@dataclass(frozen=True, slots=True)
class UpdateFlags:
    """The flags of `kaito prices update`, as given."""

    cloud: str
    regions: Sequence[str]
    currency: str
    output: Path
    endpoint: str | None = None
    catalogs: Sequence[Path] | None = None


async def run_update(flags: UpdateFlags, clock: Clock | None = None) -> None:
    """Writes the file and says what is in it. Raises CliError; then the file is as it was."""
    try:
        cloud = parse_cloud(flags.cloud)
    except ValueError as error:
        raise CliError(str(error)) from None
    clock = clock or LoopClock()
    regions = list(dict.fromkeys("".join(each.split()).lower() for each in flags.regions))
    for region in regions:
        if not region.replace("-", "").isalnum():
            raise CliError(f"--region {region}: letters, digits and dashes make a region's name.")
    sizes = priced_sizes(read_catalog(flags.catalogs), cloud)
    before = _before(flags.output)
    rows, absent = list(before.prices), list(before.absent)
    for region in regions:
        found = await _ask(flags, cloud, region, sizes, clock)
        if not found.prices:
            raise CliError(f"the list of {cloud} has none of the {len(sizes)} GPU sizes in {region!r}.")
        rows = [each for each in rows if not _is_of(each, cloud, region)]
        today = clock.wall().date()
        rows += _rows(found.prices, cloud, region, today)
        absent = [each for each in absent if not _is_of(each, cloud, region)]
        absent += [AbsentRow(cloud=cloud, region=region, size=size, dated=today) for size in found.absent]
        _tell(found, cloud, region)
    write(flags.output, Prices(prices=tuple(rows), absent=tuple(absent)))
    typer.echo(f"Written to {flags.output}.")


def priced_sizes(catalog: Catalog, cloud: Cloud) -> list[str]:
    """Sizes of that cloud that models can be served on."""
    return [sku.name for sku in catalog.skus if sku.cloud == cloud and not sku.unusable]


async def _ask(flags: UpdateFlags, cloud: Cloud, region: str, sizes: Sequence[str], clock: Clock) -> Found:
    async with Fetcher(clock) as fetcher:
        match cloud:
            case "azure":
                currency = flags.currency.strip().upper()
                if not (currency.isascii() and currency.isalpha() and len(currency) == 3):
                    raise CliError(f"--currency {flags.currency}: write three letters, such as USD or EUR.")
                said = await azure_prices(fetcher, flags.endpoint or AZURE, region, sizes, currency)
            case "aws":
                said = await aws_prices(fetcher, flags.endpoint or AWS, region, sizes)
            case _:
                raise CliError(f"{cloud} has no public price list: its machines are your own.")
    return settle(sizes, said)


def _rows(said: Iterable[Said], cloud: Cloud, region: str, today: date) -> list[PriceRow]:
    try:
        return [
            PriceRow(
                cloud=cloud,
                region=region,
                size=each.size,
                per_hour=each.per_hour,
                currency=each.currency,
                dated=today,
                source=each.source,
            )
            for each in said
        ]
    except ValueError as error:
        raise CliError(f"the list of {cloud} says what is no price: {error}") from None


def _is_of(row: PriceRow | AbsentRow, cloud: Cloud, region: str) -> bool:
    return row.cloud == cloud and "".join(row.region.split()).lower() == region


def _before(path: Path) -> Prices:
    if not path.exists():
        return Prices()
    try:
        return Prices.load(path)
    except PricesError as error:
        raise CliError(f"{error}. Mend it, or move it away.") from None


def _tell(found: Found, cloud: Cloud, region: str) -> None:
    typer.echo(f"{cloud} {region}: {len(found.prices)} prices.")
    for size, why in found.unknown.items():
        typer.echo(f"  {size}: unknown, {why}.")


def _listed(key: str, rows: Iterable[PriceRow | AbsentRow]) -> str:
    """One row a line, by cloud, region and size."""
    ordered = sorted(rows, key=lambda each: (each.cloud, each.region, each.size))
    lines = [orjson.dumps(each.model_dump(mode="json")).decode() for each in ordered]
    return f"{key}:\n" + "".join(f"  - {line}\n" for line in lines) if lines else ""


def write(path: Path, prices: Prices) -> None:
    """The file, whole or not at all."""
    text = HEADER + _listed("prices", prices.prices) + _listed("absent", prices.absent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}.") from None
