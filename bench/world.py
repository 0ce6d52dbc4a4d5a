"""What the benches run against: any kubeconfig, or a world of their own.

A world of its own is three processes as in `kaito local up`, with two differences: the instant cloud makes nodes whose
pods are simulated (`kaito.sh/simulated-pods`), and the node process has the simulated kubelet only. So what is timed is
the API server and controllers, not processes of pods.

    python -m bench.world node|operator --kubeconfig FILE     (used by the benches themselves)
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from kaito import __version__
from kaito.api.crds import crd_manifests
from kaito.cli.local.supervisor import ManagedProcess, ProcessSpec, Supervisor
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.embedded import workloads
from kaito.embedded.kubelet import simulated
from kaito.embedded.processes.lifeline import end_with_parent, report_ready
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.garbage import relax_collector
from kaito.runtime.logs import configure_logging
from kaito.runtime.manager import Manager
from kaito.runtime.resources import CRDS

PARTS = ("apiserver", "node", "operator")
CONNECTIONS = 32
"""Requests in flight of the client that writes."""


@dataclass
class World:
    """A cluster to measure, and which of its parts are ours."""

    connection: Connection
    client: Client
    clock: LoopClock
    children: dict[str, ManagedProcess]

    async def end(self, part: str) -> bool:
        """Ends one of our processes; False where it is not ours to end."""
        child = self.children.pop(part, None)
        if child is None:
            return False
        child.process.terminate()
        await child.process.wait()
        return True

    async def versions(self) -> dict[str, Any]:
        """What a result was measured with."""
        server = orjson.loads(await self.client.request("GET", "/version"))
        return {
            "kaito": __version__,
            "python": platform.python_version(),
            "aiohttp": version("aiohttp"),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "server": server.get("gitVersion"),
            "parts": sorted(self.children),
        }


@asynccontextmanager
async def world(kubeconfig: Path | None, context: str | None, parts: Sequence[str]) -> AsyncIterator[World]:
    """Starts the named parts; without a kubeconfig the API server must be one of them."""
    clock = LoopClock()
    supervisor = Supervisor(clock)
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as folder:
        path = kubeconfig or Path(folder) / "kubeconfig"
        children: dict[str, ManagedProcess] = {}

        async def start(part: str, *arguments: str) -> None:
            spec = ProcessSpec(part, ["-m", *arguments, f"--kubeconfig={path}"], Path(folder) / f"{part}.log")
            children[part] = await supervisor.start(spec)

        try:
            if kubeconfig is None:
                await start("apiserver", "kaito.embedded.processes.apiserver")
            connection = Connection.from_kubeconfig(path, context, clock=clock)
            client = Client(
                connection.transport, clock=clock, user_agent="kaito-bench", field_manager="kaito-bench"
            )
            try:
                if kubeconfig is None:
                    await asyncio.gather(*(client.apply(CRDS, crd) for crd in crd_manifests()))
                for part in parts:
                    if part != "apiserver":
                        extra = [f"--context={context}"] if context else []
                        await start(part, "bench.world", part, *extra)
                yield World(connection, client, clock, children)
            finally:
                await connection.close()
        finally:
            await supervisor.stop(lambda name: None)


class _Ready:
    """Says that the controllers start."""

    name = "ready-report"

    async def run(self) -> None:
        report_ready()
        await asyncio.Event().wait()


async def serve(part: str, kubeconfig: Path, context: str | None) -> None:
    """One of our processes, until it is told to stop."""
    clock = LoopClock()
    connection = Connection.from_kubeconfig(kubeconfig, context, clock=clock)
    try:
        manager = Manager(Client(connection.transport, clock=clock, user_agent=f"kaito-{part}"), clock=clock)
        if part == "node":
            workloads.setup(manager)
            simulated.setup(manager)
        else:
            workspace.setup(manager)
            adapter.setup(manager, AdapterOptions(image_map={}))
            client = manager.client.named(machine.USER_AGENT, machine.FIELD_MANAGER)
            machine.setup(manager, InstantCloud(client, clock, simulated_pods=True))
        manager.add(_Ready())
        relax_collector()
        await manager.run_until_signal()
    finally:
        await connection.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cluster, for the benches' command lines."""
    parser.add_argument(
        "--kubeconfig", type=Path, help="an existing cluster; default: an embedded one of our own"
    )
    parser.add_argument("--context", help="context of the kubeconfig; default: its current one")
    parser.add_argument(
        "--start",
        default=",".join(PARTS),
        help="which of node,operator to start on it (comma list, may be empty); default: both",
    )


def parts_of(text: str) -> list[str]:
    """The `--start` list. Raises SystemExit for an unknown part."""
    parts = [part for part in text.split(",") if part]
    if unknown := sorted(set(parts) - set(PARTS)):
        raise SystemExit(f"--start: {', '.join(unknown)}: write a comma list of {', '.join(PARTS)}")
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("node", "operator"))
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--context")
    arguments = parser.parse_args()
    end_with_parent()
    configure_logging("json", level="warning")
    asyncio.run(serve(arguments.part, arguments.kubeconfig, arguments.context))


if __name__ == "__main__":
    main()
