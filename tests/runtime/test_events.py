"""The event recorder: what arrives at the server, and what does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from random import Random
from typing import Any

import orjson
import pytest

from fakeapi import FakeApi
from kaito.runtime.errors import Forbidden, TransportError
from kaito.runtime.events import EventOptions, EventRecorder
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import EVENTS, NODES, PODS
from kaito.runtime.testing.virtual import VirtualClock

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u1"}}

DEFAULTS = EventOptions()


class Rig:
    def __init__(self, clock: VirtualClock, options: EventOptions = DEFAULTS) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.recorder = EventRecorder(self.api.client(), "tester", clock, options=options, random=Random(1))
        self.task = asyncio.create_task(self.recorder.run())

    async def settle(self) -> list[dict[str, Any]]:
        await self.clock.sleep(0.001)
        return self.api.all(EVENTS)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def rig(virtual_clock: VirtualClock) -> AsyncIterator[Rig]:
    rig = Rig(virtual_clock)
    yield rig
    await rig.stop()


async def test_an_event_names_its_object(rig: Rig) -> None:
    rig.recorder.event(POD, "Warning", "Broken", "it broke")
    (event,) = await rig.settle()
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "web",
        "namespace": "shop",
        "uid": "u1",
    }
    assert event["metadata"]["name"].startswith("web.")
    assert int(event["metadata"]["name"].split(".")[1], 16) == 1_767_225_600 * 10**9
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "Broken", "it broke")
    assert (event["count"], event["firstTimestamp"]) == (1, "2026-01-01T00:00:00Z")
    assert event["source"] == {"component": "tester"}


@pytest.mark.conforms("client-go record TestEventfNoNamespace")
async def test_events_of_cluster_scoped_objects_live_in_default(rig: Rig) -> None:
    node = CachedObject.from_dict({"metadata": {"name": "n1", "uid": "u2"}}, NODES)
    rig.recorder.event(node, "Normal", "Joined", "hello")
    (event,) = await rig.settle()
    assert event["metadata"]["namespace"] == "default"
    assert event["involvedObject"]["kind"] == "Node"


async def test_a_repeated_event_counts_up(rig: Rig) -> None:
    rig.recorder.event(POD, "Normal", "Pulled", "image there")
    await rig.clock.sleep(60)
    rig.recorder.event(POD, "Normal", "Pulled", "image there")
    (event,) = await rig.settle()
    assert (event["count"], event["firstTimestamp"], event["lastTimestamp"]) == (
        2,
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:01:00Z",
    )


@pytest.mark.conforms("client-go record TestUpdateExpiredEvent")
async def test_a_repeated_event_that_is_gone_is_made_again(rig: Rig) -> None:
    rig.recorder.event(POD, "Normal", "Pulled", "image there")
    (event,) = await rig.settle()
    rig.api.remove(EVENTS, event["metadata"]["name"], "shop")
    rig.recorder.event(POD, "Normal", "Pulled", "image there")
    (event,) = await rig.settle()
    assert event["count"] == 1


async def test_many_similar_events_become_one(rig: Rig) -> None:
    for number in range(15):
        rig.recorder.event(POD, "Warning", "Failed", f"try {number}")
        await rig.clock.sleep(1)
    events = await rig.settle()
    combined = [event for event in events if event["message"].startswith("(combined from similar events): ")]
    assert len(events) == 11
    assert [(event["message"], event["count"]) for event in combined] == [
        ("(combined from similar events): try 14", 5)
    ]


async def test_similar_events_are_told_apart_again_after_ten_quiet_minutes(rig: Rig) -> None:
    for number in range(11):
        rig.recorder.event(POD, "Warning", "Failed", f"try {number}")
    await rig.clock.sleep(601)
    rig.recorder.event(POD, "Warning", "Failed", "much later")
    assert any(event["message"] == "much later" for event in await rig.settle())


@pytest.mark.conforms("client-go record TestEventSpamFilter: burst")
async def test_an_object_that_floods_is_cut_off_and_comes_back(rig: Rig) -> None:
    for number in range(60):
        rig.recorder.event(POD, "Normal", f"Reason{number}", "x")
    assert len(await rig.settle()) == 25
    other = {**POD, "metadata": {"name": "other", "namespace": "shop", "uid": "u9"}}
    rig.recorder.event(other, "Normal", "Fine", "x")
    assert len(await rig.settle()) == 26
    await rig.clock.sleep(300)
    rig.recorder.event(POD, "Normal", "Again", "x")
    rig.recorder.event(POD, "Normal", "TooMuch", "x")
    assert len(await rig.settle()) == 27


@pytest.mark.conforms("client-go record TestWriteEventError: unreachable")
async def test_without_an_answer_it_tries_twelve_times(rig: Rig) -> None:
    tries: list[float] = []

    def refuse(request: object) -> None:
        tries.append(rig.clock.now())
        raise TransportError("connection refused")

    rig.api.before = refuse
    rig.recorder.event(POD, "Normal", "Lost", "x")
    await rig.clock.sleep(500)
    assert len(tries) == 12
    assert 0 < tries[1] < 10
    assert [round(b - a, 6) for a, b in pairwise(tries[1:])] == [10.0] * 10
    rig.api.before = None
    rig.recorder.event(POD, "Normal", "Fine", "x")
    assert [event["reason"] for event in await rig.settle()] == ["Fine"]


@pytest.mark.conforms("client-go record TestWriteEventError: refused")
async def test_what_the_server_refuses_is_not_tried_again(rig: Rig) -> None:
    tries: list[float] = []

    def refuse(request: object) -> None:
        tries.append(rig.clock.now())
        raise Forbidden("no")

    rig.api.before = refuse
    rig.recorder.event(POD, "Normal", "Lost", "x")
    await rig.clock.sleep(500)
    assert tries == [0.0]


async def test_recording_never_waits_and_a_full_queue_drops(rig: Rig) -> None:
    rig.api.before = lambda request: rig.clock.sleep(3600)
    for number in range(1100):
        other = {**POD, "metadata": {"name": f"p{number}", "namespace": "shop"}}
        rig.recorder.event(other, "Normal", "Many", "x")
    rig.api.before = None
    assert len(await rig.settle()) <= 1000


async def test_what_waits_at_the_end_is_still_written(rig: Rig) -> None:
    for number in range(20):
        rig.recorder.event(POD, "Normal", f"R{number}", "x")
    await rig.stop()
    assert len(rig.api.all(EVENTS)) == 20


async def test_a_server_that_hangs_does_not_hold_up_the_end(rig: Rig) -> None:
    rig.api.before = lambda request: rig.clock.sleep(3600)
    rig.recorder.event(POD, "Normal", "Stuck", "x")
    await rig.clock.sleep(1)
    await rig.stop()
    assert rig.clock.now() == 3.0


async def test_long_messages_are_cut_and_types_are_checked(rig: Rig) -> None:
    rig.recorder.event(CachedObject.from_dict(POD, PODS), "Normal", "Long", "x" * 5000)
    (event,) = await rig.settle()
    assert len(event["message"]) == 1024
    with pytest.raises(ValueError, match="Normal or Warning"):
        rig.recorder.event(POD, "Odd", "R", "x")  # type: ignore[arg-type]


@pytest.mark.conforms("client-go record TestEventSpamFilter: custom key")
async def test_the_spam_filter_may_count_by_something_else(virtual_clock: VirtualClock) -> None:
    options = EventOptions(
        burst=2, refill_interval=10.0, spam_key=lambda regarding, type, reason: (type, reason)
    )
    rig = Rig(virtual_clock, options)
    for number in range(4):
        other = {**POD, "metadata": {"name": f"p{number}", "namespace": "shop"}}
        rig.recorder.event(other, "Normal", "Pulled", "x")
        rig.recorder.event(other, "Normal", f"Other{number}", "x")
    names = [event["involvedObject"]["name"] for event in await rig.settle() if event["reason"] == "Pulled"]
    assert names == ["p0", "p1"]
    assert len(rig.api.all(EVENTS)) == 2 + 4
    await virtual_clock.sleep(10)
    rig.recorder.event(POD, "Normal", "Pulled", "x")
    assert len(await rig.settle()) == 7
    await rig.stop()


async def test_tries_do_not_use_up_the_spam_filter(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, EventOptions(burst=2))
    failures = 10

    def refuse(request: object) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise TransportError("connection refused")

    rig.api.before = refuse
    for reason in ("One", "Two", "TooMuch"):
        rig.recorder.event(POD, "Normal", reason, "x")
    await virtual_clock.sleep(500)
    assert [event["reason"] for event in rig.api.all(EVENTS)] == ["One", "Two"]
    await rig.stop()


@pytest.mark.conforms("client-go record TestWriteEventError: cannot be sent")
async def test_what_cannot_be_sent_is_dropped_at_once(rig: Rig) -> None:
    rig.recorder.event(POD, "Normal", "Odd", "half a character: \ud800")
    rig.recorder.event(POD, "Normal", "Fine", "x")
    assert [event["reason"] for event in await rig.settle()] == ["Fine"]
    assert rig.api.writes() == ["POST /api/v1/namespaces/shop/events"]


@pytest.mark.conforms("client-go record TestWriteEventError: success ends it")
async def test_the_first_answer_ends_the_tries(rig: Rig) -> None:
    tries: list[float] = []

    def refuse(request: object) -> None:
        tries.append(rig.clock.now())
        if len(tries) < 5:
            raise TransportError("connection refused")

    rig.api.before = refuse
    rig.recorder.event(POD, "Normal", "Late", "x")
    await rig.clock.sleep(500)
    assert len(tries) == 5
    assert len(rig.api.all(EVENTS)) == 1


@pytest.mark.conforms("client-go record TestCancelEvent")
async def test_the_end_does_not_wait_for_the_next_try(rig: Rig) -> None:
    def refuse(request: object) -> None:
        raise TransportError("connection refused")

    rig.api.before = refuse
    rig.recorder.event(POD, "Normal", "Lost", "x")
    await rig.clock.sleep(15)
    await rig.stop()
    assert rig.clock.now() == 15.0


@pytest.mark.conforms("client-go record TestLotsOfEvents", "client-go record TestMultiSinkCache")
async def test_a_thousand_events_that_fail_four_times_each_reach_both_sinks(
    virtual_clock: VirtualClock,
) -> None:
    rigs = [Rig(virtual_clock), Rig(virtual_clock)]
    failed: dict[tuple[int, str], int] = {}

    def flaky(which: int) -> None:
        def refuse(request: Any) -> None:
            name = orjson.loads(request.body)["involvedObject"]["name"]
            failed[which, name] = failed.get((which, name), 0) + 1
            if failed[which, name] <= 4:
                raise TransportError("connection refused")

        rigs[which].api.before = refuse

    for which, rig in enumerate(rigs):
        flaky(which)
        for number in range(1000):
            other = {**POD, "metadata": {"name": f"p{number}", "namespace": "shop"}}
            rig.recorder.event(other, "Normal", "Many", "x")
    await virtual_clock.sleep(1000 * 4 * 10.0)
    for rig in rigs:
        names = {event["involvedObject"]["name"] for event in rig.api.all(EVENTS)}
        assert names == {f"p{number}" for number in range(1000)}
        assert len(rig.api.all(EVENTS)) == 1000
        await rig.stop()


@pytest.mark.conforms("client-go record TestBroadcasterShutdown", "client-go record TestNonRacyShutdown")
async def test_the_end_leaves_no_task_and_writes_what_waits(virtual_clock: VirtualClock) -> None:
    before = asyncio.all_tasks()
    rig = Rig(virtual_clock)
    rig.api.before = lambda request: virtual_clock.sleep(0.01)
    await virtual_clock.sleep(0.001)
    for number in range(100):
        other = {**POD, "metadata": {"name": f"p{number}", "namespace": "shop"}}
        rig.recorder.event(other, "Normal", "Many", "x")
    await virtual_clock.sleep(0.055)
    await rig.stop()
    assert {event["involvedObject"]["name"] for event in rig.api.all(EVENTS)} == {f"p{n}" for n in range(100)}
    assert asyncio.all_tasks() == before
    rig.recorder.event(POD, "Normal", "After", "nobody writes this, and nobody waits")
    await virtual_clock.sleep(10)
    assert len(rig.api.all(EVENTS)) == 100


@pytest.mark.conforms("client-go record TestGenerateEventName")
async def test_names_are_unique_and_valid(rig: Rig) -> None:
    odd = {**POD, "metadata": {"name": "Not:A_DNS name", "namespace": "shop"}}
    for number in range(3):
        rig.recorder.event(POD, "Normal", f"R{number}", "x")
    rig.recorder.event(odd, "Normal", "R", "x")
    names = [event["metadata"]["name"] for event in await rig.settle()]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"web\.[0-9a-f]{16}", name) for name in names[:3])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", names[3])


async def test_a_related_object_is_named(rig: Rig) -> None:
    rig.recorder.event(
        POD, "Normal", "Bound", "to a node", related={"kind": "Node", "metadata": {"name": "n"}}
    )
    (event,) = await rig.settle()
    assert event["related"] == {"kind": "Node", "name": "n"}
