"""Reconciles that do nothing, through the whole controller.

    python -m bench.runtime.noop [--quick]

An informer has synced with 100,000 objects; then a controller starts over it: handler, queue, workers, results,
metrics. Seconds are from its start until the last object was reconciled. In Go the same with client-go's informer and
controller-runtime's controller, with its priority queue and with its classic one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial

from bench.runtime.common import Limit, Row, alternate, arguments, finish, go, medians, ours, ratio_at_least
from bench.runtime.memory_api import MemoryApi, metadata_of

KEYS, QUICK_KEYS = 100_000, 30_000
WORKERS = (1, 10)
FASTER = 1.2
"""Times of Go's priority queue."""


async def run(keys: int, workers: int) -> Row:
    """One start of a controller over a synced cache."""
    from kaito.runtime import Client, Controller, ControllerOptions, InformerCache, LoopClock, ObjectKey
    from kaito.runtime.memory_transport import MemoryTransport
    from kaito.runtime.metrics import RuntimeMetrics
    from kaito.runtime.resources import CONFIGMAPS

    clock = LoopClock()
    api = MemoryApi(CONFIGMAPS, (metadata_of(number) for number in range(keys)))
    cache = InformerCache(Client(MemoryTransport(api.handle, clock), clock=clock))
    done = 0
    finished = asyncio.Event()

    async def reconcile(key: ObjectKey) -> None:
        nonlocal done
        del key
        done += 1
        if done == keys:
            finished.set()

    controller = Controller("noop", reconcile, primary=CONFIGMAPS, options=ControllerOptions(workers=workers))
    metrics = RuntimeMetrics(clock.now)
    controller.bind(cache, clock, metrics, workers=1, cache_sync_timeout=60.0)
    caches = asyncio.create_task(cache.run())
    await cache.wait_synced()
    started = time.perf_counter()
    running = asyncio.create_task(controller.run())
    await finished.wait()
    seconds = time.perf_counter() - started
    for task in (running, caches):
        task.cancel()
    await asyncio.wait([running, caches])
    counted = metrics.controller("noop").results["success"]
    if counted != keys:
        raise SystemExit(f"the metrics count {counted} reconciles instead of {keys}")
    return {"seconds": seconds, "per_second": keys / seconds}


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        keys, workers = map(int, sys.argv[2:])
        print(json.dumps(asyncio.run(run(keys, workers))))
        return
    chosen = arguments(__doc__).parse_args()
    keys = QUICK_KEYS if chosen.quick else KEYS

    def peer(workers: int, priority: bool) -> Row:
        flags = (f"--keys={keys}", f"--workers={workers}", f"--priority={str(priority).lower()}")
        return go("noop", *flags, watch_list=False)

    contenders = {}
    for workers in WORKERS:
        contenders[f"kaito, {workers} workers"] = partial(ours, "noop", "--run", str(keys), str(workers))
        contenders[f"go priority queue, {workers} workers"] = partial(peer, workers, True)
        contenders[f"go classic queue, {workers} workers"] = partial(peer, workers, False)
    results = alternate(chosen.runs or (3 if chosen.quick else 5), contenders)
    middle = {name: medians(rows) for name, rows in results.items()}
    limits: list[Limit] = [
        ratio_at_least(
            f"no-op reconciles per second, {workers} workers",
            middle[f"kaito, {workers} workers"]["per_second"],
            middle[f"go priority queue, {workers} workers"]["per_second"],
            FASTER,
        )
        for workers in WORKERS
    ]
    finish("noop", results, limits, {"keys": keys})


if __name__ == "__main__":
    main()
