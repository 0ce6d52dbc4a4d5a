"""controller-runtime's and client-go's metrics, so that existing dashboards and alerts work unchanged.

The hot path only touches plain numbers (an int, a list of bucket counts); `RuntimeMetrics` turns them into
Prometheus families when somebody scrapes. One `RuntimeMetrics` belongs to one manager: there is no global
registry, so two managers in one process, or a hundred in a test run, never collide. Label sets exist at 0
from the moment a controller does, so graphs have no gaps. Names, labels and buckets follow
controller-runtime's pkg/internal/controller/metrics and client-go's workqueue and REST client providers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kaito.runtime.histogram import Histogram
from kaito.runtime.rest_metrics import RestMetrics

RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0),
    *(40.0, 50.0, 60.0),
)
"""Seconds; buckets of controller_runtime_reconcile_time_seconds."""
QUEUE_BUCKETS = tuple(float(f"1e{power}") for power in range(-8, 4))
"""Seconds; the twelve buckets of both workqueue histograms."""
RESULTS = ("success", "error", "requeue", "requeue_after")
"""Values of the label `result` of controller_runtime_reconcile_total."""
MAX_PRIORITIES = 25
"""How many values the label `priority` of workqueue_depth may take before they share one."""
EXCEEDED = "exceeded_cardinality_limit"


_OWN_COUNTERS = (
    (
        "kaito_own_write_waits",
        "Reconciles that were held back until the caches had shown earlier writes.",
        "own_write_waits",
    ),
    (
        "kaito_own_write_timeouts",
        "Reconciles that ran although the caches had not shown earlier writes in time.",
        "own_write_timeouts",
    ),
    (
        "kaito_reconcile_loop_blocked",
        "Times that a reconcile kept the event loop waiting for longer than the limit.",
        "loop_blocked",
    ),
    (
        "kaito_reconcile_loop_blocked_seconds",
        "Seconds for which reconciles kept the event loop waiting, those times only.",
        "loop_blocked_seconds",
    ),
)
"""Counters that controller-runtime does not have: family, help, attribute of ControllerMetrics."""


def _no_starts() -> Iterable[float]:
    return ()


class MetricSource(Protocol):
    """Part of the runtime that measures something: keeps plain numbers, and shows them when asked."""

    def collect(self) -> Iterator[Metric]:
        """The families as they are now. Every label set that can be known in advance is there at 0."""
        ...


class QueueMetrics:
    """The numbers of one work queue. `starts` gives the clock readings at which running items were handed
    out.
    """

    __slots__ = ("adds", "depth", "queue_duration", "retries", "starts", "work_duration")

    def __init__(self) -> None:
        self.adds = 0
        self.retries = 0
        self.depth: defaultdict[int, int] = defaultdict(int)
        self.queue_duration = Histogram(QUEUE_BUCKETS)
        self.work_duration = Histogram(QUEUE_BUCKETS)
        self.starts: Callable[[], Iterable[float]] = _no_starts


class ControllerMetrics:
    """The numbers of one controller."""

    __slots__ = (
        *("active_workers", "errors", "loop_blocked", "loop_blocked_seconds", "max_workers"),
        *("own_write_timeouts", "own_write_waits", "panics", "reconcile_time", "results"),
        *("terminal_errors", "timeouts"),
    )

    def __init__(self) -> None:
        self.results: dict[str, int] = dict.fromkeys(RESULTS, 0)
        self.errors = 0
        self.terminal_errors = 0
        self.panics = 0
        self.timeouts = 0
        self.own_write_waits = 0
        self.own_write_timeouts = 0
        self.loop_blocked = 0
        self.loop_blocked_seconds = 0.0
        self.active_workers = 0
        self.max_workers = 0
        self.reconcile_time = Histogram(RECONCILE_BUCKETS)


class RuntimeMetrics(Collector):
    """Everything one manager measures, and the registry that `/metrics` shows.

    Add your own prometheus_client metrics to `registry`; it belongs to this manager alone.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` is the clock's monotonic reading, for the ages that are worked out at scrape time."""
        self.registry = CollectorRegistry(auto_describe=False)
        self.rest = RestMetrics()
        self.leader: dict[str, bool] = {}
        self._now = now
        self._queues: dict[str, QueueMetrics] = {}
        self._controllers: dict[str, ControllerMetrics] = {}
        self._sources: list[MetricSource] = []
        self.registry.register(self)
        # Memory, CPU time, open files; nothing where there is no /proc.
        ProcessCollector(registry=self.registry)

    def queue(self, name: str) -> QueueMetrics:
        """The numbers of the queue of the controller `name`, made at first use."""
        return self._queues.setdefault(name, QueueMetrics())

    @property
    def controllers(self) -> Mapping[str, ControllerMetrics]:
        """The numbers of all controllers, by name."""
        return self._controllers

    def controller(self, name: str) -> ControllerMetrics:
        """The numbers of the controller `name`, made at first use."""
        return self._controllers.setdefault(name, ControllerMetrics())

    def add(self, source: MetricSource) -> None:
        """Shows the families of `source` as well; adding it again changes nothing."""
        if source not in self._sources:
            self._sources.append(source)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the families depend on which controllers exist."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_controllers()
        yield from self._collect_queues()
        yield from self.rest.collect()
        leader = GaugeMetricFamily(
            "leader_election_master_status",
            "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, "
            "1 indicates master.",
            labels=["name"],
        )
        for name, leading in self.leader.items():
            leader.add_metric([name], float(leading))
        yield leader
        for source in self._sources:
            yield from source.collect()

    def _collect_controllers(self) -> Iterator[Metric]:
        prefix = "controller_runtime_"
        total = CounterMetricFamily(
            prefix + "reconcile",
            "Total number of reconciliations per controller",
            labels=["controller", "result"],
        )
        seconds = HistogramMetricFamily(
            prefix + "reconcile_time_seconds",
            "Length of time per reconciliation per controller",
            labels=["controller"],
        )
        for name, numbers in self._controllers.items():
            for result, count in numbers.results.items():
                total.add_metric([name, result], count)
            seconds.add_metric([name], numbers.reconcile_time.buckets(), numbers.reconcile_time.sum)
        yield total
        yield seconds
        for suffix, help_text, attribute in (
            ("reconcile_errors", "Total number of reconciliation errors per controller", "errors"),
            (
                "terminal_reconcile_errors",
                "Total number of terminal reconciliation errors per controller",
                "terminal_errors",
            ),
            ("reconcile_panics", "Total number of reconciliation panics per controller", "panics"),
            ("reconcile_timeouts", "Total number of reconciliation timeouts per controller", "timeouts"),
        ):
            counter = CounterMetricFamily(prefix + suffix, help_text, labels=["controller"])
            for name, numbers in self._controllers.items():
                counter.add_metric([name], getattr(numbers, attribute))
            yield counter
        for family, help_text, attribute in _OWN_COUNTERS:
            counter = CounterMetricFamily(family, help_text, labels=["controller"])
            for name, numbers in self._controllers.items():
                counter.add_metric([name], getattr(numbers, attribute))
            yield counter
        for suffix, help_text, attribute in (
            (
                "max_concurrent_reconciles",
                "Maximum number of concurrent reconciles per controller",
                "max_workers",
            ),
            ("active_workers", "Number of currently used workers per controller", "active_workers"),
        ):
            gauge = GaugeMetricFamily(prefix + suffix, help_text, labels=["controller"])
            for name, numbers in self._controllers.items():
                gauge.add_metric([name], getattr(numbers, attribute))
            yield gauge

    def _collect_queues(self) -> Iterator[Metric]:
        labels = ["name", "controller"]
        depth = GaugeMetricFamily(
            "workqueue_depth", "Current depth of workqueue", labels=[*labels, "priority"]
        )
        adds = CounterMetricFamily(
            "workqueue_adds", "Total number of adds handled by workqueue", labels=labels
        )
        retries = CounterMetricFamily(
            "workqueue_retries", "Total number of retries handled by workqueue", labels=labels
        )
        waited = HistogramMetricFamily(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested",
            labels=labels,
        )
        worked = HistogramMetricFamily(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes.",
            labels=labels,
        )
        unfinished = GaugeMetricFamily(
            "workqueue_unfinished_work_seconds",
            "How many seconds of work has been done that "
            "is in progress and hasn't been observed by work_duration.",
            labels=labels,
        )
        longest = GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds",
            "How many seconds has the longest running processor for workqueue been running.",
            labels=labels,
        )
        now = self._now()
        for name, numbers in self._queues.items():
            both = [name, name]
            for priority, count in _limit_priorities(numbers.depth).items():
                depth.add_metric([*both, priority], count)
            adds.add_metric(both, numbers.adds)
            retries.add_metric(both, numbers.retries)
            waited.add_metric(both, numbers.queue_duration.buckets(), numbers.queue_duration.sum)
            worked.add_metric(both, numbers.work_duration.buckets(), numbers.work_duration.sum)
            ages = [now - start for start in numbers.starts()]
            unfinished.add_metric(both, sum(ages))
            longest.add_metric(both, max(ages, default=0.0))
        yield from (depth, adds, retries, waited, worked, unfinished, longest)


def _limit_priorities(depth: dict[int, int]) -> dict[str, int]:
    """Depth by label value; priorities beyond the first `MAX_PRIORITIES` are summed under one label."""
    limited: dict[str, int] = {"0": 0}
    for priority, count in depth.items():
        label = str(priority)
        if label not in limited and len(limited) >= MAX_PRIORITIES:
            label = EXCEEDED
        limited[label] = limited.get(label, 0) + count
    return limited
