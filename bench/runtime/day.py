"""A day of churn in some minutes: does the memory stay where it was, and does the cache equal the server?

    python -m bench.runtime.day [--quick]

The whole stack (client, reflector, informer, queue, controller, manager with leader election, metrics that are scraped)
in virtual time over the in-memory transport. 2,000 objects; 50 changes per second, of which one in ten creates and one
in ten deletes; a reconcile reads the cache and now and then writes. The token rotates every 50 minutes, every second
time so that the old one is refused at once; the API server restarts every three hours, every second time with its
history lost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import orjson
from prometheus_client import generate_latest

from bench.runtime.common import Limit, Row, arguments, at_most, finish, memory, ours
from bench.runtime.memory_api import MemoryApi, Object
from kaito.runtime import (
    Client,
    Controller,
    LeaderElectionOptions,
    LoopClock,
    Manager,
    ManagerOptions,
    ObjectKey,
)
from kaito.runtime.credentials import TokenFile
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.logs import configure_logging
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import CONFIGMAPS, LEASES
from kaito.runtime.testing import VirtualClock, run_virtual
from kaito.runtime.transport import Request, Response

OBJECTS = 2000
TICK, PER_TICK = 0.2, 10
"""Seconds between bursts, and changes of each: 50 per second."""
HOUR = 3600.0
HOURS, QUICK_HOURS = 24, 2
TOKEN_EVERY, RESTART_EVERY = 3000.0, 3 * HOUR
OUTAGE = 6.0
"""Seconds that a restart takes: the lease survives it."""
SCRAPE_EVERY, BOOKMARK_EVERY = 30.0, 60.0
SETTLE = 180.0
"""Seconds without changes after which the cache has to equal the server."""
MORE_MIB = 2.0
HISTORY = 2000
"""Changes that the server remembers: 40 seconds, so that its own memory hardly counts."""


class Tokens:
    """Puts the token of a file on each request, as the transport over sockets does."""

    def __init__(self, inner: MemoryTransport, credentials: TokenFile) -> None:
        self._inner = inner
        self._credentials = credentials

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        header = (await self._credentials.current()).header or ""
        request = replace(request, headers={**request.headers, "Authorization": header})
        response = await self._inner.send(request, timeout=timeout, stream=stream)
        if response.status == 401:
            self._credentials.rejected()
        return response

    async def close(self) -> None:
        await self._inner.close()


class Day:
    """One simulated day (or less)."""

    def __init__(self, clock: LoopClock, directory: Path, hours: int) -> None:
        self.clock = clock
        self.hours = hours
        self.random = random.Random(5)
        self.token = directory / "token"
        self.token.write_text("token-0")
        self.api = MemoryApi(CONFIGMAPS, history=HISTORY)
        self.leases = MemoryApi(LEASES, history=HISTORY)
        self.names: list[str] = []
        self.made = 0
        self.reconciles = self.writes = self.failed_writes = self.changes = self.restarts = 0
        self.seen: dict[ObjectKey, str] = {}
        """The version that the last reconcile of each key saw; nothing of those that were gone."""
        self.memory: dict[str, float] = {}
        transport = Tokens(MemoryTransport(self.handle, clock), TokenFile(self.token, clock))
        election = LeaderElectionOptions("day", "default", identity="bench")
        self.client = Client(transport, clock=clock)
        self.manager = Manager(
            self.client, clock=clock, options=ManagerOptions(leader_election=election, workers=2)
        )
        self.informer = self.manager.cache.informer(CONFIGMAPS)
        self.manager.add(Controller("day", self.reconcile, primary=CONFIGMAPS))
        self.use_tokens("token-0")

    async def handle(self, request: Request) -> Response:
        return await (self.leases if "/leases" in request.path else self.api).handle(request)

    def use_tokens(self, *tokens: str) -> None:
        """The last of them is in the file; all of them are accepted."""
        self.token.write_text(tokens[-1])
        for api in (self.api, self.leases):
            api.tokens = set(tokens)

    async def reconcile(self, key: ObjectKey) -> None:
        self.reconciles += 1
        obj = self.informer.lister.get(key.name, key.namespace)
        if obj is None:
            self.seen.pop(key, None)
            return
        self.seen[key] = obj.meta.resource_version
        if self.reconciles % 200:
            return
        self.writes += 1
        patch = {"metadata": {"annotations": {"example.com/reconciled": f"{self.clock.now():012.1f}"}}}
        try:
            await self.client.patch(CONFIGMAPS, key.name, key.namespace, patch=patch)
        except (ApiError, TransportError):
            self.failed_writes += 1

    # -- what happens to the server --------------------------------------------------------------------------

    def create(self) -> None:
        self.made += 1
        name = f"object-{self.made:07d}"
        self.names.append(name)
        self.api.put(self.tree(name))

    def tree(self, name: str) -> Object:
        metadata = {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "labels": {"app": "bench", "group": name[-2:]},
            "annotations": {"example.com/note": "n" * 80},
        }
        return {"metadata": metadata, "data": {"value": f"{self.random.random():.8f}" * 60}}

    def change(self) -> None:
        self.changes += 1
        what = self.random.random()
        fewer = len(self.names) < OBJECTS
        if what < 0.2 and fewer:
            self.create()
            return
        place = self.random.randrange(len(self.names))
        if what < 0.2:
            self.names[place], self.names[-1] = self.names[-1], self.names[place]
            self.api.delete("default", self.names.pop())
        else:
            self.api.put(self.tree(self.names[place]))

    async def churn(self) -> None:
        for _ in range(int(self.hours * HOUR / TICK)):
            for _ in range(PER_TICK):
                self.change()
            await asyncio.sleep(TICK)

    async def rotate(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(TOKEN_EVERY)
            number += 1
            if number % 2:  # the kubelet's way: the new token is in the file before the old one ends
                self.use_tokens(f"token-{number - 1}", f"token-{number}")
                await asyncio.sleep(90.0)
            self.use_tokens(f"token-{number}")

    async def restart(self) -> None:
        while True:
            await asyncio.sleep(RESTART_EVERY if self.hours > QUICK_HOURS else HOUR / 2)
            self.restarts += 1
            for api in (self.api, self.leases):
                api.down = True
                api.cut()
            await asyncio.sleep(OUTAGE)
            for api in (self.api, self.leases):
                api.down = False
                if self.restarts % 2 == 0:
                    api.forget()

    async def bookmark(self) -> None:
        while True:
            await asyncio.sleep(BOOKMARK_EVERY)
            self.api.bookmark()
            self.leases.bookmark()

    async def scrape(self) -> None:
        while True:
            await asyncio.sleep(SCRAPE_EVERY)
            generate_latest(self.manager.metrics.registry)

    async def watch_memory(self) -> None:
        step = HOUR if self.hours > QUICK_HOURS else HOUR / 4
        for number in range(1, int(self.hours * HOUR / step) + 1):
            await asyncio.sleep(number * step - self.clock.now())
            self.memory[f"{number * step / HOUR:g} h"] = round(memory(), 3)

    # -- the day ---------------------------------------------------------------------------------------------

    async def live(self) -> Row:
        for _ in range(OBJECTS):
            self.create()
        running = [
            asyncio.create_task(work)
            for work in (self.manager.run(), self.rotate(), self.restart(), self.bookmark(), self.scrape())
        ]
        watching = asyncio.create_task(self.watch_memory())
        await self.churn()
        await watching
        await asyncio.sleep(SETTLE)
        differences = self.differences()
        for task in running:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.wait(running)
        stats = self.informer.stats
        return {
            "memory_mib": self.memory,
            "changes": self.changes,
            "reconciles": self.reconciles,
            "writes": self.writes,
            "failed_writes": self.failed_writes,
            "requests": self.api.requests + self.leases.requests,
            "refused": self.api.refused + self.leases.refused,
            "restarts": self.restarts,
            "lists": stats.lists,
            "watches": stats.watches,
            "events": stats.events,
            "objects": len(self.informer.store),
            "differences": differences,
            "panics": self.manager.metrics.controller("day").panics,
        }

    def differences(self) -> int:
        """Objects that the cache has otherwise than the server, or whose last state no reconcile saw."""
        store = self.informer.store
        wrong = abs(len(store) - len(self.api.objects))
        for (namespace, name), raw in self.api.objects.items():
            key = ObjectKey(namespace, name)
            obj = store.get(key)
            wrong += obj is None or obj.decode() != orjson.loads(raw)
            wrong += self.seen.get(key) != str(self.api.versions[namespace, name])
        return wrong + sum(store.get(key) is None for key in self.seen)


def run(hours: int) -> Row:
    """Lives through it; wall seconds included."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kaito-bench-") as folder, Path(os.devnull).open("w") as nowhere:
        configure_logging("json", "info", nowhere)
        day = run_virtual(lambda: Day(VirtualClock(), Path(folder), hours).live())
        logging.getLogger().handlers.clear()
    return {"seconds": time.perf_counter() - started, **day}


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run(int(sys.argv[2]))))
        return
    chosen = arguments(__doc__).parse_args()
    hours = QUICK_HOURS if chosen.quick else HOURS
    row = ours("day", "--run", str(hours))
    marks = list(row["memory_mib"])
    first, last = ("1 h", marks[-1]) if "1 h" in marks else (marks[0], marks[-1])
    growth = row["memory_mib"][last] - row["memory_mib"][first]
    limits: list[Limit] = [
        at_most(f"resident memory at {last} beyond that at {first}", growth, MORE_MIB, "MiB"),
        at_most(
            "objects in the cache unlike the server's, or not reconciled", row["differences"], 0, "objects"
        ),
    ]
    if row["panics"] or row["failed_writes"] > row["writes"] // 100:
        raise SystemExit(f"reconciles failed: {row['panics']} panics, {row['failed_writes']} failed writes")
    finish("day", {"kaito": [row]}, limits, {"hours": hours})


if __name__ == "__main__":
    main()
