"""Every label, annotation, taint and finalizer name that KAITO reads or writes.

They are wire format: users, dashboards, the Go KAITO and Karpenter read them, so they never change. Names
ending in `_LABEL`, `_ANNOTATION`, `_FINALIZER` and `_TAINT` say where the string is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# --- ownership ----------------------------------------------------------------------------------------------
# Claims and nodes are cluster-scoped, Workspaces are namespaced: these labels, not owner references, connect
# them.
WORKSPACE_LABEL: Final = "kaito.sh/workspace"
WORKSPACE_NAMESPACE_LABEL: Final = "kaito.sh/workspacenamespace"
WORKSPACE_UID_LABEL: Final = "kaito.sh/workspace-uid"
RAGENGINE_LABEL: Final = "kaito.sh/ragengine"
RAGENGINE_NAMESPACE_LABEL: Final = "kaito.sh/ragenginenamespace"
KARPENTER_WORKSPACE_LABEL: Final = "karpenter.kaito.sh/workspace-name"
KARPENTER_WORKSPACE_NAMESPACE_LABEL: Final = "karpenter.kaito.sh/workspace-namespace"
KARPENTER_INFERENCESET_LABEL: Final = "karpenter.kaito.sh/inferenceset"
KARPENTER_INFERENCESET_NAMESPACE_LABEL: Final = "karpenter.kaito.sh/inferenceset-namespace"
# Which slot of a Workspace a claim fills, and which try it is (decimal text).
NODE_SLOT_LABEL: Final = "kaito.sh/node-slot"
NODE_ATTEMPT_LABEL: Final = "kaito.sh/node-attempt"
ADAPTER_LABEL: Final = "kaito.sh/adapter"
WEIGHTS_CHECK_LABEL: Final = "kaito.sh/weights-check"
"""On a pod that only looks at a Workspace's weights: which weights, as a hash. Such a pod has no other label of ours,
so nothing that selects the pods of a Workspace finds it."""

RESERVED_LABELS: Final = frozenset(
    {
        WORKSPACE_LABEL,
        WORKSPACE_NAMESPACE_LABEL,
        WORKSPACE_UID_LABEL,
        RAGENGINE_LABEL,
        RAGENGINE_NAMESPACE_LABEL,
        KARPENTER_WORKSPACE_LABEL,
        KARPENTER_WORKSPACE_NAMESPACE_LABEL,
        KARPENTER_INFERENCESET_LABEL,
        KARPENTER_INFERENCESET_NAMESPACE_LABEL,
        NODE_SLOT_LABEL,
        NODE_ATTEMPT_LABEL,
    }
)
"""Ownership keys: taken out of a user's matchLabels before those are copied to claims and nodes."""

# --- finalizers ---------------------------------------------------------------------------------------------
WORKSPACE_FINALIZER: Final = "workspace.finalizer.kaito.sh"
TERMINATION_FINALIZER: Final = "karpenter.sh/termination"
"""On Machine, NodeClaim and Node alike: the machine controller releases it once the instance is really
gone."""

# --- Workspace annotations ----------------------------------------------------------------------------------
REVISION_ANNOTATION: Final = "workspace.kaito.io/revision"
REVISION_HASH_ANNOTATION: Final = "workspace.kaito.io/hash"
REVISION_NAME_LABEL: Final = "workspace.kaito.io/name"
RUNTIME_ANNOTATION: Final = "kaito.sh/runtime"
ENABLE_LB_ANNOTATION: Final = "kaito.sh/enablelb"
BYPASS_RESOURCE_CHECKS_ANNOTATION: Final = "kaito.sh/bypass-resource-checks"
NODE_IMAGE_FAMILY_ANNOTATION: Final = "kaito.sh/node-image-family"
NODE_CLASS_NAME_ANNOTATION: Final = "kaito.sh/node-class-name"
AKS_OPTION_PREFIX: Final = "kaito.sh/aks-"
"""Annotations that begin so say how AKS makes the nodes of a Workspace or a claim (docs/aks.md)."""
PERFORMANCE_MODE_ANNOTATION: Final = "kaito.sh/performance-mode"
CONCURRENCY_ANNOTATION: Final = "kaito.sh/concurrency"
"""Requests at once that have memory for the whole context each."""
DISABLE_BENCHMARK_ANNOTATION: Final = "kaito.sh/disable-benchmark"
USE_LOCAL_WEIGHTS_ANNOTATION: Final = "kaito.sh/use-local-weights"
STREAMING_ANNOTATIONS: Final = frozenset(
    {
        "kaito.sh/model-streaming",
        "kaito.sh/model-mirror-storage-class",
        "kaito.sh/streaming-service-account",
        "inference.kaito.sh/static-model-mirror",
        "inference.kaito.sh/stream-datarefs-url",
        "inference.kaito.sh/stream-identity-client-id",
        "inference.kaito.sh/stream-source-type",
    }
)
"""Go KAITO's, for weights that are streamed from a mirror while they load. Read only to say that they do nothing."""
STREAMING_OFF: Final = "disabled"
"""Value of the first of them that asks for what is so anyway."""

