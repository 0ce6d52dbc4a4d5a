"""The smallest operator: a manager with metrics and one controller of ConfigMaps. Reports its memory once it idles.

python -m bench.runtime.minimal KUBECONFIG SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.runtime.common import Row, memory
from kaito.runtime import Client, Connection, Controller, LoopClock, Manager, ManagerOptions, ObjectKey
from kaito.runtime.resources import CONFIGMAPS


async def idle(kubeconfig: str, seconds: float) -> Row:
    """Resident memory in MiB some seconds after its cache has synced."""

    async def reconcile(key: ObjectKey) -> None:
        del key

    clock = LoopClock()
    connection = Connection.from_kubeconfig(kubeconfig)
    client = Client(connection.transport, clock=clock)
    manager = Manager(client, clock=clock, options=ManagerOptions(metrics_address="127.0.0.1:0"))
    manager.add(Controller("idle", reconcile, primary=CONFIGMAPS))
    running = asyncio.create_task(manager.run())
    await manager.cache.wait_synced()
    await asyncio.sleep(seconds)
    row = {"idle_mib": memory(), "peak_mib": memory("VmHWM")}
    running.cancel()
    await asyncio.wait([running])
    await connection.close()
    return row


if __name__ == "__main__":
    print(json.dumps(asyncio.run(idle(sys.argv[1], float(sys.argv[2])))))
