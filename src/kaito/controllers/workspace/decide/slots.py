"""One wanted node: which attempt it is at, what former ones left to say, and when the next may be made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kaito.controllers.workspace.model import Object
from kaito.runtime.clock import parse_time

FIRST_RETRY: Final = 30.0
LAST_RETRY: Final = 600.0
"""Seconds before another node is asked for after a failure: doubling from the first to the last."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One wanted node."""

    number: int
    attempt: int = 0
    claim_uid: str = ""
    """uid of the attempt's claim once it was seen; empty before."""
    was_ready: bool = False
    reason: str = ""
    message: str = ""
    """What the last failed attempt left to say."""
    failed_at: str = ""
    failures: tuple[Object, ...] = ()
    """What former attempts left to say, of each machine size the last: see NodeFailure in the API."""
    claim: Object | None = None
    adopted: str = ""
    """Name of a claim that does not follow our naming."""

    def pause_left(self, sizes: int, now: datetime) -> float:
        """Seconds until another node is asked for after a failure; 0 or less where that may be at once. sizes: those
        that are tried."""
        if not self.failed_at:
            return 0.0
        tried = self.attempt - sizes
        if tried < 0:
            return 0.0  # another machine size has not been tried yet
        pause = min(FIRST_RETRY * 2.0 ** min(tried, 10), LAST_RETRY)
        return pause - (now - parse_time(self.failed_at)).total_seconds()
