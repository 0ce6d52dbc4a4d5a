"""What the machine controller asks of the API server, whichever cloud it works with."""

from __future__ import annotations

from typing import Final

from kaito.controllers.machine.shapes import SHAPES
from kaito.runtime.resources import NODES, PODS, PVCS, VOLUME_ATTACHMENTS
from kaito.runtime.rights import EVENT_RIGHTS, Right

RIGHTS: Final[tuple[Right, ...]] = (
    *(
        right
        for shape in SHAPES
        for right in (
            Right.of(shape.resource, "list", "watch", why="Claims are what the provisioner works for."),
            Right.of(
                shape.resource,
                "patch",
                why="The finalizer that keeps a claim until its machine is gone, and the labels its machine brought.",
            ),
            Right.of(
                shape.resource,
                "delete",
                why="A claim that cannot be fulfilled, or whose machine vanished, is given up.",
            ),
            Right.of(
                shape.resource,
                "patch",
                subresource="status",
                why="How far a machine has come is written there.",
            ),
        )
    ),
    Right.of(NODES, "list", "watch", why="A claim's machine is there when its Node is."),
    Right.of(
        NODES, "patch", why="A Node gets its claim's labels and taints, and is cordoned before it goes."
    ),
    *EVENT_RIGHTS,
)

MADE_NODE_RIGHTS: Final[tuple[Right, ...]] = (
    *(
        Right.of(
            shape.resource,
            "update",
            subresource="finalizers",
            why="A Node names its claim as an owner that waits for it; some clusters check who may do that.",
        )
        for shape in SHAPES
    ),
    Right.of(NODES, "delete", why="A Node goes with its machine."),
    Right.of(PODS, "list", "watch", why="A Node is drained first: the pods on it, while it is drained."),
    Right.of(PODS, "create", subresource="eviction", why="Pods are asked to go as their budgets allow."),
    Right.of(
        PODS, "delete", why="Pods that would outlast a claim's terminationGracePeriod are deleted in time."
    ),
    Right.of(
        VOLUME_ATTACHMENTS, "list", "watch", why="A machine goes when the volumes of its pods are detached."
    ),
    Right.of(PVCS, "get", why="Which volumes belong to pods that stay until the machine goes."),
)
"""Besides, with a cloud that makes machines; a Node that is lent has no owner and is never deleted."""
