"""Metrics: names, labels and buckets of controller-runtime and client-go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from kaito.runtime.client import RequestRecord
from kaito.runtime.metrics import Histogram, RuntimeMetrics


def scrape(metrics: RuntimeMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc to read them from")
def test_the_process_is_measured_too() -> None:
    shown = scrape(RuntimeMetrics(lambda: 0.0))
    assert shown["process_resident_memory_bytes", ()] > 1_000_000
    assert ("process_cpu_seconds_total", ()) in shown


def test_a_histogram_counts_values_up_to_and_including_each_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 99.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert (histogram.count, histogram.sum) == (4, 102.0)


def test_every_label_set_is_there_from_the_start() -> None:
    metrics = RuntimeMetrics(lambda: 0.0)
    metrics.controller("ws")
    metrics.queue("ws")
    metrics.leader["lease"] = False
    found = scrape(metrics)
    one, both = (("controller", "ws"),), (("controller", "ws"), ("name", "ws"))
    expected = {
        *(
            ("controller_runtime_reconcile_total", (("controller", "ws"), ("result", result)))
            for result in ("success", "error", "requeue", "requeue_after")
        ),
        *(
            (f"controller_runtime_{name}", one)
            for name in (
                "reconcile_errors_total",
                "terminal_reconcile_errors_total",
                "reconcile_panics_total",
                "reconcile_timeouts_total",
                "reconcile_time_seconds_count",
                "max_concurrent_reconciles",
                "active_workers",
            )
        ),
        *(
            (f"workqueue_{name}", both)
            for name in (
                "adds_total",
                "retries_total",
                "queue_duration_seconds_count",
                "work_duration_seconds_count",
                "unfinished_work_seconds",
                "longest_running_processor_seconds",
            )
        ),
        *(
            (f"kaito_{name}", one)
            for name in (
                "own_write_waits_total",
                "own_write_timeouts_total",
                "reconcile_loop_blocked_total",
                "reconcile_loop_blocked_seconds_total",
            )
        ),
        ("workqueue_depth", (*both, ("priority", "0"))),
        ("leader_election_master_status", (("name", "lease"),)),
    }
    assert expected <= set(found)
    assert {found[key] for key in expected} == {0.0}


def test_buckets_are_those_of_the_go_libraries() -> None:
    metrics = RuntimeMetrics(lambda: 0.0)
    metrics.controller("ws")
    metrics.queue("ws")

    def bounds(name: str) -> list[str]:
        return [dict(labels)["le"] for found, labels in scrape(metrics) if found == f"{name}_bucket"]

    reconcile = bounds("controller_runtime_reconcile_time_seconds")
    assert (len(reconcile), reconcile[0], reconcile[-2:]) == (41, "0.005", ["60.0", "+Inf"])
    queue = bounds("workqueue_queue_duration_seconds")
    assert (len(queue), queue[0], queue[-2:]) == (13, "1e-08", ["1000.0", "+Inf"])


def test_running_work_is_measured_when_somebody_looks() -> None:
    metrics = RuntimeMetrics(lambda: 100.0)
    metrics.queue("ws").starts = lambda: [90.0, 97.0]
    found = scrape(metrics)
    both = (("controller", "ws"), ("name", "ws"))
    assert found["workqueue_unfinished_work_seconds", both] == 13.0
    assert found["workqueue_longest_running_processor_seconds", both] == 10.0


def test_many_priorities_share_one_label() -> None:
    metrics = RuntimeMetrics(lambda: 0.0)
    metrics.queue("ws").depth.update(dict.fromkeys(range(1, 31), 1))
    depth = {
        dict(labels)["priority"]: value
        for (name, labels), value in scrape(metrics).items()
        if name == "workqueue_depth"
    }
    assert len(depth) == 26
    assert depth["exceeded_cardinality_limit"] == 6.0


def test_requests_are_counted_and_watches_have_no_latency() -> None:
    metrics = RuntimeMetrics(lambda: 0.0)
    observe = metrics.rest.observer("api:6443")
    observe(RequestRecord("GET", "/api/v1/pods", "200", "me", 0.3))
    observe(RequestRecord("GET", "/api/v1/pods", "200", "me", 600.0, watch=True))
    observe(RequestRecord("PUT", "/api/v1/pods/x", "<error>", "me", 1.0))
    found = scrape(metrics)
    get = (("code", "200"), ("host", "api:6443"), ("method", "GET"))
    failed = (("code", "<error>"), ("host", "api:6443"), ("method", "PUT"))
    assert found["rest_client_requests_total", get] == 2
    assert found["rest_client_requests_total", failed] == 1
    seconds = "rest_client_request_duration_seconds_sum", (("host", "api:6443"), ("verb", "GET"))
    assert found[seconds] == pytest.approx(0.3)


def test_other_parts_add_their_own_families() -> None:
    class Source:
        def collect(self) -> Iterator[Metric]:
            family = GaugeMetricFamily("demo_age_seconds", "An age.", labels=["what"])
            family.add_metric(["cheese"], 3.0)
            yield family

    metrics, source = RuntimeMetrics(lambda: 0.0), Source()
    metrics.add(source)
    metrics.add(source)
    assert scrape(metrics)["demo_age_seconds", (("what", "cheese"),)] == 3.0
    assert sum(family.name == "demo_age_seconds" for family in metrics.collect()) == 1


def test_managers_do_not_share_metrics() -> None:
    first, second = RuntimeMetrics(lambda: 0.0), RuntimeMetrics(lambda: 0.0)
    first.controller("ws").errors += 1
    assert scrape(second).get(("controller_runtime_reconcile_errors_total", (("controller", "ws"),))) is None
