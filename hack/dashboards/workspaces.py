"""The dashboard of Workspaces: how many are how far, why the others are not ready, what they use and cost.

Only the leader counts objects, so sums over processes are right, and a change of leader shows as a short gap.
"""

from __future__ import annotations

from hack.dashboards.model import Dashboard, Number, Panel, Query, Row, Variable, stats
from hack.dashboards.queries import POD, quantile, quantiles, rate, whole

HOURS_A_MONTH = 730
_SUCCEEDED = f'{POD},phase="succeeded"'
_TYPE = f'{POD},instance_type=~"$instance_type"'

VARIABLES = (
    Variable("namespace", "Operator's namespace", "kaito_workspace_count"),
    Variable("job", "Job", "kaito_workspace_count", 'namespace=~"$namespace"'),
    Variable("pod", "Pod", "kaito_workspace_count", 'namespace=~"$namespace",job=~"$job"'),
    Variable("instance_type", "Machine size", "kaito_workspace_instance_type_nodes"),
    Number("price", "Price of a node per hour", "1"),
)


def _count(phase: str) -> str:
    return f'sum(kaito_workspace_count{{{POD},phase="{phase}"}})'


GLANCE = Row(
    "At a glance",
    stats(
        Panel(
            "Ready",
            "stat",
            (Query(_count("succeeded")),),
            "Workspaces that serve, or whose job has ended well.",
            "Fewer than there were: see “Interrupted”.",
        ),
        Panel(
            "On their way",
            "stat",
            (Query(_count("pending")),),
            "Workspaces that wait for nodes, images, weights or the model.",
            "The same ones for long: see “Longest in its phase”.",
            "KaitoWorkspaceStuckPending",
            base="blue",
        ),
        Panel(
            "Failed",
            "stat",
            (Query(_count("error")),),
            "Workspaces that need somebody to change something.",
            "`kubectl get workspace -A` tells the reason of each; the table of reasons says what to do.",
            "KaitoWorkspaceError",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Interrupted",
            "stat",
            (Query(f"sum(kaito_workspace_interrupted{{{POD}}})"),),
            "Workspaces that were ready before and are not now.",
            "Their users get no answers: a node went away, or the server crashes.",
            "KaitoWorkspaceInterrupted",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Being deleted",
            "stat",
            (Query(_count("deleting")),),
            "Workspaces whose machines are being given back.",
            "Above 0 for long: the cloud does not give them back, and they cost money.",
            "KaitoWorkspaceStuckDeleting",
            base="blue",
        ),
        Panel(
            "Cost per month",
            "stat",
            (
                Query(
                    f"sum(kaito_workspace_instance_type_nodes{{{_TYPE}}}) * $price * {HOURS_A_MONTH} or vector(0)"
                ),
            ),
            "Ready nodes of the chosen machine sizes, times the price typed in at the top, for 730 hours. An estimate: "
            "choose one size, type in your price for it.",
            "More than you meant to spend: “Nodes by machine size” tells where.",
            unit="currencyUSD",
            base="blue",
        ),
    ),
)

STATE = Row(
    "State",
    (
        Panel(
            "Workspaces by phase",
            "timeseries",
            (Query(f"sum by (phase) (kaito_workspace_count{{{POD}}})", "{{phase}}"),),
            "succeeded: ready. pending: on the way. error: somebody must act. deleting: going away.",
            "A growing share of pending or error.",
            "KaitoWorkspaceError",
            stacked=True,
            colors=(("succeeded", "green"), ("pending", "blue"), ("error", "red"), ("deleting", "gray")),
        ),
        Panel(
            "Not ready, by reason",
            "timeseries",
            (Query(f"sum by (reason) (kaito_workspace_reason_count{{{POD}}})", "{{reason}}"),),
            "`status.reason` of the Workspaces that are not ready.",
            "Each reason has a line in the table of reasons that says what to do.",
            "Reasons",
            stacked=True,
        ),
        Panel(
            "Longest in its phase",
            "timeseries",
            (Query(f"max by (phase) (kaito_workspace_phase_oldest_seconds{{{POD}}})", "{{phase}}"),),
            "How long the Workspace that has been longest in a phase is in it. For `succeeded` long is good.",
            "pending beyond half an hour: stuck. deleting beyond ten minutes: machines are not given back.",
            "KaitoWorkspaceStuckPending",
            unit="s",
            colors=(("succeeded", "green"), ("pending", "blue"), ("error", "red"), ("deleting", "gray")),
        ),
    ),
)

TIME = Row(
    "How long things take",
    (
        Panel(
            "Until ready",
            "timeseries",
            quantiles("kaito_workspace_ready_seconds", POD),
            "From a Workspace's creation to its first being ready, of those that got ready in the window.",
            "Minutes are the cloud's and the weights'. See the stages beside it.",
            "KaitoWorkspaceStuckPending",
            unit="s",
        ),
        Panel(
            "Stages of the first start",
            "timeseries",
            quantiles("kaito_workspace_stage_seconds", POD, "stage"),
            "nodes: from creation until the nodes are ready. model: from then until the model answers.",
            "nodes: see the dashboard Provisioning. model: images, weights, or a model that is too large.",
            unit="s",
        ),
        Panel(
            "Time spent in a phase",
            "timeseries",
            quantiles("kaito_workspace_phase_seconds", POD, "phase"),
            "How long Workspaces were in the phases that they left in the window.",
            "Short stays in `succeeded`: servers come and go.",
            "KaitoWorkspaceInterrupted",
            unit="s",
        ),
        Panel(
            "Got ready",
            "timeseries",
            (
                Query(
                    f"sum({whole('kaito_workspace_ready_seconds_count', POD)})", "ready for the first time"
                ),
                Query(f"sum({whole('kaito_workspace_phase_seconds_count', _SUCCEEDED)})", "left succeeded"),
            ),
            "Workspaces that became ready for the first time, and Workspaces that stopped being ready (deleted ones "
            "included), in the last 5 minutes.",
            "Leaving without deletions: “Interrupted”.",
            "KaitoWorkspaceInterrupted",
            width=16,
        ),
        Panel(
            "Half are ready after",
            "stat",
            (
                Query(
                    quantile(0.5, "kaito_workspace_ready_seconds", POD).replace(
                        "$__rate_interval", "$__range"
                    )
                ),
            ),
            "The median time to ready in the time range shown.",
            "Compare ranges before and after a change.",
            unit="s",
            base="blue",
        ),
    ),
)

