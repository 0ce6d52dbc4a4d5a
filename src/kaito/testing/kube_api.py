"""What the fixture `kube_api` gives to a test: an API server, a namespace in it, and faults in front of it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.crd import Source, manifests
from kaito.testing.backends import Backend, Pool, make_namespace
from kaito.testing.cleaning import Footprints, clean
from kaito.testing.crds import serve
from kaito.testing.faults import Faults
from kaito.testing.faults.proxy import FaultProxy, Upstream
from kaito.testing.server_thread import Pending, ServerThread

_NAME = "kaito-testing"


class KubeApi:
    """A Kubernetes API for one test.

    Attributes
        name: `embedded` or `real`.
        offers: what runs beside the API server: some of `api`, `workloads`, `ready-pods`, `processes`.
        url: where clients go; https on 127.0.0.1, through `faults`.
        kubeconfig: a kubeconfig file for it, whose context has `namespace`; for any program in any language.
        direct_kubeconfig: the same server without the faults.
        namespace: made for this test alone, gone after it.
        faults: what goes wrong between clients and the server, and what has gone wrong.
    """

    def __init__(self, thread: ServerThread, backend: Backend, folder: Path, namespace: str) -> None:
        self.namespace = namespace
        self.kubeconfig = folder / "kubeconfig"
        self.faults = Faults(LoopClock())
        self._thread = thread
        self._backend = backend
        self._base = folder
        self._footprints = Footprints()
        self._proxy = FaultProxy(
            Upstream.from_kubeconfig(backend.kubeconfig),
            self.faults,
            LoopClock(),
            on_answer=self._footprints.note,
        )
        self._direct = Connection.from_kubeconfig(backend.kubeconfig, clock=LoopClock())
        self._admin = Client(self._direct.transport, clock=LoopClock(), user_agent=_NAME, field_manager=_NAME)
        self.connections: list[Connection] | None = None
        """Where `client` leaves what is to be closed; None in tests that cannot close it."""

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def offers(self) -> frozenset[str]:
        return self._backend.offers

    @property
    def url(self) -> str:
        return self._proxy.url

    @property
    def direct_kubeconfig(self) -> Path:
        return self._backend.kubeconfig

    def client(self, user_agent: str = "test", field_manager: str | None = None) -> Client:
        """A client through the faults, for the event loop of an async test; closed when the test ends.

        Raises:
            RuntimeError: the test is not async; use `kubeconfig` with a client of your own.
        """
        if self.connections is None:
            raise RuntimeError(
                "kube_api.client() is for async tests. Make this test `async def`, or give kube_api.kubeconfig to a "
                "client of your choice."
            )
        connection = Connection.from_kubeconfig(self.kubeconfig)
        self.connections.append(connection)
        return Client(
            connection.transport,
            clock=LoopClock(),
            user_agent=user_agent,
            field_manager=field_manager or user_agent,
        )

    def load(self, *sources: Source) -> Pending[None]:
        """Serve custom resources: made from pydantic classes, manifests, or paths of files or folders.

        `await` it, or take its `result()`: after that every served version answers. Relative paths start at the
        current folder. Raises ValueError for what holds no CustomResourceDefinition.
        """
        found = [definition for source in sources for definition in manifests(source, Path.cwd())]
        return self._thread.submit(serve(self._admin, found, LoopClock()))

    def restart(self, outage: float = 0.0) -> Pending[None]:
        """The API server goes away as in a crash and comes back with its data at the same address.

        All connections break, and new ones are refused for at least `outage` seconds. `await` it, or take its
        `result()`: after that it serves.
        """
        return self._thread.submit(self._restart(outage))

    async def _restart(self, outage: float) -> None:
        await self._proxy.stop()
        try:
            await self._backend.restart(outage)
        finally:
            await self._proxy.start()

    async def open(self, definitions: Iterable[dict[str, object]]) -> None:
        """In the server's thread: namespace, custom resources, proxy."""
        await make_namespace(self._admin, self.namespace, LoopClock())
        await serve(self._admin, definitions, LoopClock())
        await self._proxy.start()
        self._proxy.write_kubeconfig(self.kubeconfig, namespace=self.namespace)

    async def close(self) -> None:
        """In the server's thread: remove what the test has made."""
        await self._proxy.stop()
        try:
            await clean(self._admin, self._footprints, self.namespace)
        finally:
            await self._direct.close()


class KubeApiSession:
    """The APIs of one test session, one after the other, and the thread they run in."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder = folder
        self._pool = pool
        self._thread = ServerThread()
        self._opened = 0

    def open(
        self, test: str, needs: frozenset[str], definitions: Iterable[dict[str, object]]
    ) -> tuple[KubeApi, AsyncExitStack]:
        """An API for a test of this name; give the stack back to `close`."""
        self._opened += 1
        folder = self._folder / f"test-{self._opened}"
        folder.mkdir()
        return self._thread.run(self._open(_namespace(test), needs, definitions, folder))

    async def _open(
        self, namespace: str, needs: frozenset[str], definitions: Iterable[dict[str, object]], folder: Path
    ) -> tuple[KubeApi, AsyncExitStack]:
        async with AsyncExitStack() as stack:
            backend = await stack.enter_async_context(self._pool.lend(needs))
            api = KubeApi(self._thread, backend, folder, namespace)
            stack.push_async_callback(api.close)
            await api.open(definitions)
            return api, stack.pop_all()
        raise AssertionError("unreachable")

    def end(self, stack: AsyncExitStack) -> None:
        """The test is over."""
        self._thread.run(stack.aclose())

    def close(self) -> None:
        """The session is over."""
        self._thread.close()


def _namespace(test: str) -> str:
    """A name that tells the test and is like no other: at most 63 letters, digits and dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", test.lower()).strip("-")
    return f"{words.removeprefix('test-')[:48].strip('-') or 'test'}-{secrets.token_hex(4)}"
