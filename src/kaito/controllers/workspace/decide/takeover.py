"""A workload that another operator made (the Go KAITO): it is left as it is until its Workspace's spec changes.

Its pods hold GPUs and answer users, and what ours would write differs in every part, so taking it over by rewriting it
would restart every model of a cluster at once. Instead the hash of the spec that it was found with is kept in
`status.resolved.adopted`. As long as the spec has that hash nothing of the workload and its Services is written, its
nodes are kept and mended, and the status says how it goes. With another hash it is written like any other workload,
in place, and the memory is dropped once that is done.

None of this needs the model or the machine size to be known here: what runs, runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from kaito.api.conditions import find_condition, set_condition
from kaito.api.labels import (
    DESIRED_HASH_ANNOTATION,
    INSTANCE_TYPE_LABEL,
    REVISION_ANNOTATION,
    WORKSPACE_FINALIZER,
    WORKSPACE_UID_LABEL,
)
from kaito.catalog import Catalog
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.adapters import AdaptersOutcome
from kaito.controllers.workspace.decide.children import ours
from kaito.controllers.workspace.decide.claims import instance_type
from kaito.controllers.workspace.decide.hub_model import LOOKUP, known_preset, preset_name
from kaito.controllers.workspace.decide.node_state import NodesOutcome, Part
from kaito.controllers.workspace.decide.nodes import decide_nodes
from kaito.controllers.workspace.decide.obstacles import name_taken
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.controllers.workspace.decide.pods import pod_problem
from kaito.controllers.workspace.decide.status import (
    JOB_STARTED,
    WORKLOAD_ADOPTED,
    Fact,
    failures,
    problem_events,
    running_facts,
    running_status,
    transitions,
)
from kaito.controllers.workspace.decide.wanted import Problem, Size, user_labels
from kaito.controllers.workspace.decide.workload import (
    PENDING,
    WorkloadOutcome,
    endpoint_of,
    headless_manifest,
    rolled_out,
    service_manifest,
)
from kaito.controllers.workspace.model import (
    Decision,
    Event,
    Object,
    Observed,
    Write,
    annotations_of,
    conditions,
    deleting,
    labels_of,
    metadata,
)
from kaito.runtime.resources import SERVICES

MEMORY: Final = "adopted"
"""Key in `status.resolved`: {workload: kind and name, specHash, unseen: whether the spec had changed when its maker had
stopped looking}."""

TUNING_REASONS: Final = "WorkspaceTuningJobStatus"
"""How the Go KAITO's reasons of JobStarted begin; ours are others."""
TUNING_LEFT: Final = (
    "fine-tuning is not available yet: the job was started by another operator and goes on, but it is neither followed "
    "nor started again here; what the other conditions say of it is from then"
)

_DEFAULTS: Final = (("resource", "count", 1), ("preset", "accessMode", "public"))
"""(parent, field, value) that a CRD fills in: with or without them a spec means the same."""


def decide_takeover(
    observed: Observed, catalog: Catalog, config: WorkspaceConfig, now: datetime
) -> Decision | None:
    """What is to be done while another operator's workload stays as it is; None where there is none, or it may not."""
    workspace = observed.workspace
    if workspace.get("tuning") is not None:
        return _tuning(workspace, now)
    live = _foreign(observed)
    if live is None:
        return None
    spec, memory = spec_hash(workspace), remembered(workspace)
    if memory is not None and memory.get("specHash") != spec:
        return None
    what = f"{live.get('kind', 'workload')} {metadata(live)['name']}"
    first = memory is None
    if memory is None:
        memory = {"workload": what, "specHash": spec, "unseen": _changed_unseen(workspace)}
    replicas = _replicas(live)
    plan = _stand_in_plan(observed, catalog, replicas)
    nodes = _nodes(observed, plan, catalog, config, now)
    workload = _workload(observed, live, what, replicas)
    note = _note(what, memory, observed, catalog, config)
    facts = [
        *running_facts(plan, nodes, AdaptersOutcome(), workload),
        Fact(WORKLOAD_ADOPTED, "True", WORKLOAD_ADOPTED, note),
    ]
    status = running_status(workspace, plan, nodes, AdaptersOutcome(), workload, facts, now)
    old = workspace.get("status") or {}
    status["targetNodeCount"] = old.get("targetNodeCount") or replicas
    resolved = old.get("resolved")
    status["resolved"] = {**(resolved if isinstance(resolved, dict) else {}), MEMORY: memory}
    adopted = (Event("Normal", WORKLOAD_ADOPTED, note),) if first else ()
    return Decision(
        replaces=nodes.replaces,
        writes=(*nodes.writes, *workload.writes),
        deletions=nodes.deletions,
        status=status,
        finalizer=_finalizer(workspace),
        events=(*adopted, *failures(workspace, facts), *transitions(workspace, status, workload)),
        requeue_after=nodes.requeue_after,
    )


