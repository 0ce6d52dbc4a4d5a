"""The PodDisruptionBudget: of several pods that serve, one at a time may be moved, so that a drain of nodes does not
take the model away. A single pod gets none: it would keep its node from ever being drained.

A user's own budget over the same pods wins, because Kubernetes evicts no pod that two of them cover.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaito.api.labels import WORKSPACE_LABEL
from kaito.controllers.workspace.decide.children import manifest, ours, write_if_needed
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.model import Deletion, Object, Observed, Write, deleting, metadata
from kaito.runtime.resources import PODDISRUPTIONBUDGETS
from kaito.runtime.selectors import SelectorError, label_selector


@dataclass(frozen=True, slots=True)
class BudgetOutcome:
    """What is to be done about the budget."""

    writes: tuple[Write, ...] = ()
    deletions: tuple[Deletion, ...] = ()


def decide_budget(observed: Observed, plan: Plan, selector: Object) -> BudgetOutcome:
    """`selector` is the workload's: by what it knows its pods."""
    live = observed.budget
    if live is not None and not ours(live, observed.workspace):
        return BudgetOutcome()  # somebody's, of the same name: neither written nor deleted
    if plan.count < 2 or _has_another(observed, plan, selector):
        if live is None or deleting(live):
            return BudgetOutcome()
        meta = metadata(live)
        gone = Deletion(PODDISRUPTIONBUDGETS, meta["namespace"], meta["name"], meta["uid"])
        return BudgetOutcome(deletions=(gone,))
    if live is not None and deleting(live):
        return BudgetOutcome()  # written again when it is gone
    body = manifest("poddisruptionbudget", observed.workspace, {"budget": {"selector": selector}})
    write = write_if_needed(PODDISRUPTIONBUDGETS, body, live)
    return BudgetOutcome((write,) if write is not None else ())


def _has_another(observed: Observed, plan: Plan, selector: Object) -> bool:
    """Whether a budget that is not a Workspace's covers its pods."""
    theirs = ((plan.template or {}).get("metadata") or {}).get("labels") or {}
    labels = {**theirs, **(selector.get("matchLabels") or {}), WORKSPACE_LABEL: plan.name}
    return any(_covers(budget, labels) for budget in observed.other_budgets)


def _covers(budget: Object, labels: Mapping[str, str]) -> bool:
    found = (budget.get("spec") or {}).get("selector")
    if found is None:
        return False  # covers nothing
    try:
        return label_selector(found).matches(labels) if found else True
    except SelectorError:
        return False
