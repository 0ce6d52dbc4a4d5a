"""What to do next. Pure: from what is there to deletions, and to sentences about what is waited for.

Each look decides anew, so an interrupted run is continued by the next one, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kaito.api.labels import NODEPOOL_LABEL, WORKSPACE_FINALIZER
from kaito.api.resources import NODEPOOLS
from kaito.cli.uninstall.found import Costs, Item, describe_claim
from kaito.cli.uninstall.kinds import ORDER
from kaito.runtime.resources import DEPLOYMENTS

TELLING: Final = ("WorkspaceDeleting", "InstanceTerminating", "Ready")
"""Conditions that say why something is still there, the most telling first."""
SHOWN: Final = 5
"""Objects named in a message about what is waited for."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now. Nothing to wait for means that this part is through.

    releases: Workspaces from which our finalizer is taken.
    """

    deletions: tuple[Item, ...] = ()
    releases: tuple[Item, ...] = ()
    waits: tuple[Item, ...] = ()


def next_for_costs(costs: Costs, *, operator: bool) -> Step:
    """Workspaces go first: the operator ends their workload, then their claims.

    Without an operator the claims are deleted beside them, and once these are gone, the Workspaces' finalizer is
    taken; the workload goes with its owner. Claims whose Workspace is gone are deleted in either case. A claim stays
    until its own controller has seen the machine go: its finalizers are never touched.
    """
    deletions = [each for each in costs.workspaces if not each.deleting]
    if not operator or not costs.workspaces:
        pools = {each.name for each in costs.claims if each.resource == NODEPOOLS}
        deletions += [
            each
            for each in costs.claims
            if not each.deleting
            and each.labels.get(NODEPOOL_LABEL) not in pools  # else it would be made anew
        ]
    releases: tuple[Item, ...] = ()
    if not operator and not costs.claims:
        releases = tuple(each for each in costs.workspaces if each.deleting and needs_operator(each))
    return Step(tuple(deletions), releases, (*costs.workspaces, *costs.claims))


def needs_operator(workspace: Item) -> bool:
    """Whether somebody must end it: on nodes that are there anyway it has nothing to give back, and no finalizer."""
    return WORKSPACE_FINALIZER in (workspace.tree["metadata"].get("finalizers") or ())


def next_for_installation(items: Sequence[Item]) -> Step:
    """One group of kinds after the other."""
    for group in ORDER:
        present = tuple(item for item in items if item.resource in group)
        if present:
            return Step(tuple(item for item in present if not item.deleting), (), present)
    return Step()


def propagation(item: Item) -> str:
    """Deployments go after their pods: these give their leases back first."""
    return "Foreground" if item.resource == DEPLOYMENTS else "Background"


def progress(step: Step) -> str:
    """What goes on: what was told to go just now, and else what is waited for."""
    if len(step.deletions) == len(step.waits):
        return f"removing {counted(step.waits)}"
    return waiting(step.waits)


def waiting(items: Sequence[Item]) -> str:
    """What is waited for: how many of each kind, and what the first ones say themselves."""
    lines = [f"waiting for {counted(items)}"]
    for item in items[:SHOWN]:
        said = reason(item)
        lines.append(f"  {describe_claim(item)}{f': {said}' if said else ''}")
    if len(items) > SHOWN:
        lines.append(f"  and {len(items) - SHOWN} more")
    return "\n".join(lines)


def reason(item: Item) -> str:
    """What the object says about its own end."""
    found = {each.get("type"): each for each in item.conditions}
    for type in TELLING:
        condition = found.get(type)
        if condition is not None and condition.get("message"):
            return str(condition["message"])
    return ""


def counted(items: Iterable[Item]) -> str:
    """`2 Workspaces and 1 Machine`."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.resource.kind] = counts.get(item.resource.kind, 0) + 1
    words = [f"{count} {_plural(kind) if count > 1 else kind}" for kind, count in counts.items()]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _plural(kind: str) -> str:
    if kind.endswith("y"):
        return f"{kind[:-1]}ies"
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"
