"""The Workspace's status: what users, dashboards and older clients read. Built from the old one, so that whatever
others wrote there stays and times move only when something did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from kaito.api.conditions import Condition, find_condition, is_true, remove_conditions, set_condition
from kaito.controllers.workspace.decide.adapters import AdaptersOutcome
from kaito.controllers.workspace.decide.children import cut
from kaito.controllers.workspace.decide.node_state import NodesOutcome, Part
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.decide.workload import WorkloadOutcome
from kaito.controllers.workspace.model import Event, Object, conditions, metadata

NODE_CLAIM_READY: Final = "NodeClaimReady"
NODES_READY: Final = "NodesReady"
RESOURCE_READY: Final = "ResourceReady"
INFERENCE_READY: Final = "InferenceReady"
WORKSPACE_READY: Final = "WorkspaceReady"
WORKSPACE_SUCCEEDED: Final = "WorkspaceSucceeded"
JOB_STARTED: Final = "JobStarted"
WORKSPACE_DELETING: Final = "WorkspaceDeleting"
WORKLOAD_ADOPTED: Final = "WorkloadAdopted"
"""There, with status True, only while a workload that another operator made is left as it is."""
RESOURCE_SUCCESS: Final = "workspaceResourceStatusSuccess"
"""Reason of ResourceReady True; the spelling is the Go KAITO's."""

SUMMARIES: Final = {"WorkspaceInferenceStatusPending": "ModelStarting"}
"""Words for the column REASON in place of reasons that are fixed but long."""
CHILD_REFUSED: Final = "ChildRefused"

PROBLEM_CONDITIONS: Final = frozenset(
    {
        "InvalidSpec",
        "UnknownPreset",
        "DeprecatedPreset",
        "ModelLookup",
        "ModelNotFound",
        "ModelAccessDenied",
        "UnsupportedModel",
        "HubUnreachable",
        "LookupFailed",
        "UnknownInstanceType",
        "UnsupportedInstanceType",
        "InstanceTypeMissing",
        "InsufficientGpuMemory",
        "AdaptersNotSupported",
        "PartitionNotImplemented",
        "TuningNotImplemented",
        "AdapterNameTaken",
        "NameTaken",
    }
)
"""Condition types that are there, with status True, only while the problem of that name lasts."""

_READY_STATES: Final = frozenset({"Ready", "NotReady"})


@dataclass(frozen=True, slots=True)
class Fact:
    """One condition to set."""

    type: str
    status: Literal["True", "False"]
    reason: str
    message: str
    failing: bool = False
    """False for good reason: the user should look, and gets a warning event."""


def problem_status(workspace: Object, problems: Sequence[Problem], now: datetime) -> Object:
    """Status of a Workspace for which nothing can be planned; nodes and endpoint stay as they are known."""
    problem = problems[0]
    tuning = workspace.get("tuning") is not None
    subject = JOB_STARTED if tuning else INFERENCE_READY
    facts = [
        Fact(type, "False", problem.reason, problem.message, failing=True)
        for type in (RESOURCE_READY, subject, WORKSPACE_READY, WORKSPACE_SUCCEEDED)
    ]
    status = _with_conditions(workspace, [*facts, *(_problem_fact(each) for each in problems)], now)
    status["state"] = "Pending" if tuning else _state(workspace, ready=False)
    status["reason"] = problem.reason
    return status


