"""Read your own writes: reconciles wait for caches that lag behind what was written, and for nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kaito.runtime.client import Client
from kaito.runtime.controller import Controller, ControllerOptions, Watch
from kaito.runtime.handlers import by_owner
from kaito.runtime.logs import ReconcileContext, current_reconcile
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.metrics import ControllerMetrics
from kaito.runtime.own_writes import MAX_KEYS, Consistency
from kaito.runtime.owners import controller_reference
from kaito.runtime.predicates import Event, EventType, generation_changed
from kaito.runtime.resources import CONFIGMAPS, SECRETS, ObjectKey
from kaito.runtime.result import Result
from kaito.runtime.testing import VirtualClock
from kaito.runtime.workqueue import WorkQueue
from kaito.runtime.writes import Write
from kaito.testing.faults import DelayEvents, Match
from kaito.testing.memory_api import MemoryApi

LAG = 2.0
CHILDREN = Match(verb="watch", resource="secrets")
A, B = ObjectKey("default", "a"), ObjectKey("default", "b")


class World:
    """A manager over an API whose watch of Secrets lags, and reconciles that count Secrets in the cache."""

    def __init__(self, api: MemoryApi, **options: Any) -> None:
        self.api, self.clock = api, api.clock
        self.client: Client = api.client("operator")
        self.direct = api.direct_client("user")
        self.manager = Manager(self.client, clock=api.clock, options=ManagerOptions(**options))
        self.calls: list[tuple[float, str]] = []
        self.wanted = 3

    async def naive(self, key: ObjectKey) -> Result | None:
        """Creates what it does not see, under names that the server makes up; looks again half a second later."""
        self.calls.append((self.clock.now(), key.name))
        first = len(self.calls) == 1
        parent = self.manager.cache.lister(CONFIGMAPS).get(key.name, key.namespace)
        if parent is None:
            return None
        owned = [
            each
            for each in self.manager.cache.lister(SECRETS).list(key.namespace)
            if each.meta.controller is not None and each.meta.controller.name == key.name
        ]
        for _ in range(self.wanted - len(owned)):
            await self.client.create(SECRETS, child(parent.decode()))
        return Result(requeue_after=0.5) if first else None

    def add(self, reconcile: Any = None, name: str = "parents", **more: Any) -> Controller:
        options = more.pop("options", ControllerOptions())
        more.setdefault("owns", [SECRETS])
        more.setdefault("primary", CONFIGMAPS)
        controller = Controller(name, reconcile or self.naive, options=options, **more)
        self.manager.add(controller)
        return controller

    async def parent(self, name: str) -> dict[str, Any]:
        return await self.direct.create(
            CONFIGMAPS, {"metadata": {"name": name, "namespace": "default"}, "data": {}}
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.manager.run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def children(self) -> int:
        return len(await self.direct.list(SECRETS, "default"))

    @property
    def numbers(self) -> tuple[int, int]:
        metrics = self.manager.metrics.controller("parents")
        return metrics.own_write_waits, metrics.own_write_timeouts


def child(parent: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "generateName": "child-",
            "namespace": "default",
            "ownerReferences": [controller_reference(parent, CONFIGMAPS)],
            **metadata,
        }
    }


def lag(api: MemoryApi, seconds: float = LAG) -> None:
    """From the first list on, every event of a Secret comes so many seconds late."""
    api.faults.add(CHILDREN, DelayEvents(seconds), times=None)


@pytest.mark.parametrize(("bound", "children", "times"), [(5.0, 3, [2.0, 4.0]), (0.0, 6, [2.0, 2.5])])
async def test_a_naive_reconcile_makes_no_duplicates_although_the_watch_is_late(
    memory_api: MemoryApi, bound: float, children: int, times: list[float]
) -> None:
    """With a bound of 0, as in other runtimes, it makes every child twice."""
    lag(memory_api)
    world = World(memory_api, own_writes_timeout=bound)
    world.add(watches=[], owns=[SECRETS], predicates=[only_parents])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(30)
        assert await world.children() == children
    assert world.calls == [(at, "a") for at in times]
    assert world.numbers == ((1, 0) if bound else (0, 0))


def only_parents(event: Event) -> bool:
    """Children bring no keys, so nothing but the cache itself can tell that a key may go on."""
    return event.obj.resource is CONFIGMAPS or event.type is EventType.DELETE


async def test_events_that_come_meanwhile_do_not_start_it(memory_api: MemoryApi) -> None:
    lag(memory_api)
    world = World(memory_api)
    world.add()
    await world.parent("a")
    async with world.running():
        for second in range(1, 30):
            await world.clock.sleep(0.1)
            await world.direct.patch(CONFIGMAPS, "a", "default", patch={"data": {"n": str(second)}})
        await world.clock.sleep(30)
        assert await world.children() == 3
    ran = [at for at, _ in world.calls]
    assert ran[0] == 2.0
    assert all(at >= 4.0 for at in ran[1:])
    assert world.numbers == (1, 0)


async def test_a_key_that_waits_blocks_no_worker(memory_api: MemoryApi) -> None:
    lag(memory_api)
    world = World(memory_api)
    world.add(predicates=[only_parents])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(3)
        assert world.calls == [(2.0, "a")]
        world.wanted = 0
        await world.parent("b")
        await world.clock.sleep(0.25)
        assert world.calls == [(2.0, "a"), (3.0, "b")], "the only worker took another key"
        await world.clock.sleep(30)
    assert world.calls == [(2.0, "a"), (3.0, "b"), (4.0, "a")]


async def test_it_waits_no_longer_than_the_bound(
    memory_api: MemoryApi, caplog: pytest.LogCaptureFixture
) -> None:
    lag(memory_api, 20)
    world = World(memory_api)
    world.add(predicates=[only_parents])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(60)
    assert world.calls == [(20.0, "a"), (25.5, "a")]
    assert world.numbers == (1, 1)
    (record,) = [each for each in caplog.records if "own writes" in each.message]
    assert record.levelno == logging.WARNING
    fields = record.fields  # type: ignore[attr-defined]
    assert fields["missing"].startswith("secrets ")
    assert (fields["controller"], fields["name"], fields["waited"]) == ("parents", "a", 5.0)


async def test_events_do_not_lengthen_the_bound(memory_api: MemoryApi) -> None:
    lag(memory_api, 20)
    world = World(memory_api)
    world.add(predicates=[only_parents])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(23)
        await world.direct.patch(CONFIGMAPS, "a", "default", patch={"data": {"n": "1"}})
        await world.clock.sleep(30)
    assert world.calls == [(20.0, "a"), (25.5, "a")], "it waits from 20.5 on"


async def test_after_the_bound_the_same_writes_are_not_waited_for_again(memory_api: MemoryApi) -> None:
    lag(memory_api, 20)
    world = World(memory_api, own_writes_timeout=1.0)
    ran: list[float] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        ran.append(world.clock.now())
        if len(ran) == 1:
            await world.client.create(SECRETS, child({"metadata": {"name": "a", "uid": "u"}}))
        return Result(requeue_after=0.25) if len(ran) < 4 else None

    world.add(reconcile, predicates=[only_parents])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(30)
    assert ran == [20.0, 21.25, 21.5, 21.75]
    assert world.numbers == (1, 1)


async def test_a_deletion_is_waited_for(memory_api: MemoryApi) -> None:
    lag(memory_api)
    world = World(memory_api)
    seen: list[tuple[float, int]] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        secrets = world.manager.cache.lister(SECRETS).list("default")
        seen.append((world.clock.now(), len(secrets)))
        for secret in secrets:
            await world.client.delete(SECRETS, secret.key.name, "default")
        return Result(requeue_after=0.5) if secrets else None

    world.add(reconcile, predicates=[only_parents])
    parent = await world.parent("a")
    for _ in range(2):
        await world.direct.create(SECRETS, child(parent))
    async with world.running():
        await world.clock.sleep(30)
    assert seen == [(2.0, 2), (4.0, 0)]


async def test_a_deletion_that_finalizers_hold_up_is_seen_when_it_has_begun(memory_api: MemoryApi) -> None:
    lag(memory_api)
    world = World(memory_api)
    seen: list[tuple[float, list[bool]]] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        secrets = world.manager.cache.lister(SECRETS).list("default")
        seen.append((world.clock.now(), [each.meta.deletion_timestamp is not None for each in secrets]))
        if len(seen) == 1:
            await world.client.delete(SECRETS, "kept", "default")
            return Result(requeue_after=0.5)
        return None

    world.add(reconcile, predicates=[only_parents])
    parent = await world.parent("a")
    await world.direct.create(SECRETS, child(parent, name="kept", finalizers=["example.com/keep"]))
    async with world.running():
        await world.clock.sleep(30)
    assert seen == [(2.0, [False]), (4.0, [True])]


async def test_what_no_informer_will_show_is_not_waited_for(memory_api: MemoryApi) -> None:
    """The child's label is outside the selection of the watch."""
    lag(memory_api)
    world = World(memory_api)
    ran: list[float] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        ran.append(world.clock.now())
        if len(ran) == 1:
            await world.client.create(
                SECRETS, child({"metadata": {"name": "a", "uid": "u"}}, labels={"a": "c"})
            )
            return Result(requeue_after=0.5)
        return None

    watch = Watch(SECRETS, by_owner(CONFIGMAPS), label_selector="a=b")
    world.add(reconcile, owns=[], watches=[watch])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(30)
    assert ran == [2.0, 2.5]
    assert world.numbers == (0, 0)


