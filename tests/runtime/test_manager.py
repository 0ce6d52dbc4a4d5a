"""The manager in virtual time: order of start and stop, failures, leader election; signals in a real process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import pytest

from fakeapi import FakeApi
from kaito.runtime.cache import CacheOptions
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.errors import ApiError
from kaito.runtime.events import EventRecorder
from kaito.runtime.groups import Group
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, EVENTS, LEASES, ObjectKey
from kaito.runtime.result import Result
from kaito.runtime.testing.virtual import VirtualClock

LEASE = LeaderElectionOptions("kaito", "kube-system", identity="me")


class Diary:
    """Runnables that note when they start and stop."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.entries: list[str] = []

    def note(self, text: str) -> None:
        self.entries.append(f"{self.clock.now():g} {text}")

    def runnable(self, name: str, *, elected: bool, linger: float = 0.0, fail: float | None = None) -> Any:
        return _Noting(self, name, elected, linger, fail)


class _Noting:
    def __init__(self, diary: Diary, name: str, elected: bool, linger: float, fail: float | None) -> None:
        self.diary, self.name, self.linger, self.fail = diary, name, linger, fail
        self.needs_leader_election = elected

    async def run(self) -> None:
        self.diary.note(f"{self.name} starts")
        try:
            await self.diary.clock.sleep(1e6 if self.fail is None else self.fail)
            raise ValueError(f"{self.name} broke")
        finally:
            await self.diary.clock.sleep(self.linger)
            self.diary.note(f"{self.name} ends")


class Rig:
    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.manager = Manager(self.api.client(), clock=clock, options=ManagerOptions(**options))
        self.diary = Diary(clock)
        self.stop = asyncio.Event()

    async def run_for(self, seconds: float) -> None:
        self.clock.call_later(seconds, self.stop.set)
        await self.manager.run(self.stop)

    def lease(self) -> dict[str, Any]:
        lease = self.api.get(LEASES, "kaito", "kube-system")
        assert lease is not None
        spec: dict[str, Any] = lease["spec"]
        return spec


@pytest.mark.conforms(
    "controller-runtime manager should start caches first",
    "controller-runtime manager should wait for runnables to stop",
    "controller-runtime manager should release the lease only after runnables ended",
    "controller-runtime manager should not return context.Canceled",
)
async def test_start_and_stop_in_order(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, leader_election=LEASE)
    rig.manager.cache.informer(CONFIGMAPS)

    async def slow_list(request: Any) -> None:
        if request.path.endswith("configmaps"):
            rig.diary.note("caches list")
            await virtual_clock.sleep(3)

    rig.api.before = slow_list
    rig.manager.add(rig.diary.runnable("elected", elected=True, linger=2))
    rig.manager.add(rig.diary.runnable("everywhere", elected=False, linger=1))
    await rig.run_for(10)
    assert rig.diary.entries == [
        "0 caches list",
        "3 everywhere starts",
        "3 elected starts",
        "11 everywhere ends",
        "13 elected ends",
    ]
    assert rig.lease()["holderIdentity"] == ""
    assert rig.lease()["renewTime"] == "2026-01-01T00:00:13.000000Z", "the lease is held until all has ended"


