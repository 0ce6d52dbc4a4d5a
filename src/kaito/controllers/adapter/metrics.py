"""What can be seen of Adapters from outside: how many could be read, why others could not, and how long that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from kaito.api.adapter import READY
from kaito.api.conditions import find_condition
from kaito.api.reasons import ADAPTER_REASONS, OTHER, Course
from kaito.runtime.histogram import Histogram
from kaito.runtime.resources import ObjectKey

STATES: Final = ("ready", "pending", "failed")
FAILURES: Final = tuple(reason for reason, course in ADAPTER_REASONS.items() if course is not Course.DONE)
SOURCES: Final = ("directory", "image")
RESULTS: Final = ("read", "unreadable")
READ_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds; from a small file in the page cache to an image of some gigabytes."""


def state(metadata: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[str, str]:
    """State of an Adapter, and the reason where it failed. What is known of an older spec does not count."""
    ready = find_condition(status.get("conditions"), READY) or {}
    seen = ready.get("observedGeneration")
    if seen is not None and seen < (metadata.get("generation") or 0):
        return "pending", ""
    match ready.get("status"):
        case "True":
            return "ready", ""
        case "False":
            reason = str(ready.get("reason"))
            return "failed", reason if reason in FAILURES else OTHER
    return "pending", ""


class AdapterMetrics:
    """The numbers of the adapter controller; a metric source for `RuntimeMetrics.add`."""

    def __init__(self) -> None:
        self._states: dict[ObjectKey, tuple[str, str]] = {}
        self._reads = {(source, result): 0 for source in SOURCES for result in RESULTS}
        self._seconds = {source: Histogram(READ_BUCKETS) for source in SOURCES}

    def saw(self, key: ObjectKey, metadata: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """One pass over an Adapter has ended; `status` is the one it now has."""
        self._states[key] = state(metadata, status)

    def gone(self, key: ObjectKey) -> None:
        """There is no such Adapter any more."""
        self._states.pop(key, None)

    def has_read(self, source: str, seconds: float, *, readable: bool) -> None:
        """Files were read, or could not be; `source` is one of SOURCES."""
        self._reads[source, RESULTS[0 if readable else 1]] += 1
        self._seconds[source].observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        states = Counter(state for state, _ in self._states.values())
        count = GaugeMetricFamily("kaito_adapter_count", "Adapters by state.", labels=["state"])
        for name in STATES:
            count.add_metric([name], states[name])
        yield count
        reasons = Counter(reason for _, reason in self._states.values())
        failures = GaugeMetricFamily(
            "kaito_adapter_failures", "Adapters that cannot be read, by reason.", labels=["reason"]
        )
        for reason in (*FAILURES, OTHER):
            failures.add_metric([reason], reasons[reason])
        yield failures
        reads = CounterMetricFamily(
            "kaito_adapter_reads",
            "Times that an Adapter's files were read, by where they are.",
            labels=["source", "result"],
        )
        for labels, number in self._reads.items():
            reads.add_metric(labels, number)
        yield reads
        seconds = HistogramMetricFamily(
            "kaito_adapter_read_seconds", "Seconds that reading an Adapter's files took.", labels=["source"]
        )
        for source, numbers in self._seconds.items():
            seconds.add_metric([source], numbers.buckets(), numbers.sum)
        yield seconds
