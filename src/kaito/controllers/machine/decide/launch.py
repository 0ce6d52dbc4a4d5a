"""A claim without an instance: finalizer and labels first, then the provider is asked until it has one.

A launch that may succeed later leaves Launched Unknown; one that cannot makes it False, which tells the
Workspace to make another claim.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kaito.api import labels
from kaito.api.conditions import Status
from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.decide.steps import (
    MESSAGE_LIMIT,
    Decision,
    Launch,
    Object,
    Observed,
    PatchClaim,
    Warned,
    conditions_of,
    status_with,
)
from kaito.controllers.machine.shapes import InvalidClaim, single_valued_labels
from kaito.provisioner.errors import CloudError, InstancePending


def claim_patch(claim: Object) -> dict[str, Any] | None:
    """Finalizer before anything costs money, and the labels that the requirements leave no choice about."""
    metadata = claim["metadata"]
    patch: dict[str, Any] = {}
    finalizers = metadata.get("finalizers") or []
    if labels.TERMINATION_FINALIZER not in finalizers:
        patch["finalizers"] = [*finalizers, labels.TERMINATION_FINALIZER]
    found = metadata.get("labels") or {}
    missing = {key: value for key, value in single_valued_labels(claim).items() if key not in found}
    if missing:
        patch["labels"] = missing
    return {"metadata": {"resourceVersion": metadata["resourceVersion"], **patch}} if patch else None


def launch(observed: Observed, now: datetime) -> Decision:
    """Ask for the instance; write down which it is, or why there is none."""
    shape, conditions = observed.shape, conditions_of(observed, now)
    if conditions.get(shape.launched)["status"] == "False":
        return Decision()  # failed for good; the Workspace makes another claim
    if observed.launch is None:
        if observed.hold > 0:
            return Decision(requeue_after=observed.hold)
        try:
            return Decision(Launch(shape.claim_spec(observed.claim)))
        except InvalidClaim as problem:
            return _failed(observed, conditions, "False", "InvalidClaim", str(problem))
    if isinstance(observed.launch, CloudError):
        error = observed.launch
        status: Status = "False" if error.terminal else "Unknown"
        wait = None if error.terminal else error.retry_after
        quiet = isinstance(error, InstancePending)
        return _failed(observed, conditions, status, error.why, error.message, wait=wait, quiet=quiet)
    instance = observed.launch
    metadata = observed.claim["metadata"]
    if (metadata.get("labels") or {}).get(labels.INSTANCE_TYPE_LABEL) != instance.instance_type:
        wanted = {**instance.labels, labels.INSTANCE_TYPE_LABEL: instance.instance_type}
        patch = {"resourceVersion": metadata["resourceVersion"], "labels": wanted}
        return Decision(PatchClaim({"metadata": patch}))
    conditions = conditions.set_true(shape.launched)
    changes: dict[str, Any] = {"providerID": instance.provider_id}
    if instance.image_id and shape.with_generation:
        changes["imageID"] = instance.image_id
    if instance.capacity:
        changes["capacity"] = dict(instance.capacity)
    return Decision(status=status_with(observed, conditions, changes))


def _failed(
    observed: Observed,
    conditions: ConditionSet,
    status: Status,
    reason: str,
    message: str,
    *,
    wait: float | None = None,
    quiet: bool = False,
) -> Decision:
    launched = observed.shape.launched
    message = message[:MESSAGE_LIMIT]
    before = conditions.get(launched)
    news = (before.get("reason"), before.get("message")) != (reason, message)
    return Decision(
        status=status_with(observed, conditions.set(launched, status, reason, message)),
        requeue_after=wait,
        warning=Warned(reason, message) if news and not quiet else None,
    )
