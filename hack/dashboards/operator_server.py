"""Rows of the operator's dashboard about the API server as the operator sees it: caches and requests."""

from __future__ import annotations

from hack.dashboards.model import Panel, Query, Row
from hack.dashboards.queries import POD, WINDOW, increase, quantile, quantiles, rate, ratio, total_rate

CACHES = Row(
    "Caches",
    (
        Panel(
            "Age",
            "timeseries",
            (Query(f"max by (resource) (kaito_informer_age_seconds{{{POD}}})", "{{resource}}"),),
            "Time since the API server was last heard of. Bookmarks come about once a minute.",
            "A line that rises beyond 75 s has lost its watch without noticing; at 600 s it is given up.",
            "KaitoCacheStale",
            unit="s",
            thresholds=((600, "red"),),
        ),
        Panel(
            "Failing",
            "timeseries",
            (
                Query(f"max by (resource) (kaito_informer_failing_seconds{{{POD}}})", "{{resource}} for"),
                Query(f"max by (resource) (kaito_informer_failing{{{POD}}})", "{{resource}} (0 or 1)"),
            ),
            "For how long a collection could not be followed.",
            "Above a minute: a right or a custom resource is missing, or the server is away. The log says which.",
            "KaitoCacheStale",
            unit="s",
            thresholds=((60, "red"),),
        ),
        Panel(
            "Objects",
            "timeseries",
            (Query(f"max by (resource) (kaito_informer_objects{{{POD}}})", "{{resource}}"),),
            "Objects held, by collection.",
            "Memory grows with them.",
        ),
        Panel(
            "Events",
            "timeseries",
            (Query(rate("kaito_informer_events_total", POD, "resource"), "{{resource}}"),),
            "Objects added, modified or deleted a second, as watches told.",
            "Many without anybody at work: two writers fight over an object.",
            unit="ops",
        ),
        Panel(
            "Lists and watches",
            "timeseries",
            (
                Query(increase("kaito_informer_lists_total", POD, "resource"), "{{resource}} lists"),
                Query(increase("kaito_informer_watches_total", POD, "resource"), "{{resource}} watches"),
            ),
            "Requests that begin to follow a collection, in the window. A watch is renewed every 5 to 10 minutes.",
            "Many lists burden the API server: watches break, or expire before they are renewed.",
        ),
        Panel(
            "What went wrong",
            "timeseries",
            (
                Query(increase("kaito_informer_failures_total", POD, "resource"), "{{resource}} failures"),
                Query(increase("kaito_informer_silences_total", POD, "resource"), "{{resource}} silences"),
                Query(increase("kaito_informer_skipped_total", POD, "resource"), "{{resource}} skipped"),
                Query(
                    increase("kaito_informer_handler_failures_total", POD, "resource"),
                    "{{resource}} handlers",
                ),
            ),
            "Failed requests, watches on which nothing came any more, objects that could not be understood, and "
            "exceptions of handlers, in the window.",
            "Failures come with every restart of the API server. Skipped objects and failed handlers never should.",
            "KaitoCacheStale",
        ),
        Panel(
            "Complete",
            "timeseries",
            (Query(f"min by (resource) (kaito_informer_synced{{{POD}}})", "{{resource}}"),),
            "1 once a complete list has been received.",
            "At 0 the controllers wait: nothing is reconciled.",
            "KaitoCacheStale",
            width=12,
        ),
        Panel(
            "Apart between replicas",
            "timeseries",
            (
                Query(
                    f"max by (resource) (kaito_informer_resource_version{{{POD}}})"
                    f" - min by (resource) (kaito_informer_resource_version{{{POD}}} > 0)",
                    "{{resource}}",
                ),
            ),
            "How far the caches of the processes are apart, in resource versions. One process: 0.",
            "Apart and staying so: one of them does not follow the collection any more.",
            "KaitoCacheStale",
            width=12,
        ),
    ),
)

REQUESTS = Row(
    "Requests to the API server",
    (
        Panel(
            "Requests by method and code",
            "timeseries",
            (Query(rate("rest_client_requests_total", POD, "method, code"), "{{method}} {{code}}"),),
            "HTTP requests a second, watches included. `<error>`: no answer came.",
            "409 now and then is normal. 403: a right is missing. 429: the server throttles. 5xx: it is in trouble.",
            "KaitoApiServerErrors",
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Refused or failed",
            "timeseries",
            (
                Query(
                    ratio(
                        total_rate("rest_client_requests_total", f'{POD},code!~"[123]..|404|409|410"'),
                        total_rate("rest_client_requests_total", POD),
                    ),
                    "share",
                ),
            ),
            "The share of requests that were answered with an error other than 404, 409 and 410, or not at all.",
            "Anything that stays: rights, throttling, or a server in trouble.",
            "KaitoApiServerErrors",
            unit="percentunit",
            thresholds=((0.05, "red"),),
        ),
        Panel(
            "Time per request",
            "timeseries",
            quantiles("rest_client_request_duration_seconds", POD, "verb"),
            "Median and 99th percentile, without watches.",
            "Above a second the API server or etcd is overloaded.",
            "KaitoApiServerErrors",
            unit="s",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Sent again",
            "timeseries",
            (
                Query(
                    f"sum(rate(rest_client_request_retries_total{{{POD}}}[{WINDOW}])) or vector(0)", "retries"
                ),
            ),
            "Requests a second that were repeated.",
            "The server was away or asked to wait.",
            unit="reqps",
            width=12,
        ),
        Panel(
            "Sizes",
            "timeseries",
            (
                Query(quantile(0.99, "rest_client_request_size_bytes", POD, "verb"), "{{verb}} sent p99"),
                Query(
                    quantile(0.99, "rest_client_response_size_bytes", POD, "verb"), "{{verb}} received p99"
                ),
            ),
            "99th percentile of bodies.",
            "Large answers to LIST at every restart are normal; large writes are objects near the limit of 1.5 MB.",
            unit="bytes",
            width=12,
        ),
    ),
)
