"""Controllers in virtual time: the result policy, workers, sources, failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import pytest

from fakeapi import FakeApi
from kaito.runtime.cache import InformerCache
from kaito.runtime.controller import CacheSyncTimeout, Controller, ControllerOptions, Reconcile, Watch
from kaito.runtime.errors import ServiceUnavailable
from kaito.runtime.finalizers import with_finalizer
from kaito.runtime.logs import reconcile_id
from kaito.runtime.metrics import RuntimeMetrics
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import generation_changed
from kaito.runtime.ratelimit import ItemExponential
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, NODES, REPLICASETS, ObjectKey, Resource
from kaito.runtime.result import Result, TerminalError
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.workqueue import LOW_PRIORITY

A, B = ObjectKey("n", "a"), ObjectKey("n", "b")


class Rig:
    """A cache, one controller, and what it did when."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.api = FakeApi(clock)
        self.cache = InformerCache(self.api.client())
        self.metrics = RuntimeMetrics(clock.now)
        self.calls: list[tuple[float, str]] = []
        self.answers: list[Any] = []
        self.controller: Controller | None = None

    @property
    def numbers(self) -> Any:
        return self.metrics.controller("test")

    def results(self) -> dict[str, int]:
        return {name: count for name, count in self.numbers.results.items() if count}

    async def scripted(self, key: ObjectKey) -> Result | None:
        """Notes the call and does the next thing of the script; then nothing."""
        self.calls.append((self.clock.now(), key.name))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        result: Result | None = answer
        return result

    def put(self, name: str, resource: Resource = DEPLOYMENTS, **tree: Any) -> dict[str, Any]:
        meta = {"name": name, "namespace": "n", **tree.pop("metadata", {})}
        return self.api.put(resource, {"metadata": meta, **tree})

    @asynccontextmanager
    async def running(
        self, reconcile: Reconcile | None = None, options: ControllerOptions | None = None, **more: Any
    ) -> AsyncIterator[Controller]:
        options = options or ControllerOptions(rate_limiter=lambda: ItemExponential(1, 100))
        controller = Controller(
            "test", reconcile or self.scripted, primary=DEPLOYMENTS, options=options, **more
        )
        controller.bind(self.cache, self.clock, self.metrics, workers=1, cache_sync_timeout=120)
        self.controller = controller
        cache = asyncio.create_task(self.cache.run())
        task = asyncio.create_task(controller.run())
        try:
            await self.clock.sleep(0)
            yield controller
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            cache.cancel()
            await asyncio.gather(cache, return_exceptions=True)


@pytest.fixture
def rig(virtual_clock: VirtualClock) -> Rig:
    return Rig(virtual_clock)


# -- the result policy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "times", "results", "counts"),
    [
        ([None], [0], {"success": 1}, {}),
        ([Result()], [0], {"success": 1}, {}),
        ([Result(requeue_after=7)], [0, 7], {"requeue_after": 1, "success": 1}, {}),
        ([Result(requeue_after=0)] * 2, [0, 1, 3], {"requeue": 2, "success": 1}, {}),
        (
            [Result(requeue_after=-3)] * 2,
            [0, 1, 3],
            {"requeue": 2, "success": 1},
            {},
        ),  # a deadline that has passed
        (
            [ServiceUnavailable("x")] * 3,
            [0, 1, 3, 7],
            {"error": 3, "success": 1},
            {"errors": 3, "panics": 0, "terminal_errors": 0},
        ),
        ([TerminalError("x")], [0], {"error": 1}, {"errors": 1, "terminal_errors": 1, "panics": 0}),
        ([KeyError("spec")], [0, 1], {"error": 1, "success": 1}, {"errors": 1, "panics": 1}),
        ([42], [0, 1], {"error": 1, "success": 1}, {"errors": 1, "panics": 1}),
        ([asyncio.CancelledError()], [0, 1], {"error": 1, "success": 1}, {"errors": 1, "panics": 1}),
        # a requeue after a while is a success: the back-off starts afresh
        (
            [ValueError("x"), Result(requeue_after=10), ValueError("x")],
            [0, 1, 11, 12],
            {"error": 2, "requeue_after": 1, "success": 1},
            {"errors": 2},
        ),
        # a requeue without a time is not
        (
            [ValueError("x"), Result(requeue_after=0), ValueError("x")],
            [0, 1, 3, 7],
            {"error": 2, "requeue": 1, "success": 1},
            {"errors": 2},
        ),
    ],
)
async def test_result_policy(
    rig: Rig, answers: list[Any], times: list[float], results: dict[str, int], counts: dict[str, int]
) -> None:
    rig.answers = list(answers)
    rig.put("a")
    async with rig.running():
        await rig.clock.sleep(1000)
    assert rig.calls == [(float(at), "a") for at in times]
    assert rig.results() == results
    assert {name: getattr(rig.numbers, name) for name in counts} == counts
    assert rig.numbers.reconcile_time.count == len(times)
    assert rig.numbers.active_workers == 0