async def test_what_leaves_the_selection_is_waited_for(memory_api: MemoryApi) -> None:
    lag(memory_api)
    world = World(memory_api)
    watch = Watch(SECRETS, by_owner(CONFIGMAPS), label_selector="a=b")
    seen: list[tuple[float, int]] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        selected = world.manager.cache.lister(SECRETS, label_selector="a=b").list()
        seen.append((world.clock.now(), len(selected)))
        for secret in selected:
            patch = {"metadata": {"labels": {"a": "c"}}}
            await world.client.patch(SECRETS, secret.key.name, "default", patch=patch)
        return Result(requeue_after=0.5) if selected else None

    world.add(reconcile, owns=[], watches=[watch], predicates=[only_parents])
    parent = await world.parent("a")
    await world.direct.create(SECRETS, child(parent, labels={"a": "b"}))
    async with world.running():
        await world.clock.sleep(30)
    assert seen == [(2.0, 1), (4.0, 0)]


async def test_other_controllers_of_the_written_type_wait_as_well(memory_api: MemoryApi) -> None:
    lag(memory_api)
    world = World(memory_api)
    seen: list[tuple[float, str | None]] = []

    async def mark(key: ObjectKey) -> Result | None:
        await world.client.patch(SECRETS, "s", "default", patch={"metadata": {"labels": {"marked": "yes"}}})
        return None

    async def look(key: ObjectKey) -> Result | None:
        secret = world.manager.cache.lister(SECRETS).get("s", "default")
        seen.append((world.clock.now(), secret.meta.labels.get("marked") if secret else "gone"))
        return None

    world.add(mark, owns=[])
    secrets = world.add(look, "secrets", primary=SECRETS, owns=[])
    await world.direct.create(SECRETS, {"metadata": {"name": "s", "namespace": "default"}})
    async with world.running():
        await world.clock.sleep(3)
        seen.clear()
        await world.parent("a")  # `mark` runs at 3.0
        await world.clock.sleep(0.5)
        secrets.enqueue(ObjectKey("default", "s"))
        await world.clock.sleep(30)
    assert seen[0] == (5.0, "yes")