NODES = Row(
    "Nodes and memory",
    (
        Panel(
            "Wanted nodes by state",
            "timeseries",
            (Query(f"sum by (state) (kaito_workspace_nodes{{{POD}}})", "{{state}}"),),
            "Nodes that Workspaces ask for.",
            "NotReady: a node that was there went away. Failed: it could not be made.",
            "KaitoClaimNeedsHelp",
            stacked=True,
            colors=(("Ready", "green"), ("Pending", "blue"), ("NotReady", "orange"), ("Failed", "red")),
        ),
        Panel(
            "Nodes not ready, by reason",
            "timeseries",
            (Query(f"sum by (reason) (kaito_workspace_claims_waiting{{{POD}}})", "{{reason}}"),),
            "Why a claim for a node is not ready.",
            "Each reason has a line in the table of reasons.",
            "Reasons",
            stacked=True,
        ),
        Panel(
            "Nodes by machine size",
            "timeseries",
            (
                Query(
                    f"sum by (instance_type) (kaito_workspace_instance_type_nodes{{{_TYPE}}})",
                    "{{instance_type}}",
                ),
            ),
            "Ready nodes: what you pay for.",
            "Nodes without Workspaces are not counted here: see the claims on the dashboard Provisioning.",
            stacked=True,
        ),
        Panel(
            "GPU memory: needed and there",
            "timeseries",
            (
                Query(
                    f"sum by (preset_name) (kaito_workspace_gpu_memory_estimated_bytes{{{POD}}})",
                    "{{preset_name}} needs",
                ),
                Query(
                    f"sum by (preset_name) (kaito_workspace_gpu_memory_capacity_bytes{{{POD}}})",
                    "{{preset_name}} has",
                ),
                Query(
                    f"sum by (preset_name, part) (kaito_workspace_gpu_memory_planned_bytes{{{POD}}})",
                    "{{preset_name}} {{part}}",
                ),
            ),
            "What serving the preset was planned to need, for what, and what the ready nodes have.",
            "Less than needed: the server will not start. Far more: a smaller machine would do. How good the estimate "
            "was: kaito_model_memory_bytes and kaito_model_context_tokens of the servers, DCGM_FI_DEV_FB_USED.",
            "KaitoGpuMemoryTooSmall",
            unit="bytes",
            width=12,
        ),
        Panel(
            "Presets",
            "timeseries",
            (
                Query(f"sum by (preset_name) (kaito_workspace_preset_count{{{POD}}})", "{{preset_name}}"),
                Query(
                    f'max(kaito_catalog_config_maps{{{POD}, state="refused"}}) > 0',
                    "ConfigMaps that are refused",
                ),
            ),
            "Workspaces by the preset that they serve; ConfigMaps that should add presets and are refused.",
            "`other`: presets that the catalogue does not know. Refused: the ConfigMap's event says why.",
            "Catalogues of your own",
            stacked=True,
            width=12,
        ),
    ),
)

ADAPTERS = Row(
    "Adapters",
    (
        Panel(
            "Adapters of Workspaces by verdict",
            "timeseries",
            (Query(f"sum by (verdict) (kaito_workspace_adapters{{{POD}}})", "{{verdict}}"),),
            "Whether an adapter fits the base model of the Workspace that uses it.",
            "Everything but Fits and FitsStandIn keeps its Workspace from being served with it.",
            "Reasons",
            stacked=True,
        ),
        Panel(
            "Adapters by state",
            "timeseries",
            (
                Query(f"sum by (state) (kaito_adapter_count{{{POD}}})", "{{state}}"),
                Query(f"sum by (reason) (kaito_adapter_failures{{{POD}}})", "failed: {{reason}}"),
            ),
            "ready: its files were read. failed: they cannot be, for the reason named.",
            "Unreadable: the registry refuses, or the image holds no adapter. InvalidImageReference: a typing error.",
            "KaitoAdapterUnreadable",
        ),
        Panel(
            "Reading of adapters",
            "timeseries",
            (
                Query(
                    rate("kaito_adapter_reads_total", POD, "source, result"), "{{source}} {{result}} per s"
                ),
                Query(quantile(0.99, "kaito_adapter_read_seconds", POD, "source"), "{{source}} p99 seconds"),
            ),
            "How often adapters are read, and how long that takes.",
            "Unreadable again and again: rights of the registry.",
            "KaitoAdapterUnreadable",
        ),
    ),
)

BOARD = Dashboard(
    uid="kaito-workspaces",
    title="KAITO / Workspaces",
    description="Are users served? Workspaces by phase and reason, how long they take, what they use and cost.",
    variables=VARIABLES,
    rows=(GLANCE, STATE, TIME, NODES, ADAPTERS),
)
