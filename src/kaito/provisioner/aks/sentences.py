"""Sentences for users about what Azure refused: what is wrong, where, and what to do about it. No secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kaito.provisioner.aks import clouds
from kaito.provisioner.aks.rules import Rule
from kaito.provisioner.aks.signals import Signal, one_line
from kaito.provisioner.errors import (
    CloudUnavailable,
    ClusterNotFound,
    ClusterNotRunning,
    InstanceTypeUnavailable,
    InsufficientCapacity,
    OperationInProgress,
    PreconditionFailed,
    ProviderNotRegistered,
    Throttled,
    Unauthorized,
)


@dataclass(frozen=True, slots=True)
class About:
    """Who asked Azure for what. Every field may be empty; none is secret.

    identity: the client id, or words such as "the node's managed identity". pool: name of the agent pool asked about.
    host: of the Resource Manager.
    """

    location: str = ""
    cluster: str = ""
    resource_group: str = ""
    subscription_id: str = ""
    identity: str = ""
    pool: str = ""
    host: str = ""
    quota_page: str = clouds.PUBLIC.quota_page

    @property
    def whose(self) -> str:
        return f"the identity {self.identity}" if self.identity else "the provisioner's identity"


ANOTHER_OPERATION: Final = "another operation holds the cluster"
_DENIED: Final = re.compile(
    r"perform action '(?P<action>[^']+)'(?:.*?over scope '(?P<scope>[^']+)')?", re.IGNORECASE | re.DOTALL
)
_LINKED: Final = re.compile(
    r"perform action\(?s?\)? '(?P<action>[^']+)' on (?:the )?linked scope\(?s?\)? '(?P<scope>[^']+)'",
    re.IGNORECASE,
)
_ROLES: Final = (
    ("microsoft.network/", "Network Contributor"),
    ("microsoft.compute/skus", "Reader"),
    ("microsoft.compute/locations", "Reader"),
    ("microsoft.compute/capacityreservation", "Contributor"),
    ("microsoft.containerservice/", "Azure Kubernetes Service Contributor Role"),
)
_SIGN_IN: Final = (
    (
        r"AADSTS7002(1|11|12|13)\b|no matching federated identity",
        "give the identity a federated credential whose subject is the provisioner's service account "
        "(system:serviceaccount:NAMESPACE:NAME) and whose issuer is the cluster's",
    ),
    (
        r"AADSTS700016|AADSTS700027",
        "check AZURE_CLIENT_ID and AZURE_TENANT_ID: this tenant has no such identity",
    ),
    (r"AADSTS90002|AADSTS900023|AADSTS90013", "check AZURE_TENANT_ID and AZURE_AUTHORITY_HOST"),
    (r"AADSTS7000215", "check AZURE_CLIENT_SECRET: it is not the secret's value"),
    (r"AADSTS700024", "the token's time has passed or not come: check the clock of the node"),
    (r"AADSTS7000222|expired", "the credential has expired: make a new one and restart the provisioner"),
    (
        r"federated|token file|No such file",
        "check AZURE_FEDERATED_TOKEN_FILE: has the pod the label azure.workload.identity/use=true, and does the "
        "workload identity webhook run?",
    ),
    (
        r"IMDS|managed identity|169\.254",
        "check that the nodes have that managed identity, AZURE_CLIENT_ID, and that pods may reach 169.254.169.254",
    ),
    (r"az login|Azure CLI", "run `az login`"),
)


def refusal(rule: Rule, signal: Signal, about: About) -> str:
    """What a rule that fits an error has to say."""
    said = one_line(signal.message or signal.code or "no reason given")
    kind = rule.kind
    if issubclass(kind, Unauthorized):
        return denied(signal, about)
    if issubclass(kind, ProviderNotRegistered):
        return _not_registered(signal, about)
    if issubclass(kind, ClusterNotFound):
        return no_cluster(signal, about)
    prefix, advice = {
        Throttled: ("Azure asks for fewer requests", "it is tried again when Azure allows it"),
        InstanceTypeUnavailable: (
            f"the machine size is not to be had in {about.location or 'this region'} for this subscription",
            "name another size",
        ),
        InsufficientCapacity: (
            f"Azure has no such machine at the moment in {about.location or 'this region'}",
            "it is tried again; other sizes or zones may be there sooner",
        ),
        ClusterNotRunning: (_cluster(about) + " does not run", "start it, or wait until it has started"),
        OperationInProgress: (ANOTHER_OPERATION, ""),
        PreconditionFailed: ("the node pool has changed since it was read", ""),
        CloudUnavailable: ("Azure cannot do it at the moment", ""),
    }.get(kind, ("Azure refuses the node pool", ""))
    code = f" ({signal.code})" if signal.code and signal.code not in said else ""
    ending = rule.advice or advice
    return f"{prefix}: {said.rstrip('.')}{code}" + (f"; {ending}" if ending else "")


def denied(signal: Signal, about: About) -> str:
    """401 and 403: which action, which role, whose identity."""
    match = _LINKED.search(signal.message) or _DENIED.search(signal.message)
    if match is None:
        if "AADSTS" in signal.message:
            return sign_in(signal.message, about)
        said = one_line(signal.message or "no reason given").rstrip(".")
        return (
            f"Azure does not accept {about.whose}: {said}; check its role assignments, tenant and credential"
        )
    action = match["action"]
    scope = _assignable(match["scope"] or _cluster_scope(about), action, about)
    role = next((role for prefix, role in _ROLES if action.lower().startswith(prefix)), "Contributor")
    assignee = about.identity or "CLIENT_ID"
    return (
        f'{about.whose} may not do {action}; it needs the role "{role}": '
        f'az role assignment create --assignee {assignee} --role "{role}" --scope {scope or "SCOPE"}'
    )


def sign_in(said: str, about: About) -> str:
    """No token could be had."""
    what = next((advice for pattern, advice in _SIGN_IN if re.search(pattern, said, re.IGNORECASE)), "")
    code = re.search(r"AADSTS\d{4,}", said)
    shown = one_line(said[code.start() :] if code else said, 240).rstrip(".")
    return f"no token for {about.whose}: {shown}; {what or 'check its credential'}"


def unreachable(said: str, about: About) -> str:
    """Nobody answered."""
    host = about.host or "Azure"
    said = one_line(said, 240).rstrip(".")
    return f"{host} does not answer: {said}; check DNS, proxy and firewall of the provisioner"


def no_cluster(signal: Signal, about: About) -> str:
    """404 of the cluster, its group or its subscription."""
    said = one_line(signal.message, 240).rstrip(".")
    return (
        f"{_cluster(about)} was not found{f': {said}' if said else ''}; "
        "check AZURE_CLUSTER_NAME, ARM_RESOURCE_GROUP and ARM_SUBSCRIPTION_ID, and that the identity may read it"
    )


def unknown(said: str, about: About) -> str:
    """What nobody has classified."""
    return f"a request about {_cluster(about)} failed: {one_line(said)}"


def _not_registered(signal: Signal, about: About) -> str:
    match = re.search(r"namespace '?(Microsoft\.\w+)", signal.message, re.IGNORECASE)
    namespace = match[1] if match else "Microsoft.ContainerService"
    return (
        f"the subscription {about.subscription_id} has not registered {namespace}: "
        f"az provider register --namespace {namespace}"
    ).replace("  ", " ")


def _cluster(about: About) -> str:
    if not about.cluster:
        return "the managed cluster"
    group = f" in the resource group {about.resource_group}" if about.resource_group else ""
    return f"the managed cluster {about.cluster}{group}"


def _assignable(scope: str, action: str, about: About) -> str:
    """The scope for which a role is to be given: of a pool, whose name is new each time, the cluster; of sizes and
    quotas, which lie in nothing smaller, the subscription."""
    if action.lower().startswith(("microsoft.compute/skus", "microsoft.compute/locations")):
        return f"/subscriptions/{about.subscription_id}" if about.subscription_id else scope
    cluster = _cluster_scope(about)
    return cluster if cluster and scope.lower().startswith(f"{cluster.lower()}/agentpools") else scope


def _cluster_scope(about: About) -> str:
    if not (about.subscription_id and about.resource_group and about.cluster):
        return ""
    return (
        f"/subscriptions/{about.subscription_id}/resourceGroups/{about.resource_group}"
        f"/providers/Microsoft.ContainerService/managedClusters/{about.cluster}"
    )
