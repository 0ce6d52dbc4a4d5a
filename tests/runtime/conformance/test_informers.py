"""Shared informers as client-go's own tests expect them, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kaito.runtime.cache import CacheOptions, InformerCache
from kaito.runtime.client import Client
from kaito.runtime.errors import Forbidden, InternalError
from kaito.runtime.informer import Informer, Registration
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS, PODS
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock, watch_line
from runtime.support import LIST, STREAM, Recorder, World, bookmark, config_map, listed, status_event, watched

EXPIRED = status_event(410, "Expired")


class Timed(Recorder):
    """Notes when it is told again of what it knows."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.resyncs: list[float] = []

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        super().on_update(old, new)
        if old is new:
            self.resyncs.append(self.clock.now())


@asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[asyncio.Future[None]]:
    task = asyncio.ensure_future(informer.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.conforms("client-go informer TestListenerResyncPeriods")
async def test_each_handler_has_its_own_resync_period(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10, config_map("a", 1)), watched(hold=True)])
    handlers = {period: Timed(virtual_clock) for period in (0.0, 0.3, 2.0, 3.0)}
    for period, handler in handlers.items():
        world.informer.add_handler(handler, resync=period)
    async with world.running(9.5):
        assert handlers[0.0].resyncs == []
        assert handlers[0.3].resyncs == [float(second) for second in range(1, 10)], "at least a second"
        assert handlers[2.0].resyncs == [2.0, 4.0, 6.0, 8.0]
        assert handlers[3.0].resyncs == [3.0, 6.0, 9.0]
    await virtual_clock.sleep(10)
    assert len(handlers[2.0].resyncs) == 4, "nothing once it has stopped"
    assert len(world.requests) == 2, "a resync asks the server for nothing"


@pytest.mark.conforms("client-go informer TestListenerResyncPeriodsDelayed")
async def test_a_late_handlers_period_counts_from_its_registration(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10, config_map("a", 1)), watched(hold=True)])
    async with world.running(1.5):
        late = Timed(virtual_clock)
        registration = world.informer.add_handler(late, resync=2)
        await virtual_clock.sleep(5)
        assert late.resyncs == [3.5, 5.5]
        registration.remove()
        await virtual_clock.sleep(5)
        assert late.resyncs == [3.5, 5.5]


@pytest.mark.conforms("client-go informer TestSharedInformerWatchDisruption")
async def test_after_a_relist_only_real_changes_are_told(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), config_map("b", 2), config_map("c", 3)),
            watched(1.0, EXPIRED),
            listed(20, config_map("a", 1), config_map("c", 13), config_map("d", 14)),
            watched(hold=True),
        ],
    )
    resyncing = Timed(virtual_clock)
    world.informer.add_handler(resyncing, resync=60)
    async with world.running(59):
        changes = [("delete", "b", "2", "stale"), ("update", "c", "3", "13"), ("add", "d", "14", "")]
        assert world.recorder.events[3:] == changes == resyncing.events[3:]
        await virtual_clock.sleep(2)
        assert world.recorder.events[3:] == changes
        assert resyncing.events[6:] == [
            ("update", name, each, each) for name, each in (("a", "1"), ("c", "13"), ("d", "14"))
        ]


@pytest.mark.conforms("client-go informer TestSharedInformerErrorHandling")
async def test_a_failing_list_reaches_the_hook(virtual_clock: VirtualClock) -> None:
    errors: list[Exception] = []

    def note(error: Exception) -> None:
        errors.append(error)
        raise RuntimeError("a hook that fails is the hook's affair")

    world = World(
        virtual_clock, [Exchange(error=Forbidden("not yours")), listed(10), watched(hold=True)], on_error=note
    )
    async with world.running(5):
        assert [type(error) for error in errors] == [Forbidden]
        assert world.informer.has_synced


async def test_the_hook_of_a_cache_says_which_informer(virtual_clock: VirtualClock) -> None:
    seen: list[tuple[str, str]] = []
    server = ScriptedServer(
        virtual_clock, [Exchange(error=InternalError("x")), listed(10), watched(hold=True)]
    )
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    cache = InformerCache(
        client,
        options=CacheOptions(
            LIST, on_error=lambda informer, error: seen.append((str(informer.resource), str(error)))
        ),
    )
    async with running(cache.informer(CONFIGMAPS)):
        await virtual_clock.sleep(5)
    assert seen == [("configmaps", "GET /api/v1/configmaps: x (HTTP 500, InternalError)")]


