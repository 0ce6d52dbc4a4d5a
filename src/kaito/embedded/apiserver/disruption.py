"""Whether disruption budgets allow the eviction of a pod.

A disruption controller keeps the answer in each budget's status; none runs here. So a budget whose status nobody has
written is worked out from the pods of this moment, which is what the controller would do. One that somebody keeps (a
status with `observedGeneration`) is taken at its word and counted down, as kube-apiserver does.
"""

from __future__ import annotations

import math
from typing import Any

from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Object, Record
from kaito.runtime.errors import ApiError, TooManyRequests
from kaito.runtime.selectors import label_selector

_GONE = ("Pending", "Succeeded", "Failed")
"""Phases in which a pod serves nobody: it may always be evicted."""


def admit_eviction(core: Core, pods: Served, budgets: Served, pod: Record, *, dry_run: bool) -> None:
    """Counts the eviction against the pod's budget.

    Raises:
        TooManyRequests: the budget allows none now.
        ApiError: 500, more than one budget covers the pod; Kubernetes does not support that either.
    """
    if pod.metadata.get("deletionTimestamp") or (pod.obj.get("status") or {}).get("phase") in _GONE:
        return
    namespace = pod.key.namespace
    covering = [each for each in budgets.collection.select(namespace) if _covers(each.obj, pod.labels)]
    if not covering:
        return
    if len(covering) > 1:
        text = (
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
        raise ApiError(text, status=500, reason="InternalError")
    budget = covering[0]
    status = budget.obj.get("status") or {}
    kept = "observedGeneration" in status
    if kept and status["observedGeneration"] < budget.metadata.get("generation", 0):
        raise _refused(budget.key.name, "the disruption budget is still being processed by the server")
    allowed = status.get("disruptionsAllowed", 0) if kept else _allowed(budget.obj, pods, namespace)
    if allowed <= 0:
        raise _refused(budget.key.name, "it would violate the pod's disruption budget")
    if kept and not dry_run:
        noted = {**(status.get("disruptedPods") or {}), pod.key.name: core.now()}
        left = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": noted}
        core.store.put(budgets.collection, budget.key, {**budget.obj, "status": left})


def _covers(budget: Object, labels: dict[str, str]) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    return selector is not None and label_selector(selector).matches(labels)


def _allowed(budget: Object, pods: Served, namespace: str) -> int:
    """How many of the budget's healthy pods may go."""
    spec = budget["spec"]
    mine = [record for record in pods.collection.select(namespace) if _covers(budget, record.labels)]
    expected = len(mine)
    healthy = sum(_ready(record) for record in mine)
    if spec.get("maxUnavailable") is not None:
        wanted = expected - _count(spec["maxUnavailable"], expected)
    else:
        wanted = _count(spec.get("minAvailable", 1), expected)
    return healthy - wanted


def _ready(pod: Record) -> bool:
    conditions = (pod.obj.get("status") or {}).get("conditions") or ()
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
    return ready and not pod.metadata.get("deletionTimestamp")


def _count(value: Any, total: int) -> int:
    """A number, or a percentage of `total` rounded up."""
    if isinstance(value, str) and value.endswith("%"):
        return math.ceil(int(value[:-1]) * total / 100)
    return int(value)


def _refused(budget: str, why: str) -> TooManyRequests:
    text = f"Cannot evict pod as {why}."
    cause = {
        "reason": "DisruptionBudget",
        "message": f"The disruption budget {budget} does not allow it now.",
    }
    return TooManyRequests(text, details={"causes": [cause], "retryAfterSeconds": 10}, retry_after=10)
