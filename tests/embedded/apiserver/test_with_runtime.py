"""The server under the runtime's own caches and controllers, in one loop, for hours of virtual time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client, PatchType, RequestRecord
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import CONFIGMAPS, LEASES
from kaito.runtime.testing.virtual import VirtualClock
from support.apiserver import Api


class World:
    """An informer cache on a server, and what it asked for."""

    def __init__(self, api: Api) -> None:
        self.requests: list[RequestRecord] = []
        self.transport = MemoryTransport(api.server.handle, api.clock)
        self.client = Client(self.transport, clock=api.clock, observer=self.requests.append)
        self.cache = InformerCache(self.client)
        self.maps = self.cache.informer(CONFIGMAPS)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> World:
        self._running = asyncio.ensure_future(self.cache.run())
        await self.cache.wait_synced()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running
        await self.transport.close()

    def names(self) -> list[str]:
        return sorted(obj.meta.name for obj in self.maps.lister.list())


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_a_cache_follows_the_server_for_hours(api: Api, virtual_clock: VirtualClock) -> None:
    async with World(api) as world:
        for hour in range(5):
            await world.client.create(CONFIGMAPS, config_map(f"m{hour}"))
            await virtual_clock.sleep(3600)
        assert world.names() == [f"m{hour}" for hour in range(5)]
        # A watch lasts five to ten minutes, and every resume finds its place: nothing is listed a second time.
        reads = [each for each in world.requests if each.method == "GET"]
        assert all(each.watch for each in reads)
        assert 5 * 6 <= len(reads) <= 5 * 12 + 1
        assert api.server.api.watcher.open_watches == 1


async def test_a_cache_recovers_from_compaction(api: Api, virtual_clock: VirtualClock) -> None:
    async with World(api) as world:
        await world.client.create(CONFIGMAPS, config_map("a"))
        await virtual_clock.sleep(1)
        collection = api.server.core.store.collection("configmaps")
        for cursor in list(collection.cursors):
            # As if the watcher had slept through more events than the history holds.
            cursor._next = collection.first_position - 1
            cursor.wake()
        api.server.core.store.compact()
        await world.client.delete(CONFIGMAPS, "a", "default")
        await world.client.create(CONFIGMAPS, config_map("b"))
        await virtual_clock.sleep(60)
        assert world.names() == ["b"]


async def test_two_writers_and_one_lock(api: Api, virtual_clock: VirtualClock) -> None:
    async with World(api) as world:
        lease = await world.client.create(
            LEASES, {"metadata": {"name": "l", "namespace": "default"}, "spec": {"holderIdentity": "a"}}
        )
        answers = await asyncio.gather(
            *(
                world.client.update(LEASES, {**lease, "spec": {"holderIdentity": holder}})
                for holder in ("b", "c")
            ),
            return_exceptions=True,
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "dict"]


async def test_a_settled_world_is_silent(api: Api, virtual_clock: VirtualClock) -> None:
    async with World(api) as world:
        await world.client.create(CONFIGMAPS, config_map("a", k="v"))
        await virtual_clock.sleep(10)
        revision = api.server.core.store.revision
        patch = {"data": {"k": "v"}}
        await world.client.patch(CONFIGMAPS, "a", "default", patch=patch, patch_type=PatchType.MERGE)
        await virtual_clock.sleep(7200)
        assert api.server.core.store.revision == revision
