"""Leader election on a Lease: of several replicas one works.

Semantics of client-go's tools/leaderelection. A foreign lease is believed for as long as *its own* duration
after we last saw it *change*, measured on our monotonic clock; nobody's time of day is ever compared with
anybody else's, so skewed clocks are harmless. A leader that cannot renew within the renew deadline steps down
by itself, before the others may take over: the time that counts is when its last successful renewal was *sent*,
since others may have seen it right then. On a clean stop the lease is given back.

A standby does not only try every few seconds, it also watches the lease: it tries at the moment of a release,
and when the lease runs out. Where the watch cannot be had or breaks, the tries go on as without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import AlreadyExists, ApiError, Conflict, NotFound, TransportError
from kaito.runtime.events import EventRecorder
from kaito.runtime.lease import (
    EXPIRY_JITTER,
    JITTER,
    LeaderElectionOptions,
    Lease,
    default_identity,
    duration_of,
    emptied,
    holder_of,
    spec_of,
    taken,
)
from kaito.runtime.lease_watch import LeaseWatch
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import LEASES
from kaito.runtime.transport import own_session

__all__ = ["JITTER", "LeaderElectionLost", "LeaderElectionOptions", "LeaderElector", "default_identity"]

log = get_logger(__name__)


class LeaderElectionLost(Exception):
    """Somebody else leads now, or the lease could not be renewed in time."""


class LeaderElector:
    """Acquires, renews and releases one lease, on connections of its own where the transport has such."""

    def __init__(
        self,
        client: Client,
        options: LeaderElectionOptions,
        clock: Clock,
        *,
        recorder: EventRecorder | None = None,
        on_change: Callable[[bool], None] = lambda leading: None,
        random: Random | None = None,
    ) -> None:
        """`on_change` is told whether we lead, first at the start; `recorder` gets an event for each change."""
        self._parent = client
        self._client = self._new_client()
        self._client.timeout = options.request_timeout
        self._options = options
        self._clock = clock
        self._recorder = recorder
        self._on_change = on_change
        self._random = Random() if random is None else random
        self._lease: Lease = {}
        self._observed_at = 0.0
        self._renewed_at = 0.0
        self._leading = False
        on_change(False)

    @property
    def is_leader(self) -> bool:
        return self._leading

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen; "" for nobody."""
        return holder_of(self._lease)

    def check(self) -> None:
        """Health check: raises when we believe to lead on a lease that ran out."""
        age = self._clock.now() - self._renewed_at
        if self._leading and age > self._options.lease_duration + self._options.health_tolerance:
            raise LeaderElectionLost(f"the lease was last renewed {age:.0f} s ago")

    async def acquire(self) -> None:
        """Returns once we lead."""
        log.info("waiting for the lease", lease=self._options.name, identity=self._options.identity)
        self._open()
        watch = LeaseWatch(self._client, self._options, self._clock, self._observe, self._random)
        watching = asyncio.create_task(watch.run(), name="lease-watch")
        expired = False
        try:
            while not await self._attempt():
                if expired and watch.alive and spec_of(watch.seen) != spec_of(self._lease):
                    watch.distrust()
                expired = await self._wait_for_chance(watch)
        finally:
            watching.cancel()
            await asyncio.wait({watching})  # not `await watching`: that would hide that we are cancelled too
        self._set_leading(True)

    async def renew(self) -> None:
        """Holds the lease for ever; raises LeaderElectionLost when that fails."""
        options = self._options
        while True:
            await self._clock.sleep(options.retry_period)
            last = self._renewed_at + options.lease_duration - options.safety_margin
            limit = min(options.renew_deadline, last - self._clock.now())
            try:
                async with self._clock.timeout(max(0.0, limit)):
                    while not await self._attempt():
                        if self.holder not in ("", options.identity):
                            break
                        await self._clock.sleep(options.retry_period)
                    else:
                        continue
                reason = f"{self.holder} holds the lease"
            except TimeoutError:
                reason = f"the lease could not be renewed within {options.renew_deadline:g} s"
            self._set_leading(False)
            await self._close()
            raise LeaderElectionLost(f"leader election lost: {reason}")

    async def release(self) -> None:
        """Gives the lease back if it is still ours; call it when everything that relies on it has ended."""
        self._set_leading(False)
        try:
            if self._options.release_on_stop:
                async with self._clock.timeout(self._options.renew_deadline):
                    while not await self._try_release():
                        pass
        except NotFound:
            pass  # there is nothing to give back
        except (ApiError, TransportError, TimeoutError) as error:
            log.warning("the lease could not be released; it runs out by itself", cause=str(error))
        finally:
            await self._close()

    # -- one try ---------------------------------------------------------------------------------------------

    async def _try_release(self) -> bool:
        lease = await self._client.get(LEASES, self._options.name, self._options.namespace)
        if holder_of(lease) != self._options.identity:
            return True
        try:
            self._observe(await self._client.update(LEASES, emptied(lease, self._clock.wall())))
        except Conflict:
            return False
        return True

    async def _attempt(self) -> bool:
        """One try to acquire or renew; whatever goes wrong is an unsuccessful try."""
        try:
            if self._leading and self._expires_in() > 0 and await self._renew_unseen():
                return True
            return await self._acquire_or_renew()
        except (ApiError, TransportError) as error:
            log.warning("lease not acquired or renewed", lease=self._options.name, cause=str(error))
            return False

    async def _renew_unseen(self) -> bool:
        """The fast path: we lead, so the lease is as we last wrote it and need not be read first."""
        try:
            await self._take(self._lease, self._client.update)
        except (ApiError, TransportError):
            return False
        return True

    async def _acquire_or_renew(self) -> bool:
        options = self._options
        try:
            lease = await self._client.get(LEASES, options.name, options.namespace)
        except NotFound:
            try:
                await self._take({}, self._client.create)
            except AlreadyExists:
                return False
            return True
        self._observe(lease)
        if self.holder not in ("", options.identity) and self._expires_in() > 0:
            return False
        try:
            await self._take(lease, self._client.update)
        except Conflict:
            if self._leading:
                raise
            return False  # another candidate was faster, as at creation
        return True

    async def _take(self, lease: Lease, write: Callable[..., Awaitable[Lease]]) -> None:
        sent = self._clock.now()
        self._observe(await write(LEASES, taken(lease, self._options, self._clock.wall())))
        self._observed_at, self._renewed_at = self._clock.now(), sent

    # -- what is known ---------------------------------------------------------------------------------------

    def _observe(self, lease: Lease) -> None:
        """What the server showed. The time counts only when the record differs: a label is no sign of life."""
        before = self.holder
        if spec_of(lease) != spec_of(self._lease):
            self._observed_at = self._clock.now()
        self._lease = lease
        if self.holder != before and self.holder not in ("", self._options.identity):
            log.info("somebody else leads", lease=self._options.name, holder=self.holder)

    def _expires_in(self) -> float:
        """Seconds until the lease, as we last saw it change, has run out by our own clock."""
        return self._observed_at + duration_of(self._lease) - self._clock.now()

    async def _wait_for_chance(self, watch: LeaseWatch) -> bool:
        """Until a release, the end of the lease (then True) or, without a working watch, the next try.

        A watch that misses a renewal shows at the end of the lease: the try then finds the lease renewed.
        """
        retry_at = self._clock.now() + self._options.retry_period * (1 + JITTER * self._random.random())
        jitter = EXPIRY_JITTER * self._random.random()
        while True:
            left = self._expires_in() if watch.alive and self.holder else 0.0
            delay = left + jitter if left > 0 else retry_at - self._clock.now()
            try:
                async with self._clock.timeout(max(0.0, delay)):
                    await watch.changed()
            except TimeoutError:
                return left > 0
            if watch.alive and not self.holder:
                return False

    def _set_leading(self, leading: bool) -> None:
        if leading == self._leading:
            return
        self._leading = leading
        self._on_change(leading)
        words = f"{self._options.identity} {'became leader' if leading else 'stopped leading'}"
        log.info(words, lease=self._options.name)
        if self._recorder is not None:
            self._recorder.event(self._lease, "Normal", "LeaderElection", words)

    # -- connections of our own ------------------------------------------------------------------------------

    def _new_client(self) -> Client:
        """A busy client must not be able to hold up a renewal: nothing is shared with it but the server."""
        return self._parent.named(self._parent.user_agent, self._parent.field_manager)

    def _open(self) -> None:
        if self._client.transport is not self._parent.transport:
            return  # still open from a try that was given up
        session = own_session(self._parent.transport)
        if session is not None:
            self._client.transport = session

    async def _close(self) -> None:
        transport, self._client.transport = self._client.transport, self._parent.transport
        if transport is not self._parent.transport:
            await transport.close()
