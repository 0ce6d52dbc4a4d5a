"""The Lease that a leader holds: options, and the record on the server.

Field by field what client-go's resourcelock writes, so that replicas written in Go and in Python can share one
lease. See `kaito.runtime.leader` for who does what when.
"""

from __future__ import annotations

import math
import socket
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kaito.runtime.clock import rfc3339_micro
from kaito.runtime.resources import LEASES

JITTER = 1.2
"""Waiting between tries to acquire is `retry_period * (1 + JITTER * random)`, so replicas do not try in step.
"""
EXPIRY_JITTER = 0.5
"""Seconds, at most, that a standby lets pass after the lease has run out, so that not all try at once."""

Lease = dict[str, Any]


def default_identity() -> str:
    """Host name and a random part, as client-go makes it."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class LeaderElectionOptions:
    """Which lease, and how it is held. Raises ValueError where the times do not leave room for one another."""

    name: str
    """The Lease."""
    namespace: str
    """The Lease's namespace."""
    identity: str = field(default_factory=default_identity)
    """Who we are; must differ between replicas. Default: host name and a UUID."""
    lease_duration: float = 15.0
    """Seconds after the last renewal at which others may take over, rounded up to whole ones. Default 15."""
    renew_deadline: float = 10.0
    """Seconds after which a leader that could not renew steps down. Default 10."""
    retry_period: float = 2.0
    """Seconds between tries. Default 2."""
    release_on_stop: bool = True
    """Give the lease back at the end. Default yes."""
    health_tolerance: float = 20.0
    """Seconds after the lease has run out for which `/healthz` still passes for one who believes to lead.

    Default 20.
    """

    def __post_init__(self) -> None:
        for name, text in (("name", self.name), ("namespace", self.namespace), ("identity", self.identity)):
            if not text:
                raise ValueError(f"{name} must not be empty: leader election needs a Lease and who we are")
        if self.lease_duration < 1:
            raise ValueError(f"lease_duration ({self.lease_duration:g} s) must be at least 1 s")
        if self.renew_deadline <= 0:
            raise ValueError(f"renew_deadline ({self.renew_deadline:g} s) must be more than 0")
        if self.retry_period <= 0:
            raise ValueError(f"retry_period ({self.retry_period:g} s) must be more than 0")
        if self.health_tolerance < 0:
            raise ValueError(f"health_tolerance ({self.health_tolerance:g} s) must not be negative")
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

    @property
    def request_timeout(self) -> float:
        """Seconds for one request about the lease: a renewal has time for two."""
        return max(1.0, self.renew_deadline / 2)

    @property
    def safety_margin(self) -> float:
        """Seconds before the end of the lease at which its holder no longer leads, whatever happens."""
        return min(self.retry_period, self.lease_duration - self.renew_deadline)


def spec_of(lease: Lease) -> dict[str, Any]:
    """The record; empty where there is none."""
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}


def holder_of(lease: Lease) -> str:
    """Who holds it; "" for nobody."""
    return str(spec_of(lease).get("holderIdentity") or "")


def duration_of(lease: Lease) -> float:
    """Seconds for which the record is valid after it was last seen to change: the holder's, not ours."""
    return float(spec_of(lease).get("leaseDurationSeconds") or 0)


def taken(lease: Lease, options: LeaderElectionOptions, wall: datetime) -> Lease:
    """The lease with us as its holder, renewed now. Labels, and fields that we do not know, stay."""
    spec = spec_of(lease)
    now = rfc3339_micro(wall)
    held = holder_of(lease) == options.identity
    transitions = int(spec.get("leaseTransitions") or 0)
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": lease.get("metadata") or {"name": options.name, "namespace": options.namespace},
        "spec": {
            **spec,
            "holderIdentity": options.identity,
            "leaseDurationSeconds": math.ceil(options.lease_duration),
            "acquireTime": spec.get("acquireTime", now) if held else now,
            "renewTime": now,
            "leaseTransitions": transitions if held or not lease else transitions + 1,
        },
    }


def emptied(lease: Lease, wall: datetime) -> Lease:
    """The lease given back: nobody's, valid for one second, transitions kept."""
    now = rfc3339_micro(wall)
    spec = {**spec_of(lease), "holderIdentity": "", "leaseDurationSeconds": 1}
    return {**lease, "spec": {**spec, "renewTime": now, "acquireTime": now}}
