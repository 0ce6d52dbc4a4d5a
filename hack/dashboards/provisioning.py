"""The dashboard of provisioning: what became of every claim for a machine, and what the cloud answered."""

from __future__ import annotations

from hack.dashboards.azure import QUOTA, REQUESTS
from hack.dashboards.model import Dashboard, Panel, Query, Row, Variable, stats
from hack.dashboards.queries import POD, quantiles, rate, ratio, total_rate, whole

KIND = f'{POD},kind=~"$kind"'

VARIABLES = (
    Variable("namespace", "Provisioner's namespace", "kaito_provisioner_claims"),
    Variable("job", "Job", "kaito_provisioner_claims", 'namespace=~"$namespace"'),
    Variable("pod", "Pod", "kaito_provisioner_claims", 'namespace=~"$namespace",job=~"$job"'),
    Variable("kind", "Kind of claim", "kaito_provisioner_claims"),
)


def _claims(states: str) -> str:
    return f'sum(kaito_provisioner_claims{{{KIND},state=~"{states}"}})'


GLANCE = Row(
    "At a glance",
    stats(
        Panel(
            "Ready claims",
            "stat",
            (Query(_claims("ready")),),
            "Machines that are there and in use: what you pay for.",
            "More than the Workspaces need: something keeps claims alive.",
        ),
        Panel(
            "Being made",
            "stat",
            (Query(_claims("launching|registering|initializing")),),
            "Claims whose machine is ordered, joins the cluster, or gets its GPUs ready.",
            "The same ones for long: see “Longest in its state”.",
            "KaitoClaimStuck",
            base="blue",
        ),
        Panel(
            "Failed claims",
            "stat",
            (Query(_claims("failed")),),
            "Claims that the cloud refuses.",
            "The reason is beside it: quota, capacity, a size that does not exist, rights.",
            "KaitoClaimNeedsHelp",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Claims being deleted",
            "stat",
            (Query(_claims("deleting")),),
            "Machines being given back.",
            "Above 0 for long: they still cost money.",
            "KaitoClaimStuckDeleting",
            base="blue",
        ),
        Panel(
            "Given up in an hour",
            "stat",
            (Query(f"sum(round(increase(kaito_provisioner_claims_given_up_total{{{KIND}}}[1h])))"),),
            "Claims whose machine never worked, or went away.",
            "Each costs money for nothing and is made anew; more than a few: find out why.",
            "KaitoClaimsGivenUp",
            thresholds=((1, "yellow"), (4, "red")),
        ),
        Panel(
            "Cloud requests that fail",
            "stat",
            (
                Query(
                    ratio(
                        total_rate("kaito_provisioner_cloud_errors_total", POD),
                        total_rate("kaito_provisioner_cloud_requests_total", POD),
                    )
                ),
            ),
            "The share of requests to the cloud that it answers with an error.",
            "All of them: credentials or network. Some: quota or capacity.",
            "KaitoCloudErrors",
            unit="percentunit",
            thresholds=((0.1, "yellow"), (0.5, "red")),
        ),
    ),
)

CLAIMS = Row(
    "Claims",
    (
        Panel(
            "Claims by state",
            "timeseries",
            (Query(f"sum by (state) (kaito_provisioner_claims{{{KIND}}})", "{{state}}"),),
            "Every claim, Machine or NodeClaim, is in one state.",
            "A growing share that is not ready.",
            "KaitoClaimStuck",
            stacked=True,
            colors=(
                ("ready", "green"),
                ("launching", "yellow"),
                ("registering", "orange"),
                ("initializing", "blue"),
                ("failed", "red"),
                ("deleting", "gray"),
            ),
        ),
        Panel(
            "Claims not ready, by reason",
            "timeseries",
            (
                Query(
                    f"sum by (reason) (kaito_provisioner_claims_waiting{{{KIND}}})",
                    "{{reason}}",
                ),
            ),
            "What a claim waits for, or why it failed.",
            "Each reason has a line in the table of reasons.",
            "Reasons",
            stacked=True,
        ),
        Panel(
            "Longest in its state",
            "timeseries",
            (
                Query(
                    f'max by (state) (kaito_provisioner_claim_oldest_seconds{{{KIND},state!="ready"}})',
                    "{{state}}",
                ),
            ),
            "How long the claim that has been longest in a state is in it.",
            "launching beyond 15 minutes: capacity. registering: network or a bad image. initializing: the GPU driver.",
            "KaitoClaimStuck",
            unit="s",
            thresholds=((900, "red"),),
        ),
    ),
)

