"""Weights of the user's own: looked at before a node is asked for them.

What the hub says of a repository is held against the preset: architecture, dimensions, names and shapes of tensors.
Images and volumes are looked at by a pod (`decide.look`). Weights that do not fit, or are not there, cost nothing then.
Where only a node can read them, or the hub does not answer, the init container of the pod checks the same. The commit,
or the digest, is kept in `status.resolved.weights`, so that every pod has the same files for as long as the Workspace
names the same weights; beside it how large they are, and how they are quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from kaito.catalog.hub import ACCESS_DENIED, NOT_FOUND, UNSUPPORTED
from kaito.catalog.tensors import differences, mismatch
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.look import (
    LOOKUP,
    UNFIT,
    decide_look,
    why_unchecked,
    with_digest,
)
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import FOR, read_weights, with_weights
from kaito.controllers.workspace.decide.weights_source import Hub, Pulled, weights_key
from kaito.controllers.workspace.model import Answer, Decision, Deletion, Need, Object, Observed, Write

PATH: Final = "inference.preset.weights.huggingFace"
AGAIN: Final = 660.0
"""Seconds after which weights that do not fit are looked at anew: an answer serves for ten minutes."""


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """What is known of them. hold: why no first node is bought yet. needs: what is asked of the hub. writes, deletions:
    of the pod that looks. again: seconds until something else may be known."""

    hold: Problem | None = None
    needs: tuple[Need, ...] = ()
    writes: tuple[Write, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    again: float | None = None


NOTHING: Final = OwnWeights()


def pinned(plan: Plan, workspace: Object) -> Plan:
    """The plan with what was found out of its weights: their commit or digest, or why that could not be."""
    source = plan.weights
    plan = replace(plan, unchecked=why_unchecked(plan, workspace))
    if isinstance(source, Pulled):
        return replace(plan, weights=replace(source, image=with_digest(source.image, workspace)))
    kept = read_weights(workspace)
    if not isinstance(source, Hub) or not source.own or kept is None or kept.get(FOR) != weights_key(source):
        return plan
    return replace(plan, weights=replace(source, revision=str(kept["revision"])))


def decide_weights(
    observed: Observed, plan: Plan, config: WorkspaceConfig, now: datetime
) -> Decision | OwnWeights:
    """A Decision where something new is to be kept, before anything follows from it."""
    source, preset = plan.weights, plan.preset
    if not isinstance(source, Hub) or not source.own or preset is None:
        look = decide_look(observed, plan, config, now)
        if isinstance(look, Decision):
            return look
        return OwnWeights(look.hold, (), look.writes, look.deletions, look.again)
    kept = read_weights(observed.workspace)
    if kept is not None and kept.get(FOR) == weights_key(source):
        return NOTHING
    if observed.deployment is not None or observed.stateful_set is not None:
        return NOTHING  # it runs: whatever the hub says now would only restart it
    need = need_of(source)
    answer = observed.answers.get(need)
    if answer is None:
        text = f"the hub is asked what is in {source.repository}"
        return OwnWeights(Problem.at(PATH, LOOKUP, text), (need,))
    if answer.facts is None:
        return OwnWeights(_refused(answer, source), (need,))
    found = differences(preset, _map(answer.facts, "config"), _map(answer.facts, "tensors"))
    if found:
        unfit = Problem.at(PATH, UNFIT, mismatch(source.repository, preset, found))
        return OwnWeights(unfit, (need,), again=AGAIN)
    part = {FOR: weights_key(source), "id": source.repository, "revision": answer.facts["revision"]}
    part |= {name: answer.facts[name] for name in ("bytes", "quantization") if answer.facts.get(name)}
    status = with_weights(dict(observed.workspace.get("status") or {}), part)
    return Decision(status=status, requeue_after=0.0)


def _refused(answer: Answer, source: Hub) -> Problem | None:
    """Only what a pod would be told as well keeps a node from being bought: it may have the token that we lack."""
    if answer.reason in (NOT_FOUND, UNSUPPORTED) or (
        answer.reason == ACCESS_DENIED and source.secret is None
    ):
        return Problem.at(PATH, answer.reason, answer.message)
    return None


def need_of(source: Hub) -> Need:
    """What is asked of the hub about weights of the user's own."""
    return Need("weights", source.repository, source.revision, source.secret)


def _map(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}
