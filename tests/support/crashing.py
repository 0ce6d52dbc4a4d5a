"""Processes that are killed before or after the nth thing that they do outside themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from azure.core.exceptions import ServiceRequestError
from azure.core.rest import AsyncHttpResponse, HttpRequest

from kaito.provisioner.testing import FakeArm
from kaito.provisioner.testing.azure import MemoryTransport
from kaito.runtime.clock import Clock
from kaito.runtime.errors import TransportError
from kaito.runtime.transport import Request, Response, Transport

T = TypeVar("T")


@dataclass
class Process:
    """One process: everything that it does outside itself, and the moment at which it is killed.

    kill_at: number of the request, from 1. before: it never arrives; else its answer does not.
    """

    kill_at: int | None = None
    before: bool = False
    done: list[str] = field(default_factory=list)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def does(self, what: str, act: Callable[[], Awaitable[T]], killed: Exception) -> T:
        if self.dead.is_set():
            raise killed
        self.done.append(what)
        fatal = len(self.done) == self.kill_at
        if fatal and self.before:
            self.dead.set()
            raise killed
        result = await act()
        if fatal:
            self.dead.set()
            raise killed
        return result


class ApiWire:
    """A process' connection to the API server; reads and events are not counted.

    agents: beginnings of User-Agent headers, whose requests are.
    """

    def __init__(self, transport: Transport, process: Process, agents: tuple[str, ...]) -> None:
        self._transport = transport
        self._process = process
        self._agents = agents

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        def act() -> Awaitable[Response]:
            return self._transport.send(request, timeout=timeout, stream=stream)

        ours = request.headers.get("User-Agent", "").startswith(self._agents)
        if ours and request.method != "GET" and "/events" not in request.path:
            what = f"{request.method} {request.path}"
            return await self._process.does(what, act, TransportError("killed"))
        if self._process.dead.is_set():
            raise TransportError("killed")
        return await act()

    async def close(self) -> None:
        """The transport is the world's."""


class ArmWire(MemoryTransport):
    """A process' connection to Azure."""

    def __init__(self, fake: FakeArm, clock: Clock, process: Process) -> None:
        super().__init__(fake, clock)
        self._process = process

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        def act() -> Awaitable[AsyncHttpResponse]:
            return super(ArmWire, self).send(request, **kwargs)

        what = f"{request.method} {request.url.partition('?')[0]}"
        return await self._process.does(what, act, ServiceRequestError("killed"))
