"""Rows of the dashboard of provisioning that only an AKS cluster fills: quota, and requests to the Resource Manager."""

from __future__ import annotations

from hack.dashboards.model import Panel, Query, Row
from hack.dashboards.queries import POD, quantiles, rate, total_rate

_REQUESTS = "kaito_provisioner_arm_requests_total"


def _quota(figure: str) -> str:
    return f"max by (family) (kaito_provisioner_quota_{figure}{{{POD}}})"


QUOTA = Row(
    "Quota (AKS)",
    (
        Panel(
            "Share of the quota",
            "timeseries",
            (
                Query(
                    f"({_quota('used')} + {_quota('promised')}) / ({_quota('limit')} > 0)",
                    "{{family}}",
                ),
            ),
            "Cores in use and promised, as a share of what the subscription may use: by family of machine sizes, for "
            "spot machines (lowPriorityCores), and for the region as a whole (cores).",
            "Near 100 %: the next claim of that family has to wait. Raise it before.",
            "KaitoQuotaWaiting",
            unit="percentunit",
            thresholds=((0.8, "yellow"), (1.0, "red")),
        ),
        Panel(
            "Cores that claims wait for",
            "timeseries",
            (Query(_quota("waiting"), "{{family}}"),),
            "Cores of claims that are not launched because the quota has no room for them.",
            "Above 0 for long: raise the quota, free machines, or name more sizes.",
            "KaitoQuotaWaiting",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Cores by limit, used and promised",
            "timeseries",
            (
                Query(_quota("limit"), "{{family}} limit"),
                Query(_quota("used"), "{{family}} used"),
                Query(_quota("promised"), "{{family}} promised"),
            ),
            "Promised: to claims that Azure may not count yet. A limit that Azure has not told is not drawn.",
            "Promised that never goes down: claims that are never launched.",
        ),
    ),
)

REQUESTS = Row(
    "Azure's Resource Manager (AKS)",
    (
        Panel(
            "Requests to the Resource Manager",
            "timeseries",
            (Query(rate(_REQUESTS, POD, "operation"), "{{operation}}"),),
            "Requests a second, by what is asked.",
            "Four or so for a claim, and a look now and then while its machine is made; more is not normal.",
            unit="reqps",
        ),
        Panel(
            "Answers of the Resource Manager",
            "timeseries",
            (
                Query(f"{rate(_REQUESTS, POD, 'code')} > 0", "{{code}}"),
                Query(total_rate(_REQUESTS, POD), "all"),
            ),
            "By class of the answer; only those that occur are drawn.",
            "429: Azure turns requests away. none: no answer, or no token. A 4xx for each new pool is normal.",
            "KaitoCloudThrottled",
            unit="reqps",
        ),
        Panel(
            "Time per request to the Resource Manager",
            "timeseries",
            quantiles("kaito_provisioner_arm_request_seconds", POD, "operation"),
            "Median and 99th percentile, without the wait for its turn.",
            "Seconds: Azure is slow, and everything waits with it.",
            unit="s",
            thresholds=((10, "red"),),
        ),
        Panel(
            "Agent pools at work",
            "timeseries",
            (
                Query(f"sum(kaito_provisioner_pools_changing{{{POD}}})", "changing"),
                Query(f"sum(kaito_provisioner_pools_waiting{{{POD}}})", "waiting for their turn"),
                Query(f"max(kaito_provisioner_pools_exclusive{{{POD}}})", "one at a time"),
                Query(f"sum(kaito_provisioner_pools_unavailable_offerings{{{POD}}})", "offerings left out"),
            ),
            "Pools that are made or deleted, and those behind them. One at a time: 1 if a second one is refused. "
            "Left out: sizes and zones without capacity lately.",
            "Many waiting, one at a time: normal for such a cluster, if slow. Many left out: the region is full.",
        ),
        Panel(
            "Requests in flight and waiting",
            "timeseries",
            (
                Query(f"sum(kaito_provisioner_arm_in_flight{{{POD}}})", "in flight"),
                Query(f"sum(kaito_provisioner_arm_waiting{{{POD}}})", "waiting"),
            ),
            "Waiting: because as many as may be are in flight (ARM_CALLS_IN_FLIGHT).",
            "Waiting for minutes: Azure is slow, or the limit is too low for so many claims.",
        ),
    ),
)
