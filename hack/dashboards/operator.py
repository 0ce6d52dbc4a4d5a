"""The dashboard of the operator as a program: reconciles, queues, caches, requests, process, leader, webhook.

Families whose names start with controller_runtime_, workqueue_ and rest_client_ are those of every Go operator, so this
dashboard shows those as well.
"""

from __future__ import annotations

from hack.dashboards.model import Dashboard, Panel, Query, Row, Variable, stats
from hack.dashboards.operator_process import LEADER_AND_WEBHOOK, PROCESS
from hack.dashboards.operator_server import CACHES, REQUESTS
from hack.dashboards.queries import POD, quantiles, rate, ratio, total_rate

CONTROLLER = f'{POD},controller=~"$controller"'

VARIABLES = (
    Variable("namespace", "Namespace", "controller_runtime_max_concurrent_reconciles"),
    Variable("job", "Job", "controller_runtime_max_concurrent_reconciles", 'namespace=~"$namespace"'),
    Variable(
        "pod", "Pod", "controller_runtime_max_concurrent_reconciles", 'namespace=~"$namespace",job=~"$job"'
    ),
    Variable(
        "controller",
        "Controller",
        "controller_runtime_max_concurrent_reconciles",
        'namespace=~"$namespace",job=~"$job"',
    ),
)

GLANCE = Row(
    "At a glance",
    stats(
        Panel(
            "Leaders",
            "stat",
            (Query(f"sum by (name) (leader_election_master_status{{{POD}}})", "{{name}}"),),
            "How many processes lead, by Lease: 1 each.",
            "0: nobody reconciles. 2: clocks disagree, or somebody runs an operator by hand.",
            "KaitoNoLeader",
            base="red",
            thresholds=((1, "green"), (2, "red")),
        ),
        Panel(
            "Failed reconciles",
            "stat",
            (
                Query(
                    ratio(
                        total_rate("controller_runtime_reconcile_errors_total", CONTROLLER),
                        total_rate("controller_runtime_reconcile_total", CONTROLLER),
                    )
                ),
            ),
            "The share of reconciles that ended with an error.",
            "Above 5 % something is broken for more than one object; the operator's log names the line.",
            "KaitoReconcileErrors",
            unit="percentunit",
            thresholds=((0.01, "yellow"), (0.05, "red")),
        ),
        Panel(
            "Waiting in queues",
            "stat",
            (Query(f"sum(workqueue_depth{{{CONTROLLER}}})"),),
            "Objects that wait for a worker.",
            "More than a hundred for minutes: workers are too few, or they hang.",
            "KaitoQueueDeep",
            thresholds=((50, "yellow"), (100, "red")),
        ),
        Panel(
            "Oldest cache",
            "stat",
            (Query(f"max(kaito_informer_age_seconds{{{POD}}})"),),
            "Time since the API server was last heard of, of the cache for which that is longest.",
            "Beyond 75 s the server sends no bookmarks; beyond 600 s the operator works on the state of then.",
            "KaitoCacheStale",
            unit="s",
            thresholds=((120, "yellow"), (600, "red")),
            calculation="max",
        ),
        Panel(
            "Memory",
            "stat",
            (Query(f"max(process_resident_memory_bytes{{{POD}}})"),),
            "Resident memory of the largest process.",
            "Near the container's limit the kernel ends it (OOMKilled); it grows with the number of objects.",
            unit="bytes",
            thresholds=((200e6, "yellow"), (400e6, "red")),
        ),
        Panel(
            "Start-up checks failing",
            "stat",
            (Query(f"sum by (check) (kaito_operator_check_failing{{{POD}}})", "{{check}}"),),
            "Processes whose check of custom resources (crds) or rights (rights) fails.",
            "Above 0 the process waits, and its log and /readyz say what is missing.",
            "KaitoCheckFailing",
            thresholds=((1, "red"),),
        ),
    ),
)

