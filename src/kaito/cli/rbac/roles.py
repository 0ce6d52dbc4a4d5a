"""Who runs what, and so who needs which rights. A package's rights join here, and in no other place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.cli.beside.rights import OPERATOR_RIGHTS as BESIDE_OPERATOR
from kaito.cli.beside.rights import PROVISIONER_RIGHTS as BESIDE_PROVISIONER
from kaito.cli.operator.names import LEASE_NAME, PROVISIONER_LEASE_NAME, CloudName
from kaito.cli.operator.rights import RIGHTS as CHECK_RIGHTS
from kaito.cli.operator.webhook_rights import RIGHTS as WEBHOOK_RIGHTS
from kaito.controllers.adapter.rights import RIGHTS as ADAPTER_RIGHTS
from kaito.controllers.machine import SHAPES
from kaito.controllers.machine.rights import MADE_NODE_RIGHTS
from kaito.controllers.machine.rights import RIGHTS as MACHINE_RIGHTS
from kaito.controllers.workspace import NodeProvisioner
from kaito.controllers.workspace.rights import CLAIM_RIGHTS
from kaito.controllers.workspace.rights import RIGHTS as WORKSPACE_RIGHTS
from kaito.provisioner.rights import EXISTING_RIGHTS
from kaito.runtime.definitions import definition_rights
from kaito.runtime.rights import Right, leader_rights

NAMESPACE: Final = "kaito-system"
"""Where the manifests put KAITO."""

ALWAYS: Final[tuple[Right, ...]] = (*WORKSPACE_RIGHTS, *ADAPTER_RIGHTS, *CHECK_RIGHTS, *BESIDE_OPERATOR)
"""`kaito operator`, whatever its flags."""
LEASE: Final = leader_rights(LEASE_NAME)
"""With `--leader-elect`."""

WEBHOOK: Final = WEBHOOK_RIGHTS
"""With a webhook whose certificate the operator makes."""

OPERATOR: Final[tuple[Right, ...]] = (*ALWAYS, *LEASE, *WEBHOOK)
"""What the manifests grant to `kaito operator`, whatever makes the nodes."""

CLAIMS: Final[tuple[Right, ...]] = (
    *MACHINE_RIGHTS,
    *definition_rights(each.resource for each in SHAPES),
)
"""Whoever makes Machines and NodeClaims real, with whichever cloud."""
CLOUDS: Final[Mapping[CloudName, tuple[Right, ...]]] = {
    CloudName.EXISTING: EXISTING_RIGHTS,
    CloudName.AKS: MADE_NODE_RIGHTS,
}
"""Besides, with `--cloud-provider=…`. The instant cloud is for the local mode, where nobody is refused anything."""

PROVISIONER_LEASE: Final = leader_rights(PROVISIONER_LEASE_NAME)
PROVISIONER: Final[tuple[Right, ...]] = (*CLAIMS, *BESIDE_PROVISIONER, *PROVISIONER_LEASE)
"""What the manifests grant to `kaito provisioner`, whatever its cloud."""
OPERATOR_CLOUD: Final[tuple[Right, ...]] = (*CLAIMS, *BESIDE_PROVISIONER)
"""What they grant to `kaito operator` with a cloud in it, whichever."""


def provisioner_rights(cloud: CloudName, *, leader_election: bool = True) -> tuple[Right, ...]:
    """Everything that `kaito provisioner --cloud-provider=…` needs."""
    return (
        *CLAIMS,
        *BESIDE_PROVISIONER,
        *CLOUDS[cloud],
        *(PROVISIONER_LEASE if leader_election else ()),
    )


def claim_rights(provisioner: NodeProvisioner) -> tuple[Right, ...]:
    """What `kaito operator --node-provisioner=…` needs besides."""
    kinds = [each for each in (provisioner.claims, provisioner.pools) if each is not None]
    return (*CLAIM_RIGHTS[provisioner], *definition_rights(kinds))


def operator_rights(
    provisioner: NodeProvisioner,
    *,
    leader_election: bool = True,
    webhook: bool = True,
    cloud: CloudName | None = None,
) -> tuple[Right, ...]:
    """Everything that `kaito operator` needs with these flags."""
    return (
        *ALWAYS,
        *(LEASE if leader_election else ()),
        *(WEBHOOK_RIGHTS if webhook else ()),
        *claim_rights(provisioner),
        *_operator_cloud(cloud),
    )


def _operator_cloud(cloud: CloudName | None) -> tuple[Right, ...]:
    if cloud is None or cloud not in CLOUDS:
        return ()
    return (*OPERATOR_CLOUD, *CLOUDS[cloud])


@dataclass(frozen=True, slots=True)
class UserRole:
    """A ClusterRole for people, which joins one of Kubernetes' own."""

    name: str
    joins: str
    """view, edit or admin."""
    rights: tuple[Right, ...]


_READ: Final = ("get", "list", "watch")
_CHANGE: Final = ("create", "delete", "deletecollection", "patch", "update")

USERS: Final[tuple[UserRole, ...]] = (
    UserRole(
        "kaito-view",
        "view",
        tuple(
            Right.of(resource, *_READ, why="Who may look at a namespace sees its models.")
            for resource in (WORKSPACES, ADAPTERS)
        ),
    ),
    UserRole(
        "kaito-edit",
        "edit",
        tuple(
            Right.of(resource, *_CHANGE, why="Who may change workloads of a namespace may run models there.")
            for resource in (WORKSPACES, ADAPTERS)
        ),
    ),
    UserRole(
        "kaito-admin",
        "admin",
        tuple(
            Right.of(
                resource,
                "get",
                "patch",
                "update",
                subresource="status",
                why="To put right by hand what is stuck.",
            )
            for resource in (WORKSPACES, ADAPTERS)
        ),
    ),
)
"""For people. Kubernetes adds them to its roles view, edit and admin, so that nothing has to be bound."""