# --- children of a Workspace --------------------------------------------------------------------------------
DESIRED_HASH_ANNOTATION: Final = "kaito.sh/desired-hash"
"""Hash of what was rendered for a child; with a comparison of fields it tells whether the child is in
sync."""
EXTERNAL_URL_ANNOTATION: Final = "kaito.sh/external-url"
"""On a Service: the address that works from outside the cluster; becomes `status.endpoint` of the
Workspace."""

# --- nodes --------------------------------------------------------------------------------------------------
INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
OS_LABEL: Final = "kubernetes.io/os"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
ARCH_LABEL: Final = "kubernetes.io/arch"
HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
ACCELERATOR_LABEL: Final = "accelerator"
ACCELERATOR_NVIDIA: Final = "nvidia"
MACHINE_TYPE_LABEL: Final = "kaito.sh/machine-type"
GPU_RESOURCE: Final = "nvidia.com/gpu"
GPU_COUNT_LABEL: Final = "nvidia.com/gpu.count"
GPU_MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
"""Memory of one GPU in MiB, as decimal text (NVIDIA's GPU feature discovery)."""
GPU_PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
SKU_NAME_LABEL: Final = "karpenter.azure.com/sku-name"
GPU_TAINT_KEY: Final = "sku"
GPU_TAINT_VALUE: Final = "gpu"

INSTANT_CLOUD_LABEL: Final = "kaito.sh/instant-cloud"
"""`"true"` on nodes that the embedded process kubelet serves."""
SIMULATED_PODS_LABEL: Final = "kaito.sh/simulated-pods"
"""`"true"` on nodes whose pods start no process; the kubelet writes the same key as an annotation on such
pods."""
STAND_IN_WEIGHTS_ANNOTATION: Final = "kaito.sh/stand-in-weights"
"""On a pod: name of the small model that answers in place of the real weights."""

CLAIM_UID_ANNOTATION: Final = "kaito.sh/claim-uid"
"""On an instance: uid of the Machine or NodeClaim it was made for."""

# --- Karpenter ----------------------------------------------------------------------------------------------
NODEPOOL_LABEL: Final = "karpenter.sh/nodepool"
PROVISIONER_NAME_LABEL: Final = "karpenter.sh/provisioner-name"
REGISTERED_LABEL: Final = "karpenter.sh/registered"
INITIALIZED_LABEL: Final = "karpenter.sh/initialized"
CAPACITY_TYPE_LABEL: Final = "karpenter.sh/capacity-type"
DO_NOT_SYNC_TAINTS_LABEL: Final = "karpenter.sh/do-not-sync-taints"
DO_NOT_DISRUPT_ANNOTATION: Final = "karpenter.sh/do-not-disrupt"
TERMINATION_TIMESTAMP_ANNOTATION: Final = "karpenter.sh/nodeclaim-termination-timestamp"
EXCLUDE_FROM_LB_LABEL: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
UNREGISTERED_TAINT: Final = "karpenter.sh/unregistered"
DISRUPTED_TAINT: Final = "karpenter.sh/disrupted"
NODEPOOL_KAITO: Final = "kaito"
"""Value of `karpenter.sh/nodepool` on our claims: a pool that does not exist keeps a real Karpenter away."""
NODE_CLASS_GROUP: Final = "kaito.sh"
NODE_CLASS_KIND: Final = "KaitoNodeClass"
NODE_CLASS_LABEL: Final = "kaito.sh/kaitonodeclass"


# --- GitOps tools -------------------------------------------------------------------------------------------
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
ARGOCD_PREFIX: Final = "argocd.argoproj.io/"


def without_tracking(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels without those by which GitOps tools know what is theirs: what carries one and is not in Git is pruned."""
    return {
        key: value
        for key, value in labels.items()
        if key != INSTANCE_LABEL and not key.startswith(ARGOCD_PREFIX)
    }


def without_reserved(labels: Mapping[str, str]) -> dict[str, str]:
    """A user's labels without the ownership keys that only controllers may set."""
    return {key: value for key, value in labels.items() if key not in RESERVED_LABELS}
