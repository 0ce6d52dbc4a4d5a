"""Needs are answered outside of reconciles: once for all who have them, and again while they cannot be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from kaito.controllers.workspace import needs
from kaito.controllers.workspace.model import Answer, Need
from kaito.controllers.workspace.needs import Resolver
from kaito.runtime.resources import ObjectKey
from kaito.runtime.testing import VirtualClock

MODEL = Need("model", "org/model")
ANN, BOB = ObjectKey("red", "ann"), ObjectKey("blue", "bob")
FACTS = Answer({"id": "org/model"})
DOWN = Answer(reason="HubUnreachable", message="down")


class Hub:
    """Answers in turn what it is given, and notes who asked when."""

    def __init__(self, clock: VirtualClock, *answers: Answer | Exception, seconds: float = 0.0) -> None:
        self._clock = clock
        self._answers = list(answers)
        self._seconds = seconds
        self.asked: list[tuple[float, str, str]] = []
        self.most = self._open = 0

    async def __call__(self, need: Need, namespace: str) -> Answer:
        self.asked.append((self._clock.now(), need.id, namespace))
        self._open += 1
        self.most = max(self.most, self._open)
        await self._clock.sleep(self._seconds)
        self._open -= 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.asynccontextmanager
async def running(resolver: Resolver) -> AsyncIterator[list[ObjectKey]]:
    """The resolver at work; the keys that it woke."""
    woken: list[ObjectKey] = []
    resolver.wakes(woken.append)
    task = asyncio.create_task(resolver.run())
    try:
        yield woken
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_two_workspaces_with_the_same_need_ask_once_and_are_both_woken(
    virtual_clock: VirtualClock,
) -> None:
    hub = Hub(virtual_clock, FACTS, seconds=1)
    resolver = Resolver({"model": hub}, virtual_clock)
    async with running(resolver) as woken:
        resolver.want(ANN, [MODEL])
        resolver.want(BOB, [MODEL])
        assert resolver.answers(ANN) == {}
        await virtual_clock.sleep(2)
        assert len(hub.asked) == 1
        assert woken == [BOB, ANN]
        assert resolver.answers(ANN) == resolver.answers(BOB) == {MODEL: FACTS}


async def test_whoever_comes_after_the_answer_is_woken_for_it(virtual_clock: VirtualClock) -> None:
    resolver = Resolver({"model": Hub(virtual_clock, FACTS)}, virtual_clock)
    async with running(resolver) as woken:
        resolver.want(ANN, [MODEL])
        await virtual_clock.sleep(1)
        assert resolver.answers(BOB) == {}
        resolver.want(BOB, [MODEL])
        assert woken == [ANN, BOB]
        assert resolver.answers(BOB) == {MODEL: FACTS}
        resolver.want(BOB, [MODEL])  # it keeps its need: nobody is woken for what has been read
        assert woken == [ANN, BOB]


async def test_a_need_with_a_secret_is_asked_for_in_each_namespace(virtual_clock: VirtualClock) -> None:
    hub = Hub(virtual_clock, FACTS)
    resolver = Resolver({"model": hub}, virtual_clock)
    need = Need("model", "org/model", secret="hub")
    async with running(resolver):
        resolver.want(ANN, [need])
        resolver.want(BOB, [need])
        await virtual_clock.sleep(1)
        assert [each[2] for each in hub.asked] == ["red", "blue"]


async def test_what_could_not_be_answered_is_asked_again_less_and_less_often(
    virtual_clock: VirtualClock,
) -> None:
    hub = Hub(virtual_clock, DOWN, DOWN, DOWN, FACTS)
    resolver = Resolver({"model": hub}, virtual_clock)
    resolver.wakes(lambda key: None)
    start = virtual_clock.now()
    async with running(resolver):
        resolver.wakes(lambda key: resolver.want(key, [MODEL]))  # as a reconcile does
        resolver.want(ANN, [MODEL])
        await virtual_clock.sleep(5)
        assert resolver.answers(ANN) == {MODEL: DOWN}
        await virtual_clock.sleep(1000)
        assert [each[0] - start for each in hub.asked] == [0, 10, 30, 70]
        assert resolver.answers(ANN) == {MODEL: FACTS}


async def test_the_other_side_says_when_it_may_be_asked_again(virtual_clock: VirtualClock) -> None:
    limited = Answer(reason="HubUnreachable", message="slow down", retry_after=1234.0)
    hub = Hub(virtual_clock, limited, FACTS)
    resolver = Resolver({"model": hub}, virtual_clock)
    start = virtual_clock.now()
    async with running(resolver):
        resolver.wakes(lambda key: resolver.want(key, [MODEL]))
        resolver.want(ANN, [MODEL])
        await virtual_clock.sleep(3000)
        assert [each[0] - start for each in hub.asked] == [0, 1234]


async def test_nobody_is_asked_again_for_a_workspace_that_needs_nothing_any_more(
    virtual_clock: VirtualClock,
) -> None:
    hub = Hub(virtual_clock, DOWN)
    resolver = Resolver({"model": hub}, virtual_clock)
    async with running(resolver) as woken:
        resolver.want(ANN, [MODEL])
        await virtual_clock.sleep(1)
        resolver.want(ANN, [])
        assert resolver.answers(ANN) == {}
        await virtual_clock.sleep(5000)
        assert len(hub.asked) == 1
        assert woken == [ANN]


async def test_an_answer_serves_others_for_a_while_and_is_then_asked_for_anew(
    virtual_clock: VirtualClock,
) -> None:
    hub = Hub(virtual_clock, FACTS)
    resolver = Resolver({"model": hub}, virtual_clock)
    async with running(resolver):
        resolver.want(ANN, [MODEL])
        await virtual_clock.sleep(needs.KEPT - 1)
        resolver.want(BOB, [MODEL])
        assert resolver.answers(BOB) == {MODEL: FACTS}
        await virtual_clock.sleep(2)
        resolver.want(BOB, [MODEL])
        assert resolver.answers(BOB) == {}
        await virtual_clock.sleep(1)
        assert len(hub.asked) == 2


async def test_no_more_than_a_few_lookups_are_under_way_at_once(virtual_clock: VirtualClock) -> None:
    hub = Hub(virtual_clock, FACTS, seconds=1)
    resolver = Resolver({"model": hub}, virtual_clock)
    async with running(resolver):
        for number in range(20):
            resolver.want(ObjectKey("red", f"w{number}"), [Need("model", f"org/m{number}")])
        await virtual_clock.sleep(10)
        assert (len(hub.asked), hub.most) == (20, needs.AT_ONCE)


async def test_answers_that_nobody_needs_any_more_do_not_pile_up(
    virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "MOST", 10)
    hub = Hub(virtual_clock, FACTS)
    resolver = Resolver({"model": hub}, virtual_clock)
    async with running(resolver):
        for number in range(100):
            resolver.want(ANN, [Need("model", f"org/m{number}")])
            await virtual_clock.sleep(1)
        assert len(resolver._questions) <= 11


async def test_a_fault_of_a_lookup_is_an_answer_and_the_next_need_is_answered(
    virtual_clock: VirtualClock,
) -> None:
    hub = Hub(virtual_clock, ValueError("oops"), FACTS)
    resolver = Resolver({"model": hub}, virtual_clock)
    async with running(resolver):
        resolver.want(ANN, [MODEL])
        await virtual_clock.sleep(1)
        assert resolver.answers(ANN)[MODEL].reason == needs.NO_LOOKUP
        resolver.want(BOB, [Need("model", "org/other")])
        await virtual_clock.sleep(1)
        assert resolver.answers(BOB) == {Need("model", "org/other"): FACTS}


async def test_a_need_that_nothing_here_can_answer_says_so(virtual_clock: VirtualClock) -> None:
    resolver = Resolver({}, virtual_clock)
    async with running(resolver):
        resolver.want(ANN, [MODEL])
        await virtual_clock.sleep(1)
        answer = resolver.answers(ANN)[MODEL]
        assert (answer.facts, answer.reason) == (None, needs.NO_LOOKUP)
        assert "org/model" in answer.message
