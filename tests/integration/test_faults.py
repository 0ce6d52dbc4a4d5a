"""Faults between an operator and its API server, on both backends: nothing is lost, nothing is made twice.

Everything here is on sockets and in real time, so order and counts are asserted and never durations. The faults that
take a client minutes to notice are in virtual time beside the fault package's own tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from kaito.runtime.clock import LoopClock
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.errors import AlreadyExists, TransportError
from kaito.runtime.informer import Informer
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions, LeaderElector
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.objects import CachedObject
from kaito.runtime.owners import is_controlled_by, set_controller
from kaito.runtime.reflector import Selection
from kaito.runtime.reflector_states import Backoff, ReflectorOptions
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
from support.sample import CRD, GREETINGS, greeting, sample_operator, wrong_greetings

pytestmark = [pytest.mark.needs("api"), pytest.mark.processes]
CLOCK = LoopClock()
SOON = Backoff(base=0.05)
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
    "list 429 with Retry-After": Case(LISTS, [Answer(429, retry_after=1)]),
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
        options=ReflectorOptions(watch_list=case.watch_list, backoff=SOON),
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
            await until(
                lambda: set(follower.known) == {each.meta.name for each in informer.lister.list()}, "told"
            )
            assert "last" in follower.known
        else:
            await until(lambda: rule.spent, "the stream is asked for")
            assert not informer.has_synced, "without its mark the list is not known to be whole"
    assert follower.wrong == []
    assert [each.actions[0] for each in kube_api.faults.injected] == list(case.steps)


async def test_as_many_tries_as_failures(kube_api: KubeApi) -> None:
    kube_api.faults.script(LISTS, Answer(500), Answer(503), Answer(500))
    codes: list[str] = []
    client = kube_api.client("operator/1")
    client.observer = lambda record: codes.append(record.code)
    informer = Informer(
        client,
        Selection(CONFIGMAPS, namespace=kube_api.namespace),
        options=ReflectorOptions(watch_list=False, backoff=SOON),
    )
    async with running(informer.run()):
        await until(lambda: len(codes) == 5, "its watch is answered")
        assert informer.has_synced
    assert codes[:5] == ["500", "503", "500", "200", "200"], "three failures, the list, and its watch"
    assert (informer.stats.lists, informer.stats.failures) == (4, 3)


class Family:
    """A controller that makes one child, whose name the server chooses, for each Greeting that has none."""

    def __init__(self, api: KubeApi, manager: Manager, own_writes_timeout: float) -> None:
        self.client = manager.client
        self.configmaps = manager.cache.lister(CONFIGMAPS, namespace=api.namespace)
        self.reconciles = 0
        options = ControllerOptions(namespace=api.namespace, own_writes_timeout=own_writes_timeout)
        manager.add(
            Controller("family", self.reconcile, primary=GREETINGS, owns=[CONFIGMAPS], options=options)
        )
        self.greetings = manager.cache.lister(GREETINGS, namespace=api.namespace)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        parent = self.greetings.get(key.name, key.namespace)
        if parent is None:
            return None
        self.reconciles += 1
        if any(is_controlled_by(each.meta, parent.meta.uid) for each in self.configmaps.list()):
            return None
        child = {
            "metadata": {
                "generateName": f"{key.name}-",
                "namespace": key.namespace,
                "labels": {"is": "child"},
            }
        }
        set_controller(child, parent.decode(), GREETINGS)
        await self.client.create(CONFIGMAPS, child)
        return None


@pytest.mark.kube_crds(CRD)
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "without the guard"])
async def test_a_watch_that_lags_makes_no_second_child(kube_api: KubeApi, guarded: bool) -> None:
    hold = HoldEvents()
    hold.release()
    kube_api.faults.add(Match(verb="watch", resource="configmaps", user_agent="family/1"), hold, times=None)
    manager = Manager(kube_api.client("family/1"), clock=CLOCK)
    family = Family(kube_api, manager, own_writes_timeout=30.0 if guarded else 0.0)
    user = kube_api.client("user/1")
    namespace = kube_api.namespace

    async def children() -> int:
        return len(await user.list(CONFIGMAPS, namespace, label_selector="is=child"))

    async with running(manager.run()):
        await until(lambda: manager.cache.has_synced, "synced")
        hold.hold()
        await user.create(GREETINGS, greeting("g", namespace, "a"))

        async def born() -> bool:
            return await children() == 1

        await until(born, "the child is there, and the cache does not know")
        for number in range(5):
            await user.patch(GREETINGS, "g", namespace, patch={"spec": {"who": f"b{number}"}})
            await CLOCK.sleep(0.1)
        if guarded:
            assert family.reconciles == 1, "the key waits for its own write"
        else:
            await until(lambda: family.reconciles > 1, "it runs on the old cache")
        before = family.reconciles
        hold.release()
        await user.patch(GREETINGS, "g", namespace, patch={"spec": {"who": "last"}})
        await until(lambda: family.reconciles > before, "it goes on")
        await CLOCK.sleep(0.2)
    assert (await children() == 1) is guarded


CHAOS = Match(user_agent="sample-operator/*|manager/*")


@pytest.mark.kube_crds(CRD)
@pytest.mark.parametrize("seed", [1, 2])
async def test_the_sample_operator_comes_through_chaos(kube_api: KubeApi, seed: int) -> None:
    chaos = kube_api.faults.stand(Chaos(seed, budget=25, rate=0.3, match=CHAOS))
    manager = Manager(kube_api.client("manager/1"), clock=CLOCK, options=ManagerOptions(workers=4))
    sample_operator().setup(manager)
    user, namespace = kube_api.client("user/1"), kube_api.namespace
    wanted: dict[str, str] = {}

    async def done() -> bool:
        return await wrong_greetings(user, namespace, wanted) == []

    async with running(manager.run()):
        for number in range(6):
            wanted[f"g{number}"] = f"friend {number}"
            await user.create(GREETINGS, greeting(f"g{number}", namespace, f"friend {number}"))
        await until(done, "all are greeted")
        rounds = 0
        while not chaos.spent:  # until it heals
            rounds += 1
            wanted.update({name: f"{name} in round {rounds}" for name in wanted})
            for name, who in wanted.items():
                await user.patch(GREETINGS, name, namespace, patch={"spec": {"who": who}})
            await until(done, f"all are greeted anew, round {rounds}")
    assert len(kube_api.faults.injected) == 25


@pytest.mark.kube_crds(CRD)
async def test_the_sample_operator_comes_through_a_restart(kube_api: KubeApi) -> None:
    manager = Manager(kube_api.client("manager/1"), clock=CLOCK)
    sample_operator().setup(manager)
    user, namespace = kube_api.client("user/1"), kube_api.namespace
    wanted = {"a": "before"}

    async def done() -> bool:
        return await wrong_greetings(user, namespace, wanted) == []

    async with running(manager.run()):
        await user.create(GREETINGS, greeting("a", namespace, "before"))
        await until(done, "greeted")
        await kube_api.restart(outage=0.5)
        wanted = {"a": "before", "b": "after"}
        await user.create(GREETINGS, greeting("b", namespace, "after"))
        await until(done, "greeted after the restart")
        maps = await user.list(CONFIGMAPS, namespace)
    assert sorted(each["metadata"]["name"] for each in maps if each["metadata"].get("ownerReferences")) == [
        "greeting-a",
        "greeting-b",
    ]


async def test_a_write_whose_answer_was_lost_is_found_and_not_repeated_blindly(kube_api: KubeApi) -> None:
    kube_api.faults.add(Match(verb="create", resource="configmaps"), LoseAnswer())
    client = kube_api.client()
    body = {"metadata": {"name": "once", "namespace": kube_api.namespace}}
    with pytest.raises(TransportError):
        await client.create(CONFIGMAPS, body)
    with pytest.raises(AlreadyExists):
        await client.create(CONFIGMAPS, body)


class Contender:
    """One replica that wants to lead, written down turn by turn."""

    def __init__(self, api: KubeApi, name: str, turns: list[tuple[str, str]]) -> None:
        options = LeaderElectionOptions(
            "leader",
            api.namespace,
            identity=name,
            lease_duration=3.0,
            renew_deadline=2.0,
            retry_period=0.4,
        )
        self.name = name
        self._turns = turns
        self.elector = LeaderElector(api.client(f"contender-{name}/1"), options, CLOCK)

    async def run(self) -> None:
        try:
            while True:
                await self.elector.acquire()
                self._turns.append((self.name, "leads"))
                with contextlib.suppress(LeaderElectionLost):
                    await self.elector.renew()
                self._turns.append((self.name, "steps down"))
        finally:
            await self.elector.release()


async def test_a_leader_that_is_cut_off_steps_down_before_the_other_leads(kube_api: KubeApi) -> None:
    turns: list[tuple[str, str]] = []
    a, b = (Contender(kube_api, name, turns) for name in "ab")
    async with running(a.run()):
        await until(lambda: turns == [("a", "leads")], "a leads")
        async with running(b.run()):
            partition = kube_api.faults.partition(Match(user_agent="contender-a/*"))
            await until(lambda: ("b", "leads") in turns, "b leads")
            assert turns == [("a", "leads"), ("a", "steps down"), ("b", "leads")]
            assert not a.elector.is_leader
            partition.remove()
            await until(lambda: a.elector.holder == "b", "a sees who leads")
            await CLOCK.sleep(4)
            assert turns[3:] == [], "nobody takes the lease from b"
    assert partition.uses > 0
