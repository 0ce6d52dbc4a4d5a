"""From the last byte of an event, as it leaves the socket, to its handler and to the start of its reconcile.

    python -m bench.runtime.latency [--quick]

A local server (`feed`) sends 1,000 changes of 8-KB pods per second over plain HTTP. All of them have the same size on
the wire, so it is known which read brought an event's last byte; both sides note the moment of every read. In Go:
controller-runtime's cache and controller.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from bisect import bisect_left
from functools import partial
from typing import Any

from bench.runtime.common import (
    Limit,
    Row,
    alternate,
    arguments,
    finish,
    go,
    medians,
    ours,
    percentiles,
)

PODS, RATE = 1000, 1000.0
EVENTS, QUICK_EVENTS = 10_000, 3_000
HANDLER_MS, RECONCILE_MS = 1.0, 5.0


class Reads:
    """Notes when how many bytes of each connection had come. Put under aiohttp's protocol, in this process only."""

    def __init__(self) -> None:
        self.connections: dict[int, tuple[list[int], list[float]]] = {}

    def install(self) -> None:
        from aiohttp.client_proto import ResponseHandler

        original = ResponseHandler.data_received
        connections, now = self.connections, time.perf_counter

        def data_received(protocol: Any, data: bytes) -> None:
            ends, times = connections.setdefault(id(protocol), ([0], [0.0]))
            times.append(now())
            ends.append(ends[-1] + len(data))
            original(protocol, data)

        setattr(ResponseHandler, "data_received", data_received)  # noqa: B010 - typed code may not assign a method

    def of_events(self, count: int, size: int) -> list[float]:
        """When the last byte of each event had come: the stream ends with the last of them."""
        ends, times = max(self.connections.values(), key=lambda pair: pair[0][-1])
        first = ends[-1] - count * size
        return [times[bisect_left(ends, first + (number + 1) * size)] for number in range(count)]


async def run(url: str, count: int, size: int) -> Row:
    """Follows all events; p50, p99 and maximum of both ways in milliseconds."""
    from kaito.runtime import Client, Controller, LoopClock, Manager, ObjectKey
    from kaito.runtime.aiohttp_transport import AioHttpTransport
    from kaito.runtime.objects import CachedObject
    from kaito.runtime.resources import PODS as POD_RESOURCE

    reads = Reads()
    reads.install()
    handled, reconciled, rounds = [0.0] * count, [0.0] * count, [0] * PODS
    left = 2 * count
    finished = asyncio.Event()

    def seen() -> None:
        nonlocal left
        left -= 1
        if not left:
            finished.set()

    class Handler:
        def on_add(self, obj: CachedObject, initial: bool) -> None:
            pass

        def on_update(self, old: CachedObject, new: CachedObject) -> None:
            handled[int(new.meta.annotations["example.com/event"])] = time.perf_counter()
            seen()

        def on_delete(self, obj: CachedObject, stale: bool) -> None:
            pass

    async def reconcile(key: ObjectKey) -> None:
        now = time.perf_counter()
        number = int(key.name.removeprefix("worker-"))
        if rounds[number]:  # the first is for the initial list
            reconciled[(rounds[number] - 1) * PODS + number] = now
            seen()
        rounds[number] += 1

    clock = LoopClock()
    transport = AioHttpTransport(url)
    manager = Manager(Client(transport, clock=clock), clock=clock)
    manager.cache.informer(POD_RESOURCE).add_handler(Handler())
    manager.add(Controller("latency", reconcile, primary=POD_RESOURCE))
    running = asyncio.create_task(manager.run())
    await finished.wait()
    running.cancel()
    await asyncio.wait([running])
    await transport.close()
    read = reads.of_events(count, size)
    return {
        "handler": percentiles([handled[number] - read[number] for number in range(count)]),
        "reconcile": percentiles([reconciled[number] - read[number] for number in range(count)]),
    }


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(asyncio.run(run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))))
        return
    from bench.runtime.feed import feed

    chosen = arguments(__doc__).parse_args()
    count = QUICK_EVENTS if chosen.quick else EVENTS
    with feed(PODS, count, RATE) as (url, size):
        flags = (f"--url={url}", f"--events={count}", f"--bytes={size}", f"--objects={PODS}")
        contenders = {
            "kaito": partial(ours, "latency", "--run", url, str(count), str(size)),
            "go": partial(go, "latency", *flags),
        }
        results = alternate(chosen.runs or (1 if chosen.quick else 3), contenders)
    own, peer = medians(results["kaito"]), medians(results["go"])
    limits = []
    for way, bound in (("handler", HANDLER_MS), ("reconcile", RECONCILE_MS)):
        mine, theirs = own[way]["p99_ms"], peer[way]["p99_ms"]
        limit = max(bound, theirs)
        limits.append(
            Limit(
                f"last byte -> {way}, p99 (ms)",
                f"<= max({bound:g}, peer)",
                mine,
                theirs,
                mine <= limit,
            )
        )
    finish("latency", results, limits, {"events_per_second": RATE, "events": count, "bytes_per_event": size})


if __name__ == "__main__":
    main()
