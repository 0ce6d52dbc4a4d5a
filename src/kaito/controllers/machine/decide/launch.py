"""A claim without an instance: finalizer and labels first, then the provider is asked until it has one.

A launch that may succeed later leaves Launched Unknown; one that cannot makes it False, which tells the
Workspace to make another claim. One that takes too long ends the claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from kaito.api import labels
from kaito.api.conditions import Status
from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.decide.steps import (
    MESSAGE_LIMIT,
    Decision,
    Launch,
    Limits,
    Object,
    Observed,
    PatchClaim,
    Warned,
    conditions_of,
    give_up,
    minutes,
    news,
    seconds_left,
    status_with,
)
from kaito.controllers.machine.shapes import RESTRICTED_KEYS, ClaimShape, InvalidClaim, single_valued_labels
from kaito.provisioner.cloud import Instance
from kaito.provisioner.errors import CloudError, InstancePending
from kaito.runtime.clock import parse_time


def claim_patch(shape: ClaimShape, claim: Object) -> dict[str, Any] | None:
    """Finalizer before anything costs money, and the labels that the claim's spec leaves no choice about."""
    metadata = claim["metadata"]
    patch: dict[str, Any] = {}
    finalizers = metadata.get("finalizers") or []
    if labels.TERMINATION_FINALIZER not in finalizers:
        patch["finalizers"] = [*finalizers, labels.TERMINATION_FINALIZER]
    wanted = {**single_valued_labels(claim), **shape.class_labels(claim)}
    if missing := _missing(metadata, wanted):
        patch["labels"] = missing
    return {"metadata": {"resourceVersion": metadata["resourceVersion"], **patch}} if patch else None


def _missing(metadata: Object, wanted: Mapping[str, str]) -> dict[str, str]:
    found = metadata.get("labels") or {}
    return {key: value for key, value in wanted.items() if key not in found}


def launch(observed: Observed, now: datetime, limits: Limits) -> Decision:
    """Ask for the instance; write down which it is, or why there is none."""
    shape, conditions = observed.shape, conditions_of(observed, now)
    if conditions.get(shape.launched)["status"] == "False":
        return Decision()  # failed for good; the Workspace makes another claim
    match observed.launch:
        case Instance() as instance:
            return _launched(observed, conditions, instance)
        case CloudError() as error:
            return _not_launched(observed, conditions, error, now, limits)
        case None:
            if observed.hold > 0:
                return Decision(requeue_after=observed.hold)
            try:
                return Decision(Launch(shape.claim_spec(observed.claim)))
            except InvalidClaim as problem:
                return _failed(observed, conditions, "False", "InvalidClaim", str(problem))


def _launched(observed: Observed, conditions: ConditionSet, instance: Instance) -> Decision:
    """The labels of the instance come onto the claim, under its own; then its status names the instance."""
    shape, metadata = observed.shape, observed.claim["metadata"]
    known = {key: value for key, value in instance.labels.items() if key not in RESTRICTED_KEYS}
    wanted = _missing(metadata, known)
    if (metadata.get("labels") or {}).get(labels.INSTANCE_TYPE_LABEL) != instance.instance_type:
        wanted[labels.INSTANCE_TYPE_LABEL] = instance.instance_type
    if wanted:
        patch = {"resourceVersion": metadata["resourceVersion"], "labels": wanted}
        return Decision(PatchClaim({"metadata": patch}))
    changes: dict[str, Any] = {"providerID": instance.provider_id}
    if instance.image_id and shape.with_generation:
        changes["imageID"] = instance.image_id
    if instance.capacity:
        changes["capacity"] = dict(instance.capacity)
    return Decision(status=status_with(observed, conditions.set_true(shape.launched), changes))


def _not_launched(
    observed: Observed, conditions: ConditionSet, error: CloudError, now: datetime, limits: Limits
) -> Decision:
    if error.terminal:
        return _failed(observed, conditions, "False", error.why, error.message)
    failed = _failed(
        observed,
        conditions,
        "Unknown",
        error.why,
        error.message,
        wait=error.retry_after,
        quiet=isinstance(error, InstancePending) and error.why == error.reason,
    )
    begun = _begun(error, conditions.get(observed.shape.launched))
    if begun is None:
        return failed
    left = seconds_left(begun, limits.launch_timeout, now)
    if left > 0:
        return replace(failed, requeue_after=min(error.retry_after, left))
    message = (
        f"no instance within {minutes(limits.launch_timeout)}; it is given up and will be replaced. "
        f"Last, {error.why}: {error.message}"
    )
    late = Warned("LaunchTimeout", message[:MESSAGE_LIMIT])
    return give_up(observed, late, failed, timeout=limits.launch_timeout)


def _begun(error: CloudError, launched: Mapping[str, Any]) -> datetime | None:
    """Since when another claim could fare better: the cloud does not finish, or fails and nobody knows why.

    None: it could not. A turn, quota, rights, capacity or the cluster are missing: the claim waits, and says so.
    """
    if isinstance(error, InstancePending) and error.since is not None:
        return error.since
    return parse_time(launched["lastTransitionTime"]) if error.why == CloudError.reason else None


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
    return Decision(
        status=status_with(observed, conditions.set(launched, status, reason, message)),
        requeue_after=wait,
        warning=None if quiet else news(conditions, launched, status, reason, message),
    )
