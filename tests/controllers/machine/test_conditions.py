"""Karpenter's condition arithmetic."""

from __future__ import annotations

from kaito.controllers.machine.conditions import ConditionSet

STAGES = ("Launched", "Registered", "Initialized")
CREATED = "2026-11-21T12:00:00Z"
LATER = "2026-11-21T12:00:05Z"
LATEST = "2026-11-21T12:00:09Z"


def fresh(now: str = LATER, generation: int = 1, stored: ConditionSet | None = None) -> ConditionSet:
    conditions = stored.as_list() if stored else []
    return ConditionSet.read(
        conditions, STAGES, generation=generation, created=CREATED, now=now, with_generation=True
    )


def test_reading_materialises_stages_and_root_as_awaiting() -> None:
    assert fresh().as_list() == [
        {
            "type": type,
            "status": "Unknown",
            "reason": "AwaitingReconciliation",
            "message": "object is awaiting reconciliation",
            "lastTransitionTime": CREATED,
            "observedGeneration": 1,
        }
        for type in (*STAGES, "Ready")
    ]


def test_true_takes_the_type_as_reason_and_no_message() -> None:
    assert fresh().set_true("Launched").get("Launched") == {
        "type": "Launched",
        "status": "True",
        "reason": "Launched",
        "message": "",
        "lastTransitionTime": LATER,
        "observedGeneration": 1,
    }


def test_the_root_waits_while_a_stage_is_unknown() -> None:
    root = fresh().set_true("Launched").get("Ready")
    assert (root["status"], root["reason"]) == ("Unknown", "ReconcilingDependents")
    assert root["message"] == "Registered=Unknown, Initialized=Unknown"
    assert root["lastTransitionTime"] == CREATED  # the status stayed Unknown


def test_the_root_is_false_as_soon_as_a_stage_is() -> None:
    root = fresh().set("Launched", "False", "SKUNotAvailable", "no such size").get("Ready")
    assert (root["status"], root["reason"]) == ("False", "UnhealthyDependents")
    assert (
        root["message"] == "Launched=False, Registered=Unknown, Initialized=Unknown"
    )  # newest transition first


def test_the_root_is_true_when_every_stage_is() -> None:
    conditions = fresh()
    for type in STAGES:
        conditions = conditions.set_true(type)
    root = conditions.get("Ready")
    assert (root["status"], root["reason"], root["message"]) == ("True", "Ready", "")


def test_the_time_moves_only_with_the_status() -> None:
    first = fresh().set("Launched", "Unknown", "Throttled", "wait")
    assert first.get("Launched")["lastTransitionTime"] == CREATED
    second = fresh(LATEST, stored=first).set_true("Launched")
    assert second.get("Launched")["lastTransitionTime"] == LATEST


def test_setting_what_is_already_so_changes_nothing() -> None:
    conditions = fresh().set_true("Launched")
    again = fresh(LATEST, stored=conditions).set_true("Launched")
    assert again.as_list() == conditions.as_list()


def test_a_stage_of_an_older_generation_does_not_count() -> None:
    conditions = fresh()
    for type in STAGES:
        conditions = conditions.set_true(type)
    newer = fresh(LATEST, generation=2, stored=conditions).set_true("Launched")
    root = newer.get("Ready")
    assert (root["status"], root["message"]) == ("Unknown", "Registered=True, Initialized=True")


def test_a_false_stage_of_an_older_generation_does_not_make_the_root_false() -> None:
    conditions = fresh().set("Registered", "False", "MultipleNodesFound", "two")
    newer = fresh(LATEST, generation=2, stored=conditions).set_true("Launched")
    assert newer.get("Ready")["status"] == "Unknown"


def test_root_last_and_the_others_by_the_time_of_their_transition() -> None:
    conditions = fresh(LATEST).set_true("Launched").set("InstanceTerminating", "Unknown", "Throttled", "wait")
    assert [each["type"] for each in conditions.as_list()] == [
        "Registered",
        "Initialized",
        "Launched",
        "InstanceTerminating",
        "Ready",
    ]


def test_a_condition_outside_the_life_cycle_leaves_the_root_alone() -> None:
    before = fresh().set_true("Launched")
    after = fresh(LATEST, stored=before).set("Drifted", "True", "Drifted", "")
    assert after.get("Ready") == before.get("Ready")


def test_machines_have_no_generation_in_their_conditions() -> None:
    conditions = ConditionSet.read(
        (), ("MachineLaunched",), generation=3, created=CREATED, now=LATER, with_generation=False
    ).set_true("MachineLaunched")
    assert all("observedGeneration" not in each for each in conditions.as_list())
    assert conditions.is_true("Ready")