@pytest.mark.parametrize("seconds", [timedelta(seconds=5), "5"])
def test_a_requeue_after_what_is_no_number_of_seconds_is_refused(seconds: Any) -> None:
    with pytest.raises(TypeError, match=r"requeue_after is .*; write seconds as a number"):
        Result(requeue_after=seconds)


@pytest.mark.parametrize("timeout", [None, 5.0])
async def test_a_plain_function_is_no_reconcile(
    rig: Rig, caplog: pytest.LogCaptureFixture, timeout: float | None
) -> None:
    def reconcile(key: ObjectKey) -> None:
        return None

    rig.put("a")
    options = ControllerOptions(rate_limiter=lambda: ItemExponential(1, 100), reconcile_timeout=timeout)
    async with rig.running(cast("Reconcile", reconcile), options):
        await rig.clock.sleep(0.5)
    assert rig.numbers.panics == 1
    assert "reconcile of controller 'test' is a plain function: write `async def`" in caplog.text


async def test_any_awaitable_is_a_reconcile(rig: Rig) -> None:
    rig.put("a")
    async with rig.running(lambda key: asyncio.ensure_future(rig.scripted(key))):
        await rig.clock.sleep(0.5)
    assert rig.calls == [(0.0, "a")]
    assert rig.results() == {"success": 1}


async def test_a_cache_that_is_first_asked_for_in_a_reconcile_is_warned_of(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.put("c", CONFIGMAPS)
    seen: list[int] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        seen.append(len(rig.cache.lister(CONFIGMAPS).list()))
        return Result(requeue_after=1)

    rig.put("a")
    async with rig.running(reconcile):
        await rig.clock.sleep(1.5)
    assert seen == [0, 1]
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert warning.__dict__["fields"] == {"selection": "configmaps"}


def failing(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "panics"),
    [(ValueError("no such theme"), 0), (TypeError("text is no number"), 1)],
)
@pytest.mark.parametrize("way", ["plain", "under a finalizer", "in a task group"])
async def test_a_failure_is_logged_with_its_place(
    rig: Rig, caplog: pytest.LogCaptureFixture, error: Exception, panics: int, way: str
) -> None:
    async def reconcile(key: ObjectKey) -> Result | None:
        if way == "plain":
            failing(error)
        if way == "in a task group":
            raise ExceptionGroup("unhandled", [error_of(failing, error)])
        obj = CachedObject.from_dict(
            {"metadata": {"name": key.name, "namespace": key.namespace, "finalizers": ["example.com/x"]}}
        )
        return await with_finalizer(
            rig.api.client(), DEPLOYMENTS, obj, "example.com/x", apply=apply, cleanup=apply
        )

    async def apply(obj: CachedObject) -> Result | None:
        failing(error)
        return None

    rig.put("a")
    async with rig.running(reconcile):
        await rig.clock.sleep(0.5)
    assert (rig.numbers.errors, rig.numbers.panics) == (1, panics)
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    fields = record.__dict__["fields"]
    assert str(error) in fields["error"]
    if panics:
        assert "in failing" in fields["stacktrace"]
    else:
        line = failing.__code__.co_firstlineno + 1
        assert fields["at"] == f"test_controller.py:{line} in failing"


