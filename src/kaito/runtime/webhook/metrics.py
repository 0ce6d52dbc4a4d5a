"""The numbers of a webhook server under controller-runtime's names (pkg/webhook, pkg/certwatcher), and two families of
its own: what was decided, and when the serving certificate ends."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from kaito.runtime.histogram import Histogram

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; Prometheus' default buckets, which controller-runtime uses here."""
DECISIONS = ("allowed", "warned", "refused", "failed")
"""Values of the label `decision`: `warned` is allowed with warnings; `failed` is refused because a handler failed or
took too long."""


class HookMetrics:
    """The numbers of one path."""

    __slots__ = ("decisions", "in_flight", "latency", "panics", "requests")

    def __init__(self) -> None:
        self.requests: dict[int, int] = {200: 0, 500: 0}
        """By HTTP status. A denial is a 200: the review was answered."""
        self.decisions = dict.fromkeys(DECISIONS, 0)
        self.in_flight = 0
        self.panics = 0
        self.latency = Histogram(LATENCY_BUCKETS)


class WebhookMetrics:
    """Everything one webhook server measures; a metric source for `RuntimeMetrics.add`."""

    def __init__(self) -> None:
        self.certificate_reads = 0
        self.certificate_errors = 0
        self.certificate_expiry = 0.0
        """Seconds since 1970; 0.0 while none is served."""
        self._hooks: dict[str, HookMetrics] = {}
        self._conversions: HookMetrics | None = None

    def hook(self, path: str, *, conversion: bool = False) -> HookMetrics:
        """The numbers of a path, at 0 from now on."""
        hook = self._hooks.setdefault(path, HookMetrics())
        if conversion:
            self._conversions = hook
        return hook

    def collect(self) -> Iterator[Metric]:
        """The families, as prometheus_client wants them."""
        prefix = "controller_runtime_webhook_"
        latency = HistogramMetricFamily(
            f"{prefix}latency_seconds",
            "Histogram of the latency of processing admission requests",
            labels=["webhook"],
        )
        requests = CounterMetricFamily(
            f"{prefix}requests",
            "Total number of admission requests by HTTP status code.",
            labels=["webhook", "code"],
        )
        in_flight = GaugeMetricFamily(
            f"{prefix}requests_in_flight",
            "Current number of admission requests being served.",
            labels=["webhook"],
        )
        for path, numbers in self._hooks.items():
            latency.add_metric([path], numbers.latency.buckets(), numbers.latency.sum)
            for code, count in sorted(numbers.requests.items()):
                requests.add_metric([path, str(code)], count)
            in_flight.add_metric([path], numbers.in_flight)
        yield from (latency, requests, in_flight)
        yield from self._own()
        panics = CounterMetricFamily(f"{prefix}panics", "Total number of webhook panics")
        panics.add_metric(
            [], sum(each.panics for each in self._hooks.values() if each is not self._conversions)
        )
        yield panics
        conversions = CounterMetricFamily(
            "controller_runtime_conversion_webhook_panics", "Total number of conversion webhook panics"
        )
        conversions.add_metric([], self._conversions.panics if self._conversions else 0)
        yield conversions
        for name, text, value in (
            ("certwatcher_read_certificate", "Total number of certificate reads", self.certificate_reads),
            (
                "certwatcher_read_certificate_errors",
                "Total number of certificate read errors",
                self.certificate_errors,
            ),
        ):
            family = CounterMetricFamily(name, text)
            family.add_metric([], value)
            yield family

    def _own(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "kaito_webhook_decisions",
            "Admission reviews by what was decided.",
            labels=["webhook", "decision"],
        )
        for path, numbers in self._hooks.items():
            if numbers is not self._conversions:
                for decision, count in numbers.decisions.items():
                    decisions.add_metric([path, decision], count)
        yield decisions
        expiry = GaugeMetricFamily(
            "kaito_webhook_certificate_expiry_timestamp_seconds",
            "When the certificate that is served ends, in seconds since 1970; 0 while none is.",
        )
        expiry.add_metric([], self.certificate_expiry)
        yield expiry
