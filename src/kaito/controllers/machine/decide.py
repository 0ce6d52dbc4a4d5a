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

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from kaito.api import labels
from kaito.api.conditions import Status
from kaito.controllers.machine import nodes as node_rules
from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.shapes import ClaimShape, InvalidClaim, single_valued_labels
from kaito.provisioner.cloud import ClaimSpec, Instance
from kaito.provisioner.errors import CloudError, InstancePending
from kaito.runtime.clock import parse_time, rfc3339

Object = Mapping[str, Any]

MESSAGE_LIMIT: Final = 800
"""Characters of a cloud's message in a condition, as gpu-provisioner keeps."""
TERMINATING: Final = "InstanceTerminating"
TERMINATION_POLL: Final = 5.0
"""Seconds between two questions whether an instance is gone."""
MISSING_NODE_POLL: Final = 120.0
"""Seconds between two questions about an instance whose Node is missing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """registration_timeout: seconds an instance has to become a Node before its claim is given up (Karpenter:
    15 min)."""

    registration_timeout: float = 900.0


@dataclass(frozen=True, slots=True)
class Observed:
    """The world as one pass sees it. Steps of the pass replace what they changed.

    nodes: those with the claim's provider id. launch: answer of the provider, once asked in this pass.
    instance: what the provider said of the instance in this pass: "present", "leaving", "absent", or why it
    cannot say.
    hold: seconds that must pass before the provider is asked again, whatever else happens meanwhile.
    """

    shape: ClaimShape
    claim: Object
    nodes: tuple[Object, ...] = ()
    launch: Instance | CloudError | None = None
    instance: Literal["present", "leaving", "absent"] | CloudError | None = None
    released: frozenset[str] = frozenset()
    hold: float = 0.0

    @property
    def asked(self) -> bool:
        """Whether the provider has answered in this pass."""
        return self.launch is not None or self.instance is not None


@dataclass(frozen=True, slots=True)
class PatchClaim:
    """Merge-patch the claim's metadata."""

    patch: Object


@dataclass(frozen=True, slots=True)
class Launch:
    """Ask the provider for the instance."""

    spec: ClaimSpec


@dataclass(frozen=True, slots=True)
class PatchNode:
    """Merge-patch a Node."""

    name: str
    patch: Object


@dataclass(frozen=True, slots=True)
class CheckInstance:
    """Ask the provider whether the instance exists."""

    provider_id: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """End the instance. None: not known yet which it is; look for one made for this claim."""

    provider_id: str | None


@dataclass(frozen=True, slots=True)
class ReleaseNode:
    """Take our finalizer off the Node and delete it."""

    node: Object


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    """Give the claim up."""


@dataclass(frozen=True, slots=True)
class ReleaseClaim:
    """Take our finalizer off the claim."""


Step = PatchClaim | Launch | PatchNode | CheckInstance | Terminate | ReleaseNode | DeleteClaim | ReleaseClaim


