"""Where commands on a workstation find prices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kaito.catalog.prices import Price, Prices
from kaito.cli.flags import PRICES_FILE


def read(named: Path | None) -> Prices:
    """Those of the file that is named, or else of the one that `kaito prices update` writes, if it is there.

    Raises PricesError for a file that holds something else.
    """
    if named is None and PRICES_FILE.exists():
        named = PRICES_FILE
    return Prices.load(named)


def price_json(price: Price | None) -> dict[str, Any] | None:
    """Null where it is not known."""
    if price is None:
        return None
    return {
        "perHour": round(price.per_hour, 6),
        "perMonth": round(price.per_month, 2),
        "currency": price.currency,
        "dated": price.dated,
        "source": price.source,
    }
