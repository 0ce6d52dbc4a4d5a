"""The seam between claims and clouds: what a provider must be able to do.

A provider works by desired state: each verb may be called again at any time, also by another process after a crash, and
keeps no memory that matters. Verbs never wait for slow operations: they start them and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Protocol

EXISTING_SCHEME: Final = "existing://"
"""An instance whose id begins so is a Node that was there before its claim and stays after it: it is never deleted and
gets neither finalizer nor owner. Its name follows; `spec.providerID`, which such Nodes often lack, is left alone."""


def existing_id(node: str) -> str:
    """The id of an existing node of that name as an instance."""
    return EXISTING_SCHEME + node


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    """One node that is wanted, in the words of neither Machine nor NodeClaim.

    kind: Machine or NodeClaim. instance_types: machine sizes to try, best first; never empty.
    created: when the claim was made. requests: resource name to quantity.
    taints, startup_taints: as in `spec.taints` of a Node.
    requirements: label key to the values that `spec.requirements` allows by the operator In, in their order.
    """

    name: str
    uid: str
    created: datetime
    instance_types: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, Any], ...] = ()
    startup_taints: tuple[Mapping[str, Any], ...] = ()
    requests: Mapping[str, str] = field(default_factory=dict)
    requirements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kind: str = "NodeClaim"


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """Which instance is meant: that of a claim, by the claim and by the machine's id where that is known.

    provider_id: "" before the cloud has told it. Both names: the claim's; either is "" where nobody knows.
    created: when the claim was made, which tells instances that another controller made for claims of this name.
    """

    provider_id: str = ""
    claim_name: str = ""
    claim_uid: str = ""
    created: datetime | None = None

    def __str__(self) -> str:
        return self.provider_id or f"of claim {self.claim_name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine of the cloud.

    provider_id: equal to `spec.providerID` of the Node that it becomes, or `existing_id` of one that is lent; "" only
        in answers of `list`, for one that has none yet or never will.
    claim_name, claim_uid: the claim it was made for; "" where the cloud does not know.
    created: when its claim or, where that is not known, the cloud's instance was made.
    labels: what the cloud knows of it (instance type, zone, …); laid under the claim's own labels.
    capacity: resources it will have, as far as known before it joins; a GPU that is named here must be visible on the
        Node before the claim counts as initialized.
    """

    provider_id: str
    instance_type: str
    claim_uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, str] = field(default_factory=dict)
    image_id: str = ""
    claim_name: str = ""
    created: datetime | None = None

    @property
    def ref(self) -> InstanceRef:
        return InstanceRef(self.provider_id, self.claim_name, self.claim_uid, self.created)


class CloudProvider(Protocol):
    """A cloud. Every verb raises `CloudError` and nothing else for what the cloud refuses or cannot do.

    Providers inherit from it: what a simple cloud has no use for has a body here.
    """

    claim_label: ClassVar[str] = ""
    """Label of this cloud's Nodes whose value is the name of their claim; "" where they have none. Claims are looked at
    again when a Node with their name under it appears or changes, also before its provider id is known."""

    hidden: ClassVar[bool] = True
    """Whether it may have instances that no Node shows, as machines that never joined. They are looked for now and
    then; where there are none, a settled world costs no request at all."""

    async def create(self, claim: ClaimSpec) -> Instance:
        """The instance of this claim (told by uid), made if need be; types are tried in order.

        Raises `InstancePending` until its provider id is known.
        """

    async def get(self, ref: InstanceRef) -> Instance:
        """Raises `InstanceNotFound`: it is really not there, or it is somebody else's."""

    async def delete(self, ref: InstanceRef) -> bool:
        """Ends the instance. True: it is gone for good, or never was; False: on its way, ask again. Raises
        `InstancePending` with the reason where that has not begun.

        Never touches what was made for another claim than `ref.claim_uid`, where that is given.
        """

    async def list(self) -> Sequence[Instance]:
        """All instances made for claims, also those whose claim is gone, and those that failed or are being made."""

    async def check_running(self) -> None:
        """Raises `CloudError` while the cluster's machines are expected to be away: nothing may be given up, repaired
        or collected as garbage then."""
        return

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """`wake(name)` is called whenever the claim of that name should be looked at before its time."""
        return
