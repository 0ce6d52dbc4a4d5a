"""A launched claim: its Node joins, becomes the claim's own, and is waited for until it can take pods."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from kaito.api import labels
from kaito.controllers.machine import nodes as node_rules
from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.decide.steps import (
    MINIMUM_POLL,
    CheckInstance,
    CheckRunning,
    Decision,
    Limits,
    Object,
    Observed,
    PatchNode,
    ReleaseNode,
    Warned,
    conditions_of,
    give_up,
    minutes,
    news,
    not_yet,
    seconds_left,
    status_with,
)
from kaito.provisioner.errors import CloudError
from kaito.runtime.clock import parse_time

MISSING_NODE_POLL: Final = 120.0
"""Seconds between two questions about an instance whose Node is missing."""
MACHINE_AT_FAULT: Final = ("NodeNotReady", "KnownEphemeralTaintsExist")
"""What a Node lacks for longer than its time, and another machine may not: the claim is given up. A startup taint that
nobody takes away, or a resource that nobody offers, would be missing on the next machine as well: the claim says so."""


def join(observed: Observed, now: datetime, limits: Limits) -> Decision:
    """Launched: wait for the Node, make it the claim's own, wait until it can take pods."""
    shape, conditions = observed.shape, conditions_of(observed, now)
    was_registered = conditions.is_true(shape.registered)
    if not observed.nodes:
        if was_registered:
            return _node_missing(observed, limits)
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
        return _node_deleted(observed, node)
    if node_rules.is_lent(observed.claim) and not node_rules.is_lent_to(node, observed.claim):
        message = (
            f"the Node {node['metadata']['name']} was taken back: its annotation {labels.CLAIM_UID_ANNOTATION} "
            "no longer names this claim"
        )
        return give_up(observed, Warned("InstanceGone", message))
    return _own(observed, conditions, node, now, limits)


def _own(
    observed: Observed, conditions: ConditionSet, node: Object, now: datetime, limits: Limits
) -> Decision:
    """Register the Node and, where it is usable already, initialize it with the same patch.

    A Node that came back after somebody deleted it is registered again.
    """
    shape, claim = observed.shape, observed.claim
    again = conditions.is_true(shape.registered)
    patch = node_rules.registration_patch(shape, claim, node, again=again)
    after = node if patch is None else node_rules.patched(node, patch)
    done = conditions.is_true(shape.initialized)
    lacking = None if done else node_rules.not_initialized(claim, after)
    marked = (after["metadata"].get("labels") or {}).get(labels.INITIALIZED_LABEL) == "true"
    if lacking is None and not marked and (not done or patch is not None):
        patch = patch or {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}}
        patch["metadata"]["labels"] = {
            **patch["metadata"].get("labels", {}),
            labels.INITIALIZED_LABEL: "true",
        }
    if patch is not None:
        return Decision(PatchNode(node["metadata"]["name"], patch))
    conditions = conditions.set_true(shape.registered)
    if lacking is not None:
        return _not_initialized(observed, conditions, node, lacking, now, limits)
    changes: dict[str, Any] = {"nodeName": node["metadata"]["name"]}
    if not done:
        conditions = conditions.set_true(shape.initialized)
        node_status = node.get("status") or {}
        for key in ("capacity", "allocatable"):
            if node_status.get(key):
                changes[key] = dict(node_status[key])
    return Decision(status=status_with(observed, conditions, changes))


