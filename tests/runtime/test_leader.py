"""Leader election in virtual time: client-go's cases, with exact moments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from fakeapi import FakeApi
from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions, LeaderElector
from kaito.runtime.lease import duration_of, emptied, holder_of, taken
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import LEASES
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.transport import Request, Response

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
@pytest.mark.conforms("client-go leaderelection TestLeaderElectionConfigValidation")
def test_options_are_checked(
    change: Callable[[LeaderElectionOptions], LeaderElectionOptions], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        change(OPTIONS)


@pytest.mark.conforms("client-go leaderelection TestTryAcquireOrRenew: no object")
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


@pytest.mark.conforms("client-go leaderelection TestTryAcquireOrRenew: empty holder, seen")
async def test_a_released_lease_is_taken_at_once(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.put("", 1)
    await rig.elector.acquire()
    assert (virtual_clock.now(), rig.lease()["leaseTransitions"]) == (0.0, 5)


async def test_another_candidate_that_is_faster_is_no_failure(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(virtual_clock)
    rig.put("")

    def overtake(request: Request) -> None:
        if request.method == "PUT" and virtual_clock.now() == 0.0:
            rig.put("other", 7)

    rig.api.before = overtake
    with caplog.at_level("INFO"):
        await rig.elector.acquire()
    assert rig.lease()["holderIdentity"] == "me"
    assert virtual_clock.now() >= 7.0
    assert [each.message for each in caplog.records if each.levelname != "INFO"] == []


@pytest.mark.conforms(
    "client-go leaderelection TestTryAcquireOrRenew: held, run out by its own duration",
    "client-go leaderelection TestTryAcquireOrRenew: held, seen long ago",
)
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


async def test_a_label_is_no_sign_of_life(virtual_clock: VirtualClock) -> None:
    """Somebody labels the lease of a leader that is gone, again and again."""
    rig = Rig(virtual_clock)
    rig.put("other", 7)
    acquiring = asyncio.create_task(rig.elector.acquire())
    for second in range(1, 7):
        await virtual_clock.sleep(1)
        lease = rig.api.get(LEASES, "kaito", "kube-system")
        assert lease is not None
        rig.api.put(LEASES, {**lease, "metadata": {**lease["metadata"], "labels": {"seen": f"s{second}"}}})
    await acquiring
    assert virtual_clock.now() == 7.0


@pytest.mark.conforms("client-go leaderelection TestTryAcquireOrRenew: held, seen")
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


@pytest.mark.conforms(
    "client-go leaderelection TestTryAcquireOrRenew: renew",
    "client-go leaderelection TestFastPathLeaderElection",
)
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


@pytest.mark.conforms("client-go leaderelection TestFastPathLeaderElection: failure")
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


@pytest.mark.conforms("client-go leaderelection TestReleaseLease: ours")
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


@pytest.mark.conforms("client-go leaderelection TestReleaseLease: not ours")
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


@pytest.mark.conforms("client-go leaderelection HealthChecker")
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


@pytest.mark.conforms("client-go leaderelection TestTryAcquireOrRenew: empty record")
async def test_a_lease_without_a_record_is_taken(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.api.put(LEASES, {"metadata": {"name": "kaito", "namespace": "kube-system"}})
    await rig.elector.acquire()
    assert rig.verbs() == ["GET", "PUT"]
    assert (virtual_clock.now(), rig.lease()["holderIdentity"]) == (0.0, "me")
    assert rig.lease()["leaseTransitions"] == 1


@pytest.mark.conforms("client-go leaderelection TestReleaseLease: no object")
async def test_release_without_a_lease_does_nothing(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.release()
    assert rig.verbs() == ["GET"]
    assert virtual_clock.now() == 0.0


@pytest.mark.conforms("client-go leaderelection TestReleaseOnCancellation")
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_leader_stopped_in_mid_request_gives_the_lease_back(
    virtual_clock: VirtualClock, method: str
) -> None:
    """Whether the request under way was to read or to write."""
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    hanging = asyncio.Event()

    async def hang(request: Request) -> None:
        if request.method == "PUT" and method == "GET":
            raise ApiError("the fast path fails", status=500)
        if request.method == method and not hanging.is_set():
            hanging.set()
            await virtual_clock.sleep(1000)

    rig.api.before = hang
    renewing = asyncio.create_task(rig.elector.renew())
    await hanging.wait()
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    rig.api.before = None
    await rig.elector.release()
    assert rig.lease()["holderIdentity"] == ""
    assert [leading for _, leading in rig.changes] == [False, True, False]


async def test_release_tries_again_on_conflict(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await rig.elector.acquire()
    meddled = False

    def meddle(request: Request) -> None:
        nonlocal meddled
        if request.method == "PUT" and not meddled:
            meddled = True
            lease = rig.api.get(LEASES, "kaito", "kube-system")
            assert lease is not None
            rig.api.put(LEASES, {**lease, "metadata": {**lease["metadata"], "labels": {"a": "b"}}})

    rig.api.before = meddle
    await rig.elector.release()
    assert rig.lease()["holderIdentity"] == ""
    assert rig.verbs()[2:] == ["GET", "PUT", "GET", "PUT"]


@pytest.mark.conforms("client-go leaderelection TestCheckMethodRace")
async def test_health_passes_for_one_who_never_led_and_after_the_end(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await virtual_clock.sleep(10_000)
    rig.elector.check()
    await rig.elector.acquire()
    await rig.elector.release()
    await virtual_clock.sleep(10_000)
    rig.elector.check()


@pytest.mark.conforms("client-go leaderelection Lease round trip")
def test_what_is_not_ours_in_a_lease_stays() -> None:
    wall = datetime(2026, 1, 1, tzinfo=UTC)
    lease = {
        "metadata": {"name": "kaito", "namespace": "n", "labels": {"a": "b"}, "resourceVersion": "7"},
        "spec": {"holderIdentity": "other", "leaseTransitions": 4, "strategy": "OldestEmulationVersion"},
    }
    mine = taken(lease, OPTIONS, wall)
    assert mine["metadata"] == lease["metadata"]
    assert mine["spec"]["strategy"] == "OldestEmulationVersion"
    assert mine["spec"]["leaseTransitions"] == 5
    assert (holder_of(mine), duration_of(mine)) == ("me", 15.0)
    given_back = emptied(mine, wall)
    assert given_back["metadata"] == lease["metadata"]
    assert given_back["spec"]["leaseTransitions"] == 5
    assert (holder_of(given_back), duration_of(given_back)) == ("", 1.0)
    assert (holder_of({"spec": None}), duration_of({})) == ("", 0.0)
    assert (
        taken({"metadata": {"name": "x"}, "spec": {}}, replace(OPTIONS, lease_duration=15.2), wall)["spec"][
            "leaseDurationSeconds"
        ]
        == 16
    )


class OwnSession(MemoryTransport):
    """Has sessions that can be told apart."""

    def __init__(self, api: FakeApi, clock: VirtualClock) -> None:
        super().__init__(api.handle, clock)
        self.api, self.clock = api, clock
        self.separated: list[OwnSession] = []

    def separate(self) -> MemoryTransport:
        self.separated.append(OwnSession(self.api, self.clock))
        return self.separated[-1]


async def test_a_saturated_client_does_not_cost_the_lease(virtual_clock: VirtualClock) -> None:
    """The elector has its own session, opened for it and closed at the end, however it ends."""

    class Saturated(OwnSession):
        async def send(
            self, request: Request, *, timeout: float | None = None, stream: bool = False
        ) -> Response:
            raise TransportError("no connection free")

    api = FakeApi(virtual_clock)
    parent = Saturated(api, virtual_clock)
    elector = LeaderElector(Client(parent, clock=virtual_clock), OPTIONS, virtual_clock)
    await elector.acquire()
    renewing = asyncio.create_task(elector.renew())
    await virtual_clock.sleep(100)
    assert elector.is_leader
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    (own,) = parent.separated
    assert not own._closed
    await elector.release()
    assert own._closed
    assert not parent._closed
    lease = api.get(LEASES, "kaito", "kube-system")
    assert lease is not None
    assert holder_of(lease) == ""

    lost = LeaderElector(Client(parent, clock=virtual_clock), OPTIONS, virtual_clock)
    await lost.acquire()
    api.put(LEASES, {**lease, "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15}})
    with pytest.raises(LeaderElectionLost):
        await lost.renew()
    assert parent.separated[1]._closed


async def test_waiting_for_the_lease_again_opens_no_second_session(virtual_clock: VirtualClock) -> None:
    api = FakeApi(virtual_clock)
    parent = OwnSession(api, virtual_clock)
    elector = LeaderElector(Client(parent, clock=virtual_clock), OPTIONS, virtual_clock)
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 15}
    api.put(LEASES, {"metadata": {"name": "kaito", "namespace": "kube-system"}, "spec": spec})
    for _ in range(3):
        acquiring = asyncio.create_task(elector.acquire())
        await virtual_clock.sleep(3)
        acquiring.cancel()
        await asyncio.wait([acquiring])
        assert acquiring.cancelled()
    (own,) = parent.separated
    assert (own.open_streams, own._closed) == (0, False)
    await elector.release()
    assert own._closed
