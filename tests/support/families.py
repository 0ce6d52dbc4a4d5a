"""What programs show to Prometheus, as names of series with their labels: for tests of what is built on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from hack import families
from kaito_presets.server.metrics import Metrics
from kaito_presets.server.names import ModelNames

SCRAPE_LABELS = frozenset({"namespace", "pod", "job", "instance"})
"""What Prometheus adds to every series, as a ServiceMonitor or PodMonitor configures it."""
SERVER_LABELS = SCRAPE_LABELS | {"workspace"}
"""The same for inference servers."""


@dataclass(frozen=True)
class Family:
    """One family; `labels` without those that scraping adds and without `le`."""

    name: str
    series: frozenset[str]
    labels: frozenset[str]


@cache
def operator_families() -> tuple[Family, ...]:
    """Of `kaito operator` and `kaito provisioner` together."""
    return tuple(_family(each, families.labels(each)) for each in families.families().values())


@cache
def server_families() -> tuple[Family, ...]:
    """Of `kaito-serve`."""
    metrics = Metrics(ModelNames("preset", None, None, ()), "engine", "1")
    declared = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    named = {each._name: list(each._labelnames) for each in declared}
    return tuple(
        _family(each, named.get(each.name) or families.labels(each)) for each in metrics.registry.collect()
    )


def _family(metric: Metric, labels: list[str]) -> Family:
    return Family(metric.name, frozenset(families.series(metric)), frozenset(labels))
