"""Claims: names, attempts, pauses, other machine sizes, claims of others, and nodes that exist already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.workspace.builders import (
    NOW,
    UID,
    Object,
    alive,
    condition,
    decided,
    gpu_node,
    kinds,
    later,
    machine_ready,
    provisioned,
    served,
    settled,
    step,
    with_status,
    workspace,
    written,
)
from kaito.controllers.workspace import NodeProvisioner, Observed, WorkspaceConfig
from kaito.controllers.workspace.names import claim_name
from kaito.controllers.workspace.node_facts import ExistingNodes, NodeFacts, facts_of

BYO = WorkspaceConfig(node_provisioner=NodeProvisioner.BYO)


def failed(
    claim: Object, reason: str = "InsufficientCapacity", message: str = "no V100 left in westus"
) -> Object:
    status = {
        "conditions": [{"type": "MachineLaunched", "status": "False", "reason": reason, "message": message}]
    }
    return {**claim, "status": status}


def entry(observed: Observed, slot: int = 0) -> Object:
    return next(each for each in observed.workspace["status"]["nodes"] if each["slot"] == slot)


def test_a_claim_carries_labels_and_no_owner() -> None:
    observed, _ = step(Observed(workspace()))
    metadata = observed.claims[0]["metadata"]
    assert metadata["name"] == claim_name(UID, 0, 0)
    assert len(metadata["name"]) == 11
    assert "ownerReferences" not in metadata
    assert metadata["labels"]["kaito.sh/workspace"] == "phi"
    assert metadata["labels"]["kaito.sh/workspacenamespace"] == "default"
    assert metadata["labels"]["kaito.sh/workspace-uid"] == UID
    assert metadata["labels"]["apps"] == "phi"


def test_reserved_labels_of_a_user_never_reach_a_claim() -> None:
    selector = {"labelSelector": {"matchLabels": {"apps": "phi", "kaito.sh/workspace": "other"}}}
    observed, _ = step(Observed(workspace(resource=selector)))
    assert observed.claims[0]["metadata"]["labels"]["kaito.sh/workspace"] == "phi"


def test_the_same_name_is_asked_for_until_the_claim_was_seen() -> None:
    observed, first = step(Observed(workspace()))
    unseen = replace(observed, claims=())
    again = decided(unseen)
    assert written(again, "Machine")["metadata"]["name"] == written(first, "Machine")["metadata"]["name"]


def test_a_ready_claim_that_vanishes_is_replaced_at_once_under_another_name() -> None:
    observed = settled(workspace())
    observed, decision = step(replace(observed, claims=()), now=later(1))
    assert written(decision, "Machine")["metadata"]["name"] == claim_name(UID, 0, 1)
    assert entry(observed)["attempt"] == 1
    assert condition(decision.status, "ResourceReady")["status"] == "False"
    observed, decision = step(provisioned(observed))
    assert decision.writes == ()
    assert entry(observed)["state"] == "Ready"


def test_a_node_deleted_by_hand_is_replaced_at_once() -> None:
    observed = settled(workspace())
    ((name, node),) = observed.nodes.items()
    leaving = {**node, "metadata": {**node["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}}
    observed, decision = step(replace(observed, nodes={name: leaving}), now=later(1))
    assert entry(observed)["state"] == "NotReady"
    assert entry(observed)["reason"] == "NodeNotReady"
    assert decision.requeue_after is None
    observed, decision = step(replace(observed, nodes={}, claims=()), now=later(2))
    assert written(decision, "Machine")["metadata"]["name"] == claim_name(UID, 0, 1)
    assert entry(observed)["state"] == "Pending"
    assert "failedAt" not in entry(observed)
    assert "reason" not in entry(observed) or "deleted" not in entry(observed)["message"]


def test_a_claim_on_its_way_out_is_replaced_but_never_without_end() -> None:
    observed = settled(workspace())
    (claim,) = observed.claims
    leaving = {**claim, "metadata": {**claim["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}}
    observed, decision = step(replace(observed, claims=(leaving,)))
    assert written(decision, "Machine")["metadata"]["name"] == claim_name(UID, 0, 1)
    (fresh,) = [each for each in observed.claims if "deletionTimestamp" not in each["metadata"]]
    both = provisioned(replace(observed, claims=(fresh,)))
    observed, _ = step(replace(both, claims=(leaving, *both.claims)))
    assert entry(observed)["state"] == "Ready"
    claims = tuple(
        {**each, "metadata": {**each["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}}
        for each in observed.claims
    )
    decision = decided(replace(observed, claims=claims), now=later(1000))
    assert decision.writes == ()


def test_a_claim_that_failed_for_good_is_deleted_and_tried_again_after_a_pause() -> None:
    observed, _ = step(Observed(workspace()))
    observed, _ = step(observed)
    (claim,) = observed.claims
    observed, decision = step(replace(observed, claims=(failed(claim),)))
    assert [each.name for each in decision.deletions] == [claim["metadata"]["name"]]
    assert decision.deletions[0].uid == claim["metadata"]["uid"]
    assert decision.writes == ()
    assert decision.requeue_after == 30
    ready = condition(decision.status, "ResourceReady")
    assert (ready["status"], ready["reason"]) == ("False", "InsufficientCapacity")
    assert ready["message"] == "no V100 left in westus"
    assert decision.status is not None
    assert decision.status["reason"] == "InsufficientCapacity"
    assert [event.reason for event in decision.events] == ["InsufficientCapacity"]
    assert entry(observed)["attempt"] == 1
    assert entry(observed)["failedAt"] == "2026-11-21T13:00:00Z"

    observed = replace(observed, claims=())
    waiting = decided(observed, now=later(10))
    assert waiting.writes == ()
    assert waiting.requeue_after == 20
    assert waiting.events == ()
    observed, decision = step(observed, now=later(30))
    assert written(decision, "Machine")["metadata"]["name"] == claim_name(UID, 0, 1)


@pytest.mark.parametrize(("attempt", "pause"), [(1, 30), (2, 60), (3, 120), (6, 600), (60, 600)])
def test_pauses_grow_up_to_ten_minutes(attempt: int, pause: float) -> None:
    observed, _ = step(Observed(workspace()))
    nodes = [{"slot": 0, "attempt": attempt, "state": "Failed", "failedAt": "2026-11-21T13:00:00Z"}]
    status = {**observed.workspace["status"], "nodes": nodes}
    observed = replace(observed, workspace={**observed.workspace, "status": status}, claims=())
    assert decided(observed, now=NOW).requeue_after == pause
    assert kinds(decided(observed, now=later(pause)))[0] == "Machine"


def test_the_next_machine_size_is_tried_at_once() -> None:
    sizes = {"instanceTypes": ["Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"]}
    observed, _ = step(Observed(workspace(instance_type=None, resource=sizes)))
    assert observed.workspace["status"]["instanceType"] == "Standard_NC24ads_A100_v4"
    (claim,) = observed.claims
    observed, decision = step(replace(observed, claims=(failed(claim),)))
    machine = written(decision, "Machine")
    assert machine["spec"]["requirements"][0]["values"] == ["Standard_NC40ads_H100_v5"]
    assert observed.workspace["status"]["instanceType"] == "Standard_NC40ads_H100_v5"
    second = next(each for each in observed.claims if each["metadata"]["name"] == machine["metadata"]["name"])
    observed, decision = step(replace(observed, claims=(failed(second),)))
    assert decision.writes == ()
    assert decision.requeue_after == 30


def test_a_lost_status_does_not_buy_a_second_node() -> None:
    observed = settled(workspace())
    observed, decision = step(replace(observed, claims=()))
    (claim,) = observed.claims
    forgotten = {key: value for key, value in observed.workspace.items() if key != "status"}
    decision = decided(replace(observed, workspace=forgotten, claims=(machine_ready(claim, "n"),)))
    assert "Machine" not in kinds(decision)
    assert decision.deletions == ()
    assert decision.status is not None
    assert decision.status["nodes"][0]["attempt"] == 1


def test_claims_of_another_operator_without_our_uid_are_used() -> None:
    theirs = alive(
        {
            "apiVersion": "karpenter.sh/v1alpha5",
            "kind": "Machine",
            "metadata": {
                "name": "ws123456789",
                "labels": {"kaito.sh/workspace": "phi", "kaito.sh/workspacenamespace": "default"},
            },
            "spec": {},
        }
    )
    observed, decision = step(
        Observed(workspace(), claims=(machine_ready(theirs, "n"),), nodes={"n": gpu_node("n")})
    )
    assert "Machine" not in kinds(decision)
    assert entry(observed)["claimName"] == "ws123456789"
    assert condition(decision.status, "ResourceReady")["status"] == "True"
    assert decided(observed).deletions == ()


def test_claims_of_a_namesake_with_another_uid_are_left_alone() -> None:
    observed, _ = step(Observed(workspace()))
    (claim,) = observed.claims
    labels = {**claim["metadata"]["labels"], "kaito.sh/workspace-uid": "somebody-else"}
    other = {**claim, "metadata": {**claim["metadata"], "name": "ws000000000", "labels": labels}}
    decision = decided(replace(observed, claims=(claim, other)))
    assert decision.deletions == ()


def test_a_claim_too_many_is_deleted() -> None:
    observed, _ = step(Observed(workspace()))
    (claim,) = observed.claims
    extra = {**claim, "metadata": {**claim["metadata"], "name": claim_name(UID, 1, 0), "uid": "extra"}}
    decision = decided(replace(observed, claims=(claim, extra)))
    assert [each.uid for each in decision.deletions] == ["extra"]


def test_the_first_stage_that_says_something_is_shown() -> None:
    observed, _ = step(Observed(workspace(resource={"count": 2})))
    stages = (
        [("MachineLaunched", "Unknown", "AwaitingReconciliation", "object is awaiting reconciliation")],
        [("MachineLaunched", "True", "", ""), ("MachineRegistered", "Unknown", "NodeNotFound", "x" * 300)],
    )
    claims = tuple(
        {
            **claim,
            "status": {
                "conditions": [
                    {"type": type, "status": status, "reason": reason, "message": message}
                    for type, status, reason, message in stage
                ]
            },
        }
        for claim, stage in zip(observed.claims, stages, strict=True)
    )
    decision = decided(replace(observed, claims=claims))
    ready = condition(decision.status, "NodeClaimReady")
    assert ready["reason"] == "NodeNotFound"
    assert ready["message"] == "x" * 256 + "..."


def test_byo_counts_only_nodes_where_pods_may_land() -> None:
    labels = {"apps": "phi"}
    good = gpu_node("good", labels=labels)
    cordoned = {**gpu_node("cordoned", labels=labels), "spec": {"unschedulable": True}}
    tainted = gpu_node("tainted", labels=labels)
    tainted["spec"] = {"taints": [{"key": "team", "value": "b", "effect": "NoSchedule"}]}
    ill = gpu_node("ill", labels=labels, ready="False")
    blind = gpu_node("blind", 0, labels=labels)
    nodes = [facts_of(node) for node in (cordoned, tainted, ill, blind)]
    observed = Observed(workspace(instance_type=None), existing=ExistingNodes(nodes))
    decision = decided(observed, BYO)
    assert kinds(decision) == ["Service"]
    assert all(each["type"] != "NodeClaimReady" for each in (decision.status or {})["conditions"])
    message = condition(decision.status, "NodesReady")["message"]
    for part in (
        "0 of 1 nodes with apps=phi can take a pod",
        "cordoned is cordoned",
        "tainted has the taint team=b:NoSchedule",
        "ill is not ready",
        "blind offers 0 of 1 GPUs",
    ):
        assert part in message
    observed, decision = step(replace(observed, existing=ExistingNodes([*nodes, facts_of(good)])), BYO)
    assert kinds(decision) == ["Service", "Deployment"]
    assert condition(decision.status, "ResourceReady")["status"] == "True"
    assert "workerNodes" not in (decision.status or {})  # the scheduler has not chosen yet
    terms = written(decision, "Deployment")["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = terms["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [each["key"] for each in term["matchExpressions"]] == ["apps"]
    running: Object = {"metadata": {"name": "p"}, "spec": {"nodeName": "good"}}
    observed, decision = step(replace(served(observed), pods=(running,)), BYO)
    assert (decision.status or {})["workerNodes"] == ["good"]
    assert decided(observed, BYO).status == observed.workspace["status"]


def test_a_child_that_vanishes_is_made_again_only_if_its_workspace_is_still_there() -> None:
    labels = {"apps": "phi"}
    nodes = ExistingNodes([facts_of(gpu_node("good", labels=labels))])
    fresh = workspace(instance_type=None)
    fresh["metadata"].pop("finalizers", None)
    observed, first = step(Observed(fresh, existing=nodes), BYO)
    assert first.finalizer is None, "what claims nothing has nothing to wait for"
    assert not first.confirm, "the first pass asks nothing"
    observed, _ = step(served(observed), BYO)
    assert not decided(observed, BYO).confirm
    for missing in ("deployment", "service"):
        decision = decided(replace(observed, **{missing: None}), BYO)
        assert decision.confirm
        assert kinds(decision) == [missing.capitalize()]
        held = {**observed.workspace["metadata"], "finalizers": ["workspace.finalizer.kaito.sh"]}
        kept = replace(observed, **{missing: None, "workspace": {**observed.workspace, "metadata": held}})
        assert not decided(kept, BYO).confirm, "a finalizer would have held it"


def test_nodes_that_are_shared_are_judged_once_for_equal_questions() -> None:
    asked: list[int] = []

    def find(nodes: tuple[NodeFacts, ...]) -> int:
        asked.append(len(nodes))
        return len(nodes)

    group = ExistingNodes([facts_of(gpu_node("b")), facts_of(gpu_node("a"))])
    assert [node.name for node in group.nodes] == ["a", "b"]
    assert [group.answer(question, find) for question in ("x", "x", "y")] == [2, 2, 2]
    assert asked == [2, 2]


def test_byo_without_matching_nodes_says_what_to_do() -> None:
    decision = decided(Observed(workspace(instance_type=None)), BYO)
    assert condition(decision.status, "NodesReady")["message"].endswith(
        "label your GPU nodes: kubectl label node NODE apps=phi"
    )


def test_byo_needs_a_label() -> None:
    nobody = workspace(
        instance_type=None, resource={"labelSelector": {"matchLabels": {"kaito.sh/workspace": "x"}}}
    )
    decision = decided(Observed(nobody), BYO)
    assert decision.writes == ()
    assert condition(decision.status, "InvalidSpec")["message"].startswith(
        "resource.labelSelector: names no label"
    )


def test_expressions_with_one_value_count_as_labels() -> None:
    selector = {"matchExpressions": [{"key": "apps", "operator": "In", "values": ["phi"]}]}
    observed, _ = step(Observed(workspace(resource={"labelSelector": selector})))
    assert observed.claims[0]["metadata"]["labels"]["apps"] == "phi"


@pytest.mark.parametrize(
    ("flag", "means"),
    [
        ("machine", NodeProvisioner.MACHINE),
        ("NodeClaim", NodeProvisioner.NODECLAIM),
        ("azure-gpu-provisioner", NodeProvisioner.NODECLAIM),
        ("Karpenter", NodeProvisioner.KARPENTER),
        ("byo", NodeProvisioner.BYO),
    ],
)
def test_provisioner_flag(flag: str, means: NodeProvisioner) -> None:
    assert NodeProvisioner.parse(flag) is means


def test_a_provisioner_flag_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="is not known; use machine"):
        NodeProvisioner.parse("magic")


def test_a_status_written_twice_is_the_same() -> None:
    observed, first = step(Observed(workspace(resource={"count": 3})))
    again = with_status(observed, first)
    assert decided(again).status == decided(with_status(again, decided(again))).status
