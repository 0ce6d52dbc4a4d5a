"""Deletion: workload, then claims, then the finalizer; the status says what is waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.workspace.builders import Object, condition, decided, later, settled, workspace
from kaito.api.views import InvalidSpec
from kaito.controllers.workspace import NodeProvisioner, Observed, WorkspaceConfig


def going(child: Object) -> Object:
    return {**child, "metadata": {**child["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}}


@pytest.fixture
def observed() -> Observed:
    world = settled(workspace())
    return replace(world, workspace=going(world.workspace))


def test_the_workload_goes_first_and_in_the_foreground(observed: Observed) -> None:
    decision = decided(observed)
    assert [(each.resource.kind, each.propagation) for each in decision.deletions] == [
        ("Deployment", "Foreground")
    ]
    assert decision.finalizer is None
    assert decision.writes == ()
    message = condition(decision.status, "WorkspaceDeleting")["message"]
    assert message == "being deleted; waits for Deployment phi"
    assert (decision.status or {})["reason"] == "Deleting"
    assert condition(decision.status, "WorkspaceReady")["status"] == "False"


def test_nothing_is_deleted_twice(observed: Observed) -> None:
    assert observed.deployment is not None
    decision = decided(replace(observed, deployment=going(observed.deployment)))
    assert decision.deletions == ()
    assert decision.requeue_after == 300


def test_pods_count_as_workload(observed: Observed) -> None:
    owner = [{"kind": "ReplicaSet", "name": "phi-5d4", "controller": True}]
    pods = tuple({"metadata": {"name": f"phi-{n}", "ownerReferences": owner}} for n in range(3))
    decision = decided(replace(observed, deployment=None, pods=pods))
    assert decision.deletions == ()
    assert condition(decision.status, "WorkspaceDeleting")["message"].endswith("Pod phi-0 and 2 more")
    stranger = ({"metadata": {"name": "mine", "labels": {"kaito.sh/workspace": "phi"}}},)
    decision = decided(replace(observed, deployment=None, pods=stranger))
    assert [each.resource.kind for each in decision.deletions] == ["Machine"]


def test_claims_go_next(observed: Observed) -> None:
    observed = replace(observed, deployment=None)
    decision = decided(observed)
    assert [each.resource.kind for each in decision.deletions] == ["Machine"]
    assert "Machine ws" in condition(decision.status, "WorkspaceDeleting")["message"]
    assert decision.finalizer is None
    decision = decided(replace(observed, claims=tuple(going(claim) for claim in observed.claims)))
    assert decision.deletions == ()
    assert decision.finalizer is None


def test_the_finalizer_goes_last(observed: Observed) -> None:
    decision = decided(replace(observed, deployment=None, claims=()))
    assert decision.finalizer == "remove"
    assert decision.status is None
    assert decision.deletions == ()


def test_a_dead_node_does_not_keep_the_workspace_for_ever(observed: Observed) -> None:
    assert observed.deployment is not None
    stuck = replace(observed, deployment=going(observed.deployment))
    decision = decided(stuck, now=later(301))
    assert [each.resource.kind for each in decision.deletions] == ["Machine"]
    assert decision.finalizer is None


def test_without_our_finalizer_there_is_nothing_to_do(observed: Observed) -> None:
    metadata = {**observed.workspace["metadata"], "finalizers": ["somebody/else"]}
    decision = decided(replace(observed, workspace={**observed.workspace, "metadata": metadata}))
    assert decision.deletions == ()
    assert decision.status is None


def test_an_invalid_object_can_be_deleted(observed: Observed) -> None:
    broken = replace(observed, invalid=InvalidSpec("inference", "gone"), deployment=None, claims=())
    assert decided(broken).finalizer == "remove"


def test_what_is_somebody_elses_stays(observed: Observed) -> None:
    foreign = {"metadata": {"name": "phi", "namespace": "default", "uid": "theirs"}}
    decision = decided(replace(observed, deployment=foreign, claims=()))
    assert decision.deletions == ()
    assert decision.finalizer == "remove"


def test_byo_has_no_claims(observed: Observed) -> None:
    byo = WorkspaceConfig(node_provisioner=NodeProvisioner.BYO)
    assert decided(replace(observed, deployment=None, claims=()), byo).finalizer == "remove"