@pytest.mark.conforms(
    "client-go informer TestSharedInformerRemoveHandler",
    "client-go informer TestSharedInformerMultipleRegistration",
    "client-go informer TestRemovingRemovedSharedInformer",
)
async def test_each_registration_is_removed_by_itself(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10),
            watched(
                *(1.0, watch_line("ADDED", config_map("a", 11))),
                *(1.0, watch_line("ADDED", config_map("b", 12))),
                hold=True,
            ),
        ],
    )
    twice = Recorder()
    one, _ = world.informer.add_handler(twice), world.informer.add_handler(twice)
    async with world.running(1.5):
        assert [event[1] for event in twice.events] == ["a", "a"]
        one.remove()
        one.remove()
        await virtual_clock.sleep(1)
        assert [event[1] for event in twice.events] == ["a", "a", "b"]
        assert [event[1] for event in world.recorder.events] == ["a", "b"]
        assert len(world.informer._registrations) == 2


@pytest.mark.conforms(
    "client-go informer TestSharedInformerHandlerAbuse", "client-go informer TestRemoveWhileActive"
)
async def test_handlers_come_and_go_in_the_middle_of_calls(virtual_clock: VirtualClock) -> None:
    lines = [watch_line("ADDED", config_map(f"cm-{version}", version)) for version in range(11, 60)]
    world = World(virtual_clock, [listed(10, config_map("first", 1)), watched(1.0, *lines, hold=True)])
    late: list[Recorder] = []

    class Restless(Recorder):
        """Registers somebody else at each call, and removes itself at the fifth."""

        registration: Registration

        def on_add(self, obj: CachedObject, initial: bool) -> None:
            super().on_add(obj, initial)
            late.append(Recorder())
            world.informer.add_handler(late[-1])
            if len(self.events) == 5:
                self.registration.remove()

    restless = Restless()
    restless.registration = world.informer.add_handler(restless)
    async with world.running(2):
        assert [event[1] for event in restless.events] == ["first", "cm-11", "cm-12", "cm-13", "cm-14"]
        everything = ["first", *(f"cm-{version}" for version in range(11, 60))]
        for recorder in (world.recorder, *late):
            assert [event[1] for event in recorder.events] == everything
        assert len(late) == 5


@pytest.mark.conforms(
    "client-go informer TestStateSharedInformer",
    "client-go informer TestAddOnStoppedSharedInformer",
    "client-go informer TestRemoveOnStoppedSharedInformer",
    "client-go informer TestShutdown",
    "kaito no task left",
)
async def test_the_states_of_an_informer(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10), watched(hold=True), watched(hold=True)])
    informer = world.informer
    registration = informer.add_handler(Recorder(), resync=5)
    assert not informer.is_stopped
    before = asyncio.all_tasks()
    async with running(informer) as task:
        await virtual_clock.sleep(1)
        assert not informer.is_stopped
        with pytest.raises(RuntimeError, match="already running"):
            await informer.run()
        task.cancel()
    assert informer.is_stopped
    assert asyncio.all_tasks() == before
    assert world.transport.open_streams == 0
    with pytest.raises(RuntimeError, match="the informer for configmaps has stopped"):
        informer.add_handler(Recorder())
    registration.remove()
    async with running(informer):
        await virtual_clock.sleep(1)
        assert not informer.is_stopped, "it may be started again"
        informer.add_handler(Recorder())


@pytest.mark.conforms("client-go informer TestAddWhileActive", "client-go synctrack SingleFileCounting")
async def test_a_late_handler_has_synced_once_it_was_told_of_all(virtual_clock: VirtualClock) -> None:
    objects = [config_map(f"cm-{index}", index + 1) for index in range(1000)]
    world = World(virtual_clock, [listed(2000, *objects), watched(hold=True)])
    early = world.informer.add_handler(Recorder())
    assert not early.has_synced
    async with world.running(1):
        assert early.has_synced
        late = Recorder()
        registration = world.informer.add_handler(late)
        turns = 0
        while not registration.has_synced:
            assert len(late.events) < 1000
            turns += 1
            await virtual_clock.sleep(0)
        assert len(late.events) == 1000
        assert turns >= 5, "told in slices"
        assert {event[3] for event in late.events} == {"initial"}
        await registration.wait_synced()


