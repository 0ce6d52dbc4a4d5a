"""What the workspace controller asks of the API server."""

from __future__ import annotations

from typing import Final

from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.controllers.workspace.act import CLAIM_KINDS
from kaito.controllers.workspace.config import NodeProvisioner
from kaito.runtime.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from kaito.runtime.rights import EVENT_RIGHTS, Right

RIGHTS: Final[tuple[Right, ...]] = (
    Right.of(WORKSPACES, "list", "watch", why="Workspaces are what the operator works for."),
    Right.of(
        WORKSPACES, "patch", why="The operator puts its finalizer on a Workspace and takes it off again."
    ),
    Right.of(
        WORKSPACES, "patch", subresource="status", why="Progress, endpoint and conditions are written there."
    ),
    Right.of(
        WORKSPACES,
        "update",
        subresource="finalizers",
        why="Children name their Workspace as an owner that waits for them; some clusters check who may do that.",
    ),
    Right.of(ADAPTERS, "list", "watch", why="A Workspace waits for the Adapters that it names."),
    Right.of(
        ADAPTERS,
        *("create", "patch", "delete"),
        why="An adapter written inside a Workspace becomes an Adapter object, and goes when it is taken out.",
    ),
    *(
        Right.of(resource, "list", "watch", "create", "patch", "delete", why=why)
        for resource, why in (
            (DEPLOYMENTS, "A Workspace on one node runs as a Deployment."),
            (STATEFULSETS, "A Workspace on several nodes runs as a StatefulSet."),
        )
    ),
    Right.of(
        SERVICES,
        *("list", "watch", "create", "patch"),
        why="Every Workspace is reached through a Service; it goes with the Workspace.",
    ),
    Right.of(
        PODDISRUPTIONBUDGETS,
        *("list", "watch", "create", "patch", "delete"),
        why="Of several pods that serve a Workspace one at a time may be moved; a single one gets no such budget.",
    ),
    Right.of(PODS, "list", "watch", why="Why a model does not answer is read from its pods."),
    Right.of(
        NODES,
        "list",
        "watch",
        why="Which nodes fit a Workspace, and whether they are ready, is read from them.",
    ),
    Right.of(
        CONFIGMAPS,
        *("list", "watch"),
        why="`inference.config` names a ConfigMap; its contents are hashed as they arrive and not kept.",
    ),
    *(
        Right.of(
            resource,
            "list",
            why="A Workspace goes only when no claim is left that costs money, of whichever kind it was.",
        )
        for resource in (*CLAIM_KINDS, NODEPOOLS)
    ),
    *EVENT_RIGHTS,
)
"""Whatever makes the nodes."""


_LOOKS: Final = Right.of(
    PODS,
    *("create", "delete"),
    why="Weights in an image or a volume are looked at by a small pod before a node is asked for.",
)


def _claims(resource: Resource) -> tuple[Right, ...]:
    return (
        Right.of(resource, "list", "watch", why="The state of the nodes that were asked for."),
        Right.of(resource, "create", why="One claim asks for one node."),
        Right.of(
            resource,
            "get",
            why="A claim that is there already is looked at before it counts as the Workspace's own.",
        ),
        Right.of(resource, "delete", why="A node is given back when its Workspace goes or gets smaller."),
        _LOOKS,
    )


_POOLS: Final[tuple[Right, ...]] = (
    Right.of(
        NODECLAIMS, "list", "watch", why="The state of the nodes that a Karpenter makes from NodePools."
    ),
    Right.of(NODECLAIMS, "delete", why="Claims from before the NodePools go with their Workspace."),
    Right.of(
        NODEPOOLS,
        "list",
        "watch",
        why="The NodePool of each Workspace: how many nodes it has, and what it says is wrong.",
    ),
    Right.of(NODEPOOLS, "create", why="A Workspace's nodes come of a NodePool of its own."),
    Right.of(
        NODEPOOLS,
        "get",
        why="One that is there already is looked at before it counts as the Workspace's own.",
    ),
    Right.of(NODEPOOLS, "patch", why="`spec.replicas` follows what the Workspace needs."),
    Right.of(NODEPOOLS, "delete", why="It goes with its Workspace, and its nodes with it."),
    _LOOKS,
)

CLAIM_RIGHTS: Final[dict[NodeProvisioner, tuple[Right, ...]]] = {
    NodeProvisioner.MACHINE: _claims(MACHINES),
    NodeProvisioner.NODECLAIM: _claims(NODECLAIMS),
    NodeProvisioner.KARPENTER: _POOLS,
    NodeProvisioner.BYO: (),
}
"""What is needed besides, by `--node-provisioner`."""
