"""A launched claim: its Node joins, becomes the claim's own, and is waited for until it can take pods."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from kaito.api import labels
from kaito.controllers.machine import nodes as node_rules
from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.decide.steps import (
    CheckInstance,
    Decision,
    DeleteClaim,
    Limits,
    Object,
    Observed,
    PatchNode,
    Warned,
    conditions_of,
    status_with,
)
from kaito.provisioner.errors import CloudError
from kaito.runtime.clock import parse_time

MINIMUM_POLL: Final = 5.0
"""Seconds that pass at least between two questions about one instance."""
MISSING_NODE_POLL: Final = 120.0
"""Seconds between two questions about an instance whose Node is missing."""


def join(observed: Observed, now: datetime, limits: Limits) -> Decision:
    """Launched: wait for the Node, make it the claim's own, wait until it can take pods."""
    shape, conditions = observed.shape, conditions_of(observed, now)
    was_registered = conditions.is_true(shape.registered)
    if not observed.nodes:
        if was_registered:
            return _node_missing(observed)
        return _wait_for_node(observed, conditions, now, limits)
    if len(observed.nodes) > 1:
        names = ", ".join(sorted(node["metadata"]["name"] for node in observed.nodes))
        message = f"Invariant violated, matched multiple nodes: {names}"
        return Decision(
            status=status_with(
                observed, conditions.set(shape.registered, "False", "MultipleNodesFound", message)
            )
        )
    node = observed.nodes[0]
    if node["metadata"].get("deletionTimestamp"):
        message = f"its Node {node['metadata']['name']} was deleted"
        return Decision(DeleteClaim(), warning=Warned("NodeDeleted", message))
    if node_rules.is_lent(observed.claim) and not node_rules.is_lent_to(node, observed.claim):
        message = (
            f"the Node {node['metadata']['name']} was taken back: its annotation {labels.CLAIM_UID_ANNOTATION} "
            "no longer names this claim"
        )
        return Decision(DeleteClaim(), warning=Warned("InstanceGone", message))
    return _own(observed, conditions, node)


def _own(observed: Observed, conditions: ConditionSet, node: Object) -> Decision:
    """Register the Node and, where it is usable already, initialize it with the same patch."""
    shape, claim = observed.shape, observed.claim
    patch = None
    if not conditions.is_true(shape.registered):
        patch = node_rules.registration_patch(shape, claim, node)
    after = node if patch is None else node_rules.patched(node, patch)
    done = conditions.is_true(shape.initialized)
    lacking = None if done else node_rules.not_initialized(claim, after)
    marked = (after["metadata"].get("labels") or {}).get(labels.INITIALIZED_LABEL) == "true"
    if lacking is None and not done and not marked:
        patch = patch or {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}}
        patch["metadata"]["labels"] = {
            **patch["metadata"].get("labels", {}),
            labels.INITIALIZED_LABEL: "true",
        }
    if patch is not None:
        return Decision(PatchNode(node["metadata"]["name"], patch))
    conditions = conditions.set_true(shape.registered)
    changes: dict[str, Any] = {"nodeName": node["metadata"]["name"]}
    if lacking is not None:
        conditions = conditions.set(shape.initialized, "Unknown", *lacking)
    elif not done:
        conditions = conditions.set_true(shape.initialized)
        node_status = node.get("status") or {}
        for key in ("capacity", "allocatable"):
            if node_status.get(key):
                changes[key] = dict(node_status[key])
    return Decision(status=status_with(observed, conditions, changes))


def _wait_for_node(observed: Observed, conditions: ConditionSet, now: datetime, limits: Limits) -> Decision:
    shape = observed.shape
    launched = parse_time(conditions.get(shape.launched)["lastTransitionTime"])
    left = (launched + timedelta(seconds=limits.registration_timeout) - now).total_seconds()
    if left <= 0:
        minutes = f"{limits.registration_timeout / 60:g} minutes"
        message = (
            f"no Node joined within {minutes} of the instance's launch; it is given up and will be replaced"
        )
        return Decision(DeleteClaim(), warning=Warned("RegistrationTimeout", message))
    message = "Node not registered with cluster"
    return Decision(
        status=status_with(observed, conditions.set(shape.registered, "Unknown", "NodeNotFound", message)),
        requeue_after=left,
    )


def _node_missing(observed: Observed) -> Decision:
    """The Node of a registered claim is gone. Without an instance the claim is worthless; with one, keep
    asking."""
    provider_id = observed.claim["status"]["providerID"]
    match observed.instance:
        case None if observed.hold > 0:
            return Decision(requeue_after=observed.hold)
        case None:
            return Decision(CheckInstance(provider_id))
        case "absent":
            message = f"its Node and its instance {provider_id} are gone"
            return Decision(DeleteClaim(), warning=Warned("InstanceGone", message))
        case CloudError(retry_after=seconds):
            return Decision(requeue_after=max(seconds, MINIMUM_POLL))
        case _:
            return Decision(requeue_after=MISSING_NODE_POLL)