def _tuning(workspace: Object, now: datetime) -> Decision | None:
    """A tuning Workspace whose job another operator started: what that one told of it stays."""
    stored = conditions(workspace)
    started = find_condition(stored, JOB_STARTED)
    if started is None or not str(started.get("reason")).startswith(TUNING_REASONS):
        return None
    problem = Problem("TuningNotImplemented", TUNING_LEFT)
    generation = metadata(workspace).get("generation")
    found = set_condition(
        stored, problem.reason, "True", problem.reason, problem.message, generation=generation, now=now
    )
    status = {**workspace["status"], "conditions": found, "reason": problem.reason}
    return Decision(
        status=status, finalizer=_finalizer(workspace), events=problem_events(workspace, [problem])
    )


def remembered(workspace: Object) -> Object | None:
    """What is kept of an adopted workload, or None."""
    resolved = (workspace.get("status") or {}).get("resolved")
    memory = resolved.get(MEMORY) if isinstance(resolved, dict) else None
    return memory if isinstance(memory, dict) else None


def forgotten(status: Object, observed: Observed) -> Object:
    """The status without the memory, once nothing that another operator made is left to remember it for."""
    resolved = status.get("resolved")
    if not isinstance(resolved, dict) or MEMORY not in resolved or _foreign(observed) is not None:
        return status
    rest = {key: value for key, value in resolved.items() if key != MEMORY}
    kept = {key: value for key, value in status.items() if key != "resolved"}
    return {**kept, "resolved": rest} if rest else kept


