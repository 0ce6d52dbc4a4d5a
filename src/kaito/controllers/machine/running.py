"""Since when a cluster's machines have been where they belong.

A cluster that is stopped and started again looks like one that has lost its machines: Nodes are gone or not Ready,
for longer than any patience. Nothing is replaced while the cloud says so, nor soon after, nor soon after this process
began: it may have been started together with the cluster.
"""

from __future__ import annotations

from typing import Final

from kaito.provisioner.cloud import CloudProvider
from kaito.provisioner.errors import CloudError
from kaito.runtime.clock import Clock

GRACE: Final = 600.0
"""Seconds that Nodes have to come back after the cluster's start: as long as one may be sick before it is replaced."""


class RunningCluster:
    """Asks the provider, and remembers when it last said no."""

    def __init__(self, provider: CloudProvider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._since = clock.now()

    async def check(self) -> None:
        """Raises `CloudError` while the cluster is not running."""
        try:
            await self._provider.check_running()
        except CloudError:
            self._since = self._clock.now()
            raise

    @property
    def grace_left(self) -> float:
        """Seconds until Nodes that are still away count as lost; as of the last check."""
        return max(0.0, self._since + GRACE - self._clock.now())
