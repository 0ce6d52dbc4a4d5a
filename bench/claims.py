"""Claims from the first request to Ready on virtual time: machine controller, AKS provider and Azure SDK as they are,
an API server and a fake Azure in the same event loop, operations of five minutes that take no time at all.

Seconds are virtual, so they are the same on every machine. Processor time is real; what the API server, the fake Azure
and the fake kubelets use of it is told apart.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from kaito.api import labels
from kaito.api.conditions import is_true
from kaito.api.crds import crd_manifests
from kaito.api.resources import NODECLAIMS
from kaito.controllers import machine
from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.provisioner import aks
from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.testing import FakeArm, FakeKubelets, Recorded
from kaito.provisioner.testing.azure import MemoryTransport
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.manager import Manager
from kaito.runtime.memory_transport import MemoryTransport as ApiTransport
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CRDS, NODES
from kaito.runtime.testing import VirtualClock, run_virtual
from kaito.runtime.transport import Request, Response

OPERATION = 300.0
"""Virtual seconds that making a pool takes."""
HOUR = 3600.0
SIZE = "Standard_NC24ads_A100_v4"
PARALLEL, EXCLUSIVE, LIMITED = "parallel", "exclusive", "limited"
"""Modes of the fake Azure: any number of operations; one at a time, others get 409; any number, but requests are
counted as AKS documents it: 20 PUTs of pools at once and one a minute after, 60 reads at once and one a second."""
PUT_BURST, PUT_PAUSE = 20, 60.0
BREAK_OFF = 3.0
"""Times the sum of all operations after which a run is given up."""
REFUSALS = (409, 412, 429)

Tree = dict[str, Any]
T = TypeVar("T")


def claim(number: int) -> Tree:
    return {
        "apiVersion": NODECLAIMS.api_version,
        "kind": NODECLAIMS.kind,
        "metadata": {
            "name": f"ws{number:09d}",
            "labels": {labels.WORKSPACE_LABEL: "bench", labels.WORKSPACE_NAMESPACE_LABEL: "default"},
        },
        "spec": {
            "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
            "requirements": [
                {"key": labels.NODEPOOL_LABEL, "operator": "In", "values": ["kaito"]},
                {"key": labels.INSTANCE_TYPE_LABEL, "operator": "In", "values": [SIZE]},
                {"key": labels.OS_LABEL, "operator": "In", "values": ["linux"]},
            ],
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
            "resources": {"requests": {"storage": "100Gi"}},
            "expireAfter": "Never",
        },
    }


@dataclass
class Spent:
    """Processor seconds of what is called through it; what calls itself through it counts once."""

    seconds: float = 0.0
    _depth: int = 0

    def call(self, work: Callable[[], T]) -> T:
        started = time.process_time()
        self._depth += 1
        try:
            return work()
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.process_time() - started


class Metered:
    """Awaits something and counts only the time in which it runs, not that in which it waits."""

    def __init__(self, work: Any, spent: Spent) -> None:
        self._work = work
        self._spent = spent

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        advance, value = steps.send, None
        while True:
            try:
                waits_for = self._spent.call(partial(advance, value))
            except StopIteration as end:
                return end.value
            try:
                advance, value = steps.send, (yield waits_for)
            except BaseException as error:
                advance, value = steps.throw, error


class MeteredResponse:
    """A response whose body is made by what is metered: watches, above all."""

    def __init__(self, response: Response, spent: Spent) -> None:
        self._response = response
        self._spent = spent
        self.status = response.status
        self.headers = response.headers

    async def read(self) -> bytes:
        return bytes(await Metered(self._response.read(), self._spent))

    async def chunks(self) -> AsyncIterator[bytes]:
        chunks = self._response.chunks()
        while True:
            try:
                yield await Metered(anext(chunks), self._spent)
            except StopAsyncIteration:
                return

    async def close(self) -> None:
        await self._response.close()


@dataclass
class World:
    """What a run consists of."""

    clock: Clock
    arm: FakeArm
    kubelets: FakeKubelets
    client: Client
    ready: dict[str, float] = field(default_factory=dict)
    """Virtual seconds at which each claim became Ready."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._look(obj)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._look(new)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self.ready.pop(obj.key.name, None)

    def _look(self, obj: CachedObject) -> None:
        conditions = (obj.decode().get("status") or {}).get("conditions")
        if obj.key.name not in self.ready and is_true(conditions, "Ready"):
            self.ready[obj.key.name] = self.clock.now()
            self.changed.set()

    async def until_ready(self, count: int) -> None:
        """Raises TimeoutError, saying how many are, where it takes far too long."""
        try:
            async with self.clock.timeout(OPERATION * count * BREAK_OFF):
                while len(self.ready) < count:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise TimeoutError(f"only {len(self.ready)} of {count} claims are Ready") from None


