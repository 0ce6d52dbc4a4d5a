"""The quota as metrics: what is allowed, used, promised and waited for, in cores.

Families are those of sizes with GPUs that claims have asked for, and the two totals of the region, so there are few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from kaito.provisioner.aks.ledger import Figures, Need, Short, judge

PREFIX: Final = "kaito_provisioner_quota_"


def quota_metrics(
    families: Sequence[str], figures: Figures | None, promised: Sequence[Need], line: Sequence[Need]
) -> Iterator[Metric]:
    """One family for each figure; the label `family` is the quota's name as Azure spells it.

    What the cloud has not told yet is left out of limit and used: a limit of 0 would be a statement. Cores that are
    waited for stand at the quota that is short of them.
    """
    limit = GaugeMetricFamily(PREFIX + "limit", "Cores that the subscription may use.", labels=["family"])
    used = GaugeMetricFamily(PREFIX + "used", "Cores in use by Azure's count.", labels=["family"])
    kept = GaugeMetricFamily(
        PREFIX + "promised", "Cores promised to claims that Azure may not count yet.", labels=["family"]
    )
    waiting = GaugeMetricFamily(PREFIX + "waiting", "Cores that claims wait for.", labels=["family"])
    short = _short(figures, promised, line)
    for family in families:
        quota = figures.of(family) if figures is not None else None
        if quota is not None:
            limit.add_metric([family], quota.limit)
            used.add_metric([family], quota.used)
        kept.add_metric([family], sum(need.cores for need in promised if family in need.quotas))
        waiting.add_metric([family], short[family.lower()])
    yield from (limit, used, kept, waiting)


def _short(figures: Figures | None, promised: Sequence[Need], line: Sequence[Need]) -> Counter[str]:
    found: Counter[str] = Counter()
    if figures is not None:
        for need, verdict in judge(figures, promised, line).items():
            if isinstance(verdict, Short):
                found[verdict.quota.name.lower()] += need.cores
    return found