@pytest.mark.conforms(
    "client-go informer failing handler", "client-go informer RemoveEventHandler_AsynchronousPanic"
)
@pytest.mark.parametrize("count", [1, 250], ids=["few", "many"])
async def test_a_failing_handler_still_becomes_synced(virtual_clock: VirtualClock, count: int) -> None:
    objects = [config_map(f"cm-{index}", index + 1) for index in range(count)]
    world = World(
        virtual_clock,
        [listed(2000, *objects), watched(1.0, watch_line("ADDED", config_map("z", 2001)), hold=True)],
    )

    class Failing(Recorder):
        def on_add(self, obj: CachedObject, initial: bool) -> None:
            super().on_add(obj, initial)
            if obj.key.name == "z":
                registration.remove()
            raise RuntimeError("no")

    failing = Failing()
    registration = world.informer.add_handler(failing)
    async with world.running(0.5):
        await registration.wait_synced()
        assert world.informer.has_synced
        assert registration.failures == count == len(world.recorder.events)
        await virtual_clock.sleep(1)
        assert failing.events[-1][1] == "z"
        assert world.informer.handler_failures == count + 1


@pytest.mark.conforms(
    "client-go informer TestShutDownEventHandler_SynchronousShutdown",
    "client-go informer TestShutDownEventHandler_Lifecycles",
)
async def test_shutting_a_handler_down(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [listed(10, *(config_map(f"cm-{index}", 1 + index) for index in range(250))), watched(hold=True)],
    )
    problems: list[str] = []

    class Inside(Recorder):
        def on_add(self, obj: CachedObject, initial: bool) -> None:
            if not problems:
                with pytest.raises(RuntimeError) as info:
                    mine.shutdown()
                problems.append(str(info.value))

    never_started = world.informer.add_handler(Recorder())
    never_started.shutdown()
    mine = world.informer.add_handler(Inside())
    async with world.running(1):
        assert problems == ["a handler cannot wait for its own end: call remove() here"]
        recorder = Recorder()
        while_told = world.informer.add_handler(recorder)
        while_told.shutdown()
        await while_told.wait_synced()
        await virtual_clock.sleep(1)
        assert len(recorder.events) == 100, "what was queued is dropped"
    mine.shutdown()


@pytest.mark.conforms("client-go cache TestWaitFor")
async def test_waiting_for_caches(virtual_clock: VirtualClock) -> None:
    server = ScriptedServer(
        virtual_clock,
        [
            listed(10),
            watched(hold=True),
            Exchange(path="/api/v1/namespaces/team/pods", error=Forbidden("no pods for you")),
        ],
        otherwise=Exchange(error=Forbidden("no pods for you")),
    )
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    cache = InformerCache(client, watch_list=False)
    maps = cache.informer(CONFIGMAPS)
    assert cache.problems(60) == ["configmaps has never been listed completely"]
    task = asyncio.ensure_future(cache.run())
    await maps.wait_synced()
    assert cache.problems(60) == []
    pods = cache.informer(PODS, namespace="team", label_selector="app=x")
    with pytest.raises(TimeoutError):
        async with virtual_clock.timeout(30):
            await cache.wait_synced()
    assert cache.problems(60) == [
        "pods in team (app=x) has never been listed completely: "
        "GET /api/v1/namespaces/team/pods: no pods for you (HTTP 403, Forbidden)"
    ]
    cache.remove(pods)
    await cache.wait_synced()
    assert cache.has_synced
    assert pods.is_stopped
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.conforms("client-go synctrack Lazy")
async def test_a_view_is_made_once_per_version(virtual_clock: VirtualClock) -> None:
    made: list[str] = []

    def view(obj: CachedObject) -> str:
        made.append(obj.meta.resource_version)
        return obj.meta.resource_version

    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(1.0, EXPIRED),
            listed(20, config_map("a", 1)),
            watched(5.0, watch_line("MODIFIED", config_map("a", 21)), hold=True),
        ],
    )
    async with world.running(0.5):
        for _ in range(12):
            obj = world.informer.lister.get("a", "ns")
            assert obj is not None
            assert obj.cached_view(view) == obj.meta.resource_version
            await virtual_clock.sleep(1)
    assert made == ["1", "21"]


@pytest.mark.conforms(
    "kube-rs reflector_restarted_should_clear_objects",
    "kube-rs reflector_store_should_not_contain_duplicates",
)
async def test_a_restarted_list_holds_what_it_has_once(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1), config_map("a", 1), config_map("b", 2)),
            watched(
                watch_line("ADDED", config_map("a", 1)), watch_line("ADDED", config_map("b", 2)), EXPIRED
            ),
            listed(20, config_map("b", 2), config_map("b", 15)),
            watched(hold=True),
        ],
    )
    async with world.running(5):
        assert [(obj.key.name, obj.meta.resource_version) for obj in world.informer.lister.list()] == [
            ("b", "15")
        ]
        assert world.recorder.events == [
            ("add", "a", "1", "initial"),
            ("add", "b", "2", "initial"),
            ("delete", "a", "1", "stale"),
            ("update", "b", "2", "15"),
        ]


