"""What is decided while the hub is asked about a Workspace's model, and when it has answered."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from kaito.api.conditions import remove_conditions
from kaito.api.labels import WORKSPACE_FINALIZER
from kaito.catalog import Catalog
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.hub_model import LOOKUP, PATH, Question, model_part, question
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import with_model
from kaito.controllers.workspace.decide.status import problem_events, problem_status
from kaito.controllers.workspace.model import (
    Answer,
    Decision,
    Event,
    Need,
    Object,
    Observed,
    conditions,
    metadata,
)


def decide_model(
    observed: Observed, catalog: Catalog, config: WorkspaceConfig, now: datetime
) -> Decision | tuple[Need, ...]:
    """A decision while there is nothing to plan with, or when something new is to be kept; else what is still asked."""
    if observed.invalid is not None:
        return ()
    asked = question(observed.workspace, catalog, config)
    if asked is None:
        return ()
    if not asked.indispensable and (observed.deployment is not None or observed.stateful_set is not None):
        return ()  # it runs: another commit would only restart it
    answer = observed.answers.get(asked.need)
    if answer is not None and answer.facts is not None:
        return _kept(observed.workspace, asked, answer.facts)
    if not asked.indispensable:
        return (asked.need,) if answer is not None else _waits(observed.workspace, asked, None, config, now)
    return _waits(observed.workspace, asked, answer, config, now)


def _kept(workspace: Object, asked: Question, facts: Object) -> Decision:
    """Stored before anything follows from it, so that the next pass and the next operator read the same."""
    status = with_model(dict(workspace.get("status") or {}), model_part(asked, facts))
    if "conditions" in status:
        status["conditions"] = remove_conditions(conditions(workspace), {LOOKUP})
    return Decision(status=status, requeue_after=0.0)


def _waits(
    workspace: Object, asked: Question, answer: Answer | None, config: WorkspaceConfig, now: datetime
) -> Decision:
    events: tuple[Event, ...] = ()
    if answer is None:
        what = "what it is" if asked.indispensable else "for the newest commit of its weights"
        problem = Problem.at(PATH, LOOKUP, f"the hub is asked {what}: {asked.need.id}")
    else:
        problem = Problem.at(PATH, answer.reason, answer.message)
        events = problem_events(workspace, [problem])
    status = problem_status(workspace, [problem], now)
    return Decision(
        status=status, finalizer=_finalizer(workspace, config), events=events, needs=(asked.need,)
    )


def _finalizer(workspace: Object, config: WorkspaceConfig) -> Literal["add"] | None:
    if config.node_provisioner.claims is None:
        return None
    return None if WORKSPACE_FINALIZER in (metadata(workspace).get("finalizers") or ()) else "add"
