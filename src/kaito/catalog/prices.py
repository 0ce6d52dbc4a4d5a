"""What the clouds charge for machine sizes, as a file that `kaito prices update` wrote tells it.

No price comes with KAITO: a row is what a cloud's public list said on a day, with the address that said it. Without a
file, or for a size that is not in it, the price is unknown and sizes are compared by their memory.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kaito.catalog.load import CatalogError
from kaito.catalog.models import Cloud
from kaito.catalog.sizing import Sizing

HOURS_OF_A_MONTH: Final = 730
"""Hours that a month is counted as: 365 days by 24, shared by 12. Azure's and AWS's calculators count so too."""
_NUMBERS: Final = re.compile(r"([^0-9]*)([0-9]*)")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PricesError(CatalogError):
    """A price file cannot be read, or holds what is no price; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of one machine that is paid by the hour, without reservation or spot, with Linux."""

    per_hour: float
    currency: str
    """ISO 4217, such as `USD`."""
    dated: str
    """The day that it was read, as YYYY-MM-DD."""
    source: str
    """The address that said so."""

    @property
    def per_month(self) -> float:
        """For HOURS_OF_A_MONTH."""
        return self.per_hour * HOURS_OF_A_MONTH

    def times(self, machines: int) -> Price:
        """Of that many machines."""
        return Price(self.per_hour * machines, self.currency, self.dated, self.source)


class PriceRow(BaseModel):
    """One line of a price file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cloud: Cloud
    region: str = Field(min_length=1)
    """As the cloud's API writes it: `westeurope`, `eu-central-1`."""
    size: str = Field(min_length=1)
    """The machine size, as the cloud's API writes it."""
    per_hour: float = Field(gt=0, allow_inf_nan=False)
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    dated: datetime.date
    source: str = Field(min_length=1)


class AbsentRow(BaseModel):
    """A size that a region's list was asked about and does not have: the cloud does not sell it there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cloud: Cloud
    region: str = Field(min_length=1)
    size: str = Field(min_length=1)
    dated: datetime.date


class Prices(BaseModel):
    """All rows of a price file; none by default. Letter case of names means nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prices: tuple[PriceRow, ...] = ()
    absent: tuple[AbsentRow, ...] = ()

    @classmethod
    def load(cls, path: Path | str | None = None) -> Prices:
        """The rows of a YAML or JSON file; None: no rows. Raises PricesError."""
        if path is None:
            return cls()
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PricesError(f"the price file {path} cannot be read: {reason}") from None
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> Prices:
        """The rows in a text; `name` says where it is from. Raises PricesError."""
        try:
            found = yaml.load(text, Loader=_LOADER)
        except (yaml.YAMLError, ValueError) as error:
            raise PricesError(f"the price file {name} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(found, Mapping):
            raise PricesError(f"the price file {name} is no map with the key prices")
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "prices"
            raise PricesError(f"the price file {name}: {where}: {first['msg']}") from None

    @model_validator(mode="after")
    def _stated_once(self) -> Prices:
        seen: set[tuple[str, str, str]] = set()
        rows: tuple[PriceRow | AbsentRow, ...] = (*self.prices, *self.absent)
        for row in rows:
            key = _key(row)
            if key in seen:
                raise ValueError(f"{row.size} in {row.region} stands there twice")
            seen.add(key)
        return self

    @cached_property
    def _index(self) -> dict[tuple[str, str, str], PriceRow]:
        return {_key(row): row for row in self.prices}

    @cached_property
    def _absent(self) -> frozenset[tuple[str, str, str]]:
        return frozenset(_key(row) for row in self.absent)

    def regions(self, cloud: Cloud) -> list[str]:
        """Regions of that cloud that the file has rows for, by name."""
        return sorted({_plain(row.region) for row in self.prices if row.cloud == cloud})

    def region(self, cloud: Cloud, wanted: str | None) -> str | None:
        """The region that prices are told for: the wanted one, or else the only one there is. None: it is not known."""
        if wanted is not None:
            return _plain(wanted)
        regions = self.regions(cloud)
        return regions[0] if len(regions) == 1 else None

    def price(self, size: str, cloud: Cloud, region: str | None = None) -> Price | None:
        """What that size costs there; None: unknown. Without a region: that of a file that is about one only."""
        place = self.region(cloud, region)
        row = self._index.get((cloud, place or "", size.lower()))
        if row is None:
            return None
        return Price(row.per_hour, row.currency, row.dated.isoformat(), row.source)

    def is_absent(self, size: str, cloud: Cloud, region: str | None = None) -> bool:
        """Whether the list of that place was read and does not have the size. Without a region: as for `price`."""
        return (cloud, self.region(cloud, region) or "", size.lower()) in self._absent

    def at(self, cloud: Cloud, region: str | None = None) -> Callable[[str], Price | None]:
        """Prices of sizes in one place."""
        return lambda size: self.price(size, cloud, region)


NO_PRICES: Final = Prices()


def cheapest_first(
    sizings: Iterable[Sizing], price: Callable[[str], Price | None]
) -> list[tuple[Sizing, Price | None]]:
    """Ways to serve, with what all their nodes cost, the cheapest first.

    Where the price of one is unknown, or currencies differ, nothing can be said of money: the least GPU memory comes
    first, then the fewest nodes and GPUs, then the smaller number in the name, which counts processors. Equal prices
    are told apart so too.
    """
    found = [(each, _of_all(each, price(each.machine.name))) for each in sizings]
    by_money = comparable(cost for _, cost in found)

    def order(pair: tuple[Sizing, Price | None]) -> tuple[Any, ...]:
        each, cost = pair
        money = cost.per_hour if by_money and cost is not None else 0.0
        return money, each.total_gib, each.nodes, each.machine.gpus, by_number(each.machine.name)

    return sorted(found, key=order)


def sold_first(
    sizings: Iterable[Sizing], price: Callable[[str], Price | None], absent: Callable[[str], bool]
) -> list[tuple[Sizing, Price | None]]:
    """The same of the sizes that the cloud sells there as far as is known, and after them of the others."""
    sold: list[Sizing] = []
    rest: list[Sizing] = []
    for each in sizings:
        (rest if absent(each.machine.name) else sold).append(each)
    return [*cheapest_first(sold, price), *cheapest_first(rest, price)]


def comparable(prices: Iterable[Price | None]) -> bool:
    """Whether all are known, in one currency."""
    currencies = {each.currency if each is not None else None for each in prices}
    return len(currencies) == 1 and None not in currencies


def by_number(size: str) -> tuple[tuple[str, int], ...]:
    """An order of names in which `NC4as` comes before `NC16as`, and `xlarge` before `2xlarge`."""
    counted = size.replace(".xlarge", ".1xlarge")
    return tuple((text, int(number or 0)) for text, number in _NUMBERS.findall(counted))


def _of_all(sizing: Sizing, price: Price | None) -> Price | None:
    return None if price is None else price.times(sizing.nodes)


def _key(row: PriceRow | AbsentRow) -> tuple[str, str, str]:
    return row.cloud, _plain(row.region), row.size.lower()


def _plain(region: str) -> str:
    """`West Europe` and `westeurope` are one."""
    return "".join(region.split()).lower()
