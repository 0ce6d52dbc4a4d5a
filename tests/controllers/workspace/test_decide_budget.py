"""The PodDisruptionBudget: only where several pods serve, and never beside a user's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import (
    Object,
    decided,
    kinds,
    provisioned,
    settled,
    step,
    workspace,
    written,
)
from kaito.controllers.workspace import Decision, Observed

TWO = {"count": 2}


def of(count: int, **changes: Any) -> Decision:
    """What is decided once the nodes of a Workspace with that many are there."""
    observed, _ = step(Observed(workspace(resource={"count": count})))
    return decided(replace(provisioned(observed), **changes))


def budget(labels: dict[str, str] | None, name: str = "mine", **metadata: Any) -> Object:
    meta = {"name": name, "namespace": "default", "uid": f"uid-of-{name}", **metadata}
    return {"metadata": meta, "spec": {"selector": None if labels is None else {"matchLabels": labels}}}


def test_one_of_several_pods_may_be_moved_at_a_time() -> None:
    body = written(of(2), "PodDisruptionBudget")
    assert body["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {"kaito.sh/workspace": "phi"}},
    }
    assert body["metadata"]["name"] == "phi"
    assert [owner["kind"] for owner in body["metadata"]["ownerReferences"]] == ["Workspace"]


def test_a_single_pod_never_keeps_its_node_from_being_drained() -> None:
    assert "PodDisruptionBudget" not in kinds(of(1))


def test_a_settled_workspace_of_two_writes_nothing() -> None:
    decision = decided(settled(workspace(resource=TWO)))
    assert (decision.writes, decision.deletions) == ((), ())


def test_the_budget_goes_when_one_pod_is_left() -> None:
    observed = settled(workspace(resource=TWO))
    smaller = {**observed.workspace, "resource": {**observed.workspace["resource"], "count": 1}}
    decision = decided(replace(observed, workspace=smaller))
    gone = [each for each in decision.deletions if each.resource.kind == "PodDisruptionBudget"]
    assert [(each.name, each.uid) for each in gone] == [("phi", "uid-of-phi")]
    leaving = {**(observed.budget or {}), "metadata": {**budget({})["metadata"], "deletionTimestamp": "now"}}
    again = decided(replace(observed, workspace=smaller, budget=leaving))
    assert not [each for each in again.deletions if each.resource.kind == "PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("other", "covers"),
    [
        ({"kaito.sh/workspace": "phi"}, True),
        ({}, True),
        ({"kaito.sh/workspace": "other"}, False),
        ({"app": "web"}, False),
        (None, False),
    ],
)
def test_no_second_budget_is_put_over_pods_that_a_users_own_covers(
    other: dict[str, str] | None, covers: bool
) -> None:
    decision = of(2, other_budgets=(budget(other),))
    assert ("PodDisruptionBudget" in kinds(decision)) is not covers


def test_ours_makes_room_for_a_users_own() -> None:
    observed = settled(workspace(resource=TWO))
    decision = decided(replace(observed, other_budgets=(budget({"kaito.sh/workspace": "phi"}),)))
    assert [(each.resource.kind, each.name) for each in decision.deletions] == [
        ("PodDisruptionBudget", "phi")
    ]


def test_a_selector_that_cannot_be_read_covers_nothing() -> None:
    odd = budget({})
    odd["spec"]["selector"] = {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}
    assert "PodDisruptionBudget" in kinds(of(2, other_budgets=(odd,)))


def test_somebody_elses_budget_of_that_name_is_left_alone() -> None:
    for count in (1, 2):
        decision = of(count, budget=budget({"app": "web"}, name="phi"))
        assert "PodDisruptionBudget" not in kinds(decision)
        assert not decision.deletions


def test_an_edited_budget_is_mended() -> None:
    observed = settled(workspace(resource=TWO))
    assert observed.budget is not None
    spec = {**observed.budget["spec"], "maxUnavailable": 0}
    edited = {"metadata": {**observed.budget["metadata"], "generation": 2}, "spec": spec}
    decision = decided(replace(observed, budget={**observed.budget, **edited}))
    assert written(decision, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
