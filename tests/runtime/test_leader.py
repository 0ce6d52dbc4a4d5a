"""Leader election in virtual time: client-go's cases, with exact moments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from fakeapi import FakeApi
from kaito.runtime.errors import ApiError
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions, LeaderElector
from kaito.runtime.resources import LEASES
from kaito.runtime.testing.virtual import VirtualClock

OPTIONS = LeaderElectionOptions("kaito", "kube-system", identity="me")


class NoJitter(Random):
    def random(self) -> float:
        return 0.0


class Rig:
    def __init__(self, clock: VirtualClock, options: LeaderElectionOptions = OPTIONS) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.changes: list[tuple[float, bool]] = []
        self.elector = LeaderElector(
            self.api.client(),
            options,
            clock,
            on_change=lambda leading: self.changes.append((clock.now(), leading)),
            random=NoJitter(),
        )

    def lease(self) -> dict[str, Any]:
        lease = self.api.get(LEASES, "kaito", "kube-system")
        assert lease is not None
        spec: dict[str, Any] = lease["spec"]
        return spec

    def put(self, holder: str, duration: int = 15, renewed: str = "2020-01-01T00:00:00.000000Z") -> None:
        self.api.put(
            LEASES,
            {
                "metadata": {"name": "kaito", "namespace": "kube-system"},
                "spec": {
                    "holderIdentity": holder,
                    "leaseDurationSeconds": duration,
                    "acquireTime": renewed,
                    "renewTime": renewed,
                    "leaseTransitions": 4,
                },
            },
        )

    def verbs(self) -> list[str]:
        return [method for method, _, _ in self.api.requests]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda o: replace(o, name=""), "name must not be empty"),
        (lambda o: replace(o, namespace=""), "namespace must not be empty"),
        (lambda o: replace(o, identity=""), "identity must not be empty"),
        (lambda o: replace(o, lease_duration=0.5), r"lease_duration \(0\.5 s\) must be at least 1"),
        (lambda o: replace(o, renew_deadline=0.0), r"renew_deadline \(0 s\) must be more than 0"),
        (lambda o: replace(o, retry_period=0.0), r"retry_period \(0 s\) must be more than 0"),
        (lambda o: replace(o, health_tolerance=-1), r"health_tolerance \(-1 s\) must not be negative"),
        (
            lambda o: replace(o, renew_deadline=15.0),
            r"lease_duration \(15 s\) must be longer than renew_deadline",
        ),
        (
            lambda o: replace(o, retry_period=9.0),
            r"renew_deadline \(10 s\) must be longer than 1\.2 times retry",
        ),
    ],
)
def test_options_are_checked(
    change: Callable[[LeaderElectionOptions], LeaderElectionOptions], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        change(OPTIONS)


async def test_no_lease_yet_is_created_at_once(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    assert rig.verbs() == ["GET", "POST"]
    assert rig.lease() == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }
    assert rig.changes == [(0.0, False), (0.0, True)]


async def test_a_released_lease_is_taken_at_once(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.put("", 1)
    await rig.elector.acquire()
    assert (virtual_clock.now(), rig.lease()["leaseTransitions"]) == (0.0, 5)


async def test_a_foreign_lease_is_believed_for_its_own_duration_from_when_we_saw_it(
    virtual_clock: VirtualClock,
) -> None:
    """Its times are years in the past or the future by our time of day; that must not matter."""
    for renewed in ("2020-01-01T00:00:00.000000Z", "2039-01-01T00:00:00.000000Z"):
        rig, start = Rig(virtual_clock), virtual_clock.now()
        rig.put("other", 7, renewed)
        await rig.elector.acquire()
        assert virtual_clock.now() - start == 7.0
        assert rig.lease()["holderIdentity"] == "me"
        assert rig.lease()["leaseTransitions"] == 5


async def test_a_foreign_lease_that_is_renewed_stays_foreign(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.put("other", 5)
    acquiring = asyncio.create_task(rig.elector.acquire())
    for second in range(1, 10):
        await virtual_clock.sleep(3)
        rig.put("other", 5, f"2020-01-01T00:00:0{second}.000000Z")
    assert rig.elector.holder == "other"
    assert not acquiring.done()
    await acquiring
    assert virtual_clock.now() == 32.0


async def test_renewing_keeps_acquire_time_and_transitions_and_needs_no_get(
    virtual_clock: VirtualClock,
) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    renewing = asyncio.create_task(rig.elector.renew())
    await virtual_clock.sleep(4.5)
    assert rig.verbs() == ["GET", "POST", "PUT", "PUT"]
    assert rig.lease()["renewTime"] == "2026-01-01T00:00:04.000000Z"
    assert rig.lease()["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert rig.lease()["leaseTransitions"] == 0
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)


async def test_the_fast_path_falls_back_to_reading_the_lease(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    lease = rig.api.get(LEASES, "kaito", "kube-system")
    assert lease is not None
    rig.api.put(LEASES, {**lease, "metadata": {**lease["metadata"], "labels": {"touched": "yes"}}})
    renewing = asyncio.create_task(rig.elector.renew())
    await virtual_clock.sleep(4.5)
    assert rig.verbs()[2:] == ["PUT", "GET", "PUT", "PUT"]
    assert rig.elector.is_leader
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)


async def test_a_leader_that_cannot_renew_steps_down_after_its_own_deadline(
    virtual_clock: VirtualClock,
) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()

    def fail(request: object) -> None:
        raise ApiError("out of order", status=500)

    rig.api.before = fail
    with pytest.raises(LeaderElectionLost, match="within 10 s"):
        await rig.elector.renew()
    assert virtual_clock.now() == 12.0
    assert rig.changes[-1] == (12.0, False)


async def test_a_leader_whose_server_hangs_steps_down_after_its_own_deadline(
    virtual_clock: VirtualClock,
) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    rig.api.before = lambda request: virtual_clock.sleep(1000)
    with pytest.raises(LeaderElectionLost):
        await rig.elector.renew()
    assert virtual_clock.now() == 12.0


async def test_a_leader_that_finds_another_holder_steps_down_at_once(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    rig.put("other")
    with pytest.raises(LeaderElectionLost, match="other holds the lease"):
        await rig.elector.renew()
    assert virtual_clock.now() == 2.0


async def test_release_empties_our_lease(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    await virtual_clock.sleep(3)
    await rig.elector.release()
    assert rig.lease() == {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": "2026-01-01T00:00:03.000000Z",
        "renewTime": "2026-01-01T00:00:03.000000Z",
        "leaseTransitions": 0,
    }
    assert rig.changes[-1] == (3.0, False)


async def test_release_leaves_a_lease_alone_that_is_not_ours(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.put("other")
    await rig.elector.release()
    assert rig.lease()["holderIdentity"] == "other"
    assert rig.api.writes() == []


async def test_release_gives_up_after_the_renew_deadline(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    rig.api.before = lambda request: virtual_clock.sleep(1000)
    await rig.elector.release()
    assert virtual_clock.now() <= 10.0
    assert not rig.elector.is_leader


async def test_health_fails_when_we_believe_to_lead_on_a_lease_that_ran_out(
    virtual_clock: VirtualClock,
) -> None:
    rig = Rig(virtual_clock)
    rig.elector.check()
    await rig.elector.acquire()
    await virtual_clock.sleep(15 + 20)
    rig.elector.check()
    await virtual_clock.sleep(1)
    with pytest.raises(LeaderElectionLost, match="renewed 36 s ago"):
        rig.elector.check()
