"""The backend `karpenter`: what Go KAITO's tests of its own say, where it holds here.

Two of its parts have nothing that answers to them: node classes are not made here, so there is no flag of JSON to be
wrong, and InferenceSets with their drift controller are not served.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.workspace.builders import Object, condition, workspace
from controllers.workspace.pools import (
    KARPENTER,
    POOL,
    before,
    claim,
    go,
    having,
    leaving,
    own_node,
    pool_writes,
    ready,
    start,
)
from kaito.controllers.workspace import Observed, WorkspaceConfig

NODE_CLASS = "kaito.sh/node-class-name"


def classed(name: str | None) -> Observed:
    return Observed(workspace(annotations={} if name is None else {NODE_CLASS: name}))


@pytest.mark.parametrize(
    ("annotation", "names", "chosen"),
    [
        (None, (), "default"),
        ("", (), "default"),
        ("gpu-spot", ("gpu-spot",), "gpu-spot"),
        ("default", (), "default"),
        ("gpu-spot", (), None),
        ("somebody-elses", ("gpu-spot", "gpu-zonal"), None),
    ],
    ids=["none", "empty", "one of the list", "the default by name", "an empty list", "not in the list"],
)
def test_the_node_class_is_one_that_may_be_chosen(
    annotation: str | None, names: tuple[str, ...], chosen: str | None
) -> None:
    config = replace(KARPENTER, node_class_names=names)
    _, decision = go(classed(annotation), config)
    made = [each.body for each in decision.writes if each.resource.kind == "NodePool"]
    if chosen is None:
        assert made == []
        assert condition(decision.status, "ResourceReady")["reason"] == "InvalidSpec"
        told = condition(decision.status, "ResourceReady")["message"]
        assert told.startswith(f"metadata.annotations[{NODE_CLASS}]: node class '{annotation}' is not one")
        assert all(name in told for name in ("default", *names))
    else:
        (pool,) = made
        assert pool["spec"]["template"]["spec"]["nodeClassRef"]["name"] == chosen


def test_a_class_that_may_no_longer_be_chosen_changes_nothing_that_is_there() -> None:
    allowed = replace(KARPENTER, node_class_names=("gpu-spot",))
    observed, _ = go(classed("gpu-spot"), allowed)
    observed, decision = go(having(observed, ready("a")))
    assert condition(decision.status, "ResourceReady")["status"] == "True"


def test_a_workspace_alone_may_lose_one_drifted_node_at_a_time() -> None:
    _, decision = go(start())
    (pool,) = [each.body for each in decision.writes if each.resource.kind == "NodePool"]
    assert pool["spec"]["disruption"]["budgets"] == [{"nodes": "1", "reasons": ["Drifted"]}]


@pytest.mark.parametrize(
    ("target", "there", "written"),
    [
        (3, [], [3]),
        (3, [own_node("a")], [2]),
        (1, [own_node("a")], []),
        (2, [own_node("a"), own_node("b"), own_node("c")], []),
    ],
    ids=["all", "less what is there", "nothing when all is there", "nor when more is"],
)
def test_a_new_pool_has_as_many_replicas_as_are_missing(
    target: int, there: list[Object], written: list[int]
) -> None:
    _, decision = go(having(start(target), nodes=there))
    assert pool_writes(decision) == written


@pytest.mark.parametrize(
    ("has", "there", "written"),
    [(1, [], [3]), (3, [], []), (5, [], []), (3, [own_node("a")], [])],
    ids=["raised", "unchanged", "never lowered", "not for a node that came"],
)
def test_replicas_are_only_ever_raised(has: int, there: list[Object], written: list[int]) -> None:
    observed, _ = go(start(3))
    assert observed.pool is not None
    pool = {**observed.pool, "spec": {**observed.pool["spec"], "replicas": has}}
    _, decision = go(having(replace(observed, pool=pool), nodes=there))
    assert pool_writes(decision) == written


@pytest.mark.parametrize(
    ("claims", "nodes", "labels", "covered"),
    [
        ([], [own_node("a")], {"apps": "phi"}, 1),
        ([], [own_node("a")], None, 0),
        ([before("old", ready=False)], [], {"apps": "phi"}, 1),
        ([leaving(before("old"))], [], {"apps": "phi"}, 0),
        (
            [before("old", **{"kaito.sh/workspace-uid": "uid-of-a-sibling"})],
            [own_node("a", **{"kaito.sh/workspace": "sibling"})],
            {"apps": "phi"},
            0,
        ),
    ],
    ids=[
        "a node of nobody",
        "without labels no node is the Workspace's",
        "a claim from before, though not ready",
        "one on its way out",
        "a sibling's",
    ],
)
def test_what_is_there_covers_the_need(
    claims: list[Object], nodes: list[Object], labels: dict[str, str] | None, covered: int
) -> None:
    observed = start(3, labelSelector={"matchLabels": labels} if labels else {})
    if not labels:
        nodes = []  # as observed: nothing is looked for
    _, decision = go(having(observed, *claims, nodes=nodes))
    assert pool_writes(decision) == [3 - covered]


@pytest.mark.parametrize("pool", ["there", "leaving", "absent"])
def test_deleting_ends_the_pool_whatever_state_it_is_in(pool: str) -> None:
    observed, _ = go(start())
    gone = {**observed.workspace["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}
    observed = replace(observed, workspace={**observed.workspace, "metadata": gone}, deployment=None)
    assert observed.pool is not None
    found = {"there": observed.pool, "leaving": leaving(observed.pool), "absent": None}[pool]
    _, decision = go(replace(observed, pool=found))
    assert [each.name for each in decision.deletions] == ([POOL] if pool == "there" else [])
    assert decision.finalizer == ("remove" if pool == "absent" else None)


def test_drift_is_karpenter_s_and_costs_no_write() -> None:
    observed, _ = go(start())
    drifted = ready("a")
    drifted["status"]["conditions"].append({"type": "Drifted", "status": "True", "reason": "NodePoolDrifted"})
    observed, _ = go(having(observed, drifted))
    observed, decision = go(having(observed, drifted, claim("b")))
    assert pool_writes(decision) == []
    assert decision.deletions == ()


@pytest.mark.parametrize("provisioner", ["machine", "nodeclaim", "byo"])
def test_other_backends_have_no_pools(provisioner: str) -> None:
    config = WorkspaceConfig(node_provisioner=KARPENTER.node_provisioner.parse(provisioner))
    _, decision = go(start(), config)
    assert pool_writes(decision) == []