@pytest.mark.conforms("controller-runtime manager should return an error if any Components fail to Start")
async def test_the_first_error_ends_the_manager(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.manager.add(rig.diary.runnable("weak", elected=True, fail=5))
    rig.manager.add(rig.diary.runnable("late", elected=True, fail=6, linger=2))
    with pytest.raises(ValueError, match="weak broke"):
        await rig.manager.run()
    assert rig.diary.entries[2:] == ["5 weak ends", "7 late ends"]


class _Ending:
    """Ends with this exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.name = "ending"

    async def run(self) -> None:
        raise self.error


class _Odd(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (asyncio.CancelledError(), "ending ended as if cancelled, which nobody did"),
        (_Odd("odd"), "ending failed: odd"),
    ],
)
async def test_a_runnable_that_ends_oddly_ends_the_manager_too(
    virtual_clock: VirtualClock, error: BaseException, text: str
) -> None:
    """What runs on without one of its parts looks well and does nothing."""
    rig = Rig(virtual_clock)
    rig.manager.add(_Ending(error))
    with pytest.raises(RuntimeError, match=text):
        await rig.run_for(100)
    assert virtual_clock.now() == 0.0


async def test_a_failure_while_stopping_is_told_in_the_log(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy:
        async def run(self) -> None:
            try:
                await virtual_clock.sleep(1e6)
            finally:
                raise ValueError("could not tidy up")

    rig = Rig(virtual_clock)
    rig.manager.add(Clumsy())
    await rig.run_for(1)
    assert caplog.text.count("failed while stopping") == caplog.text.count("could not tidy up") == 1
    del rig
    gc.collect()
    await virtual_clock.sleep(0)
    assert "never retrieved" not in caplog.text


async def test_a_manager_can_be_cancelled_while_it_starts(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.api.before = lambda request: virtual_clock.sleep(1e5)
    rig.manager.add(Controller("slow", nothing, primary=DEPLOYMENTS))
    rig.manager.add(Controller("early", nothing, primary=DEPLOYMENTS))
    task = asyncio.create_task(rig.manager.run())
    await virtual_clock.sleep(50)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert virtual_clock.now() == 50.0


async def nothing(key: ObjectKey) -> Result | None:
    return None


@pytest.mark.conforms(
    "controller-runtime manager should return an error if runnables do not stop in time",
    "controller-runtime manager should not wait with a graceful timeout of 0",
    "controller-runtime manager should wait forever with a negative graceful timeout",
)
@pytest.mark.parametrize(
    ("grace", "ends", "error"),
    [
        (30.0, 40.0, "not everything ended within the grace period of 30 s: stubborn"),
        (0.0, 10.0, ""),
        (-1.0, 110.0, ""),
    ],
)
async def test_the_grace_period(virtual_clock: VirtualClock, grace: float, ends: float, error: str) -> None:
    rig = Rig(virtual_clock, grace_period=grace)
    rig.manager.add(rig.diary.runnable("stubborn", elected=True, linger=100))
    if error:
        with pytest.raises(TimeoutError, match=error):
            await rig.run_for(10)
    else:
        await rig.run_for(10)
    assert virtual_clock.now() == ends


@pytest.mark.conforms(
    "controller-runtime manager should return both the error of a component and of the stop"
)
async def test_an_error_and_an_unclean_stop_are_both_told(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.manager.add(rig.diary.runnable("weak", elected=True, fail=5))
    rig.manager.add(rig.diary.runnable("stubborn", elected=True, linger=100))
    with pytest.raises(ExceptionGroup) as caught:
        await rig.manager.run()
    assert [type(error) for error in caught.value.exceptions] == [ValueError, TimeoutError]


@pytest.mark.conforms("controller-runtime manager should disable the grace period when the lease is lost")
@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
async def test_a_lost_lease_ends_the_manager_without_grace(virtual_clock: VirtualClock, hangs: bool) -> None:
    rig = Rig(virtual_clock, leader_election=LEASE)
    rig.manager.add(rig.diary.runnable("elected", elected=True, linger=100))

    async def fail(request: Any) -> None:
        if virtual_clock.now() > 1:
            if hangs:
                await virtual_clock.sleep(1e6)
            raise ApiError("out of order")

    rig.api.before = fail
    with pytest.raises(LeaderElectionLost):
        await rig.manager.run()
    assert virtual_clock.now() < 15.0, "another replica may lead from second 15 on"


@pytest.mark.conforms(
    "controller-runtime manager should never start the leader election group when stopped before leading"
)
async def test_a_replica_that_does_not_lead_waits_and_starts_nothing_late(
    virtual_clock: VirtualClock,
) -> None:
    rig = Rig(virtual_clock, leader_election=LEASE)
    rig.api.put(
        LEASES,
        {
            "metadata": {"name": "kaito", "namespace": "kube-system"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 1000},
        },
    )
    rig.manager.add(rig.diary.runnable("elected", elected=True))
    rig.manager.add(rig.diary.runnable("everywhere", elected=False))
    await rig.run_for(60)
    assert rig.diary.entries == ["0 everywhere starts", "60 everywhere ends"]
    assert rig.manager.metrics.leader == {"kaito": False}
    assert rig.lease()["holderIdentity"] == "other"


async def test_becoming_and_ceasing_to_be_leader_is_told_in_events(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, leader_election=LEASE)
    await rig.run_for(5)
    messages = [event["message"] for event in rig.api.all(EVENTS)]
    assert messages == ["me became leader", "me stopped leading"]


@pytest.mark.conforms(
    "controller-runtime manager should refuse to add a runnable during stop",
    "controller-runtime manager should fail if started twice",
    "controller-runtime manager should start runnables added after start at once",
)
async def test_what_is_added_while_running_starts_at_once_and_afterwards_not_at_all(
    virtual_clock: VirtualClock,
) -> None:
    rig = Rig(virtual_clock)
    virtual_clock.call_later(4, lambda: rig.manager.add(rig.diary.runnable("late", elected=True)))
    await rig.run_for(10)
    assert rig.diary.entries == ["4 late starts", "10 late ends"]
    with pytest.raises(RuntimeError, match="is stopping"):
        rig.manager.add(rig.diary.runnable("too late", elected=True))
    with pytest.raises(RuntimeError, match="make a new one"):
        await rig.manager.run()


async def test_a_runnable_says_in_which_group_it_runs(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    for group in Group:
        runnable = rig.diary.runnable(group.name.lower(), elected=True)
        runnable.group = group
        rig.manager.add(runnable)
    await rig.run_for(10)
    assert sorted(rig.diary.entries[:6]) == sorted(f"0 {group.name.lower()} starts" for group in Group)
    assert rig.diary.entries[6:] == [
        "10 every_replica ends",
        "10 warmup ends",
        "10 leader ends",
        "10 caches ends",
        "10 webhooks ends",
        "10 servers ends",
    ]


async def test_later_groups_start_when_earlier_ones_are_ready(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.manager.cache.informer(CONFIGMAPS)
    rig.api.before = lambda request: rig.diary.note("caches list") if "configmaps" in request.path else None
    for group, seconds in ((Group.SERVERS, 2), (Group.WEBHOOKS, 3)):
        runnable = rig.diary.runnable(group.name.lower(), elected=True)
        runnable.group = group
        runnable.wait_ready = partial(virtual_clock.sleep, seconds)
        rig.manager.add(runnable)
    await rig.run_for(10)
    assert rig.diary.entries[:3] == ["0 servers starts", "2 webhooks starts", "5 caches list"]


async def test_what_ignores_every_cancellation_is_named_and_left_alone(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, grace_period=5)
    released = asyncio.Event()

    class Deaf:
        name = "deaf"

        async def run(self) -> None:
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()

    rig.manager.add(Deaf())
    with pytest.raises(TimeoutError, match="not everything ended within the grace period of 5 s: deaf"):
        await rig.run_for(10)
    assert virtual_clock.now() == 16.0
    released.set()


async def test_readiness_follows_the_caches(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, ready_cache_lag=30)
    rig.manager.cache.informer(CONFIGMAPS)
    down: list[Exception] = [ApiError("not yet")]

    def fail(request: Any) -> None:
        if down:
            raise down[0]

    def why() -> str:
        try:
            rig.manager._check_caches()
        except RuntimeError as error:
            return str(error)
        return ""

    rig.api.before = fail
    task = asyncio.create_task(rig.manager.run(rig.stop))
    await virtual_clock.sleep(1)
    assert why().startswith("configmaps has never been listed completely")
    down.clear()
    await virtual_clock.sleep(30)
    assert why() == ""
    down.append(ApiError("gone away"))
    for informer in rig.manager.cache.informers:
        informer.reselect(label_selector="a=b")
    await virtual_clock.sleep(29)
    assert why() == "", "a short trouble is none of the load balancer's business"
    await virtual_clock.sleep(31)
    assert "configmaps" in why()
    assert "could not be followed for" in why()
    down.clear()
    await virtual_clock.sleep(60)
    assert why() == ""
    rig.stop.set()
    await task


async def test_managers_that_share_a_client_hear_of_each_others_writes(virtual_clock: VirtualClock) -> None:
    heard: list[str] = []
    api = FakeApi(virtual_clock)
    client = api.client()
    client.on_write = before = lambda write: heard.append(write.key.name)
    first = Manager(client, clock=virtual_clock)
    second = Manager(client, clock=virtual_clock)
    stop = asyncio.Event()
    for manager in (first, second):
        manager.add(Controller("c", nothing, primary=CONFIGMAPS))
    await client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "n"}})
    for manager in (first, second):
        (controller,) = manager._controllers.values()
        assert controller._bound is not None
        assert list(controller._bound.consistency.unseen) == [ObjectKey("n", "a")]
    assert heard == ["a"]
    virtual_clock.call_later(5, stop.set)
    await second.run(stop)
    await first.run(stop)
    assert client.on_write is before, "nothing of a manager stays with the client"


async def test_the_cache_has_the_managers_options(virtual_clock: VirtualClock) -> None:
    told: list[str] = []
    cache = CacheOptions(on_error=lambda informer, error: told.append(f"{informer.resource}: {error}"))
    rig = Rig(virtual_clock, cache=cache)
    rig.manager.cache.informer(CONFIGMAPS)

    def fail(request: Any) -> None:
        if virtual_clock.now() < 1:
            raise ApiError("not yet")

    rig.api.before = fail
    await rig.run_for(10)
    assert told
    assert all(text.startswith("configmaps: ") and "not yet" in text for text in told)


async def test_controllers_have_names_of_their_own(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.manager.add(Controller("same", nothing, primary=DEPLOYMENTS))
    with pytest.raises(ValueError, match="named 'same' already"):
        rig.manager.add(Controller("same", nothing, primary=CONFIGMAPS))


async def test_controllers_inherit_the_managers_values(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, workers=4)
    rig.manager.add(Controller("heir", nothing, primary=DEPLOYMENTS))
    rig.manager.add(Controller("own", nothing, primary=DEPLOYMENTS, options=ControllerOptions(workers=2)))
    assert rig.manager.metrics.controller("heir").max_workers == 4
    assert rig.manager.metrics.controller("own").max_workers == 2


async def test_events_of_the_last_reconcile_are_written(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    recorder = EventRecorder(rig.manager.client, "tester", virtual_clock)
    rig.manager.add(recorder)
    tree = rig.api.put(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "n"}})

    async def reconcile(key: ObjectKey) -> Result | None:
        await virtual_clock.sleep(15)
        recorder.event(tree, "Normal", "Done", "just in time")
        return None

    rig.manager.add(Controller("c", reconcile, primary=CONFIGMAPS))
    await rig.run_for(10)
    assert [event["message"] for event in rig.api.all(EVENTS)] == ["just in time"]


async def test_requests_are_counted_by_themselves(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    rig.manager.add(Controller("c", nothing, primary=CONFIGMAPS))
    await rig.run_for(1)
    assert ("200", "GET", "memory") in rig.manager.metrics.rest.requests


@pytest.mark.conforms("controller-runtime manager should serve metrics and probes")
async def test_endpoints_over_sockets() -> None:
    clock = LoopClock()
    api = FakeApi(clock)
    options = ManagerOptions(health_address="127.0.0.1:0", metrics_address="127.0.0.1:0")
    manager = Manager(api.client(), clock=clock, options=options)
    manager.add(Controller("c", nothing, primary=CONFIGMAPS))
    gate, stop = asyncio.Event(), asyncio.Event()

    async def hold(request: Any) -> None:
        await gate.wait()

    api.before = hold
    task = asyncio.create_task(manager.run(stop))
    await _eventually(lambda: _port(manager) is not None)
    base = f"http://127.0.0.1:{manager.health_port}"
    assert manager.metrics_port == manager.health_port
    async with aiohttp.ClientSession() as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(base + path) as response:
                return response.status, await response.text()

        assert (await get("/healthz"))[0] == 200
        assert (await get("/readyz"))[0] == 500
        gate.set()
        await manager.cache.wait_synced()
        await _eventually(lambda: manager.metrics.controller("c").max_workers == 1)
        assert (await get("/readyz"))[0] == 200
        assert (
            'controller_runtime_max_concurrent_reconciles{controller="c"} 1.0' in (await get("/metrics"))[1]
        )
    stop.set()
    await task
    with pytest.raises(RuntimeError, match="not listening"):
        _ = manager.health_port


def _port(manager: Manager) -> int | None:
    try:
        return manager.health_port
    except RuntimeError:
        return None


async def _eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with LoopClock().timeout(10):
        while not condition():
            await LoopClock().sleep(0.005)


PROGRAM = """
import asyncio
from kaito.runtime.client import Client
from kaito.runtime.cache import CacheOptions
from kaito.runtime.clock import LoopClock
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import MemoryTransport

class Stubborn:
    async def run(self):
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("stopping", flush=True)
            if LINGER:
                await LoopClock().sleep(600)

async def main():
    clock = LoopClock()
    client = Client(MemoryTransport(None, clock=clock), clock=clock)
    manager = Manager(client, clock=clock, options=ManagerOptions(grace_period=600))
    manager.add(Stubborn())
    await manager.run_until_signal()
    print("clean", flush=True)

asyncio.run(main())
"""


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_cleanly(number: signal.Signals) -> None:
    with _program(linger=False) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "stopping\nclean\n"
        assert process.wait(10) == 0


@pytest.mark.processes
def test_the_second_signal_stops_at_once() -> None:
    with _program(linger=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 1


def _program(*, linger: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"LINGER = {linger}\n{PROGRAM}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
