"""What the informer tests share: objects, recording handlers, a client over a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.informer import Informer
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.objects import CachedObject
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.selection import Selection
from kaito.runtime.testing import Exchange, ScriptedServer, watch_line

LIST = ReflectorOptions(watch_list=False)
STREAM = ReflectorOptions(watch_list=True)
PATH = "/api/v1/configmaps"


def config_map(name: str, version: int, *, uid: str = "", **metadata: Any) -> dict[str, Any]:
    """A ConfigMap as it stands in a list."""
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            **metadata,
        },
        "data": {"version": str(version)},
    }


def listed(
    version: int | str,
    *objects: Mapping[str, Any],
    token: str = "",
    query: Mapping[str, str | None] | None = None,
) -> Exchange:
    """A LIST and its answer."""
    metadata = {"resourceVersion": str(version), **({"continue": token} if token else {})}
    body = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": list(objects)}
    return Exchange(path=PATH, query={"watch": None, **(query or {})}, body=body)


def watched(
    *steps: bytes | float | Exception, hold: bool = False, query: Mapping[str, str | None] | None = None
) -> Exchange:
    """A WATCH and its stream."""
    return Exchange(path=PATH, query={"watch": "1", **(query or {})}, stream=steps, hold=hold)


def bookmark(version: int, *, initial_end: str | None = None) -> bytes:
    annotations = {} if initial_end is None else {"annotations": {"k8s.io/initial-events-end": initial_end}}
    return watch_line(
        "BOOKMARK", {"kind": "ConfigMap", "metadata": {"resourceVersion": str(version), **annotations}}
    )


def status_event(code: int, reason: str, message: str = "no") -> bytes:
    return watch_line("ERROR", {"kind": "Status", "code": code, "reason": reason, "message": message})


class Recorder:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self.events.append(("add", obj.key.name, obj.meta.resource_version, "initial" if initial else ""))

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self.events.append(("update", new.key.name, old.meta.resource_version, new.meta.resource_version))

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self.events.append(("delete", obj.key.name, obj.meta.resource_version, "stale" if stale else ""))


class World:
    """An informer over a scripted server."""

    def __init__(
        self, clock: Clock, script: Iterable[Exchange], options: ReflectorOptions = LIST, **arguments: Any
    ) -> None:
        self.clock = clock
        self.server = ScriptedServer(clock, script)
        self.transport = MemoryTransport(self.server.handle, clock)
        self.client = Client(self.transport, clock=clock, user_agent="test")
        self.informer = Informer(
            self.client, Selection(CONFIGMAPS), options=options, draw=lambda: 0.0, **arguments
        )
        self.recorder = Recorder()
        self.informer.add_handler(self.recorder)

    @property
    def requests(self) -> list[tuple[float, str, str | None]]:
        """(time, LIST or WATCH, resourceVersion) of every request."""
        return [
            (call.at, "WATCH" if call.is_watch else "LIST", call.query.get("resourceVersion"))
            for call in self.server.calls
        ]

    @property
    def names(self) -> list[str]:
        return sorted(obj.key.name for obj in self.informer.lister.list())

    @contextlib.asynccontextmanager
    async def running(self, seconds: float) -> AsyncIterator[None]:
        """Run the informer for so many virtual seconds, then the body, then stop."""
        task = asyncio.ensure_future(self.informer.run())
        sleeper = asyncio.ensure_future(self.clock.sleep(seconds))
        try:
            await asyncio.wait({task, sleeper}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            yield
        finally:
            for each in (task, sleeper):
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await each
