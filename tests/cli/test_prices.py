"""`kaito prices update` against servers that answer like the clouds' price lists."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kaito.catalog import load_catalog
from kaito.catalog.prices import Prices
from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.cli.prices.command import UpdateFlags, priced_sizes, run_update
from kaito.cli.prices.fetch import TRIES
from kaito.runtime.clock import LoopClock
from support.price_lists import PriceLists, item, row, serving

A100 = "Standard_NC24ads_A100_v4"
T4 = "Standard_NC4as_T4_v3"


class Patient(LoopClock):
    """Waits for nothing between tries, and remembers for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep(self, delay: float) -> None:
        self.waits.append(delay)
        await super().sleep(0)


@pytest.fixture
async def lists() -> AsyncIterator[PriceLists]:
    async with serving(PriceLists()) as found:
        yield found


class Updating:
    def __init__(self, lists: PriceLists, file: Path) -> None:
        self.lists = lists
        self.clock = Patient()
        self.flags = UpdateFlags("azure", ["westeurope"], "USD", file, lists.url)

    async def __call__(self, **changed: Any) -> Prices:
        flags = replace(self.flags, **changed)
        await run_update(flags, self.clock)
        return Prices.load(flags.output)


@pytest.fixture
def update(lists: PriceLists, tmp_path: Path) -> Updating:
    return Updating(lists, tmp_path / "there" / "prices.yaml")


async def test_azures_list_becomes_rows_with_a_day_and_an_address_that_can_be_asked_again(
    lists: PriceLists, update: Updating, capsys: pytest.CaptureFixture[str]
) -> None:
    lists.items = [item(A100, 3.5), item(T4, 0.5)]
    found = await update()
    price = found.price(A100, "azure", "westeurope")
    assert price is not None
    assert (price.per_hour, price.currency) == (3.5, "USD")
    assert price.dated == update.clock.wall().date().isoformat()
    assert price.source.startswith(f"{lists.url}/api/retail/prices?")
    assert A100 in price.source
    assert T4 not in price.source
    said = capsys.readouterr().out
    assert "azure westeurope: 2 prices." in said
    assert "Standard_NC48ads_A100_v4: unknown, the list does not have it there." in said


OTHER_LINES = [
    {"skuName": "NC24ads A100 v4 Spot", "meterName": "NC24ads A100 v4 Spot"},
    {"skuName": "NC24ads A100 v4 Low Priority", "meterName": "NC24ads A100 v4 Low Priority"},
    {"productName": "Virtual Machines NCads Series Windows"},
    {"productName": "Virtual Machines NCads Series CloudServices"},
    {"type": "Reservation", "unitOfMeasure": "1 Hour", "reservationTerm": "1 Year"},
    {"type": "DevTestConsumption"},
    {"unitOfMeasure": "1/Month"},
    {"isPrimaryMeterRegion": False},
    {"retailPrice": 0.0},
    {"retailPrice": "free"},
    {"retailPrice": True},
]


@pytest.mark.parametrize("other", OTHER_LINES, ids=str)
async def test_only_machines_on_demand_with_linux_are_priced(
    lists: PriceLists, update: Updating, other: dict[str, Any]
) -> None:
    """Whichever page the line is on that counts."""
    lists.items = [*[item(A100, 1.0, **other)] * 5, item(A100, 3.5), item(A100, 1.0, **other)]
    price = (await update()).price(A100, "azure")
    assert price is not None
    assert price.per_hour == 3.5


async def test_a_currency_is_asked_for(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5)]
    price = (await update(currency="eur")).price(A100, "azure")
    assert price is not None
    assert price.currency == "EUR"


async def test_two_prices_for_one_size_leave_it_unknown(
    lists: PriceLists, update: Updating, capsys: pytest.CaptureFixture[str]
) -> None:
    lists.items = [item(A100, 3.5), item(A100, 4.5), item(T4, 0.5), item(T4, 0.5)]
    found = await update()
    assert found.price(A100, "azure") is None
    assert found.price(T4, "azure") is not None
    assert (
        f"{A100}: unknown, the list has several prices for it: 3.5 USD, 4.5 USD." in capsys.readouterr().out
    )


