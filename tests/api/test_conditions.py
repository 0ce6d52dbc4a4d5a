"""Condition helpers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kaito.api.conditions import (
    MESSAGE_LIMIT,
    Condition,
    Status,
    find_condition,
    is_false,
    is_true,
    remove_conditions,
    set_condition,
)
from kaito.api.labels import WORKSPACE_LABEL, without_reserved

EARLY = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATE = datetime(2026, 11, 21, 13, tzinfo=UTC)


def put(
    old: list[Condition], status: Status, *, message: str = "m", now: datetime = EARLY
) -> list[Condition]:
    return set_condition(old, "Ready", status, "Why", message, generation=3, now=now)


def test_a_new_condition_goes_last() -> None:
    assert put([{"type": "Other", "status": "True"}], "False") == [
        {"type": "Other", "status": "True"},
        {
            "type": "Ready",
            "status": "False",
            "reason": "Why",
            "message": "m",
            "lastTransitionTime": "2026-11-21T12:00:00Z",
            "observedGeneration": 3,
        },
    ]


def test_the_time_moves_only_with_the_status_and_the_place_stays() -> None:
    first = [*put([], "False"), {"type": "Other"}]
    same = put(first, "False", message="other", now=LATE)
    assert same[0]["lastTransitionTime"] == "2026-11-21T12:00:00Z"
    assert same[0]["message"] == "other"
    turned = put(first, "True", now=LATE)
    assert turned[0]["lastTransitionTime"] == "2026-11-21T13:00:00Z"
    assert [each["type"] for each in turned] == ["Ready", "Other"]
    assert first[0]["status"] == "False"  # the input is left alone


def test_what_the_server_would_refuse_is_not_made() -> None:
    with pytest.raises(ValueError, match="a reason must not be empty"):
        set_condition([], "Ready", "True", "", "m", generation=1, now=EARLY)
    assert len(put([], "True", message="x" * 40_000)[0]["message"]) == MESSAGE_LIMIT


def test_looking_up() -> None:
    conditions = put([], "False")
    assert find_condition(conditions, "Ready") == conditions[0]
    assert find_condition(None, "Ready") is None
    assert (is_true(conditions, "Ready"), is_false(conditions, "Ready")) == (False, True)
    assert (is_true(None, "Ready"), is_false([], "Ready")) == (False, False)
    assert remove_conditions(conditions, {"Ready"}) == []


def test_ownership_labels_are_not_copied_from_users() -> None:
    assert without_reserved({WORKSPACE_LABEL: "fake", "apps": "phi"}) == {"apps": "phi"}
