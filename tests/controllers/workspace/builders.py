"""Objects for the tests of the workspace controller's decisions, as small as they can be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from kaito.api.views import InvalidSpec, parse
from kaito.api.workspace import Workspace
from kaito.catalog import load_catalog
from kaito.controllers.workspace import Decision, Observed, WorkspaceConfig, decide
from kaito.runtime.clock import rfc3339
from kaito.runtime.resources import DEPLOYMENTS, PODDISRUPTIONBUDGETS, PODS, SERVICES, STATEFULSETS

Object = dict[str, Any]

CATALOG = load_catalog()
CONFIG = WorkspaceConfig()
UID = "8d1f8c3e-0000-4000-8000-000000000001"
NOW = datetime(2026, 11, 21, 13, 0, 0, tzinfo=UTC)
EXAMPLES = Path(__file__).parents[3] / "examples"
SEEDS = {
    "inference": EXAMPLES / "inference" / "kaito_workspace_phi_3.yaml",
    "adapters": EXAMPLES / "inference" / "kaito_workspace_phi_3_with_adapters.yaml",
    "tuning": EXAMPLES / "fine-tuning" / "kaito_workspace_tuning_phi_3.yaml",
}


def stored(workspace: Object) -> Object:
    """The Workspace as the API server hands it out."""
    metadata = {
        "namespace": "default",
        "uid": UID,
        "generation": 1,
        "resourceVersion": "7",
        "finalizers": ["workspace.finalizer.kaito.sh"],
        **workspace["metadata"],
    }
    return {**workspace, "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": metadata}


def seed(name: str) -> Object:
    """One of the three Workspaces that the product is described with."""
    return stored(yaml.safe_load(SEEDS[name].read_text()))


def workspace(
    preset: str | None = "phi-3-mini-4k-instruct",
    *,
    name: str = "phi",
    instance_type: str | None = "Standard_NC24ads_A100_v4",
    resource: Object | None = None,
    inference: Object | None = None,
    annotations: dict[str, str] | None = None,
) -> Object:
    """A Workspace with what matters for a test."""
    spec: Object = {"labelSelector": {"matchLabels": {"apps": "phi"}}, **(resource or {})}
    if instance_type is not None:
        spec["instanceType"] = instance_type
    served: Object = {**({"preset": {"name": preset}} if preset else {}), **(inference or {})}
    metadata: Object = {"name": name}
    if annotations:
        metadata["annotations"] = annotations
    return stored({"metadata": metadata, "resource": spec, "inference": served})


def decided(observed: Observed, config: WorkspaceConfig = CONFIG, now: datetime = NOW) -> Decision:
    return decide(observed, CATALOG, config, now)


def as_read(given: Object) -> Observed:
    """Nothing but a Workspace, read as the controller reads it from its cache."""
    found = parse(Workspace, given)
    return Observed(given, invalid=found if isinstance(found, InvalidSpec) else None)


def condition(status: Object | None, type: str) -> Object:
    """The condition of a status; a test fails where there is none."""
    found = [each for each in (status or {}).get("conditions") or () if each["type"] == type]
    assert len(found) == 1, f"{type}: {found}"
    return dict(found[0])


def kinds(decision: Decision) -> list[str]:
    return [write.resource.kind for write in decision.writes]


def written(decision: Decision, kind: str) -> Object:
    """The only child of that kind that is to be written."""
    found = [write.body for write in decision.writes if write.resource.kind == kind]
    assert len(found) == 1, f"{kind}: {kinds(decision)}"
    return found[0]


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def machine_ready(claim: Object, node: str) -> Object:
    """The claim once its node has joined."""
    names = ("MachineLaunched", "MachineRegistered", "MachineInitialized", "Ready")
    status = {"nodeName": node, "conditions": [{"type": name, "status": "True"} for name in names]}
    return alive({**claim, "status": status})


def alive(child: Object, uid: str = "") -> Object:
    """A child as the API server hands it out."""
    metadata = {**child["metadata"], "resourceVersion": "9"}
    if child.get("kind") != "Service":  # Services have no generation
        metadata["generation"] = 1
    metadata.setdefault("uid", uid or f"uid-of-{metadata['name']}")
    return {**child, "metadata": metadata}


def gpu_node(
    name: str, gpus: int = 1, *, labels: dict[str, str] | None = None, ready: str = "True"
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-of-{name}", "labels": labels or {}},
        "spec": {"taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "allocatable": {"nvidia.com/gpu": str(gpus)},
        },
    }


def rolled_out(workload: Object, replicas: int = 1) -> Object:
    """The workload once its pods are ready."""
    status = {
        "observedGeneration": 1,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
    }
    return {**alive(workload), "status": status}


def with_status(observed: Observed, decision: Decision) -> Observed:
    """The world after the decision's status was written."""
    return replace(observed, workspace={**observed.workspace, "status": decision.status})


