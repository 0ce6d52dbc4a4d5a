"""What a reconcile may answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Result:
    """What happens to the key after a reconcile that raised nothing. None means the same as `Result()`.

    A reconcile that raises is tried again after the rate limiter's delay; one that raises `TerminalError` is
    not. Raises TypeError where `requeue_after` is no number of seconds, such as a timedelta.
    """

    requeue_after: float | None = None
    """Seconds until the key is reconciled again even if nothing changes. None: only when something changes.
    0 or less: again after the rate limiter's delay, for a reconcile that is not through but has nothing to complain
    of."""
    priority: int | None = None
    """Priority of that next run. None: the one that this run had."""

    def __post_init__(self) -> None:
        after = cast("object", self.requeue_after)
        if after is not None and not isinstance(after, float | int):
            raise TypeError(f"requeue_after is {after!r}; write seconds as a number, or None")


class TerminalError(Exception):
    """Trying again cannot help: the key waits for the next change. Logged and counted as an error all the
    same.
    """
