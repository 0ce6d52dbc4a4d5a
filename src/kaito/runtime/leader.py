"""Leader election on a Lease: of several replicas one works.

Semantics of client-go's tools/leaderelection. A foreign lease is believed for as long as *its own* duration
after we last saw it *change*, measured on our monotonic clock; nobody's time of day is ever compared with
anybody else's, so skewed clocks are harmless. A leader that cannot renew within the renew deadline steps down
by itself, before the others may take over. On a clean stop the lease is given back, so that the next replica
need not wait.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, rfc3339_micro
from kaito.runtime.errors import AlreadyExists, ApiError, Conflict, NotFound, TransportError
from kaito.runtime.events import EventRecorder
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import LEASES

JITTER = 1.2
"""Waiting between tries to acquire is `retry_period * (1 + JITTER * random)`, so replicas do not try in step.
"""

log = get_logger(__name__)


def default_identity() -> str:
    """Host name and a random part, as client-go makes it."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class LeaderElectionOptions:
    """Which lease, and how it is held. Raises ValueError where the times do not leave room for one another."""

    name: str
    """Name of the Lease; the same for all replicas, another one for every operator."""
    namespace: str
    """Namespace of the Lease: the operator's own."""
    identity: str = field(default_factory=default_identity)
    """Who we are; must differ between replicas. Default: host name and a UUID."""
    lease_duration: float = 15.0
    """Seconds after the last renewal at which others may take over."""
    renew_deadline: float = 10.0
    """Seconds after which a leader that could not renew steps down."""
    retry_period: float = 2.0
    """Seconds between tries."""
    release_on_stop: bool = True
    """Give the lease back at the end. Default yes."""

    def __post_init__(self) -> None:
        if not self.name or not self.namespace:
            raise ValueError("leader election needs the name and the namespace of a Lease")
        if self.lease_duration < 1 or self.retry_period <= 0:
            raise ValueError("lease_duration must be at least 1 s and retry_period more than 0")
        if self.lease_duration <= self.renew_deadline:
            raise ValueError(
                f"lease_duration ({self.lease_duration:g} s) must be longer than renew_deadline "
                f"({self.renew_deadline:g} s), or two replicas may lead at the same time"
            )
        if self.renew_deadline <= JITTER * self.retry_period:
            raise ValueError(
                f"renew_deadline ({self.renew_deadline:g} s) must be longer than {JITTER} times retry_period "
                f"({self.retry_period:g} s), or one failed try loses the lease"
            )


class LeaderElectionLost(Exception):
    """Somebody else leads now, or the lease could not be renewed in time."""


