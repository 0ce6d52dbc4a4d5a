"""Azure's error codes as a table: what each means for a claim. Data only; `classify` reads it from top to bottom.

Sources: AKS's troubleshooting pages and quota documentation, Compute's allocation errors, Resource Manager's common
deployment errors, and Karpenter's Azure provider, whose reasons are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kaito.provisioner.aks.signals import Signal
from kaito.provisioner.errors import (
    MINUTE,
    OVERCONSTRAINED_ALLOCATION_FAILURE,
    OVERCONSTRAINED_ZONAL_ALLOCATION_FAILURE,
    REGIONAL_QUOTA_REACHED,
    ZONAL_ALLOCATION_FAILURE,
    CloudError,
    CloudUnavailable,
    ClusterNotFound,
    ClusterNotRunning,
    EnvironmentRefused,
    InstanceTypeUnavailable,
    InsufficientCapacity,
    InvalidConfiguration,
    OperationCanceled,
    OperationInProgress,
    PreconditionFailed,
    ProviderNotRegistered,
    QuotaReached,
    Throttled,
    Unauthorized,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Errors of these codes, whose message has `text` in it where that is given, mean `kind`.

    codes: in lower case; a code also counts by its end after the last `_` or `.`, as in ErrCode_X. Without codes, the
    text alone decides. reason, delay: instead of the kind's own. advice: what the user can do.
    """

    kind: type[CloudError]
    codes: frozenset[str] = frozenset()
    text: re.Pattern[str] | None = None
    reason: str | None = None
    delay: float | None = None
    advice: str = ""

    def fits(self, signal: Signal) -> bool:
        if self.codes and not self.codes & _spellings(signal.code):
            return False
        return self.text is None or self.text.search(signal.message) is not None


def _spellings(code: str) -> set[str]:
    lowered = code.lower()
    return {lowered, re.split(r"[_.]", lowered)[-1]}


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(code.lower() for code in codes)


