"""Machine sizes that cannot be had now, and nodes whose GPUs are dead: what is tried next, and what is told."""

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
    provisioned,
    step,
    workspace,
    written,
)
from kaito.api.reasons import SIZE_REFUSED
from kaito.controllers.workspace import Observed
from kaito.controllers.workspace.decide.failures import sentences
from kaito.controllers.workspace.names import claim_name

SIZES = ["Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"]
QUOTA = "20 of 24 cores of the family NCADS_A100_v4 are in use in westus; 24 are needed"
DEAD = "node node-0 offers 0 of 1 nvidia.com/gpu: look at its device plugin and driver"


def says(observed: Observed, stage: str, status: str, reason: str, message: str) -> Observed:
    """The world in which the newest claim says this of one of its stages."""
    *others, newest = observed.claims
    found = [{"type": f"Machine{stage}", "status": status, "reason": reason, "message": message}]
    earlier = ["Launched", "Registered", "Initialized"]
    done = [{"type": f"Machine{each}", "status": "True"} for each in earlier[: earlier.index(stage)]]
    root = {"type": "Ready", "status": "Unknown", "reason": "ReconcilingDependents", "message": ""}
    changed = alive({**newest, "status": {"conditions": [*done, *found, root]}})
    return replace(observed, claims=(*others, changed))


def entry(observed: Observed) -> Object:
    (found,) = observed.workspace["status"]["nodes"]
    return dict(found)


def several() -> Observed:
    observed, _ = step(Observed(workspace(instance_type=None, resource={"instanceTypes": SIZES})))
    return step(observed)[0]


@pytest.mark.parametrize("reason", sorted(SIZE_REFUSED))
def test_a_size_that_is_refused_for_now_gives_way_to_the_next(reason: str) -> None:
    observed = several()
    (first,) = observed.claims
    observed, decision = step(says(observed, "Launched", "Unknown", reason, QUOTA))
    assert [each.name for each in decision.deletions] == [first["metadata"]["name"]]
    asked = written(decision, "Machine")
    assert asked["metadata"]["name"] == claim_name(UID, 0, 1)
    assert asked["spec"]["requirements"][0]["values"] == [SIZES[1]]
    assert entry(observed)["failures"] == [{"instanceType": SIZES[0], "reason": reason, "message": QUOTA}]
    (event,) = [each.event for each in decision.writes if each.resource.kind == "Machine"]
    assert event is not None
    assert event.message.endswith(f"{SIZES[1]}; {SIZES[0]}: {reason}: {QUOTA}")


def test_when_all_sizes_are_refused_it_pauses_and_says_what_each_said() -> None:
    observed, _ = step(says(several(), "Launched", "Unknown", "SubscriptionQuotaReached", QUOTA))
    (second,) = [each for each in observed.claims if each["metadata"]["name"] == claim_name(UID, 0, 1)]
    observed, _ = step(replace(observed, claims=(second,)))
    observed, decision = step(says(observed, "Launched", "Unknown", "AllocationFailure", "none left"))
    assert [each.name for each in decision.deletions] == [second["metadata"]["name"]]
    assert [each.resource.kind for each in decision.writes] == []
    assert decision.requeue_after == 30
    ready = condition(decision.status, "ResourceReady")
    assert (ready["status"], ready["reason"]) == ("False", "AllocationFailure")
    assert ready["message"] == (
        f"{SIZES[0]}: SubscriptionQuotaReached: {QUOTA}; {SIZES[1]}: AllocationFailure: none left"
    )
    assert entry(observed)["state"] == "Failed"

    again, decision = step(replace(observed, claims=()), now=later(30))
    assert written(decision, "Machine")["spec"]["requirements"][0]["values"] == [SIZES[0]], "from the front"
    assert len(entry(again)["failures"]) == 2
    ready_at_last, _ = step(provisioned(again), now=later(31))
    assert "failures" not in entry(ready_at_last)


def test_a_size_that_the_sentence_names_already_is_named_once() -> None:
    said = {
        "instanceType": "A",
        "reason": "AllocationFailure",
        "message": "A: none left; the pool is removed",
    }
    assert sentences([said]) == "A: AllocationFailure: none left; the pool is removed"


