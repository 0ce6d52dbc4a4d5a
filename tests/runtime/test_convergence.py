"""Whatever the network does, a cache ends equal to the server, and its handlers know what is in it.

A small model server with a history and every habit that servers have: resuming watches, 410 when the history
is too short, bookmarks or none, streaming lists or none, watches that end, break off in the middle of a line,
fall silent, or send an ERROR. Hypothesis chooses habits, mishaps and changes; time is virtual.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, Gone, Invalid, ServiceUnavailable, TooManyRequests, TransportError
from kaito.runtime.informer import Informer
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.objects import CachedObject
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.selection import Selection
from kaito.runtime.testing import VirtualClock, json_response, run_virtual, watch_line
from kaito.runtime.transport import BufferedResponse, Request, Response, StreamedResponse
from runtime.support import config_map, status_event

SETTLE = 2000.0
"""Virtual seconds of good weather at the end: longer than any back-off, watch or silence limit together."""


@dataclass
class Habits:
    """How the server behaves.

    `mishaps` is the chance of trouble per request and per chunk while it is stormy.
    """

    history: int
    bookmarks: bool
    streaming_lists: bool
    page: int
    mishaps: float
    seed: int


@dataclass
class ModelServer:
    clock: Clock
    habits: Habits
    version: int = 1
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[tuple[int, bytes]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stormy: bool = True
    births: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.habits.seed)

    def change(self, name: str, delete: bool) -> None:
        self.version += 1
        if delete:
            gone = self.objects.pop(name, None)
            if gone is None:
                return
            gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
            line = watch_line("DELETED", gone)
        else:
            known = self.objects.get(name)
            self.births += known is None
            uid = known["metadata"]["uid"] if known else f"uid-{self.births}"
            self.objects[name] = config_map(name, self.version, uid=uid)
            line = watch_line("MODIFIED" if known else "ADDED", self.objects[name])
        self.events = [*self.events, (self.version, line)][-self.habits.history :]
        self.changed.set()
        self.changed = asyncio.Event()

    def unlucky(self) -> bool:
        return self.stormy and self.random.random() < self.habits.mishaps

    async def handle(self, request: Request) -> Response:
        if self.unlucky():
            error: Exception = self.random.choice(
                [
                    TransportError("refused"),
                    TooManyRequests("x", retry_after=3),
                    ServiceUnavailable("x"),
                    Gone("x"),
                ]
            )
            if isinstance(error, ApiError):
                return self._refuse(error)
            raise error
        query = dict(request.query)
        return self._watch(query) if query.get("watch") else self._list(query)

    def _refuse(self, error: ApiError) -> Response:
        return BufferedResponse(error.status, orjson.dumps(error.to_status()))

    def _list(self, query: dict[str, str]) -> Response:
        names = sorted(self.objects)
        start, version = 0, self.version
        if query.get("continue"):
            start, version = map(int, query["continue"].split("-"))
            if version < self.version:
                return self._refuse(Gone("continue token expired"))
        if int(query.get("resourceVersion") or 0) > self.version:
            return self._refuse(Gone("from the future"))
        size = self.habits.page if query.get("limit") else len(names) + 1
        metadata = {"resourceVersion": str(version)}
        if start + size < len(names):
            metadata["continue"] = f"{start + size}-{version}"
        return json_response(
            {"metadata": metadata, "items": [self.objects[name] for name in names[start : start + size]]}
        )

    def _watch(self, query: dict[str, str]) -> Response:
        if query.get("sendInitialEvents"):
            if not self.habits.streaming_lists:
                return self._refuse(Invalid("sendInitialEvents is forbidden"))
            return StreamedResponse(200, self._mishandle(self._stream_list(query)))
        return StreamedResponse(200, self._mishandle(self._stream(int(query["resourceVersion"]), query)))

    async def _stream_list(self, query: dict[str, str]) -> AsyncGenerator[bytes, None]:
        version = self.version
        for obj in list(self.objects.values()):
            yield watch_line("ADDED", obj)
        yield watch_line(
            "BOOKMARK",
            {
                "metadata": {
                    "resourceVersion": str(version),
                    "annotations": {"k8s.io/initial-events-end": "true"},
                }
            },
        )
        async for line in self._stream(version, query):
            yield line

    async def _stream(self, version: int, query: dict[str, str]) -> AsyncGenerator[bytes, None]:
        deadline = self.clock.now() + float(query["timeoutSeconds"])
        bookmark_due = False
        while self.clock.now() < deadline:
            if self.events and version < self.events[0][0] - 1:
                yield status_event(410, "Expired")
                return
            pending = next(((at, line) for at, line in self.events if at > version), None)
            if pending is not None:
                version = pending[0]
                yield pending[1]
                continue
            if bookmark_due and self.habits.bookmarks:
                bookmark_due, version = False, self.version
                yield watch_line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})
                continue
            try:
                async with self.clock.timeout(min(60.0, deadline - self.clock.now())):
                    await self.changed.wait()
            except TimeoutError:
                bookmark_due = True

    async def _mishandle(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(stream):
            async for line in stream:
                if not self.unlucky():
                    yield line
                    continue
                match self.random.randrange(6):
                    case 0:
                        raise TransportError("connection reset")
                    case 1:
                        yield line[: len(line) // 2]
                        return
                    case 2:
                        yield status_event(self.random.choice([410, 429, 500]), "")
                        return
                    case 3:
                        await self.clock.sleep(1e9)
                    case 4:
                        yield b'{"type": "ADDED", "object": nonsense}\n'
                        return
                    case _:
                        return


class Mirror:
    """Rebuilds the collection from notifications alone, and checks that they make sense."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[str, str]] = {}

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        assert obj.key.name not in self.versions
        self._set(obj)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        assert self.versions[new.key.name] == (old.meta.uid, old.meta.resource_version)
        assert old.meta.uid == new.meta.uid
        assert int(old.meta.resource_version) < int(new.meta.resource_version)
        self._set(new)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        assert self.versions.pop(obj.key.name)[0] == obj.meta.uid

    def _set(self, obj: CachedObject) -> None:
        self.versions[obj.key.name] = (obj.meta.uid, obj.meta.resource_version)


