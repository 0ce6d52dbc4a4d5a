"""client-go's metrics of a REST client: how many requests, how long, how large, how often repeated.

Names, labels and buckets are those that client-go's adapters in component-base register. A client's observer
feeds them, one call per HTTP exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from kaito.runtime.histogram import Histogram
from kaito.runtime.rest import Observer, RequestRecord

REQUEST_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds; buckets of rest_client_request_duration_seconds."""
SIZE_BUCKETS = (
    *(64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0),
    *(1048576.0, 4194304.0, 16777216.0),
)
"""Bytes; buckets of rest_client_request_size_bytes and rest_client_response_size_bytes."""

Pair = tuple[str, str]


class RestMetrics:
    """Requests by (code, method, host). The code of a request that got no answer is `<error>`, as in
    client-go.
    """

    __slots__ = ("durations", "request_sizes", "requests", "response_sizes", "retries")

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str], int] = {}
        self.retries: dict[tuple[str, str, str], int] = {}
        self.durations: dict[Pair, Histogram] = {}
        self.request_sizes: dict[Pair, Histogram] = {}
        self.response_sizes: dict[Pair, Histogram] = {}

    def observer(self, host: str) -> Observer:
        """What to give a client as its observer; `host` is the label value for the server it talks to.

        A watch counts as a request, but how long it stayed open is no latency and what it carried no size.
        Repetitions are counted by the code of what they led to.
        """

        def observe(record: RequestRecord) -> None:
            key = (record.code, record.method, host)
            self.requests[key] = self.requests.get(key, 0) + 1
            if record.attempt:
                self.retries[key] = self.retries.get(key, 0) + 1
            if record.watch:
                return
            pair = (record.method, host)
            _observe(self.durations, pair, REQUEST_BUCKETS, record.duration)
            _observe(self.request_sizes, pair, SIZE_BUCKETS, record.request_size)
            if record.response_size is not None:
                _observe(self.response_sizes, pair, SIZE_BUCKETS, record.response_size)

        return observe

    def collect(self) -> Iterator[Metric]:
        """The families for a scrape."""
        yield _counter(
            "rest_client_requests",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            "method",
            self.requests,
        )
        yield _counter(
            "rest_client_request_retries",
            "Number of request retries, partitioned by status code, verb, and host.",
            "verb",
            self.retries,
        )
        for name, text, histograms in (
            ("request_duration_seconds", "Request latency in seconds.", self.durations),
            ("request_size_bytes", "Request size in bytes.", self.request_sizes),
            ("response_size_bytes", "Response size in bytes.", self.response_sizes),
        ):
            family = HistogramMetricFamily(
                f"rest_client_{name}", f"{text} Broken down by verb, and host.", labels=["verb", "host"]
            )
            for pair, histogram in histograms.items():
                family.add_metric(pair, histogram.buckets(), histogram.sum)
            yield family


def _observe(histograms: dict[Pair, Histogram], pair: Pair, bounds: tuple[float, ...], value: float) -> None:
    histogram = histograms.get(pair)
    if histogram is None:
        histogram = histograms[pair] = Histogram(bounds)
    histogram.observe(value)


def _counter(
    name: str, text: str, method_label: str, counts: Mapping[tuple[str, str, str], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["code", method_label, "host"])
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family
