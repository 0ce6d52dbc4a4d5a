"""What the provider of agent pools tells of itself: its queue, and what it does not ask for at the moment."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from kaito.provisioner.aks.offerings import Unavailable
from kaito.provisioner.aks.queue import LaunchQueue, Mode


class PoolMetrics:
    """Source of `kaito_provisioner_pools_*`."""

    def __init__(self, queue: LaunchQueue, unavailable: Unavailable) -> None:
        self._queue = queue
        self._unavailable = unavailable

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "kaito_provisioner_pools_waiting",
            "Agent pools that wait for their turn to be made or deleted.",
            self._queue.waiting,
        )
        yield GaugeMetricFamily(
            "kaito_provisioner_pools_changing",
            "Agent pools that are being made, changed or deleted.",
            self._queue.running,
        )
        yield GaugeMetricFamily(
            "kaito_provisioner_pools_exclusive",
            "1 where the cluster was seen to take one operation at a time.",
            self._queue.mode is Mode.EXCLUSIVE,
        )
        yield GaugeMetricFamily(
            "kaito_provisioner_pools_unavailable_offerings",
            "Machine sizes, spot or on-demand and by zone, that lately could not be had and are not asked for.",
            len(self._unavailable),
        )
