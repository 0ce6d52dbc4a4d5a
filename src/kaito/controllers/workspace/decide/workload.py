"""The workload and its Services: what should be there, and whether the model answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from kaito.api.labels import (
    DESIRED_HASH_ANNOTATION,
    ENABLE_LB_ANNOTATION,
    EXTERNAL_URL_ANNOTATION,
    WORKSPACE_LABEL,
)
from kaito.catalog import Catalog
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.adapters import AdaptersOutcome
from kaito.controllers.workspace.decide.budget import decide_budget
from kaito.controllers.workspace.decide.children import manifest, write_if_needed
from kaito.controllers.workspace.decide.node_state import NodesOutcome
from kaito.controllers.workspace.decide.obstacles import name_taken, unusable_config_map
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.podparts import rollout_seconds
from kaito.controllers.workspace.decide.pods import pod_problem, stand_in_weights, weights_progress
from kaito.controllers.workspace.decide.podspec import pod_template
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.model import (
    Deletion,
    Event,
    Object,
    Observed,
    Write,
    annotations_of,
    deleting,
    metadata,
)
from kaito.controllers.workspace.names import headless_name
from kaito.runtime.resources import DEPLOYMENTS, SERVICES, STATEFULSETS, Resource

PENDING: Final = "WorkspaceInferenceStatusPending"
FETCHING: Final = "WeightsFetching"


@dataclass(frozen=True, slots=True)
class WorkloadOutcome:
    """The workload of a Workspace."""

    ready: bool
    reason: str = PENDING
    message: str = ""
    failing: bool = False
    """Whether something is wrong, rather than merely not there yet."""
    name_taken: Problem | None = None
    endpoint: str = ""
    stand_in: str = ""
    writes: tuple[Write, ...] = ()
    deletions: tuple[Deletion, ...] = ()


def decide_workload(
    observed: Observed,
    plan: Plan,
    catalog: Catalog,
    config: WorkspaceConfig,
    nodes: NodesOutcome,
    adapters: AdaptersOutcome,
) -> WorkloadOutcome:
    """Services at once, so that the address is known early; the workload once nodes are ready for it."""
    taken = name_taken(observed)
    if taken is not None:
        return WorkloadOutcome(False, taken.reason, taken.message, failing=True, name_taken=taken)
    as_set = plan.distributed or observed.stateful_set is not None
    resource = STATEFULSETS if as_set else DEPLOYMENTS
    live = observed.stateful_set if as_set else observed.deployment
    if as_set and observed.deployment is not None:
        return _makes_room(observed, plan, observed.deployment, nodes, adapters)
    writes = _services(observed, plan, as_set=as_set)
    endpoint = endpoint_of(observed.service)
    held = _held(observed, plan, live, nodes, adapters)
    if held is not None:
        return WorkloadOutcome(
            False,
            held.reason,
            held.message,
            held.reason not in (PENDING, "AdapterPending"),
            endpoint=endpoint,
            writes=writes,
        )
    write = _workload_write(observed, plan, catalog, config, nodes, adapters, resource, live)
    budget = decide_budget(observed, plan, _selector(plan, live))
    writes = (*writes, *([write] if write is not None else []), *budget.writes)
    if live is None or (write is not None and not _applied(write.body, live)):
        text = f"{resource.kind} {plan.name} is being rolled out"
        return WorkloadOutcome(
            False, PENDING, text, endpoint=endpoint, writes=writes, deletions=budget.deletions
        )
    # A difference in what was applied before is somebody else's edit, or a server's way of writing a value: whether
    # the model answers is then for the workload's own status to say.
    outcome = _state(observed, plan, resource, live, adapters, endpoint, writes)
    return replace(outcome, deletions=budget.deletions)


def _makes_room(
    observed: Observed, plan: Plan, other: Object, nodes: NodesOutcome, adapters: AdaptersOutcome
) -> WorkloadOutcome:
    """Several nodes are to serve the model together from now on, which a Deployment cannot: it goes when all of them
    are there, and until then it answers."""
    endpoint = endpoint_of(observed.service)
    if deleting(other) or (nodes.ready and _held(observed, plan, other, nodes, adapters) is None):
        deletions = () if deleting(other) else (_deletion(DEPLOYMENTS, other),)
        text = f"Deployment {plan.name} makes room for a StatefulSet"
        writes = _services(observed, plan, as_set=True)
        return WorkloadOutcome(False, PENDING, text, endpoint=endpoint, writes=writes, deletions=deletions)
    text = f"waits for its {plan.count} nodes; until then the model is served as before"
    held = _held(observed, plan, other, nodes, adapters) or Problem(PENDING, text)
    service = write_if_needed(SERVICES, service_manifest(observed.workspace, ""), observed.service)
    return WorkloadOutcome(
        False,
        held.reason,
        held.message,
        held.reason not in (PENDING, "AdapterPending"),
        endpoint=endpoint,
        writes=(service,) if service is not None else (),
    )


def _selector(plan: Plan, live: Object | None) -> Object:
    """By what the workload knows its pods: on one that is there already it cannot change."""
    found: Object = ((live or {}).get("spec") or {}).get("selector") or {}
    return found or {"matchLabels": {WORKSPACE_LABEL: plan.name}}


def _applied(desired: Object, live: Object) -> bool:
    """Whether the live workload was written from this very manifest."""
    wanted = annotations_of(desired).get(DESIRED_HASH_ANNOTATION)
    return annotations_of(live).get(DESIRED_HASH_ANNOTATION) == wanted


def _held(
    observed: Observed, plan: Plan, live: Object | None, nodes: NodesOutcome, adapters: AdaptersOutcome
) -> Problem | None:
    """Why the workload is left as it is for now; one that runs already is not held up by its nodes."""
    problem = adapters.problem or unusable_config_map(observed, plan)
    if problem is not None:
        kept = "; until then the model is served as before" if live is not None else ""
        return Problem(problem.reason, problem.message + kept)
    if live is None and not nodes.ready:
        return Problem(PENDING, "waits for its nodes")
    if live is not None and deleting(live):
        return Problem(PENDING, f"the previous {live.get('kind', 'workload')} is being deleted")
    return None


def _services(observed: Observed, plan: Plan, *, as_set: bool) -> tuple[Write, ...]:
    service = service_manifest(observed.workspace, f"{plan.name}-0" if plan.distributed else "")
    writes = [write_if_needed(SERVICES, service, observed.service)]
    if as_set:
        writes.append(write_if_needed(SERVICES, headless_manifest(observed.workspace), observed.headless))
    return tuple(write for write in writes if write is not None)


def service_manifest(workspace: Object, first_pod: str) -> Object:
    """The Service at which the model answers; `first_pod`: the only pod that does, or ""."""
    balanced = annotations_of(workspace).get(ENABLE_LB_ANNOTATION) == "True"
    kind = "LoadBalancer" if balanced else "ClusterIP"
    return manifest("service", workspace, {"service": {"type": kind, "first_pod": first_pod}})


def headless_manifest(workspace: Object) -> Object:
    """The Service that gives the pods of a StatefulSet their addresses."""
    name = headless_name(metadata(workspace)["name"])
    return manifest("headless", workspace, {"service": {"name": name}})


def _workload_write(
    observed: Observed,
    plan: Plan,
    catalog: Catalog,
    config: WorkspaceConfig,
    nodes: NodesOutcome,
    adapters: AdaptersOutcome,
    resource: Resource,
    live: Object | None,
) -> Write | None:
    body = _body(observed, plan, catalog, config, nodes, adapters, resource, live)
    created = Event("Normal", "WorkloadCreated", f"{resource.kind} {plan.name} created")
    write = write_if_needed(resource, body, live, created)
    if write is None or live is None:
        return write
    if not nodes.ready and any(
        _applied(_body(observed, other, catalog, config, nodes, adapters, resource, live), live)
        for other in _elsewhere(plan)
    ):
        return None  # it was made for nodes of another size; it changes when those of this one are there
    if DESIRED_HASH_ANNOTATION not in annotations_of(live):
        what = f"{resource.kind} {plan.name}, made by another operator,"
        return Write(
            resource,
            body,
            "adopt",
            Event("Normal", "WorkloadAdopted", f"{what} is managed from here on"),
            before=Event("Normal", "WorkloadReplaced", f"{what} is rewritten now: its pods restart"),
        )
    return write


def _elsewhere(plan: Plan) -> list[Plan]:
    """The plan on each of its other sizes."""
    plans = [plan.at(number) for number in range(len(plan.sizes))] if plan.together else []
    return [each for each in plans if each.choice != plan.choice]


def _body(
    observed: Observed,
    plan: Plan,
    catalog: Catalog,
    config: WorkspaceConfig,
    nodes: NodesOutcome,
    adapters: AdaptersOutcome,
    resource: Resource,
    live: Object | None,
) -> Object:
    """The workload as it should be."""
    spec = (live or {}).get("spec") or {}
    selector = _selector(plan, live)
    size = plan.choice.instance_type if plan.choice is not None else nodes.instance_type
    pod = pod_template(
        plan,
        config,
        adapters.uses,
        catalog.sku(size) if size else None,
        _gpus(plan, nodes.gpus, size, catalog),
        selector.get("matchLabels") or {},
        observed.config_hash,
    )
    workload: Object = {"replicas": plan.count, "pod": pod, "deadline": rollout_seconds(plan.preset)}
    if resource is STATEFULSETS:
        workload |= {
            "selector": selector,  # these three cannot change on one that is there already
            "service_name": headless_name(plan.name) if live is None else spec.get("serviceName") or "",
            "pod_management": spec.get("podManagementPolicy") or "Parallel",
        }
    return manifest(resource.kind.lower(), observed.workspace, {"workload": workload})


def _gpus(plan: Plan, offered: int | None, size: str, catalog: Catalog) -> int:
    """GPUs that one pod asks for: all of its node, since nobody else may use them."""
    if plan.preset is None or not plan.needs_gpu:
        return 0
    if offered is not None:
        return max(offered, plan.preset.gpus)
    sku = catalog.sku(size)
    if sku is None:
        return plan.preset.gpus
    return sku.gpus if sku.nvidia else 0


def _state(
    observed: Observed,
    plan: Plan,
    resource: Resource,
    live: Object,
    adapters: AdaptersOutcome,
    endpoint: str,
    writes: tuple[Write, ...],
) -> WorkloadOutcome:
    ready, text = rolled_out(live, plan.count)
    stand_in = stand_in_weights(observed.pods)
    if ready:
        return WorkloadOutcome(
            True,
            "WorkspaceInferenceStatusSuccess",
            _serving(plan, stand_in, adapters),
            endpoint=endpoint,
            stand_in=stand_in,
            writes=writes,
        )
    problem = pod_problem(observed.pods)
    if problem is not None:
        return WorkloadOutcome(
            False, problem.reason, problem.message, failing=True, endpoint=endpoint, writes=writes
        )
    fetched = weights_progress(observed.pods)
    return WorkloadOutcome(
        False,
        FETCHING if fetched else PENDING,
        f"{resource.kind} {plan.name}: {text}" + (f"; {fetched}" if fetched else ""),
        endpoint=endpoint,
        writes=writes,
    )


def rolled_out(live: Object, count: int) -> tuple[bool, str]:
    """Whether that many pods are of the newest template and ready, and how far it is in words."""
    status = live.get("status") or {}
    if (status.get("observedGeneration") or 0) < (metadata(live).get("generation") or 0):
        return False, "the change is not yet seen by its controller"
    ready = status.get("readyReplicas") or 0
    updated = status.get("updatedReplicas") or 0
    if "currentRevision" in status and status.get("currentRevision") == status.get("updateRevision"):
        updated = max(updated, status.get("currentReplicas") or 0)
    total = status.get("replicas") or 0
    text = f"{min(ready, updated)} of {count} pods ready"
    return updated >= count and ready >= count and total <= updated, text


def _serving(plan: Plan, stand_in: str, adapters: AdaptersOutcome) -> str:
    what = plan.preset.name if plan.preset is not None else "the template's pods"
    nodes = "1 node" if plan.count == 1 else f"{plan.count} nodes"
    text = f"{what} served on {nodes}"
    if adapters.uses:
        text += f" with {', '.join(use.wanted.name for use in adapters.uses)}"
    if plan.preset is not None and stand_in and stand_in != plan.preset.name:
        text += f"; the stand-in weights {stand_in} answer, not the real model"
    return text


def endpoint_of(service: Object | None) -> str:
    """URL of the Service; empty while there is none, or it has no address."""
    if service is None:
        return ""
    external = annotations_of(service).get(EXTERNAL_URL_ANNOTATION)
    if external:
        return external
    address = (service.get("spec") or {}).get("clusterIP") or ""
    if not address or address == "None":
        return ""
    return f"http://[{address}]" if ":" in address else f"http://{address}"


def _deletion(resource: Resource, child: Object) -> Deletion:
    meta = metadata(child)
    return Deletion(resource, meta["namespace"], meta["name"], meta["uid"], "Foreground")
