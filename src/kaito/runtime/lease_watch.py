"""A standby's eye on the lease.

One watch of one object. It tells what it sees and whether it can be relied on; deciding is the elector's. A watch
that is refused, or that breaks, is tried again at its own pace, while the elector's tries go on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from random import Random

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.lease import JITTER, LeaderElectionOptions, Lease
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import LEASES
from kaito.runtime.wire import MalformedStream

REFUSED_PAUSE = 60.0
"""Seconds until a watch that the server refused (no permission, no such verb) is asked for again."""

log = get_logger(__name__)


class LeaseWatch:
    """Follows the lease for as long as `run` runs.

    `alive`: changes can be expected to arrive. `seen`: the last one.
    """

    def __init__(
        self,
        client: Client,
        options: LeaderElectionOptions,
        clock: Clock,
        observe: Callable[[Lease], None],
        random: Random,
    ) -> None:
        """`observe` gets each state of the lease; an empty one when it was deleted."""
        self.alive = False
        self.seen: Lease = {}
        self._client = client
        self._options = options
        self._clock = clock
        self._observe = observe
        self._random = random
        self._news = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def changed(self) -> None:
        """Waits until the watch has seen something, began to work or broke."""
        await self._news.wait()
        self._news.clear()

    def distrust(self) -> None:
        """The lease has changed without our seeing it: this watch is dead, begin another."""
        self.alive = False
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        refused = False
        while True:
            started = self._clock.now()
            pause = self._options.retry_period * (1 + JITTER * self._random.random())
            try:
                await self._follow_once()
                refused = False
                if self._clock.now() - started > pause:
                    pause = 0.0
            except ApiError as error:
                if not refused:
                    log.info(
                        "the lease cannot be watched; trying from time to time instead",
                        lease=self._options.name,
                        cause=str(error),
                    )
                refused, pause = True, REFUSED_PAUSE
            except (TransportError, MalformedStream) as error:
                log.debug("the watch of the lease broke", lease=self._options.name, cause=str(error))
            self.alive = False
            self._news.set()
            await self._clock.sleep(pause)

    async def _follow_once(self) -> None:
        """One watch, in a task of its own so that `distrust` can end it."""
        self._following = asyncio.create_task(self._follow(), name="lease-watch-stream")
        try:
            await asyncio.wait({self._following})
            if not self._following.cancelled():
                self._following.result()
        finally:
            if not self._following.done():
                self._following.cancel()
                await asyncio.wait({self._following})

    async def _follow(self) -> None:
        selector = f"metadata.name={self._options.name}"
        watch = self._client.watch(LEASES, self._options.namespace, field_selector=selector)
        async with aclosing(watch) as events:
            async for event in events:
                self.alive = True
                if event.type != "BOOKMARK":
                    self.seen = {} if event.type == "DELETED" else event.object
                    self._observe(self.seen)
                self._news.set()