async def test_a_status_write_that_brings_no_event_through_the_predicates(memory_api: MemoryApi) -> None:
    memory_api.faults.add(Match(verb="watch", resource="configmaps"), DelayEvents(LAG), times=None)
    world = World(memory_api)
    ran: list[float] = []

    async def reconcile(key: ObjectKey) -> Result | None:
        ran.append(world.clock.now())
        if len(ran) == 1:
            await world.client.patch(
                CONFIGMAPS, "a", "default", patch={"metadata": {"annotations": {"x": "y"}}}
            )
            return Result(requeue_after=0.1)
        return None

    world.add(reconcile, owns=[], predicates=[generation_changed])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(30)
    assert ran == [2.0, 4.0]


async def test_a_manager_stops_at_once_while_keys_wait(memory_api: MemoryApi) -> None:
    lag(memory_api)
    world = World(memory_api)
    controller = world.add(predicates=[only_parents])
    await world.parent("a")
    async with world.running():
        await world.clock.sleep(3)
        assert world.numbers == (1, 0)
    assert world.clock.now() == 3.0
    assert controller._bound is not None
    assert not controller._bound.consistency.unseen


# -- bookkeeping, without a server ---------------------------------------------------------------------------


class StillInformer:
    """Shows version `version` and nothing else."""

    resource = SECRETS

    def __init__(self) -> None:
        self.version = 10
        self.store: dict[ObjectKey, Any] = {}
        self.listeners: list[Callable[[], None]] = []

    def covers(self, write: Write) -> bool:
        return write.resource == self.resource

    def has_seen(self, version: str) -> bool:
        return not version.isdigit() or int(version) <= self.version

    def on_advance(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback)

    def advance(self, version: int) -> None:
        self.version = version
        for callback in list(self.listeners):
            callback()


