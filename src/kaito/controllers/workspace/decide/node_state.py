"""Whether nodes are fit for pods, and what that means for the Workspace. Shared by claimed and existing nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kaito.api.conditions import is_true
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.model import Deletion, Object, Write, conditions, deleting
from kaito.controllers.workspace.node_facts import gpu_capacity


@dataclass(frozen=True, slots=True)
class Part:
    """One slot, or one condition: its state and why it is not Ready."""

    entry: Object
    state: Literal["Pending", "Ready", "Failed"]
    reason: str = ""
    message: str = ""
    node: str = ""
    was_ready: bool = False
    """Whether the slot's present claim had a ready node before."""

    @property
    def ready(self) -> bool:
        return self.state == "Ready"

    def status_entry(self) -> Object:
        """The entry of `status.nodes`."""
        lost = self.was_ready and self.state == "Pending"
        entry = {**self.entry, "state": "NotReady" if lost else self.state}
        if self.reason and not self.ready:
            entry.update(reason=self.reason, message=self.message)
        return entry


@dataclass(frozen=True, slots=True)
class NodesOutcome:
    """The nodes of a Workspace."""

    nodes: Part
    """The condition NodesReady."""
    claims: Part | None = None
    """The condition NodeClaimReady; None where nothing is claimed."""
    entries: tuple[Object, ...] = ()
    worker_nodes: tuple[str, ...] = ()
    instance_type: str = ""
    """The machine size in use, or the one being tried."""
    gpus: int | None = None
    """GPUs that one node offers, where that is known only from the nodes."""
    writes: tuple[Write, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    replaces: frozenset[str] | None = None
    """See Decision."""
    requeue_after: float | None = None
    plan: Plan | None = None
    """The plan as it is on these nodes; None: as it was."""

    @property
    def ready(self) -> bool:
        """Whether as many nodes as wanted can take pods."""
        return self.nodes.ready and (self.claims is None or self.claims.ready)


def node_fault(node: Object | None, name: str, plan: Plan, gpus: int) -> Problem | None:
    """Why a claim's node cannot take the Workspace's pods yet, or None."""
    if node is None:
        return Problem("NodeNotReady", f"node {name or '(unnamed)'} has not joined")
    if deleting(node):
        return Problem("NodeNotReady", f"node {name} is being deleted")
    if not is_true(conditions(node), "Ready"):
        return Problem("NodeNotReady", f"node {name} is not ready")
    if gpus and gpu_capacity(node) < gpus:
        return Problem(
            "NodePluginsNotReady",
            f"node {name} offers {gpu_capacity(node)} of {gpus} GPUs; its device plugin may still be starting",
        )
    return None


def waiting(parts: Sequence[Part], plan: Plan, kind: str, others: Sequence[str] = ()) -> NodesOutcome:
    """The outcome for these slots. `others`: nodes that are ready though nobody claimed them."""
    names = tuple(sorted({*others, *(part.node for part in parts if part.ready)}))
    size = next((part.entry.get("instanceType") for part in parts if part.entry.get("instanceType")), "")
    if len(names) >= plan.count:
        state = Part({}, "Ready", "NodesReady", f"{len(names)} of {plan.count} ready")
    else:
        why = next(
            (
                part
                for part in parts
                if not part.ready and part.reason in ("NodeNotReady", "NodePluginsNotReady")
            ),
            None,
        )
        if why is not None:
            state = Part({}, "Pending", why.reason, why.message)
        else:
            text = f"{len(names)} of {plan.count} ready; waiting for a {kind}"
            state = Part({}, "Pending", "NodeNotReady", text)
    return NodesOutcome(
        nodes=state,
        entries=tuple(part.status_entry() for part in parts),
        worker_nodes=names,
        instance_type=str(size or ""),
    )
