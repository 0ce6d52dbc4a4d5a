"""Managers on sockets: one leader at a time, events, and the sample operator from apply to garbage collection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import yaml

from kaito.runtime.events import EventRecorder
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS, EVENTS, LEASES
from support.cluster import GC_LIMIT, Object, Wire, World
from support.sample import CRD, GREETINGS, greeting, sample_operator

pytestmark = pytest.mark.needs("api")


class Work:
    """What only the leader may do; writes down when it begins and ends."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self._name = name
        self._diary = diary

    async def run(self) -> None:
        self._diary.append(f"{self._name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            self._diary.append(f"{self._name} ends")


async def test_one_leads_at_a_time_through_handover_and_failure(world: World) -> None:
    diary: list[str] = []
    wires = {name: Wire(world.backend) for name in "abc"}

    def replica(name: str) -> Manager:
        election = LeaderElectionOptions(
            "lock", world.namespace, identity=name, lease_duration=3.0, renew_deadline=2.0, retry_period=0.5
        )
        client = world.connect(name, name, wire=wires[name])
        options = ManagerOptions(leader_election=election, grace_period=2.0)
        manager = Manager(client, clock=world.clock, options=options)
        manager.add(Work(name, diary))
        return manager

    def came(line: str) -> Callable[[], bool]:
        return lambda: line in diary

    async def holder() -> str:
        lease = await world.client.get(LEASES, "lock", world.namespace)
        return str(lease["spec"].get("holderIdentity") or "")

    stop = asyncio.Event()
    first = asyncio.create_task(replica("b").run())
    await world.until(came("b begins"), "the first to come leads")
    assert await holder() == "b"
    async with world.running(replica("a")):
        await wires["b"].cut()
        await world.until(came("a begins"), "the other one takes over when the lease runs out")
        assert await holder() == "a"
        with pytest.raises(LeaderElectionLost):
            await first
        last = asyncio.create_task(replica("c").run(stop))
    await world.until(came("c begins"), "a clean stop hands over")
    assert await holder() == "c"
    stop.set()
    await last
    assert diary == ["b begins", "b ends", "a begins", "a ends", "c begins", "c ends"], "never two at a time"
    assert await holder() == "", "the last one gives the lease back"
    lease = await world.client.get(LEASES, "lock", world.namespace)
    assert lease["spec"]["leaseTransitions"] == 2


async def test_events_are_counted_up(world: World) -> None:
    made = await world.client.create(CONFIGMAPS, {"metadata": world.meta("a")})
    about = CachedObject.from_dict(made, CONFIGMAPS)
    manager = world.manager("reporter")
    recorder = EventRecorder(manager.client, "reporter", world.clock)
    manager.add(recorder)

    async def events() -> list[Object]:
        found = await world.client.list(
            EVENTS, world.namespace, field_selector="involvedObject.name=a,involvedObject.kind=ConfigMap"
        )
        return sorted(found, key=lambda each: str(each["reason"]))

    async def told() -> bool:
        return [(each["reason"], each.get("count")) for each in await events()] == [("Other", 1), ("Same", 3)]

    async with world.running(manager):
        for _ in range(3):
            recorder.event(about, "Warning", "Same", "it happened again")
        recorder.event(about, "Normal", "Other", "something else")
        await world.until(told, "two Events, one counted to three")
    (_, same) = await events()
    assert same["involvedObject"]["uid"] == made["metadata"]["uid"]
    assert (same["type"], same["message"], same["source"]["component"]) == (
        "Warning",
        "it happened again",
        "reporter",
    )


async def test_the_sample_operator(world: World) -> None:
    await world.define(yaml.safe_load(CRD.read_text()))
    manager = world.manager("sample-operator")
    sample_operator().setup(manager)
    client, space = world.client, world.namespace

    def sent() -> int:
        return sum(each.user_agent.startswith("sample-operator/") for each in world.requests)

    async def says(name: str, text: str) -> bool:
        found, made = await world.find(GREETINGS, name), await world.find(CONFIGMAPS, f"greeting-{name}")
        ready = {"ready": True, "message": text}
        return bool(made and found and made["data"] == {"greeting": text} and found.get("status") == ready)

    async with world.running(manager):
        await client.create(GREETINGS, greeting("hello", space, "world"))
        await world.until(lambda: says("hello", "Hello, world!"), "greeted")
        await client.patch(GREETINGS, "hello", space, patch={"spec": {"who": "you"}})
        await world.until(lambda: says("hello", "Hello, you!"), "greeted anew")
        await client.delete(CONFIGMAPS, "greeting-hello", space)
        await world.until(lambda: says("hello", "Hello, you!"), "what was deleted comes back")

        async def three_events() -> bool:
            return sum(each.get("count", 1) for each in await client.list(EVENTS, space)) == 3

        await world.until(three_events, "an event for each")
        await world.until(lambda: sent() >= 8, "three ConfigMaps, three events, two statuses, all answered")
        before = sent()
        await client.patch(GREETINGS, "hello", space, patch={"metadata": {"labels": {"touched": "yes"}}})
        seen = manager.cache.informer(GREETINGS)
        last = await client.create(GREETINGS, greeting("other", space, "us"))
        assert await seen.wait_seen(last["metadata"]["resourceVersion"], timeout=30)
        await world.until(lambda: says("other", "Hello, us!"), "the other one is greeted")
        await world.until(lambda: sent() >= before + 3, "ConfigMap, status and event of the other")
        mine = [each for each in world.requests if each.user_agent.startswith("sample-operator/")]
        assert sent() == before + 3, f"nothing more than these: {mine[before:]}"

        await client.delete(GREETINGS, "hello", space)
        await world.gone(CONFIGMAPS, "greeting-hello", GC_LIMIT)
        assert await says("other", "Hello, us!")
