"""Trying again on Conflict, and create-or-update, with exact waits."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from fakeapi import FakeApi
from kaito.runtime.conflicts import (
    DEFAULT_BACKOFF,
    Outcome,
    RetrySteps,
    create_or_patch,
    create_or_update,
    retry_on_conflict,
)
from kaito.runtime.errors import Conflict, NotFound
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS
from kaito.runtime.testing import VirtualClock


class FullJitter(Random):
    def random(self) -> float:
        return 1.0


class Flaky:
    """Fails so many times."""

    def __init__(self, clock: VirtualClock, times: int, error: Exception | None = None) -> None:
        self.clock = clock
        self.times = times
        self.error = error or Conflict("stale")
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(round(self.clock.now(), 6))
        if len(self.at) <= self.times:
            raise self.error
        return "written"


async def test_conflicts_are_tried_five_times_ten_milliseconds_apart(virtual_clock: VirtualClock) -> None:
    write = Flaky(virtual_clock, 4)
    assert await retry_on_conflict(write, virtual_clock, random=FullJitter()) == "written"
    assert write.at == [0, 0.011, 0.022, 0.033, 0.044]
    hopeless = Flaky(virtual_clock, 5)
    with pytest.raises(Conflict):
        await retry_on_conflict(hopeless, virtual_clock)
    assert len(hopeless.at) == 5


async def test_delays_grow_by_their_factor(virtual_clock: VirtualClock) -> None:
    write = Flaky(virtual_clock, 3)
    await retry_on_conflict(write, virtual_clock, steps=DEFAULT_BACKOFF, random=FullJitter())
    assert write.at == [0, 0.011, 0.066, 0.341]


async def test_other_errors_end_it_at_once(virtual_clock: VirtualClock) -> None:
    write = Flaky(virtual_clock, 1, NotFound("gone"))
    with pytest.raises(NotFound):
        await retry_on_conflict(write, virtual_clock)
    assert write.at == [0]
    once = Flaky(virtual_clock, 1)
    with pytest.raises(Conflict):
        await retry_on_conflict(once, virtual_clock, steps=RetrySteps(tries=1, delay=1))


def set_data(value: str) -> Callable[[dict[str, Any]], None]:
    def mutate(obj: dict[str, Any]) -> None:
        obj["data"] = {"k": value}

    return mutate


async def test_create_or_update_says_what_it_did(virtual_clock: VirtualClock) -> None:
    api = FakeApi(virtual_clock)
    client = api.client()
    done = []
    for value in ("1", "1", "2"):
        outcome, obj = await create_or_update(client, CONFIGMAPS, "a", "ns", mutate=set_data(value))
        done.append((outcome, obj["data"]))
    assert done == [
        (Outcome.CREATED, {"k": "1"}),
        (Outcome.UNCHANGED, {"k": "1"}),
        (Outcome.UPDATED, {"k": "2"}),
    ]
    assert [method for method, _, _ in api.requests] == ["GET", "POST", "GET", "GET", "PUT"]


async def test_an_update_of_what_has_changed_meanwhile_is_a_conflict(virtual_clock: VirtualClock) -> None:
    api = FakeApi(virtual_clock)
    client = api.client()
    await create_or_update(client, CONFIGMAPS, "a", "ns", mutate=set_data("1"))
    tries = 0

    def meddled(obj: dict[str, Any]) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            other = api.get(CONFIGMAPS, "a", "ns")
            assert other is not None
            api.put(CONFIGMAPS, {**other, "data": {"k": "other"}})
        obj["data"] = {**obj["data"], "mine": "yes"}

    async def write() -> Outcome:
        return (await create_or_update(client, CONFIGMAPS, "a", "ns", mutate=meddled))[0]

    assert await retry_on_conflict(write, virtual_clock) is Outcome.UPDATED
    written = api.get(CONFIGMAPS, "a", "ns")
    assert written is not None
    assert (tries, written["data"]) == (2, {"k": "other", "mine": "yes"})


async def test_create_or_patch_writes_object_and_status_apart(virtual_clock: VirtualClock) -> None:
    api = FakeApi(virtual_clock)
    client = api.client()

    async def write(replicas: int, ready: int) -> Outcome:
        def mutate(obj: dict[str, Any]) -> None:
            obj["spec"] = {"replicas": replicas}
            obj["status"] = {"readyReplicas": ready}

        return (await create_or_patch(client, DEPLOYMENTS, "d", "ns", mutate=mutate))[0]

    outcomes = [await write(1, 0), await write(1, 0), await write(2, 0), await write(2, 1), await write(3, 2)]
    assert outcomes == [
        Outcome.CREATED,
        Outcome.UNCHANGED,
        Outcome.UPDATED,
        Outcome.UPDATED_STATUS_ONLY,
        Outcome.UPDATED_STATUS,
    ]
    written = api.get(DEPLOYMENTS, "d", "ns")
    assert written is not None
    assert (written["spec"], written["status"]) == ({"replicas": 3}, {"readyReplicas": 2})


@pytest.mark.parametrize("helper", [create_or_update, create_or_patch])
async def test_mutate_must_leave_the_identity_alone(virtual_clock: VirtualClock, helper: Any) -> None:
    def rename(obj: dict[str, Any]) -> None:
        obj["metadata"]["name"] = "b"

    with pytest.raises(ValueError, match="must not change name or namespace of configmaps 'a'"):
        await helper(FakeApi(virtual_clock).client(), CONFIGMAPS, "a", "ns", mutate=rename)
