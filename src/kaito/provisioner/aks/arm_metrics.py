"""What can be seen of the requests to the Resource Manager: how many, how they ended, how long they took.

Plain numbers; labels hold an operation of ours and a class of answers, never a name or Azure's own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from kaito.runtime.histogram import Histogram

OPERATIONS: Final = (
    "get_pool",
    "list_pools",
    "put_pool",
    "delete_pool",
    "get_cluster",
    "list_machines",
    "operation",
    "usages",
    "resource_skus",
)
NO_ANSWER: Final = "none"
CODES: Final = ("2xx", "3xx", "4xx", "429", "5xx", NO_ANSWER)
"""Values of the label `code`; `none`: no answer came, or no token was to be had. 429 is apart from 4xx."""
BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""


def code_class(status: int) -> str:
    """The value of the label `code` for an HTTP status."""
    return "429" if status == 429 else f"{status // 100}xx"


class ArmMetrics:
    """The numbers of one `Arm`; a metric source for `RuntimeMetrics.add`."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.waiting = 0
        self.seconds = {operation: Histogram(BUCKETS) for operation in OPERATIONS}
        self.answers = {operation: dict.fromkeys(CODES, 0) for operation in OPERATIONS}

    def ended(self, operation: str, code: str, seconds: float) -> None:
        """A request has ended. Raises KeyError for an operation or code that is not listed."""
        self.answers[operation][code] += 1
        self.seconds[operation].observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        prefix = "kaito_provisioner_arm_"
        requests = CounterMetricFamily(
            prefix + "requests",
            "Requests to Azure's Resource Manager, by how they ended.",
            labels=["operation", "code"],
        )
        seconds = HistogramMetricFamily(
            prefix + "request_seconds",
            "Seconds that requests to Azure's Resource Manager took, without the wait for their turn.",
            labels=["operation"],
        )
        for operation, answers in self.answers.items():
            for code, count in answers.items():
                requests.add_metric([operation, code], count)
            numbers = self.seconds[operation]
            seconds.add_metric([operation], numbers.buckets(), numbers.sum)
        yield from (requests, seconds)
        yield GaugeMetricFamily(
            prefix + "in_flight",
            "Requests to Azure's Resource Manager that have no answer yet.",
            self.in_flight,
        )
        yield GaugeMetricFamily(
            prefix + "waiting", "Requests that wait because as many as may be are in flight.", self.waiting
        )
