"""The API server's process: `python -m kaito.embedded.processes.apiserver --kubeconfig FILE`."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.embedded.processes.lifeline import end_with_parent, report_ready
from kaito.embedded.processes.names import CONTEXT, KUBELET_TOKEN_VARIABLE
from kaito.embedded.processes.signals import stop_event
from kaito.runtime.clock import LoopClock
from kaito.runtime.garbage import relax_collector
from kaito.runtime.logs import configure_logging


async def serve(kubeconfig: Path, kubelet_token: str) -> None:
    stop = stop_event()
    server = ApiServer(ApiServerOptions(clock=LoopClock(), kubelet_token=kubelet_token, context=CONTEXT))
    await server.start()
    relax_collector()
    try:
        server.write_kubeconfig(kubeconfig)
        report_ready(url=server.url)
        await stop.wait()
    finally:
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kubeconfig", type=Path, required=True, help="where to write the kubeconfig (mode 0600)"
    )
    arguments = parser.parse_args()
    end_with_parent()
    configure_logging("human")
    asyncio.run(serve(arguments.kubeconfig, os.environ.pop(KUBELET_TOKEN_VARIABLE, "")))


if __name__ == "__main__":
    main()
