"""The seam between claims and clouds: what a provider must be able to do.

A provider works by desired state: each verb may be called again at any time, also by another process after a crash, and
keeps no memory that matters. Verbs never wait for slow operations: they start them and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

EXISTING_SCHEME: Final = "existing://"
"""An instance whose id begins so is a Node that was there before its claim and stays after it: it is never deleted and
gets neither finalizer nor owner. Its name follows; `spec.providerID`, which such Nodes often lack, is left alone."""


def existing_id(node: str) -> str:
    """The id of an existing node of that name as an instance."""
    return EXISTING_SCHEME + node


@dataclass(frozen=True, slots=True)
class ClaimSpec:
    """One node that is wanted, in the words of neither Machine nor NodeClaim.

    instance_types: machine sizes to try, best first; never empty.
    created: when the claim was made. requests: resource name to quantity.
    taints, startup_taints: as in `spec.taints` of a Node.
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


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine of the cloud.

    provider_id: equal to `spec.providerID` of the Node that it becomes, or `existing_id` of one that is lent.
    claim_uid: uid of the claim it was made for; "" where the cloud does not know.
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


class CloudProvider(Protocol):
    """A cloud. Every verb raises `CloudError` and nothing else for what the cloud refuses or cannot do."""

    async def create(self, claim: ClaimSpec) -> Instance:
        """The instance of this claim (told by uid), made if need be; types are tried in order.

        Raises `InstancePending` until its provider id is known.
        """

    async def get(self, provider_id: str) -> Instance:
        """Raises `InstanceNotFound`."""

    async def delete(self, provider_id: str) -> bool:
        """Ends the instance. True: it is gone for good; False: on its way, ask again."""

    async def list(self) -> Sequence[Instance]:
        """All instances made for claims, also those whose claim is gone."""
