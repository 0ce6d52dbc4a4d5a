"""Operators against `memory_api`: chaos, silence, outages and jumping clocks, at exact moments of virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from random import Random

import pytest

from kaito.runtime.errors import TransportError
from kaito.runtime.informer import Informer
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions, LeaderElector
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.reflector import Selection
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.testing import VirtualClock
from kaito.testing.faults import Answer, Chaos, HalfOpenWatch, Match, NoAnswer
from kaito.testing.memory_api import MemoryApi
from support.sample import CRD, GREETINGS, greeting, sample_operator, wrong_greetings


@contextlib.asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def names(informer: Informer) -> set[str]:
    return {each.meta.name for each in informer.lister.list()}


async def create(api: MemoryApi, name: str) -> None:
    await api.direct_client().create(CONFIGMAPS, {"metadata": {"name": name, "namespace": "default"}})


@pytest.mark.kube_crds(CRD)
@pytest.mark.parametrize("seed", range(6))
async def test_the_sample_operator_comes_through_chaos(
    memory_api: MemoryApi, virtual_clock: VirtualClock, seed: int
) -> None:
    menu = Match(user_agent="manager/*|sample-operator/*")
    chaos = memory_api.faults.stand(Chaos(seed, budget=40, rate=0.4, match=menu))
    manager = Manager(
        memory_api.client("manager/1"), clock=virtual_clock, options=ManagerOptions(workers=3, grace_period=1)
    )
    sample_operator().setup(manager)
    user = memory_api.direct_client("user")
    wanted = {f"g{number}": f"friend {number}" for number in range(5)}
    for name, who in wanted.items():
        await user.create(GREETINGS, greeting(name, "default", who))
    async with running(manager.run()):
        for turn in range(200):
            if chaos.spent:
                break
            wanted = {name: f"{name} in turn {turn}" for name in wanted}
            for name, who in wanted.items():
                await user.patch(GREETINGS, name, "default", patch={"spec": {"who": who}})
            await virtual_clock.sleep(20)
        await virtual_clock.sleep(300)
        assert chaos.spent
        assert await wrong_greetings(user, "default", wanted) == []
        maps = await user.list(CONFIGMAPS, "default")
        assert len([each for each in maps if each["metadata"].get("ownerReferences")]) == len(wanted)


async def test_a_half_open_watch_is_left_75_seconds_after_its_last_byte(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    # The first stream shows that this server sends bookmarks; the second one falls silent.
    memory_api.faults.add(Match(verb="watch"), HalfOpenWatch(), skip=1)
    informer = Informer(memory_api.client("operator/1"), Selection(CONFIGMAPS))
    async with running(informer.run()):
        await virtual_clock.sleep(100)
        memory_api.faults.cut(Match(verb="watch"))
        await virtual_clock.sleep(5)
        (silent,) = memory_api.faults.injected
        await create(memory_api, "unseen")
        await virtual_clock.sleep(silent.at + 74.9 - virtual_clock.now())
        assert names(informer) == set()
        await virtual_clock.sleep(5)
        assert names(informer) == {"unseen"}


async def test_an_outage_breaks_watches_and_refuses_for_as_long_as_it_lasts(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    informer = Informer(memory_api.client("operator/1"), Selection(CONFIGMAPS), draw=lambda: 0.0)
    async with running(informer.run()):
        await virtual_clock.sleep(10)
        restarting = asyncio.ensure_future(memory_api.restart(outage=30))
        await virtual_clock.sleep(1)
        with pytest.raises(TransportError, match="refused"):
            await memory_api.client().list(CONFIGMAPS)
        await create(memory_api, "meanwhile")
        await restarting
        assert virtual_clock.now() == 40
        assert names(informer) == set()
        await virtual_clock.sleep(30)
        assert names(informer) == {"meanwhile"}


class Contender:
    """A replica with a clock of its own."""

    def __init__(self, api: MemoryApi, name: str, turns: list[tuple[float, str, str]]) -> None:
        self.clock = VirtualClock()
        self._name = name
        self._turns = turns
        options = LeaderElectionOptions("leader", "default", identity=name)
        self.elector = LeaderElector(
            api.client(f"contender-{name}/1"), options, self.clock, random=Random(ord(name))
        )

    async def run(self) -> None:
        while True:
            await self.elector.acquire()
            self._turns.append((self.clock.now(), self._name, "leads"))
            with contextlib.suppress(LeaderElectionLost):
                await self.elector.renew()
            self._turns.append((self.clock.now(), self._name, "steps down"))


@pytest.mark.parametrize("how", ["refused", "silent", "503"])
async def test_a_leader_that_is_cut_off_steps_down_before_the_other_leads(
    memory_api: MemoryApi, virtual_clock: VirtualClock, how: str
) -> None:
    turns: list[tuple[float, str, str]] = []
    a, b = (Contender(memory_api, name, turns) for name in "ab")
    cut_off = Match(user_agent="contender-a/*")
    async with running(a.run()):
        await virtual_clock.sleep(1)
        async with running(b.run()):
            await virtual_clock.sleep(20)
            if how == "refused":
                rule = memory_api.faults.partition(cut_off)
            else:
                memory_api.faults.cut(cut_off)
                action = NoAnswer() if how == "silent" else Answer(503)
                rule = memory_api.faults.add(cut_off, action, times=None)
            begun = virtual_clock.now()
            await virtual_clock.sleep(60)
            assert [turn[1:] for turn in turns] == [("a", "leads"), ("a", "steps down"), ("b", "leads")]
            stepped_down, leads = turns[1][0], turns[2][0]
            assert stepped_down - begun <= 12, "renew deadline and one retry period"
            assert leads - begun >= 13, "not before the lease has run out"
            assert leads > stepped_down
            rule.remove()
            await virtual_clock.sleep(60)
            assert len(turns) == 3, "b keeps it"


@pytest.mark.parametrize("hours", [-48, 48])
async def test_the_time_of_day_of_a_replica_means_nothing(
    memory_api: MemoryApi, virtual_clock: VirtualClock, hours: int
) -> None:
    turns: list[tuple[float, str, str]] = []
    a, b = (Contender(memory_api, name, turns) for name in "ab")
    async with running(a.run()), running(b.run()):
        await virtual_clock.sleep(30)
        for contender in (a, b):
            contender.clock.jump_wall(hours * 3600)
            await virtual_clock.sleep(300)
    assert len(turns) == 1
