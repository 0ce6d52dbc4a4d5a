"""Alerts on the operator itself: whether it runs, leads, keeps up and sees the cluster as it is."""

from __future__ import annotations

from hack.alerts.model import Alert, Group

OURS = 'controller=~"workspace|kaito-.+"'
QUEUES = 'name=~"workspace|kaito-.+"'
LEASES = 'name=~"kaito-.+"'


def _of_kaito(counter: str) -> str:
    """Sum of the rates of a counter that other controllers have as well, of KAITO's processes only."""
    return f"sum(rate({counter}[10m]) * on (job, instance) group_left () max by (job, instance) (kaito_build_info))"


RUNNING = Group(
    "kaito-running",
    "Whether the operator runs and one replica leads.",
    (
        Alert(
            "KaitoOperatorDown",
            "absent(kaito_workspace_count)",
            "5m",
            "critical",
            "No operator is seen.",
            "Workspaces are not looked after while no operator runs; models that are served go on.",
        ),
        Alert(
            "KaitoNoLeader",
            f"sum by (name) (leader_election_master_status{{{LEASES}}}) == 0",
            "2m",
            "critical",
            "No replica leads.",
            "Replicas of {{ $labels.name }} run, and none has had the lease for 2 minutes: nothing is "
            "reconciled.",
        ),
        Alert(
            "KaitoTwoLeaders",
            f"sum by (name) (leader_election_master_status{{{LEASES}}}) > 1",
            "1m",
            "critical",
            "More than one replica leads.",
            "{{ $value }} replicas of {{ $labels.name }} say that they have the lease.",
        ),
        Alert(
            "KaitoLeaseFlapping",
            f"sum by (name) (changes(leader_election_master_status{{{LEASES}}}[1h])) > 6",
            "1m",
            "warning",
            "The lease goes from replica to replica.",
            "The lead of {{ $labels.name }} has changed hands again and again within an hour ({{ $value }} "
            "turns).",
        ),
        Alert(
            "KaitoCheckFailing",
            "max by (check) (kaito_operator_check_failing) > 0",
            "5m",
            "critical",
            "The cluster lacks something that the operator needs.",
            "The check of {{ $labels.check }} fails: definitions are missing or older than the operator, "
            "or it lacks rights.",
        ),
        Alert(
            "KaitoFieldsDropped",
            "sum(increase(kaito_operator_fields_dropped_total[1h])) > 0",
            "0m",
            "warning",
            "The API server forgets what the operator writes.",
            "{{ $value | humanize }} fields were dropped within an hour: the custom resource definitions "
            "are older than the operator.",
        ),
        Alert(
            "KaitoTwoVersions",
            "count(count by (version) (kaito_build_info)) > 1",
            "30m",
            "warning",
            "Two versions of KAITO run.",
            "{{ $value }} versions have run side by side for 30 minutes: an upgrade has stopped half way.",
        ),
    ),
)

