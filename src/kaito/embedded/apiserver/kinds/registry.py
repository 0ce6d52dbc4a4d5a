"""All builtin kinds this API server serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kaito.embedded.apiserver.kinds import names
from kaito.embedded.apiserver.kinds.base import WORKLOAD_SCALE, BuiltinStrategy, RefusedStrategy
from kaito.embedded.apiserver.kinds.config import (
    ClaimStrategy,
    ConfigMapStrategy,
    EndpointSliceStrategy,
    EventStrategy,
    LeaseStrategy,
    NamespaceStrategy,
    NodeStrategy,
    PriorityClassStrategy,
    RoleBindingStrategy,
    RoleStrategy,
    SecretStrategy,
    StorageClassStrategy,
    VolumeAttachmentStrategy,
)
from kaito.embedded.apiserver.kinds.crd import DefinitionStrategy
from kaito.embedded.apiserver.kinds.jobs import CronJobStrategy, DisruptionBudgetStrategy, JobStrategy
from kaito.embedded.apiserver.kinds.poddefaults import PRIORITIES
from kaito.embedded.apiserver.kinds.pods import PodStrategy
from kaito.embedded.apiserver.kinds.services import AddressPool, ServiceStrategy
from kaito.embedded.apiserver.kinds.webhooks import WebhookConfigurationStrategy
from kaito.embedded.apiserver.kinds.workloads import (
    DaemonSetStrategy,
    DeploymentStrategy,
    RevisionStrategy,
    StatefulSetStrategy,
    WorkloadStrategy,
)
from kaito.embedded.apiserver.strategy import ALL_VERBS, KindStrategy
from kaito.runtime import resources as r
from kaito.runtime.resources import Resource

_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class BuiltinOptions:
    """What some kinds must know.

    Attributes:
        service_cidr: network of the virtual cluster IPs.
        priority_of: value of a priority class by its name, None if there is no such class; the system's own by
            default.
    """

    service_cidr: str = "10.96.0.0/16"
    priority_of: Callable[[str], int | None] = PRIORITIES.get


def builtin_strategies(options: BuiltinOptions | None = None) -> list[KindStrategy]:
    """One strategy per builtin kind; the pool of cluster IPs belongs to the returned Service strategy."""
    options = options or BuiltinOptions()
    core = _core(AddressPool(options.service_cidr), options.priority_of)
    return [*core, *_workloads(), *_plain(), *_refused()]


def _core(pool: AddressPool, priority_of: Callable[[str], int | None]) -> list[KindStrategy]:
    return [
        NamespaceStrategy(
            r.NAMESPACES,
            name_check=names.dns_label,
            short_names=("ns",),
            subresources=("status", "finalize"),
            selectable_fields=("status.phase",),
            verbs=[verb for verb in ALL_VERBS if verb != "deletecollection"],
        ),
        NodeStrategy(
            r.NODES,
            short_names=("no",),
            subresources=("status", "proxy"),
            selectable_fields=("spec.unschedulable",),
        ),
        PodStrategy(
            r.PODS,
            priority_of,
            generation=True,
            short_names=("po",),
            categories=("all",),
            subresources=(
                "status", "log", "exec", "attach", "portforward", "proxy", "binding", "eviction",
            ),
            selectable_fields=(
                "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
                "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
            ),
        ),
        ServiceStrategy(r.SERVICES, pool),
        BuiltinStrategy(
            r.ENDPOINTS,
            short_names=("ep",),
            warning="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        ),
        EndpointSliceStrategy(r.ENDPOINTSLICES, generation=True),
        ConfigMapStrategy(r.CONFIGMAPS, short_names=("cm",)),
        SecretStrategy(r.SECRETS, selectable_fields=("type",)),
        BuiltinStrategy(
            Resource("", "v1", "serviceaccounts", "ServiceAccount"),
            short_names=("sa",),
            subresources=("token",),
        ),
        EventStrategy(r.EVENTS, short_names=("ev",), selectable_fields=_EVENT_FIELDS),
        EventStrategy(
            Resource("events.k8s.io", "v1", "events", "Event"),
            type_name="EventsV1Event",
            short_names=("ev",),
            storage=r.EVENTS,
            selectable_fields=_NEW_EVENT_FIELDS,
        ),
        ClaimStrategy(r.PVCS, short_names=("pvc",), subresources=("status",)),
    ]  # fmt: skip


_EVENT_FIELDS = (
    *(
        f"involvedObject.{name}"
        for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    ),
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_NEW_EVENT_FIELDS = (
    *(
        f"regarding.{name}"
        for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    ),
    "reason",
    "reportingController",
    "type",
)


def _workloads() -> list[KindStrategy]:
    scaled = ("status", "scale")
    return [
        DeploymentStrategy(
            r.DEPLOYMENTS, generation=True, short_names=("deploy",), categories=("all",),
            subresources=scaled, scale=WORKLOAD_SCALE,
        ),
        WorkloadStrategy(
            r.REPLICASETS, generation=True, short_names=("rs",), categories=("all",),
            subresources=scaled, scale=WORKLOAD_SCALE,
        ),
        StatefulSetStrategy(
            r.STATEFULSETS, generation=True, short_names=("sts",), categories=("all",),
            subresources=scaled, scale=WORKLOAD_SCALE,
        ),
        DaemonSetStrategy(
            Resource("apps", "v1", "daemonsets", "DaemonSet"), generation=True, short_names=("ds",),
            categories=("all",), subresources=("status",),
        ),
        RevisionStrategy(r.CONTROLLERREVISIONS),
        JobStrategy(
            r.JOBS, generation=True, categories=("all",), subresources=("status",),
            selectable_fields=("status.successful",),
        ),
        CronJobStrategy(
            Resource("batch", "v1", "cronjobs", "CronJob"), generation=True, short_names=("cj",),
            categories=("all",), subresources=("status",),
        ),
        DisruptionBudgetStrategy(
            Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"), generation=True,
            short_names=("pdb",), subresources=("status",),
        ),
    ]  # fmt: skip


def _plain() -> list[KindStrategy]:
    def rbac(plural: str, kind: str, namespaced: bool) -> Resource:
        return Resource(_RBAC, "v1", plural, kind, namespaced)

    return [
        LeaseStrategy(r.LEASES),
        BuiltinStrategy(
            Resource("", "v1", "persistentvolumes", "PersistentVolume", False),
            short_names=("pv",), subresources=("status",),
        ),
        StorageClassStrategy(
            Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", False), short_names=("sc",)
        ),
        VolumeAttachmentStrategy(r.VOLUME_ATTACHMENTS, subresources=("status",)),
        PriorityClassStrategy(
            Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", False),
            generation=True,
            short_names=("pc",),
        ),
        RoleStrategy(rbac("roles", "Role", True), name_check=names.path_segment),
        RoleStrategy(rbac("clusterroles", "ClusterRole", False), name_check=names.path_segment),
        RoleBindingStrategy(rbac("rolebindings", "RoleBinding", True), name_check=names.path_segment),
        RoleBindingStrategy(rbac("clusterrolebindings", "ClusterRoleBinding", False), name_check=names.path_segment),
        BuiltinStrategy(
            Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"), generation=True,
            short_names=("netpol",),
        ),
        DefinitionStrategy(r.CRDS),
        WebhookConfigurationStrategy(
            Resource(_ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False),
            generation=True,
        ),
        WebhookConfigurationStrategy(
            Resource(_ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False),
            generation=True,
        ),
    ]  # fmt: skip


def _refused() -> list[KindStrategy]:
    admission = "is not implemented by this API server: no admission policy would ever be asked"
    quota = "is not implemented by this API server: nothing would enforce it"
    return [
        *(
            RefusedStrategy(Resource(_ADMISSION, "v1", plural, kind, False), f"{kind} {admission}")
            for plural, kind in (
                ("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
                ("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
            )
        ),
        RefusedStrategy(
            Resource("", "v1", "resourcequotas", "ResourceQuota"),
            f"ResourceQuota {quota}",
            short_names=("quota",),
        ),
        RefusedStrategy(
            Resource("", "v1", "limitranges", "LimitRange"), f"LimitRange {quota}", short_names=("limits",)
        ),
    ]
