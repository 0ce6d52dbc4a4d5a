"""Ten tasks list everything while one writes.

    python -m bench.runtime.contention [--quick]

10,000 objects in an informer; each of ten tasks lists them all again and again; a writer changes one object, at most
ten changes ahead of the handler (as in client-go's BenchmarkSharedIndexInformer, which the peer follows). In Go
readers hold a read lock, and writers wait for all of them; in one event loop nobody waits for a lock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial

from bench.runtime.common import Row, alternate, arguments, finish, go, medians, ours, ratio_at_least
from bench.runtime.memory_api import MemoryApi, metadata_of

OBJECTS, TASKS, AHEAD = 10_000, 10, 10
SECONDS, QUICK_SECONDS = 5.0, 2.0
LISTS, WRITES = 1.0, 100.0
"""Times of client-go's."""


async def run(seconds: float) -> Row:
    """Lists and handled writes per second."""
    from kaito.runtime import Client, InformerCache, LoopClock
    from kaito.runtime.memory_transport import MemoryTransport
    from kaito.runtime.objects import CachedObject
    from kaito.runtime.resources import CONFIGMAPS

    clock = LoopClock()
    api = MemoryApi(CONFIGMAPS, (metadata_of(number) for number in range(OBJECTS)))
    cache = InformerCache(Client(MemoryTransport(api.handle, clock), clock=clock))
    informer = cache.informer(CONFIGMAPS)
    writes = lists = 0
    stop = False
    ahead = asyncio.Semaphore(AHEAD)

    class Handler:
        def on_add(self, obj: CachedObject, initial: bool) -> None:
            pass

        def on_update(self, old: CachedObject, new: CachedObject) -> None:
            nonlocal writes
            writes += 1
            ahead.release()

        def on_delete(self, obj: CachedObject, stale: bool) -> None:
            pass

    async def read() -> None:
        nonlocal lists
        while not stop:
            if len(informer.lister.list()) != OBJECTS:
                raise SystemExit("a list was not complete")
            lists += 1
            await asyncio.sleep(0)

    async def write() -> None:
        while not stop:
            await ahead.acquire()
            api.put(metadata_of(0))

    informer.add_handler(Handler())
    caches = asyncio.create_task(cache.run())
    await cache.wait_synced()
    tasks = [asyncio.create_task(read()) for _ in range(TASKS)]
    writing = asyncio.create_task(write())
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    row = {"lists_per_second": lists / elapsed, "writes_per_second": writes / elapsed}
    stop = True
    await asyncio.gather(*tasks)
    for task in (writing, caches):
        task.cancel()
    await asyncio.wait([writing, caches])
    return row


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(asyncio.run(run(float(sys.argv[2])))))
        return
    chosen = arguments(__doc__).parse_args()
    seconds = QUICK_SECONDS if chosen.quick else SECONDS
    flags = (f"--objects={OBJECTS}", f"--tasks={TASKS}", f"--seconds={seconds}")
    contenders = {
        "kaito": partial(ours, "contention", "--run", str(seconds)),
        "go": partial(go, "contention", *flags, watch_list=False),
    }
    results = alternate(chosen.runs or (1 if chosen.quick else 3), contenders)
    own, peer = medians(results["kaito"]), medians(results["go"])
    limits = [
        ratio_at_least(f"{what} per second", own[f"{what}_per_second"], peer[f"{what}_per_second"], times)
        for what, times in (("lists", LISTS), ("writes", WRITES))
    ]
    finish("contention", results, limits, {"objects": OBJECTS, "tasks": TASKS})


if __name__ == "__main__":
    main()
