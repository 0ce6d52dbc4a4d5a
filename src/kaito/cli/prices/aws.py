"""AWS's price lists, as files (AWS Billing, "AWS Price List Bulk API"). They ask for no sign-in.

A region's list of EC2 has some hundred megabytes in either of its forms. JSON would have to be in memory as a whole; of
CSV one line is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final
from urllib.parse import urljoin

from kaito.cli.errors import CliError
from kaito.cli.prices.fetch import Fetcher
from kaito.cli.prices.found import Said

ENDPOINT: Final = "https://pricing.us-east-1.amazonaws.com"
"""The lists of all regions lie there."""
REGIONS: Final = "/offers/v1.0/aws/AmazonEC2/current/region_index.json"
FIRST_COLUMN: Final = b'"SKU"'
"""The line of column names follows some lines about the file."""
LINES_BEFORE: Final = 20
"""Lines among which the column names are looked for."""
ON_DEMAND: Final = b'"OnDemand"'
WANTED: Final = {
    "TermType": "OnDemand",
    "Unit": "Hrs",
    "Tenancy": "Shared",
    "Operating System": "Linux",
    "Pre Installed S/W": "NA",
    "CapacityStatus": "Used",
    "operation": "RunInstances",
}
"""What a line says that is about a plain machine with Linux."""
MARKET: Final = "MarketOption"
"""Newer lists have it; blocks of capacity are sold under OnDemand too."""
NEEDED: Final = (*WANTED, "Instance Type", "PricePerUnit", "Currency")


async def aws_prices(fetcher: Fetcher, endpoint: str, region: str, sizes: Collection[str]) -> list[Said]:
    """Lines about these sizes in that region. Raises CliError."""
    url = await _list_of(fetcher, endpoint.rstrip("/"), region)
    wanted = {size.lower() for size in sizes}

    async def read(lines: AsyncIterator[bytes]) -> list[Said]:
        columns = await _columns(lines, url)
        rows = (_row(line, columns) async for line in lines if ON_DEMAND in line)
        return [said async for row in rows if (said := _said(row, wanted, url)) is not None]

    return await fetcher.lines(url, read)


async def _list_of(fetcher: Fetcher, endpoint: str, region: str) -> str:
    """The address of the region's newest list, as CSV."""
    index, source = await fetcher.json(endpoint + REGIONS)
    regions = index.get("regions") if isinstance(index, Mapping) else None
    if not isinstance(regions, Mapping):
        raise CliError(f"{source}: the answer has no regions.")
    entry = regions.get(region)
    path = entry.get("currentVersionUrl") if isinstance(entry, Mapping) else None
    if not isinstance(path, str) or not path.endswith("index.json"):
        known = ", ".join(sorted(str(each) for each in regions)[:40])
        raise CliError(f"AWS has no price list for the region {region!r}. There are {known}.")
    url = urljoin(source, path.removesuffix("json") + "csv")
    if not url.startswith(f"{endpoint}/"):
        raise CliError(f"{source}: the list of {region} is said to be elsewhere, at {url[:200]}.")
    return url


async def _columns(lines: AsyncIterator[bytes], url: str) -> dict[str, int]:
    """Where each column is."""
    passed = 0
    async for line in lines:
        if line.startswith(FIRST_COLUMN):
            columns = {name: place for place, name in enumerate(_fields(line))}
            missing = [name for name in NEEDED if name not in columns]
            if missing:
                raise CliError(f"{url}: the list has no column {', '.join(missing)}.")
            return columns
        passed += 1
        if passed >= LINES_BEFORE:
            break
    raise CliError(f"{url}: this is no price list: the line with the names of its columns is missing.")


def _fields(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8", errors="replace")]), [])
    except csv.Error as error:
        raise CliError(f"the price list is no CSV: {error}.") from None


def _row(line: bytes, columns: Mapping[str, int]) -> dict[str, str]:
    """The fields that matter, by the names of their columns."""
    fields = _fields(line)
    return {
        name: fields[columns[name]] if columns[name] < len(fields) else ""
        for name in (*NEEDED, MARKET)
        if name in columns
    }


def _said(row: Mapping[str, str], sizes: Collection[str], source: str) -> Said | None:
    size = row["Instance Type"]
    if size.lower() not in sizes or any(row[name] != value for name, value in WANTED.items()):
        return None
    if row.get(MARKET, "OnDemand") not in ("OnDemand", ""):
        return None
    try:
        price = float(row["PricePerUnit"])
    except ValueError:
        return None
    return Said(size, price, row["Currency"], source) if 0 < price < math.inf else None
