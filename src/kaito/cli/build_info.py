"""Which KAITO a process is, as a metric: dashboards show upgrades, alerts show replicas of two versions."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from kaito import __version__


class BuildInfo:
    """A metric source for `RuntimeMetrics.add`."""

    def collect(self) -> Iterator[Metric]:
        """One family, always 1."""
        info = GaugeMetricFamily(
            "kaito_build_info", "Always 1; the labels say which version runs.", labels=["version", "python"]
        )
        info.add_metric([__version__, platform.python_version()], 1)
        yield info