def error_of(function: Callable[[Exception], None], error: Exception) -> Exception:
    """What `function` raises, as it was raised."""
    try:
        function(error)
    except Exception as raised:
        return raised
    raise AssertionError("nothing was raised")


async def test_one_objects_failure_never_stops_the_others(rig: Rig) -> None:
    async def reconcile(key: ObjectKey) -> Result | None:
        rig.calls.append((rig.clock.now(), key.name))
        if key == A:
            raise RecursionError("deep")
        return None

    rig.put("a")
    async with rig.running(reconcile):
        await rig.clock.sleep(2)
        rig.put("b")
        await rig.clock.sleep(0.5)
    assert rig.calls == [(0.0, "a"), (1.0, "a"), (2.0, "b")]


@pytest.mark.conforms("kube-rs runner_should_never_run_two_instances_at_once")
async def test_an_event_during_a_reconcile_means_one_more_run_afterwards(rig: Rig) -> None:
    async def reconcile(key: ObjectKey) -> Result | None:
        rig.calls.append((rig.clock.now(), key.name))
        await rig.clock.sleep(5)
        return None

    rig.put("a")
    async with rig.running(reconcile):
        for second in range(3):
            await rig.clock.sleep(1)
            rig.put("a", spec={"replicas": second})
        await rig.clock.sleep(20)
    assert rig.calls == [(0.0, "a"), (5.0, "a")]


async def test_priorities_of_results_and_retries(rig: Rig) -> None:
    rig.put("a")
    seen: list[int] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        assert rig.controller is not None
        bound = rig.controller._bound
        assert bound is not None
        seen.append(max((p for p, n in rig.metrics.queue("test").depth.items() if n), default=0))
        if len(seen) == 1:
            return Result(requeue_after=1, priority=7)
        return None

    async with rig.running(reconcile):
        await rig.clock.sleep(0.5)
        assert rig.metrics.queue("test").depth[LOW_PRIORITY] == 0, "initial objects come at low priority"
        await rig.clock.sleep(1)
        assert 7 in rig.metrics.queue("test").depth


# -- timeouts and ids ----------------------------------------------------------------------------------------


@pytest.mark.conforms("controller-runtime controller should time out if ReconciliationTimeout is set")
async def test_a_reconcile_that_takes_too_long_is_cancelled_and_counted(rig: Rig) -> None:
    ended: list[float] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        rig.calls.append((rig.clock.now(), key.name))
        try:
            await rig.clock.sleep(60 if len(rig.calls) == 1 else 0)
        finally:
            ended.append(rig.clock.now())
        return None

    rig.put("a")
    options = ControllerOptions(reconcile_timeout=10, rate_limiter=lambda: ItemExponential(1, 1))
    async with rig.running(reconcile, options):
        await rig.clock.sleep(30)
    assert ended == [10.0, 11.0]
    assert (rig.numbers.timeouts, rig.numbers.errors, rig.numbers.panics) == (1, 1, 0)


@pytest.mark.conforms("controller-runtime controller should time out if ReconciliationTimeout is set")
async def test_somebody_elses_timeout_is_not_the_controllers(rig: Rig) -> None:
    rig.answers = [TimeoutError("the cloud took too long")]
    rig.put("a")
    options = ControllerOptions(reconcile_timeout=10)
    async with rig.running(None, options):
        await rig.clock.sleep(1)
    assert (rig.numbers.timeouts, rig.numbers.errors) == (0, 1)


