"""Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs, ControllerRevisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kaito.embedded.apiserver.strategy import Object
from kaito.embedded.apiserver.tables.durations import age, human_duration
from kaito.embedded.apiserver.tables.printer import (
    Cells,
    Printer,
    age_of,
    columns,
    dig,
    joined,
    label_text,
    name_of,
    selector_text,
)
from kaito.runtime.clock import parse_time


def _containers(obj: Object, *path: str) -> tuple[str, str]:
    found: list[dict[str, Any]] = dig(obj, *(path or ("spec", "template", "spec", "containers")), default=[])
    return joined([each.get("name", "") for each in found], none=""), joined(
        [each.get("image", "") for each in found], none=""
    )


def _replicas(obj: Object) -> int:
    return int(dig(obj, "spec", "replicas", default=1))


def _deployment(obj: Object, now: datetime) -> Cells:
    status = dig(obj, "status", default={})
    return [
        name_of(obj),
        f"{status.get('readyReplicas') or 0}/{_replicas(obj)}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age_of(obj, now),
        *_containers(obj),
        selector_text(dig(obj, "spec", "selector")),
    ]


def _replica_set(obj: Object, now: datetime) -> Cells:
    status = dig(obj, "status", default={})
    return [
        name_of(obj),
        _replicas(obj),
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age_of(obj, now),
        *_containers(obj),
        selector_text(dig(obj, "spec", "selector")),
    ]


def _stateful_set(obj: Object, now: datetime) -> Cells:
    ready = dig(obj, "status", "readyReplicas", default=0)
    return [name_of(obj), f"{ready}/{_replicas(obj)}", age_of(obj, now), *_containers(obj)]


def _daemon_set(obj: Object, now: datetime) -> Cells:
    status = dig(obj, "status", default={})
    counts = [
        status.get(field) or 0
        for field in (
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "updatedNumberScheduled",
            "numberAvailable",
        )
    ]
    return [
        name_of(obj),
        *counts,
        label_text(dig(obj, "spec", "template", "spec", "nodeSelector")),
        age_of(obj, now),
        *_containers(obj),
        selector_text(dig(obj, "spec", "selector")),
    ]


def _job_state(obj: Object) -> str:
    true = {
        each.get("type")
        for each in dig(obj, "status", "conditions", default=[])
        if each.get("status") == "True"
    }
    for type_, text in (
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if type_ in true:
            return text
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else "Running"


def _job(obj: Object, now: datetime) -> Cells:
    status = dig(obj, "status", default={})
    completions, parallelism = dig(obj, "spec", "completions"), dig(obj, "spec", "parallelism", default=0)
    succeeded = status.get("succeeded") or 0
    if completions is not None:
        done = f"{succeeded}/{completions}"
    else:
        done = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    start, end = status.get("startTime"), status.get("completionTime")
    duration = ""
    if start:
        duration = (
            human_duration((parse_time(end) - parse_time(start)).total_seconds()) if end else age(start, now)
        )
    return [
        name_of(obj),
        _job_state(obj),
        done,
        duration,
        age_of(obj, now),
        *_containers(obj),
        selector_text(dig(obj, "spec", "selector")),
    ]


def _cron_job(obj: Object, now: datetime) -> Cells:
    spec = dig(obj, "spec", default={})
    return [
        name_of(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        str(bool(spec.get("suspend"))),
        len(dig(obj, "status", "active", default=[])),
        age(dig(obj, "status", "lastScheduleTime"), now, missing="<none>"),
        age_of(obj, now),
        *_containers(obj, "spec", "jobTemplate", "spec", "template", "spec", "containers"),
        selector_text(dig(spec, "jobTemplate", "spec", "selector")),
    ]


def _controller_revision(obj: Object, now: datetime) -> Cells:
    owner = next(
        (each for each in obj["metadata"].get("ownerReferences") or [] if each.get("controller")), None
    )
    text = "<none>"
    if owner is not None:
        group = str(owner.get("apiVersion", "")).rpartition("/")[0]
        kind = str(owner.get("kind", "")).lower()
        text = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [name_of(obj), text, obj.get("revision") or 0, age_of(obj, now)]


PRINTERS: dict[tuple[str, str], Printer] = {
    ("apps", "Deployment"): Printer(
        columns("Name|Ready|Up-to-date|Available|Age|*Containers|*Images|*Selector"), _deployment
    ),
    ("apps", "ReplicaSet"): Printer(
        columns("Name|#Desired|#Current|#Ready|Age|*Containers|*Images|*Selector"), _replica_set
    ),
    ("apps", "StatefulSet"): Printer(columns("Name|Ready|Age|*Containers|*Images"), _stateful_set),
    ("apps", "DaemonSet"): Printer(
        columns(
            "Name|#Desired|#Current|#Ready|#Up-to-date|#Available|Node Selector|Age|*Containers|*Images|*Selector"
        ),
        _daemon_set,
    ),
    ("apps", "ControllerRevision"): Printer(columns("Name|Controller|Revision|Age"), _controller_revision),
    ("batch", "Job"): Printer(
        columns("Name|Status|Completions|Duration|Age|*Containers|*Images|*Selector"), _job
    ),
    ("batch", "CronJob"): Printer(
        columns("Name|Schedule|Timezone|?Suspend|#Active|Last Schedule|Age|*Containers|*Images|*Selector"),
        _cron_job,
    ),
}
