"""What can go wrong with a cloud, as types: each says whether to try again, when, and what to tell the user.

Reasons are those that Karpenter's Azure provider writes, so dashboards agree. The machine controller copies reason and
message into the claim's condition word for word, hence the message is a sentence for users: what is wrong and what to
do, without secrets.
"""

from __future__ import annotations

from typing import ClassVar, Final

MINUTE: Final = 60.0


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
    """The instance is being made; ask again. Nothing is wrong."""

    reason = "LaunchInProgress"
    delay = 5.0


class OperationInProgress(CloudError):
    """Another operation holds the cluster or the pool; wait for it."""

    reason = "OperationInProgress"
    delay = 15.0


class Throttled(CloudError):
    """Too many requests; `retry_after` is the cloud's own figure where it gives one."""

    reason = "Throttled"


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


class NameTaken(CloudError):
    """An instance of that name belongs to somebody else; it is left alone."""

    reason = "NameTaken"
    terminal = True
