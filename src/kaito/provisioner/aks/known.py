"""What is known of a claim's agent pool, how long that is believed, and how often the pool is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kaito.provisioner.aks.pools import Phase, Pool
from kaito.provisioner.errors import CloudError

POLL: Final = 15.0
"""Seconds between two looks at pools with an operation, where Azure names no figure."""
EARLY_POLL: Final = 30.0
"""The same while a pool has been made for less than `EARLY` seconds: AKS takes some minutes."""
EARLY: Final = 180.0
MADE_POLL: Final = 60.0
"""Seconds between two looks at a pool that is made and whose machine has not joined, or that somebody stopped."""
AFRESH: Final = 1.0
"""Seconds until a claim goes on whose pool was not as it seemed; doubles up to `MADE_POLL` as long as that repeats."""


@dataclass(slots=True)
class Known:
    """What was last seen for a claim, and until when it is not looked at again.

    period: seconds between two looks, as Azure wants it. operation: URL of the pool's creation. cause: why the pool
    is being removed. failure: why the last try for this claim failed, for a reason that other offerings share, and
    until when nothing is tried. contested: how often Azure has said that there is a pool already, or something else.
    """

    pool: Pool | None = None
    until: float = float("-inf")
    period: float | None = None
    operation: str = ""
    cause: CloudError | None = None
    failure: tuple[CloudError, float] | None = None
    contested: int = 0

    def seconds_between(self, wall: datetime) -> float:
        """Seconds until the pool is looked at again while an operation runs on it. wall: the time now."""
        if self.period is not None:
            return self.period
        pool = self.pool
        if pool is None or pool.phase is not Phase.BUSY or pool.started is None:
            return POLL
        return EARLY_POLL if (wall - pool.started).total_seconds() < EARLY else POLL


def holds(pool: Pool | None, poll: float) -> float:
    """Seconds for which a look at a pool is believed.

    Absence holds until something is sent, which the cloud refuses should there be a pool by then.
    """
    if pool is None:
        return float("inf")
    match pool.phase:
        case Phase.BUSY | Phase.DELETING:
            return poll
        case Phase.READY | Phase.STOPPED:
            return MADE_POLL
        case Phase.FAILED:
            return 0.0
