"""What former attempts at a node left to say: one entry for each machine size, kept in `status.nodes[].failures`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.model import Object

UNTOLD: Final = frozenset({"NodeClaimNotReady", "AwaitingReconciliation", "ReconcilingDependents"})
"""Reasons that say no more than that a claim was not ready yet."""


def with_failure(failures: Sequence[Object], instance_type: str, why: Problem | None) -> tuple[Object, ...]:
    """The entries with this one at the end, in the place of what that size said before. What says nothing changes
    nothing."""
    if why is None or why.reason in UNTOLD:
        return tuple(failures)
    entry: Object = {"instanceType": instance_type, "reason": why.reason, "message": why.message}
    return (*(each for each in failures if each.get("instanceType") != instance_type), entry)


def failed_before(failures: Sequence[Object], reason: str) -> bool:
    """Whether an attempt failed for that reason."""
    return any(each.get("reason") == reason for each in failures)


def sentences(failures: Sequence[Object]) -> str:
    """What each size said, by its name once."""
    return "; ".join(
        f"{size}: {each.get('reason')}: {str(each.get('message')).removeprefix(f'{size}: ')}"
        for each in failures
        for size in (each.get("instanceType"),)
    )


def no_longer(failures: Sequence[Object]) -> str:
    """Why a node with a fault is kept: what was replaced for the same fault."""
    sizes = ", ".join(str(each.get("instanceType")) for each in failures)
    return f"another node ({sizes}) was replaced before, so this one is kept for you to look at"
