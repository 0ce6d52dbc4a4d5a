"""Since when a cluster's machines have been where they belong.

A cluster that is stopped and started again looks like one that has lost its machines: Nodes are gone or not Ready,
for longer than any patience. Nothing is replaced while the cloud says so, nor soon after, nor soon after this process
began: it may have been started together with the cluster.
"""

from __future__ import annotations

from typing import Final

from kaito.provisioner.cloud import CloudProvider
from kaito.provisioner.errors import CloudError, ClusterNotRunning
from kaito.runtime.clock import Clock

GRACE: Final = 600.0
"""Seconds that machines have after the cluster's start, whatever was due before: as long as a Node may be sick before
it is replaced. No stage of a claim begins anew: each start of this process would double its time."""


class RunningCluster:
    """Asks the provider, and remembers since when it has said yes: how often it is asked while it says no differs."""

    def __init__(self, provider: CloudProvider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._since = clock.now()
        self._stood = False

    async def check(self) -> None:
        """Raises `CloudError` while the cluster is not running."""
        try:
            await self._provider.check_running()
        except CloudError:
            self._stood = True
            raise
        if self._stood:
            self._stood, self._since = False, self._clock.now()

    def heard(self, error: CloudError) -> None:
        """What another question to the provider brought may say as much."""
        self._stood = self._stood or isinstance(error, ClusterNotRunning)

    @property
    def lasted(self) -> float:
        """Seconds since it was first seen to run again, or since this process began; as of the last check."""
        return 0.0 if self._stood else self._clock.now() - self._since

    @property
    def grace_left(self) -> float:
        """Seconds until Nodes that are still away count as lost; as of the last check."""
        return max(0.0, GRACE - self.lasted)