def _text(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


_QUOTA_CODES: Final = _codes(
    "OperationNotAllowed",
    "QuotaExceeded",
    "InsufficientVCPUQuota",
    "BadRequest",
    "Conflict",
    "ResourceQuotaExceeded",
)
_QUOTA_SENTENCES: Final = _text(
    r"exceeding approved .*quota|exceeding quota limits|insufficient (regional )?vcpu quota"
)

RULES: Final[Sequence[Rule]] = (
    Rule(
        Throttled,
        _codes(
            *(
                "TooManyRequests",
                "SubscriptionRequestsThrottled",
                "Throttled",
                "RequestThrottled",
                "RequestsThrottled",
            ),
            *("ResourceCollectionRequestsThrottled", "TooManyRequestsReceived", "TenantRequestsThrottled"),
            *("RateLimitExceeded", "OperationThrottled"),
        ),
    ),
    # quota: the same codes for everything, told apart by the sentence
    Rule(QuotaReached, _QUOTA_CODES, _text(r"low-?\s?priority\s?(cores|vcpus)|spot (cores|vcpus?)")),
    Rule(
        QuotaReached,
        _QUOTA_CODES,
        _text(
            r"total regional|regional (vcpu|core)s? quota|insufficient regional vcpu|quota limits? of cores?\b"
        ),
        REGIONAL_QUOTA_REACHED,
    ),
    Rule(QuotaReached, _QUOTA_CODES, _QUOTA_SENTENCES),
    Rule(QuotaReached, _codes("InsufficientVCPUQuota", "QuotaExceeded", "ResourceQuotaExceeded")),
    Rule(
        QuotaReached,
        text=_text(
            r"maximum (number|count) of (agent|node) ?pools|(agent|node) ?pools? (count )?(limit|exceed)"
        ),
        advice="AKS allows so many node pools in a cluster, and each machine is a pool: free machines, or use another "
        "cluster",
    ),
    Rule(QuotaReached, _codes("PublicIPCountLimitReached"), advice="raise the quota of public IP addresses"),
    # the size itself
    Rule(
        InstanceTypeUnavailable,
        _codes(
            *("SkuNotAvailable", "VMSizeNotSupported", "VMSizeNotAvailable", "NotAvailableForSubscription"),
            *(
                "InvalidVMSize",
                "VMSkuNotSupported",
                "AgentPoolVMSizeNotSupported",
            ),
        ),
    ),
    Rule(
        InstanceTypeUnavailable,
        _codes("AvailabilityZoneNotSupported", "AvailabilityZonesNotSupported"),
        advice="name zones that the region has for this size, or none",
    ),
    Rule(
        InstanceTypeUnavailable,
        text=_text(
            r"(is|are) not (supported|available|allowed) (for|in|by) (your |the |this )?(subscription|location|region)"
            r"|vm size .{0,80}(is|are) not (supported|available|allowed)"
        ),
    ),
    # machines
    Rule(
        InsufficientCapacity,
        _codes("OverconstrainedZonalAllocationRequest"),
        reason=OVERCONSTRAINED_ZONAL_ALLOCATION_FAILURE,
    ),
    Rule(
        InsufficientCapacity,
        _codes("OverconstrainedAllocationRequest"),
        reason=OVERCONSTRAINED_ALLOCATION_FAILURE,
    ),
    Rule(InsufficientCapacity, _codes("ZonalAllocationFailed"), reason=ZONAL_ALLOCATION_FAILURE),
    Rule(
        InsufficientCapacity,
        _codes(
            "AllocationFailed", "AksCapacityHeavyUsage", "CapacityNotAvailable", "SpotCapacityNotAvailable"
        ),
    ),
    Rule(InsufficientCapacity, text=_text(r"(do|does) not have sufficient capacity for the requested")),
    # what else goes on in the cluster
    Rule(
        PreconditionFailed,
        _codes(
            *("OriginalEtagNotExpect", "OriginalEtagNotExpected", "EtagMismatch", "PreconditionFailed"),
            *("AgentPoolAlreadyExists", "ResourceAlreadyExists", "AlreadyExists"),
        ),
    ),
    Rule(
        ClusterNotRunning,
        _codes("OperationNotAllowed", "Conflict", "BadRequest", "ClusterStopped", "ManagedClusterStopped"),
        _text(
            r"power ?state|cluster .{0,120}(is|has been|was) (currently )?(stopped|stopping|starting|not running)"
        ),
    ),
    Rule(
        OperationInProgress,
        _codes(
            *("AnotherOperationInProgress", "AKSOperationPreempted", "AKSOperationPreemptedByDelete"),
            *("OperationPreempted", "ConcurrentOperation", "ConflictingConcurrentWriteNotAllowed"),
            *("RetryableError", "ManagedClusterInProgress", "AgentPoolInProgress"),
        ),
    ),
    Rule(
        OperationInProgress,
        text=_text(
            r"(another|an) (\w+ ){0,4}operation .{0,80}in[- ]?progress|in[- ]progress .{0,80}operation"
            r"|operation is (currently )?in[- ]?progress|is preempted|has been preempted"
        ),
    ),
    Rule(OperationCanceled, _codes("OperationCanceled", "OperationCancelled", "Canceled", "Cancelled")),
    # who may do what
    Rule(ProviderNotRegistered, _codes("MissingSubscriptionRegistration", "SubscriptionNotRegistered")),
    Rule(
        EnvironmentRefused,
        _codes("RequestDisallowedByPolicy", "RequestDisallowedByAzure"),
        advice="have the policy that is named allow it, or give the machines what it wants, such as tags",
    ),
    Rule(
        EnvironmentRefused,
        _codes("SubnetIsFull", "InsufficientSubnetSize", "SubnetWithInsufficientAddresses"),
        advice="free addresses in the subnet, or have the machines use another one",
    ),
    Rule(EnvironmentRefused, _codes("ScopeLocked"), advice="take the lock off the scope that is named"),
    Rule(
        EnvironmentRefused,
        _codes("ReadOnlyDisabledSubscription", "SubscriptionDisabled"),
        advice="have the subscription enabled again",
    ),
    Rule(
        Unauthorized,
        _codes(
            *(
                "AuthorizationFailed",
                "LinkedAuthorizationFailed",
                "DenyAssignmentAuthorizationFailed",
                "Forbidden",
            ),
            *(
                "AuthenticationFailed",
                "ExpiredAuthenticationToken",
                "InvalidAuthenticationToken",
                "Unauthorized",
            ),
            *("InvalidAuthenticationTokenTenant", "InvalidAuthenticationTokenAudience", "RBACAccessDenied"),
            *("AuthenticationFailedMissingToken", "LinkedAccessCheckFailed"),
        ),
    ),
    Rule(Unauthorized, text=_text(r"\bAADSTS\d{4,}")),
    # where it is
    Rule(
        ClusterNotFound,
        _codes(
            *(
                "ResourceGroupNotFound",
                "SubscriptionNotFound",
                "InvalidSubscriptionId",
                "ParentResourceNotFound",
            ),
            *("ManagedClusterNotFound", "ResourceGroupBeingDeleted"),
        ),
    ),
    # what was asked for
    Rule(
        InvalidConfiguration,
        _codes(
            *(
                "InvalidParameter",
                "InvalidRequestContent",
                "InvalidRequest",
                "InvalidRequestFormat",
                "ValidationError",
            ),
            *("PropertyChangeNotAllowed", "InvalidAgentPoolName", "InvalidResourceName", "InvalidTemplate"),
            *(
                "BadRequest",
                "InvalidApiVersionParameter",
                "NoRegisteredProviderFound",
                "InvalidLoadBalancerProfile",
            ),
            *("InvalidGPUProfile", "UnmarshalError", "LinkedInvalidPropertyId", "InvalidResourceReference"),
            *("OSDiskSizeInvalid", "TagsLimitExceeded"),
        ),
    ),
    Rule(
        CloudUnavailable,
        _codes(
            *(
                "InternalServerError",
                "InternalOperationError",
                "InternalExecutionError",
                "ServiceUnavailable",
            ),
            *(
                "ServerTimeout",
                "GatewayTimeout",
                "RequestTimeout",
                "ServerBusy",
                "VMExtensionProvisioningTimeout",
            ),
        ),
    ),
)
"""Read from top to bottom: the first rule that fits any of an answer's errors decides."""

BY_STATUS: Final[Mapping[int, Rule]] = {
    400: Rule(InvalidConfiguration),
    401: Rule(Unauthorized),
    403: Rule(Unauthorized),
    408: Rule(CloudUnavailable),
    409: Rule(OperationInProgress),
    412: Rule(PreconditionFailed),
    413: Rule(InvalidConfiguration),
    422: Rule(InvalidConfiguration),
    429: Rule(Throttled),
}
"""What an HTTP status means whose codes no rule knows. 5xx: `UNAVAILABLE`; 404 needs to know what was asked for."""
UNAVAILABLE: Final = Rule(CloudUnavailable)
UNKNOWN_CONFLICT: Final = Rule(CloudError)
"""A 409 with a code of its own that nobody has classified is not taken for somebody else's operation."""

NOT_GRANTED_DELAY: Final = 60 * MINUTE
"""Until the next try where the subscription was never given any quota of a family."""
