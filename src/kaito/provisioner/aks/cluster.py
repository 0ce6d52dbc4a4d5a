"""Does the managed cluster run? Asked once for all claims, and before anything is started or ended.

`az aks stop` takes the machines of all pools away and gives them back at the start; whoever repairs, deletes or makes
pools meanwhile destroys what would have come back, and may leave the cluster itself failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from kaito.provisioner.errors import CloudError, ClusterNotRunning
from kaito.runtime.clock import Clock
from kaito.runtime.logs import get_logger

if TYPE_CHECKING:
    from kaito.provisioner.aks.arm import Answer

log = get_logger(__name__)

FRESH: Final = 30.0
"""Seconds for which an answer about the cluster is believed."""
_CHANGING: Final = frozenset(
    {"updating", "upgrading", "scaling", "reconcilingclusteretcd", "migrating", "creating"}
)
"""States of a cluster that runs while something of it is changed, such as one of its pools."""


class ClusterSource(Protocol):
    """The part of Azure that is asked."""

    async def get_cluster(self) -> Answer: ...


class ClusterGuard:
    """The state of the cluster, asked for at most every `FRESH` seconds. location: where it is said to be."""

    def __init__(self, arm: ClusterSource, clock: Clock, location: str) -> None:
        self._arm = arm
        self._clock = clock
        self._lock = asyncio.Lock()
        self._told = float("-inf")
        self._body: Mapping[str, Any] = {}
        self._error: CloudError | None = None
        self._location = location
        self._lost = False

    async def require_running(self, *, own_operations: bool) -> None:
        """Raises `ClusterNotRunning`, or what keeps the cloud from telling. own_operations: pools are being made or
        deleted by us, which some clusters show as their own update."""
        async with self._lock:
            if self._clock.now() >= self._told + FRESH:
                await self._ask()
        if self._error is not None:
            raise type(self._error)(
                self._error.message, reason=self._error.why, retry_after=self._error.retry_after
            )
        if (sentence := not_running(self._body, own_operations=own_operations)) is not None:
            raise ClusterNotRunning(sentence)

    async def _ask(self) -> None:
        try:
            self._body, self._error = (await self._arm.get_cluster()).body, None
            self._check_location()
        except CloudError as error:
            self._error = error
        self._told = self._clock.now()

    def _check_location(self) -> None:
        """Tells once that sizes and quotas are looked up where the cluster is not."""
        found = str(self._body.get("location") or self._location)
        if not self._lost and found.lower().replace(" ", "") != self._location:
            self._lost = True
            log.warning(
                "the cluster is in another region than LOCATION says; correct LOCATION, or quotas are not checked",
                cluster=str(self._body.get("name") or ""),
                region=found,
                location=self._location,
            )


def not_running(body: Mapping[str, Any], *, own_operations: bool) -> str | None:
    """Why the cluster must be left alone, as a sentence; None: it runs and nothing else is done to it."""
    properties = body.get("properties") or {}
    name = str(body.get("name") or "")
    power = str((properties.get("powerState") or {}).get("code") or "Running")
    state = str(properties.get("provisioningState") or "Succeeded")
    if state.lower() == "starting":
        return f"the cluster {name} is starting; its machines are left alone until it runs"
    if state.lower() in ("stopping", "deleting"):
        return f"the cluster {name} is {state.lower()}; its machines are left alone"
    if power.lower() != "running":
        return (
            f"the cluster {name} is {power.lower()}, its machines with it; nothing is made or deleted until it is "
            "started (`az aks start`)"
        )
    if state.lower() == "succeeded" or (own_operations and state.lower() in _CHANGING):
        return None
    if state.lower() in _CHANGING:
        return f"the cluster {name} is {state.lower()}; nothing is made or deleted until that is finished"
    return (
        f"the last operation on the cluster {name} ended as {state}; nothing is made or deleted until it is mended "
        "(`az aks update` without changes runs it again)"
    )
