"""What can be seen from outside of how nodes end: drains, evictions, what is left over, repairs held back."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kaito.controllers.machine.collector import GarbageCollector
from kaito.controllers.machine.drain_watch import DrainWatch
from kaito.controllers.machine.repair import NodeRepair

PREFIX = "kaito_provisioner_"


class EndMetrics:
    """A metric source for `RuntimeMetrics.add`."""

    def __init__(self, drains: DrainWatch, collector: GarbageCollector, repair: NodeRepair) -> None:
        self._drains = drains
        self._collector = collector
        self._repair = repair

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        evictions = CounterMetricFamily(
            PREFIX + "evictions",
            "Evictions asked for while nodes were drained; refused: by a disruption budget.",
            labels=["result"],
        )
        for result, count in self._drains.evictions.items():
            evictions.add_metric([result], count)
        yield evictions
        yield CounterMetricFamily(
            PREFIX + "nodes_drained", "Nodes that were drained before they ended.", value=self._drains.drained
        )
        yield GaugeMetricFamily(
            PREFIX + "orphan_instances",
            "Machines in the cloud without a claim, at the last look.",
            value=self._collector.leaked,
        )
        yield CounterMetricFamily(
            PREFIX + "orphans_deleted",
            "Machines that were ended because their claim was gone.",
            value=self._collector.ended,
        )
        yield GaugeMetricFamily(
            PREFIX + "repairs_blocked",
            "Unhealthy nodes that are not replaced because too many are unhealthy.",
            value=len(self._repair.blocked),
        )