async def test_what_the_list_does_not_have_is_kept_as_not_sold_there_until_it_is(
    lists: PriceLists, update: Updating
) -> None:
    lists.items = [item(A100, 3.5), item(A100, 4.5), item(T4, 0.5)]
    found = await update()
    assert found.is_absent("Standard_NC48ads_A100_v4", "azure", "westeurope")
    assert not found.is_absent(A100, "azure", "westeurope"), "it is there, at two prices"
    lists.items.append(item("Standard_NC48ads_A100_v4", 7.0))
    found = await update()
    assert not found.is_absent("Standard_NC48ads_A100_v4", "azure", "westeurope")
    assert found.price("Standard_NC48ads_A100_v4", "azure", "westeurope") is not None


async def test_sizes_that_serve_no_model_are_not_asked_for(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5)]
    await update()
    sizes = priced_sizes(load_catalog(), "azure")
    assert len(lists.asked) == len(sizes)
    assert not [each for each in sizes if "V620" in each]


async def test_sizes_of_ones_own_are_asked_for_too(
    lists: PriceLists, update: Updating, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("skus: [{name: Standard_Mine, cloud: azure, gpus: 1, memory_gib: 24, model: NVIDIA A10}]")
    lists.items = [item("Standard_Mine", 0.25)]
    price = (await update(catalogs=[mine])).price("Standard_Mine", "azure")
    assert price is not None
    assert price.per_hour == 0.25


AWS_OTHERS = [
    {"TermType": "Reserved"},
    {"Operating System": "Windows"},
    {"Operating System": "RHEL", "operation": "RunInstances:0010"},
    {"operation": "RunInstances:0004", "Pre Installed S/W": "SQL Std"},
    {"Tenancy": "Dedicated"},
    {"CapacityStatus": "UnusedCapacityReservation"},
    {"MarketOption": "CapacityBlock"},
    {"Unit": "Quantity"},
    {"PricePerUnit": "0.0000000000"},
    {"PricePerUnit": "nan"},
    {"PricePerUnit": "inf"},
    {"PricePerUnit": "?"},
    {"Instance Type": "m5.large"},
]


@pytest.mark.parametrize("other", AWS_OTHERS, ids=str)
async def test_awss_list_becomes_rows_of_machines_on_demand_with_linux(
    lists: PriceLists, update: Updating, other: dict[str, str]
) -> None:
    lists.rows = [
        row("g6.xlarge", "9.0", **other),
        row("g6.xlarge", "0.9000000000"),
        row("p4d.24xlarge", "22"),
    ]
    found = await update(cloud="aws", regions=["eu-central-1"])
    prices = {each.size: (each.per_hour, each.currency) for each in found.prices}
    assert prices == {"g6.xlarge": (0.9, "USD"), "p4d.24xlarge": (22.0, "USD")}
    source = f"{lists.url}/offers/v1.0/aws/AmazonEC2/20260101000000/eu-central-1/index.csv"
    assert {each.source for each in found.prices} == {source}


async def test_a_list_of_before_there_were_markets_is_read(lists: PriceLists, update: Updating) -> None:
    lists.columns.remove("MarketOption")
    lists.rows = [row("g6.xlarge", "0.9")]
    assert len((await update(cloud="aws", regions=["us-east-1"])).prices) == 1


async def test_a_long_list_that_is_cut_off_is_read_again(lists: PriceLists, update: Updating) -> None:
    lists.cut = True
    lists.rows = [row("g6.xlarge", "0.9"), *[row("m5.large", "0.1")] * 2000, row("p4d.24xlarge", "22")]
    found = await update(cloud="aws", regions=["us-east-1"])
    assert len(found.prices) == 2
    assert len(update.clock.waits) == 1


async def test_other_regions_and_clouds_stay_in_the_file(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5), item(T4, 0.5), item(A100, 3.0, armRegionName="eastus")]
    lists.rows = [row("g6.xlarge", "0.9")]
    await update(regions=["westeurope", "East US"])
    await update(cloud="aws", regions=["us-east-1"])
    lists.items = [item(A100, 3.6)]
    found = await update()
    assert {(each.region, each.size, each.per_hour) for each in found.prices} == {
        ("westeurope", A100, 3.6),
        ("eastus", A100, 3.0),
        ("us-east-1", "g6.xlarge", 0.9),
    }


async def test_a_busy_server_is_asked_again_when_it_says(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5)]
    lists.faults = [(429, {"Retry-After": "7"}), (503, {})]
    assert len((await update()).prices) == 1
    assert sorted(update.clock.waits) in ([1.0, 7.0], [2.0, 7.0])


