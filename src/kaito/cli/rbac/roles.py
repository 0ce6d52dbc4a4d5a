"""Who runs what, and so who needs which rights. A package's rights join here, and in no other place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.cli.beside.rights import OPERATOR_RIGHTS as BESIDE_OPERATOR
from kaito.cli.beside.rights import PROVISIONER_RIGHTS as BESIDE_PROVISIONER
from kaito.cli.operator.names import LEASE_NAME, PROVISIONER_LEASE_NAME
from kaito.cli.operator.rights import RIGHTS as CHECK_RIGHTS
from kaito.cli.operator.webhook_rights import RIGHTS as WEBHOOK_RIGHTS
from kaito.controllers.adapter.rights import RIGHTS as ADAPTER_RIGHTS
from kaito.controllers.machine import SHAPES
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

PROVISIONER: Final[tuple[Right, ...]] = (
    *MACHINE_RIGHTS,
    *EXISTING_RIGHTS,
    *BESIDE_PROVISIONER,
    *definition_rights(each.resource for each in SHAPES),
    *leader_rights(PROVISIONER_LEASE_NAME),
)
"""`kaito provisioner --cloud-provider=existing`, which never deletes a Node."""


def claim_rights(provisioner: NodeProvisioner) -> tuple[Right, ...]:
    """What `kaito operator --node-provisioner=…` needs besides."""
    claims = provisioner.claims
    return (*CLAIM_RIGHTS[provisioner], *definition_rights(() if claims is None else (claims,)))


def operator_rights(
    provisioner: NodeProvisioner, *, leader_election: bool = True, webhook: bool = True
) -> tuple[Right, ...]:
    """Everything that `kaito operator` needs with these flags."""
    return (
        *ALWAYS,
        *(LEASE if leader_election else ()),
        *(WEBHOOK_RIGHTS if webhook else ()),
        *claim_rights(provisioner),
    )


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
