"""The API server as a whole: options in, URL and kubeconfig out.

`handle` is the server without sockets: `MemoryTransport(server.handle)` runs whole control planes in one event loop
and in virtual time. `start` adds HTTPS on a loopback port.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from kaito.embedded.apiserver import streams
from kaito.embedded.apiserver.admission.sender import Send
from kaito.embedded.apiserver.api import Api
from kaito.embedded.apiserver.bootstrap import DefaultServiceAccounts, create_namespaces, publish_server
from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.front import Front, StreamHandler
from kaito.embedded.apiserver.kinds.poddefaults import PRIORITIES
from kaito.embedded.apiserver.kinds.registry import BuiltinOptions, builtin_strategies
from kaito.embedded.apiserver.naming import new_uid
from kaito.embedded.apiserver.reviews import review_strategies
from kaito.embedded.apiserver.security import (
    ServingIdentity,
    kubeconfig,
    make_identity,
    new_token,
    same_token,
)
from kaito.embedded.apiserver.store import DEFAULT_HISTORY, Key, Object, Store
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.files import write_private
from kaito.runtime.transport import Request, Response

LOOPBACK: Final = "127.0.0.1"
_SHUTDOWN_TIMEOUT: Final = 2.0
"""Seconds open connections get to finish when the server stops."""

_KEEP_ALIVE: Final = 180.0
"""Seconds an idle connection stays open: longer than clients keep theirs (Go: 90), so that none is cut in use."""


@dataclass(frozen=True, slots=True)
class ApiServerOptions:
    """How to run the server.

    Attributes
        clock: source of all time; the loop's own by default.
        host: loopback address to listen on.
        port: 0 takes a free one.
        token: what clients must send as bearer token; a random one by default.
        kubelet_token: what this server sends to kubelets; a random one by default.
        service_cidr: network that cluster IPs are taken from; its first address is the `kubernetes` Service's.
        history: events kept per kind for watches that resume; at least that many, at most twice as many.
        bookmark_interval: seconds between the bookmarks of a watch that asked for them.
        context: name of cluster, user and context in the kubeconfig.
        send_review: carries reviews to admission webhooks; over HTTPS by default.
    """

    clock: Clock = field(default_factory=LoopClock)
    host: str = LOOPBACK
    port: int = 0
    token: str = field(default_factory=new_token)
    kubelet_token: str = field(default_factory=new_token)
    service_cidr: str = "10.96.0.0/16"
    history: int = DEFAULT_HISTORY
    bookmark_interval: float = 60.0
    context: str = "kaito"
    send_review: Send | None = None

    def __post_init__(self) -> None:
        address = ipaddress.ip_address(self.host)
        if address.version != 4 or not address.is_loopback:
            raise ValueError(
                f"host {self.host}: the server runs commands for its clients; it listens on IPv4 loopback only"
            )


class ApiServer:
    """An in-memory Kubernetes API server."""

    def __init__(self, options: ApiServerOptions | None = None) -> None:
        self.options = options or ApiServerOptions()
        self.core = Core(Store(history_limit=self.options.history), self.options.clock)
        self.api = Api(
            self.core,
            instance=new_uid(),
            bookmark_interval=self.options.bookmark_interval,
            token_valid=self._is_token,
            send_review=self.options.send_review,
        )
        self._front = Front(self.api, self._is_token, frozenset({self.options.host, "localhost"}))
        self._identity: ServingIdentity | None = None
        self._runner: web.ServerRunner | None = None
        self._port = 0
        self._seeded = False

    def _is_token(self, token: str) -> bool:
        return same_token(token, self.options.token)

    @property
    def streams(self) -> StreamHandler | None:
        """Answers log, exec, attach, portforward and proxy."""
        return self._front.streams

    @streams.setter
    def streams(self, handler: StreamHandler) -> None:
        self._front.streams = handler

    @property
    def url(self) -> str:
        """Where the server listens.

        Raises:
            RuntimeError: it has not been started.
        """
        if self._runner is None:
            raise RuntimeError("the API server has not been started")
        return f"https://{self.options.host}:{self._port}"

    @property
    def ca(self) -> bytes:
        """The certificate (PEM) that clients must trust."""
        if self._identity is None:
            raise RuntimeError("the API server has not been started")
        return self._identity.ca

    async def handle(self, request: Request) -> Response:
        """Answers one request of this process, which is trusted: no token, no TLS."""
        self._seed()
        return await self.api.handle(request)

    def find(self, name: str, namespace: str | None, object_name: str) -> Object:
        """A stored object by `plural` or `plural.group`; read-only.

        Raises:
            NotFound: there is none.
        """
        return self.api.find(name, namespace, object_name)

    async def start(self) -> None:
        """Listens. After it returns `url`, `ca` and `write_kubeconfig` can be used.

        A server that has crashed serves again what it had, at the same address and with the same certificate.
        """
        self._seed()
        options = self.options
        again = self._port != 0
        if self._identity is None:
            streams.register(self)
            self._identity = make_identity([options.host], options.clock.wall())
        self.api.watcher.reopen()
        front = self._front.server(keepalive_timeout=_KEEP_ALIVE)
        runner = web.ServerRunner(front, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        port = self._port or options.port
        site = web.TCPSite(runner, options.host, port, ssl_context=self._identity.server_context())
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self._runner = runner
        if not again:
            publish_server(self.api, options.service_cidr, options.host, self._port)

    async def stop(self) -> None:
        """Ends all watches and stops listening; what was stored is gone with this object."""
        self.api.watcher.close()
        await self.api.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def crash(self) -> None:
        """Cuts every connection in mid-sentence and stops listening; what is stored stays for the next `start`."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        await self.api.close()
        for site in list(runner.sites):
            await site.stop()
        if runner.server is not None:
            for connection in runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        self.api.watcher.close()
        await runner.cleanup()

    def write_kubeconfig(self, path: Path | str) -> None:
        """Writes a kubeconfig of mode 0600 with this server's authority and token inside."""
        data = kubeconfig(self.options.context, self.url, self.ca, self.options.token)
        write_private(Path(path), data)

    def _priority_of(self, name: str) -> int | None:
        """The value of a priority class, None if there is no such class."""
        if name in PRIORITIES:
            return PRIORITIES[name]
        record = self.core.store.collection("priorityclasses.scheduling.k8s.io").get(Key("", name))
        return None if record is None else int(record.obj.get("value", 0))

    def _seed(self) -> None:
        """The builtin kinds and first objects; needs a running loop, so not in the constructor."""
        if self._seeded:
            return
        self._seeded = True
        options = BuiltinOptions(self.options.service_cidr, self._priority_of)
        for strategy in builtin_strategies(options):
            self.core.registry.add(strategy)
        for strategy in review_strategies():
            self.core.registry.add(strategy)
        DefaultServiceAccounts(self.api)
        create_namespaces(self.api)
