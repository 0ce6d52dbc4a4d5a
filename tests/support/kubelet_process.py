"""A kubelet as a process of its own, for tests that kill it: `python kubelet_process.py KUBECONFIG DIRECTORY`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kaito.embedded.kubelet import KubeletOptions, setup
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.manager import Manager
from support.kubelet_cluster import TOKEN, python_images


async def main(kubeconfig: str, directory: str) -> None:
    connection = Connection.from_kubeconfig(kubeconfig)
    clock = LoopClock()
    manager = Manager(Client(connection.transport, clock=clock), clock=clock)
    setup(manager, KubeletOptions(Path(directory), TOKEN, python_images(Path(directory)), stop_grace=0.5))
    await manager.run_until_signal()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