@pytest.mark.conforms("controller-runtime controller should have the reconcileID in the context")
async def test_each_reconcile_has_an_id(rig: Rig) -> None:
    ids: list[str] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        ids.append(reconcile_id())
        return None

    rig.put("a")
    rig.put("b")
    async with rig.running(reconcile):
        await rig.clock.sleep(1)
    assert len(set(ids)) == 2
    assert all(len(each) == 16 for each in ids)
    assert reconcile_id() == ""


# -- workers and sources -------------------------------------------------------------------------------------


@pytest.mark.conforms(
    "controller-runtime controller should run one task per MaxConcurrentReconciles",
    "kube-rs runner_should_respect_max_concurrent_executions",
)
@pytest.mark.parametrize(("workers", "seconds"), [(1, 6.0), (3, 2.0)])
async def test_as_many_reconciles_at_a_time_as_there_are_workers(
    rig: Rig, workers: int, seconds: float
) -> None:
    peak = 0

    async def reconcile(key: ObjectKey) -> Result | None:
        nonlocal peak
        peak = max(peak, rig.numbers.active_workers)
        await rig.clock.sleep(1)
        rig.calls.append((rig.clock.now(), key.name))
        return None

    for number in range(6):
        rig.put(f"d{number}")
    async with rig.running(reconcile, ControllerOptions(workers=workers)):
        await rig.clock.sleep(60)
    assert peak == workers == rig.numbers.max_workers
    assert rig.calls[-1][0] == seconds


@pytest.mark.conforms(
    "controller-runtime controller should not call Reconcile until all event handlers have processed initial objects",
    "kube-rs runner_should_wait_for_readiness",
)
async def test_no_reconcile_before_everything_is_synced_and_handled(rig: Rig) -> None:
    for number in range(3):
        rig.put(f"d{number}")
    gate = asyncio.Event()

    async def hold(request: Any) -> None:
        if request.path.endswith("/replicasets"):
            await gate.wait()

    rig.api.before = hold
    async with rig.running(owns=[REPLICASETS]) as controller:
        await rig.clock.sleep(5)
        assert rig.calls == []
        assert controller._bound is not None
        assert len(controller._bound.queue) == 3
        gate.set()
        await rig.clock.sleep(1)
        assert [name for _, name in rig.calls] == ["d0", "d1", "d2"]


@pytest.mark.conforms(
    "controller-runtime controller should return an error if there is an error waiting for the informers",
    "kube-rs runner_should_report_readiness_errors",
)
async def test_caches_that_do_not_fill_are_named(rig: Rig) -> None:
    rig.api.before = lambda request: rig.clock.sleep(100000)
    controller = Controller("test", rig.scripted, primary=DEPLOYMENTS, watches=[Watch(NODES, lambda obj: [])])
    controller.bind(rig.cache, rig.clock, rig.metrics, workers=1, cache_sync_timeout=120)
    with pytest.raises(CacheSyncTimeout, match=r"no complete list of deployments.apps, nodes within 120 s"):
        await controller.run()
    assert rig.clock.now() == 120.0


async def test_owned_and_watched_objects_bring_their_keys(rig: Rig) -> None:
    parent = rig.put("a")

    def everyone(obj: CachedObject) -> list[ObjectKey]:
        return [A, ObjectKey("n", obj.meta.labels.get("for", "nobody"))]

    async with rig.running(owns=[REPLICASETS], watches=[Watch(CONFIGMAPS, everyone)]):
        await rig.clock.sleep(1)
        rig.calls.clear()
        reference = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "a",
            "uid": parent["metadata"]["uid"],
            "controller": True,
        }
        rig.put("rs", REPLICASETS, metadata={"ownerReferences": [reference]})
        await rig.clock.sleep(1)
        assert [name for _, name in rig.calls] == ["a"]
        rig.calls.clear()
        rig.put("cm", CONFIGMAPS, metadata={"labels": {"for": "b"}})
        await rig.clock.sleep(1)
        assert [name for _, name in rig.calls] == ["a", "b"]
        rig.calls.clear()
        rig.api.remove(REPLICASETS, "rs", "n")
        await rig.clock.sleep(1)
        assert [name for _, name in rig.calls] == ["a"]


