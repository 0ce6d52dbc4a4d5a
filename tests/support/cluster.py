"""A test's view of a backend: clients, informers and managers on sockets, and waiting that asks again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client, RequestRecord
from kaito.runtime.clock import Clock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import NotFound, TransportError
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CRDS, Resource
from kaito.runtime.transport import Request, Response
from kaito.testing.backends import Backend

Object = dict[str, Any]
LIMIT = 60.0
"""Seconds for something to come true: far more than it takes, so that a busy machine fails nothing."""
GC_LIMIT = 120.0
"""The same where the garbage collector must first learn of a new kind, which it looks for every 30 s."""


class Wire:
    """A transport to the backend that can be cut and mended, and that may speak as another user."""

    def __init__(self, backend: Backend, user: str = "") -> None:
        self._backend = backend
        self._user = user
        self._connection: Connection | None = Connection.from_kubeconfig(backend.kubeconfig)
        self._streams: list[Response] = []

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        if self._connection is None:
            raise TransportError("the wire is cut")
        if self._user:
            headers = {**request.headers, "Impersonate-User": self._user}
            request = Request(request.method, request.path, request.query, headers, request.body)
        response = await self._connection.transport.send(request, timeout=timeout, stream=stream)
        if stream:
            self._streams.append(response)
        return response

    async def cut(self) -> None:
        """Breaks every connection; nothing gets through until `mend`."""
        connection, self._connection = self._connection, None
        for stream in self._streams:
            await stream.close()
        self._streams.clear()
        if connection is not None:
            await connection.close()

    def mend(self) -> None:
        self._connection = Connection.from_kubeconfig(self._backend.kubeconfig)

    async def close(self) -> None:
        await self.cut()


@dataclass
class World:
    """One test on a backend, with a namespace of its own."""

    backend: Backend
    clock: Clock
    namespace: str
    client: Client
    stack: AsyncExitStack
    requests: list[RequestRecord] = field(default_factory=list, repr=False)
    """What clients from `connect` sent."""

    def connect(self, agent: str, manager: str | None = None, *, wire: Wire | None = None) -> Client:
        """A client of its own; closed with the test."""
        wire = wire or Wire(self.backend)
        self.stack.push_async_callback(wire.close)
        return Client(
            wire,
            clock=self.clock,
            user_agent=agent,
            field_manager=manager,
            observer=self.requests.append,
        )

    def manager(self, agent: str, **options: Any) -> Manager:
        """A manager with a client of its own."""
        return Manager(
            self.connect(agent, agent), clock=self.clock, options=ManagerOptions(grace_period=5.0, **options)
        )

    def meta(self, name: str, **more: Any) -> Object:
        return {"name": name, "namespace": self.namespace, **more}

    async def until(
        self, done: Callable[[], bool | Awaitable[bool]], what: str, limit: float = LIMIT
    ) -> None:
        """Asks until it is true."""
        deadline = self.clock.now() + limit
        while True:
            answer = done()
            if answer if isinstance(answer, bool) else await answer:
                return
            assert self.clock.now() < deadline, f"{what}: not within {limit:g} s"
            await self.clock.sleep(0.05)

    async def find(self, resource: Resource, name: str) -> Object | None:
        """An object of the test's namespace, or None."""
        try:
            return await self.client.get(resource, name, self.namespace if resource.namespaced else None)
        except NotFound:
            return None

    async def gone(self, resource: Resource, name: str, limit: float = LIMIT) -> None:
        async def absent() -> bool:
            return await self.find(resource, name) is None

        await self.until(absent, f"{resource} {name} gone", limit)

    async def define(self, definition: Object) -> None:
        """Creates a CRD, or brings the one that is there up to date, and waits until it is served."""
        manager = self.client.named("integration-test", "integration-test")
        await manager.apply(CRDS, definition)

        async def established() -> bool:
            found = await self.client.get(CRDS, definition["metadata"]["name"])
            conditions = (found.get("status") or {}).get("conditions") or ()
            return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

        await self.until(established, "the definition is established")

    @asynccontextmanager
    async def running(self, runs: Manager | InformerCache) -> AsyncIterator[asyncio.Task[None]]:
        """Runs it until the block ends."""
        task = asyncio.create_task(runs.run())
        try:
            yield task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class Seen:
    """An event handler that writes down what it is told: (verb, name)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self.events.append(("add", obj.meta.name))

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self.events.append(("update", new.meta.name))

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self.events.append(("delete", obj.meta.name))

    def count(self, verb: str) -> int:
        return sum(each == verb for each, _ in self.events)


def definition(group: str, *, versions: tuple[str, ...] = ("v1",), **properties: Any) -> Object:
    """A CRD of kind Gadget with a spec of these properties and a status of any."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": properties},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[0],
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
                for version in versions
            ],
        },
    }