async def test_no_server_makes_the_command_wait_for_hours(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5)]
    lists.faults = [
        (429, {"Retry-After": "999999999999"}),
        (429, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    ]
    await update()
    assert set(update.clock.waits) == {60.0}


async def test_a_server_that_stays_away_is_named_with_what_it_says(
    lists: PriceLists, update: Updating
) -> None:
    lists.faults = [(500, {})] * TRIES * 100
    with pytest.raises(CliError, match=rf"answers 500: .*try again later.* \({TRIES} tries\)") as error:
        await update()
    assert lists.url in str(error.value)


async def test_what_the_server_refuses_is_not_asked_again(lists: PriceLists, update: Updating) -> None:
    lists.faults = [(400, {})]
    with pytest.raises(CliError, match="answers 400"):
        await update(cloud="aws", regions=["us-east-1"])
    assert update.clock.waits == []


async def test_nobody_there_is_said_by_address(update: Updating) -> None:
    with pytest.raises(CliError, match=r"http://127\.0\.0\.1:1/.* cannot be read"):
        await update(endpoint="http://127.0.0.1:1")


@pytest.mark.parametrize("endpoint", ["nowhere", "ftp://127.0.0.1/", "http://[::1"])
async def test_what_is_no_address_is_refused(update: Updating, endpoint: str) -> None:
    with pytest.raises(CliError):
        await update(endpoint=endpoint)


async def test_a_next_page_on_another_server_is_not_followed(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5)] * 3
    lists.next_link = "http://127.0.0.2:1/api/retail/prices"
    with pytest.raises(CliError, match="the next page is said to be elsewhere"):
        await update()


async def test_pages_without_end_are_given_up(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5)] * 3
    params = (
        "?api-version=x&currencyCode='USD'&$filter=serviceName eq 'Virtual Machines' and priceType eq 'Consumption' "
        f"and armRegionName eq 'westeurope' and armSkuName eq '{A100}'"
    )
    lists.next_link = f"{lists.url}/api/retail/prices{params}"
    with pytest.raises(CliError, match="more than 50 pages"):
        await update()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cloud": "moon"}, "azure, aws"),
        ({"cloud": "arc"}, "no public price list"),
        ({"currency": "dollars"}, "--currency dollars"),
        ({"regions": ["we'st"]}, "--region we'st"),
        ({"regions": ["mars"]}, "none of the"),
        ({"cloud": "aws", "regions": ["mars-1"]}, "'mars-1'. There are eu-central-1, us-east-1"),
        ({"cloud": "aws", "regions": ["us-east-1"]}, "none of the"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused(
    lists: PriceLists, update: Updating, changed: dict[str, Any], said: str
) -> None:
    lists.items = [item(A100, 3.5)]
    with pytest.raises(CliError) as error:
        await update(**changed)
    assert said in str(error.value)
    assert not update.flags.output.exists()


@pytest.mark.parametrize("columns", [["SKU", "TermType"], ["Nothing"]])
async def test_a_file_that_is_no_price_list_is_refused(
    lists: PriceLists, update: Updating, columns: list[str]
) -> None:
    lists.columns = columns
    lists.rows = [row("g6.xlarge", "0.9")] * 30
    with pytest.raises(CliError, match=r"has no column|no price list"):
        await update(cloud="aws", regions=["us-east-1"])


async def test_a_file_that_somebody_broke_is_left_alone(lists: PriceLists, update: Updating) -> None:
    lists.items = [item(A100, 3.5)]
    update.flags.output.parent.mkdir()
    update.flags.output.write_text("prices: 3\n")
    with pytest.raises(CliError, match="Mend it, or move it away"):
        await update()
    assert update.flags.output.read_text() == "prices: 3\n"


async def test_a_place_that_cannot_be_written_is_named(
    lists: PriceLists, update: Updating, tmp_path: Path
) -> None:
    lists.items = [item(A100, 3.5)]
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="cannot be written"):
        await update(output=tmp_path / "file" / "prices.yaml")


def test_the_command_wants_a_region() -> None:
    result = CliRunner().invoke(app, ["prices", "update"], env={"LOCATION": ""})
    assert result.exit_code == 2
    assert "--region" in result.output
