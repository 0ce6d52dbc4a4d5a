"""The cluster's programs: etcd, control plane, registry, containerd, kubelet, kube-proxy, started and watched."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp

from cluster import settings
from cluster.images import ImageError, push_static
from cluster.init import NODE_ADDRESS
from cluster.places import (
    API_PORT,
    API_URL,
    NODE,
    REGISTRY,
    SERVICE_ADDRESS,
    SERVICE_NETWORK,
    Places,
)
from kaito.embedded.apiserver.security import kubeconfig, make_identity, new_token
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.files import write_private
from kaito.testing.backends.base import BackendError
from kaito.testing.backends.binaries import Binaries
from kaito.testing.backends.keys import account_keys
from kaito.testing.backends.programs import Programs
from kaito.testing.backends.waiting import namespace_is_usable, nodes_are_ready, until

_ETCD: Final = "http://127.0.0.1:2379"
_BUILT: Final = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "pause",
)  # fmt: skip
_NO_CONTROLLERS: Final = ("node-ipam-controller", "cloud-node-lifecycle-controller")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Node:
    """One node and its control plane. Close it when done; what it leaves goes with the namespaces."""

    def __init__(self, places: Places, clock: Clock) -> None:
        self._places = places
        self._clock = clock
        self._programs = Programs(places.logs)
        self._binaries = Binaries()
        self._token = new_token()

    @property
    def kubeconfig(self) -> Path:
        return self._places.kubeconfig

    @property
    def environment(self) -> dict[str, str]:
        """What lets kubectl and its like find the cluster, and keep nothing at home."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self._places.folder / "kubectl-cache"),
        }

    async def start(self) -> None:
        """Returns when pods can run. Raises BackendError with the ends of the logs."""
        try:
            self._write_files()
            await self._start_control_plane()
            self._start_registry()
            await self._answers(f"http://{REGISTRY}/v2/", "the registry")
            # Every pod needs an image that holds its namespaces; ours is one static program.
            push_static(self._places, self._binaries.find(["pause"])["pause"], settings.PAUSE_IMAGE)
            self._start_node()
            await self._with_client(self._is_usable)
        except (BackendError, ImageError) as error:
            words = self._programs.last_words()
            self.close()
            raise BackendError(f"{error}\n{words}") from None

    def close(self) -> None:
        """Ends the programs, the node's first. Containers end with the namespaces."""
        self._programs.close()

    def last_words(self) -> str:
        """The ends of all logs."""
        return self._programs.last_words()

    # -- files -----------------------------------------------------------------------------------------------

    def _write_files(self) -> None:
        here = self._places
        identity = make_identity(["127.0.0.1", NODE_ADDRESS, SERVICE_ADDRESS], self._clock.wall())
        signing, checking = account_keys()
        for name, data in {
            "ca.crt": identity.ca,
            "serving.crt": identity.chain,
            "serving.key": identity.key,
            "accounts.key": signing,
            "accounts.pub": checking,
            "tokens.csv": f'{self._token},kubernetes-admin,kubernetes-admin,"system:masters"\n'.encode(),
            "kubeconfig": kubeconfig("kaito-cluster", API_URL, identity.ca, self._token),
            "containerd.toml": settings.containerd(here).encode(),
            "cni/10-kaito.conflist": settings.cni(here),
            "kubelet.yaml": settings.kubelet(here),
            "kube-proxy.yaml": settings.kube_proxy(here),
            "registry.yml": settings.registry(here).encode(),
            # Names do not resolve in pods; without this line the kubelet would hand out this machine's servers.
            "resolv.conf": b"nameserver 127.0.0.1\n",
        }.items():
            write_private(here.folder / name, data)

    # -- programs --------------------------------------------------------------------------------------------

    async def _start_control_plane(self) -> None:
        here = self._places.folder
        self._run(
            "etcd",
            f"--data-dir={here / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={_ETCD}",
            f"--advertise-client-urls={_ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=warn",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--bind-address={NODE_ADDRESS}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--cert-dir={here}",
            f"--tls-cert-file={here / 'serving.crt'}",
            f"--tls-private-key-file={here / 'serving.key'}",
            f"--token-auth-file={here / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--service-account-issuer={API_URL}",
            f"--service-account-key-file={here / 'accounts.pub'}",
            f"--service-account-signing-key-file={here / 'accounts.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--profiling=false",
        )
        await self._with_client(self._serves)
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers=*,{','.join(f'-{name}' for name in _NO_CONTROLLERS)}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={here / 'accounts.key'}",
            f"--root-ca-file={here / 'ca.crt'}",
            "--use-service-account-credentials=false",
        )
        self._run(
            "kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"
        )

    def _start_registry(self) -> None:
        self._run("docker-registry", "serve", str(self._places.folder / "registry.yml"))

    def _start_node(self) -> None:
        here = self._places
        self._run("containerd", f"--config={here.folder / 'containerd.toml'}")
        self._run(
            "kubelet",
            f"--config={here.folder / 'kubelet.yaml'}",
            f"--kubeconfig={here.kubeconfig}",
            f"--root-dir={here.folder / 'kubelet'}",
            f"--cert-dir={here.folder / 'kubelet-pki'}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
        )
        self._run("kube-proxy", f"--config={here.folder / 'kube-proxy.yaml'}", f"--hostname-override={NODE}")

    def _run(self, program: str, *arguments: str) -> None:
        if program in _BUILT:
            path = str(self._binaries.find([program])[program])
        else:
            path = shutil.which(program, path=_PATH) or program
        environment = {"HOME": str(self._places.folder), "TMPDIR": str(self._places.folder), "PATH": _PATH}
        self._programs.start(program, [path, *arguments], environment)

    # -- waiting ---------------------------------------------------------------------------------------------

    async def _with_client(self, wait: Callable[[Client], Awaitable[None]]) -> None:
        connection = Connection.from_kubeconfig(self.kubeconfig, clock=self._clock)
        try:
            client = Client(connection.transport, clock=self._clock, user_agent="kaito-cluster", timeout=5.0)
            await wait(client)
        finally:
            await connection.close()

    async def _serves(self, client: Client) -> None:
        async def ready() -> bool:
            self._all_run()
            try:
                return await client.request("GET", "/readyz", accept="text/plain") == b"ok"
            except (ApiError, TransportError):
                return False

        await until(ready, "kube-apiserver was ready", self._clock)

    async def _is_usable(self, client: Client) -> None:
        await namespace_is_usable(client, "default", self._clock)
        await nodes_are_ready(client, [NODE], self._clock)
        self._all_run()

    async def _answers(self, url: str, what: str) -> None:
        async with aiohttp.ClientSession() as session:

            async def answered() -> bool:
                self._all_run()
                try:
                    async with session.get(url) as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await until(answered, f"{what} answered", self._clock)

    def _all_run(self) -> None:
        for name in self._programs.pids:
            if not self._programs.runs(name):
                raise BackendError(f"{name} ended while it started")
