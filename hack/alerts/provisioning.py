"""Alerts on machines: what is asked of the cloud, and what comes of it."""

from __future__ import annotations

from hack.alerts.model import Alert, Group
from kaito.api.reasons import CLAIM_REASONS, Course

STUCK = "|".join(
    sorted(
        reason
        for reason, course in CLAIM_REASONS.items()
        if course is Course.STUCK and reason != "UnhealthyDependents"
    )
)
"""Reasons of claims that only a person can take away; the other one is the sum of these."""

GROUP = Group(
    "kaito-provisioning",
    "Machines that are not had, not used or not given back.",
    (
        Alert(
            "KaitoClaimNeedsHelp",
            f'sum by (kind, reason) (kaito_provisioner_claims_waiting{{reason=~"{STUCK}"}}) > 0',
            "10m",
            "warning",
            "Nodes cannot be had until somebody changes something.",
            "{{ $value }} {{ $labels.kind }}s have waited for 10 minutes with reason {{ $labels.reason }}.",
        ),
        Alert(
            "KaitoClaimStuck",
            "max by (kind, state) "
            '(kaito_provisioner_claim_oldest_seconds{state=~"launching|registering|initializing"})'
            " > 1800",
            "5m",
            "warning",
            "A machine has not become a usable node within half an hour.",
            "A {{ $labels.kind }} has been {{ $labels.state }} for {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "KaitoClaimStuckDeleting",
            'max by (kind) (kaito_provisioner_claim_oldest_seconds{state="deleting"}) > 1800',
            "5m",
            "critical",
            "A machine that nobody needs is not given back.",
            "A {{ $labels.kind }} has been on its way out for {{ $value | humanizeDuration }}; its machine "
            "may still cost money.",
        ),
        Alert(
            "KaitoCloudErrors",
            'sum by (reason) (rate(kaito_provisioner_cloud_errors_total{reason!="Throttled"}[15m]))'
            " / ignoring (reason) group_left sum(rate(kaito_provisioner_cloud_requests_total[15m])) > 0.5",
            "15m",
            "warning",
            "The cloud refuses most requests.",
            "{{ $value | humanizePercentage }} of the requests to the cloud have failed with "
            "{{ $labels.reason }} for 15 minutes.",
        ),
        Alert(
            "KaitoCloudThrottled",
            'sum(increase(kaito_provisioner_cloud_errors_total{reason="Throttled"}[15m])) > 20',
            "5m",
            "warning",
            "The cloud turns requests away because there are too many.",
            "{{ $value | humanize }} requests were turned away within 15 minutes: nodes come and go more "
            "slowly.",
        ),
        Alert(
            "KaitoClaimsGivenUp",
            "sum by (kind, reason) (increase(kaito_provisioner_claims_given_up_total[1h])) > 3",
            "1m",
            "warning",
            "Machines are given up one after the other.",
            "{{ $value | humanize }} {{ $labels.kind }}s were given up within an hour with reason "
            "{{ $labels.reason }}; each is replaced, and each costs money until then.",
        ),
        Alert(
            "KaitoQuotaWaiting",
            "max by (family) (kaito_provisioner_quota_waiting) > 0",
            "30m",
            "warning",
            "Machines are not launched for want of quota.",
            "Claims have waited for half an hour for {{ $value }} cores of the quota {{ $labels.family }}.",
        ),
        Alert(
            "KaitoLaunchesFailing",
            'sum by (reason) (increase(kaito_provisioner_cloud_errors_total{method="create",'
            'reason!~"Throttled|OperationInProgress|ClusterNotRunning"}[1h])) > 5 unless on () '
            '(sum(increase(kaito_provisioner_claim_stage_seconds_count{stage="launch"}[1h])) > 0)',
            "5m",
            "critical",
            "No machine has been launched for an hour, although it was tried again and again.",
            "{{ $value | humanize }} launches failed within an hour with {{ $labels.reason }}, and none succeeded.",
        ),
        Alert(
            "KaitoMachinesLeaked",
            "max(kaito_provisioner_orphan_instances) > 0",
            "15m",
            "critical",
            "Machines that belong to no claim are still there.",
            "{{ $value }} machines without a claim have not gone for 15 minutes; they cost money.",
        ),
        Alert(
            "KaitoRepairBlocked",
            "max(kaito_provisioner_repairs_blocked) > 0",
            "15m",
            "critical",
            "So many nodes are sick that none is replaced.",
            "{{ $value }} sick nodes are left alone because more than a fifth of all nodes is sick.",
        ),
        Alert(
            "KaitoProvisionerDown",
            "absent(kaito_provisioner_claims) and on () (sum(count_over_time(kaito_provisioner_claims[1d])) "
            "> 0)",
            "5m",
            "critical",
            "No provisioner is seen.",
            "Machines are neither made nor given back while no provisioner runs; models that are served go on.",
        ),
    ),
)
