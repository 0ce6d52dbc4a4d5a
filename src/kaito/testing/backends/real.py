"""The backend that decides what is right: etcd, kube-apiserver and, when asked for, kube-controller-manager,
kube-scheduler and kwok, as processes of this machine.

Everything listens on 127.0.0.1 and lives in one directory: data, keys, kubeconfig (mode 0600) and logs. Users
authenticate with static tokens, RBAC authorizes them. etcd does not call fsync: the data are for one test session.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from kaito.embedded.apiserver.security import kubeconfig, make_identity, new_token
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import AlreadyExists, ApiError, TransportError
from kaito.runtime.files import write_private
from kaito.runtime.resources import NODES
from kaito.testing.backends import kwok
from kaito.testing.backends.base import (
    API,
    CONTEXT,
    EVERYWHERE,
    READY_NODES,
    READY_PODS,
    SERVICE_NETWORK,
    WORKLOADS,
    BackendError,
    simulated_node,
)
from kaito.testing.backends.binaries import Binaries
from kaito.testing.backends.keys import account_keys
from kaito.testing.backends.programs import Programs, free_port
from kaito.testing.backends.waiting import namespace_is_usable, nodes_are_ready, until

_START_ATTEMPTS: Final = 3
"""A free port may be taken by somebody else before the program listens on it."""

CORE_CONTROLLERS: Final = (
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "namespace-controller",
    "garbage-collector-controller",
)
"""What belongs to the API in every cluster; the embedded server does it itself."""
_NEVER: Final = ("node-ipam-controller", "cloud-node-lifecycle-controller")

_CORE: Final = "kube-controller-manager"
_WORKLOADS: Final = "kube-controller-manager-workloads"


class RealBackend:
    """Processes that are started as tests need them, and stopped when a test does not, so that an `api` test sees no
    controller act on its Deployments. Not bound to an event loop. Close it when done."""

    name = "real"

    def __init__(self, directory: Path, clock: Clock, binaries: Binaries | None = None) -> None:
        self._directory = directory
        self._clock = clock
        self._binaries = binaries or Binaries()
        logs = directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._programs = Programs(logs)
        self._token = new_token()
        self._port = 0
        self._etcd_port = 0
        self._offers: frozenset[str] = frozenset()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def kubeconfig(self) -> Path:
        return self._directory / "kubeconfig"

    @property
    def offers(self) -> frozenset[str]:
        return self._offers

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running programs by name."""
        return self._programs.pids

    async def start(self, needs: frozenset[str]) -> None:
        """Makes what runs what is needed, no more and no less; returns when all of it works.

        Raises:
            BackendError: something is asked for that it does not have, or a program did not start; with the end
                of the logs.
        """
        if needs - EVERYWHERE:
            raise BackendError(
                f"the backend `real` has no {', '.join(sorted(needs - EVERYWHERE))}; "
                f"it has {', '.join(sorted(EVERYWHERE))}"
            )
        wanted = {API} | needs | ({WORKLOADS} if READY_PODS in needs else set())
        if not self._offers:
            await self._start_api()
        connection = Connection.from_kubeconfig(self.kubeconfig, clock=self._clock)
        try:
            client = Client(connection.transport, clock=self._clock, user_agent="kaito-backend")
            await self._switch_workloads(WORKLOADS in wanted)
            await self._switch_ready_pods(READY_PODS in wanted, client)
        finally:
            await connection.close()
        self._offers = frozenset(wanted)

    def close(self) -> None:
        """Ends every process. Logs and data stay in the directory."""
        self._programs.close()
        self._offers = frozenset()

    async def restart(self, outage: float = 0.0) -> None:
        """See `Backend.restart`. Only kube-apiserver is restarted."""
        self._programs.kill("kube-apiserver")
        if outage:
            await self._clock.sleep(outage)
        self._run_apiserver()
        await self._serves()

    async def compact(self) -> None:
        """See `Backend.compact`. etcd is told to; kube-apiserver forgets by being restarted."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self._etcd_port}") as etcd:
            async with etcd.post("/v3/maintenance/status", json={}) as answer:
                revision = (await answer.json())["header"]["revision"]
            async with etcd.post(
                "/v3/kv/compaction", json={"revision": revision, "physical": True}
            ) as answer:
                if answer.status != 200:
                    raise BackendError(f"etcd did not compact: {await answer.text()}")
        await self.restart()

    def last_words(self) -> str:
        """The ends of all logs."""
        return self._programs.last_words()

    # -- API -------------------------------------------------------------------------------------------------

    async def _start_api(self) -> None:
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._port, self._etcd_port = free_port(), free_port()
            self._write_files()
            self._run_etcd()
            self._run_apiserver()
            try:
                await self._serves()
                break
            except BackendError:
                self._programs.kill("kube-apiserver")
                self._programs.kill("etcd")
                if attempt == _START_ATTEMPTS or "address already in use" not in self.last_words():
                    self._programs.close()
                    raise
        self._run_controllers(_CORE, CORE_CONTROLLERS)
        connection = Connection.from_kubeconfig(self.kubeconfig, clock=self._clock)
        try:
            await namespace_is_usable(Client(connection.transport, clock=self._clock), "default", self._clock)
        finally:
            await connection.close()

    def _write_files(self) -> None:
        identity = make_identity(["127.0.0.1", "10.96.0.1"], self._clock.wall())
        signing, checking = account_keys()
        self._write("ca.crt", identity.ca)
        self._write("serving.crt", identity.chain)
        self._write("serving.key", identity.key)
        self._write("accounts.key", signing)
        self._write("accounts.pub", checking)
        self._write(
            "tokens.csv", f'{self._token},kubernetes-admin,kubernetes-admin,"system:masters"\n'.encode()
        )
        write_private(self.kubeconfig, kubeconfig(CONTEXT, self.url, identity.ca, self._token))
        # Every stage is JSON, which is YAML.
        self._write("kwok.yaml", orjson.dumps(kwok.node_stage()))

    def _write(self, name: str, data: bytes) -> None:
        write_private(self._directory / name, data)

    def _run_etcd(self) -> None:
        url = f"http://127.0.0.1:{self._etcd_port}"
        self._run(
            "etcd",
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--log-level=warn",
        )

    def _run_apiserver(self) -> None:
        here = self._directory
        self._run(
            "kube-apiserver",
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={here}",
            f"--tls-cert-file={here / 'serving.crt'}",
            f"--tls-private-key-file={here / 'serving.key'}",
            f"--token-auth-file={here / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            # Some distributions have it, so whoever blocks an owner's deletion needs the right to.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={here / 'accounts.pub'}",
            f"--service-account-signing-key-file={here / 'accounts.key'}",
            # A loopback address cannot be an Endpoints address.
            "--endpoint-reconciler-type=none",
            "--profiling=false",
        )

    async def _serves(self) -> None:
        connection = Connection.from_kubeconfig(self.kubeconfig, clock=self._clock)
        client = Client(connection.transport, clock=self._clock, user_agent="kaito-backend", timeout=5.0)

        async def ready() -> bool:
            for name in ("etcd", "kube-apiserver"):
                if not self._programs.runs(name):
                    raise BackendError(f"{name} ended while it started")
            try:
                return await client.request("GET", "/readyz", accept="text/plain") == b"ok"
            except (ApiError, TransportError):
                return False

        try:
            await until(ready, f"kube-apiserver on port {self._port} was ready", self._clock)
        except BackendError as error:
            raise BackendError(f"{error}\n{self.last_words()}") from None
        finally:
            await connection.close()

    # -- the rest --------------------------------------------------------------------------------------------

    async def _switch_workloads(self, wanted: bool) -> None:
        if not wanted:
            self._programs.kill("kube-scheduler")
            self._programs.kill(_WORKLOADS)
            return
        if not self._programs.runs(_WORKLOADS):
            others = ("*", *(f"-{name}" for name in (*CORE_CONTROLLERS, *_NEVER)))
            self._run_controllers(_WORKLOADS, others)
        if not self._programs.runs("kube-scheduler"):
            self._run(
                "kube-scheduler",
                "kube-scheduler",
                f"--kubeconfig={self.kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            )

    async def _switch_ready_pods(self, wanted: bool, client: Client) -> None:
        if not wanted:
            if self._programs.runs("kwok"):
                self._programs.kill("kwok")
                for name in READY_NODES:
                    await client.delete(NODES, name)
            return
        if not self._programs.runs("kwok"):
            self._run(
                "kwok",
                "kwok",
                f"--kubeconfig={self.kubeconfig}",
                f"--config={self._directory / 'kwok.yaml'}",
                f"--manage-nodes-with-label-selector={kwok.SELECTOR}",
                f"--node-lease-duration-seconds={kwok.LEASE_SECONDS}",
            )
        for name in READY_NODES:
            try:
                await client.create(NODES, simulated_node(name))
            except AlreadyExists:
                continue
        try:
            await nodes_are_ready(client, READY_NODES, self._clock)
        except BackendError as error:
            raise BackendError(f"{error}\n{self.last_words()}") from None

    def _run_controllers(self, name: str, controllers: Sequence[str]) -> None:
        self._run(
            name,
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(controllers)}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={self._directory / 'accounts.key'}",
            f"--root-ca-file={self._directory / 'ca.crt'}",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        )

    def _run(self, name: str, program: str, *arguments: str) -> None:
        binary = self._binaries.find([program])[program]
        # Nothing of the user's environment, proxies above all, is theirs.
        environment = {"HOME": str(self._directory), "TMPDIR": str(self._directory)}
        self._programs.start(name, [str(binary), *arguments], environment)
