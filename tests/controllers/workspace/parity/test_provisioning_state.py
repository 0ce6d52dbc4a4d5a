"""The first real reason among claims: what Go KAITO's FirstNodeClaimProvisioningState says, says `progress`."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.controllers.workspace.decide.claims import progress
from kaito.controllers.workspace.decide.wanted import Problem

Object = dict[str, Any]
AWAITING = ("AwaitingReconciliation", "object is awaiting reconciliation")
QUOTA = ("SubscriptionQuotaReached", "the family's quota is used up")


def claim(*, leaving: bool = False, **stages: tuple[str, str] | bool) -> Object:
    """A NodeClaim: of each stage True, or Unknown with reason and message."""
    metadata: Object = {"name": "ws012345678"}
    if leaving:
        metadata["deletionTimestamp"] = "2026-11-21T13:00:00Z"
    conditions = [
        {"type": stage, "status": "True", "reason": stage, "message": ""}
        if isinstance(said, bool)
        else {"type": stage, "status": "Unknown", "reason": said[0], "message": said[1]}
        for stage, said in stages.items()
    ]
    return {"metadata": metadata, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([], None),
        ([claim()], None),
        ([{"metadata": {"name": "bare"}}], None),
        ([claim(Launched=AWAITING)], AWAITING),
        ([claim(Launched=True, Registered=True, Initialized=True)], None),
        ([claim(Launched=QUOTA)], QUOTA),
        ([claim(Registered=("NodeNotFound", "no node yet"), Launched=QUOTA)], QUOTA),
        ([claim(Launched=True, Registered=("NodeNotFound", "none")), claim(Launched=QUOTA)], QUOTA),
        ([claim(Launched=AWAITING), claim(Launched=True, Registered=QUOTA)], QUOTA),
        ([claim(Launched=("LaunchFailed", ""))], None),
        ([claim(leaving=True, Launched=QUOTA)], None),
        ([claim(leaving=True, Launched=QUOTA), claim(Launched=AWAITING)], AWAITING),
    ],
    ids=[
        "no claims",
        "no conditions",
        "no status",
        "awaiting alone is told",
        "all True",
        "quota",
        "Launched before Registered",
        "Launched of a later claim before Registered of an earlier one",
        "a real reason before awaiting across claims",
        "an empty message says nothing",
        "one on its way out says nothing",
        "one on its way out hides nobody",
    ],
)
def test_the_first_real_reason_is_told(claims: list[Object], expected: tuple[str, str] | None) -> None:
    found = progress(claims)
    assert found == (Problem(*expected) if expected is not None else None)


def test_a_long_sentence_is_cut_at_256_characters_and_three_dots() -> None:
    found = progress([claim(Launched=("LaunchFailed", "x" * 306))])
    assert found is not None
    assert found.message == "x" * 256 + "..."
