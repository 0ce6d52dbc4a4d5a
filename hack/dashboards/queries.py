"""The expressions that panels are made of, so that every panel rates, sums and ranks in the same way.

`$__rate_interval` is Grafana's: at least four times the scrape interval.
"""

from __future__ import annotations

from hack.dashboards.model import Query

POD = 'namespace=~"$namespace",job=~"$job",pod=~"$pod"'
"""The processes that were chosen at the top."""
WINDOW = "$__rate_interval"
QUANTILES = ((0.5, "p50"), (0.99, "p99"))


def rate(metric: str, where: str, by: str) -> str:
    """Per second, summed over everything but `by`."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[{WINDOW}]))"


def total_rate(metric: str, where: str) -> str:
    return f"sum(rate({metric}{{{where}}}[{WINDOW}]))"


def increase(metric: str, where: str, by: str) -> str:
    """What was gained in the window."""
    return f"sum by ({by}) (increase({metric}{{{where}}}[{WINDOW}]))"


def whole(counter: str, where: str) -> str:
    """What each counter gained in the last five minutes, as the whole number that Prometheus extrapolates from."""
    return f"round(increase({counter}{{{where}}}[5m]))"


def quantile(q: float, histogram: str, where: str, by: str = "") -> str:
    """The q-quantile of a histogram's observations in the window, for each `by`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, {rate(histogram + '_bucket', where, labels)})"


def quantiles(histogram: str, where: str, by: str = "") -> tuple[Query, ...]:
    """Median and 99th percentile."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ")) + " " if by else ""
    return tuple(Query(quantile(q, histogram, where, by), f"{legend}{name}") for q, name in QUANTILES)


def ratio(part: str, whole: str) -> str:
    """A share that is 0, not empty, while nothing happens."""
    return f"({part}) / ({whole} > 0) or ({whole}) * 0"
