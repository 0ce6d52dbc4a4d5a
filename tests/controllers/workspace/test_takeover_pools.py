"""A Go KAITO's workload on nodes of its NodePool: both are left as they are until the Workspace's spec changes."""

from __future__ import annotations

import pytest

from controllers.workspace.builders import Object, Observed, condition, later, rolled_out, workspace
from controllers.workspace.pools import (
    KARPENTER,
    OF_POOL,
    POOL,
    SIZE,
    before,
    go,
    having,
    own_node,
    pool_writes,
    ready,
    start,
)

NAMES = {key: value for key, value in OF_POOL.items() if key != "karpenter.sh/nodepool"}


def pool(replicas: int) -> Object:
    """As Go KAITO writes it: only its nodes say whose it is."""
    template = {"metadata": {"labels": {**NAMES, "apps": "phi"}}, "spec": {"expireAfter": "Never"}}
    metadata = {"name": POOL, "uid": "uid-of-pool", "creationTimestamp": "2026-11-01T13:00:00Z"}
    return {"kind": "NodePool", "metadata": metadata, "spec": {"replicas": replicas, "template": template}}


def stateful_set(replicas: int, uid: str) -> Object:
    owner = {"kind": "Workspace", "name": "phi", "uid": uid, "controller": True}
    metadata = {"name": "phi", "namespace": "default", "uid": "s", "ownerReferences": [owner]}
    body = {
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {"replicas": replicas, "serviceName": "phi-headless"},
    }
    return rolled_out(body, replicas)


def found(target: int, replicas: int) -> Observed:
    """What another operator left: a model on `target` nodes, of which the pool made `replicas`."""
    given = workspace(instance_type=SIZE)
    given["status"] = {"targetNodeCount": target, "conditions": []}
    return Observed(given, pool=pool(replicas), stateful_set=stateful_set(target, given["metadata"]["uid"]))


@pytest.mark.parametrize(("target", "replicas"), [(2, 2), (3, 2), (1, 1)])
def test_nothing_is_taken_from_the_pool_of_a_model_that_runs(target: int, replicas: int) -> None:
    observed = found(target, replicas)
    own = [own_node(f"mine-{number}") for number in range(target - replicas)]
    claims = [ready(f"c{number}") for number in range(replicas)]
    for now in (0, 3600):
        observed, decision = go(having(observed, *claims, nodes=own), now=later(now))
        assert (pool_writes(decision), decision.deletions) == ([], ())
        assert condition(decision.status, "WorkloadAdopted")["status"] == "True"
        assert condition(decision.status, "WorkspaceReady")["status"] == "True"
        assert decision.status is not None
        assert decision.status["targetNodeCount"] == target


def test_a_node_that_is_being_replaced_costs_the_pool_no_replica() -> None:
    observed, decision = go(having(found(2, 2), ready("c0")))
    assert pool_writes(decision) == []
    told = condition(decision.status, "NodeClaimReady")
    assert (told["status"], told["message"][:29]) == ("False", "1 of 2 NodeClaims ready; 1 of")
    assert observed.pool is not None
    assert observed.pool["spec"]["replicas"] == 2


def test_a_pool_is_made_for_what_is_missing_of_claims_that_nodeclaim_made() -> None:
    """Changing the operator from `nodeclaim`: its own claims stay, what is missing comes of a pool."""
    observed = having(start(2), before("old-0"))
    observed, decision = go(observed, KARPENTER)
    assert pool_writes(decision) == [1]
    observed, decision = go(having(observed, before("old-0"), ready("a")))
    assert decision.status is not None
    assert decision.status["workerNodes"] == ["n-old-0", "node-a"]
