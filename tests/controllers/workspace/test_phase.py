"""The phase of a Workspace: deleting first, pending apart from error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kaito.controllers.workspace.decide.status import PROBLEM_CONDITIONS
from kaito.controllers.workspace.phase import Phase, entered, phase

CREATED = "2026-05-01T10:00:00Z"
LATER = "2026-05-01T10:05:00Z"
GONE = "2026-05-01T11:00:00Z"


def conditions(**found: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {"type": type, "status": status, "reason": reason, "lastTransitionTime": LATER}
        for type, (status, reason) in found.items()
    ]


READY = conditions(
    ResourceReady=("True", "workspaceResourceStatusSuccess"),
    InferenceReady=("True", "WorkspaceInferenceStatusSuccess"),
    WorkspaceReady=("True", "workspaceReady"),
    WorkspaceSucceeded=("True", "workspaceSucceeded"),
)


def not_ready(resource: tuple[str, str], inference: tuple[str, str]) -> list[dict[str, Any]]:
    return conditions(
        ResourceReady=resource,
        InferenceReady=inference,
        WorkspaceReady=("False", resource[1] if resource[0] == "False" else inference[1]),
        WorkspaceSucceeded=("False", "workspacePending"),
    )


NODES = ("True", "workspaceResourceStatusSuccess")
WAITING = ("False", "WorkspaceInferenceStatusPending")

TABLE: dict[str, tuple[dict[str, Any], Phase]] = {
    "nothing is known yet": ({}, Phase.PENDING),
    "conditions of somebody else only": ({"conditions": conditions(Other=("False", "X"))}, Phase.PENDING),
    "all is ready": ({"conditions": READY}, Phase.SUCCEEDED),
    "ready by the word of the Go KAITO alone": (
        {"conditions": conditions(WorkspaceSucceeded=("True", "x"))},
        Phase.SUCCEEDED,
    ),
    "waits for a node": (
        {"conditions": not_ready(("False", "NodeClaimNotReady"), WAITING)},
        Phase.PENDING,
    ),
    "the model starts": ({"conditions": not_ready(NODES, WAITING)}, Phase.PENDING),
    "a cloud without machines is asked again": (
        {"conditions": not_ready(("False", "AllocationFailure"), WAITING)},
        Phase.PENDING,
    ),
    "a quota has to be raised by a person": (
        {"conditions": not_ready(("False", "SubscriptionQuotaReached"), WAITING)},
        Phase.ERROR,
    ),
    "a claim failed for good, with a word of another provisioner": (
        {
            "conditions": not_ready(("False", "SomebodyElsesWord"), WAITING),
            "nodes": [{"slot": 0, "state": "Failed"}],
        },
        Phase.ERROR,
    ),
    "a word of another provisioner says nothing by itself": (
        {
            "conditions": not_ready(("False", "SomebodyElsesWord"), WAITING),
            "nodes": [{"slot": 0, "state": "Pending"}],
        },
        Phase.PENDING,
    ),
    "pods crash": ({"conditions": not_ready(NODES, ("False", "ContainerCrashLoopBackOff"))}, Phase.ERROR),
    "pods without a node, while the node is being replaced": (
        {"conditions": not_ready(("False", "NodeNotReady"), ("False", "Unschedulable"))},
        Phase.PENDING,
    ),
    "pods without a node, though the nodes are there": (
        {"conditions": not_ready(NODES, ("False", "Unschedulable"))},
        Phase.ERROR,
    ),
    "a child was refused": (
        {"conditions": not_ready(NODES, ("False", "ChildRefused"))},
        Phase.ERROR,
    ),
    **{
        f"the problem {problem}": ({"conditions": conditions(**{problem: ("True", problem)})}, Phase.ERROR)
        for problem in sorted(PROBLEM_CONDITIONS)
    },
    "a problem that is over": (
        {"conditions": [*conditions(UnknownPreset=("False", "UnknownPreset")), *not_ready(NODES, WAITING)]},
        Phase.PENDING,
    ),
}


@pytest.mark.parametrize(("status", "expected"), TABLE.values(), ids=TABLE)
def test_phase(status: dict[str, Any], expected: Phase) -> None:
    assert phase({"creationTimestamp": CREATED}, status) == expected


@pytest.mark.parametrize("status", [status for status, _ in TABLE.values()], ids=TABLE)
def test_deleting_comes_before_everything(status: dict[str, Any]) -> None:
    assert phase({"creationTimestamp": CREATED, "deletionTimestamp": GONE}, status) is Phase.DELETING


@pytest.mark.parametrize(
    ("metadata", "status", "expected"),
    [
        ({}, {}, CREATED),
        ({}, {"conditions": READY}, LATER),
        ({}, {"conditions": conditions(WorkspaceSucceeded=("True", "x"))}, LATER),
        ({"deletionTimestamp": GONE}, {"conditions": READY}, GONE),
    ],
    ids=["new", "ready", "of the Go KAITO", "deleting"],
)
def test_entered(metadata: dict[str, Any], status: dict[str, Any], expected: str) -> None:
    moment = entered({"creationTimestamp": CREATED, **metadata}, status)
    assert moment == datetime.fromisoformat(expected).astimezone(UTC)
