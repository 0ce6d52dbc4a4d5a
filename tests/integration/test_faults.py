"""Faults between an operator and its API server, on both backends: nothing is lost, nothing is made twice.

Everything here is on sockets and in real time, so order and counts are asserted and never durations. The faults that
take a client minutes to notice are in virtual time beside the fault package's own tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.controller import Controller
from kaito.runtime.errors import AlreadyExists, TransportError
from kaito.runtime.handlers import Watch
from kaito.runtime.informer import Informer
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions, LeaderElector
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.objects import CachedObject
from kaito.runtime.reflector import Selection
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import CONFIGMAPS, ObjectKey
from kaito.runtime.result import Result
from kaito.testing.faults import (
    Action,
    Answer,
    Chaos,
    CutWatch,
    DelayEvents,
    DropWatch,
    HoldEvents,
    LateAnswer,
    LoseAnswer,
    Match,
    NoBookmarks,
    Refuse,
    Slow,
    Truncate,
    WatchError,
)
from kaito.testing.kube_api import KubeApi
from support.sample import GREETINGS, check_greetings, greeting, sample_operator

pytestmark = [pytest.mark.needs("api"), pytest.mark.processes]
CLOCK = LoopClock()
LIMIT = 60.0
"""Seconds for something to come true: far more than it takes, so that a busy machine fails nothing."""


async def until(done: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Asks until it is true."""
    deadline = CLOCK.now() + LIMIT
    while True:
        answer = done()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert CLOCK.now() < deadline, f"{what}: not within {LIMIT:g} s"
        await CLOCK.sleep(0.03)


@contextlib.asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    """Goes on until the block ends; what it fails with, fails the test."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Follower:
    """A handler whose own picture must be the server's in the end: no event lost, none twice, none out of place."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.wrong: list[str] = []

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        if obj.meta.name in self.known:
            self.wrong.append(f"{obj.meta.name} added twice")
        self.known[obj.meta.name] = obj.meta.uid

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        if self.known.get(new.meta.name) != new.meta.uid:
            self.wrong.append(f"{new.meta.name} updated, but it was not there")

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        if self.known.pop(obj.meta.name, None) is None:
            self.wrong.append(f"{obj.meta.name} deleted, but it was not there")


class Parents:
    """The world of these tests: ConfigMaps with the label role=parent, in one namespace."""

    def __init__(self, api: KubeApi) -> None:
        self.namespace = api.namespace
        self.client = api.client("user/1")

    async def create(self, name: str) -> None:
        labels = {"role": "parent"}
        await self.client.create(
            CONFIGMAPS, {"metadata": {"name": name, "namespace": self.namespace, "labels": labels}}
        )

    async def touch(self, name: str, value: str) -> None:
        await self.client.patch(CONFIGMAPS, name, self.namespace, patch={"data": {"value": value}})

    async def delete(self, name: str) -> None:
        await self.client.delete(CONFIGMAPS, name, self.namespace)

    async def versions(self, selector: str) -> dict[str, str]:
        listed = await self.client.list(CONFIGMAPS, self.namespace, label_selector=selector)
        return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in listed}

    async def same(self, informer: Informer, selector: str) -> None:
        """Waits until the store is what the server has, version by version."""

        async def equal() -> bool:
            stored = {each.meta.name: each.meta.resource_version for each in informer.lister.list()}
            return stored == await self.versions(selector)

        await until(equal, "the store is what the server has")


@dataclass(frozen=True)
class Case:
    """Faults that an informer of its own meets, and how it lists."""

    match: Match
    steps: Sequence[Action]
    watch_list: bool = False


LISTS = Match(verb="list", resource="configmaps", user_agent="operator/*")
WATCHES = Match(verb="watch", resource="configmaps", user_agent="operator/*")

