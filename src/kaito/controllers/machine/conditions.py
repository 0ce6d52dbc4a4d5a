"""Condition arithmetic of Karpenter's claims, byte-compatible: KAITO, kubectl and Karpenter's tools read the result.

A claim has a root condition, `Ready`, and dependents: launched, registered, initialized. Reading the set materialises
all of them as Unknown / AwaitingReconciliation. Setting a dependent recomputes the root: True when every dependent is
True at the current generation, False when one of them is False at it, Unknown otherwise. Facts: operatorpkg, status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kaito.api.conditions import Condition, Status, find_condition, is_true

ROOT: Final = "Ready"
AWAITING: Final = "AwaitingReconciliation"
AWAITING_MESSAGE: Final = "object is awaiting reconciliation"
UNHEALTHY: Final = "UnhealthyDependents"
RECONCILING: Final = "ReconcilingDependents"


@dataclass(frozen=True, slots=True)
class ConditionSet:
    """The conditions of one claim; every change makes a new set.

    dependents: types in the order of the stages. generation: metadata.generation. created: creationTimestamp.
    now: the time of this pass, RFC 3339. with_generation: write observedGeneration (NodeClaim does, Machine has none).
    deleting: the claim is on its way out; that made a generation which says nothing new, and every write brings all
        conditions to it.
    """

    conditions: tuple[Condition, ...]
    dependents: tuple[str, ...]
    generation: int
    created: str
    now: str
    with_generation: bool
    deleting: bool = False

    @classmethod
    def read(
        cls,
        stored: Iterable[Mapping[str, Any]],
        dependents: tuple[str, ...],
        *,
        generation: int,
        created: str,
        now: str,
        with_generation: bool,
        deleting: bool = False,
    ) -> ConditionSet:
        """The stored conditions, with the missing ones of the life cycle materialised."""
        found = [dict(each) for each in stored]
        for type in (*dependents, ROOT):
            if find_condition(found, type) is None:
                blank = _condition(type, "Unknown", AWAITING, AWAITING_MESSAGE, created)
                found.append({**blank, **({"observedGeneration": generation} if with_generation else {})})
        return cls(_ordered(found), dependents, generation, created, now, with_generation, deleting)

    def find(self, type: str) -> Mapping[str, Any] | None:
        """One condition of the set, if it is there."""
        return find_condition(self.conditions, type)

    def get(self, type: str) -> Mapping[str, Any]:
        """One condition of the set. Raises KeyError where there is none."""
        found = self.find(type)
        if found is None:
            raise KeyError(type)
        return found

    def is_true(self, type: str) -> bool:
        return is_true(self.conditions, type)

    def set_true(self, type: str) -> ConditionSet:
        """True; the reason is the type's own name and the message is empty."""
        return self.set(type, "True", type, "")

    def set(self, type: str, status: Status, reason: str, message: str) -> ConditionSet:
        """Sets one condition and recomputes the root if it is a dependent."""
        changed = self._put(type, status, reason, message)
        return changed._recompute() if type in self.dependents else changed

    def _put(self, type: str, status: Status, reason: str, message: str) -> ConditionSet:
        old = find_condition(self.conditions, type)
        same = old is not None and old["status"] == status
        when = old["lastTransitionTime"] if old is not None and same else self.now
        new = _condition(type, status, reason, message, when)
        if self.with_generation:
            new["observedGeneration"] = self.generation
        if old == new:
            return self
        rest = [self._brought_along(each) for each in self.conditions if each["type"] != type]
        return replace(self, conditions=_ordered([*rest, new]))

    def _brought_along(self, condition: Condition) -> Condition:
        if not (self.deleting and self.with_generation):
            return condition
        return {**condition, "observedGeneration": self.generation}

    def _recompute(self) -> ConditionSet:
        unhealthy = [self.get(type) for type in self.dependents if not self._healthy(self.get(type))]
        if not unhealthy:
            return self._put(ROOT, "True", ROOT, "")
        unhealthy.sort(key=lambda each: str(each["lastTransitionTime"]), reverse=True)
        message = ", ".join(f"{each['type']}={each['status']}" for each in unhealthy)
        if any(each["status"] == "False" and self._current(each) for each in unhealthy):
            return self._put(ROOT, "False", UNHEALTHY, message)
        return self._put(ROOT, "Unknown", RECONCILING, message)

    def _healthy(self, condition: Mapping[str, Any]) -> bool:
        return condition["status"] == "True" and self._current(condition)

    def _current(self, condition: Mapping[str, Any]) -> bool:
        return not self.with_generation or condition.get("observedGeneration") == self.generation

    def as_list(self) -> list[Condition]:
        """What stands in `status.conditions`."""
        return [dict(each) for each in self.conditions]


def _condition(type: str, status: Status, reason: str, message: str, when: str) -> Condition:
    return {"type": type, "status": status, "reason": reason, "message": message, "lastTransitionTime": when}


def _ordered(conditions: list[Condition]) -> tuple[Condition, ...]:
    """Root last, the others by the time of their transition; equal times keep their order."""
    return tuple(
        sorted(conditions, key=lambda each: (each["type"] == ROOT, str(each.get("lastTransitionTime", ""))))
    )
