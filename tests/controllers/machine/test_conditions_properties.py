"""Condition arithmetic against a naive model: the rules of operatorpkg one after the other, on plain lists.

The model knows nothing of `ConditionSet`: it changes one list in place, as the Go code changes an object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controllers.machine.builders import SHAPES
from kaito.controllers.machine import ClaimShape
from kaito.controllers.machine.conditions import ConditionSet
from kaito.runtime.clock import rfc3339

INDEPENDENT = ("Drained", "VolumesDetached", "InstanceTerminating")
START = datetime(2026, 1, 1, tzinfo=UTC)
Condition = dict[str, Any]


@dataclass
class Write:
    """One write: seconds since the one before, generations since then, and whether the claim was deleted meanwhile.

    stage: position of a condition of the life cycle, or of an independent one after these.
    """

    stage: int
    status: str
    reason: str
    message: str
    seconds: int = 0
    generations: int = 0
    deleted: bool = False


@dataclass
class Model:
    """Conditions of an object as Go changes them."""

    stages: tuple[str, ...]
    generational: bool
    created: str
    generation: int = 1
    deleting: bool = False
    conditions: list[Condition] = field(default_factory=list)

    def materialise(self) -> None:
        for type in (*self.stages, "Ready"):
            if not any(each["type"] == type for each in self.conditions):
                blank: Condition = {
                    "type": type,
                    "status": "Unknown",
                    "reason": "AwaitingReconciliation",
                    "message": "object is awaiting reconciliation",
                    "lastTransitionTime": self.created,
                }
                if self.generational:
                    blank["observedGeneration"] = self.generation
                self.conditions.append(blank)
        self.sort()

    def sort(self) -> None:
        last = [each for each in self.conditions if each["type"] == "Ready"]
        others = [each for each in self.conditions if each["type"] != "Ready"]
        placed: list[Condition] = []
        for each in others:  # insertion sort, so that equal times keep their order
            at = len(placed)
            while at > 0 and placed[at - 1]["lastTransitionTime"] > each["lastTransitionTime"]:
                at -= 1
            placed.insert(at, each)
        self.conditions = placed + last

    def set(self, type: str, status: str, reason: str, message: str, now: str) -> None:
        new: Condition = {"type": type, "status": status, "reason": reason, "message": message}
        if self.generational:
            new["observedGeneration"] = self.generation
        new["lastTransitionTime"] = now
        kept: list[Condition] = []
        for each in self.conditions:
            if each["type"] != type:
                kept.append(
                    {**each, "observedGeneration": self.generation}
                    if self.deleting and self.generational
                    else each
                )
                continue
            if each["status"] == status:
                new["lastTransitionTime"] = each["lastTransitionTime"]
            if each == new:
                return
        self.conditions = [*kept, new]
        self.sort()

    def set_and_recompute(self, type: str, status: str, reason: str, message: str, now: str) -> None:
        self.set(type, status, reason, message, now)
        if type not in self.stages:
            return
        current = [
            each
            for each in self.conditions
            if not self.generational or each["observedGeneration"] == self.generation
        ]
        unhealthy = []
        for stage in self.stages:
            found = next(each for each in self.conditions if each["type"] == stage)
            if found not in current or found["status"] != "True":
                unhealthy.append(found)
        if not unhealthy:
            self.set("Ready", "True", "Ready", "", now)
            return
        newest: list[Condition] = []
        for each in unhealthy:
            at = 0
            while at < len(newest) and newest[at]["lastTransitionTime"] >= each["lastTransitionTime"]:
                at += 1
            newest.insert(at, each)
        text = ", ".join(f"{each['type']}={each['status']}" for each in newest)
        if any(each in current and each["status"] == "False" for each in unhealthy):
            self.set("Ready", "False", "UnhealthyDependents", text, now)
        else:
            self.set("Ready", "Unknown", "ReconcilingDependents", text, now)


WRITES = st.lists(
    st.builds(
        Write,
        stage=st.integers(0, 2 + len(INDEPENDENT)),
        status=st.sampled_from(["True", "False", "Unknown"]),
        reason=st.sampled_from(["A", "B", "Launched"]),
        message=st.sampled_from(["", "why"]),
        seconds=st.integers(0, 2),
        generations=st.sampled_from([0, 0, 0, 1]),
        deleted=st.sampled_from([False, False, False, True]),
    ),
    max_size=12,
)


def run(shape: ClaimShape, writes: list[Write]) -> tuple[list[list[Condition]], list[list[Condition]]]:
    """What stands in the status after each write: by the code, which stores and reads every time, and by the model."""
    created = rfc3339(START)
    model = Model(shape.dependents, shape.with_generation, created)
    types = (*shape.dependents, *INDEPENDENT)
    stored: list[Condition] = []
    by_code, by_model = [], []
    now, generation, deleting = START, 1, False
    for write in writes:
        now += timedelta(seconds=write.seconds)
        generation += write.generations
        deleting = deleting or write.deleted
        conditions = ConditionSet.read(
            stored,
            shape.dependents,
            generation=generation,
            created=created,
            now=rfc3339(now),
            with_generation=shape.with_generation,
            deleting=deleting,
        )
        stored = conditions.set(types[write.stage], write.status, write.reason, write.message).as_list()  # type: ignore[arg-type]
        model.generation, model.deleting = generation, deleting
        model.materialise()
        model.set_and_recompute(types[write.stage], write.status, write.reason, write.message, rfc3339(now))
        by_code.append(stored)
        by_model.append([dict(each) for each in model.conditions])
    return by_code, by_model


@given(st.sampled_from(SHAPES), WRITES)
def test_any_course_of_writes_gives_what_the_rules_give(shape: ClaimShape, writes: list[Write]) -> None:
    by_code, by_model = run(shape, writes)
    assert by_code == by_model


@given(st.sampled_from(SHAPES), WRITES.filter(bool))
def test_the_root_is_true_exactly_when_every_stage_is_at_this_generation(
    shape: ClaimShape, writes: list[Write]
) -> None:
    if all(write.stage >= len(shape.dependents) for write in writes):
        writes = [*writes, Write(0, "True", "A", "")]
    last = max(at for at, write in enumerate(writes) if write.stage < len(shape.dependents))
    by_code, _ = run(shape, writes[: last + 1])
    found = {each["type"]: each for each in by_code[-1]}
    generation = 1 + sum(write.generations for write in writes[: last + 1])
    healthy = all(
        found[type]["status"] == "True" and found[type].get("observedGeneration", generation) == generation
        for type in shape.dependents
    )
    assert (found["Ready"]["status"] == "True") == healthy


@given(st.sampled_from(SHAPES), WRITES.filter(bool))
def test_the_same_write_again_later_changes_nothing(shape: ClaimShape, writes: list[Write]) -> None:
    last = writes[-1]
    again = Write(last.stage, last.status, last.reason, last.message, seconds=5)
    by_code, _ = run(shape, [*writes, again])
    assert by_code[-1] == by_code[-2]


@given(st.sampled_from(SHAPES), WRITES)
def test_times_move_only_with_the_status(shape: ClaimShape, writes: list[Write]) -> None:
    by_code, _ = run(shape, writes)
    for before, after in pairwise(by_code):
        for condition in after:
            old = next((each for each in before if each["type"] == condition["type"]), None)
            if old is not None and old["status"] == condition["status"]:
                assert old["lastTransitionTime"] == condition["lastTransitionTime"]
