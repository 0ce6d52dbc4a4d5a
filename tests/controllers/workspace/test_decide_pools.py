"""Nodes by way of a NodePool: what is written, what is counted, and what the user is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.workspace.builders import (
    UID,
    Object,
    alive,
    condition,
    decided,
    later,
    workspace,
)
from controllers.workspace.pools import (
    KARPENTER,
    POOL,
    SIZE,
    before,
    claim,
    go,
    having,
    leaving,
    own_node,
    pool_writes,
    ready,
    start,
    unknown,
)
from kaito.controllers.workspace import NodeClass, Observed, WorkspaceConfig
from kaito.controllers.workspace.names import pool_name
from kaito.controllers.workspace.node_facts import ExistingNodes, facts_of


def entries(observed: Observed) -> list[Object]:
    return list(observed.workspace["status"].get("nodes") or ())


def test_a_pool_is_made_once_with_everything_written_out() -> None:
    observed, decision = go(start(2))
    (write,) = [each for each in decision.writes if each.resource.kind == "NodePool"]
    assert write.verb == "create"
    assert write.event is not None
    assert write.event.message == f"asked for 2 nodes: NodePool {POOL}, {SIZE}"
    body = write.body
    assert "ownerReferences" not in body["metadata"]
    assert body["metadata"]["labels"]["kaito.sh/workspace-uid"] == UID
    template = body["spec"]["template"]
    assert template["metadata"]["labels"] == {
        "apps": "phi",
        "karpenter.kaito.sh/workspace-name": "phi",
        "karpenter.kaito.sh/workspace-namespace": "default",
    }
    assert template["spec"] == {
        "nodeClassRef": {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"},
        "requirements": [
            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [SIZE]},
            {"key": "karpenter.azure.com/placement-scope", "operator": "In", "values": ["regional"]},
        ],
        "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        "expireAfter": "Never",
    }
    assert body["spec"]["replicas"] == 2
    assert body["spec"]["disruption"] == {
        "consolidateAfter": "0s",
        "budgets": [{"nodes": "1", "reasons": ["Drifted"]}],
    }
    assert [each["state"] for each in entries(observed)] == ["Pending", "Pending"]


def test_on_another_cloud_it_names_that_cloud_s_node_class() -> None:
    config = replace(KARPENTER, cloud="aws")
    given = workspace(instance_type="p4d.24xlarge", annotations={"kaito.sh/bypass-resource-checks": "true"})
    _, decision = go(Observed(given), config)
    (write,) = [each for each in decision.writes if each.resource.kind == "NodePool"]
    spec = write.body["spec"]["template"]["spec"]
    assert spec["nodeClassRef"] == {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    assert [each["key"] for each in spec["requirements"]] == ["node.kubernetes.io/instance-type"]


def test_several_sizes_are_left_to_its_karpenter_to_choose_from() -> None:
    sizes = [SIZE, "Standard_NC40ads_H100_v5"]
    given = workspace(instance_type=None, resource={"instanceTypes": sizes})
    observed, decision = go(Observed(given))
    (write,) = [each for each in decision.writes if each.resource.kind == "NodePool"]
    assert write.body["spec"]["template"]["spec"]["requirements"][0]["values"] == sizes
    got = ready("a")
    got["metadata"]["labels"]["node.kubernetes.io/instance-type"] = sizes[1]
    observed, decision = go(having(observed, got))
    assert decision.status is not None
    assert decision.status["instanceType"] == sizes[1]


def test_nodes_are_counted_from_the_claims_of_its_own_pool() -> None:
    observed, _ = go(start(2))
    strangers = claim("stranger", [{"type": "Ready", "status": "True"}], node="node-stranger")
    strangers["metadata"]["ownerReferences"][0]["uid"] = "uid-of-an-earlier-pool"
    observed, decision = go(having(observed, ready("a"), claim("b"), strangers))
    assert [each.get("claimName") for each in entries(observed)] == ["a", "b"]
    assert condition(decision.status, "NodeClaimReady")["message"] == "1 of 2 NodeClaims ready"
    assert pool_writes(decision) == []
    observed, decision = go(having(observed, ready("b"), ready("a")))
    assert [each["claimName"] for each in entries(observed)] == ["a", "b"], "each keeps its slot"
    assert decision.status is not None
    assert decision.status["workerNodes"] == ["node-a", "node-b"]
    assert condition(decision.status, "ResourceReady")["status"] == "True"
    assert [each.resource.kind for each in decision.writes if each.resource.kind == "Deployment"]


def test_a_settled_world_is_left_alone() -> None:
    observed, _ = go(start())
    observed, _ = go(having(observed, ready("a")))
    observed, _ = go(observed)
    again = decided(observed, KARPENTER, later(3600))
    assert (again.writes, again.deletions, again.requeue_after) == ((), (), None)
    assert again.status == observed.workspace["status"]


def test_what_a_karpenter_took_away_leaves_its_reason_until_another_claim_comes() -> None:
    observed, _ = go(start())
    refused = claim("a", unknown("Launched", "SubscriptionQuotaReached", "no cores of the family left"))
    observed, decision = go(having(observed, refused))
    assert condition(decision.status, "ResourceReady")["reason"] == "SubscriptionQuotaReached"
    observed, decision = go(having(observed), now=later(400))
    told = condition(decision.status, "ResourceReady")
    assert told["reason"] == "SubscriptionQuotaReached", "and not that nobody serves the pool"
    assert told["message"] == f"{SIZE}: SubscriptionQuotaReached: no cores of the family left"
    assert entries(observed)[0]["attempt"] == 1
    observed, _ = go(having(observed, claim("b")), now=later(401))
    (entry,) = entries(observed)
    assert (entry["attempt"], entry["claimName"], len(entry["failures"])) == (1, "b", 1)
    observed, _ = go(having(observed, ready("b")), now=later(500))
    assert "failures" not in entries(observed)[0]


def test_one_replica_more_while_a_drifted_node_is_replaced_changes_nothing() -> None:
    observed, _ = go(start())
    observed, _ = go(having(observed, ready("a")))
    observed, decision = go(having(observed, ready("a"), claim("b")))
    assert (entries(observed)[0]["claimName"], pool_writes(decision)) == ("a", [])
    observed, _ = go(having(observed, leaving(ready("a")), ready("b")))
    (entry,) = entries(observed)
    assert (entry["claimName"], entry["attempt"], entry["state"]) == ("b", 1, "Ready")


def test_a_node_that_goes_raises_replicas_and_one_that_comes_back_never_lowers_them() -> None:
    observed = having(start(2), nodes=[own_node("mine")])
    observed, decision = go(observed)
    assert pool_writes(decision) == [1]
    observed, decision = go(having(observed, ready("a"), nodes=[own_node("mine")]))
    assert decision.status is not None
    assert decision.status["workerNodes"] == ["mine", "node-a"]
    observed, decision = go(having(observed, ready("a"), nodes=[own_node("mine", ready="False")]))
    assert pool_writes(decision) == [2]
    observed, decision = go(having(observed, ready("a"), ready("b"), nodes=[own_node("mine")]))
    assert pool_writes(decision) == []
    assert decision.status is not None
    assert [each["claimName"] for each in decision.status["nodes"]] == ["a", "b"]


def test_replicas_fall_when_the_workspace_asks_for_fewer_and_not_when_somebody_scaled_it_up() -> None:
    observed, _ = go(start(3))
    observed, _ = go(having(observed, ready("a"), ready("b"), ready("c")))
    scaled = replace(observed, pool={**observed.pool, "spec": {**observed.pool["spec"], "replicas": 5}})  # type: ignore[dict-item,index]
    assert pool_writes(go(scaled)[1]) == []
    given = observed.workspace
    fewer = replace(observed, workspace={**given, "resource": {**given["resource"], "count": 1}})
    after, decision = go(fewer)
    assert pool_writes(decision) == [1]
    assert pool_writes(go(after)[1]) == [], "and it is done once"


def test_claims_from_before_count_and_what_failed_of_them_is_given_up() -> None:
    broken = before("old-1", slot=1)
    broken["status"] = {
        "conditions": [{"type": "Launched", "status": "False", "reason": "X", "message": "y"}]
    }
    _, decision = go(having(start(3), before("old-0", ready=False), broken, leaving(before("old-2"))))
    assert pool_writes(decision) == [2], "one of three is there, ready or not"
    assert [each.name for each in decision.deletions] == ["old-1"]
    sibling = before("other", **{"kaito.sh/workspace-uid": "uid-of-a-namesake"})
    assert pool_writes(go(having(start(), sibling))[1]) == [1], "another Workspace's does not count"


def test_pods_may_land_on_its_own_nodes_and_on_nobody_s_and_on_no_other() -> None:
    observed, _ = go(start())
    _, decision = go(having(observed, ready("a")))
    (deployment,) = [each.body for each in decision.writes if each.resource.kind == "Deployment"]
    affinity = deployment["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [
        [(each["key"], each["operator"], each.get("values")) for each in term["matchExpressions"]]
        for term in terms
    ] == [
        [
            ("apps", "In", ["phi"]),
            ("karpenter.kaito.sh/workspace-name", "In", ["phi"]),
            ("karpenter.kaito.sh/workspace-namespace", "In", ["default"]),
        ],
        [
            ("apps", "In", ["phi"]),
            ("kaito.sh/workspace", "In", ["phi"]),
            ("kaito.sh/workspacenamespace", "In", ["default"]),
        ],
        [
            ("apps", "In", ["phi"]),
            ("karpenter.kaito.sh/workspace-name", "DoesNotExist", None),
            ("karpenter.sh/nodepool", "DoesNotExist", None),
            ("kaito.sh/workspace", "DoesNotExist", None),
        ],
    ]


@pytest.mark.parametrize(
    ("pool", "reason", "says"),
    [
        ({"labels": {}}, "NameTaken", "exists already and is not this Workspace's"),
        ({"uid": "uid-of-a-predecessor"}, "NodeClaimNotReady", "of a former Workspace is being deleted"),
        ({"deleting": True}, "NodeClaimNotReady", "the former NodePool default-phi is being deleted"),
        ({"dynamic": True}, "NameTaken", "has no spec.replicas"),
    ],
    ids=["somebody else's", "a predecessor's", "on its way out", "dynamic"],
)
def test_a_pool_that_is_in_the_way_is_told(pool: Object, reason: str, says: str) -> None:
    made, _ = go(start())
    assert made.pool is not None
    metadata = dict(made.pool["metadata"])
    spec = dict(made.pool["spec"])
    if "labels" in pool:
        metadata["labels"] = pool["labels"]
        spec["template"] = {**spec["template"], "metadata": {}}
    if "uid" in pool:
        metadata["labels"] = {**metadata["labels"], "kaito.sh/workspace-uid": pool["uid"]}
    if "dynamic" in pool:
        del spec["replicas"]
    found = {**made.pool, "metadata": metadata, "spec": spec}
    _, decision = go(replace(start(), pool=leaving(found) if "deleting" in pool else found))
    assert pool_writes(decision) == []
    told = condition(decision.status, "ResourceReady")
    assert told["reason"] == reason
    assert says in told["message"]
    assert [each.name for each in decision.deletions] == ([POOL] if "uid" in pool else [])


def test_conditions_of_the_pool_reach_the_workspace() -> None:
    observed, _ = go(start())
    assert observed.pool is not None
    said = {
        "type": "NodeClassReady",
        "status": "False",
        "reason": "NodeClassNotFound",
        "message": "no such class",
    }
    observed, decision = go(replace(observed, pool={**observed.pool, "status": {"conditions": [said]}}))
    told = condition(decision.status, "ResourceReady")
    assert (told["reason"], told["message"]) == (
        "NodePoolNotReady",
        "NodePool default-phi: NodeClassNotFound: no such class",
    )
    assert [each.reason for each in decision.events] == ["NodePoolNotReady"]


def test_a_pool_of_which_nothing_comes_is_told_after_five_minutes_and_not_before() -> None:
    observed, _ = go(start())
    observed, decision = go(observed, now=later(1))
    assert decision.requeue_after == 299
    assert condition(decision.status, "ResourceReady")["reason"] == "NodeClaimNotReady"
    _, decision = go(observed, now=later(300))
    assert condition(decision.status, "ResourceReady")["reason"] == "NodePoolNotReady"
    assert decision.requeue_after is None


def test_no_pool_is_made_before_what_stands_in_the_way_is_mended() -> None:
    taken = alive(
        {"kind": "Service", "metadata": {"name": "phi", "namespace": "default", "uid": "x"}, "spec": {}}
    )
    _, decision = go(replace(start(), service=taken))
    assert pool_writes(decision) == []
    assert condition(decision.status, "ResourceReady")["reason"] == "NameTaken"


def test_the_end_is_the_workload_then_the_pool_and_last_its_claims() -> None:
    observed, _ = go(start())
    observed, _ = go(having(observed, ready("a")))
    gone = {**observed.workspace["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}
    observed = replace(observed, workspace={**observed.workspace, "metadata": gone})
    decision = decided(observed, KARPENTER)
    assert [each.name for each in decision.deletions] == ["phi"], "the Deployment"
    observed = replace(observed, deployment=None)
    decision = decided(observed, KARPENTER)
    assert [(each.resource.kind, each.uid) for each in decision.deletions] == [("NodePool", "uid-of-pool")]
    decision = decided(replace(observed, pool=None, claims=(leaving(ready("a")),)), KARPENTER)
    assert (decision.deletions, decision.finalizer) == ((), None)
    assert "NodeClaim a" in condition(decision.status, "WorkspaceDeleting")["message"]
    decision = decided(replace(observed, pool=None), KARPENTER)
    assert [each.name for each in decision.deletions] == ["a"], "one that nobody collects"
    assert decided(replace(observed, pool=None, claims=()), KARPENTER).finalizer == "remove"


def test_a_node_class_needs_a_group_where_the_cloud_tells_none() -> None:
    with pytest.raises(ValueError, match="--node-class-group"):
        WorkspaceConfig(node_provisioner=KARPENTER.node_provisioner, cloud="arc")
    WorkspaceConfig(
        node_provisioner=KARPENTER.node_provisioner, cloud="arc", node_class=NodeClass("a.example", "Class")
    )


@pytest.mark.parametrize(
    ("node", "counts"),
    [
        (own_node("n"), True),
        (own_node("n", ready="False"), False),
        (own_node("n", size="Standard_NC6s_v3"), False),
        (own_node("n", **{"karpenter.sh/nodepool": "default-sibling"}), False),
        (own_node("n", **{"kaito.sh/workspace": "sibling"}), False),
        (own_node("n", **{"karpenter.kaito.sh/workspace-name": "sibling"}), False),
        ({**own_node("n"), "spec": {"unschedulable": True}}, False),
        ({**own_node("n"), "spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}}, False),
        ({**own_node("n"), "spec": {"taints": [{"key": "mine", "effect": "PreferNoSchedule"}]}}, True),
        (leaving(own_node("n")), False),
    ],
    ids=[
        "ready",
        "not ready",
        "of another size",
        "of another pool",
        "claimed for another Workspace",
        "of another Workspace's pool",
        "cordoned",
        "with a taint that pods do not tolerate",
        "with a taint that only prefers",
        "being deleted",
    ],
)
def test_a_node_of_nobody_counts_only_where_its_pods_may_land(node: Object, counts: bool) -> None:
    existing = ExistingNodes([facts_of(node)])
    _, decision = go(replace(start(), existing=existing))
    assert pool_writes(decision) == ([] if counts else [1])


@pytest.mark.parametrize(
    ("namespace", "name", "length"),
    [("default", "phi", 11), ("n" * 31, "w" * 31, 63), ("n" * 31, "w" * 32, 63), ("n" * 63, "w" * 63, 63)],
)
def test_names_of_pools_are_labels(namespace: str, name: str, length: int) -> None:
    found = pool_name(namespace, name)
    assert len(found) == length
    assert found == pool_name(namespace, name)
    whole = f"{namespace}-{name}"
    if len(whole) <= 63:
        assert found == whole
    else:
        assert (found[:53], found[53]) == (whole[:53], "-")
        assert set(found[54:]) <= set("0123456789abcdef")
        assert found != pool_name(namespace, name[:-1] + "x")
