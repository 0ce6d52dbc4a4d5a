"""The node's process: workload controllers, scheduler and kubelet, as plain clients of the API server."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from kaito import __version__
from kaito.catalog import load_catalog
from kaito.cli.local.images import image_table, parse_image_map
from kaito.cli.local.state import CONTEXT
from kaito.embedded import kubelet, workloads
from kaito.embedded.kubelet import KubeletOptions
from kaito.embedded.processes.lifeline import end_with_parent, report_ready
from kaito.embedded.processes.names import KUBELET_TOKEN_VARIABLE
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.garbage import relax_collector
from kaito.runtime.logs import configure_logging
from kaito.runtime.manager import Manager


class _Ready:
    """Tells the parent process, once the controllers start, that they do."""

    name = "ready-report"

    async def run(self) -> None:
        report_ready()
        await asyncio.Event().wait()


async def serve(kubeconfig: Path, options: KubeletOptions) -> None:
    """Runs until SIGTERM or SIGINT; the pods' processes end with it."""
    clock = LoopClock()
    connection = Connection.from_kubeconfig(kubeconfig, CONTEXT, clock=clock)
    try:
        client = Client(connection.transport, clock=clock, user_agent=f"kaito-node/{__version__}")
        manager = Manager(client, clock=clock)
        workloads.setup(manager)
        kubelet.setup(manager, options)
        manager.add(_Ready())
        relax_collector()
        await manager.run_until_signal()
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder for the pods' files")
    parser.add_argument("--image", action="append", default=[], metavar="REF=oci:PATH")
    parser.add_argument("--weights", action="append", default=[], metavar="PRESET=PATH")
    parser.add_argument(
        "--downloads", type=Path, required=True, help="folder that pods download weights into"
    )
    arguments = parser.parse_args()
    end_with_parent()
    configure_logging("human")
    weights = {name: Path(path) for name, _, path in (option.partition("=") for option in arguments.weights)}
    images = image_table(load_catalog(), parse_image_map(arguments.image), weights, cache=arguments.downloads)
    token = os.environ.pop(KUBELET_TOKEN_VARIABLE, "")
    asyncio.run(serve(arguments.kubeconfig, KubeletOptions(arguments.state.resolve(), token, images)))


if __name__ == "__main__":
    main()
