"""What can go wrong with a cloud, as types: each says whether to try again, when, and what to tell the user.

Reasons are those that Karpenter's Azure provider writes, so dashboards agree. The machine controller copies reason and
message into the claim's condition word for word, hence the message is a sentence for users: what is wrong and what to
do, without secrets.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Final

MINUTE: Final = 60.0

ZONAL_ALLOCATION_FAILURE: Final = "ZonalAllocationFailure"
OVERCONSTRAINED_ALLOCATION_FAILURE: Final = "OverconstrainedAllocationFailure"
OVERCONSTRAINED_ZONAL_ALLOCATION_FAILURE: Final = "OverconstrainedZonalAllocationFailure"
"""Reasons of `InsufficientCapacity` besides its own: other zones, or fewer demands, may do."""
REGIONAL_QUOTA_REACHED: Final = "RegionalQuotaReached"
"""Reason of `QuotaReached` where the limit is the region's, of all machine sizes together."""


class CloudError(Exception):
    """A request to the cloud failed. Use the subclass that fits; this one is for what nobody has classified.

    reason: one CamelCase word. retry_after: seconds until the next try. terminal: trying again cannot help until the
    claim or the configuration changes.
    """

    reason: ClassVar[str] = "LaunchFailed"
    terminal: ClassVar[bool] = False
    delay: ClassVar[float] = 30.0

    def __init__(self, message: str, *, reason: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.why = reason or self.reason
        self.retry_after = self.delay if retry_after is None else retry_after


class InstanceNotFound(CloudError):
    """The instance does not exist (any more). Only for the instance itself, never for its cluster or group."""

    reason = "InstanceNotFound"


class InstancePending(CloudError):
    """The instance is being made; ask again. Nothing is wrong.

    since: when the cloud began to make it: a launch's deadline runs from then. None: not known, or not begun, so that
        no deadline runs.
    """

    reason = "LaunchInProgress"
    delay = 5.0

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        since: datetime | None = None,
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.since = since


class WaitingForTurn(InstancePending):
    """Nothing was started yet: others were there first and the cluster takes one at a time. The provider wakes it."""

    reason = "OperationQueued"
    delay = MINUTE


class WaitingForQuota(InstancePending):
    """Nothing was started yet: what is left of the quota is promised to claims that were there first."""

    reason = "WaitingForQuota"
    delay = MINUTE


class OperationInProgress(CloudError):
    """Another operation holds the cluster or the pool, or has just changed it; look at it and wait."""

    reason = "OperationInProgress"
    delay = 15.0


class PreconditionFailed(OperationInProgress):
    """What was asked for held for another state of the instance: it is there already, or has changed meanwhile."""

    delay = 1.0


class Throttled(CloudError):
    """Too many requests; `retry_after` is the cloud's own figure where it gives one."""

    reason = "Throttled"


class OperationCanceled(CloudError):
    """Somebody, or the cloud itself, stopped the operation before its end."""

    reason = "OperationCanceled"


class CloudUnreachable(CloudError):
    """No answer: no connection, or none in time. Whether the request was carried out is not known."""

    reason = "CloudUnreachable"
    delay = 10.0


class CloudUnavailable(CloudError):
    """The cloud answers that it cannot work at the moment."""

    reason = "CloudUnavailable"


class ClusterNotRunning(CloudError):
    """The managed cluster is stopped, starting, stopping or failed; its machines are left alone meanwhile."""

    reason = "ClusterNotRunning"
    delay = MINUTE


class ClusterNotFound(CloudError):
    """There is no such cluster, resource group or subscription. Says nothing about any instance."""

    reason = "ClusterNotFound"
    delay = 5 * MINUTE


class InsufficientCapacity(CloudError):
    """The cloud has no machine of the wanted types at the moment."""

    reason = "AllocationFailure"
    delay = 2 * MINUTE


class QuotaReached(CloudError):
    """The subscription's quota is used up; a person has to raise it or free machines."""

    reason = "SubscriptionQuotaReached"
    delay = 10 * MINUTE


class Unauthorized(CloudError):
    """The controller's identity may not do this; a person has to grant it."""

    reason = "Unauthorized"
    delay = 5 * MINUTE


class InstanceTypeUnavailable(CloudError):
    """None of the wanted types exists, or the subscription may not use them."""

    reason = "SKUNotAvailable"
    terminal = True


class InvalidConfiguration(CloudError):
    """The cloud refuses what was asked for; it has to be written differently."""

    reason = "InvalidConfiguration"
    terminal = True


class EnvironmentRefused(CloudError):
    """What surrounds the cluster forbids it, such as a policy or a full subnet; it is tried again as it is."""

    reason = "InvalidConfiguration"
    delay = 10 * MINUTE


class ProviderNotRegistered(CloudError):
    """The subscription has not registered the cloud's service that is needed."""

    reason = "ProviderNotRegistered"
    terminal = True


class NameTaken(CloudError):
    """An instance of that name belongs to somebody else; it is left alone."""

    reason = "NameTaken"
    terminal = True