class LeaderElector:
    """Acquires, renews and releases one lease."""

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
        self._client = client.named(client.user_agent, client.field_manager)
        self._client.timeout = max(1.0, options.renew_deadline / 2)
        self._options = options
        self._clock = clock
        self._recorder = recorder
        self._on_change = on_change
        self._random = Random() if random is None else random
        self._lease: dict[str, Any] = {}
        self._observed_at = 0.0
        self._leading = False
        on_change(False)

    @property
    def is_leader(self) -> bool:
        return self._leading

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen; "" for nobody."""
        return str(_spec(self._lease).get("holderIdentity") or "")

    def check(self) -> None:
        """Health check: raises when we believe to lead on a lease that ran out."""
        age = self._clock.now() - self._observed_at
        if self._leading and age > self._options.lease_duration:
            raise LeaderElectionLost(f"the lease was last renewed {age:.0f} s ago")

    async def acquire(self) -> None:
        """Returns once we lead."""
        log.info("waiting for the lease", lease=self._options.name, identity=self._options.identity)
        while not await self._attempt():
            await self._clock.sleep(self._options.retry_period * (1 + JITTER * self._random.random()))
        self._set_leading(True)

    async def renew(self) -> None:
        """Holds the lease for ever; raises LeaderElectionLost when that fails."""
        while True:
            await self._clock.sleep(self._options.retry_period)
            try:
                async with self._clock.timeout(self._options.renew_deadline):
                    while not await self._attempt():
                        if self.holder not in ("", self._options.identity):
                            break
                        await self._clock.sleep(self._options.retry_period)
                    else:
                        continue
                reason = f"{self.holder} holds the lease"
            except TimeoutError:
                reason = f"the lease could not be renewed within {self._options.renew_deadline:g} s"
            self._set_leading(False)
            raise LeaderElectionLost(f"leader election lost: {reason}")

    async def release(self) -> None:
        """Gives the lease back if it is still ours; call it when everything that relies on it has ended."""
        self._set_leading(False)
        if not self._options.release_on_stop:
            return
        try:
            async with self._clock.timeout(self._options.renew_deadline):
                while not await self._try_release():
                    pass
        except (ApiError, TransportError, TimeoutError) as error:
            log.warning("the lease could not be released; it runs out by itself", cause=str(error))

    async def _try_release(self) -> bool:
        lease = await self._client.get(LEASES, self._options.name, self._options.namespace)
        if _spec(lease).get("holderIdentity") != self._options.identity:
            return True
        now = rfc3339_micro(self._clock.wall())
        spec = {**_spec(lease), "holderIdentity": "", "leaseDurationSeconds": 1}
        lease["spec"] = {**spec, "renewTime": now, "acquireTime": now}
        try:
            self._observe(await self._client.update(LEASES, lease))
        except Conflict:
            return False
        return True

    async def _attempt(self) -> bool:
        """One try to acquire or renew; whatever goes wrong is an unsuccessful try."""
        try:
            if self._leading and self._is_valid() and await self._renew_unseen():
                return True
            return await self._acquire_or_renew()
        except (ApiError, TransportError) as error:
            log.warning("lease not acquired or renewed", lease=self._options.name, cause=str(error))
            return False

    async def _renew_unseen(self) -> bool:
        """The fast path: we lead, so the lease is as we last wrote it and need not be read first."""
        try:
            self._observe(await self._client.update(LEASES, self._record(self._lease)))
        except (ApiError, TransportError):
            return False
        return True

    async def _acquire_or_renew(self) -> bool:
        options = self._options
        try:
            lease = await self._client.get(LEASES, options.name, options.namespace)
        except NotFound:
            try:
                self._observe(await self._client.create(LEASES, self._record({})))
            except AlreadyExists:
                return False
            return True
        if _spec(lease) != _spec(self._lease):
            self._observe(lease)
        if self.holder not in ("", options.identity) and self._is_valid():
            return False
        self._observe(await self._client.update(LEASES, self._record(lease)))
        return True

    def _record(self, lease: dict[str, Any]) -> dict[str, Any]:
        """The lease with us as its holder, renewed now."""
        options, spec = self._options, _spec(lease)
        now = rfc3339_micro(self._clock.wall())
        held = spec.get("holderIdentity") == options.identity
        transitions = int(spec.get("leaseTransitions") or 0)
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": lease.get("metadata") or {"name": options.name, "namespace": options.namespace},
            "spec": {
                **spec,
                "holderIdentity": options.identity,
                "leaseDurationSeconds": max(1, int(options.lease_duration)),
                "acquireTime": spec.get("acquireTime", now) if held else now,
                "renewTime": now,
                "leaseTransitions": transitions if held or not lease else transitions + 1,
            },
        }

    def _observe(self, lease: dict[str, Any]) -> None:
        self._lease = lease
        self._observed_at = self._clock.now()

    def _is_valid(self) -> bool:
        """Whether the lease, as we last saw it change, has not run out by our own clock."""
        duration = float(_spec(self._lease).get("leaseDurationSeconds") or 0)
        return self._observed_at + duration > self._clock.now()

    def _set_leading(self, leading: bool) -> None:
        if leading == self._leading:
            return
        self._leading = leading
        self._on_change(leading)
        words = f"{self._options.identity} {'became leader' if leading else 'stopped leading'}"
        log.info(words, lease=self._options.name)
        if self._recorder is not None:
            self._recorder.event(self._lease, "Normal", "LeaderElection", words)


def _spec(lease: dict[str, Any]) -> dict[str, Any]:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}
