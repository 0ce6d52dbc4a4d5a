"""One informer that fills its cache, in a process that imports nothing but the runtime.

python -m bench.runtime.reader pods|pods-whole|pods-metadata|workspaces watchlist|list KUBECONFIG
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

from bench.runtime.common import Row, memory
from kaito.runtime.cache import CacheOptions, InformerCache
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import PODS, Resource

WORKSPACES = Resource("kaito.sh", "v1beta1", "workspaces", "Workspace")


async def read(form: str, mode: str, kubeconfig: str) -> Row:
    """Seconds and MiB of one fill."""
    connection = Connection.from_kubeconfig(kubeconfig)
    client = Client(connection.transport, clock=LoopClock())
    options = CacheOptions(
        ReflectorOptions(watch_list=mode == "watchlist"), keep_managed_fields=form == "pods-whole"
    )
    cache = InformerCache(client, options=options)
    resource = WORKSPACES if form == "workspaces" else PODS
    informer = cache.informer(resource, metadata_only=form == "pods-metadata")
    await client.request("GET", "/version")
    idle = memory()
    started = time.perf_counter()
    running = asyncio.ensure_future(cache.run())
    await cache.wait_synced()
    seconds = time.perf_counter() - started
    peak, synced = memory("VmHWM"), memory()
    gc.collect()
    row = {"objects": len(informer.store), "seconds": seconds, "idle_mib": idle, "peak_mib": peak}
    row |= {"synced_mib": synced, "after_gc_mib": memory()}
    running.cancel()
    await asyncio.wait([running])
    await connection.close()
    return row


if __name__ == "__main__":
    print(json.dumps(asyncio.run(read(*sys.argv[1:]))))