def running_status(
    workspace: Object,
    plan: Plan,
    nodes: NodesOutcome,
    adapters: AdaptersOutcome,
    workload: WorkloadOutcome,
    facts: Sequence[Fact],
    now: datetime,
) -> Object:
    """Status of a Workspace that is being carried out, with these conditions (see `running_facts`)."""
    taken = [workload.name_taken] if workload.name_taken is not None else []
    taken += [Problem(use.reason, use.message) for use in adapters.uses if use.reason == "AdapterNameTaken"][
        :1
    ]
    status = _with_conditions(
        workspace,
        [*facts, *(_problem_fact(each) for each in taken)],
        now,
        keep_claims=nodes.claims is not None,
    )
    first = next((fact for fact in facts if fact.status == "False"), None)
    status["reason"] = SUMMARIES.get(first.reason, first.reason) if first is not None else "Ready"
    status["state"] = _state(workspace, ready=first is None)
    status["targetNodeCount"] = plan.count
    _put(status, "workerNodes", list(nodes.worker_nodes))
    _put(status, "nodes", list(nodes.entries))
    _put(status, "instanceType", nodes.instance_type)
    _put(status, "endpoint", workload.endpoint)
    _put(status, "adapters", [use.entry() for use in adapters.uses])
    return status


def deleting_status(workspace: Object, waits_for: str, now: datetime) -> Object:
    """Status of a Workspace that is on its way out, with what it waits for."""
    message = f"being deleted; waits for {waits_for}"
    facts = [
        Fact(WORKSPACE_READY, "False", "Deleting", message),
        Fact(WORKSPACE_DELETING, "True", "workspaceDeleted", message),
    ]
    kept = [condition for condition in conditions(workspace) if condition.get("type") in PROBLEM_CONDITIONS]
    status = _with_conditions(workspace, facts, now, kept=kept)
    status["state"] = _state(workspace, ready=False)
    status["reason"] = "Deleting"
    return status


def refused_status(
    workspace: Object, wanted: Object, kind: str, name: str, message: str, now: datetime
) -> tuple[Object, tuple[Event, ...]]:
    """`wanted` with the news that the API server refused to take a child, and the event of that."""
    text = f"the API server refused {kind} {name}: {cut(message)}"
    subject = RESOURCE_READY if kind in ("Machine", "NodeClaim", "NodePool") else INFERENCE_READY
    facts = [
        Fact(type, "False", CHILD_REFUSED, text, failing=True)
        for type in (subject, WORKSPACE_READY, WORKSPACE_SUCCEEDED)
    ]
    types = {fact.type for fact in facts}
    stored = conditions(workspace)
    found = [
        dict((find_condition(stored, each["type"]) if each["type"] in types else None) or each)
        for each in wanted.get("conditions") or ()
    ]
    generation = metadata(workspace).get("generation")
    for fact in facts:
        found = set_condition(
            found, fact.type, fact.status, fact.reason, fact.message, generation=generation, now=now
        )
    status = {**wanted, "conditions": found}
    status["reason"] = CHILD_REFUSED
    status["state"] = _state(workspace, ready=False)
    return status, failures(workspace, facts[:1])


def transitions(old: Object, status: Object, workload: WorkloadOutcome | None) -> tuple[Event, ...]:
    """Events for what the new status says for the first time."""
    before, after = conditions(old), list(status.get("conditions") or ())
    events: list[Event] = []
    ready = find_condition(after, WORKSPACE_READY)
    if ready is not None and not is_true(before, WORKSPACE_DELETING) and ready.get("reason") != "Deleting":
        if ready["status"] == "True" and not is_true(before, WORKSPACE_READY):
            where = f"; address: {status['endpoint']}" if status.get("endpoint") else ""
            events.append(Event("Normal", "WorkspaceReady", f"{ready['message']}{where}"))
            if workload is not None and workload.stand_in:
                events.append(Event("Warning", "StandInWeights", ready["message"]))
        elif ready["status"] == "False" and is_true(before, WORKSPACE_READY):
            events.append(Event("Warning", "WorkspaceNotReady", f"{ready['reason']}: {ready['message']}"))
    return tuple(events)


def problem_events(old: Object, problems: Iterable[Problem]) -> tuple[Event, ...]:
    """A warning for each problem that is new."""
    known = {condition.get("type") for condition in conditions(old)}
    return tuple(
        Event("Warning", problem.reason, problem.message)
        for problem in problems
        if problem.reason not in known
    )


