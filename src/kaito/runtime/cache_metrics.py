"""What can be seen of caches from outside: whether they are complete, how old they are, and what went wrong.

A cache that silently stops following its collection is the worst that can happen to an operator: everything seems
to work, on the state of some hours ago. Alert on `kaito_informer_failing_seconds`, and on
`kaito_informer_age_seconds` above the server's watch timeout (600 s; 75 s where the server sends bookmarks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kaito.runtime.cache import InformerCache
from kaito.runtime.informer import Informer

LABELS = ("group", "version", "resource", "namespace", "selector")
"""`selector` holds the label and the field selector, and `metadata` for informers of metadata only."""

VERSION_DIGITS = 15
"""Last digits of a resourceVersion that are shown: what a metric's value can hold exactly (client-go)."""

_GAUGES: tuple[tuple[str, str, Callable[[Informer], float]], ...] = (
    ("objects", "Objects held.", lambda informer: len(informer.store)),
    (
        "synced",
        "Whether a complete list has been received (1) or never yet (0).",
        lambda informer: informer.has_synced,
    ),
    (
        "age_seconds",
        "Seconds since the API server was last heard of; -1 before its first answer.",
        lambda informer: -1.0 if informer.age is None else informer.age,
    ),
    (
        "failing",
        "Whether the last attempt to follow the collection failed (1) or it is being followed (0).",
        lambda informer: informer.last_error is not None,
    ),
    (
        "failing_seconds",
        "Seconds for which the collection could not be followed; 0 while it can.",
        lambda informer: informer.failing_for,
    ),
    (
        "resource_version",
        "Last 15 digits of the resourceVersion up to which everything is known; 0 where it is no number.",
        lambda informer: _version(informer.store.resource_version),
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[Informer], float]], ...] = (
    ("lists", "LIST requests.", lambda informer: informer.stats.lists),
    ("watches", "WATCH requests, streaming lists included.", lambda informer: informer.stats.watches),
    ("events", "Objects added, modified or deleted by watch events.", lambda informer: informer.stats.events),
    ("failures", "Failed requests and broken streams.", lambda informer: informer.stats.failures),
    (
        "silences",
        "Watches given up because nothing came any more.",
        lambda informer: informer.stats.silences,
    ),
    (
        "skipped",
        "Objects and events that could not be understood and were left out.",
        lambda informer: informer.stats.skipped,
    ),
    ("handler_failures", "Exceptions of event handlers.", lambda informer: informer.handler_failures),
)


class CacheMetrics:
    """The families of all informers of one cache, worked out when somebody asks."""

    def __init__(self, cache: InformerCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        informers = [(_labels(informer), informer) for informer in _one_per_label_set(self._cache)]
        for name, text, value in _GAUGES:
            gauge = GaugeMetricFamily(f"kaito_informer_{name}", text, labels=LABELS)
            for labels, informer in informers:
                gauge.add_metric(labels, float(value(informer)))
            yield gauge
        for name, text, value in _COUNTERS:
            counter = CounterMetricFamily(f"kaito_informer_{name}", text, labels=LABELS)
            for labels, informer in informers:
                counter.add_metric(labels, float(value(informer)))
            yield counter


def _one_per_label_set(cache: InformerCache) -> list[Informer]:
    """Informers that differ in their transform only would be the same series twice: the first one is shown."""
    return list({informer.selection: informer for informer in reversed(cache.informers)}.values())[::-1]


def _labels(informer: Informer) -> list[str]:
    selection = informer.selection
    resource = selection.resource
    selector = ";".join(
        text
        for text in (
            selection.label_selector,
            selection.field_selector,
            "metadata" if selection.metadata_only else "",
        )
        if text
    )
    return [resource.group, resource.version, resource.plural, selection.namespace or "", selector]


def _version(version: str) -> float:
    return float(version[-VERSION_DIGITS:]) if version.isdecimal() else 0.0
