"""When each alert fires, and when it does not: series in promtool's notation, one sample a minute.

`1x3` is 1 and three more of it, `0+2x9` is 0, 2, 4 and so on, `_` is no sample, `stale` the end of a series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """One alert. It must not fire in the minute before `minute`, must fire then, and never fires for `quiet`."""

    series: Series
    minute: int
    quiet: Mapping[str, Series]
    labels: Mapping[str, str] = field(default_factory=dict)


CLOUD = "kaito_provisioner_cloud_"
RECONCILES = "controller_runtime_reconcile_total"
WAITED = "workqueue_queue_duration_seconds_bucket"
LEADER = "leader_election_master_status"
REVIEWS = "kaito_webhook_decisions_total"
PATH = "/validate-workspace"


def _weights(preset: str, *values: str) -> Series:
    """Servers of a preset, with what their weights take."""
    found: dict[str, str] = {}
    for pod, each in zip("abc", values, strict=False):
        found[f'kaito_model_memory_bytes{{namespace="n",pod="{pod}",part="weights"}}'] = each
        found[f'kaito_model_memory_bytes{{namespace="n",pod="{pod}",part="cache"}}'] = "99x80"
        found[f'kaito_model_info{{namespace="n",pod="{pod}",preset="{preset}",stand_in=""}}'] = "1x80"
    return found


WORKSPACES = {
    "KaitoWorkspaceInterrupted": Case(
        {'kaito_workspace_interrupted{pod="a"}': "0x4 1x40", 'kaito_workspace_interrupted{pod="b"}': "0x50"},
        10,
        {
            "nothing is interrupted": {'kaito_workspace_interrupted{pod="a"}': "0x60"},
            "only four minutes": {'kaito_workspace_interrupted{pod="a"}': "0x4 1x4 0x60"},
        },
    ),
    "KaitoWorkspaceStuckPending": Case(
        {'kaito_workspace_phase_oldest_seconds{phase="pending"}': "0+60x120"},
        66,
        {
            "an hour and no more": {'kaito_workspace_phase_oldest_seconds{phase="pending"}': "3600x120"},
            "another phase": {'kaito_workspace_phase_oldest_seconds{phase="succeeded"}': "99999x120"},
        },
    ),
    "KaitoWorkspaceError": Case(
        {'kaito_workspace_count{phase="error"}': "0x4 2x60"},
        20,
        {
            "they only start": {'kaito_workspace_count{phase="pending"}': "5x60"},
            "mended soon": {'kaito_workspace_count{phase="error"}': "0x4 2x14 0x60"},
        },
    ),
    "KaitoWorkspaceStuckDeleting": Case(
        {'kaito_workspace_phase_oldest_seconds{phase="deleting"}': "0+60x120"},
        36,
        {"half an hour": {'kaito_workspace_phase_oldest_seconds{phase="deleting"}': "1800x120"}},
    ),
    "KaitoGpuMemoryTooSmall": Case(
        {
            'kaito_workspace_gpu_memory_estimated_bytes{preset_name="phi"}': "0x4 20x60",
            'kaito_workspace_gpu_memory_capacity_bytes{preset_name="phi"}': "16x64",
        },
        15,
        {
            "just enough": {
                'kaito_workspace_gpu_memory_estimated_bytes{preset_name="phi"}': "16x60",
                'kaito_workspace_gpu_memory_capacity_bytes{preset_name="phi"}': "16x60",
            },
            "another preset has more": {
                'kaito_workspace_gpu_memory_estimated_bytes{preset_name="phi"}': "16x60",
                'kaito_workspace_gpu_memory_capacity_bytes{preset_name="phi"}': "24x60",
                'kaito_workspace_gpu_memory_capacity_bytes{preset_name="falcon"}': "8x60",
                'kaito_workspace_gpu_memory_estimated_bytes{preset_name="falcon"}': "8x60",
            },
        },
        {"preset_name": "phi"},
    ),
    "KaitoWeightsLargerThanPlanned": Case(
        {
            'kaito_workspace_gpu_memory_planned_bytes{preset_name="phi",part="weights"}': "36x80",
            'kaito_workspace_gpu_memory_planned_bytes{preset_name="phi",part="adapters"}': "4x80",
            'kaito_workspace_gpu_memory_planned_bytes{preset_name="phi",part="free"}': "90x80",
            'kaito_workspace_gpu_memory_planned_nodes{preset_name="phi"}': "2x80",
            **_weights("phi", "20x4 23x80", "20x4 23x80"),
        },
        35,
        {
            "as planned": {
                'kaito_workspace_gpu_memory_planned_bytes{preset_name="phi",part="weights"}': "40x60",
                'kaito_workspace_gpu_memory_planned_nodes{preset_name="phi"}': "2x60",
                **_weights("phi", "20x60", "21x60"),
            },
            "stand-in weights": {
                'kaito_workspace_gpu_memory_planned_bytes{preset_name="phi",part="weights"}': "20x60",
                'kaito_workspace_gpu_memory_planned_nodes{preset_name="phi"}': "1x60",
                'kaito_model_memory_bytes{namespace="n",pod="a",part="weights"}': "90x60",
                'kaito_model_info{namespace="n",pod="a",preset="phi",stand_in="tiny"}': "1x60",
            },
            "nothing is planned any more": {
                'kaito_workspace_gpu_memory_planned_bytes{preset_name="phi",part="weights"}': "0x60",
                'kaito_workspace_gpu_memory_planned_nodes{preset_name="phi"}': "0x60",
                **_weights("phi", "20x60", "20x60"),
            },
        },
        {"preset": "phi"},
    ),
    "KaitoAdapterUnreadable": Case(
        {'kaito_adapter_count{state="failed"}': "0x4 1x60"},
        35,
        {"still being read": {'kaito_adapter_count{state="pending"}': "3x60"}},
    ),
}

PROVISIONING = {
    "KaitoClaimNeedsHelp": Case(
        {
            'kaito_provisioner_claims_waiting{kind="Machine",reason="SubscriptionQuotaReached"}': "0x4 1x60",
        },
        15,
        {
            "passes by itself": {
                'kaito_provisioner_claims_waiting{kind="Machine",reason="AllocationFailure"}': "5x60",
                'kaito_provisioner_claims_waiting{kind="Machine",reason="other"}': "5x60",
            }
        },
        {"kind": "Machine", "reason": "SubscriptionQuotaReached"},
    ),
    "KaitoClaimStuck": Case(
        {'kaito_provisioner_claim_oldest_seconds{kind="Machine",state="registering"}': "0+60x120"},
        36,
        {
            "half an hour": {
                'kaito_provisioner_claim_oldest_seconds{kind="Machine",state="registering"}': "1800x120"
            },
            "in use": {'kaito_provisioner_claim_oldest_seconds{kind="Machine",state="ready"}': "99999x120"},
        },
        {"kind": "Machine", "state": "registering"},
    ),
    "KaitoClaimStuckDeleting": Case(
        {'kaito_provisioner_claim_oldest_seconds{kind="NodeClaim",state="deleting"}': "0+60x120"},
        36,
        {
            "half an hour": {
                'kaito_provisioner_claim_oldest_seconds{kind="NodeClaim",state="deleting"}': "1800x120"
            }
        },
        {"kind": "NodeClaim"},
    ),
    "KaitoCloudErrors": Case(
        {
            f'{CLOUD}errors_total{{method="create",reason="Unauthorized"}}': "0+6x90",
            f'{CLOUD}requests_total{{method="create"}}': "0+6x90",
        },
        16,
        {
            "half of them": {
                f'{CLOUD}errors_total{{method="create",reason="Unauthorized"}}': "0+3x90",
                f'{CLOUD}requests_total{{method="create"}}': "0+6x90",
            },
            "nobody asks": {
                f'{CLOUD}errors_total{{method="create",reason="Unauthorized"}}': "7x90",
                f'{CLOUD}requests_total{{method="create"}}': "9x90",
            },
        },
        {"reason": "Unauthorized"},
    ),
    "KaitoCloudThrottled": Case(
        {f'{CLOUD}errors_total{{method="get",reason="Throttled"}}': "0+2x90"},
        16,
        {
            "one a minute": {f'{CLOUD}errors_total{{method="get",reason="Throttled"}}': "0+1x90"},
            "other errors": {f'{CLOUD}errors_total{{method="get",reason="Unauthorized"}}': "0+9x90"},
        },
    ),
    "KaitoClaimsGivenUp": Case(
        {'kaito_provisioner_claims_given_up_total{kind="Machine",reason="NodeDeleted"}': "0 1 2 3 4x60"},
        5,
        {
            "three within an hour": {
                'kaito_provisioner_claims_given_up_total{kind="Machine",reason="NodeDeleted"}': "0 1 2 3x60"
            },
        },
        {"kind": "Machine", "reason": "NodeDeleted"},
    ),
    "KaitoQuotaWaiting": Case(
        {'kaito_provisioner_quota_waiting{family="standardNCADSA100v4Family",pod="a"}': "0x4 24x60"},
        35,
        {
            "there is room": {'kaito_provisioner_quota_waiting{family="cores"}': "0x60"},
            "not for long": {'kaito_provisioner_quota_waiting{family="cores"}': "0x4 24x25 0x60"},
        },
        {"family": "standardNCADSA100v4Family"},
    ),
    "KaitoLaunchesFailing": Case(
        {CLOUD + 'errors_total{method="create",reason="AllocationFailure"}': "0+1x120"},
        11,
        {
            "one in ten succeeds": {
                CLOUD + 'errors_total{method="create",reason="AllocationFailure"}': "0+1x120",
                'kaito_provisioner_claim_stage_seconds_count{kind="Machine",stage="launch"}': "0 1+0.1x120",
            },
            "they wait for another operation": {
                CLOUD + 'errors_total{method="create",reason="OperationInProgress"}': "0+1x120"
            },
            "the cluster is stopped": {
                CLOUD + 'errors_total{method="create",reason="ClusterNotRunning"}': "0+1x120"
            },
            "what fails is to look": {
                CLOUD + 'errors_total{method="get",reason="CloudUnreachable"}': "0+1x120"
            },
        },
        {"reason": "AllocationFailure"},
    ),
    "KaitoMachinesLeaked": Case(
        {'kaito_provisioner_orphan_instances{pod="a"}': "0x4 2x60"},
        20,
        {
            "they go at the next look": {'kaito_provisioner_orphan_instances{pod="a"}': "0x4 2x10 0x60"},
        },
    ),
    "KaitoRepairBlocked": Case(
        {'kaito_provisioner_repairs_blocked{pod="a"}': "0x4 3x60"},
        20,
        {
            "a blip of the network": {'kaito_provisioner_repairs_blocked{pod="a"}': "0x4 3x10 0x60"},
        },
    ),
    "KaitoProvisionerDown": Case(
        {'kaito_provisioner_claims{kind="Machine",state="ready"}': "1x10 stale"},
        16,
        {
            "there has never been one": {},
            "it runs": {'kaito_provisioner_claims{kind="Machine",state="ready"}': "0x60"},
        },
    ),
}

RUNNING = {
    "KaitoOperatorDown": Case(
        {'kaito_workspace_count{phase="pending"}': "0x10 stale"},
        16,
        {
            "without any Workspace": {'kaito_workspace_count{phase="pending"}': "0x60"},
            "restarted": {'kaito_workspace_count{phase="pending"}': "0x10 stale _x3 0x60"},
        },
    ),
    "KaitoNoLeader": Case(
        {
            f'{LEADER}{{name="kaito-operator",pod="a"}}': "1x4 0x60",
            f'{LEADER}{{name="kaito-operator",pod="b"}}': "0x64",
        },
        7,
        {
            "handed over within a minute": {
                f'{LEADER}{{name="kaito-operator",pod="a"}}': "1x4 0x60",
                f'{LEADER}{{name="kaito-operator",pod="b"}}': "0x5 1x60",
            },
            "somebody else's lease": {f'{LEADER}{{name="cert-manager-controller",pod="c"}}': "0x60"},
        },
        {"name": "kaito-operator"},
    ),
    "KaitoTwoLeaders": Case(
        {
            f'{LEADER}{{name="kaito-provisioner",pod="a"}}': "1x60",
            f'{LEADER}{{name="kaito-provisioner",pod="b"}}': "0x4 1x60",
        },
        6,
        {
            "seen while the lead changes hands": {
                f'{LEADER}{{name="kaito-operator",pod="a"}}': "1x5 0x60",
                f'{LEADER}{{name="kaito-operator",pod="b"}}': "0x4 1x60",
            },
            "one of each": {
                f'{LEADER}{{name="kaito-operator",pod="a"}}': "1x60",
                f'{LEADER}{{name="kaito-provisioner",pod="b"}}': "1x60",
            },
        },
        {"name": "kaito-provisioner"},
    ),
    "KaitoLeaseFlapping": Case(
        {f'{LEADER}{{name="kaito-operator",pod="a"}}': "0 1 0 1 0 1 0 1x60"},
        8,
        {"six turns": {f'{LEADER}{{name="kaito-operator",pod="a"}}': "0 1 0 1 0 1 0x60"}},
        {"name": "kaito-operator"},
    ),
    "KaitoCheckFailing": Case(
        {'kaito_operator_check_failing{check="crds"}': "0x4 1x60"},
        10,
        {
            "passes": {'kaito_operator_check_failing{check="crds"}': "0x60"},
            "only while it starts": {'kaito_operator_check_failing{check="crds"}': "1x4 0x60"},
        },
        {"check": "crds"},
    ),
    "KaitoFieldsDropped": Case(
        {"kaito_operator_fields_dropped_total": "0x4 1x60"},
        5,
        {"none": {"kaito_operator_fields_dropped_total": "0x60"}},
    ),
    "KaitoTwoVersions": Case(
        {
            'kaito_build_info{version="1",pod="a"}': "1x60",
            'kaito_build_info{version="2",pod="b"}': "_x5 1x60",
        },
        35,
        {
            "two replicas": {
                'kaito_build_info{version="1",pod="a"}': "1x60",
                'kaito_build_info{version="1",pod="b"}': "1x60",
            },
            "an upgrade": {
                'kaito_build_info{version="1",pod="a"}': "1x10 stale",
                'kaito_build_info{version="2",pod="b"}': "_x5 1x60",
            },
        },
    ),
}

WORKING = {
    "KaitoReconcileErrors": Case(
        {
            f'{RECONCILES}{{controller="workspace",result="error"}}': "0+2x90",
            f'{RECONCILES}{{controller="workspace",result="success"}}': "0+8x90",
        },
        16,
        {
            "a few": {
                f'{RECONCILES}{{controller="workspace",result="error"}}': "0+1x90",
                f'{RECONCILES}{{controller="workspace",result="success"}}': "0+10x90",
            },
            "somebody else's controller": {
                f'{RECONCILES}{{controller="certificates",result="error"}}': "0+2x90"
            },
        },
        {"controller": "workspace"},
    ),
    "KaitoReconcilePanics": Case(
        {'controller_runtime_reconcile_panics_total{controller="kaito-adapter"}': "0x4 1x60"},
        5,
        {
            "none": {'controller_runtime_reconcile_panics_total{controller="kaito-adapter"}': "0x60"},
            "somebody else's controller": {
                'controller_runtime_reconcile_panics_total{controller="other"}': "0+1x60"
            },
        },
        {"controller": "kaito-adapter"},
    ),
    "KaitoQueueDeep": Case(
        {'workqueue_depth{name="workspace",controller="workspace",priority="0"}': "0x4 501x60"},
        20,
        {
            "as many as may wait": {
                'workqueue_depth{name="workspace",controller="workspace",priority="0"}': "500x60"
            },
            "a wave that passes": {
                'workqueue_depth{name="workspace",controller="workspace",priority="0"}': "0x4 3000x13 0x60"
            },
        },
        {"name": "workspace"},
    ),
    "KaitoQueueSlow": Case(
        {
            f'{WAITED}{{name="workspace",le="10"}}': "0x90",
            f'{WAITED}{{name="workspace",le="100"}}': "0+10x90",
            f'{WAITED}{{name="workspace",le="+Inf"}}': "0+10x90",
        },
        16,
        {
            "ten seconds": {
                f'{WAITED}{{name="workspace",le="10"}}': "0+10x90",
                f'{WAITED}{{name="workspace",le="100"}}': "0+10x90",
                f'{WAITED}{{name="workspace",le="+Inf"}}': "0+10x90",
            },
            "nothing to do": {
                f'{WAITED}{{name="workspace",le="10"}}': "0x90",
                f'{WAITED}{{name="workspace",le="100"}}': "9x90",
                f'{WAITED}{{name="workspace",le="+Inf"}}': "9x90",
            },
        },
        {"name": "workspace"},
    ),
    "KaitoCacheStale": Case(
        {'kaito_informer_failing_seconds{resource="pods"}': "0x4 301x60"},
        6,
        {
            "five minutes": {'kaito_informer_failing_seconds{resource="pods"}': "300x60"},
            "a quiet watch": {'kaito_informer_age_seconds{resource="pods"}': "900x60"},
            "not heard of yet": {'kaito_informer_age_seconds{resource="pods"}': "-1x60"},
        },
        {"resource": "pods"},
    ),
    "KaitoApiServerErrors": Case(
        {
            'rest_client_requests_total{code="503",job="k",instance="a"}': "0+2x90",
            'rest_client_requests_total{code="200",job="k",instance="a"}': "0+8x90",
            'kaito_build_info{job="k",instance="a",version="1"}': "1x90",
        },
        11,
        {
            "somebody else's requests": {
                'rest_client_requests_total{code="503",job="x",instance="b"}': "0+9x90",
                'rest_client_requests_total{code="200",job="k",instance="a"}': "0+8x90",
                'rest_client_requests_total{code="503",job="k",instance="a"}': "0x90",
                'kaito_build_info{job="k",instance="a",version="1"}': "1x90",
            },
            "objects that are not there": {
                'rest_client_requests_total{code="404",job="k",instance="a"}': "0+9x90",
                'rest_client_requests_total{code="200",job="k",instance="a"}': "0+1x90",
                'kaito_build_info{job="k",instance="a",version="1"}': "1x90",
            },
        },
    ),
    "KaitoLoopBlocked": Case(
        {'kaito_reconcile_loop_blocked_seconds_total{controller="workspace"}': "0+5x90"},
        12,
        {
            "two seconds a minute": {
                'kaito_reconcile_loop_blocked_seconds_total{controller="workspace"}': "0+2x90"
            }
        },
        {"controller": "workspace"},
    ),
}

ADMISSION = {
    "KaitoWebhookFailing": Case(
        {
            f'{REVIEWS}{{webhook="{PATH}",decision="failed"}}': "0x4 1x60",
            f'controller_runtime_webhook_requests_total{{webhook="{PATH}",code="500"}}': "0x64",
        },
        10,
        {
            "refusing is no failure": {
                f'{REVIEWS}{{webhook="{PATH}",decision="refused"}}': "0+9x60",
                f'{REVIEWS}{{webhook="{PATH}",decision="failed"}}': "0x60",
                f'controller_runtime_webhook_requests_total{{webhook="{PATH}",code="200"}}': "0+9x60",
                f'controller_runtime_webhook_requests_total{{webhook="{PATH}",code="500"}}': "0x60",
            }
        },
        {"webhook": PATH},
    ),
    "KaitoWebhookUnreachable": Case(
        {
            'apiserver_admission_webhook_fail_open_count{name="workspaces.kaito.sh",type="validating"}': "0x4 1x60"
        },
        5,
        {
            "it is asked": {
                'apiserver_admission_webhook_fail_open_count{name="workspaces.kaito.sh",type="validating"}': "0x60"
            },
            "somebody else's webhook": {
                'apiserver_admission_webhook_fail_open_count{name="workspaces.example.com"}': "0+1x60"
            },
        },
        {"name": "workspaces.kaito.sh"},
    ),
    "KaitoWebhookRefusing": Case(
        {
            f'{REVIEWS}{{webhook="{PATH}",decision="refused"}}': "0+5x90",
            f'{REVIEWS}{{webhook="{PATH}",decision="allowed"}}': "0+1x90",
        },
        20,
        {
            "among many that are allowed": {
                f'{REVIEWS}{{webhook="{PATH}",decision="refused"}}': "0+5x90",
                f'{REVIEWS}{{webhook="{PATH}",decision="allowed"}}': "0+6x90",
            },
            "one a minute": {
                f'{REVIEWS}{{webhook="{PATH}",decision="refused"}}': "0+1x90",
                f'{REVIEWS}{{webhook="{PATH}",decision="allowed"}}': "0x90",
            },
        },
        {"webhook": PATH},
    ),
    "KaitoWebhookCertificateExpiring": Case(
        {'kaito_webhook_certificate_expiry_timestamp_seconds{pod="a"}': "608400x120"},
        71,
        {
            "no certificate is served": {
                'kaito_webhook_certificate_expiry_timestamp_seconds{pod="a"}': "0x120"
            },
            "a week and more": {'kaito_webhook_certificate_expiry_timestamp_seconds{pod="a"}': "612000x120"},
        },
    ),
}

CASES: Mapping[str, Case] = {**WORKSPACES, **PROVISIONING, **RUNNING, **WORKING, **ADMISSION}
