"""Status conditions as plain dicts (`metav1.Condition`): set one, find one, compare.

Controllers build status from dicts, so these helpers take and return lists of dicts and never change their
input. The arithmetic of Karpenter's claims differs (a root condition is recomputed) and lives with the
machine controller.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from kaito.runtime.clock import rfc3339

Condition = dict[str, Any]
Status = Literal["True", "False", "Unknown"]

MESSAGE_LIMIT: Final = 32768
"""Characters; the schema's maxLength of a condition's message (apimachinery, metav1.Condition)."""


def set_condition(
    conditions: Sequence[Mapping[str, Any]],
    type: str,
    status: Status,
    reason: str,
    message: str,
    *,
    generation: int | None,
    now: datetime,
) -> list[Condition]:
    """A new list in which `type` has this status, reason and message.

    `lastTransitionTime` moves only when the status changes. The condition keeps its place; a new one goes
    last. `generation` becomes `observedGeneration` (left out when None). Raises ValueError for an empty
    reason, which the API server would refuse.
    """
    if not reason:
        raise ValueError(f"condition {type}: a reason must not be empty")
    old = find_condition(conditions, type)
    kept = old is not None and old.get("status") == status and bool(old.get("lastTransitionTime"))
    condition: Condition = {
        "type": type,
        "status": status,
        "reason": reason,
        "message": message[:MESSAGE_LIMIT],
        "lastTransitionTime": old["lastTransitionTime"] if old is not None and kept else rfc3339(now),
    }
    if generation is not None:
        condition["observedGeneration"] = generation
    if old is None:
        return [*(dict(each) for each in conditions), condition]
    return [condition if each.get("type") == type else dict(each) for each in conditions]


def remove_conditions(conditions: Iterable[Mapping[str, Any]], types: Container[str]) -> list[Condition]:
    """A new list without these types."""
    return [dict(each) for each in conditions if each.get("type") not in types]


def find_condition(conditions: Sequence[Mapping[str, Any]] | None, type: str) -> Mapping[str, Any] | None:
    """The condition of that type, or None."""
    for condition in conditions or ():
        if condition.get("type") == type:
            return condition
    return None


def is_true(conditions: Sequence[Mapping[str, Any]] | None, type: str) -> bool:
    """Whether the condition is there and its status is "True"."""
    condition = find_condition(conditions, type)
    return condition is not None and condition.get("status") == "True"


def is_false(conditions: Sequence[Mapping[str, Any]] | None, type: str) -> bool:
    """Whether the condition is there and its status is "False" (absent is not False)."""
    condition = find_condition(conditions, type)
    return condition is not None and condition.get("status") == "False"