def spec_hash(workspace: Object) -> str:
    """16 hex digits over what the user asks for, however it is written.

    Labels and annotations do not count, nor what is empty, nor defaults: neither an upgrade of the CRD nor applying
    the same file again is a change. The result is stored, so it must stay what it is.
    """
    asked = {key: workspace.get(key) for key in ("resource", "inference")}
    plain = orjson.dumps(_plain(asked, ""), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(plain).hexdigest()[:16]


def _plain(value: Any, parent: str) -> Any:
    if isinstance(value, Mapping):
        found = {key: _plain(each, key) for key, each in value.items()}
        return {
            key: each
            for key, each in found.items()
            if each not in (None, "", {}, []) and (parent, key, each) not in _DEFAULTS
        }
    if isinstance(value, list):
        return [_plain(each, parent) for each in value]
    return value


def _finalizer(workspace: Object) -> Literal["add"] | None:
    return None if WORKSPACE_FINALIZER in (metadata(workspace).get("finalizers") or ()) else "add"


def _foreign(observed: Observed) -> Object | None:
    """The running workload, if another operator wrote it.

    A workload without our hash is another's, unless the Workspace's status has a field that only we write: then it is
    our own, and somebody took the annotation away.
    """
    live = observed.stateful_set if observed.stateful_set is not None else observed.deployment
    if live is None or deleting(live) or not ours(live, observed.workspace):
        return None
    annotations = annotations_of(live)
    if DESIRED_HASH_ANNOTATION in annotations:
        return None
    known = "reason" in (observed.workspace.get("status") or {})
    if known and REVISION_ANNOTATION not in annotations and remembered(observed.workspace) is None:
        return None
    return live


def _changed_unseen(workspace: Object) -> bool:
    """Whether the spec is newer than what the other operator's conditions are about."""
    seen = [int(each.get("observedGeneration") or 0) for each in conditions(workspace)]
    return 0 < max(seen, default=0) < int(metadata(workspace).get("generation") or 0)


def _replicas(live: Object) -> int:
    found = (live.get("spec") or {}).get("replicas")
    return 1 if found is None else int(found)


def _stand_in_plan(observed: Observed, catalog: Catalog, replicas: int) -> Plan:
    """A plan that asks for nothing but what is there already, whether or not the spec could be planned anew."""
    workspace = observed.workspace
    meta = metadata(workspace)
    valid = observed.invalid is None  # of an invalid one not even the shape is certain
    resource = (workspace.get("resource") or {}) if valid else {}
    status = workspace.get("status") or {}
    names = [
        *(instance_type(claim) for claim in observed.claims),
        *(entry.get("instanceType") for entry in status.get("nodes") or ()),
        *(source.get("instanceType") for source in (status, resource)),
    ]
    size = next((str(name) for name in names if name), None)
    return Plan(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        count=replicas,
        sizes=(Size(size, catalog.sku(size)),) if size else (),
        match_labels=user_labels(resource),
        preset=known_preset(workspace, catalog) if valid else None,
        preset_options={},
        template=None,
        config_map=None,
        adapters=(),
    )


def _nodes(
    observed: Observed, plan: Plan, catalog: Catalog, config: WorkspaceConfig, now: datetime
) -> NodesOutcome:
    """Claims that were made stay and are mended; without any, the nodes are where the pods run."""
    mine = [
        claim for claim in observed.claims if labels_of(claim).get(WORKSPACE_UID_LABEL) in (plan.uid, None)
    ]
    entries = (observed.workspace.get("status") or {}).get("nodes") or ()
    there = sum(not deleting(claim) for claim in mine)
    slots = max(len(entries), there, min(plan.count, len(mine)))
    if observed.pool is not None:
        before = (observed.workspace.get("status") or {}).get("targetNodeCount") or 0
        slots = max(slots, plan.count, before)  # nothing is taken from a pool before the workload is ours
    if config.node_provisioner.claims is not None and slots and plan.sizes:
        return decide_nodes(observed, replace(plan, count=slots), catalog, config, now)
    names = {
        str((pod.get("spec") or {}).get("nodeName") or "") for pod in observed.pods if not deleting(pod)
    } - {""}
    placed = sum(bool((pod.get("spec") or {}).get("nodeName")) for pod in observed.pods if not deleting(pod))
    types = {
        labels_of(observed.nodes[name]).get(INSTANCE_TYPE_LABEL) for name in names & observed.nodes.keys()
    }
    size = next(iter(sorted(each for each in types if each)), plan.sizes[0].name if plan.sizes else "")
    if placed >= plan.count:
        state = Part({}, "Ready", "NodesReady", f"its {placed} pods have their nodes")
    else:
        state = Part({}, "Pending", "NodeNotReady", f"{placed} of {plan.count} pods have a node")
    return NodesOutcome(nodes=state, worker_nodes=tuple(sorted(names)), instance_type=size)


def _workload(observed: Observed, live: Object, what: str, replicas: int) -> WorkloadOutcome:
    """How the workload is; Services are made where there are none, and left as they are where there are."""
    taken = name_taken(observed)
    endpoint = endpoint_of(observed.service) if taken is None else ""
    writes = _services(observed, live) if taken is None else ()
    if taken is not None:
        return WorkloadOutcome(False, taken.reason, taken.message, failing=True, name_taken=taken)
    if replicas == 0:
        return WorkloadOutcome(False, PENDING, f"{what} is scaled to 0", endpoint=endpoint, writes=writes)
    ready, text = rolled_out(live, replicas)
    if ready:
        return WorkloadOutcome(
            True,
            "WorkspaceInferenceStatusSuccess",
            f"{what} serves: {text}",
            endpoint=endpoint,
            writes=writes,
        )
    problem = pod_problem(observed.pods)
    if problem is not None:
        return WorkloadOutcome(
            False, problem.reason, problem.message, failing=True, endpoint=endpoint, writes=writes
        )
    return WorkloadOutcome(False, PENDING, f"{what}: {text}", endpoint=endpoint, writes=writes)


def _services(observed: Observed, live: Object) -> tuple[Write, ...]:
    """What is missing of the Services; where one process leads the others, it is the first pod that answers."""
    workspace = observed.workspace
    as_set = observed.stateful_set is not None
    writes = []
    if observed.service is None:
        first = f"{metadata(live)['name']}-0" if as_set else ""
        writes.append(Write(SERVICES, service_manifest(workspace, first)))
    if as_set and observed.headless is None:
        writes.append(Write(SERVICES, headless_manifest(workspace)))
    return tuple(writes)


def _note(what: str, memory: Object, observed: Observed, catalog: Catalog, config: WorkspaceConfig) -> str:
    """What the user should know of it."""
    text = f"{what}, made by another operator, is left as it is until this Workspace's spec changes"
    if memory.get("unseen"):
        name = metadata(observed.workspace)["name"]
        kind = what.split(" ", 1)[0].lower()
        text += (
            "; the spec was changed when that operator no longer looked, and that change is not applied either: "
            f"`kubectl delete {kind} {name}` has it made anew"
        )
    plan = make_plan(
        observed.workspace, observed.invalid, catalog, config, observed.settings, observed.adapters
    )
    if not isinstance(plan, Plan) and plan[0].reason == LOOKUP:
        text += (
            f"; then the hub is asked about {preset_name(observed.workspace)}, which is not in the catalogue"
        )
    elif not isinstance(plan, Plan):
        text += f"; this operator could not serve the present spec itself: {plan[0].message}"
    return text
