"""How long nobody leads: two replicas of `kaito operator` on a real control plane, of which the leader is killed or
told to stop, again and again.

    python -m bench.takeover [--kills 25] [--releases 25] > takeover.json

Seconds are counted from the moment at which the lease may be taken: a killed leader's lease runs out
`leaseDurationSeconds` after its last renewal, one that is told to stop gives it back. `leads` is when the lease has a
new holder, `works` when the new leader has written the status of a Workspace that was made while nobody led.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from kaito.api.crds import crd_manifests
from kaito.api.resources import WORKSPACES
from kaito.cli.operator.names import LEASE_NAME
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.resources import LEASES, Resource
from kaito.testing.backends.base import API, CONTEXT
from kaito.testing.backends.programs import free_port
from kaito.testing.backends.real import RealBackend
from kaito.testing.crds import serve

Tree = dict[str, Any]
NAMESPACE = "default"
PATIENCE = 60.0
"""Seconds for anything to happen, before the bench gives up."""


@dataclass
class Replica:
    """One process of the operator."""

    process: asyncio.subprocess.Process
    metrics: str
    health: str

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{self.health}/readyz") as answer:
                return answer.status == 200
        return False

    async def leads(self, session: aiohttp.ClientSession) -> bool:
        async with session.get(f"{self.metrics}/metrics") as answer:
            return f'leader_election_master_status{{name="{LEASE_NAME}"}} 1.0' in await answer.text()


@dataclass
class Eye:
    """What the API server tells of leases and Workspaces, with the time at which it did."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    lease: Tree = field(default_factory=dict)
    renewed_at: float = 0.0
    told: dict[str, float] = field(default_factory=dict)
    """When each Workspace had its first status."""

    @property
    def holder(self) -> str:
        return str(self.lease.get("holderIdentity") or "")

    async def follow(self, client: Client, resource: Resource) -> None:
        while True:
            async with aclosing(client.watch(resource, NAMESPACE)) as events:
                async for event in events:
                    self._see(resource, event.type, event.object)

    def _see(self, resource: Resource, kind: str, obj: Tree) -> None:
        if kind in ("BOOKMARK", "DELETED"):
            return
        name = obj["metadata"]["name"]
        if resource == LEASES and name == LEASE_NAME:
            self.lease, self.renewed_at = obj["spec"], time.monotonic()
        elif resource == WORKSPACES and obj.get("status"):
            self.told.setdefault(name, time.monotonic())
        self.changed.set()

    async def until(self, done: Any, what: str) -> float:
        """When it came true."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{what}: not within {PATIENCE:g} s")
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), left)
        return time.monotonic()


class Bench:
    """Two replicas, and what is measured of them."""

    def __init__(self, client: Client, kubeconfig: Path, logs: Path, session: aiohttp.ClientSession) -> None:
        self._client = client
        self._kubeconfig = kubeconfig
        self._logs = logs
        self._session = session
        self._number = 0
        self.replicas: list[Replica] = []
        self.eye = Eye()

    async def start(self) -> None:
        """One more replica; returns when it is ready, leading or not."""
        self._number += 1
        metrics, health = (f"127.0.0.1:{free_port()}" for _ in range(2))
        with (self._logs / f"operator-{self._number}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kaito.cli", "operator", "--leader-elect", "--node-provisioner=byo"),
                f"--kubeconfig={self._kubeconfig}",
                f"--context={CONTEXT}",
                f"--metrics-bind-address={metrics}",
                f"--health-probe-bind-address={health}",
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._logs)},
            )
        replica = Replica(process, f"http://{metrics}", f"http://{health}")
        self.replicas.append(replica)
        for _ in range(int(PATIENCE / 0.1)):
            if await replica.is_ready(self._session):
                break
            if process.returncode is not None:
                raise RuntimeError(f"a replica ended: {await asyncio.to_thread(_text, log.name)}")
            await asyncio.sleep(0.1)
        else:
            raise TimeoutError("a replica did not get ready")
        # A standby counts from the first renewal that it sees itself, so it has to have seen one.
        since = time.monotonic() + 0.2
        await self.eye.until(lambda: self.eye.holder and self.eye.renewed_at > since, "the lease is renewed")
        await asyncio.sleep(random.uniform(0.05, 2.0))  # ends come at any moment between two renewals

    async def run(self, how: signal.Signals) -> Tree:
        """One end of a leader, and what came after it."""
        leader = await self._leader()
        before, name = self.eye.holder, f"during-{self._number}"
        leader.process.send_signal(how)
        ended = time.monotonic()
        await self._client.create(WORKSPACES, _workspace(name))
        if how is signal.SIGKILL:
            free_at = self.eye.renewed_at + float(self.eye.lease["leaseDurationSeconds"])
        else:
            free_at = await self.eye.until(lambda: self.eye.holder != before, "the lease is given back")
            free_at = min(free_at, self.eye.renewed_at)
        leads = await self.eye.until(lambda: self.eye.holder not in ("", before), "somebody else leads")
        await self.eye.until(lambda: name in self.eye.told, "the new leader works")
        self.replicas.remove(leader)
        await leader.process.wait()
        await self.start()
        return {
            "how": "kill" if how is signal.SIGKILL else "release",
            "leads": round(leads - free_at, 4),
            "works": round(self.eye.told[name] - free_at, 4),
            "since_signal": round(leads - ended, 4),
        }

    async def _leader(self) -> Replica:
        for replica in self.replicas:
            if await replica.leads(self._session):
                return replica
        raise RuntimeError("no replica leads")

    async def stop(self) -> None:
        for replica in self.replicas:
            with contextlib.suppress(ProcessLookupError):
                replica.process.kill()
            await replica.process.wait()


def _text(path: str) -> str:
    return Path(path).read_text()


def _workspace(name: str) -> Tree:
    return {
        "apiVersion": WORKSPACES.api_version,
        "kind": WORKSPACES.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "resource": {"labelSelector": {"matchLabels": {"apps": "none"}}},
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
    }


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    """A control plane with two replicas, one of which leads."""
    clock = LoopClock()
    backend = RealBackend(folder, clock)
    await backend.start(frozenset({API}))
    connection = Connection.from_kubeconfig(backend.kubeconfig, clock=clock)
    client = Client(connection.transport, clock=clock, user_agent="bench", field_manager="bench")
    async with aiohttp.ClientSession() as session:
        made = Bench(client, backend.kubeconfig, folder, session)
        following: list[asyncio.Task[None]] = []
        try:
            await serve(client, crd_manifests(), clock)
            following = [asyncio.create_task(made.eye.follow(client, each)) for each in (LEASES, WORKSPACES)]
            await made.start()
            await made.start()
            yield made
        finally:
            for each in following:
                each.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await made.stop()
            await connection.close()
            backend.close()


def summary(runs: list[Tree]) -> Tree:
    """Percentiles by way of ending, in seconds."""
    found: Tree = {}
    for how in ("kill", "release"):
        for what in ("leads", "works"):
            values = sorted(run[what] for run in runs if run["how"] == how)
            if values:
                found.setdefault(how, {"runs": len(values)})[what] = {
                    "p50": _percentile(values, 50),
                    "p99": _percentile(values, 99),
                    "max": values[-1],
                }
    return found


def _percentile(values: list[float], percent: int) -> float:
    """Nearest rank, so that it is a value that was measured."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]


async def measure(kills: int, releases: int) -> Tree:
    """All runs, kills and releases in turn."""
    left = {signal.SIGKILL: kills, signal.SIGTERM: releases}
    runs: list[Tree] = []
    with tempfile.TemporaryDirectory(prefix="kaito-takeover-") as folder:
        async with bench(Path(folder)) as world:
            while any(left.values()):
                for how in (signal.SIGKILL, signal.SIGTERM):
                    if left[how]:
                        left[how] -= 1
                        runs.append(await world.run(how))
                        print(f"{len(runs)}: {runs[-1]}", file=sys.stderr)
    return {"bench": "takeover", "limit": {"p99": 1.5}, "summary": summary(runs), "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.takeover", description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="leaders that are killed (about 20 s each)")
    parser.add_argument(
        "--releases", type=int, default=25, help="leaders that are told to stop (about 3 s each)"
    )
    options = parser.parse_args()
    result = asyncio.run(measure(options.kills, options.releases))
    sys.stdout.write(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode() + "\n")


if __name__ == "__main__":
    main()