def _not_initialized(
    observed: Observed,
    conditions: ConditionSet,
    node: Object,
    lacking: tuple[str, str],
    now: datetime,
    limits: Limits,
) -> Decision:
    """The Node is the claim's and cannot take its pods yet, or for too long."""
    type, name = observed.shape.initialized, node["metadata"]["name"]
    changes = {"nodeName": name}
    (reason, message), late = lacking, minutes(limits.initialization_timeout)
    registered = parse_time(conditions.get(observed.shape.registered)["lastTransitionTime"])
    left = seconds_left(registered, limits.initialization_timeout, now)
    waiting = Decision(
        status=status_with(observed, conditions.set(type, "Unknown", reason, message), changes),
        requeue_after=max(left, 0.0) or None,
    )
    if left > 0:
        return waiting
    if reason in MACHINE_AT_FAULT:
        told = f"its Node {name} cannot take pods {late} after it joined ({message}); it will be replaced"
        why = Warned("InitializationTimeout", told)
        return give_up(observed, why, waiting, timeout=limits.initialization_timeout)
    if conditions.get(type)["status"] != "False" and (
        first := not_yet(observed, waiting, limits.initialization_timeout)
    ):
        return first
    if (gpus := node_rules.missing_gpus(observed.claim, node)) is not None:
        size = (node["metadata"].get("labels") or {}).get(labels.INSTANCE_TYPE_LABEL, "size unknown")
        reason = "GpuNotFound"
        message = (
            f"Node {name} ({size}) is Ready but {late} after it joined shows none of its {gpus}; look at the "
            "device plugin's pod on it, then at the GPU driver (nvidia-smi)"
        )
    return Decision(
        status=status_with(observed, conditions.set(type, "False", reason, message), changes),
        warning=news(conditions, type, "False", reason, message),
    )


def _wait_for_node(observed: Observed, conditions: ConditionSet, now: datetime, limits: Limits) -> Decision:
    shape = observed.shape
    launched = parse_time(conditions.get(shape.launched)["lastTransitionTime"])
    left = seconds_left(launched, limits.registration_timeout, now)
    message = "Node not registered with cluster"
    waiting = Decision(
        status=status_with(observed, conditions.set(shape.registered, "Unknown", "NodeNotFound", message)),
        requeue_after=max(left, 0.0) or None,
    )
    if left > 0:
        return waiting
    message = (
        f"no Node joined within {minutes(limits.registration_timeout)} of the instance's launch; it is given up "
        "and will be replaced"
    )
    return give_up(
        observed, Warned("RegistrationTimeout", message), waiting, timeout=limits.registration_timeout
    )


def _node_deleted(observed: Observed, node: Object) -> Decision:
    """Somebody wants the Node gone, and its machine with it. A cluster that stops or starts means neither: the Node is
    let go then, and its machine makes it again."""
    metadata = node["metadata"]
    finalizers = metadata.get("finalizers") or ()
    held = labels.TERMINATION_FINALIZER in finalizers and metadata["name"] not in observed.released
    return give_up(
        observed,
        Warned("NodeDeleted", f"its Node {metadata['name']} was deleted"),
        Decision(ReleaseNode(node)) if held else Decision(),
    )


def _node_missing(observed: Observed, limits: Limits) -> Decision:
    """The Node of a registered claim is gone. Without an instance the claim is worthless; with one, it may come back
    for as long as a Node may take to join."""
    provider_id = observed.claim["status"]["providerID"]
    match observed.instance:
        case None if observed.hold > 0:
            return Decision(requeue_after=observed.hold)
        case None:
            return Decision(CheckInstance(provider_id))
        case "absent":
            message = f"its Node and its instance {provider_id} are gone"
            return give_up(observed, Warned("InstanceGone", message))
        case CloudError(retry_after=seconds):
            return Decision(requeue_after=max(seconds, MINIMUM_POLL))
    if observed.running is None:
        return Decision(CheckRunning())  # the time of a cluster that stands still does not count
    left = limits.registration_timeout - observed.missing
    if left > 0 or observed.running is not True:
        return Decision(requeue_after=min(left, MISSING_NODE_POLL) if left > 0 else MISSING_NODE_POLL)
    message = (
        f"its Node is gone and has not come back within {minutes(limits.registration_timeout)}, although the cloud "
        f"still has its instance {provider_id}; it will be replaced"
    )
    return give_up(observed, Warned("RegistrationTimeout", message))
