"""The rules of the product, as one pure function: no I/O, no clock, no randomness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from kaito.api.labels import WORKSPACE_FINALIZER
from kaito.catalog import Catalog
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.adapters import decide_adapters
from kaito.controllers.workspace.decide.claims import retired
from kaito.controllers.workspace.decide.deletion import decide_deletion
from kaito.controllers.workspace.decide.hub_model import kept_commit
from kaito.controllers.workspace.decide.look import no_more
from kaito.controllers.workspace.decide.lookups import decide_model
from kaito.controllers.workspace.decide.nodes import decide_nodes
from kaito.controllers.workspace.decide.obstacles import before_first_node
from kaito.controllers.workspace.decide.own_weights import (
    OwnWeights,
    decide_weights,
    may_be_smaller,
    pinned,
    unsized,
)
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import with_choice
from kaito.controllers.workspace.decide.sizes import fitting_sizes
from kaito.controllers.workspace.decide.status import (
    failures,
    problem_events,
    problem_status,
    running_facts,
    running_status,
    transitions,
)
from kaito.controllers.workspace.decide.takeover import decide_takeover, forgotten
from kaito.controllers.workspace.decide.workload import decide_workload
from kaito.controllers.workspace.model import (
    Decision,
    Event,
    Object,
    Observed,
    Write,
    deleting,
    metadata,
)
from kaito.runtime.resources import DEPLOYMENTS, SERVICES, STATEFULSETS

__all__ = ["decide"]


def decide(observed: Observed, catalog: Catalog, config: WorkspaceConfig, now: datetime) -> Decision:
    """What is to be done for one Workspace.

    With nothing observed but the Workspace itself this is the plan: what the controller would do.
    """
    workspace = observed.workspace
    if deleting(workspace):
        return decide_deletion(observed, config, now)
    takeover = decide_takeover(observed, catalog, config, now)
    if takeover is not None:
        return takeover
    model = decide_model(observed, catalog, config, now)
    if isinstance(model, Decision):
        return model
    plan = make_plan(workspace, observed.invalid, catalog, config, observed.settings, observed.adapters)
    finalizer = _finalizer(workspace, config)
    if not isinstance(plan, Plan):
        look = _look_first(observed, plan, catalog, config, now)
        if isinstance(look, Decision):
            return look
        if look.hold is not None:
            plan = (replace(plan[0], message=f"{plan[0].message}; {look.hold.message}"), *plan[1:])
        status = forgotten(problem_status(workspace, plan, now), observed)
        events = (*transitions(workspace, status, None), *problem_events(workspace, plan))
        return Decision(
            writes=look.writes,
            deletions=look.deletions,
            status=status,
            finalizer=finalizer,
            events=events,
            needs=(*model, *look.needs),
            requeue_after=look.again,
        )
    weights = decide_weights(observed, plan, config, now)
    if isinstance(weights, Decision):
        return weights
    plan = pinned(plan, workspace)
    adapters = decide_adapters(observed, plan, catalog, config)
    hold = before_first_node(observed, plan, adapters) or weights.hold
    nodes = decide_nodes(observed, plan, catalog, config, now, hold)
    plan = (nodes.plan or plan).on(nodes.instance_type, catalog)
    workload = decide_workload(observed, plan, catalog, config, nodes, adapters)
    facts = running_facts(plan, nodes, adapters, workload)
    status = forgotten(running_status(workspace, plan, nodes, adapters, workload, facts, now), observed)
    if hold is None and (nodes.ready or nodes.claims is not None):
        status = kept_commit(_remembered(status, plan), workspace, plan.weights)
    return Decision(
        replaces=nodes.replaces,
        confirm=_is_doubtful(observed, workload.writes),
        writes=(*adapters.writes, *weights.writes, *nodes.writes, *workload.writes),
        deletions=(*workload.deletions, *adapters.deletions, *weights.deletions, *nodes.deletions),
        status=status,
        finalizer=finalizer,
        events=(
            *_retired(workspace, plan, status, catalog, config),
            *failures(workspace, facts),
            *transitions(workspace, status, workload),
        ),
        needs=(*model, *weights.needs),
        requeue_after=min(
            (each for each in (nodes.requeue_after, weights.again) if each is not None), default=None
        ),
    )


def _look_first(
    observed: Observed,
    problems: tuple[Problem, ...],
    catalog: Catalog,
    config: WorkspaceConfig,
    now: datetime,
) -> Decision | OwnWeights:
    """Own weights, where the preset's would be too large: they may be smaller."""
    if config.node_provisioner.claims is None:
        return OwnWeights()  # nothing is bought, so nobody looks
    plan = None
    if observed.invalid is None and may_be_smaller(observed.workspace, problems):
        plan = unsized(observed.workspace, catalog, config)
    if plan is None:
        return OwnWeights(deletions=no_more(observed).deletions)
    return decide_weights(observed, plan, config, now)


def _remembered(status: Object, plan: Plan) -> Object:
    """The status with the choice that holds from here on; without its ConfigMap nobody knows what it is made for."""
    if plan.serving is None:
        return with_choice(status, "", None)
    return with_choice(status, plan.serving.key, plan.choice) if plan.serving.key else status


def _is_doubtful(observed: Observed, writes: Sequence[Write]) -> bool:
    """Whether a child is missing that an earlier pass made, of a Workspace that nothing holds."""
    workspace = observed.workspace
    if WORKSPACE_FINALIZER in (metadata(workspace).get("finalizers") or ()) or not workspace.get("status"):
        return False
    live = {
        SERVICES: observed.service,
        DEPLOYMENTS: observed.deployment,
        STATEFULSETS: observed.stateful_set,
    }
    return any(live.get(write.resource, workspace) is None for write in writes)


def _finalizer(workspace: Object, config: WorkspaceConfig) -> Literal["add"] | None:
    """The finalizer holds a Workspace until its claims are gone; what makes no claims needs none, since owner
    references take everything else along."""
    if config.node_provisioner.claims is None:
        return None
    return None if WORKSPACE_FINALIZER in (metadata(workspace).get("finalizers") or ()) else "add"


def _retired(
    workspace: Object, plan: Plan, status: Object, catalog: Catalog, config: WorkspaceConfig
) -> tuple[Event, ...]:
    """A warning, once, when the machine size in use is one that the cloud no longer sells."""
    name = status.get("instanceType")
    if name is None or name == (workspace.get("status") or {}).get("instanceType"):
        return ()
    size = next((size for size in plan.sizes if size.name == name), None)
    note = retired(size) if size is not None else ""
    if not note:
        return ()
    fitting = fitting_sizes(plan.preset, catalog, config) if plan.preset is not None else ""
    return (
        Event(
            "Warning", "InstanceTypeRetired", f"{note}" + (f"; sizes that fit: {fitting}" if fitting else "")
        ),
    )
