"""Numbers as people read them: with their unit, and at round places of an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SUFFIXES = {"reqps": " req/s", "ops": " ops/s", "percentunit": " %", "short": ""}


def shown(value: float, unit: str) -> str:
    """A value with Grafana's unit of that name, to three digits."""
    if not math.isfinite(value):
        return "no value"
    match unit:
        case "s":
            return _scaled(value, _SECONDS, "s")
        case "bytes":
            return _scaled(value, _BYTES, "B")
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "currencyUSD":
            return f"${value:,.2f}" if abs(value) < 1000 else f"${value:,.0f}"
        case _:
            return _scaled(value, _COUNTS, "").replace(" ", "") + _SUFFIXES[unit]


def _scaled(value: float, steps: Sequence[tuple[float, str]], zero: str) -> str:
    if value == 0:
        return f"0 {zero}".strip()
    size, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    number = value / size
    digits = f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
    return f"{digits} {name}".strip()


def ticks(top: float, unit: str, count: int = 4) -> list[float]:
    """Round values from 0 to the first at or above `top`."""
    base = 2.0**10 if unit == "bytes" else 10.0
    if unit == "s" and top > 60:
        base = 60.0
    rough = max(top, 1e-9) / count
    power = base ** math.floor(math.log(rough, base))
    factors = (1, 2, 2.5, 5, 10, 15, 20, 30, 60, 100, 128, 200, 256, 500, 512, 1024)
    step = next(power * factor for factor in factors if power * factor >= rough * 0.999)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)] if top > 0 else [0.0, step]
