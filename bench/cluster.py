"""A control plane with nodes that are there already, and `kaito operator` as a process to measure.

The real one runs etcd, kube-apiserver, controller-manager, scheduler and kwok as `kaito.testing.backends` does,
but nobody watches the nodes' heartbeats: thousands of leases that are renewed would be measured too. The embedded one
runs in this process, so that it serves to try a bench out, not to measure.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench import floor
from kaito.api.crds import crd_manifests
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.resources import CRDS, NODES
from kaito.testing import backends
from kaito.testing.backends import READY_PODS, Backend, simulated_node
from kaito.testing.backends.base import CONTEXT
from kaito.testing.backends.programs import free_port
from kaito.testing.backends.real import RealBackend

Tree = dict[str, Any]

READY_WITHIN = 60.0
"""Seconds for the operator's first readiness, and for the nodes."""
_TICK = os.sysconf("SC_CLK_TCK")


class QuietBackend(RealBackend):
    """The real backend without heartbeats of nodes, once the nodes are up."""

    def stop_heartbeats(self) -> None:
        """Ends kwok's leases and the controller that looks at them; nodes stay as they are."""
        controllers = (
            "*",
            "-node-lifecycle-controller",
            "-node-ipam-controller",
            "-cloud-node-lifecycle-controller",
        )
        self._programs.kill("kube-controller-manager-workloads")
        self._run_controllers("kube-controller-manager-workloads", (*controllers, *_CORE))
        self._programs.kill("kwok")
        self._run(
            "kwok",
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            f"--config={self._directory / 'kwok.yaml'}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=0",
        )


_CORE = (
    "-serviceaccount-controller",
    "-root-ca-certificate-publisher-controller",
    "-namespace-controller",
    "-garbage-collector-controller",
)


@dataclass
class Cluster:
    """What the benches run on."""

    backend: Backend
    client: Client
    directory: Path

    @property
    def kubeconfig(self) -> Path:
        return self.backend.kubeconfig


@asynccontextmanager
async def cluster(nodes: int, pool: str, name: str = "real") -> AsyncIterator[Cluster]:
    """A control plane with so many nodes of one GPU, all labelled `apps=<pool>`; `name` is that of the backend."""
    clock = LoopClock()
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as text:
        folder = Path(text)
        async with _backend(name, folder, clock) as backend:
            connection = Connection.from_kubeconfig(backend.kubeconfig, CONTEXT, clock=clock)
            try:
                client = Client(
                    connection.transport, clock=clock, user_agent="kaito-bench", field_manager="kaito-bench"
                )
                await asyncio.gather(*(client.apply(CRDS, crd) for crd in crd_manifests()))
                await floor.in_parallel(
                    range(nodes), lambda number: client.create(NODES, _node(number, pool))
                )
                await _until_nodes(client, nodes, pool)
                if isinstance(backend, QuietBackend):
                    backend.stop_heartbeats()
                yield Cluster(backend, client, folder)
            finally:
                await connection.close()


@asynccontextmanager
async def _backend(name: str, folder: Path, clock: LoopClock) -> AsyncIterator[Backend]:
    needs = frozenset({READY_PODS})
    if name != "real":
        async with backends.start(name, needs, directory=folder, clock=clock) as backend:
            yield backend
        return
    real = QuietBackend(folder, clock)
    try:
        await real.start(needs)
        yield real
    finally:
        real.close()


def _node(number: int, pool: str) -> Tree:
    node: Any = simulated_node(f"gpu-{number:04d}", gpus=1, apps=pool)
    node["metadata"]["labels"]["nvidia.com/gpu.memory"] = "81920"
    node["metadata"]["labels"]["nvidia.com/gpu.product"] = "NVIDIA-A100-80GB-PCIe"
    return dict(node)


async def _until_nodes(client: Client, count: int, pool: str) -> None:
    """Until they are Ready and have lost the taints of new nodes."""
    deadline = time.perf_counter() + READY_WITHIN + count / 10
    while True:
        found = await client.list(NODES, label_selector=f"apps={pool}")
        if len(found) == count and all(_is_usable(node) for node in found):
            return
        if time.perf_counter() > deadline:
            usable = sum(_is_usable(node) for node in found)
            raise TimeoutError(f"only {usable} of {count} nodes are Ready")
        await asyncio.sleep(1)


def _is_usable(node: Tree) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not node["spec"].get("taints")


@dataclass
class Usage:
    """What a process has used so far: CPU seconds, resident set now and at its peak in MB (10^6 bytes)."""

    cpu: float
    rss: float
    peak: float


class Operator:
    """One `kaito operator` process."""

    def __init__(self, process: asyncio.subprocess.Process, metrics: int, log: Path) -> None:
        self.process = process
        self._metrics = metrics
        self._log = log

    @classmethod
    async def start(cls, on: Cluster, arguments: Sequence[str]) -> Operator:
        """Returns when it is ready. Raises RuntimeError with its last words otherwise."""
        metrics, health = free_port(), free_port()
        log = on.directory / "operator.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "kaito.cli",
                "operator",
                f"--kubeconfig={on.kubeconfig}",
                f"--context={CONTEXT}",
                f"--metrics-bind-address=127.0.0.1:{metrics}",
                f"--health-probe-bind-address=127.0.0.1:{health}",
                *arguments,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        operator = cls(process, metrics, log)
        deadline = time.perf_counter() + READY_WITHIN
        while not await operator._answers(health):
            if process.returncode is not None or time.perf_counter() > deadline:
                await operator.stop()
                raise RuntimeError(f"the operator did not get ready:\n{operator.last_words()}")
            await asyncio.sleep(0.2)
        return operator

    async def _answers(self, port: int) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/readyz") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()

    def usage(self) -> Usage:
        """From /proc, so on Linux only."""
        folder = Path(f"/proc/{self.process.pid}")
        fields = folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()
        lines = folder.joinpath("status").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Vm")}
        cpu = (int(fields[11]) + int(fields[12])) / _TICK
        return Usage(cpu, sizes["VmRSS"] * 1024 / 1e6, sizes["VmHWM"] * 1024 / 1e6)

    async def requests(self) -> dict[str, float]:
        """Requests sent so far by method, those of watches not counted until they end."""
        url = f"http://127.0.0.1:{self._metrics}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            text = await answer.text()
        counts: dict[str, float] = {}
        for line in text.splitlines():
            if line.startswith("rest_client_requests_total{"):
                labels, value = line.rsplit(" ", 1)
                method = labels.split('method="', 1)[1].split('"', 1)[0]
                counts[method] = counts.get(method, 0) + float(value)
        return counts


async def server_version(client: Client) -> str:
    """What the API server calls itself."""
    try:
        return str(orjson.loads(await client.request("GET", "/version"))["gitVersion"])
    except (ApiError, TransportError):
        return "unknown"