async def test_predicates_hold_for_every_source(rig: Rig) -> None:
    async with rig.running(predicates=[generation_changed]):
        rig.put("a", spec={"replicas": 1})
        await rig.clock.sleep(1)
        rig.put("a", spec={"replicas": 1}, metadata={"labels": {"x": "y"}})
        await rig.clock.sleep(1)
        rig.put("a", spec={"replicas": 2})
        await rig.clock.sleep(1)
    assert [at for at, _ in rig.calls] == [0.0, 2.0]


async def test_keys_can_be_enqueued_from_outside(rig: Rig) -> None:
    async with rig.running() as controller:
        controller.enqueue(B, after=3)
        await rig.clock.sleep(10)
    assert rig.calls == [(3.0, "b")]


# -- life ----------------------------------------------------------------------------------------------------


async def test_a_cancelled_controller_lets_running_reconciles_finish(rig: Rig) -> None:
    finished: list[float] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        await rig.clock.sleep(5)
        finished.append(rig.clock.now())
        return None

    rig.put("a")
    rig.put("b")
    async with rig.running(reconcile):
        await rig.clock.sleep(1)
    assert finished == [5.0]


async def test_cancelled_twice_it_ends_at_once(rig: Rig) -> None:
    async def reconcile(key: ObjectKey) -> Result | None:
        await rig.clock.sleep(500)
        return None

    rig.put("a")
    controller = Controller("test", reconcile, primary=DEPLOYMENTS)
    controller.bind(rig.cache, rig.clock, rig.metrics, workers=1, cache_sync_timeout=120)
    cache = asyncio.create_task(rig.cache.run())
    task = asyncio.create_task(controller.run())
    await rig.clock.sleep(1)
    task.cancel()
    await rig.clock.sleep(1)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert rig.clock.now() == 2.0
    cache.cancel()
    await asyncio.gather(cache, return_exceptions=True)


@pytest.mark.conforms(
    "controller-runtime controller should return an error if it gets started more than once"
)
async def test_a_controller_runs_once_in_one_manager(rig: Rig) -> None:
    async with rig.running() as controller:
        with pytest.raises(RuntimeError, match="more than once"):
            await controller.run()
        with pytest.raises(RuntimeError, match="belongs to a manager already"):
            controller.bind(rig.cache, rig.clock, rig.metrics, workers=1, cache_sync_timeout=1)


@pytest.mark.conforms("controller-runtime controller New: should return an error if Name is not specified")
async def test_a_controller_needs_a_name_and_a_manager(rig: Rig) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        Controller("", rig.scripted, primary=DEPLOYMENTS)
    controller = Controller("lonely", rig.scripted, primary=DEPLOYMENTS)
    actions: list[Callable[[], Awaitable[None]]] = [controller.run]
    for action in actions:
        with pytest.raises(RuntimeError, match=r"call manager.add\(controller\)"):
            await action()
    with pytest.raises(RuntimeError, match="belongs to no manager"):
        controller.enqueue(A)


@pytest.mark.conforms("kube-rs applier_must_not_deadlock_if_reschedule_buffer_fills")
async def test_a_storm_of_self_requeues_starves_nobody(rig: Rig) -> None:
    async def reconcile(key: ObjectKey) -> Result | None:
        rig.calls.append((rig.clock.now(), key.name))
        if key == A and len(rig.calls) < 1000:
            assert rig.controller is not None
            rig.controller.enqueue(A)
        return None

    rig.put("a")
    rig.put("b")
    async with rig.running(reconcile):
        await rig.clock.sleep(1)
    assert len(rig.calls) == 1000 + 1
    assert [name for _, name in rig.calls].count("b") == 1
