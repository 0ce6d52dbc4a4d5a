"""Answers Needs outside of reconciles: a few at a time, each once for all Workspaces that have it.

Whoever needs something is woken when there is an answer. What could not be answered is asked again, less and less
often, for as long as somebody needs it; nobody polls.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from kaito.controllers.workspace.model import Answer, Need
from kaito.runtime.clock import Clock, TimerHandle
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import ObjectKey

log = get_logger(__name__)

AT_ONCE: Final = 4
"""Needs that are answered at the same time."""
KEPT: Final = 600.0
"""Seconds for which an answer serves others who need the same."""
FIRST_DELAY: Final = 10.0
LONGEST_DELAY: Final = 600.0
"""Seconds until what could not be answered is asked again: doubled each time, from the first to the longest."""
MOST: Final = 1024
"""Needs that are remembered without anybody who has them now."""
NO_LOOKUP: Final = "LookupFailed"
"""Reason where an answer cannot be had for a fault of this program or its setup."""

_NOTHING: Final[Mapping[Need, Answer]] = MappingProxyType({})


class Lookup(Protocol):
    """Asks the network. `namespace` is the Workspace's: where the Need's Secret is."""

    async def __call__(self, need: Need, namespace: str) -> Answer:
        """Never raises for what the other side does: that is an Answer with a reason."""


@dataclass(eq=False, slots=True)
class _Question:
    need: Need
    namespace: str
    """Where it was first asked; others share it only where no Secret is needed."""
    keys: set[ObjectKey] = field(default_factory=set)
    answer: Answer | None = None
    under_way: bool = False
    failures: int = 0
    again: float = 0.0
    """When an answer has become too old, or may be tried for once more."""
    timer: TimerHandle | None = None


class Resolver:
    """The questions that Workspaces have, and what is known of them. A runnable of the leader."""

    def __init__(self, lookups: Mapping[str, Lookup], clock: Clock) -> None:
        self._lookups = lookups
        self._clock = clock
        self._questions: OrderedDict[tuple[str, Need], _Question] = OrderedDict()
        self._of: dict[ObjectKey, tuple[_Question, ...]] = {}
        self._queue: asyncio.Queue[_Question] = asyncio.Queue()
        self._wake: Callable[[ObjectKey], None] = lambda key: None

    def wakes(self, wake: Callable[[ObjectKey], None]) -> None:
        """What is called with each key whose need has an answer."""
        self._wake = wake

    def answers(self, key: ObjectKey) -> Mapping[Need, Answer]:
        """What is known of what the key wanted last."""
        questions = self._of.get(key)
        if questions is None:
            return _NOTHING
        return {each.need: each.answer for each in questions if each.answer is not None}

    def want(self, key: ObjectKey, needs: Sequence[Need]) -> None:
        """The key needs these and nothing else. What is not known yet is found out."""
        before = self._of.get(key, ())
        if not needs and not before:
            return
        questions = tuple(self._question(need, key.namespace or "") for need in needs)
        for each in before:
            if each not in questions:
                self._leave(each, key)
        if not questions:
            self._of.pop(key, None)
            return
        self._of[key] = questions
        for each in questions:
            each.keys.add(key)
            self._ask(each)
            if each.answer is not None and each not in before:
                self._wake(key)  # others had asked: the answer came before this key, which has not read it

    def _question(self, need: Need, namespace: str) -> _Question:
        at = (namespace if need.secret is not None else "", need)
        question = self._questions.get(at)
        if question is None:
            self._make_room()
            question = self._questions[at] = _Question(need, namespace)
        self._questions.move_to_end(at)
        return question

    def _make_room(self) -> None:
        if len(self._questions) < MOST:
            return
        idle = [at for at, each in self._questions.items() if not each.keys and not each.under_way]
        for at in idle[: max(1, len(idle) // 2)]:
            del self._questions[at]

    def _leave(self, question: _Question, key: ObjectKey) -> None:
        question.keys.discard(key)
        if not question.keys and question.timer is not None:
            question.timer.cancel()
            question.timer = None

    def _ask(self, question: _Question) -> None:
        if question.under_way or (question.answer is not None and self._clock.now() < question.again):
            return
        if question.answer is not None and question.answer.facts is not None:
            question.answer = None  # too old; an old failure stands until there is a new answer
        question.under_way = True
        self._queue.put_nowait(question)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._work())
        finally:
            for each in self._questions.values():
                if each.timer is not None:
                    each.timer.cancel()

    async def _work(self) -> None:
        while True:
            question = await self._queue.get()
            try:
                if question.keys:
                    self._settle(question, await self._look_up(question))
            finally:
                question.under_way = False

    async def _look_up(self, question: _Question) -> Answer:
        need = question.need
        lookup = self._lookups.get(need.kind)
        if lookup is None:
            return Answer(
                reason=NO_LOOKUP, message=f"{need.id}: this operator does not look anything up on a hub"
            )
        try:
            return await lookup(need, question.namespace)
        except Exception as error:
            log.panic("a lookup failed", error=error, kind=need.kind, id=need.id)
            return Answer(
                reason=NO_LOOKUP, message=f"{need.id} could not be looked up; the operator's log says why"
            )

    def _settle(self, question: _Question, answer: Answer) -> None:
        question.answer = answer
        if answer.facts is not None:
            question.failures, delay = 0, KEPT
        else:
            delay = max(min(FIRST_DELAY * 2**question.failures, LONGEST_DELAY), answer.retry_after or 0.0)
            question.failures = min(question.failures + 1, 16)
            question.timer = self._clock.call_later(delay, self._wake_all, question)
        question.again = self._clock.now() + delay
        self._wake_all(question)

    def _wake_all(self, question: _Question) -> None:
        for key in sorted(question.keys, key=str):
            self._wake(key)