class Books:
    def __init__(self, clock: VirtualClock, timeout: float = 5.0) -> None:
        self.informer = StillInformer()
        self.queue: WorkQueue[ObjectKey] = WorkQueue(clock)
        self.metrics = ControllerMetrics()
        informers: list[Any] = [self.informer]
        self.consistency = Consistency("c", CONFIGMAPS, informers, self.queue, clock, self.metrics, timeout)

    def write(self, key: ObjectKey, version: str, *, name: str = "s", deleted: bool = False) -> None:
        token = current_reconcile.set(ReconcileContext("c", key))
        try:
            self.consistency.note(Write(SECRETS, ObjectKey("n", name), "uid", version, deleted, {}))
        finally:
            current_reconcile.reset(token)

    def take(self, key: ObjectKey) -> bool:
        """Whether a worker that gets the key must give it back."""
        self.queue.add(key)
        item = self.queue.get_nowait()
        assert item is not None
        return self.consistency.holds(item)


@pytest.mark.parametrize(
    ("version", "waits"), [("10", False), ("11", True), ("", False), ("opaque-7", False)]
)
async def test_versions_that_cannot_be_compared_count_as_seen(
    virtual_clock: VirtualClock, version: str, waits: bool
) -> None:
    books = Books(virtual_clock)
    books.write(A, version)
    assert bool(books.consistency.unseen) is waits
    assert books.take(A) is waits


async def test_the_highest_version_counts_however_the_answers_come(virtual_clock: VirtualClock) -> None:
    books = Books(virtual_clock)
    for version in ("12", "15", "13"):
        books.write(A, version)
    assert books.take(A)
    books.informer.advance(14)
    await virtual_clock.sleep(1)
    assert books.queue.get_nowait() is None
    books.informer.advance(15)
    await virtual_clock.sleep(0)
    item = books.queue.get_nowait()
    assert item is not None
    assert item.key == A
    assert not books.consistency.holds(item)
    assert books.informer.listeners == [], "nobody listens where nobody waits"


async def test_an_object_that_is_not_there_yet_does_not_pass_for_one_that_is_gone(
    virtual_clock: VirtualClock,
) -> None:
    books = Books(virtual_clock)
    books.write(A, "12")
    books.write(A, "", deleted=True)  # answered with a Status, which names no version
    assert books.take(A)
    books.informer.advance(11)
    await virtual_clock.sleep(0)
    assert books.queue.get_nowait() is None


async def test_other_keys_and_other_controllers_are_not_concerned(virtual_clock: VirtualClock) -> None:
    books = Books(virtual_clock)
    books.write(A, "11")
    assert not books.take(B)
    books.consistency.note(Write(SECRETS, A, "uid", "12", False, {}))  # by nobody's reconcile
    token = current_reconcile.set(ReconcileContext("another", B))
    books.consistency.note(Write(SECRETS, A, "uid", "12", False, {}))
    current_reconcile.reset(token)
    assert list(books.consistency.unseen) == [A]


async def test_a_key_keeps_its_priority_while_it_waits(virtual_clock: VirtualClock) -> None:
    books = Books(virtual_clock)
    books.write(A, "11")
    books.queue.add(A, priority=7)
    item = books.queue.get_nowait()
    assert item is not None
    assert books.consistency.holds(item)
    books.informer.advance(11)
    await virtual_clock.sleep(0)
    again = books.queue.get_nowait()
    assert again is not None
    assert (again.key, again.priority) == (A, 7)


async def test_nothing_piles_up_of_keys_that_are_never_reconciled_again(virtual_clock: VirtualClock) -> None:
    books = Books(virtual_clock)
    for number in range(MAX_KEYS + 100):
        books.write(ObjectKey("n", str(number)), str(11 + number))
    assert len(books.consistency.unseen) == MAX_KEYS
    books.informer.advance(10**9)
    for number in range(MAX_KEYS):
        books.write(B, str(10**9 + 1 + number))
    assert list(books.consistency.unseen) == [B]


async def test_a_thousand_children_are_one_version(virtual_clock: VirtualClock) -> None:
    books = Books(virtual_clock)
    for number in range(1000):
        books.write(A, str(11 + number), name=str(number))
    (unseen,) = books.consistency.unseen.values()
    assert list(unseen.versions.values()) == ["1010"]