RECONCILES = Row(
    "Reconciles",
    (
        Panel(
            "Reconciles by result",
            "timeseries",
            (Query(rate("controller_runtime_reconcile_total", CONTROLLER, "result"), "{{result}}"),),
            "Reconciles a second. `requeue_after` is a plan, not a failure.",
            "A growing share of `error`: see “Failures”.",
            "KaitoReconcileErrors",
            unit="ops",
            stacked=True,
            width=12,
            colors=(("success", "green"), ("error", "red"), ("requeue", "yellow"), ("requeue_after", "blue")),
        ),
        Panel(
            "Reconciles by controller",
            "timeseries",
            (Query(rate("controller_runtime_reconcile_total", CONTROLLER, "controller"), "{{controller}}"),),
            "Reconciles a second.",
            "A steady rate without changes in the cluster: an object that never settles.",
            unit="ops",
            width=12,
        ),
        Panel(
            "Failures",
            "timeseries",
            (
                Query(
                    rate("controller_runtime_reconcile_errors_total", CONTROLLER, "controller"),
                    "{{controller}}",
                ),
                Query(
                    total_rate("controller_runtime_terminal_reconcile_errors_total", CONTROLLER), "terminal"
                ),
                Query(total_rate("controller_runtime_reconcile_panics_total", CONTROLLER), "panics"),
                Query(total_rate("controller_runtime_reconcile_timeouts_total", CONTROLLER), "timeouts"),
            ),
            "Errors by controller; errors that are not tried again (terminal), unforeseen exceptions (panics) and "
            "reconciles cut off (timeouts), a second.",
            "A panic is a bug: the log has its traceback. A timeout is a call that hangs.",
            "KaitoReconcilePanics",
            unit="ops",
        ),
        Panel(
            "Time per reconcile",
            "timeseries",
            quantiles("controller_runtime_reconcile_time_seconds", CONTROLLER, "controller"),
            "Median and 99th percentile.",
            "Usually milliseconds. Seconds are spent in requests: compare with the latency of the API server below.",
            unit="s",
            thresholds=((5, "red"),),
        ),
        Panel(
            "Busy workers",
            "timeseries",
            (
                Query(
                    f"sum by (controller) (controller_runtime_active_workers{{{CONTROLLER}}})"
                    f" / max by (controller) (controller_runtime_max_concurrent_reconciles{{{CONTROLLER}}})",
                    "{{controller}}",
                ),
            ),
            "Workers that reconcile now, as a share of how many there may be.",
            "All of them for minutes: the queue grows.",
            "KaitoQueueDeep",
            unit="percentunit",
            thresholds=((1, "red"),),
        ),
        Panel(
            "Event loop blocked",
            "timeseries",
            (
                Query(
                    rate("kaito_reconcile_loop_blocked_seconds_total", CONTROLLER, "controller"),
                    "{{controller}}",
                ),
                Query(total_rate("kaito_reconcile_loop_blocked_total", CONTROLLER), "times a second"),
            ),
            "Seconds in a second that reconciles held up everything else in the process, and how often a second.",
            "Anything above 0 delays all controllers and the lease; the log names the line.",
            "KaitoLoopBlocked",
            thresholds=((0.1, "red"),),
            width=12,
        ),
        Panel(
            "Waiting for own writes",
            "timeseries",
            (
                Query(rate("kaito_own_write_waits_total", CONTROLLER, "controller"), "{{controller}}"),
                Query(total_rate("kaito_own_write_timeouts_total", CONTROLLER), "gave up"),
            ),
            "Reconciles held back until the cache shows what the operator itself wrote, and those that gave up.",
            "Giving up means that watches lag by more than 5 s: look at the caches and at the API server.",
            "KaitoCacheStale",
            unit="ops",
            width=12,
        ),
    ),
)

QUEUES = Row(
    "Work queues",
    (
        Panel(
            "Depth",
            "timeseries",
            (
                Query(
                    f"sum by (controller, priority) (workqueue_depth{{{CONTROLLER}}})",
                    "{{controller}} priority {{priority}}",
                ),
            ),
            "Objects that wait for a worker, by controller and priority.",
            "It should fall to 0 between bursts.",
            "KaitoQueueDeep",
            thresholds=((100, "red"),),
        ),
        Panel(
            "Time in the queue",
            "timeseries",
            quantiles("workqueue_queue_duration_seconds", CONTROLLER, "controller"),
            "From being added to being handed to a worker.",
            "Users wait that long before anything happens at all.",
            "KaitoQueueSlow",
            unit="s",
            thresholds=((10, "red"),),
        ),
        Panel(
            "Time at work",
            "timeseries",
            quantiles("workqueue_work_duration_seconds", CONTROLLER, "controller"),
            "From a worker taking an object to being done with it.",
            "Long and with few errors: requests are slow, or wait for the client's rate limit.",
            unit="s",
        ),
        Panel(
            "Added and tried again",
            "timeseries",
            (
                Query(rate("workqueue_adds_total", CONTROLLER, "controller"), "{{controller}}"),
                Query(total_rate("workqueue_retries_total", CONTROLLER), "again"),
            ),
            "Objects put into the queue a second, and those that are to come again later, as planned or after a "
            "failure, of all controllers.",
            "Again and again together with “Failures”: the same objects fail over and over.",
            "KaitoReconcileErrors",
            unit="ops",
            width=12,
        ),
        Panel(
            "Work in progress",
            "timeseries",
            (
                Query(
                    f"max by (controller) (workqueue_longest_running_processor_seconds{{{CONTROLLER}}})",
                    "{{controller}}",
                ),
                Query(f"sum(workqueue_unfinished_work_seconds{{{CONTROLLER}}})", "all together"),
            ),
            "How long the longest of the running reconciles has been running, and all of them together.",
            "A line that rises without end is a reconcile that hangs.",
            "KaitoQueueSlow",
            unit="s",
            thresholds=((300, "red"),),
            width=12,
        ),
    ),
)

BOARD = Dashboard(
    uid="kaito-operator",
    title="KAITO / Operator",
    description="Is the operator itself well? Reconciles, queues, caches, requests, processes, leader and webhook.",
    variables=VARIABLES,
    rows=(GLANCE, RECONCILES, QUEUES, CACHES, REQUESTS, PROCESS, LEADER_AND_WEBHOOK),
)