WORKING = Group(
    "kaito-working",
    "Whether the controllers keep up and see the cluster as it is.",
    (
        Alert(
            "KaitoReconcileErrors",
            f'sum by (controller) (rate(controller_runtime_reconcile_total{{{OURS},result="error"}}[15m]))'
            f" / sum by (controller) (rate(controller_runtime_reconcile_total{{{OURS}}}[15m])) > 0.1",
            "15m",
            "warning",
            "Reconciles fail.",
            "{{ $value | humanizePercentage }} of the reconciles of {{ $labels.controller }} have failed "
            "for 15 minutes.",
        ),
        Alert(
            "KaitoReconcilePanics",
            f"sum by (controller) (increase(controller_runtime_reconcile_panics_total{{{OURS}}}[15m])) > 0",
            "0m",
            "warning",
            "A reconcile ended in a way that nobody had foreseen.",
            "{{ $labels.controller }} came upon something that its code does not expect. The object is "
            "tried again, others go on.",
        ),
        Alert(
            "KaitoQueueDeep",
            f"sum by (name) (workqueue_depth{{{QUEUES}}}) > 500",
            "15m",
            "warning",
            "More work comes than is done.",
            "{{ $value }} objects have waited in the queue of {{ $labels.name }} for 15 minutes.",
        ),
        Alert(
            "KaitoQueueSlow",
            f"histogram_quantile(0.99, sum by (name, le) "
            f"(rate(workqueue_queue_duration_seconds_bucket{{{QUEUES}}}[10m])))"
            " > 60",
            "15m",
            "warning",
            "Objects wait long until they are looked at.",
            "One in a hundred objects waits {{ $value | humanizeDuration }} or longer in the queue of "
            "{{ $labels.name }}.",
        ),
        Alert(
            "KaitoCacheStale",
            "max by (resource) (kaito_informer_failing_seconds) > 300 or max by (resource) "
            "(kaito_informer_age_seconds) > 900",
            "1m",
            "critical",
            "The operator does not see the cluster as it is.",
            "Its copy of {{ $labels.resource }} has not been heard of for {{ $value | humanizeDuration }}: "
            "decisions rest on how things were then.",
        ),
        Alert(
            "KaitoApiServerErrors",
            _of_kaito('rest_client_requests_total{code=~"5..|429"}')
            + " / "
            + _of_kaito("rest_client_requests_total")
            + " > 0.1",
            "10m",
            "warning",
            "The API server turns requests away.",
            "{{ $value | humanizePercentage }} of KAITO's requests have been answered with an error of the "
            "server for 10 minutes.",
        ),
        Alert(
            "KaitoLoopBlocked",
            "sum by (controller) (increase(kaito_reconcile_loop_blocked_seconds_total[15m])) > 30",
            "5m",
            "warning",
            "A reconcile keeps everything else waiting.",
            "Reconciles of {{ $labels.controller }} kept the process from doing anything else for "
            "{{ $value | humanizeDuration }} within 15 minutes.",
        ),
    ),
)

ADMISSION = Group(
    "kaito-admission",
    "Whether the admission webhook answers, and what it says.",
    (
        Alert(
            "KaitoWebhookFailing",
            'sum by (webhook) (increase(kaito_webhook_decisions_total{decision="failed"}[10m]))'
            " + sum by (webhook) "
            '(increase(controller_runtime_webhook_requests_total{webhook=~"/validate-(workspace|adapter)"'
            ',code=~"5.."}[10m])) > 0',
            "5m",
            "critical",
            "The admission webhook fails.",
            "{{ $value | humanize }} reviews at {{ $labels.webhook }} got no decision within 10 minutes.",
        ),
        Alert(
            "KaitoWebhookUnreachable",
            "sum by (name) "
            '(increase(apiserver_admission_webhook_fail_open_count{name=~"(workspaces|adapters)[.]kaito[.]sh"}'
            "[10m])) > 0",
            "0m",
            "warning",
            "The API server could not ask the admission webhook.",
            "{{ $value | humanize }} changes were stored within 10 minutes without asking "
            "{{ $labels.name }}. The rules in the custom resource definitions were in force all the same.",
        ),
        Alert(
            "KaitoWebhookRefusing",
            'sum by (webhook) (increase(kaito_webhook_decisions_total{decision="refused"}[15m])) > 20'
            ' and sum by (webhook) (increase(kaito_webhook_decisions_total{decision="refused"}[15m]))'
            " / sum by (webhook) (increase(kaito_webhook_decisions_total[15m])) > 0.5",
            "15m",
            "warning",
            "Most of what is applied is refused.",
            "{{ $value | humanize }} objects were refused at {{ $labels.webhook }} within 15 minutes: "
            "something applies the same mistake again and again.",
        ),
        Alert(
            "KaitoWebhookCertificateExpiring",
            "min((kaito_webhook_certificate_expiry_timestamp_seconds > 0) - time()) < 604800",
            "10m",
            "warning",
            "The webhook's certificate ends soon and has not been renewed.",
            "It ends in {{ $value | humanizeDuration }}; after that the API server does not trust the "
            "webhook, and what it would have refused is stored.",
        ),
    ),
)
