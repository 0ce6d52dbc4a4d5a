"""The words of a decision: what one pass sees, the steps it may take, what it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Any, Final, Literal

from kaito.api.conditions import Status
from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.decide.drain_steps import DrainStep, PodsOnNode, VolumesOfNode
from kaito.controllers.machine.running import GRACE
from kaito.controllers.machine.shapes import ClaimShape
from kaito.provisioner.cloud import ClaimSpec, Instance
from kaito.provisioner.errors import CloudError
from kaito.runtime.clock import rfc3339

Object = Mapping[str, Any]

MESSAGE_LIMIT: Final = 800
"""Characters of a cloud's message in a condition, as gpu-provisioner keeps."""
MINIMUM_POLL: Final = 5.0
"""Seconds that pass at least between two questions about one instance."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each stage of a claim may take, in seconds, before the claim is given up or says what is wrong.

    launch_timeout: from the cloud's beginning to make the instance until its id is known. AKS takes 5 to 15 minutes for
        a GPU pool; twice the slowest. Time in a queue, or for quota, rights or capacity, does not count.
    registration_timeout: from then until its Node is there (Karpenter: 15 min); also for one that goes and comes back.
    initialization_timeout: from then until the Node can take pods. Karpenter waits without end; the driver and the
        device plugin of a healthy GPU node are up within minutes.
    """

    launch_timeout: float = 1800.0
    registration_timeout: float = 900.0
    initialization_timeout: float = 900.0


@dataclass(frozen=True, slots=True)
class Observed:
    """The world as one pass sees it. Steps of the pass replace what they changed.

    nodes: those with the claim's provider id. launch: answer of the provider, once asked in this pass.
    instance: what the provider said of the instance in this pass: "present", "leaving", "absent", or why it
    cannot say. running: whether the cluster's machines are expected to be there, or why not, once asked;
    lasted: seconds for which that has been so, as far as anybody saw.
    hold: seconds that must pass before the provider is asked again, whatever else happens meanwhile.
    pods, volumes: by Node, once looked at in this pass. drained: nothing kept its Nodes in an earlier pass.
    ended: the provider was asked to end the instance in this pass.
    missing: seconds for which the claim's Node has been away although the cluster ran.
    """

    shape: ClaimShape
    claim: Object
    nodes: tuple[Object, ...] = ()
    launch: Instance | CloudError | None = None
    instance: Literal["present", "leaving", "absent"] | CloudError | None = None
    released: frozenset[str] = frozenset()
    hold: float = 0.0
    running: Literal[True] | CloudError | None = None
    lasted: float = inf
    pods: Mapping[str, PodsOnNode] = field(default_factory=dict)
    volumes: Mapping[str, VolumesOfNode] = field(default_factory=dict)
    drained: bool = False
    ended: bool = False
    missing: float = 0.0

    @property
    def asked(self) -> bool:
        """Whether the provider has answered in this pass."""
        return not (self.launch is None and self.instance is None and self.running is None)


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
class CheckRunning:
    """Ask the provider whether the cluster's machines are expected to be there."""


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


Step = (
    PatchClaim
    | Launch
    | PatchNode
    | CheckInstance
    | CheckRunning
    | Terminate
    | ReleaseNode
    | DeleteClaim
    | ReleaseClaim
    | DrainStep
)


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


def conditions_of(observed: Observed, now: datetime) -> ConditionSet:
    """The claim's conditions, with those of the life cycle materialised."""
    metadata = observed.claim["metadata"]
    return ConditionSet.read(
        (observed.claim.get("status") or {}).get("conditions") or (),
        observed.shape.dependents,
        generation=metadata.get("generation", 1),
        created=metadata["creationTimestamp"],
        now=rfc3339(now),
        with_generation=observed.shape.with_generation,
        deleting=bool(metadata.get("deletionTimestamp")),
    )


def news(conditions: ConditionSet, type: str, status: Status, reason: str, message: str) -> Warned | None:
    """A warning, unless the condition says the same already."""
    before = conditions.find(type) or {}
    told = (before.get("status"), before.get("reason"), before.get("message"))
    return None if told == (status, reason, message) else Warned(reason, message)


def give_up(
    observed: Observed, why: Warned, otherwise: Decision = Decision(), *, timeout: float = 0.0
) -> Decision:
    """The claim is deleted, so that another is made, unless `not_yet` says what is first."""
    first = not_yet(observed, otherwise, timeout)
    return Decision(DeleteClaim(), warning=why) if first is None else first


def not_yet(observed: Observed, otherwise: Decision, timeout: float = 0.0) -> Decision | None:
    """What comes before something is held against a machine; None: nothing does.

    The cluster's machines must be expected to be there and, where a stage's `timeout` is over, must have been for the
    grace after a start: the stage's time may have gone by while they stood still. Never longer than the stage itself.
    otherwise: what holds until then.
    """
    match observed.running:
        case None if observed.hold > 0:
            return replace(otherwise, step=None, requeue_after=observed.hold)
        case None:
            return Decision(CheckRunning())
        case CloudError(retry_after=seconds):
            return replace(otherwise, requeue_after=max(seconds, MINIMUM_POLL))
    left = min(GRACE, timeout) - observed.lasted
    return replace(otherwise, requeue_after=left) if left > 0 else None


def seconds_left(since: datetime, timeout: float, now: datetime) -> float:
    """Seconds until `timeout` has passed since then; never more than it, whatever clocks say."""
    return min(timeout, (since - now).total_seconds() + timeout)


def minutes(seconds: float) -> str:
    """A limit in words."""
    if seconds % 30:
        return f"{seconds:g} seconds"
    return "1 minute" if seconds == 60 else f"{seconds / 60:g} minutes"


def status_with(
    observed: Observed, conditions: ConditionSet, changes: Object | None = None
) -> dict[str, Any]:
    """The claim's status with these conditions and changes."""
    return {**(observed.claim.get("status") or {}), **(changes or {}), "conditions": conditions.as_list()}
