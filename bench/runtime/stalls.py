"""The longest time for which the event loop does nothing else.

    python -m bench.runtime.stalls [--quick]

A task that wants to run every millisecond notes how late it was, while the same process syncs 50,000 pods of 8 KB from
a local server, lists them again after a 410, decodes objects so that garbage piles up, and makes a full collection.
An idle process runs the same task at the same time: what it sees is the machine's doing. `cpu_ms` is the most processor
time that the busy process's thread spent between two turns of the task: what it would have been late on a machine of
its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time

from bench.runtime.common import (
    ROOT,
    Limit,
    Row,
    arguments,
    at_most,
    finish,
    medians,
    memory,
)

PODS, QUICK_PODS = 50_000, 10_000
MORE_MS = 10.0
TICK = 0.001
PHASES = ("sync", "relist", "garbage", "full collection")

Lateness = list[tuple[float, float, float]]
"""Moment, seconds late, processor seconds spent meanwhile."""


async def tick(late: Lateness) -> None:
    """Notes what it sees for ever."""
    now, spent = time.monotonic, time.thread_time
    while True:
        before, cpu = now(), spent()
        await asyncio.sleep(TICK)
        after = now()
        late.append((after, after - before - TICK, spent() - cpu))


async def idle() -> None:
    """Until standard input closes; then everything noted above half a millisecond."""
    late: Lateness = []
    ticking = asyncio.create_task(tick(late))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    ticking.cancel()
    print(json.dumps([each for each in late if each[1] > 0.0005]))


async def run(url: str, count: int) -> Row:
    """The phases' bounds, and what the ticker noted."""
    from kaito.runtime import Client, Controller, LoopClock, Manager, ObjectKey
    from kaito.runtime.aiohttp_transport import AioHttpTransport
    from kaito.runtime.resources import PODS as POD_RESOURCE

    phases: dict[str, tuple[float, float]] = {}
    reconciled = 0

    async def reconcile(key: ObjectKey) -> None:
        nonlocal reconciled
        del key
        reconciled += 1

    async def until(wanted: int) -> None:
        while reconciled < wanted:  # noqa: ASYNC110 - an event would cost each reconcile something
            await asyncio.sleep(0.01)

    clock = LoopClock()
    transport = AioHttpTransport(url)
    client = Client(transport, clock=clock)
    manager = Manager(client, clock=clock)
    manager.add(Controller("stalls", reconcile, primary=POD_RESOURCE))
    informer = manager.cache.informer(POD_RESOURCE)
    late: Lateness = []
    ticking = asyncio.create_task(tick(late))
    await asyncio.sleep(0.5)

    started = time.monotonic()
    running = asyncio.create_task(manager.run())
    await until(count)
    phases["sync"] = (started, time.monotonic())

    started = time.monotonic()
    await client.request("GET", "/expire")
    await until(count + len(range(0, count, 100)))
    phases["relist"] = (started, time.monotonic())

    started = time.monotonic()
    for number, obj in enumerate(informer.store):
        tree = obj.decode()
        tree["itself"] = tree  # a cycle: only the collector can free it
        if number % 10 == 0:
            await asyncio.sleep(0)
    phases["garbage"] = (started, time.monotonic())

    started = time.monotonic()
    gc.collect()
    await asyncio.sleep(0.01)
    phases["full collection"] = (started, time.monotonic())

    for task in (ticking, running):
        task.cancel()
    await asyncio.wait([ticking, running])
    await transport.close()
    return {"phases": phases, "late": [each for each in late if each[1] > 0.0005], "rss_mib": memory()}


def once(url: str, count: int) -> Row:
    """Both processes side by side; the longest lateness of each in each phase, in milliseconds."""
    command = [sys.executable, "-m", "bench.runtime.stalls"]
    quiet = subprocess.Popen(
        [*command, "--idle"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert quiet.stdin is not None
    assert quiet.stdout is not None
    try:
        quiet.stdout.readline()
        busy = subprocess.run(
            [*command, "--run", url, str(count)], capture_output=True, text=True, check=False, cwd=ROOT
        )
        if busy.returncode:
            raise SystemExit(busy.stderr[-3000:])
        measured = json.loads(busy.stdout)
    finally:
        quiet.stdin.close()
    beside = json.loads(quiet.stdout.read())
    quiet.wait(30)
    row: Row = {"rss_mib": measured["rss_mib"]}
    for phase, (start, end) in measured["phases"].items():

        def longest(late: Lateness, place: int = 1, start: float = start, end: float = end) -> float:
            return (
                max((each[place] for each in late if start <= each[0] <= end + each[1]), default=0.0) * 1000
            )

        mine, theirs = longest(measured["late"]), longest(beside)
        row[phase] = {
            "seconds": end - start,
            "ours_ms": mine,
            "idle_ms": theirs,
            "more_ms": mine - theirs,
            "cpu_ms": longest(measured["late"], 2),
        }
    return row


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(asyncio.run(run(sys.argv[2], int(sys.argv[3])))))
        return
    if sys.argv[1:2] == ["--idle"]:
        asyncio.run(idle())
        return
    from bench.runtime.feed import feed

    chosen = arguments(__doc__).parse_args()
    count = QUICK_PODS if chosen.quick else PODS
    with feed(count) as (url, _):
        rows = [once(url, count) for _ in range(chosen.runs or (1 if chosen.quick else 3))]
    middle = medians(rows)
    limits: list[Limit] = [
        at_most(f"longest stall beyond an idle process's, {phase}", middle[phase]["more_ms"], MORE_MS, "ms")
        for phase in PHASES
    ]
    finish("stalls", {"kaito": rows}, limits, {"pods": count})


if __name__ == "__main__":
    main()
