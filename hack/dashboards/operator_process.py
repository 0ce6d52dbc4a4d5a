"""Rows of the operator's dashboard about its processes: memory, leader, webhook."""

from __future__ import annotations

from hack.dashboards.model import Panel, Query, Row
from hack.dashboards.queries import POD, WINDOW, quantiles, rate

PROCESS = Row(
    "Processes",
    (
        Panel(
            "Resident memory",
            "timeseries",
            (Query(f"process_resident_memory_bytes{{{POD}}}", "{{pod}}"),),
            "Memory that the kernel counts towards the container's limit, nearly.",
            "A rise that never ends with a constant number of objects is a leak.",
            unit="bytes",
        ),
        Panel(
            "CPU",
            "timeseries",
            (Query(f"rate(process_cpu_seconds_total{{{POD}}}[{WINDOW}])", "{{pod}}"),),
            "Cores in use. Python reconciles on one core.",
            "Near 1 for minutes: the process is the bottleneck.",
            "KaitoLoopBlocked",
            thresholds=((0.9, "red"),),
        ),
        Panel(
            "Open files",
            "timeseries",
            (Query(f"process_open_fds{{{POD}}} / process_max_fds{{{POD}}}", "{{pod}}"),),
            "File descriptors, connections included, as a share of how many there may be.",
            "Rising without end: connections leak.",
            unit="percentunit",
            thresholds=((0.8, "red"),),
        ),
        Panel(
            "Starts",
            "timeseries",
            (Query(f"time() - process_start_time_seconds{{{POD}}}", "{{pod}} up for"),),
            "Time since each process started.",
            "A saw: it is restarted again and again. `kubectl -n kaito-system logs --previous` says why it ended.",
            "KaitoOperatorDown",
            unit="s",
        ),
        Panel(
            "Version",
            "table",
            (Query(f"max by (pod, version, python) (kaito_build_info{{{POD}}})"),),
            "What runs.",
            "Two versions for longer than a rollout takes: a rollout is stuck.",
            "KaitoTwoVersions",
            columns=(("pod", "Pod"), ("version", "KAITO"), ("python", "Python")),
        ),
        Panel(
            "Missing rights",
            "timeseries",
            (
                Query(f"max by (pod) (kaito_operator_missing_rights{{{POD}}})", "{{pod}} rights missing"),
                Query(
                    f"sum(increase(kaito_operator_fields_dropped_total{{{POD}}}[{WINDOW}]))", "fields dropped"
                ),
            ),
            "Rights that the API server refuses to the operator, and fields that it wrote and an older custom resource "
            "definition dropped, in the window.",
            "Above 0: apply manifests/rbac or manifests/crd of this version.",
            "KaitoCheckFailing",
            thresholds=((1, "red"),),
        ),
    ),
)

LEADER_AND_WEBHOOK = Row(
    "Leader and webhook",
    (
        Panel(
            "Who leads",
            "timeseries",
            (Query(f"leader_election_master_status{{{POD}}}", "{{pod}} {{name}}"),),
            "1: this process holds the Lease.",
            "Changes without a rollout: the API server is slow, or the process is starved of CPU.",
            "KaitoLeaseFlapping",
        ),
        Panel(
            "Admission decisions",
            "timeseries",
            (
                Query(
                    rate("kaito_webhook_decisions_total", POD, "webhook, decision"),
                    "{{webhook}} {{decision}}",
                ),
            ),
            "Objects allowed, allowed with a warning, refused, or failed on, a second.",
            "`failed` is a bug or a missing right. Many refused: somebody's pipeline applies something wrong.",
            "KaitoWebhookFailing",
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Admission requests by code",
            "timeseries",
            (
                Query(
                    rate("controller_runtime_webhook_requests_total", POD, "webhook, code"),
                    "{{webhook}} {{code}}",
                ),
                Query(
                    f"sum by (webhook) (controller_runtime_webhook_requests_in_flight{{{POD}}})",
                    "{{webhook}} in flight",
                ),
            ),
            "HTTP requests a second by the API server, and those being answered.",
            "Codes other than 200: what is sent is not an admission review.",
            "KaitoWebhookFailing",
            unit="reqps",
        ),
        Panel(
            "Time per admission",
            "timeseries",
            quantiles("controller_runtime_webhook_latency_seconds", POD, "webhook"),
            "Every `kubectl apply` of a Workspace waits that long.",
            "Near the webhook's timeout of 5 s the API server gives up asking.",
            "KaitoWebhookFailing",
            unit="s",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Certificate",
            "timeseries",
            (
                Query(
                    f"kaito_webhook_certificate_expiry_timestamp_seconds{{{POD}}} - time()",
                    "{{pod}} valid for",
                ),
            ),
            "How long the served certificate stays valid. It is renewed long before.",
            "Below a week nothing renews it; below 0 the webhook is not asked; CEL and the controller still check.",
            "KaitoWebhookCertificateExpiring",
            unit="s",
            signed=True,
            base="red",
            thresholds=((7 * 86400, "green"),),
        ),
        Panel(
            "Certificate reads and panics",
            "timeseries",
            (
                Query(f"sum(increase(certwatcher_read_certificate_total{{{POD}}}[{WINDOW}]))", "read"),
                Query(
                    f"sum(increase(certwatcher_read_certificate_errors_total{{{POD}}}[{WINDOW}]))",
                    "not readable",
                ),
                Query(f"sum(increase(controller_runtime_webhook_panics_total{{{POD}}}[{WINDOW}]))", "panics"),
                Query(
                    f"sum(increase(controller_runtime_conversion_webhook_panics_total{{{POD}}}[{WINDOW}]))",
                    "panics of conversion",
                ),
            ),
            "Certificate files read, and unforeseen exceptions of webhooks, in the window.",
            "A panic is a bug: the log has its traceback.",
            "KaitoWebhookFailing",
        ),
    ),
)
