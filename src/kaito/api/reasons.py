"""Every word that a condition of ours gives as its reason: one list, for metrics, the runbook and its tests.

Reasons of claims are also read from claims that another provisioner serves; those that are not here are counted as
`OTHER` by metrics. The words themselves are those of the Go KAITO and of Karpenter where they have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

OTHER: Final = "other"
"""Label value of everything that is not in the list: metrics never show text that comes from elsewhere."""


class Course(StrEnum):
    """How what a reason tells of goes on."""

    DONE = "done"
    """Nothing is left to wait for."""
    WAITS = "waits"
    """It passes by itself, as starting does, or is tried again until the world has changed."""
    STUCK = "stuck"
    """It stays until a person changes something."""


WORKSPACE_REASONS: Final[Mapping[str, Course]] = {
    # what prevents a plan; also the types of conditions that are True while it lasts
    "InvalidSpec": Course.STUCK,
    "UnknownPreset": Course.STUCK,
    "DeprecatedPreset": Course.STUCK,
    "ModelLookup": Course.WAITS,
    "ModelNotFound": Course.STUCK,
    "ModelAccessDenied": Course.STUCK,
    "UnsupportedModel": Course.STUCK,
    "HubUnreachable": Course.WAITS,
    "LookupFailed": Course.STUCK,
    "UnknownInstanceType": Course.STUCK,
    "UnsupportedInstanceType": Course.STUCK,
    "InstanceTypeMissing": Course.STUCK,
    "InsufficientGpuMemory": Course.STUCK,
    "AdaptersNotSupported": Course.STUCK,
    "WeightsLookup": Course.WAITS,
    "WeightsDoNotFit": Course.STUCK,
    "PartitionNotImplemented": Course.STUCK,
    "TuningNotImplemented": Course.STUCK,
    "AdapterNameTaken": Course.STUCK,
    "NameTaken": Course.STUCK,
    # nodes
    "NodeClaimNotReady": Course.WAITS,
    "NodeNotReady": Course.WAITS,
    "NodePluginsNotReady": Course.WAITS,
    "NodePoolNotReady": Course.STUCK,
    "NodeClaimsReady": Course.DONE,
    "NodesReady": Course.DONE,
    "workspaceResourceStatusSuccess": Course.DONE,
    # adapters and configuration
    "AdapterPending": Course.WAITS,
    "InvalidImageReference": Course.STUCK,
    "AdapterUnreadable": Course.STUCK,
    "AdapterNotFound": Course.STUCK,
    "AdapterDoesNotFit": Course.STUCK,
    "ConfigMapNotFound": Course.STUCK,
    # the workload and its pods
    "WorkloadAdopted": Course.DONE,
    "WorkspaceInferenceStatusPending": Course.WAITS,
    "WeightsFetching": Course.WAITS,
    "ModelStarting": Course.WAITS,
    "ImagePullError": Course.STUCK,
    "ContainerStartError": Course.STUCK,
    "ContainerCrashLoopBackOff": Course.STUCK,
    "ContainerOOMKilled": Course.STUCK,
    "Unschedulable": Course.STUCK,
    "PodEvicted": Course.STUCK,
    "NodeDiskPressure": Course.STUCK,
    "NodeMemoryPressure": Course.STUCK,
    "ChildRefused": Course.STUCK,
    "WorkspaceInferenceStatusSuccess": Course.DONE,
    # the whole
    "workspacePending": Course.WAITS,
    "workspaceReady": Course.DONE,
    "workspaceSucceeded": Course.DONE,
    "Ready": Course.DONE,
    "Deleting": Course.WAITS,
    "workspaceDeleted": Course.WAITS,
}
"""Reasons in conditions and in `status.reason` of a Workspace, besides those that it passes on from its claims."""

ADAPTER_REASONS: Final[Mapping[str, Course]] = {
    "Readable": Course.DONE,
    "ReadByPod": Course.DONE,
    "Unreadable": Course.STUCK,
    "InvalidImageReference": Course.STUCK,
    "InvalidSpec": Course.STUCK,
}
"""Reasons of an Adapter's condition Ready."""

