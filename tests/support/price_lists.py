"""A server that answers like Azure's Retail Prices API and like AWS's price list files. The amounts are made up."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

PAGE = 2
"""Items on a page of the fake Azure; the real one has 100 or 1,000."""
COLUMNS = [
    "SKU", "OfferTermCode", "RateCode", "TermType", "PriceDescription", "Unit", "PricePerUnit", "Currency",
    "Instance Type", "Tenancy", "Operating System", "CapacityStatus", "Pre Installed S/W", "operation", "MarketOption",
]  # fmt: skip


def item(size: str, price: float, **changed: Any) -> dict[str, Any]:
    """One of Azure's lines, with the fields that the real ones have."""
    found = {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": "westeurope",
        "location": "EU West",
        "effectiveStartDate": "2023-01-01T00:00:00Z",
        "meterId": "00000000-0000-0000-0000-000000000001",
        "meterName": size.removeprefix("Standard_").replace("_", " "),
        "productName": "Virtual Machines NCads Series",
        "skuName": size.removeprefix("Standard_").replace("_", " "),
        "serviceName": "Virtual Machines",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size,
    }
    return {**found, **changed}


def row(size: str, price: str, **changed: str) -> dict[str, str]:
    """One of AWS's lines; the real ones have some 80 columns more."""
    found = {
        "SKU": "ABCDEFGHJKLMNPQR",
        "OfferTermCode": "JRTCKXETXF",
        "RateCode": "ABCDEFGHJKLMNPQR.JRTCKXETXF.6YS6EN2CT7",
        "TermType": "OnDemand",
        "PriceDescription": f"${price} per On Demand Linux {size} Instance Hour, with a comma",
        "Unit": "Hrs",
        "PricePerUnit": price,
        "Currency": "USD",
        "Instance Type": size,
        "Tenancy": "Shared",
        "Operating System": "Linux",
        "CapacityStatus": "Used",
        "Pre Installed S/W": "NA",
        "operation": "RunInstances",
        "MarketOption": "OnDemand",
    }
    return {**found, **changed}


@dataclass
class PriceLists:
    """What the lists say, and what the server does wrong.

    faults: answers (status, headers) given instead of the next ones. cut: the next long list ends halfway.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    columns: list[str] = field(default_factory=lambda: list(COLUMNS))
    regions: list[str] = field(default_factory=lambda: ["eu-central-1", "us-east-1"])
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cut: bool = False
    next_link: str | None = None
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def azure(self, request: web.Request) -> web.Response:
        found = re.fullmatch(
            r"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '(\w+)' "
            r"and armSkuName eq '(\w+)'",
            request.query["$filter"],
        )
        assert found is not None, request.query["$filter"]
        currency = request.query["currencyCode"].strip("'")
        items = [
            {**each, "currencyCode": currency}
            for each in self.items
            if (each["armRegionName"], each["armSkuName"]) == found.groups()
        ]
        skip = int(request.query.get("$skip", 0))
        following = None
        if skip + PAGE < len(items):
            following = self.next_link or str(request.url.update_query({"$skip": str(skip + PAGE)}))
        page = items[skip : skip + PAGE]
        return web.json_response(
            {
                "BillingCurrency": currency,
                "CustomerEntityId": "Default",
                "CustomerEntityType": "Retail",
                "Items": page,
                "NextPageLink": following,
                "Count": len(page),
            }
        )

    async def aws_regions(self, request: web.Request) -> web.Response:
        version = "/offers/v1.0/aws/AmazonEC2/20260101000000"
        return web.json_response(
            {
                "formatVersion": "v1.0",
                "publicationDate": "2026-01-01T00:00:00Z",
                "regions": {
                    each: {"regionCode": each, "currentVersionUrl": f"{version}/{each}/index.json"}
                    for each in self.regions
                },
            }
        )

    async def aws_list(self, request: web.Request) -> web.StreamResponse:
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([["FormatVersion", "v1.0"], ["Disclaimer", "a, b"], ["OfferCode", "AmazonEC2"]])
        writer.writerow(self.columns)
        writer.writerows([[each.get(name, "") for name in self.columns] for each in self.rows])
        body = text.getvalue().encode()
        if not self.cut:
            return web.Response(body=body, content_type="text/csv")
        self.cut = False
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.abort()
        return response


@asynccontextmanager
async def serving(lists: PriceLists) -> AsyncIterator[PriceLists]:
    """The lists on a free port of 127.0.0.1; `url` is set."""

    @web.middleware
    async def faulty(request: web.Request, handler: Any) -> web.StreamResponse:
        lists.asked.append(str(request.rel_url))
        if lists.faults:
            status, headers = lists.faults.pop(0)
            text = json.dumps({"Error": {"Code": "Busy", "Message": "Please try again later."}})
            return web.Response(status=status, headers=headers, text=text)
        answer: web.StreamResponse = await handler(request)
        return answer

    app = web.Application(middlewares=[faulty])
    app.router.add_get("/api/retail/prices", lists.azure)
    app.router.add_get("/offers/v1.0/aws/AmazonEC2/current/region_index.json", lists.aws_regions)
    app.router.add_get("/offers/v1.0/aws/AmazonEC2/{version}/{region}/index.csv", lists.aws_list)
    server = TestServer(app)
    await server.start_server()
    lists.url = str(server.make_url("")).rstrip("/")
    try:
        yield lists
    finally:
        await server.close()
