"""Price files, and sizes ranked by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.catalog import load_catalog
from kaito.catalog.prices import (
    HOURS_OF_A_MONTH,
    Price,
    PriceRow,
    Prices,
    PricesError,
    by_number,
    cheapest_first,
    sold_first,
)
from kaito.catalog.sizing import Demand, choices

CATALOG = load_catalog()


def row(**changed: Any) -> dict[str, Any]:
    found = {
        "cloud": "azure",
        "region": "westeurope",
        "size": "Standard_NC24ads_A100_v4",
        "per_hour": 4.0,
        "currency": "USD",
        "dated": "2026-01-02",
        "source": "http://127.0.0.1/prices",
    }
    return {**found, **changed}


def prices(*rows: dict[str, Any]) -> Prices:
    return Prices.parse(yaml.safe_dump({"prices": list(rows)}), "test")


def test_without_a_file_no_price_is_known() -> None:
    assert Prices.load().price("Standard_NC24ads_A100_v4", "azure", "westeurope") is None


def test_no_price_comes_with_the_catalogue() -> None:
    assert "price" not in "".join(type(CATALOG.skus[0]).model_fields)


def test_a_price_is_found_by_size_cloud_and_region_whatever_their_letter_case() -> None:
    found = prices(row()).price("standard_nc24ads_a100_V4", "azure", "West Europe")
    assert found == Price(4.0, "USD", "2026-01-02", "http://127.0.0.1/prices")
    assert found.per_month == 4.0 * HOURS_OF_A_MONTH
    assert found.times(3).per_hour == 12.0


@pytest.mark.parametrize(("cloud", "region"), [("aws", "westeurope"), ("azure", "eastus")])
def test_a_price_of_elsewhere_is_none_here(cloud: Any, region: str) -> None:
    assert prices(row()).price("Standard_NC24ads_A100_v4", cloud, region) is None


def test_without_a_region_the_only_one_of_the_file_is_meant() -> None:
    one, two = prices(row()), prices(row(), row(region="eastus"))
    assert one.price("Standard_NC24ads_A100_v4", "azure") is not None
    assert two.price("Standard_NC24ads_A100_v4", "azure") is None
    assert two.regions("azure") == ["eastus", "westeurope"]


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(yaml.safe_dump({"prices": [row()]}))
    assert Prices.load(file).prices == (PriceRow.model_validate(row()),)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(per_hour=0)], "prices.0.per_hour"),
        ([row(per_hour=float("inf"))], "prices.0.per_hour"),
        ([row(per_hour="much")], "prices.0.per_hour"),
        ([row(currency="dollars")], "prices.0.currency"),
        ([row(dated="yesterday")], "prices.0.dated"),
        ([row(source="")], "prices.0.source"),
        ([row(cloud="moon")], "prices.0.cloud"),
        ([{**row(), "spot": True}], "prices.0.spot"),
        ([row(), row(region="West Europe")], "twice"),
    ],
)
def test_what_is_no_price_is_refused_by_field(rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(PricesError, match=said):
        prices(*rows)


@pytest.mark.parametrize("text", ["[", "- 1", "3", "prices: 3", "\x00", ""])
def test_what_is_no_price_file_is_refused_by_name(text: str) -> None:
    with pytest.raises(PricesError, match="the price file odd"):
        Prices.parse(text, "odd")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PricesError, match=r"gone\.yaml cannot be read: No such file"):
        Prices.load(tmp_path / "gone.yaml")


def sizings() -> list[Any]:
    preset = CATALOG.preset("phi-3-mini-4k-instruct")
    assert preset is not None
    return choices(preset, (sku for sku in CATALOG.skus if sku.cloud == "azure"), Demand())[0]


def test_sizes_are_ranked_by_memory_when_one_price_is_unknown() -> None:
    found = sizings()
    known = prices(row(size=found[-1].machine.name, per_hour=0.01))
    ranked = cheapest_first(reversed(found), known.at("azure"))
    assert [each.total_gib for each, _ in ranked] == [each.total_gib for each in found]
    assert [cost is None for _, cost in ranked] == [True] * (len(found) - 1) + [False]


def test_of_equal_gpus_the_size_with_fewer_processors_comes_first() -> None:
    ranked = [each.machine.name for each, _ in cheapest_first(sizings(), Prices().at("azure"))]
    assert ranked[:3] == ["Standard_NC4as_T4_v3", "Standard_NC8as_T4_v3", "Standard_NC16as_T4_v3"]
    names = ["g6.16xlarge", "g6.2xlarge", "g6.xlarge", "g5.48xlarge"]
    assert sorted(names, key=by_number) == ["g5.48xlarge", "g6.xlarge", "g6.2xlarge", "g6.16xlarge"]


def test_sizes_are_ranked_by_price_when_all_are_known() -> None:
    found = sizings()
    known = prices(*(row(size=each.machine.name, per_hour=100 - n) for n, each in enumerate(found)))
    ranked = cheapest_first(found, known.at("azure"))
    costs = [cost.per_hour for _, cost in ranked if cost is not None]
    assert costs == sorted(costs)
    assert len(costs) == len(found)
    assert ranked[0][0] != found[0]


def test_sizes_that_a_place_does_not_sell_come_last_and_leave_the_rest_comparable() -> None:
    found = sizings()
    first, second, *others = (each.machine.name for each in found)
    known = Prices.model_validate(
        {
            "prices": [row(size=first, per_hour=5.0), row(size=second, per_hour=4.0)],
            "absent": [
                {"cloud": "azure", "region": "West Europe", "size": size.upper(), "dated": "2026-01-02"}
                for size in others
            ],
        }
    )
    ranked = sold_first(found, known.at("azure"), lambda size: known.is_absent(size, "azure"))
    assert [each.machine.name for each, _ in ranked[:2]] == [second, first]
    assert {each.machine.name for each, _ in ranked[2:]} == set(others)
    assert not known.is_absent(others[0], "azure", "eastus"), "nobody asked there"


def test_a_size_cannot_be_both_priced_and_absent() -> None:
    absent = {
        "cloud": "azure",
        "region": "westeurope",
        "size": "standard_nc24ads_a100_v4",
        "dated": "2026-01-02",
    }
    with pytest.raises(PricesError, match="stands there twice"):
        Prices.parse(yaml.safe_dump({"prices": [row()], "absent": [absent]}), "test")


def test_prices_in_two_currencies_are_not_compared() -> None:
    found = sizings()
    known = prices(
        *(
            row(size=each.machine.name, per_hour=100 - n, currency="USD" if n else "EUR")
            for n, each in enumerate(found)
        )
    )
    by_memory = cheapest_first(found, Prices().at("azure"))
    ranked = cheapest_first(found, known.at("azure"))
    assert [each for each, _ in ranked] == [each for each, _ in by_memory]