def failures(old: Object, facts: Iterable[Fact]) -> tuple[Event, ...]:
    """A warning for each failing condition whose reason is new; one for all that say the same."""
    found: dict[str, Event] = {}
    for fact in facts:
        before = find_condition(conditions(old), fact.type)
        if fact.failing and (before is None or before.get("reason") != fact.reason):
            found.setdefault(fact.reason, Event("Warning", fact.reason, fact.message))
    return tuple(found.values())


def running_facts(
    plan: Plan, nodes: NodesOutcome, adapters: AdaptersOutcome, workload: WorkloadOutcome
) -> list[Fact]:
    """The conditions of a Workspace that is being carried out."""
    facts: list[Fact] = []
    told = plan.notes if workload.ready or not plan.unchecked else (*plan.notes, plan.unchecked)
    if nodes.claims is not None:
        facts.append(_part(NODE_CLAIM_READY, nodes.claims))
    facts.append(_part(NODES_READY, nodes.nodes))
    why = nodes.claims if nodes.claims is not None and not nodes.claims.ready else nodes.nodes
    if nodes.ready:
        text = f"{len(nodes.worker_nodes)} nodes ready" if plan.count > 1 else "the node is ready"
        text = "; ".join((text, *told))
        facts.append(Fact(RESOURCE_READY, "True", RESOURCE_SUCCESS, text))
    else:
        text = "; ".join((why.message, *told))
        facts.append(Fact(RESOURCE_READY, "False", why.reason, text, failing=why.state == "Failed"))
    message = workload.message
    notes = [
        f"{use.wanted.name}: {use.message}" for use in adapters.uses if use.state == "Ready" and use.message
    ]
    if workload.ready and notes:
        message = f"{message}; {'; '.join(notes)}"
    facts.append(
        Fact(
            INFERENCE_READY, "True" if workload.ready else "False", workload.reason, message, workload.failing
        )
    )
    first = next((fact for fact in facts if fact.status == "False"), None)
    if first is None:
        facts.append(Fact(WORKSPACE_READY, "True", "workspaceReady", message))
        facts.append(Fact(WORKSPACE_SUCCEEDED, "True", "workspaceSucceeded", message))
    else:
        facts.append(Fact(WORKSPACE_READY, "False", first.reason, first.message))
        facts.append(Fact(WORKSPACE_SUCCEEDED, "False", "workspacePending", first.message))
    return facts


def _part(type: str, part: Part) -> Fact:
    return Fact(type, "True" if part.ready else "False", part.reason, part.message)


def _problem_fact(problem: Problem) -> Fact:
    """The condition that is named like the problem."""
    return Fact(problem.reason, "True", problem.reason, problem.message)


def _with_conditions(
    workspace: Object,
    facts: Iterable[Fact],
    now: datetime,
    *,
    keep_claims: bool = True,
    kept: Iterable[Mapping[str, Any]] = (),
) -> Object:
    """The old status with these conditions; problem conditions that no longer apply are gone."""
    facts = list(facts)
    names = {fact.type for fact in facts} | {str(condition.get("type")) for condition in kept}
    gone = ((PROBLEM_CONDITIONS | {WORKLOAD_ADOPTED}) - names) | (
        frozenset() if keep_claims else {NODE_CLAIM_READY}
    )
    found: list[Condition] = remove_conditions(conditions(workspace), gone)
    generation = metadata(workspace).get("generation")
    for fact in facts:
        found = set_condition(
            found, fact.type, fact.status, fact.reason, fact.message, generation=generation, now=now
        )
    return {**(workspace.get("status") or {}), "conditions": found}


def _state(workspace: Object, *, ready: bool) -> str:
    if ready:
        return "Ready"
    old = (workspace.get("status") or {}).get("state")
    return "NotReady" if old in _READY_STATES else "Pending"


def _put(status: Object, key: str, value: Any) -> None:
    """Set the key, or take it away where there is nothing to say."""
    if value:
        status[key] = value
    else:
        status.pop(key, None)
