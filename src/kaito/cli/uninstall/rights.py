"""What `kaito uninstall` asks of the API server. The ClusterRole made of it is bound to nobody:
whoever removes KAITO, usually an administrator, may be given it."""

from __future__ import annotations

from typing import Final

from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.cli.uninstall.kinds import ORDER, OWN_NAMES
from kaito.runtime.resources import CRDS, LEASES, NODES
from kaito.runtime.rights import Right

RIGHTS: Final[tuple[Right, ...]] = (
    Right.of(WORKSPACES, "list", "delete", why="Workspaces go first, and are waited for."),
    Right.of(WORKSPACES, "patch", why="Without an operator its finalizer is taken off here."),
    *(
        Right.of(
            claims, "list", "delete", why="Claims are waited for; those without an operator are deleted."
        )
        for claims in (MACHINES, NODECLAIMS, NODEPOOLS)
    ),
    Right.of(ADAPTERS, "list", why="They go with their definition, so they are counted before the question."),
    Right.of(NODES, "list", why="A node that no claim stands behind is named."),
    Right.of(LEASES, "list", why="An operator is told by the Lease that it renews."),
    *(
        Right.of(resource, "list", "delete", why="What the manifests installed goes at last.")
        for group in ORDER
        for resource in group
    ),
    *(
        Right.of(resource, "get", names=(name,), why="What the operator made for itself.")
        for resource, name in OWN_NAMES
    ),
    Right.of(CRDS, "list", "delete", why="With --crds the definitions go, too."),
)
