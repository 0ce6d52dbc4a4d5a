"""A claim on its way out: nothing of it may stay behind in the cloud, and nothing on its Node is cut off early."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kaito.api import labels
from kaito.controllers.machine import nodes as node_rules
from kaito.controllers.machine.decide.draining import drain, drained, is_its_own, note_deadline
from kaito.controllers.machine.decide.steps import (
    MESSAGE_LIMIT,
    Decision,
    Observed,
    PatchNode,
    ReleaseClaim,
    ReleaseNode,
    Terminate,
    Warned,
    conditions_of,
    status_with,
)
from kaito.provisioner.errors import CloudError, InstancePending

TERMINATING: Final = "InstanceTerminating"
TERMINATION_POLL: Final = 5.0
"""Seconds between two questions whether an instance is gone."""


def finish(observed: Observed, now: datetime) -> Decision:
    """Cordon, drain, end the instance until it is really gone, release Node and claim."""
    if node_rules.is_lent(observed.claim):
        return _give_back(observed, now)
    for node in observed.nodes:
        leaving = node["metadata"].get("deletionTimestamp") or node_rules.is_disrupted(node)
        if not leaving and labels.TERMINATION_FINALIZER in (node["metadata"].get("finalizers") or ()):
            return Decision(PatchNode(node["metadata"]["name"], node_rules.cordon_patch(node)))
    if not observed.ended:
        return _before_the_end(observed, now)
    match observed.instance:
        case "absent":
            waiting = [node for node in observed.nodes if node["metadata"]["name"] not in observed.released]
            if waiting:
                return Decision(ReleaseNode(waiting[0]))
            return Decision() if observed.nodes else Decision(ReleaseClaim())
        case _:
            return _ending(observed, now)


def _before_the_end(observed: Observed, now: datetime) -> Decision:
    """Nobody has asked the cloud to end the instance in this pass yet."""
    conditions = conditions_of(observed, now)
    if is_its_own(observed, conditions) and not (observed.drained or _was_ended(observed)):
        if (note := note_deadline(observed.claim)) is not None:
            return Decision(note)
        if (decision := drain(observed, now)) is not None:
            return decision
    if observed.instance is None and observed.hold > 0:
        return Decision(requeue_after=observed.hold)
    if isinstance(observed.instance, CloudError):
        return _cannot_end(observed, now, observed.instance)
    return Decision(Terminate((observed.claim.get("status") or {}).get("providerID")))


def _was_ended(observed: Observed) -> bool:
    """Whether the instance was told to end in an earlier pass, as far as the claim remembers."""
    found = (observed.claim.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == TERMINATING and each.get("status") == "True" for each in found)


def _give_back(observed: Observed, now: datetime) -> Decision:
    """The claim is being deleted and its Node stays: only what the claim put onto it goes."""
    if observed.nodes and not any(node_rules.is_lent_to(node, observed.claim) for node in observed.nodes):
        return Decision(ReleaseClaim())  # given back, or taken back and perhaps another claim's by now
    match observed.instance:
        case None if observed.hold > 0:
            return Decision(requeue_after=observed.hold)
        case None | "present":
            return Decision(Terminate(observed.claim["status"]["providerID"]))
        case "absent":
            return Decision(ReleaseClaim())
        case _:
            return _ending(observed, now)


def _ending(observed: Observed, now: datetime) -> Decision:
    """The cloud has been asked and is not through: it is at it, or it cannot."""
    match observed.instance:
        case CloudError() as error if not isinstance(error, InstancePending):
            return _cannot_end(observed, now, error)
        case InstancePending(message=why, retry_after=seconds):
            why, wait = why[:MESSAGE_LIMIT], seconds
        case _:
            why, wait = "", TERMINATION_POLL
    conditions = drained(observed, now).set(TERMINATING, "True", TERMINATING, why)
    return Decision(status=status_with(observed, conditions), requeue_after=wait)


def _cannot_end(observed: Observed, now: datetime, error: CloudError) -> Decision:
    """The instance may still cost money: the claim stays and says why."""
    conditions, message = conditions_of(observed, now), error.message[:MESSAGE_LIMIT]
    before = [each for each in conditions.conditions if each["type"] == TERMINATING]
    news = not before or (before[0].get("reason"), before[0].get("message")) != (error.why, message)
    return Decision(
        status=status_with(observed, conditions.set(TERMINATING, "Unknown", error.why, message)),
        requeue_after=error.retry_after,
        warning=Warned(error.why, message) if news else None,
    )