VERDICTS: Final = (
    "Fits",
    "FitsStandIn",
    "ReadByPod",
    "AdapterPending",
    "AdapterDoesNotFit",
    "AdapterNotFound",
    "AdapterNameTaken",
    "AdapterUnreadable",
    "InvalidImageReference",
)
"""Reasons in `status.adapters` of a Workspace."""

CLOUD_REASONS: Final[Mapping[str, Course]] = {
    "LaunchFailed": Course.STUCK,
    "InstanceNotFound": Course.WAITS,
    "LaunchInProgress": Course.WAITS,
    "OperationQueued": Course.WAITS,
    "OperationInProgress": Course.WAITS,
    "OperationCanceled": Course.WAITS,
    "Throttled": Course.WAITS,
    "CloudUnreachable": Course.WAITS,
    "CloudUnavailable": Course.WAITS,
    "ClusterNotRunning": Course.WAITS,
    "ClusterNotFound": Course.STUCK,
    "AllocationFailure": Course.WAITS,
    "ZonalAllocationFailure": Course.WAITS,
    "OverconstrainedAllocationFailure": Course.WAITS,
    "OverconstrainedZonalAllocationFailure": Course.WAITS,
    "SubscriptionQuotaReached": Course.STUCK,
    "RegionalQuotaReached": Course.STUCK,
    "WaitingForQuota": Course.WAITS,
    "Unauthorized": Course.STUCK,
    "SKUNotAvailable": Course.STUCK,
    "InvalidConfiguration": Course.STUCK,
    "ProviderNotRegistered": Course.STUCK,
    "NameTaken": Course.STUCK,
    "ReadFailed": Course.WAITS,
    "ListFailed": Course.WAITS,
    "DeleteFailed": Course.WAITS,
}
"""Reasons of a cloud's errors (kaito.provisioner.errors), which a claim's condition passes on."""

CLAIM_REASONS: Final[Mapping[str, Course]] = {
    **CLOUD_REASONS,
    "AwaitingReconciliation": Course.WAITS,
    "ReconcilingDependents": Course.WAITS,
    "UnhealthyDependents": Course.STUCK,
    "InvalidClaim": Course.STUCK,
    "NodeNotFound": Course.WAITS,
    "MultipleNodesFound": Course.STUCK,
    "NodeNotReady": Course.WAITS,
    "StartupTaintsExist": Course.WAITS,
    "KnownEphemeralTaintsExist": Course.WAITS,
    "ResourceNotRegistered": Course.WAITS,
    "GpuNotFound": Course.STUCK,
    "Draining": Course.WAITS,
    "AwaitingVolumeDetachment": Course.WAITS,
}
"""Reasons in conditions of Machines and NodeClaims. A condition that is True has its own type as its reason."""

SIZE_REFUSED: Final = frozenset(
    {
        "AllocationFailure",
        "ZonalAllocationFailure",
        "OverconstrainedAllocationFailure",
        "OverconstrainedZonalAllocationFailure",
        "SubscriptionQuotaReached",
        "RegionalQuotaReached",
        "SKUNotAvailable",
    }
)
"""Reasons of claims that speak of one machine size: another one may be had while they last."""
DEAD_GPU: Final = "GpuNotFound"
"""Reason of a claim whose node has joined without GPUs."""

GIVEN_UP: Final = (
    *("LaunchTimeout", "RegistrationTimeout", "InitializationTimeout"),
    *("NodeDeleted", "InstanceGone", "NodeUnhealthy"),
)
"""Reasons of events: why a claim was deleted by its controller, to be replaced."""

REASONS: Final[Mapping[str, Course]] = {**CLAIM_REASONS, **ADAPTER_REASONS, **WORKSPACE_REASONS}
"""All of them."""


def known(reason: str) -> str:
    """The reason, or `OTHER`: fit for a metric's label."""
    return reason if reason in REASONS else OTHER


def is_stuck(reason: str) -> bool:
    """Whether a person has to act. What nobody has listed counts as something that is still going on."""
    return REASONS.get(reason) is Course.STUCK
