"""Weights of the user's own in a repository of the hub: looked at before a node is asked for them.

What the hub says is held against the preset: architecture, dimensions, names and shapes of tensors. Weights that do
not fit, or are not there, cost nothing then. Where only a node can read them, or the hub does not answer, the init
container of the pod checks the same. The commit is kept in `status.resolved.weights`, so that every pod has the same
files for as long as the Workspace names the same repository and revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kaito.catalog.hub import ACCESS_DENIED, NOT_FOUND, UNSUPPORTED
from kaito.catalog.tensors import differences, mismatch
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import FOR, key_of, read_weights, with_weights
from kaito.controllers.workspace.decide.weights_source import Hub
from kaito.controllers.workspace.model import Answer, Decision, Need, Object, Observed

PATH: Final = "inference.preset.weights.huggingFace"
LOOKUP: Final = "WeightsLookup"
"""Reason while the hub is asked."""
UNFIT: Final = "WeightsDoNotFit"
"""Reason where they are another model's."""
AGAIN: Final = 660.0
"""Seconds after which weights that do not fit are looked at anew: an answer serves for ten minutes."""


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """What is known of them. hold: why no first node is bought yet. needs: what is asked. again: seconds until the hub
    may know something else."""

    hold: Problem | None = None
    needs: tuple[Need, ...] = ()
    again: float | None = None


NOTHING: Final = OwnWeights()


def pinned(plan: Plan, workspace: Object) -> Plan:
    """The plan with the commit that was found out for its weights."""
    source = plan.weights
    kept = read_weights(workspace)
    if not isinstance(source, Hub) or not source.own or kept is None or kept.get(FOR) != _key(source):
        return plan
    return replace(plan, weights=replace(source, revision=str(kept["revision"])))


def decide_weights(observed: Observed, plan: Plan) -> Decision | OwnWeights:
    """A Decision where something new is to be kept, before anything follows from it."""
    source, preset = plan.weights, plan.preset
    if not isinstance(source, Hub) or not source.own or preset is None:
        return NOTHING
    kept = read_weights(observed.workspace)
    if kept is not None and kept.get(FOR) == _key(source):
        return NOTHING
    if observed.deployment is not None or observed.stateful_set is not None:
        return NOTHING  # it runs: whatever the hub says now would only restart it
    need = Need("weights", source.repository, source.revision, source.secret)
    answer = observed.answers.get(need)
    if answer is None:
        text = f"the hub is asked what is in {source.repository}"
        return OwnWeights(Problem.at(PATH, LOOKUP, text), (need,))
    if answer.facts is None:
        return OwnWeights(_refused(answer, source), (need,))
    found = differences(preset, _map(answer.facts, "config"), _map(answer.facts, "tensors"))
    if found:
        unfit = Problem.at(PATH, UNFIT, mismatch(source.repository, preset, found))
        return OwnWeights(unfit, (need,), AGAIN)
    part = {FOR: _key(source), "id": source.repository, "revision": answer.facts["revision"]}
    status = with_weights(dict(observed.workspace.get("status") or {}), part)
    return Decision(status=status, requeue_after=0.0)


def _refused(answer: Answer, source: Hub) -> Problem | None:
    """Only what a pod would be told as well keeps a node from being bought: it may have the token that we lack."""
    if answer.reason in (NOT_FOUND, UNSUPPORTED) or (
        answer.reason == ACCESS_DENIED and source.secret is None
    ):
        return Problem.at(PATH, answer.reason, answer.message)
    return None


def _map(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _key(source: Hub) -> str:
    return key_of({"id": source.repository, "revision": source.revision})