Changes = list[tuple[str, bool, float]]


async def converge(habits: Habits, watch_list: bool, changes: Changes) -> None:
    clock = VirtualClock()
    server = ModelServer(clock, habits)
    transport = MemoryTransport(server.handle, clock)
    informer = Informer(
        Client(transport, clock=clock),
        Selection(CONFIGMAPS),
        options=ReflectorOptions(watch_list=watch_list),
        draw=random.Random(habits.seed).random,
    )
    early, late = Mirror(), Mirror()
    registrations = [informer.add_handler(early)]
    running = asyncio.ensure_future(informer.run())
    for index, (name, delete, pause) in enumerate(changes):
        server.change(name, delete)
        await clock.sleep(pause)
        if index == len(changes) // 2:
            registrations.append(informer.add_handler(late))
    server.stormy = False
    await clock.sleep(SETTLE)
    server.change("last", delete=False)
    await clock.sleep(SETTLE)
    expected = {
        name: (obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])
        for name, obj in server.objects.items()
    }
    held = {obj.key.name: (obj.meta.uid, obj.meta.resource_version) for obj in informer.lister.list()}
    assert held == expected
    assert early.versions == expected
    assert not changes or late.versions == expected
    assert [registration.failures for registration in registrations] == [0] * len(registrations)
    assert transport.open_streams == 1
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert transport.open_streams == 0


habits_of_servers = st.builds(
    Habits,
    history=st.integers(1, 20),
    bookmarks=st.booleans(),
    streaming_lists=st.booleans(),
    page=st.integers(1, 5),
    mishaps=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 2**32),
)
changes_over_time = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.booleans(), st.sampled_from([0.0, 0.0, 0.3, 2.0, 70.0, 400.0])),
    max_size=40,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(habits=habits_of_servers, watch_list=st.booleans(), changes=changes_over_time)
def test_a_cache_converges_to_the_server(habits: Habits, watch_list: bool, changes: Changes) -> None:
    run_virtual(lambda: converge(habits, watch_list, changes))
