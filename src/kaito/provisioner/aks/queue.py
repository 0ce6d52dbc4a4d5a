"""Whose turn is it to start an operation on the cluster? A pure state machine over events and times.

Some clusters take many pool operations at once, others refuse a second one while the first runs. Nothing says which
it is, so it is found out: the first request goes alone, a second one while the first's operation runs is the probe.
If that is accepted, all may go, in numbers that double as long as nobody is refused. After a refusal one operation at
a time is started, first come first served; a finished operation calls the next in line. Deletions go before
creations: they end costs and free quota. Times are `Clock.now()`, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

ALONE: Final = 15.0
"""Seconds until the first in line tries again when an operation that is not ours holds the cluster; doubles."""
ALONE_LIMIT: Final = 60.0
PROBE_AFTER: Final = 900.0
"""Seconds after a refusal until it is tried once more whether the cluster takes several operations."""
CALL_EXPIRES: Final = 30.0
"""Seconds in which the one that was called must come; then it is the next one's turn."""
RUNNING_EXPIRES: Final = 300.0
"""Seconds after which an operation that nobody has looked at does not count as running."""
WIDEST: Final = 64
"""Requests on their way at the same time at most."""
SHORT: Final = 5.0
LONG: Final = 60.0
"""Seconds until the first in line asks again by itself; a call comes before."""
BEHIND: Final = 600.0
"""The same for those behind it: with 50 in line for four hours, asking each minute is most of the work."""


class Order(NamedTuple):
    """Place in line: smaller goes first. rank: 0 deletion, 1 creation; since: what came first, as sortable text."""

    rank: int
    since: str


class Mode(Enum):
    UNKNOWN = "unknown"
    PARALLEL = "parallel"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet. seconds: until the next question, if no call comes before. ahead: how many are. running: operations."""

    seconds: float
    ahead: int
    running: tuple[str, ...]


class LaunchQueue:
    """Turns of pools, by name. `ask` gives one; whoever got it reports exactly one of accepted, refused and left."""

    def __init__(self) -> None:
        self.mode = Mode.UNKNOWN
        self._waiting: dict[str, Order] = {}
        self._sending: dict[str, Order] = {}
        self._running: dict[str, float] = {}
        self._called: dict[str, float] = {}
        self._window = 1
        self._not_before = 0.0
        self._refusals = 0
        self._refused_at = 0.0

    def ask(self, name: str, order: Order, now: float) -> Wait | None:
        """None: go now. Otherwise the pool stays in line."""
        self._called.pop(name, None)
        self._waiting[name] = order
        self._forget_silent(now)
        if self._may_go(name, now):
            del self._waiting[name]
            self._sending[name] = order
            return None
        return Wait(self._seconds(name, now), self._ahead(name), tuple(sorted(self._others(name, now))))

    def accepted(self, name: str, now: float) -> None:
        """Its operation runs."""
        others = self._others(name, now)
        self._sending.pop(name, None)
        self._running[name] = now
        self._refusals, self._not_before = 0, 0.0
        if self.mode is Mode.PARALLEL:
            self._window = min(self._window + 1, WIDEST)
        elif others:
            self.mode, self._window = Mode.PARALLEL, 2

    def refused(self, name: str, retry_after: float | None, now: float) -> float:
        """Another operation holds the cluster; it is in line again, and asks after the seconds that come back unless it
        is called before. retry_after: the cloud's own figure."""
        order = self._sending.pop(name, None)
        if order is not None:
            self._waiting[name] = order
        self.mode, self._refused_at = Mode.EXCLUSIVE, now
        if not self._others(name, now):
            pause = min(ALONE_LIMIT, ALONE * 2**self._refusals)
            self._not_before = now + (pause if retry_after is None else retry_after)
            self._refusals += 1
        return self._seconds(name, now)

    def stand(self, name: str, order: Order, until: float) -> None:
        """In line, and nobody has a turn before that time: the cloud counts requests and wants fewer. The line goes on
        with one at a time."""
        self.left(name)
        self._waiting[name] = order
        self._window = 1
        self._not_before = max(self._not_before, until)

    def left(self, name: str) -> None:
        """Nothing was started and nothing is wanted for now."""
        for each in (self._waiting, self._sending, self._called):
            each.pop(name, None)

    def runs(self, name: str, now: float) -> None:
        """It was seen with an operation running."""
        self._running[name] = now

    def rests(self, name: str) -> bool:
        """It was seen without: made, failed or gone. True: that is news."""
        return self._running.pop(name, None) is not None

    def unseen(self, since: float) -> list[str]:
        """Those that run as far as known, and have not been seen since that time."""
        return [name for name, seen in self._running.items() if seen < since]

    def calls(self, now: float) -> list[str]:
        """Those whose turn it is and who have not been called for it; they are told to ask again."""
        self._forget_silent(now)
        if now < self._not_before:
            return []
        line = self._line()
        if self.mode is Mode.PARALLEL:
            first = line[: max(0, self._window - len(self._sending))]
        else:
            first = [name for name in line[:1] if self._may_go(name, now)]
        found = [name for name in first if name not in self._called]
        self._called.update(dict.fromkeys(found, now))
        return found

    def runs_itself(self, name: str) -> bool:
        """Whether an operation of its own runs; a refusal then says nothing about the cluster."""
        return name in self._running

    def any_running(self, now: float) -> bool:
        """Whether an operation of ours runs, as far as known."""
        return bool(self._others("", now))

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many operations of ours run, as far as known."""
        return len(self._running)

    def _may_go(self, name: str, now: float) -> bool:
        if now < self._not_before:
            return False
        if self.mode is Mode.PARALLEL:
            return self._line().index(name) < self._window - len(self._sending)
        if self._sending or self._line()[0] != name:
            return False
        if self.mode is Mode.UNKNOWN or not self._others(name, now):
            return True
        return now >= self._refused_at + PROBE_AFTER

    def _others(self, name: str, now: float) -> set[str]:
        """Operations that run, but for its own: a pool may be deleted while it is being made."""
        self._running = {key: seen for key, seen in self._running.items() if now - seen < RUNNING_EXPIRES}
        return set(self._running) - {name}

    def _line(self) -> list[str]:
        return sorted(self._waiting, key=lambda name: (self._waiting[name], name))

    def _ahead(self, name: str) -> int:
        return self._line().index(name) + len(self._sending)

    def _seconds(self, name: str, now: float) -> float:
        if self.mode is not Mode.EXCLUSIVE:
            return SHORT
        first = self._line()[0] == name
        if not first:
            return BEHIND
        return max(1.0, self._not_before - now) if self._not_before > now else LONG

    def _forget_silent(self, now: float) -> None:
        """Those who were called and did not come give up their place; they stand in line again when they ask."""
        for name in [key for key, since in self._called.items() if now - since >= CALL_EXPIRES]:
            self.left(name)
