"""What `kaito provisioner` and `kaito operator` take as processes: resident memory, processor time, packages of Azure.

The API server, the fake Azure and the fake kubelets are in the process of the bench, on loopback; time is real.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.claims import claim
from kaito.api.conditions import is_true
from kaito.api.crds import crd_manifests
from kaito.api.resources import NODECLAIMS
from kaito.provisioner.testing import ArmServer, FakeArm, FakeKubelets
from kaito.provisioner.testing.__main__ import environment
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.resources import CRDS
from kaito.testing.backends.base import CONTEXT
from kaito.testing.backends.embedded import EmbeddedBackend
from kaito.testing.backends.programs import free_port

OPERATION = 40.0
"""Seconds that making a pool takes here, where time is real."""
PATIENCE = 240.0
SETTLE = 5.0
"""Seconds after the start, and after the last claim is Ready, until memory is read."""
AZURE_MODULE = re.compile(r"\|\s+(?:azure|msal)(?:\.\S+)?$")
_TICK = os.sysconf("SC_CLK_TCK")

Tree = dict[str, Any]


class Process:
    """One `kaito` process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    @asynccontextmanager
    async def running(
        cls, folder: Path, arguments: Sequence[str], settings: Mapping[str, str]
    ) -> AsyncIterator[Process]:
        """Ready, for as long as the block runs. Raises RuntimeError with its last words if it does not get ready."""
        health, log = free_port(), folder / f"{arguments[0]}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-X", "importtime", "-m", "kaito.cli", *arguments),
                f"--kubeconfig={folder / 'kubeconfig'}",
                f"--context={CONTEXT}",
                f"--metrics-bind-address=127.0.0.1:{free_port()}",
                f"--health-probe-bind-address=127.0.0.1:{health}",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **settings},
            )
        found = cls(process, log)
        try:
            await found._until_ready(health)
            yield found
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def _until_ready(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        async with aiohttp.ClientSession() as session:
            while True:
                if self._process.returncode is not None or time.monotonic() > deadline:
                    lines = [line for line in self.log.splitlines() if "import time:" not in line]
                    raise RuntimeError("not ready:\n" + "\n".join(lines[-20:]))
                try:
                    async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def azure_modules(self) -> int:
        """How many modules of Azure's packages it has loaded, as its interpreter says."""
        return len({line.rsplit("|", 1)[1] for line in self.log.splitlines() if AZURE_MODULE.search(line)})

    @property
    def rss(self) -> float:
        """MB of 10^6 bytes. From /proc, so on Linux only."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6

    @property
    def cpu(self) -> float:
        """Seconds of user and system time."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICK


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Client]:
    """An API server with KAITO's resources; its kubeconfig is in the folder."""
    clock = LoopClock()
    backend = EmbeddedBackend(folder, clock)
    await backend.start(frozenset())
    connection = Connection.from_kubeconfig(backend.kubeconfig, clock=clock)
    client = Client(connection.transport, clock=clock, user_agent="bench", field_manager="bench")
    try:
        for manifest in crd_manifests():
            await client.create(CRDS, manifest)
        yield client
    finally:
        await connection.close()
        await backend.stop()


async def until_ready(client: Client, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = await client.list(NODECLAIMS)
        ready = sum(is_true((each.get("status") or {}).get("conditions"), "Ready") for each in found)
        if ready == count:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {ready} of {count} claims are Ready")
        await asyncio.sleep(0.5)


async def _provisioner(count: int) -> Tree:
    with tempfile.TemporaryDirectory() as name:
        folder, clock = Path(name), LoopClock()
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(cluster(folder))
            arm = FakeArm(clock)
            arm.durations.create = OPERATION
            server = await stack.enter_async_context(ArmServer(arm, clock))
            await stack.enter_async_context(FakeKubelets(arm, client, clock))
            process = await stack.enter_async_context(
                Process.running(folder, ["provisioner", "--cloud-provider=aks"], environment(arm, server.url))
            )
            await asyncio.sleep(SETTLE)
            idle, before = process.rss, process.cpu
            for number in range(count):
                await client.create(NODECLAIMS, claim(number))
            await until_ready(client, count)
            await asyncio.sleep(SETTLE)
            return {
                "operation seconds": OPERATION,
                "rss idle": round(idle, 1),
                "rss with claims": round(process.rss, 1),
                "cpu": round(process.cpu - before, 3),
                "requests to Azure": len(arm.requests),
                "azure modules": process.azure_modules,
            }


async def _operator() -> Tree:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            cluster(folder),
            Process.running(folder, ["operator", "--node-provisioner=nodeclaim"], {}) as process,
        ):
            await asyncio.sleep(SETTLE)
            return {"rss idle": round(process.rss, 1), "azure modules": process.azure_modules}


def provisioner(count: int) -> Tree:
    """`kaito provisioner --cloud-provider=aks`, idle and after `count` claims came at once."""
    return asyncio.run(_provisioner(count))


def operator() -> Tree:
    """`kaito operator` that leaves making nodes to others."""
    return asyncio.run(_operator())
