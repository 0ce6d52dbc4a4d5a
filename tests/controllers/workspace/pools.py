"""A Workspace with a NodePool, and a Karpenter that does as the test says: for tests of decisions."""

from __future__ import annotations

from dataclasses import replace

from controllers.workspace.builders import (
    CATALOG,
    NOW,
    Object,
    alive,
    gpu_node,
    with_status,
    workspace,
)
from kaito.controllers.workspace import Decision, NodeProvisioner, Observed, WorkspaceConfig, decide
from kaito.controllers.workspace.node_facts import ExistingNodes, facts_of
from kaito.runtime.resources import DEPLOYMENTS, SERVICES

KARPENTER = WorkspaceConfig(node_provisioner=NodeProvisioner.KARPENTER)
POOL = "default-phi"
SIZE = "Standard_NC24ads_A100_v4"
OF_POOL = {
    "karpenter.kaito.sh/workspace-name": "phi",
    "karpenter.kaito.sh/workspace-namespace": "default",
    "karpenter.sh/nodepool": POOL,
}


def start(count: int = 1, **more: Object) -> Observed:
    """A Workspace that wants so many nodes."""
    return Observed(workspace(resource={"count": count, **more}))


def go(
    observed: Observed, config: WorkspaceConfig = KARPENTER, now: object = NOW
) -> tuple[Observed, Decision]:
    """Decide, and carry out what concerns pool and status the way the API server would."""
    decision = decide(observed, CATALOG, config, now)  # type: ignore[arg-type]
    observed = with_status(observed, decision)
    for write in decision.writes:
        if write.resource.kind == "NodePool":
            observed = replace(observed, pool=_stored(observed.pool, write.body, write.verb))
        elif write.resource == DEPLOYMENTS:
            observed = replace(observed, deployment=alive(write.body))
        elif write.resource == SERVICES:
            observed = replace(observed, service=alive(write.body))
    return observed, decision


def _stored(live: Object | None, body: Object, verb: str) -> Object:
    if verb == "create":
        assert live is None, "a pool that is there is never made again"
        metadata = {
            **body["metadata"],
            "uid": "uid-of-pool",
            "resourceVersion": "3",
            "creationTimestamp": "2026-11-21T13:00:00Z",
        }
        return {**body, "metadata": metadata}
    assert live is not None
    assert set(body["spec"]) == {"replicas"}, "of a pool that is there only the number is ours"
    meant = {key: live["metadata"][key] for key in ("name", "uid", "resourceVersion")}
    assert body["metadata"] == meant, "this very pool in this version"
    return {**live, "spec": {**live["spec"], **body["spec"]}}


def pool_writes(decision: Decision) -> list[int]:
    """The replicas that are written."""
    return [each.body["spec"]["replicas"] for each in decision.writes if each.resource.kind == "NodePool"]


def claim(name: str, conditions: list[Object] | None = None, *, node: str = "", **labels: str) -> Object:
    """A NodeClaim of the pool, as its Karpenter makes it."""
    owner = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "name": POOL, "uid": "uid-of-pool"}
    metadata = {
        "name": name,
        "uid": f"uid-of-{name}",
        "creationTimestamp": "2026-11-21T13:00:05Z",
        "labels": {**OF_POOL, "node.kubernetes.io/instance-type": SIZE, **labels},
        "ownerReferences": [owner],
    }
    status: Object = {"conditions": conditions or []}
    if node:
        status["nodeName"] = node
    return {"kind": "NodeClaim", "metadata": metadata, "spec": {"requirements": []}, "status": status}


def before(name: str, *, ready: bool = True, slot: int = 0, **labels: str) -> Object:
    """A NodeClaim that an operator with `nodeclaim` made for the Workspace."""
    own = {
        "kaito.sh/workspace": "phi",
        "kaito.sh/workspacenamespace": "default",
        "karpenter.sh/nodepool": "kaito",
        "kaito.sh/node-slot": str(slot),
        **labels,
    }
    status = {
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "nodeName": f"n-{name}",
    }
    metadata = {"name": name, "uid": f"uid-of-{name}", "labels": own}
    return {"kind": "NodeClaim", "metadata": metadata, "spec": {}, "status": status}


def ready(name: str) -> Object:
    """A NodeClaim whose node has joined."""
    return claim(name, [{"type": "Ready", "status": "True"}], node=f"node-{name}")


def unknown(stage: str, reason: str, message: str) -> list[Object]:
    """Conditions of a claim that hangs."""
    root = {"type": "Ready", "status": "Unknown", "reason": "ReconcilingDependents", "message": ""}
    return [{"type": stage, "status": "Unknown", "reason": reason, "message": message}, root]


def leaving(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}}


def having(observed: Observed, *claims: Object, nodes: list[Object] | None = None) -> Observed:
    """The world with these claims, their nodes, and `nodes` with the Workspace's labels beside them."""
    found = {
        each["status"]["nodeName"]: gpu_node(each["status"]["nodeName"])
        for each in claims
        if each["status"].get("nodeName")
    }
    return replace(
        observed, claims=claims, nodes=found, existing=ExistingNodes(facts_of(each) for each in nodes or ())
    )


def own_node(name: str, *, ready: str = "True", size: str = SIZE, **labels: str) -> Object:
    """A node with the Workspace's labels that nobody made for it."""
    return gpu_node(
        name, labels={"apps": "phi", "node.kubernetes.io/instance-type": size, **labels}, ready=ready
    )
