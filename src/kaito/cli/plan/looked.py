"""What a plan says of weights of the user's own. Pure: the hub was asked before, and nobody looks into images.

The controller's own rule is given what the hub said, so both refuse the same weights, and size by the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from kaito.catalog import Catalog
from kaito.controllers.admission import Finding
from kaito.controllers.workspace import Decision, Observed, WorkspaceConfig
from kaito.controllers.workspace.decide.look import place_of
from kaito.controllers.workspace.decide.own_weights import PATH, decide_weights, need_of, unsized
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.weights_source import Hub, NodePath, own_weights
from kaito.controllers.workspace.model import Answer, Need, Object


@dataclass(frozen=True, slots=True)
class Looked:
    """status: with what was found out of the weights; None: nothing was."""

    status: Object | None = None
    problems: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def asked_of_weights(workspace: Object) -> Need | None:
    """What the hub is asked about weights in a repository of it; None where there are none. The Workspace's fields have
    the types of the API's model."""
    source = own_weights(workspace)
    return need_of(source) if isinstance(source, Hub) else None


def look(
    workspace: Object,
    catalog: Catalog,
    config: WorkspaceConfig,
    now: datetime,
    answers: Mapping[Need, Answer],
) -> Looked:
    """What is known of the weights before anything is bought. The Workspace's fields have the types of the API's
    model."""
    if own_weights(workspace) is None or (plan := unsized(workspace, catalog, config)) is None:
        return Looked()
    source = plan.weights
    if isinstance(source, Hub) and source.own:
        return _asked(workspace, plan, config, now, answers.get(need_of(source)))
    if (place := place_of(source)) is not None:
        what = "what is in it is checked by the operator before a node is bought"
        return Looked(notes=(f"{place.path}: {what}; the figures are those of the preset's own weights",))
    field = "path" if isinstance(source, NodePath) else "volumeSource"
    text = f"inference.preset.weights.{field}: only the node has the files; each pod checks them before it serves"
    return Looked(notes=(text,))


def _asked(
    workspace: Object, plan: Plan, config: WorkspaceConfig, now: datetime, answer: Answer | None
) -> Looked:
    again = "the operator asks the hub before a node is bought"
    if answer is None:
        return Looked(notes=(f"{PATH}: not looked at here; {again}",))
    assert isinstance(plan.weights, Hub)
    found = decide_weights(Observed(workspace, answers={need_of(plan.weights): answer}), plan, config, now)
    if isinstance(found, Decision):
        return Looked(found.status)
    if found.hold is not None:
        return Looked(problems=(Finding(found.hold.path, found.hold.sentence),))
    return Looked(notes=(f"{PATH}: {answer.message}; {again}",))