CASES = {
    "list 429 with Retry-After": Case(LISTS, [Answer(429, retry_after=1), Answer(429, retry_after=1)]),
    "list 500": Case(LISTS, [Answer(500), Answer(500)]),
    "list 503": Case(LISTS, [Answer(503)]),
    "list 410": Case(LISTS, [Answer(410)]),
    "list refused": Case(LISTS, [Refuse(), Refuse()]),
    "list truncated": Case(LISTS, [Truncate()]),
    "list slow": Case(LISTS, [Slow(size=200, pause=0.01)]),
    "list late": Case(LISTS, [LateAnswer(0.3)]),
    "watch 410": Case(WATCHES, [Answer(410)]),
    "watch 429": Case(WATCHES, [Answer(429)]),
    "watch 500": Case(WATCHES, [Answer(500)]),
    "watch refused": Case(WATCHES, [Refuse(), Refuse()]),
    "watch dropped": Case(WATCHES, [DropWatch(after_events=2), DropWatch(after_events=1), DropWatch()]),
    "watch cut in mid-line": Case(WATCHES, [CutWatch(after_events=3)]),
    "watch ERROR 410": Case(WATCHES, [WatchError(410, after_events=2)]),
    "watch ERROR 500": Case(WATCHES, [WatchError(500, after_events=2)]),
    "watch ERROR 429": Case(WATCHES, [WatchError(429, after_events=1)]),
    "watch without bookmarks": Case(WATCHES, [NoBookmarks()]),
    "watch late": Case(WATCHES, [DelayEvents(0.2)]),
    "watch slow": Case(WATCHES, [Slow(size=100, pause=0.005)]),
    "stream of the list cut": Case(WATCHES, [CutWatch(after_events=2)], watch_list=True),
    "stream of the list dropped": Case(WATCHES, [DropWatch(after_events=2)], watch_list=True),
    "stream of the list 429": Case(WATCHES, [Answer(429, retry_after=1)], watch_list=True),
    "stream of the list without its mark": Case(WATCHES, [NoBookmarks()], watch_list=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_an_informer_loses_nothing(kube_api: KubeApi, case: Case) -> None:
    rule = kube_api.faults.script(case.match, *case.steps)
    parents = Parents(kube_api)
    for number in range(4):
        await parents.create(f"p{number}")
    follower = Follower()
    informer = Informer(
        kube_api.client("operator/1"),
        Selection(CONFIGMAPS, namespace=kube_api.namespace, label_selector="role=parent"),
        options=ReflectorOptions(watch_list=case.watch_list),
    )
    informer.add_handler(follower)
    async with running(informer.run()):
        for number in range(4, 8):
            await parents.create(f"p{number}")
            await parents.touch(f"p{number - 3}", "new")
            await parents.delete(f"p{number - 4}")
        if case.steps != [NoBookmarks()] or not case.watch_list:
            await until(lambda: rule.spent, "every step was met")
            await parents.create("last")
            await parents.same(informer, "role=parent")
            await until(lambda: set(follower.known) == {each.meta.name for each in informer.lister.list()}, "told")
            assert "last" in follower.known
        else:
            await until(lambda: rule.spent, "the stream is asked for")
            assert not informer.has_synced, "without its mark the list is not known to be whole"
    assert follower.wrong == []
    assert [each.actions[0] for each in kube_api.faults.injected] == list(case.steps)


async def test_as_many_tries_as_failures(kube_api: KubeApi) -> None:
    kube_api.faults.script(LISTS, Answer(500), Refuse(), Answer(503))
    codes: list[str] = []
    client = kube_api.client("operator/1")
    client.observer = lambda record: codes.append(f"{'watch' if record.watch else 'list'} {record.code}")
    informer = Informer(
        client,
        Selection(CONFIGMAPS, namespace=kube_api.namespace),
        options=ReflectorOptions(watch_list=False),
    )
    async with running(informer.run()):
        await until(lambda: informer.has_synced, "synced")
        await until(lambda: informer.stats.watches > 0, "it watches")
    assert codes[:4] == ["list 500", "list <error>", "list 503", "list 200"]
    assert (informer.stats.lists, informer.stats.failures) == (4, 3)


class Family:
    """A controller that makes one child, whose name the server chooses, for each parent that has none."""

    def __init__(self, api: KubeApi, manager: Manager) -> None:
        self.api = api
        self.client = manager.client
        self.configmaps = manager.cache.lister(CONFIGMAPS, namespace=api.namespace)
        self.attempts = 0
        self.controller = Controller(
            "family",
            self.reconcile,
            primary=CONFIGMAPS,
            watches=[Watch(CONFIGMAPS, _parent_of, namespace=api.namespace)],
            predicate=lambda event: True,
        )

    async def reconcile(self, key: ObjectKey) -> Result | None:
        self.attempts += 1
        return None


def _parent_of(obj: CachedObject) -> list[ObjectKey]:
    return []