def test_the_pauses_between_rounds_grow_and_end_at_ten_minutes() -> None:
    observed, clock, pauses = several(), 0.0, []
    for _ in range(9):
        observed, decision = step(
            says(observed, "Launched", "Unknown", "AllocationFailure", "none left"), now=later(clock)
        )
        observed = replace(observed, claims=())
        while not [each for each in decision.writes if each.resource.kind == "Machine"]:
            assert decision.requeue_after is not None
            pauses.append(decision.requeue_after)
            clock += decision.requeue_after
            observed, decision = step(observed, now=later(clock))
        observed, _ = step(observed, now=later(clock))
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]


@pytest.mark.parametrize(
    ("reason", "sizes"),
    [
        ("SubscriptionQuotaReached", SIZES[:1]),  # nothing else could be tried
        ("AllocationFailure", SIZES[:1]),
        ("WaitingForQuota", SIZES),  # it has its place in the line
        ("OperationQueued", SIZES),
        ("OperationInProgress", SIZES),
        ("Throttled", SIZES),
        ("Unauthorized", SIZES),  # another size would be refused as well
        ("ClusterNotRunning", SIZES),
        ("LaunchInProgress", SIZES),
    ],
)
def test_a_claim_that_only_waits_is_left_alone_and_its_sentence_is_passed_on(
    reason: str, sizes: list[str]
) -> None:
    observed, _ = step(Observed(workspace(instance_type=None, resource={"instanceTypes": sizes})))
    observed, _ = step(observed)
    observed, decision = step(says(observed, "Launched", "Unknown", reason, "behind claim ws012345678"))
    assert (decision.deletions, decision.requeue_after) == ((), None)
    assert [each for each in decision.writes if each.resource.kind == "Machine"] == []
    for type in ("NodeClaimReady", "ResourceReady", "WorkspaceReady"):
        told = condition(decision.status, type)
        assert (told["reason"], told["message"]) == (reason, "behind claim ws012345678")
    assert decision.status is not None
    assert decision.status["reason"] == reason


def test_a_node_with_a_dead_gpu_is_replaced_once_and_then_kept_and_reported() -> None:
    observed, _ = step(Observed(workspace()))
    observed, _ = step(observed)
    (first,) = observed.claims
    observed, decision = step(says(observed, "Initialized", "False", "GpuNotFound", DEAD))
    assert [each.name for each in decision.deletions] == [first["metadata"]["name"]]
    assert condition(decision.status, "ResourceReady")["reason"] == "GpuNotFound"
    observed, decision = step(replace(observed, claims=()), now=later(decision.requeue_after or 0))
    assert written(decision, "Machine")["metadata"]["name"] == claim_name(UID, 0, 1)
    observed, _ = step(observed, now=later(31))

    dead_again = says(observed, "Initialized", "False", "GpuNotFound", DEAD)
    for _ in range(3):  # and so it stays, also for an operator that has only now started
        dead_again, decision = step(dead_again, now=later(5000))
        assert (decision.deletions, decision.writes) == ((), ())
        told = condition(decision.status, "ResourceReady")
        assert told["reason"] == "GpuNotFound"
        assert told["message"].startswith(DEAD)
        assert "was replaced before, so this one is kept for you to look at" in told["message"]
        assert entry(dead_again)["failures"][0]["reason"] == "GpuNotFound"


def test_an_operator_that_was_stopped_after_giving_a_dead_gpu_back_still_counts_it() -> None:
    observed, _ = step(Observed(workspace()))
    observed, _ = step(observed)
    dead = says(observed, "Initialized", "False", "GpuNotFound", DEAD)
    assert decided(dead).deletions, "given back, and then it was stopped: no status was written"
    (claim,) = dead.claims
    leaving = {**claim, "metadata": {**claim["metadata"], "deletionTimestamp": "2026-11-21T13:00:00Z"}}
    after, _ = step(replace(dead, claims=(leaving,)))
    assert entry(after)["attempt"] == 1
    assert [each["reason"] for each in entry(after)["failures"]] == ["GpuNotFound"]


def test_a_claim_that_its_karpenter_took_away_leaves_its_reason_and_gets_a_fresh_name() -> None:
    observed = says(several(), "Launched", "Unknown", "SomethingElse", "the fleet said no")
    observed, _ = step(observed)
    observed, decision = step(replace(observed, claims=()), now=later(1))
    assert decision.replaces == frozenset()
    assert written(decision, "Machine")["metadata"]["name"] == claim_name(UID, 0, 1)
    assert entry(observed)["failures"] == [
        {"instanceType": SIZES[0], "reason": "SomethingElse", "message": "the fleet said no"}
    ]
