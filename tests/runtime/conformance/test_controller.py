"""controller-runtime's tests of controllers, in virtual time and with exact moments.

The tests beside `conformance/` show most of it; here is what they lack.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakeapi import FakeApi
from kaito.runtime.controller import CacheSyncTimeout, Controller, ControllerOptions, Watch
from kaito.runtime.errors import Conflict, NotFound
from kaito.runtime.handlers import by_field_index, by_object, field_index
from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import Event, by_type, generation_changed
from kaito.runtime.ratelimit import ItemExponential
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, LEASES, NODES, PODS, SECRETS, ObjectKey, Resource
from kaito.runtime.result import Result, TerminalError
from kaito.runtime.testing import VirtualClock
from kaito.runtime.transport import Request

A, B = ObjectKey("n", "a"), ObjectKey("n", "b")
SLOWLY = ControllerOptions(rate_limiter=lambda: ItemExponential(1, 1000))


class World:
    """A manager over an API in memory, one controller, and what it did when."""

    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.manager = Manager(self.api.client(), clock=clock, options=ManagerOptions(**options))
        self.calls: list[tuple[float, str]] = []
        self.answers: dict[str, list[Any]] = {}
        self.task: asyncio.Task[None] | None = None

    async def reconcile(self, key: ObjectKey) -> Result | None:
        self.calls.append((self.clock.now(), key.name))
        answers = self.answers.get(key.name)
        answer = answers.pop(0) if answers else None
        if isinstance(answer, BaseException):
            raise answer
        result: Result | None = answer
        return result

    def add(self, options: ControllerOptions = SLOWLY, **more: Any) -> Controller:
        controller = Controller("test", self.reconcile, primary=DEPLOYMENTS, options=options, **more)
        self.manager.add(controller)
        return controller

    def put(self, name: str, **tree: Any) -> dict[str, Any]:
        return self.api.put(DEPLOYMENTS, {"metadata": {"name": name, "namespace": "n"}, **tree})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        self.task = asyncio.create_task(self.manager.run(stop))
        try:
            yield
        finally:
            stop.set()
            await self.task

    @property
    def results(self) -> dict[str, int]:
        numbers = self.manager.metrics.controller("test").results
        return {name: count for name, count in numbers.items() if count}


@pytest.fixture
def world(virtual_clock: VirtualClock) -> World:
    return World(virtual_clock)


# -- outcomes ------------------------------------------------------------------------------------------------


@pytest.mark.conforms(
    "controller-runtime controller should recover panic by default",
    "controller-runtime controller should recover panic if RecoverPanic is true",
)
@pytest.mark.parametrize("options", [ControllerOptions(), ControllerOptions(recover_panic=True)])
@pytest.mark.parametrize("bug", [KeyError("spec"), ExceptionGroup("x", [TypeError()]), GeneratorExit()])
async def test_a_bug_is_an_error_and_a_later_try(
    world: World, options: ControllerOptions, bug: BaseException
) -> None:
    world.put("a")
    world.answers["a"] = [bug]
    world.add(options)
    async with world.running():
        await world.clock.sleep(1)
    assert world.calls == [(0.0, "a"), (0.005, "a")]
    assert world.results == {"error": 1, "success": 1}
    assert world.manager.metrics.controller("test").panics == 1


@pytest.mark.conforms("controller-runtime controller should not recover panic if RecoverPanic is false")
async def test_a_bug_ends_the_manager_where_that_is_wanted(world: World) -> None:
    world.put("a")
    world.answers["a"] = [Conflict("no bug"), KeyError("spec")]
    world.add(ControllerOptions(recover_panic=False))
    with pytest.raises(KeyError, match="spec"):
        await world.manager.run()
    assert world.calls == [(0.0, "a"), (0.005, "a")]
    assert world.manager.metrics.controller("test").panics == 1


@pytest.mark.conforms(
    "controller-runtime controller should requeue a Request if there is an error and continue processing items",
    "controller-runtime controller should get updated on reconcile errors",
    "controller-runtime controller should get updated on success",
)
async def test_a_failed_key_comes_again_and_others_go_on(world: World) -> None:
    for name in ("a", "b"):
        world.put(name)
    world.answers["a"] = [Conflict("changed"), Conflict("changed")]
    world.add()
    async with world.running():
        await world.clock.sleep(10)
    assert world.calls == [(0.0, "a"), (0.0, "b"), (1.0, "a"), (3.0, "a")]
    assert world.results == {"error": 2, "success": 2}
    assert world.manager.metrics.controller("test").errors == 2


@pytest.mark.conforms(
    "controller-runtime controller should not requeue a Request if there is a terminal error"
)
async def test_a_terminal_error_is_not_tried_again_until_something_changes(world: World) -> None:
    world.put("a")
    world.answers["a"] = [TerminalError("hopeless")]
    world.add()
    async with world.running():
        await world.clock.sleep(100)
        world.put("a", spec={"replicas": 2})
        await world.clock.sleep(100)
    assert world.calls == [(0.0, "a"), (100.0, "a")]
    assert world.manager.metrics.controller("test").terminal_errors == 1


@pytest.mark.conforms(
    "controller-runtime controller should not reset backoff until there's a non-error result"
)
async def test_failures_add_up_until_a_success(world: World) -> None:
    world.put("a")
    world.answers["a"] = [Conflict("x"), Conflict("x"), None, Conflict("x")]
    controller = world.add()
    async with world.running():
        assert controller._bound is not None
        queue, seen = controller._bound.queue, []
        for moment in (0.5, 1.5, 3.5):
            await world.clock.sleep(moment - world.clock.now())
            seen.append(queue.failures(A))
        world.put("a", spec={"replicas": 2})
        await world.clock.sleep(0.25)
        seen.append(queue.failures(A))
    assert seen == [1, 2, 0, 1]


@pytest.mark.conforms(
    "controller-runtime controller should requeue a Request with rate limiting if the Result sets Requeue:true",
    "controller-runtime controller should get updated when reconcile returns with requeue",
)
async def test_a_requeue_without_a_time_is_rate_limited(world: World) -> None:
    world.put("a")
    world.answers["a"] = [Result(requeue_after=0), Result(requeue_after=0), None]
    world.add()
    async with world.running():
        await world.clock.sleep(10)
    assert world.calls == [(0.0, "a"), (1.0, "a"), (3.0, "a")]
    assert world.results == {"requeue": 2, "success": 1}


@pytest.mark.conforms(
    "controller-runtime controller should requeue a Request after a duration if the Result sets RequeueAfter",
    "controller-runtime controller should get updated when reconcile returns with requeueAfter",
    "controller-runtime controller should add a reconcile time to the reconcile time histogram",
)
async def test_a_requeue_with_a_time_is_exact_and_wipes_the_history(world: World) -> None:
    world.put("a")
    world.answers["a"] = [Conflict("x"), Result(requeue_after=12.5), Conflict("x"), None]
    world.add()
    async with world.running():
        await world.clock.sleep(100)
    assert world.calls == [(0.0, "a"), (1.0, "a"), (13.5, "a"), (14.5, "a")]
    assert world.results == {"error": 2, "requeue_after": 1, "success": 1}
    assert world.manager.metrics.controller("test").reconcile_time.count == 4


@pytest.mark.conforms(
    "controller-runtime controller should use the priority of the result, else the request's"
)
@pytest.mark.parametrize(("wanted", "expected"), [(None, 5), (9, 9), (-3, -3)])
@pytest.mark.parametrize("after", [0.0, 2.0])
async def test_the_priority_of_a_requeue(
    world: World, wanted: int | None, expected: int, after: float
) -> None:
    world.answers["a"] = [Result(requeue_after=after, priority=wanted)]
    controller = world.add(ControllerOptions(rate_limiter=lambda: ItemExponential(2, 2)))
    controller.enqueue(A, priority=5)
    async with world.running():
        await world.clock.sleep(1)
        controller.enqueue(A, priority=-100)  # ready now, with the higher of both priorities
        assert controller._bound is not None
        item = controller._bound.queue.get_nowait()
        assert item is not None
        assert item.priority == expected
        controller._bound.queue.done(item.key)


# -- start and stop ------------------------------------------------------------------------------------------


@pytest.mark.conforms(
    "controller-runtime controller should error when cache sync timeout occurs",
    "controller-runtime controller should return an error if there is an error waiting for the informers",
    "controller-runtime controller should error when GetInformer blocks forever",
    "controller-runtime controller Warmup: returns an error on sync timeout",
)
@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("missing", [False, True])
async def test_caches_that_do_not_fill_end_the_manager(
    virtual_clock: VirtualClock, warmup: bool, missing: bool
) -> None:
    world = World(virtual_clock, cache_sync_timeout=50)

    async def refuse(request: Request) -> None:
        if request.path.endswith("/nodes"):
            if missing:
                raise NotFound("the server could not find the requested resource")
            await virtual_clock.sleep(1e6)

    world.api.before = refuse
    world.add(ControllerOptions(warmup=warmup), watches=[Watch(NODES, by_object)])
    with pytest.raises(CacheSyncTimeout, match=r"no complete list of nodes within 50 s; does the resource"):
        await world.manager.run()
    assert virtual_clock.now() == 50.0
    assert world.calls == []


@pytest.mark.conforms(
    "controller-runtime controller should not error when controller start context is cancelled during Sources "
    "WaitForSync"
)
async def test_cancelling_while_caches_fill_is_no_error(world: World) -> None:
    world.api.before = lambda request: world.clock.sleep(1e6)
    world.add()
    async with world.running():
        await world.clock.sleep(5)
    assert world.clock.now() == 5.0


@pytest.mark.conforms("controller-runtime source Kind: retries a missing CRD until the timeout")
async def test_a_resource_that_comes_in_time_is_found(world: World) -> None:
    def missing(request: Request) -> None:
        if world.clock.now() < 60:
            raise NotFound("the server could not find the requested resource")

    world.api.before = missing
    world.put("a")
    world.add()
    async with world.running():
        await world.clock.sleep(90)
    ((at, name),) = world.calls
    assert name == "a"
    assert 60 <= at <= 70, "asked for again at least every 10 s"


@pytest.mark.conforms("controller-runtime controller should return if the queue is shutdown")
async def test_workers_end_with_their_queue(world: World) -> None:
    world.put("a")
    controller = world.add(ControllerOptions(workers=3))
    async with world.running():
        await world.clock.sleep(1)
        assert controller._bound is not None
        controller._bound.queue.shutdown()
        await world.clock.sleep(1)
        assert world.task is not None
        assert not world.task.done()
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not any(name.startswith("test-") for name in names), names


# -- warm-up -------------------------------------------------------------------------------------------------

LEASE = LeaderElectionOptions("kaito", "kube-system", identity="me")


def another_leads(world: World) -> None:
    meta = {"name": "kaito", "namespace": "kube-system"}
    world.api.put(
        LEASES, {"metadata": meta, "spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}}
    )


@pytest.mark.conforms("controller-runtime controller Warmup: starts sources before the lease is acquired")
@pytest.mark.parametrize(("warmup", "queued"), [(None, 0), (False, 0), (True, 3)])
async def test_with_warm_up_the_queue_is_full_before_the_lease(
    virtual_clock: VirtualClock, warmup: bool | None, queued: int
) -> None:
    world = World(virtual_clock, leader_election=LEASE)
    another_leads(world)
    for name in ("a", "b", "c"):
        world.put(name)
    controller = world.add(ControllerOptions() if warmup is None else ControllerOptions(warmup=warmup))
    async with world.running():
        await virtual_clock.sleep(30)
        assert controller._bound is not None
        assert len(controller._bound.queue) == queued
    assert world.calls == []


@pytest.mark.conforms(
    "controller-runtime controller Warmup: does not start sources again in Start",
    "controller-runtime controller should only start sources once under concurrency",
)
async def test_a_warm_controller_starts_from_its_queue(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, leader_election=LEASE)
    world.put("a")
    controller = world.add(ControllerOptions(warmup=True))
    async with world.running():
        await asyncio.gather(controller.warm_up(), controller.warm_up())
        await virtual_clock.sleep(1)
        assert world.calls == [(0.0, "a")]
        world.put("a", spec={"replicas": 2})
        await virtual_clock.sleep(1)
        assert world.manager.metrics.queue("test").adds == 2
    assert world.calls == [(0.0, "a"), (1.0, "a")]


@pytest.mark.conforms("controller-runtime controller Warmup: controllers added after start are warmed up")
async def test_a_controller_added_late_is_warmed_up(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, leader_election=LEASE)
    another_leads(world)
    world.put("a")
    async with world.running():
        await virtual_clock.sleep(10)
        controller = world.add(ControllerOptions(warmup=True))
        await virtual_clock.sleep(1)
        assert controller._bound is not None
        assert len(controller._bound.queue) == 1
    assert world.calls == []


# -- making one ----------------------------------------------------------------------------------------------


@pytest.mark.conforms(
    "controller-runtime controller New: should return an error if two controllers are registered with the same name"
)
async def test_names_are_unique_in_a_manager_only(virtual_clock: VirtualClock) -> None:
    first, second = World(virtual_clock), World(virtual_clock)
    first.add()
    second.add()
    with pytest.raises(ValueError, match="there is a controller named 'test' already"):
        first.add()


@pytest.mark.conforms("controller-runtime controller New: inherits the manager's defaults")
async def test_what_a_controller_does_not_say_is_the_managers(virtual_clock: VirtualClock) -> None:
    world = World(
        virtual_clock,
        workers=2,
        workers_by_kind={"Deployment.apps": 5, "Pod": 7},
        cache_sync_timeout=33,
        own_writes_timeout=1,
    )

    def values(name: str, primary: Resource, **own: Any) -> tuple[int, float]:
        controller = Controller(name, world.reconcile, primary=primary, options=ControllerOptions(**own))
        world.manager.add(controller)
        assert controller._bound is not None
        return controller._bound.workers, controller._bound.cache_sync_timeout

    assert values("deployments", DEPLOYMENTS) == (5, 33)
    assert values("pods", PODS) == (7, 33)
    assert values("nodes", NODES) == (2, 33)
    assert values("own", DEPLOYMENTS, workers=1, cache_sync_timeout=5) == (1, 5)


@pytest.mark.conforms("controller-runtime controller New: should not leak goroutines when stopped")
async def test_nothing_runs_on_after_a_stop(world: World) -> None:
    before = asyncio.all_tasks()
    world.put("a")
    world.answers["a"] = [Result(requeue_after=1000)]
    world.add(ControllerOptions(workers=4, warmup=True), owns=[SECRETS])
    async with world.running():
        await world.clock.sleep(1)
    assert asyncio.all_tasks() == before


# -- sources and handlers ------------------------------------------------------------------------------------


@pytest.mark.conforms("controller-runtime source Channel: events before start and pending ones")
async def test_keys_from_outside_are_not_lost(world: World) -> None:
    controller = world.add()
    controller.enqueue(A)
    async with world.running():
        await world.clock.sleep(1)
        for number in range(2000):
            controller.enqueue(ObjectKey("n", str(number)))
        await world.clock.sleep(1)
    assert world.calls[0] == (0.0, "a")
    assert {name for _, name in world.calls[1:]} == {str(number) for number in range(2000)}


@pytest.mark.conforms("controller-runtime source Kind: create, update, delete, tombstone")
async def test_each_kind_of_change_reaches_the_predicates_and_the_queue(world: World) -> None:
    events: list[tuple[str, bool, bool]] = []

    def note(event: Event) -> bool:
        events.append((event.type.value, event.initial, event.stale))
        return True

    world.put("a")
    world.put("gone")
    world.add(predicates=[note])
    async with world.running():
        await world.clock.sleep(1)
        world.put("b")
        world.put("b", spec={"replicas": 1})
        world.api.remove(DEPLOYMENTS, "b", "n")
        await world.clock.sleep(1)
        (informer,) = world.manager.cache.informers
        informer.reselect(label_selector="nothing=fits")  # a list without them: deletions that nobody saw
        await world.clock.sleep(1)
    assert events[:2] == [("create", True, False)] * 2
    assert events[2:5] == [("create", False, False), ("update", False, False), ("delete", False, False)]
    assert events[5:] == [("delete", False, True)] * 2


@pytest.mark.conforms(
    "controller-runtime handler EnqueueRequestForOwner and MapFunc: old and new on update",
    "kopf test_watchevent_demultiplexing",
)
async def test_an_update_concerns_the_old_and_the_new_and_each_once(world: World) -> None:
    def groups(obj: CachedObject) -> list[ObjectKey]:
        names = obj.meta.annotations.get("groups", "").split()
        return [ObjectKey("n", name) for name in names]

    def put(value: str) -> None:
        meta = {"name": "c", "namespace": "n", "annotations": {"groups": value}}
        world.api.put(CONFIGMAPS, {"metadata": meta})

    world.add(watches=[Watch(CONFIGMAPS, groups)])
    async with world.running():
        put("a b")
        await world.clock.sleep(1)
        put("b c c")
        await world.clock.sleep(1)
    assert world.calls == [(0.0, "a"), (0.0, "b"), (1.0, "a"), (1.0, "b"), (1.0, "c")]


@pytest.mark.conforms("controller-runtime predicate Funcs")
async def test_a_type_of_event_without_a_predicate_passes(world: World) -> None:
    world.add(predicates=[by_type(update=generation_changed, delete=lambda event: False)])
    async with world.running():
        world.put("a", spec={"replicas": 1})
        await world.clock.sleep(1)
        world.put("a", spec={"replicas": 1}, metadata={"name": "a", "namespace": "n", "labels": {"x": "y"}})
        await world.clock.sleep(1)
        world.put("a", spec={"replicas": 2})
        await world.clock.sleep(1)
        world.api.remove(DEPLOYMENTS, "a", "n")
        await world.clock.sleep(1)
    assert [at for at, _ in world.calls] == [0.0, 2.0]


@pytest.mark.conforms("controller-runtime cache index by field")
async def test_objects_that_refer_to_another_by_a_field_are_reconciled_with_it(world: World) -> None:
    spec = {"template": {"spec": {"volumes": [{"configMap": {"name": "c"}}, {"emptyDir": {}}]}}}
    world.put("a", spec=spec)
    world.put("b", spec={"template": {"spec": {}}})
    informer = world.manager.cache.informer(DEPLOYMENTS)
    path = ("spec", "template", "spec", "volumes", "configMap", "name")
    informer.add_indexer("config", field_index(*path))
    world.add(watches=[Watch(CONFIGMAPS, by_field_index(informer.lister, "config"))])
    async with world.running():
        await world.clock.sleep(1)
        world.calls.clear()
        for namespace, name in (("n", "c"), ("n", "d"), ("elsewhere", "c")):
            world.api.put(CONFIGMAPS, {"metadata": {"name": name, "namespace": namespace}})
        await world.clock.sleep(1)
        assert world.calls == [(1.0, "a")]
        assert [each.key for each in informer.lister.by_index("config", "n/c")] == [A]


@pytest.mark.conforms("kube-rs predicate_filtering_should_handle_recreated_resources_with_same_generation")
async def test_an_object_made_anew_with_the_same_generation_passes(world: World) -> None:
    world.add(predicates=[generation_changed, by_type(delete=lambda event: False)])
    async with world.running():
        world.put("a")
        await world.clock.sleep(1)
        world.api.remove(DEPLOYMENTS, "a", "n")
        world.put("a")
        await world.clock.sleep(1)
    assert world.calls == [(0.0, "a"), (1.0, "a")]


# -- selectors changed while running -------------------------------------------------------------------------


def labelled(world: World, name: str, team: str) -> None:
    world.put(name, metadata={"name": name, "namespace": "n", "labels": {"team": team}})


async def test_reselecting_tells_of_the_differences_only(world: World) -> None:
    labelled(world, "a", "red")
    labelled(world, "b", "blue")
    types: list[tuple[str, str]] = []

    def note(event: Event) -> bool:
        types.append((event.type.value, event.obj.key.name))
        return True

    watch = Watch(CONFIGMAPS, by_object, predicates=[note], label_selector="team in (red, green)")
    controller = world.add(watches=[watch])
    for name, team in (("r", "red"), ("g", "green"), ("b", "blue")):
        world.api.put(CONFIGMAPS, {"metadata": {"name": name, "namespace": "n", "labels": {"team": team}}})
    async with world.running():
        await world.clock.sleep(1)
        types.clear()
        world.calls.clear()
        await controller.reselect(CONFIGMAPS, label_selector="team in (green, blue)")
        assert sorted(types) == [("create", "b"), ("delete", "r")]
        await world.clock.sleep(1)
        assert sorted(world.calls) == [(1.0, "b"), (1.0, "r")]
        world.api.put(CONFIGMAPS, {"metadata": {"name": "n", "namespace": "n", "labels": {"team": "blue"}}})
        await world.clock.sleep(1)
        assert types[2:] == [("create", "n")]
        await controller.reselect(CONFIGMAPS, label_selector="team in (green, blue)")  # nothing to do
        with pytest.raises(ValueError, match=r"does not watch nodes, only deployments\.apps, configmaps"):
            await controller.reselect(NODES, label_selector="a=b")


async def test_a_selection_that_the_server_refuses_is_taken_back(virtual_clock: VirtualClock) -> None:
    world = World(virtual_clock, cache_sync_timeout=20)
    world.put("a")
    controller = world.add()

    def refuse(request: Request) -> None:
        if dict(request.query).get("fieldSelector") == "spec.unknown=1":
            raise Conflict("field label not supported")

    async with world.running():
        await virtual_clock.sleep(1)
        world.api.before = refuse
        with pytest.raises(CacheSyncTimeout, match=r"within 20 s .*; the selection stays as it was"):
            await controller.reselect(DEPLOYMENTS, field_selector="spec.unknown=1")
        assert virtual_clock.now() == 21.0
        await virtual_clock.sleep(60)
        world.calls.clear()
        world.put("b")
        await virtual_clock.sleep(1)
        assert [name for _, name in world.calls] == ["b"]