# Other objects while running


ONE = config_map("one", 1, labels={"a": "1"})
BOTH = config_map("both", 2, labels={"a": "1", "b": "1"})
OTHER = config_map("other", 3, labels={"b": "1"})


async def test_another_selection_is_told_as_differences(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, ONE, BOTH, query={"labelSelector": None}),
            watched(hold=True),
            listed(12, BOTH, OTHER, query={"labelSelector": "b=1", "resourceVersion": "10"}),
            watched(hold=True, query={"labelSelector": "b=1", "resourceVersion": "12"}),
        ],
    )
    async with world.running(5):
        assert world.names == ["both", "one"]
        world.informer.reselect(label_selector="b=1")
        world.informer.reselect(label_selector="b=1")
        await virtual_clock.sleep(1)
        assert world.names == ["both", "other"]
        assert world.informer.selection.label_selector == "b=1"
        assert world.recorder.events[2:] == [("delete", "one", "1", "stale"), ("add", "other", "3", "")]
        assert world.transport.open_streams == 1
    world.server.assert_done()


@pytest.mark.parametrize("first", [watched(hold=True), Exchange(hold=True)], ids=["stream", "list"])
async def test_another_selection_while_the_first_list_comes(
    virtual_clock: VirtualClock, first: Exchange
) -> None:
    options = LIST if first.query == {} else STREAM
    again = (
        listed(10, OTHER, query={"labelSelector": "b=1", "resourceVersion": "0"})
        if options is LIST
        else watched(watch_line("ADDED", OTHER), bookmark(10, initial_end="true"), hold=True)
    )
    world = World(virtual_clock, [first, again, *([watched(hold=True)] if options is LIST else [])], options)
    async with world.running(1):
        world.informer.reselect(label_selector="b=1")
        await virtual_clock.sleep(1)
        assert world.recorder.events == [("add", "other", "3", "initial")]
    world.server.assert_done()


async def test_another_selection_while_a_restored_list_is_swapped_in(virtual_clock: VirtualClock) -> None:
    """The list that comes instead is as old as the one that was given up, and as good."""
    objects = [config_map(f"cm-{index:04d}", index + 1) for index in range(1000)]
    world = World(
        virtual_clock,
        [
            *(listed(5000, *objects), watched(1.0, status_event(410, "Expired"))),
            *(listed(2000, *objects[:900]), listed(2000, *objects[:900])),  # older, and so is the newest
            *(listed(2001, *objects[:500]), watched(hold=True)),
        ],
    )
    informer = world.informer
    async with running(informer):
        await virtual_clock.sleep(1.8)  # the watch ended at 1.0, the first wait is 0.8
        for _ in range(1000):
            if informer._reflector.state.memory.resource_version == "2000":
                break
            await virtual_clock.sleep(0)
        assert informer.store.resource_version == "5000", "in the middle"
        informer.reselect(field_selector="metadata.name!=x")
        await virtual_clock.sleep(5)
        assert (informer.store.resource_version, len(informer.store)) == ("2001", 500)


async def test_a_selection_that_no_server_understands_is_refused(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, [listed(10), watched(hold=True)])
    async with world.running(1):
        with pytest.raises(ValueError, match="label selector"):
            world.informer.reselect(label_selector="a in")
        assert len(world.requests) == 2


async def test_another_selection_in_the_middle_of_telling_loses_nothing(virtual_clock: VirtualClock) -> None:
    objects = [config_map(f"cm-{index:04d}", index + 1) for index in range(1000)]
    world = World(virtual_clock, [listed(2000, *objects), listed(2000, *objects[:500]), watched(hold=True)])
    recorder = world.recorder
    async with running(world.informer):
        while not recorder.events:
            await virtual_clock.sleep(0)
        assert len(recorder.events) < 1000
        world.informer.reselect(field_selector="metadata.name!=x")
        await virtual_clock.sleep(1)
        assert world.informer.has_synced
        adds = [event[1] for event in recorder.events if event[0] == "add"]
        gone = [event[1] for event in recorder.events if event[0] == "delete"]
        assert (len(adds), len(set(adds)), len(gone), len(set(gone))) == (1000, 1000, 500, 500)
