"""What the overlays install: the kinds, in the order in which they are removed, and the labels they carry.

Everything in `manifests/` carries the labels of `SELECTOR`. What the operator makes for itself is known by name.
"""

from __future__ import annotations

from typing import Final

from kaito.api.crds import LABELS
from kaito.cli.operator.names import LEASE_NAME, PROVISIONER_LEASE_NAME
from kaito.runtime.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    SECRETS,
    SERVICES,
    Resource,
)
from kaito.runtime.webhook.certificates import VALIDATING

COMPONENT_LABEL: Final = "app.kubernetes.io/component"
SELECTOR: Final = ",".join(f"{key}={value}" for key, value in LABELS.items())
WEBHOOK_SECRET: Final = "kaito-webhook-cert"
UNINSTALL_ROLE: Final = "kaito-uninstall"
"""ClusterRole of whoever removes KAITO without being an administrator. It stays: he needs it to the end."""

RBAC: Final = "rbac.authorization.k8s.io"
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")

ORDER: Final[tuple[tuple[Resource, ...], ...]] = (
    # Nobody is asked any more before the one who answers goes.
    (VALIDATING,),
    # Its pods give their leases back, for which they need everything that follows.
    (DEPLOYMENTS,),
    (
        Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
        Resource("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor"),
        Resource("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor"),
        Resource("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule"),
        Resource("azmonitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor"),
        Resource("azmonitoring.coreos.com", "v1", "podmonitors", "PodMonitor"),
        Resource("cert-manager.io", "v1", "certificates", "Certificate"),
        Resource("cert-manager.io", "v1", "issuers", "Issuer"),
        Resource("", "v1", "resourcequotas", "ResourceQuota"),
        SERVICES,
        CONFIGMAPS,
        SECRETS,
        LEASES,
        Resource(RBAC, "v1", "rolebindings", "RoleBinding"),
        Resource(RBAC, "v1", "roles", "Role"),
        SERVICE_ACCOUNTS,
    ),
    (
        Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
        Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    ),
    (NAMESPACES,),
)
"""Groups of kinds; a group goes when the one before is gone."""

OWN_NAMES: Final[tuple[tuple[Resource, str], ...]] = (
    (SECRETS, WEBHOOK_SECRET),
    (LEASES, LEASE_NAME),
    (LEASES, PROVISIONER_LEASE_NAME),
)
"""What the operator and the provisioner make in their namespace, without labels."""

IN_EVERY_NAMESPACE: Final = frozenset(
    {"kube-root-ca.crt", "istio-ca-root-cert", "openshift-service-ca.crt", "default"}
)
"""Names of what others put into each namespace; they go with it."""
OCCUPANTS: Final = (DEPLOYMENTS, SERVICES, CONFIGMAPS, SECRETS, SERVICE_ACCOUNTS)
"""Kinds by which somebody else's use of the namespace is told."""