def step(
    observed: Observed, config: WorkspaceConfig = CONFIG, now: datetime = NOW
) -> tuple[Observed, Decision]:
    """Decide, and carry the decision out in the observed world the way the API server would."""
    decision = decided(observed, config, now)
    observed = with_status(observed, decision)
    for write in decision.writes:
        child = alive(write.body)
        name = child["metadata"]["name"]
        if write.resource == DEPLOYMENTS:
            observed = replace(observed, deployment=child)
        elif write.resource == STATEFULSETS:
            observed = replace(observed, stateful_set=child)
        elif write.resource == SERVICES and name == observed.workspace["metadata"]["name"]:
            child["spec"] = {**child["spec"], "clusterIP": "10.96.0.7"}
            observed = replace(observed, service=child)
        elif write.resource == SERVICES:
            observed = replace(observed, headless=child)
        elif write.resource == PODDISRUPTIONBUDGETS:
            observed = replace(observed, budget=child)
        elif write.resource.kind == "Adapter":
            observed = replace(observed, adapters={**observed.adapters, name: child})
        elif write.resource == PODS:
            child["metadata"]["creationTimestamp"] = rfc3339(now)
            observed = replace(observed, looks=(*observed.looks, child))
        else:
            others = [each for each in observed.claims if each["metadata"]["name"] != name]
            observed = replace(observed, claims=(*others, child))
    gone = {deletion.uid for deletion in decision.deletions if deletion.resource == PODS}
    looks = tuple(each for each in observed.looks if each["metadata"]["uid"] not in gone)
    return replace(observed, looks=looks), decision


def provisioned(observed: Observed, gpus: int = 1) -> Observed:
    """The world after every claim got its node."""
    claims, nodes = [], dict(observed.nodes)
    for claim in observed.claims:
        name = f"node-{claim['metadata']['name']}"
        claims.append(machine_ready(claim, name))
        nodes[name] = gpu_node(name, gpus)
    return replace(observed, claims=tuple(claims), nodes=nodes)


def served(observed: Observed) -> Observed:
    """The world after the workload's pods got ready."""
    replicas = observed.workspace["resource"].get("count") or 1
    if observed.stateful_set is not None:
        return replace(observed, stateful_set=rolled_out(observed.stateful_set, replicas))
    assert observed.deployment is not None
    return replace(observed, deployment=rolled_out(observed.deployment, replicas))


def settled(workspace: Object, config: WorkspaceConfig = CONFIG, gpus: int = 1) -> Observed:
    """A Workspace that is served, with its last status written."""
    observed, _ = step(Observed(workspace), config)
    observed = provisioned(observed, gpus)
    observed, _ = step(observed, config)
    observed = served(observed)
    observed, _ = step(observed, config)
    return observed


def adapter_status(base: str = "tiny-phi-3", **facts: Any) -> Object:
    """Status of an Adapter that was read."""
    return {
        "conditions": [{"type": "Ready", "status": "True", "reason": "Readable", "message": ""}],
        "baseModel": base,
        "rank": 8,
        "targetModules": ["qkv_proj", "o_proj"],
        "dtype": "float32",
        **facts,
    }


def inline(image: str = "registry.example/adapter:1", **entry: object) -> Object:
    """A Workspace with one inline adapter, pirate."""
    return workspace(inference={"adapters": [{"source": {"name": "pirate", "image": image}, **entry}]})


def with_adapter(observed: Observed, status: Object) -> Observed:
    """The world after the only Adapter got this status."""
    ((name, adapter),) = observed.adapters.items()
    return replace(observed, adapters={name: {**adapter, "status": status}})


def refused(reason: str, message: str) -> Object:
    """Status of an Adapter that could not be read."""
    return {"conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": message}]}
