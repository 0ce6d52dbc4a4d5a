"""Azure's Retail Prices API (learn.microsoft.com, "Azure Retail Prices REST API"). It asks for no sign-in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from kaito.cli.errors import CliError
from kaito.cli.prices.fetch import Fetcher
from kaito.cli.prices.found import Said

ENDPOINT: Final = "https://prices.azure.com"
PATH: Final = "/api/retail/prices"
VERSION: Final = "2023-01-01-preview"
"""Of the API; from this one on, letter case matters in filters."""
MOST_PAGES: Final = 50
"""Pages of one size; there are one or two."""
AT_ONCE: Final = 4
"""Requests under way; the API throttles."""
OTHER_OFFERS: Final = ("spot", "low priority")
"""In the name of a meter: machines that Azure may take back at any time."""
OTHER_PRODUCTS: Final = ("windows", "cloudservices", "cloud services", "dedicated host")


async def azure_prices(
    fetcher: Fetcher, endpoint: str, region: str, sizes: Sequence[str], currency: str
) -> list[Said]:
    """Lines about these sizes in that region. Each size is a request of its own, so that a row's source is an address
    that anybody can open. Raises CliError."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(size: str) -> list[Said]:
        async with gate:
            return await _size(fetcher, endpoint, region, size, currency)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(size)) for size in sizes]
    except ExceptionGroup as group:  # what `except*` raises is in a group again on Python 3.11.2
        told = group.subgroup(CliError)
        if told is None:
            raise
        raise told.exceptions[0] from None
    return [each for task in tasks for each in task.result()]


async def _size(fetcher: Fetcher, endpoint: str, region: str, size: str, currency: str) -> list[Said]:
    quoted = size.replace("'", "''")
    wanted = (
        f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}' "
        f"and armSkuName eq '{quoted}'"
    )
    url: str = endpoint.rstrip("/") + PATH
    params: Mapping[str, str] | None = {
        "api-version": VERSION,
        "currencyCode": f"'{currency}'",
        "$filter": wanted,
    }
    lines: list[tuple[bool, Said]] = []
    for _ in range(MOST_PAGES):
        page, source = await fetcher.json(url, params)
        if not isinstance(page, Mapping) or not isinstance(page.get("Items"), list):
            raise CliError(f"{source}: the answer has no list of Items.")
        lines += _lines(page["Items"], region, size, source)
        following = page.get("NextPageLink")
        if not following:
            primary = [said for is_primary, said in lines if is_primary]
            return primary or [said for _, said in lines]
        url, params = _next(url, following), None
    raise CliError(f"{endpoint}: the list for {size} has more than {MOST_PAGES} pages.")


def _next(url: str, link: object) -> str:
    """Azure writes the port into its links. Raises CliError for one that leads elsewhere."""
    found = urljoin(url, str(link))
    here, there = urlsplit(url), urlsplit(found)
    try:
        same = (there.scheme, there.hostname, _port(there)) == (here.scheme, here.hostname, _port(here))
    except ValueError:
        same = False
    if not same:
        raise CliError(f"{url}: the next page is said to be elsewhere, at {found[:200]}.")
    return found


def _port(parts: Any) -> int | None:
    return parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _lines(items: Sequence[object], region: str, size: str, source: str) -> Iterator[tuple[bool, Said]]:
    """Those of machines on demand with Linux; and whether the region is the meter's own."""
    for item in items:
        if not isinstance(item, Mapping) or not _means(item, region, size):
            continue
        price, currency = item.get("retailPrice"), item.get("currencyCode")
        if isinstance(price, bool) or not isinstance(price, int | float) or price <= 0:
            continue
        if isinstance(currency, str):
            yield item.get("isPrimaryMeterRegion") is not False, Said(size, float(price), currency, source)


def _means(item: Mapping[str, Any], region: str, size: str) -> bool:
    meter = f"{item.get('meterName')} {item.get('skuName')}".lower()
    product = str(item.get("productName")).lower()
    return (
        item.get("type") == "Consumption"
        and item.get("unitOfMeasure") == "1 Hour"
        and str(item.get("armRegionName")).lower() == region
        and str(item.get("armSkuName")).lower() == size.lower()
        and not any(word in meter for word in OTHER_OFFERS)
        and not any(word in product for word in OTHER_PRODUCTS)
    )
