"""The words of a decision: what one pass sees, the steps it may take, what it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.shapes import ClaimShape
from kaito.provisioner.cloud import ClaimSpec, Instance
from kaito.provisioner.errors import CloudError
from kaito.runtime.clock import rfc3339

Object = Mapping[str, Any]

MESSAGE_LIMIT: Final = 800
"""Characters of a cloud's message in a condition, as gpu-provisioner keeps."""


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
    )


def status_with(
    observed: Observed, conditions: ConditionSet, changes: Object | None = None
) -> dict[str, Any]:
    """The claim's status with these conditions and changes."""
    return {**(observed.claim.get("status") or {}), **(changes or {}), "conditions": conditions.as_list()}