TIME = Row(
    "How long things take",
    (
        Panel(
            "Claims until ready",
            "timeseries",
            quantiles("kaito_provisioner_claim_ready_seconds", KIND),
            "From a claim's creation until its node is ready, of those that got ready in the window.",
            "Slower than usual: see the stages.",
            "KaitoClaimStuck",
            unit="s",
        ),
        Panel(
            "Stages of a claim",
            "timeseries",
            quantiles("kaito_provisioner_claim_stage_seconds", KIND, "stage"),
            "launch: ordered until the cloud has it. registration: until the node joins. initialization: until its "
            "resources are there. termination: from deletion until it is gone.",
            "The stage that grew says whose problem it is: the cloud's, the network's, or the driver's.",
            unit="s",
        ),
        Panel(
            "Claims that got ready, and that were given up",
            "timeseries",
            (
                Query(f"sum({whole('kaito_provisioner_claim_ready_seconds_count', KIND)})", "ready"),
                Query(
                    f"sum by (reason) ({whole('kaito_provisioner_claims_given_up_total', KIND)})",
                    "{{reason}}",
                ),
            ),
            "In the last 5 minutes. Given up: it was not made in time (LaunchTimeout), never joined "
            "(RegistrationTimeout), never got ready (InitializationTimeout), was sick for long (NodeUnhealthy), "
            "its node was deleted (NodeDeleted), or the machine is gone (InstanceGone).",
            "Timeouts again and again cost money for machines that never work.",
            "KaitoClaimsGivenUp",
        ),
    ),
)

CLOUD = Row(
    "The cloud",
    (
        Panel(
            "Requests to the cloud",
            "timeseries",
            (Query(rate("kaito_provisioner_cloud_requests_total", POD, "method"), "{{method}}"),),
            "Requests a second.",
            "Many `create` and few claims: the cloud refuses and is asked again.",
            unit="reqps",
        ),
        Panel(
            "Errors of the cloud by reason",
            "timeseries",
            (
                Query(f"{rate('kaito_provisioner_cloud_errors_total', POD, 'reason')} > 0", "{{reason}}"),
                Query(total_rate("kaito_provisioner_cloud_errors_total", POD), "all"),
            ),
            "Answers that are errors, a second; only reasons that occur are drawn.",
            "Quota: ask for more. Capacity: another size or region. Unauthorized: the identity's roles.",
            "KaitoCloudErrors",
            unit="reqps",
        ),
        Panel(
            "Time per request to the cloud",
            "timeseries",
            quantiles("kaito_provisioner_cloud_request_seconds", POD, "method"),
            "Median and 99th percentile.",
            "Slow answers delay everything behind them; throttling shows as long `create`.",
            unit="s",
            thresholds=((30, "red"),),
        ),
    ),
)

LEAVING = Row(
    "Machines that go",
    (
        Panel(
            "Machines without a claim",
            "timeseries",
            (Query(f"max(kaito_provisioner_orphan_instances{{{POD}}})", "without a claim"),),
            "Machines in the cloud that were made for a claim that is gone, at the last look.",
            "Above 0 for more than a few minutes: they cost money, and something keeps them from going.",
            "KaitoMachinesLeaked",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Nodes drained, machines collected",
            "timeseries",
            (
                Query(f"sum({whole('kaito_provisioner_nodes_drained_total', POD)})", "drained"),
                Query(
                    f"sum({whole('kaito_provisioner_orphans_deleted_total', POD)})",
                    "without a claim, deleted",
                ),
            ),
            "In the last 5 minutes.",
            "Machines without a claim again and again: claims lose their finalizers, or somebody takes them off.",
        ),
        Panel(
            "Evictions",
            "timeseries",
            (
                Query(
                    f"sum by (result) ({whole('kaito_provisioner_evictions_total', POD)})",
                    "{{result}}",
                ),
            ),
            "Pods that were asked to leave nodes, in the last 5 minutes. refused: a disruption budget says not now.",
            "refused for long: a budget that never lets go keeps a machine that costs money.",
            "KaitoClaimStuckDeleting",
        ),
        Panel(
            "Repairs held back",
            "timeseries",
            (Query(f"max(kaito_provisioner_repairs_blocked{{{POD}}})", "sick nodes"),),
            "Sick nodes that are not replaced because too many are sick at once.",
            "More than a fifth of all nodes is no machine's fault: look at network, image or region.",
            "KaitoRepairBlocked",
            thresholds=((1, "red"),),
        ),
    ),
)

BOARD = Dashboard(
    uid="kaito-provisioning",
    title="KAITO / Provisioning",
    description="Do machines come? Claims by state and reason, how long each stage takes, what the cloud answers.",
    variables=VARIABLES,
    rows=(GLANCE, CLAIMS, TIME, CLOUD, LEAVING, QUOTA, REQUESTS),
)
