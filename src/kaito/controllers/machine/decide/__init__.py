"""What to do next for one claim. Pure: no I/O, no clock, no randomness.

One pass asks again after every step, with what the step brought, until there is nothing left to do but to
write the status and wait:

    live claim       finalizer -> launch -> register the Node -> initialized
    claim on its way out   cordon the Node -> end the instance, until it is really gone -> release Node ->
    release claim
    claim on its way out whose Node is lent   give the Node back -> release claim

A launch that may succeed later leaves Launched Unknown; one that cannot makes it False, which tells the
Workspace to make another claim. A claim whose instance or Node is gone, or never became a Node in time, is
deleted for the same end.
"""

from __future__ import annotations

from datetime import datetime

from kaito.api import labels
from kaito.controllers.machine.decide.ending import TERMINATING, TERMINATION_POLL, finish
from kaito.controllers.machine.decide.join import MISSING_NODE_POLL, join
from kaito.controllers.machine.decide.launch import claim_patch, launch
from kaito.controllers.machine.decide.steps import (
    MESSAGE_LIMIT,
    CheckInstance,
    CheckRunning,
    Decision,
    DeleteClaim,
    Launch,
    Limits,
    Observed,
    PatchClaim,
    PatchNode,
    ReleaseClaim,
    ReleaseNode,
    Step,
    Terminate,
    Warned,
)

__all__ = [
    "MESSAGE_LIMIT",
    "MISSING_NODE_POLL",
    "TERMINATING",
    "TERMINATION_POLL",
    "CheckInstance",
    "CheckRunning",
    "Decision",
    "DeleteClaim",
    "Launch",
    "Limits",
    "Observed",
    "PatchClaim",
    "PatchNode",
    "ReleaseClaim",
    "ReleaseNode",
    "Step",
    "Terminate",
    "Warned",
    "decide",
]


def decide(observed: Observed, now: datetime, limits: Limits) -> Decision:
    """The next step for this claim, or its status when there is none."""
    metadata = observed.claim["metadata"]
    if labels.TERMINATION_FINALIZER in (metadata.get("finalizers") or ()):
        if metadata.get("deletionTimestamp"):
            return finish(observed, now)
    elif metadata.get("deletionTimestamp"):
        return Decision()
    if (patch := claim_patch(observed.shape, observed.claim)) is not None:
        return Decision(PatchClaim(patch))
    if (observed.claim.get("status") or {}).get("providerID"):
        return join(observed, now, limits)
    return launch(observed, now, limits)
