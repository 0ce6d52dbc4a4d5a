"""Objects with the statuses that our own controllers give them, one for every family of reasons.

Each world says which health a user should see. The statuses come from the controllers' decisions, so a change there
shows up in tests/gitops/recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from controllers.machine import builders as machines
from controllers.workspace.builders import (
    Object,
    adapter_status,
    as_read,
    decided,
    inline,
    provisioned,
    refused,
    seed,
    served,
    settled,
    step,
    with_adapter,
    with_status,
    workspace,
)
from kaito.api.adapter import Adapter
from kaito.api.reasons import CLAIM_REASONS, Course
from kaito.api.views import parse
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.adapter import decide as adapter_rules
from kaito.controllers.adapter.decide import Refusal
from kaito.controllers.adapter.facts import Facts
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.controllers.machine import decide as claim_rules
from kaito.controllers.machine.decide import Limits
from kaito.controllers.workspace import NodeProvisioner, Observed, WorkspaceConfig
from kaito.provisioner import errors

NOW = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
TINY = WorkspaceConfig(stand_in_weights="tiny-phi-3")
HEALTHY, PROGRESSING, DEGRADED = "Healthy", "Progressing", "Degraded"
DELETED = {"deletionTimestamp": "2026-11-21T13:00:00Z"}


class World(NamedTuple):
    """An object as kubectl shows it, and the health it should have."""

    name: str
    health: str
    obj: Object


def worlds() -> Iterator[World]:
    """All of them."""
    yield from _workspaces_in_order()
    yield from _workspaces_with_problems()
    yield from _workspaces_in_trouble()
    yield from _adapters()
    for shape in (MACHINE_SHAPE, NODECLAIM_SHAPE):
        yield from _claims(shape)


def _object(observed: Observed) -> Object:
    return deepcopy(observed.workspace)


def _workspaces_in_order() -> Iterator[World]:
    """From nothing to served, edited, ill and gone."""
    observed = Observed(seed("inference"))
    yield World("workspace-new", PROGRESSING, _object(observed))
    observed, _ = step(observed, TINY)
    yield World("workspace-asks-for-a-node", PROGRESSING, _object(observed))
    observed, _ = step(provisioned(observed), TINY)
    yield World("workspace-starts-its-pods", PROGRESSING, _object(observed))
    observed, _ = step(served(observed), TINY)
    yield World("workspace-served", HEALTHY, _object(observed))

    edited = _object(observed)
    edited["metadata"]["generation"] = 2
    yield World("workspace-edited-and-not-looked-at", PROGRESSING, edited)

    ill = {name: {**node, **_not_ready(node)} for name, node in observed.nodes.items()}
    yield World("workspace-lost-its-node", PROGRESSING, _object(step(replace(observed, nodes=ill), TINY)[0]))

    gone = replace(observed, workspace={**observed.workspace, **_deleted(observed.workspace)})
    yield World("workspace-is-deleted", PROGRESSING, _object(with_status(gone, decided(gone, TINY))))
    yield World("workspace-with-real-weights", HEALTHY, _object(settled(workspace())))


def _not_ready(node: Object) -> Object:
    conditions = [{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "dead"}]
    return {"status": {**node["status"], "conditions": conditions}}


def _deleted(obj: Object) -> Object:
    return {"metadata": {**obj["metadata"], **DELETED}}


def _workspaces_with_problems() -> Iterator[World]:
    """What cannot be carried out as it is written."""
    problems: dict[str, Object] = {
        "unknown-preset": workspace("phi-3-mini-4k"),
        "deprecated-preset": workspace("phi-2"),
        "unknown-instance-type": workspace(instance_type="Standard_NC6s_v33"),
        "no-instance-type": workspace(None, instance_type=None, inference={"template": {"spec": {}}}),
        "too-little-memory": workspace("phi-4", instance_type="Standard_NC6s_v3"),
        "partition": workspace(resource={"partition": {"mode": "mig", "profile": "1g.10gb"}}),
        "tuning": seed("tuning"),
    }
    for name, given in problems.items():
        observed, _ = step(Observed(given))
        yield World(f"workspace-{name}", DEGRADED, _object(observed))
    broken = workspace()
    broken["resource"]["count"] = "three"
    observed = as_read(broken)
    yield World("workspace-invalid", DEGRADED, _object(with_status(observed, decided(observed))))
    observed = settled(workspace(), TINY)
    edited = replace(observed, workspace={**workspace("no-such"), "status": observed.workspace["status"]})
    edited.workspace["metadata"]["generation"] = 2
    yield World("workspace-served-and-edited-badly", DEGRADED, _object(step(edited, TINY)[0]))


def _workspaces_in_trouble() -> Iterator[World]:
    """What is written well and goes wrong, for a while or until somebody comes."""
    observed, _ = step(Observed(workspace()))
    for name, health, reason in (
        ("quota", DEGRADED, errors.QuotaReached("no quota left for NCADSA100v4")),
        ("capacity", PROGRESSING, errors.InsufficientCapacity("no machine left in westeurope")),
        ("throttled", PROGRESSING, errors.Throttled("too many requests", retry_after=17)),
    ):
        claims = tuple({**claim, "status": _refused(MACHINE_SHAPE, reason)} for claim in observed.claims)
        world, _ = step(replace(observed, claims=claims))
        yield World(f"workspace-claim-{name}", health, _object(world))

    observed, _ = step(provisioned(observed))
    for name, health, pod in (
        ("image", DEGRADED, _waiting("ErrImagePull", "no such image")),
        ("crash", DEGRADED, _waiting("CrashLoopBackOff", "")),
        ("starting", PROGRESSING, _waiting("ContainerCreating", "")),
    ):
        world, _ = step(replace(observed, pods=(pod,)))
        yield World(f"workspace-pod-{name}", health, _object(world))

    asked, _ = step(Observed(inline()))
    yield World("workspace-adapter-is-read", PROGRESSING, _object(asked))
    unreadable = with_adapter(asked, refused("Unreadable", "no such directory"))
    yield World("workspace-adapter-unreadable", DEGRADED, _object(step(unreadable)[0]))
    other = with_adapter(asked, adapter_status("mistralai/Mistral-7B-v0.3"))
    yield World("workspace-adapter-does-not-fit", DEGRADED, _object(step(other)[0]))
    placeholder = with_adapter(asked, refused("InvalidImageReference", "holds a placeholder"))
    yield World("workspace-adapter-placeholder", DEGRADED, _object(step(placeholder)[0]))
    configured = Observed(workspace(inference={"config": "my-config"}))
    yield World("workspace-no-config-map", DEGRADED, _object(step(configured)[0]))
    nodeless = WorkspaceConfig(node_provisioner=NodeProvisioner.BYO)
    yield World(
        "workspace-waits-for-own-nodes", PROGRESSING, _object(step(Observed(workspace()), nodeless)[0])
    )


def _waiting(reason: str, message: str) -> Object:
    state = {"waiting": {"reason": reason, "message": message}}
    container = {
        "name": "phi",
        "image": "r/phi:1",
        "ready": False,
        "state": state,
        "lastState": {"terminated": {"exitCode": 3}},
    }
    metadata = {"name": "phi-abc", "namespace": "default"}
    return {"metadata": metadata, "status": {"containerStatuses": [container]}}


def _adapters() -> Iterator[World]:
    image = "registry.example/adapters/friendly:2"
    bare = {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Adapter",
        "metadata": {"name": "friendly", "namespace": "default", "generation": 1},
        "spec": {"source": {"name": "friendly", "image": image}},
    }
    facts = Facts("sha256:aa", 1200, "microsoft/Phi-3", 8, "16", ("o_proj",), "float16")
    unreadable = Refusal("Unreadable", "there is no adapter_config.json")
    yield World("adapter-new", PROGRESSING, bare)
    yield World("adapter-read", HEALTHY, _read(bare, facts))
    yield World("adapter-unreadable", DEGRADED, _read(bare, unreadable))
    spec = {"source": {"name": "friendly", "image": "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"}}
    yield World("adapter-placeholder", DEGRADED, _read({**bare, "spec": spec}, None))
    yield World("adapter-invalid", DEGRADED, _read({**bare, "spec": {"source": 3}}, None))
    edited = _read(bare, facts)
    edited["metadata"]["generation"] = 2
    yield World("adapter-edited-and-not-read-again", PROGRESSING, edited)
    yield World("adapter-is-deleted", PROGRESSING, {**_read(bare, facts), **_deleted(bare)})


def _read(adapter: Object, outcome: Facts | Refusal | None) -> Object:
    given = deepcopy(adapter)
    decision = adapter_rules.decide(given, parse(Adapter, given), outcome, AdapterOptions({}), NOW)
    assert decision.status is not None
    return {**given, "status": {key: each for key, each in decision.status.items() if each is not None}}


def _claims(shape: ClaimShape) -> Iterator[World]:
    kind = shape.resource.kind.lower()
    new = machines.stored(shape)
    yield World(f"{kind}-new", PROGRESSING, new)
    for error in (
        errors.InstancePending("being made", retry_after=3),
        errors.Throttled("too many requests", retry_after=17),
        errors.QuotaReached("no quota left"),
        errors.InsufficientCapacity("no machine left"),
        errors.InstanceTypeUnavailable("no such size"),
        errors.NameTaken("belongs to somebody else"),
        errors.CloudError("something else"),
    ):
        health = DEGRADED if CLAIM_REASONS[error.why] is Course.STUCK else PROGRESSING
        refused_claim = {**new, "status": _refused(shape, error)}
        yield World(f"{kind}-{type(error).__name__.lower()}", health, refused_claim)
    launched = machines.launched(shape)
    waits = claim_rules.decide(claim_rules.Observed(shape, launched), NOW, Limits(registration_timeout=900))
    yield World(f"{kind}-waits-for-its-node", PROGRESSING, {**launched, "status": dict(waits.status or {})})
    registered = machines.launched(shape, shape.registered)
    yield World(f"{kind}-registered", PROGRESSING, registered)
    yield World(f"{kind}-gpu-not-found", DEGRADED, {**registered, "status": _without_gpus(shape, registered)})
    ready = machines.launched(shape, shape.registered, shape.initialized)
    yield World(f"{kind}-ready", HEALTHY, ready)
    yield World(f"{kind}-is-deleted", PROGRESSING, {**ready, **_deleted(ready)})


def _refused(shape: ClaimShape, error: errors.CloudError) -> Object:
    """Status of a claim whose cloud said no."""
    observed = claim_rules.Observed(shape, machines.stored(shape), launch=error)
    decision = claim_rules.decide(observed, NOW, Limits(registration_timeout=900))
    assert decision.status is not None
    return dict(decision.status)


def _without_gpus(shape: ClaimShape, registered: Object) -> Object:
    """Status of a claim whose Node shows no GPU, long after it joined."""
    node = machines.registered_node(status={"allocatable": {"cpu": "6"}})
    observed = claim_rules.Observed(shape, registered, (node,), running=True)
    decision = claim_rules.decide(observed, NOW + timedelta(days=1), Limits())
    assert decision.status is not None
    return dict(decision.status)


def conditions_of(obj: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (obj.get("status") or {}).get("conditions") or []
    return found