@asynccontextmanager
async def world(clock: Clock, mode: str, others: Spent) -> AsyncIterator[World]:
    """Everything runs inside the block."""
    server = ApiServer(ApiServerOptions(clock=clock))

    async def handle(request: Request) -> Response:
        return MeteredResponse(await Metered(server.handle(request), others), others)

    transport = ApiTransport(handle, clock)
    client = Client(transport, clock=clock, user_agent="bench", field_manager="bench")
    for manifest in crd_manifests():
        await client.create(CRDS, manifest)
    arm = FakeArm(clock, exclusive=mode == EXCLUSIVE)
    arm.durations.create = OPERATION
    if mode == LIMITED:
        arm.limit_rate("put_pool", burst=PUT_BURST, per_second=1 / PUT_PAUSE)
        arm.limit_rate("get_pool", "list_pools", "get_cluster", "operation", burst=60, per_second=1)
    answer = arm.handle
    arm.handle = lambda *args, **kwargs: others.call(lambda: answer(*args, **kwargs))  # type: ignore[method-assign]
    place = arm.place
    config = AksConfig(
        place.location, place.resource_group, place.cluster, place.subscription, sign_in=SignIn.NONE
    )
    way = Arm(config, clock, transport=MemoryTransport(arm, clock))
    manager = Manager(client.named("kaito-provisioner"), clock=clock)
    provider = aks.build(config, clock, manager.cache.informer(NODES).lister, arm=way)
    machine.setup(manager, provider)
    kubelets = FakeKubelets(arm, client, clock)
    made = World(clock, arm, kubelets, client)
    manager.cache.informer(NODECLAIMS).add_handler(made)
    stop = asyncio.Event()

    async def join() -> None:
        await Metered(kubelets.run(), others)

    running, joining = asyncio.create_task(manager.run(stop)), asyncio.create_task(join())
    try:
        await clock.sleep(1)
        yield made
    finally:
        stop.set()
        await running
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        await way.close()
        await transport.close()
        await server.stop()


async def _launch(count: int, mode: str) -> Tree:
    clock = VirtualClock()
    others = Spent()
    async with world(clock, mode, others) as made:
        made.arm.requests.clear()
        began, cpu = clock.now(), time.process_time()
        others_before = others.seconds
        for number in range(count):
            await made.client.create(NODECLAIMS, claim(number))
        await made.until_ready(count)
        spent = time.process_time() - cpu
        spent_by_others = others.seconds - others_before
        requests = list(made.arm.requests)
        others_before, before = others.seconds, time.process_time()
        settled = await _settled(made)
        settled_cpu = time.process_time() - before - (others.seconds - others_before)
        seconds = max(made.ready.values()) - began
        anyway = settled.get("get_cluster", 0) * seconds / HOUR
        finished = sum(not operation.running for operation in made.arm.operations)
        return {
            "seconds": round(seconds, 3),
            "first ready after": round(min(made.ready.values()) - began, 3),
            "operations finished": finished,
            "refused": sum(each.call == "put_pool" and each.status in REFUSALS for each in requests),
            "throttled": sum(each.status == 429 for each in requests),
            "requests to Azure": dict(sorted(Counter(each.call for each in requests).items())),
            "beyond polling": round(len(beyond_polling(requests)) - anyway),
            "requests to Azure in an hour once settled": settled,
            "cpu in 75 minutes once settled": round(settled_cpu, 3),
            "cpu": round(spent, 3),
            "cpu of API server and fakes": round(spent_by_others, 3),
        }


async def _settled(made: World) -> dict[str, int]:
    """Requests to Azure in an hour in which nothing happens, by call."""
    await made.clock.sleep(HOUR / 4)
    made.arm.requests.clear()
    await made.clock.sleep(HOUR)
    return dict(sorted(Counter(each.call for each in made.arm.requests).items()))


def beyond_polling(requests: list[Recorded]) -> list[Recorded]:
    """Requests that are no repeated look: all but reads of a pool, or of all pools, after its PUT was sent."""
    started: set[str] = set()
    found = []
    for each in requests:
        looks = each.call in ("get_pool", "operation") and each.pool in started
        if not looks and not (each.call == "list_pools" and started):
            found.append(each)
        if each.call == "put_pool":
            started.add(each.pool)
    return found


def launch(count: int, mode: str) -> Tree:
    """`count` claims made at once, until the last is Ready; virtual seconds, counts and processor seconds."""
    return run_virtual(lambda: _launch(count, mode))


def shortest(count: int, mode: str) -> float:
    """Virtual seconds that Azure itself takes for `count` pools."""
    if mode == EXCLUSIVE:
        return OPERATION * count
    if mode == LIMITED:
        return OPERATION + PUT_PAUSE * max(0, count - PUT_BURST)
    return OPERATION
