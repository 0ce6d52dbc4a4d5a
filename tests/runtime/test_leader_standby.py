"""Several replicas and one lease: who leads when, to the moment, and never two at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakeapi import FakeApi
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import Forbidden, TransportError
from kaito.runtime.leader import LeaderElectionLost, LeaderElectionOptions, LeaderElector
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import LEASES
from kaito.runtime.testing import VirtualClock, run_virtual
from kaito.runtime.testing.virtual import JumpingClock
from kaito.runtime.transport import Request, Response, StreamedResponse


class Fixed(Random):
    """Draws always the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


class Terms:
    """Who led from when to when; `overlaps` are the moments in which a second one began to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.leading: set[str] = set()
        self.log: list[tuple[float, str, bool]] = []
        self.overlaps: list[tuple[float, list[str]]] = []

    def change(self, who: str, leading: bool) -> None:
        if leading == (who in self.leading):
            return
        self.log.append((round(self.clock.now(), 6), who, leading))
        (self.leading.add if leading else self.leading.discard)(who)
        if len(self.leading) > 1:
            self.overlaps.append((self.clock.now(), sorted(self.leading)))


class Replica:
    """One contender with its own connection, as a process would have it."""

    def __init__(
        self,
        name: str,
        handle: Callable[[Request], Awaitable[Response]],
        terms: Terms,
        random: Random,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.terms = terms
        self.clock = clock or terms.clock
        self.faults = FaultScript()
        self.transport = MemoryTransport(handle, self.clock, self.faults)
        options = LeaderElectionOptions("lease", "ns", identity=name)
        self.elector = LeaderElector(
            Client(self.transport, clock=self.clock),
            options,
            self.clock,
            on_change=lambda leading: terms.change(name, leading),
            random=random,
        )
        self.task = asyncio.create_task(self.run(), name=name)
        # That it loses is no news here.
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def run(self) -> None:
        await self.elector.acquire()
        await self.elector.renew()

    async def crash(self) -> None:
        """The process is gone: nothing is given back."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.terms.change(self.name, False)

    async def stop(self) -> None:
        """As a manager stops it."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.elector.release()


class World:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.terms = Terms(clock)
        self.replicas: list[Replica] = []

    async def start(self, name: str, draw: float = 0.0, clock: Clock | None = None) -> Replica:
        replica = Replica(name, self.api.handle, self.terms, Fixed(draw), clock)
        self.replicas.append(replica)
        await self.clock.sleep(0.001)  # so that the order is the one of the test
        return replica

    async def end(self) -> None:
        for replica in self.replicas:
            await replica.crash()


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncGenerator[World, None]:
    world = World(virtual_clock)
    yield world
    await world.end()
    assert world.terms.overlaps == []


def is_watch(request: Request) -> bool:
    return request.method == "GET" and ("watch", "1") in request.query


async def test_a_release_is_taken_over_at_once(world: World) -> None:
    first = await world.start("a")
    await world.start("b", draw=1.0)
    await world.clock.sleep(61 - world.clock.now())
    await first.stop()
    await world.clock.sleep(0.001)
    assert world.terms.log == [(0.0, "a", True), (61.0, "a", False), (61.0, "b", True)]


@pytest.mark.parametrize(("draw", "late"), [(0.0, 0.0), (1.0, 0.5)])
async def test_after_a_crash_the_lease_runs_out_first(world: World, draw: float, late: float) -> None:
    """The last renewal was at 60 s and lasts 15 s; then up to half a second of jitter."""
    first = await world.start("a")
    await world.start("b", draw=draw)
    await world.clock.sleep(61 - world.clock.now())
    await first.crash()
    await world.clock.sleep(30)
    assert world.terms.log[1:] == [(61.0, "a", False), (75.0 + late, "b", True)]


async def test_of_three_one_follows_and_the_other_waits_for_its_turn(world: World) -> None:
    """Which of the two is first does not matter: both try in the same moment."""
    first = await world.start("a")
    others = {name: await world.start(name, draw=0.5) for name in "bc"}
    await world.clock.sleep(61 - world.clock.now())
    await first.stop()
    await world.clock.sleep(100 - world.clock.now())
    (stopped, began) = world.terms.log[1:]
    assert stopped == (61.0, "a", False)
    at, second, _ = began
    (third,) = set(others) - {second}
    assert at == 61.0
    last_renewal = max(at + 2.0 * tries for tries in range(20) if at + 2.0 * tries <= 100)
    await others[second].crash()
    await world.clock.sleep(30)
    assert world.terms.log[3:] == [(100.0, second, False), (last_renewal + 15.25, third, True)]


async def test_three_that_start_together_agree_on_one(world: World) -> None:
    for name in "abc":
        replica = Replica(name, world.api.handle, world.terms, Fixed(0.5))
        world.replicas.append(replica)
    await world.clock.sleep(60)
    assert len(world.terms.log) == 1


async def test_a_standby_that_watches_asks_nothing(world: World) -> None:
    await world.start("a")
    before = len(world.api.requests)
    await world.start("b")
    await world.clock.sleep(200)
    assert [method for method, _, _ in world.api.requests[before:]].count("GET") == 1


@pytest.mark.parametrize("draw", [0.0, 1.0])
async def test_without_permission_to_watch_it_tries_from_time_to_time(world: World, draw: float) -> None:
    """Every 2 s, or 4.4 s with the most jitter: first try after the lease has run out."""

    def forbid(request: Request) -> None:
        if is_watch(request):
            raise Forbidden("leases is forbidden: cannot watch")

    world.api.before = forbid
    first = await world.start("a")
    await world.start("b", draw=draw)
    await world.clock.sleep(61 - world.clock.now())
    await first.crash()
    await world.clock.sleep(30)
    period = 2.0 * (1 + 1.2 * draw)
    after, who, leading = world.terms.log[-1]
    assert (who, leading) == ("b", True)
    assert 75.0 <= after <= 75.0 + period
    tries = round((after - 0.001) / period, 6)
    assert tries == int(tries)  # on the grid of the tries


async def test_a_watch_that_is_dropped_is_begun_again(world: World) -> None:
    dropped: list[float] = []

    def drop(request: Request) -> None:
        if is_watch(request) and not dropped:
            dropped.append(world.clock.now())
            raise TransportError("connection reset")

    world.api.before = drop
    first = await world.start("a")
    await world.start("b")
    await world.clock.sleep(61 - world.clock.now())
    await first.stop()
    await world.clock.sleep(0.01)
    assert dropped
    assert world.terms.log[-1] == (61.0, "b", True)


async def test_where_the_watch_is_taken_away_it_tries_from_time_to_time(world: World) -> None:
    """A watch that worked once is relied on no more when it broke and is refused."""
    allowed = True

    def forbid(request: Request) -> None:
        if is_watch(request) and not allowed:
            raise Forbidden("leases is forbidden: cannot watch")

    world.api.before = forbid
    first = await world.start("a")
    second = Replica("b", world.api.handle, world.terms, Fixed(0.0))
    world.replicas.append(second)
    second.faults.add(Fault(break_after=5), matches=is_watch)
    await world.clock.sleep(5)
    allowed = False
    await world.clock.sleep(7)  # five sights of the lease are over at 8
    assert world.terms.leading == {"a"}
    await first.stop()
    await world.clock.sleep(2)
    assert world.terms.leading == {"b"}, "found by trying, not at the end of the lease"


async def test_a_half_open_watch_does_no_harm(world: World) -> None:
    """It shows the lease once and then nothing for ever, while the leader goes on renewing."""
    silent: list[float] = []

    async def half_open(request: Request) -> Response:
        if not is_watch(request) or len(silent) >= 2:
            return await world.api.handle(request)
        silent.append(world.clock.now())
        response = await world.api.handle(request)

        async def first_only() -> AsyncGenerator[bytes, None]:
            async for chunk in response.chunks():
                yield chunk
                await world.clock.sleep(1e6)

        return StreamedResponse(200, first_only())

    first = await world.start("a")
    standby = Replica("b", half_open, world.terms, Fixed(0.0))
    world.replicas.append(standby)
    await world.clock.sleep(40 - world.clock.now())
    # Seen at 0, so the lease seems to run out at 15: it has been renewed, and the watch is not believed any more.
    assert world.terms.log == [(0.0, "a", True)]
    assert [round(at) for at in silent] == [0, 15]
    await world.clock.sleep(61 - world.clock.now())
    await first.stop()
    await world.clock.sleep(0.01)
    assert world.terms.log[-1] == (61.0, "b", True)


async def test_wall_clocks_that_jump_change_nothing(virtual_clock: VirtualClock) -> None:
    clock = JumpingClock()
    world = World(virtual_clock)
    await world.start("a")
    await world.start("b", clock=clock)
    for seconds in (-86400.0, 86400.0 * 365, -3600.0):
        clock.jump_wall(seconds)
        await virtual_clock.sleep(30)
    assert world.terms.log == [(0.0, "a", True)]
    await world.replicas[0].crash()
    started = virtual_clock.now()
    await virtual_clock.sleep(20)
    at, who, _ = world.terms.log[-1]
    assert who == "b"
    assert 13.0 <= at - started <= 15.0
    clock.jump_wall(-86400.0 * 1000)
    await virtual_clock.sleep(60)
    assert world.terms.log[-1] == (at, who, True)
    await world.end()


async def test_a_slow_renewal_counts_from_when_it_was_sent(world: World) -> None:
    """The server has it at once, the answer takes 4.9 s, then nothing comes: the lease ends 15 s after the sending."""
    slow = False

    async def handle(request: Request) -> Response:
        nonlocal slow
        if slow and request.method == "PUT":
            response = await world.api.handle(request)
            await world.clock.sleep(4.9)
            slow = False
            replica.faults.add(Fault(refuse="gone"), times=1000)
            return response
        return await world.api.handle(request)

    replica = Replica("a", handle, world.terms, Fixed(0.0))
    world.replicas.append(replica)
    await world.clock.sleep(0.001)
    await world.start("b")
    await world.clock.sleep(9)
    slow = True  # the renewal at 10
    await world.clock.sleep(30)
    assert world.terms.log == [(0.0, "a", True), (23.0, "a", False), (25.0, "b", True)]
    with pytest.raises(LeaderElectionLost):
        replica.task.result()


async def test_nothing_is_left_running_after_each_end(world: World) -> None:
    before = asyncio.all_tasks()
    first = await world.start("a")
    second = await world.start("b")
    third = await world.start("c")
    await world.clock.sleep(10)
    await first.stop()
    await second.stop()
    await third.crash()
    assert asyncio.all_tasks() == before
    assert {replica.transport.open_streams for replica in world.replicas} == {0}


def weather(api: FakeApi, clock: VirtualClock, random: Random) -> Callable[[Request], Awaitable[Response]]:
    """A line on which requests are refused, lost, late on the way there or on the way back, or all of them refused
    for a while, which begins, where it is at its worst, with an answer that comes late.
    """
    cut_until = 0.0

    async def handle(request: Request) -> Response:
        nonlocal cut_until
        fate = random.random()
        if fate < 0.10 or clock.now() < cut_until:
            raise TransportError("connection refused")
        if fate < 0.25:
            await clock.sleep(random.random() * 8)
        response = await api.handle(request)
        if fate > 0.88:
            cut_until = clock.now() + 10 + random.random() * 20
        if fate > 0.85:
            await clock.sleep(random.random() * 5)
        if fate > 0.98:
            raise TransportError("connection reset before the answer")
        return response

    return handle


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_never_two_leaders_whatever_the_weather(seed: int) -> None:
    async def scenario() -> Terms:
        random = Random(seed)
        clock = VirtualClock()
        world = World(clock)

        def begin(number: int) -> Replica:
            handle = weather(world.api, clock, random)
            return Replica(f"r{number}", handle, world.terms, Random(random.random()), JumpingClock())

        running = [begin(number) for number in range(3)]
        for number in range(3, 20):
            await clock.sleep(random.random() * 50)
            victim = running.pop(random.randrange(len(running)))
            await (victim.stop() if random.random() < 0.5 else victim.crash())
            running = [each for each in running if not each.task.done()]
            running.append(begin(number))
            for each in running:
                if isinstance(each.clock, JumpingClock):
                    each.clock.jump_wall(random.choice([0.0, 0.0, 3600.0, -7200.0]))
        for each in running:
            await each.crash()
        return world.terms

    terms = run_virtual(scenario)
    assert terms.overlaps == []
    assert any(leading for _, _, leading in terms.log)


async def test_the_lease_is_watched_by_name(world: World) -> None:
    seen: list[tuple[str, dict[str, str]]] = []

    def note(request: Request) -> None:
        if is_watch(request):
            seen.append((request.path, dict(request.query)))

    world.api.before = note
    await world.start("a")
    await world.start("b")
    assert seen[0][0] == LEASES.path("ns")
    assert seen[0][1]["fieldSelector"] == "metadata.name=lease"