@dataclass(frozen=True, slots=True)
class Warned:
    """A Warning event on the claim."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """step: do this and decide again. Without a step: write `status` if it differs, then wait.

    requeue_after: seconds until the next look even if nothing changes. warning: told with the status, once.
    """

    step: Step | None = None
    status: Object | None = None
    requeue_after: float | None = None
    warning: Warned | None = None


def decide(observed: Observed, now: datetime, limits: Limits) -> Decision:
    """The next step for this claim, or its status when there is none."""
    metadata = observed.claim["metadata"]
    if labels.TERMINATION_FINALIZER in (metadata.get("finalizers") or ()):
        if metadata.get("deletionTimestamp"):
            return _finish(observed, now)
    elif metadata.get("deletionTimestamp"):
        return Decision()
    if (patch := _claim_patch(observed.claim)) is not None:
        return Decision(PatchClaim(patch))
    if (observed.claim.get("status") or {}).get("providerID"):
        return _join(observed, now, limits)
    return _launch(observed, now)


def _claim_patch(claim: Object) -> dict[str, Any] | None:
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


def _conditions(observed: Observed, now: datetime) -> ConditionSet:
    metadata = observed.claim["metadata"]
    return ConditionSet.read(
        (observed.claim.get("status") or {}).get("conditions") or (),
        observed.shape.dependents,
        generation=metadata.get("generation", 1),
        created=metadata["creationTimestamp"],
        now=rfc3339(now),
        with_generation=observed.shape.with_generation,
    )


def _launch(observed: Observed, now: datetime) -> Decision:
    shape, conditions = observed.shape, _conditions(observed, now)
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
    return Decision(status=_status(observed, conditions, changes))


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
        status=_status(observed, conditions.set(launched, status, reason, message)),
        requeue_after=wait,
        warning=Warned(reason, message) if news and not quiet else None,
    )


def _join(observed: Observed, now: datetime, limits: Limits) -> Decision:
    """Launched: wait for the Node, make it the claim's own, wait until it can take pods."""
    shape, conditions = observed.shape, _conditions(observed, now)
    was_registered = conditions.is_true(shape.registered)
    if not observed.nodes:
        if was_registered:
            return _node_missing(observed)
        return _wait_for_node(observed, conditions, now, limits)
    if len(observed.nodes) > 1:
        names = ", ".join(sorted(node["metadata"]["name"] for node in observed.nodes))
        message = f"Invariant violated, matched multiple nodes: {names}"
        return Decision(
            status=_status(observed, conditions.set(shape.registered, "False", "MultipleNodesFound", message))
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
    return Decision(status=_status(observed, conditions, changes))


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
        status=_status(observed, conditions.set(shape.registered, "Unknown", "NodeNotFound", message)),
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
            return Decision(requeue_after=max(seconds, TERMINATION_POLL))
        case _:
            return Decision(requeue_after=MISSING_NODE_POLL)


def _finish(observed: Observed, now: datetime) -> Decision:
    """The claim is being deleted: nothing of it may stay behind in the cloud."""
    if node_rules.is_lent(observed.claim):
        return _give_back(observed, now)
    for node in observed.nodes:
        leaving = node["metadata"].get("deletionTimestamp") or node_rules.is_disrupted(node)
        if not leaving and labels.TERMINATION_FINALIZER in (node["metadata"].get("finalizers") or ()):
            return Decision(PatchNode(node["metadata"]["name"], node_rules.cordon_patch(node)))
    match observed.instance:
        case None if observed.hold > 0:
            return Decision(requeue_after=observed.hold)
        case None | "present":
            return Decision(Terminate((observed.claim.get("status") or {}).get("providerID")))
        case "leaving":
            return Decision(requeue_after=TERMINATION_POLL)
        case CloudError() as error:
            return _cannot_end(observed, now, error)
        case "absent":
            waiting = [node for node in observed.nodes if node["metadata"]["name"] not in observed.released]
            if waiting:
                return Decision(ReleaseNode(waiting[0]))
            return Decision() if observed.nodes else Decision(ReleaseClaim())


def _give_back(observed: Observed, now: datetime) -> Decision:
    """The claim is being deleted and its Node stays: only what the claim put onto it goes."""
    if observed.nodes and not any(node_rules.is_lent_to(node, observed.claim) for node in observed.nodes):
        return Decision(ReleaseClaim())  # given back, or taken back and perhaps another claim's by now
    match observed.instance:
        case None if observed.hold > 0:
            return Decision(requeue_after=observed.hold)
        case None | "present":
            return Decision(Terminate(observed.claim["status"]["providerID"]))
        case "leaving":
            return Decision(requeue_after=TERMINATION_POLL)
        case CloudError() as error:
            return _cannot_end(observed, now, error)
        case "absent":
            return Decision(ReleaseClaim())


def _cannot_end(observed: Observed, now: datetime, error: CloudError) -> Decision:
    """The instance may still cost money: the claim stays and says why."""
    conditions, message = _conditions(observed, now), error.message[:MESSAGE_LIMIT]
    before = [each for each in conditions.conditions if each["type"] == TERMINATING]
    news = not before or (before[0].get("reason"), before[0].get("message")) != (error.why, message)
    return Decision(
        status=_status(observed, conditions.set(TERMINATING, "Unknown", error.why, message)),
        requeue_after=error.retry_after,
        warning=Warned(error.why, message) if news else None,
    )


def _status(observed: Observed, conditions: ConditionSet, changes: Object | None = None) -> dict[str, Any]:
    return {**(observed.claim.get("status") or {}), **(changes or {}), "conditions": conditions.as_list()}
