"""What a drain sees of the API server: pods of its Nodes only, for as long as it lasts, and turns where many drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from controllers.machine.parity.ends import a_node, a_pod, an_attachment
from kaito.controllers.machine import drain_watch
from kaito.controllers.machine.decide.drain_steps import PodsOnNode, VolumesOfNode
from kaito.controllers.machine.drain_watch import DrainWatch
from kaito.runtime.errors import Forbidden, NotFound
from kaito.runtime.resources import PODS
from kaito.runtime.transport import BufferedResponse, Request, Response
from support.control_plane import ControlPlane

OWNER = ("NodeClaim", "ws")


class Woken:
    """Counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@asynccontextmanager
async def running(world: ControlPlane) -> AsyncIterator[DrainWatch]:
    watch = DrainWatch(world.client.named("drains"), world.clock)
    task = asyncio.create_task(watch.run())
    await world.clock.sleep(0)
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def names(world: ControlPlane, watch: DrainWatch, node: str, woken: Woken) -> list[str] | None:
    watch.pods(node, OWNER, woken)
    await world.clock.sleep(0.1)
    pods = watch.pods(node, OWNER, woken).pods
    return None if pods is None else sorted(pod.name for pod in pods)


async def test_it_sees_the_pods_of_the_node_and_no_others(world: ControlPlane) -> None:
    for node in ("one", "two"):
        await a_node(world, node)
        await a_pod(world, f"on-{node}", node=node)
    woken = Woken()
    async with running(world) as watch:
        assert watch.pods("one", OWNER, woken) == PodsOnNode(), "not known yet"
        assert await names(world, watch, "one", woken) == ["on-one"]
        assert woken.times == 1, "that they are known is news"


async def test_what_changes_nothing_wakes_nobody(world: ControlPlane) -> None:
    await a_node(world, "one")
    await a_pod(world, node="one")
    woken = Woken()
    async with running(world) as watch:
        await names(world, watch, "one", woken)
        await world.client.patch(PODS, "web", "default", patch={"metadata": {"labels": {"a": "b"}}})
        await world.clock.sleep(0.1)
        assert woken.times == 1
        await world.client.delete(PODS, "web", "default")
        await world.clock.sleep(0.1)
        assert woken.times == 2


async def test_nothing_is_followed_any_more_once_a_drain_is_over(world: ControlPlane) -> None:
    await a_node(world, "one")
    woken = Woken()
    async with running(world) as watch:
        await names(world, watch, "one", woken)
        await watch.volumes("one", OWNER, woken)
        await world.clock.sleep(0.1)
        watch.done(OWNER, "uid")
        assert (watch.drained, watch.is_done(OWNER, "uid")) == (1, True)
        before = woken.times
        await a_pod(world, node="one")
        await an_attachment(world, "pv", node="one")
        await world.clock.sleep(60)
        assert woken.times == before
        assert not watch.is_done(OWNER, "another-uid"), "a claim of the same name is another claim"
        watch.forget(OWNER)
        assert not watch.is_done(OWNER, "uid")


async def test_where_many_drain_the_one_that_had_its_turn_gives_way(
    world: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_watch, "FOLLOWED_LIMIT", 1)
    first, second = Woken(), Woken()
    async with running(world) as watch:
        assert await names(world, watch, "one", first) == []
        assert await names(world, watch, "two", second) is None, "the other's turn lasts a minute"
        await world.clock.sleep(60)
        before = first.times
        assert await names(world, watch, "two", second) == []
        assert first.times == before + 1, "who lost his turn is told, and asks again"


async def test_before_and_after_its_run_nothing_is_known(world: ControlPlane) -> None:
    woken = Woken()
    watch = DrainWatch(world.client, world.clock)
    assert watch.pods("one", OWNER, woken) == PodsOnNode()
    assert await watch.volumes("one", OWNER, woken) == VolumesOfNode()
    async with running(world) as watch:
        await names(world, watch, "one", woken)
    assert watch.pods("one", OWNER, woken) == PodsOnNode()
    assert await watch.evict("one", ()) == PodsOnNode()


@pytest.mark.parametrize(
    ("error", "known"), [(NotFound("no such thing"), True), (Forbidden("may not"), False)]
)
async def test_a_server_without_attachments_has_none_and_one_that_hides_them_says_so(
    world: ControlPlane, monkeypatch: pytest.MonkeyPatch, error: NotFound | Forbidden, known: bool
) -> None:
    handle = world.server.handle

    async def refusing(request: Request) -> Response:
        if "volumeattachments" not in request.path:
            return await handle(request)
        return BufferedResponse(error.status, orjson.dumps(error.to_status()))

    monkeypatch.setattr(world.server, "handle", refusing)
    async with running(world) as watch:
        await watch.volumes("one", OWNER, Woken())
        await world.clock.sleep(5)
        found = await watch.volumes("one", OWNER, Woken())
    assert (found.names == ()) is known
    assert ("may not" in found.problem) is not known
