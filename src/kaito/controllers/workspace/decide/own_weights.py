"""Weights of the user's own: looked at before a node is asked for them.

What the hub says of a repository is held against the preset: architecture, dimensions, names and shapes of tensors.
Images and volumes are looked at by a pod (`decide.look`). Weights that do not fit, or are not there, cost nothing then.
Where only a node can read them, or the hub does not answer, the init container of the pod checks the same. The commit,
or the digest, is kept in `status.resolved.weights`, so that every pod has the same files for as long as the Workspace
names the same weights; beside it how large they are, and how they are quantised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from kaito.catalog import Catalog
from kaito.catalog.hub import ACCESS_DENIED, NOT_FOUND, UNSUPPORTED
from kaito.catalog.tensors import differences, mismatch
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.hub_model import known_preset
from kaito.controllers.workspace.decide.look import (
    LOOKUP,
    UNFIT,
    decide_look,
    place_of,
    why_unchecked,
    with_digest,
)
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import FOR, read_weights, with_weights
from kaito.controllers.workspace.decide.weights_source import (
    Hub,
    Pulled,
    own_weights,
    weights_key,
    weights_source,
)
from kaito.controllers.workspace.model import (
    Answer,
    Decision,
    Deletion,
    Need,
    Object,
    Observed,
    Write,
    metadata,
)

TOO_LITTLE_MEMORY: Final = "InsufficientGpuMemory"
"""Reason of what own weights may be small enough for, quantised ones above all."""
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


def may_be_smaller(workspace: Object, problems: Iterable[Problem]) -> bool:
    """Whether only GPU memory is in the way, and nobody has looked yet how large the Workspace's own weights are."""
    source = own_weights(workspace)
    if source is None or {each.reason for each in problems} != {TOO_LITTLE_MEMORY}:
        return False
    looked_at = isinstance(source, Hub) or place_of(source) is not None
    return looked_at and (read_weights(workspace) or {}).get(FOR) != weights_key(source)


def unsized(workspace: Object, catalog: Catalog, config: WorkspaceConfig) -> Plan | None:
    """A plan of which only the weights count: what is looked at before anything can be sized. None without a model."""
    meta, written = metadata(workspace), (workspace.get("inference") or {}).get("preset") or {}
    preset = known_preset(workspace, catalog)
    if preset is None:
        return None
    return Plan(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        count=1,
        sizes=(),
        match_labels={},
        preset=preset,
        preset_options=written.get("presetOptions") or {},
        template=None,
        config_map=None,
        adapters=(),
        weights=weights_source(workspace, preset, config),
    )


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
