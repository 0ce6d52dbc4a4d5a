"""Who may take which cores: the rules of the quota, without clock and without requests.

The cloud counts the cores that are used; it cannot know those that were promised a moment ago. So three things stand
beside each other: the cloud's figures, the promises (a claim's pool is asked for, or is about to be), and the line of
claims for which there was not enough.

A promise ends when its cores are certain to be in the figures, or certain never to be. In between they may be counted
twice, because nobody can tell when the cloud began to count them: the rise of a figure may be somebody else's. Counted
twice means that a claim waits a few minutes too long; not counted means that two claims take the same cores and one of
them pays with a failed pool. A promise that nobody renews ends by itself, so nothing waits for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

TOTAL: Final = "cores"
"""Name of the quota on all cores of a region but spot ones."""
SPOT: Final = "lowPriorityCores"
"""Name of the quota on all spot cores of a region; those count against no family."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of a region, in cores. limit: -1 where there is none. title: its name in words."""

    name: str
    limit: int
    used: int
    title: str = ""

    @property
    def free(self) -> int:
        """Cores that the cloud would still give; below 0 where the limit was lowered."""
        return self.limit - self.used


@dataclass(frozen=True, slots=True)
class Figures:
    """The quotas of a region by name in lower case, and when the cloud was asked (`Clock.now`)."""

    quotas: Mapping[str, Quota]
    asked: float

    def of(self, name: str) -> Quota | None:
        """The quota of that name in any case; None where the cloud names none, or sets no limit."""
        found = self.quotas.get(name.lower())
        return None if found is None or found.limit < 0 else found


def read_usages(entries: Iterable[Mapping[str, Any]], asked: float) -> Figures:
    """Reads the answer of `Microsoft.Compute/locations/usages`; entries that are no numbers are left out."""
    quotas = {}
    for entry in entries:
        name = entry.get("name") or {}
        value, limit, used = name.get("value"), entry.get("limit"), entry.get("currentValue")
        if isinstance(value, str) and isinstance(limit, int) and isinstance(used, int):
            quotas[value.lower()] = Quota(value, limit, used, str(name.get("localizedValue") or value))
    return Figures(quotas, asked)


@dataclass(frozen=True, slots=True)
class Need:
    """The cores that one claim needs of several quotas at once.

    quotas: names of the quotas, the most specific first; empty: nothing that anybody counts.
    """

    uid: str
    name: str
    created: datetime
    instance_type: str
    cores: int
    quotas: tuple[str, ...]

    @property
    def turn(self) -> tuple[datetime, str, str]:
        """Its place in a line: claims are served in the order in which they were made, also after a restart."""
        return (self.created, self.name, self.uid)


def quotas_of(family: str, *, spot: bool) -> tuple[str, ...]:
    """Names of the quotas that a machine of that family counts against."""
    return (SPOT,) if spot else (family, TOTAL)


@dataclass(frozen=True, slots=True)
class Fits:
    """The cores are there, and nobody who came before wants them."""


@dataclass(frozen=True, slots=True)
class Exceeds:
    """More than the whole quota: no waiting helps, only a higher limit."""

    quota: Quota


@dataclass(frozen=True, slots=True)
class Short:
    """Not enough now.

    promised: cores of the quota that others were promised. missing: cores short, those wanted by claims before it in
    the line included. ahead: claims before it in the line, in their order; without any, `holders` are the claims whose
    promises it waits for.
    """

    quota: Quota
    promised: int
    missing: int
    ahead: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()


Verdict = Fits | Exceeds | Short


@dataclass(slots=True)
class _Line:
    """What is known of one quota while the line is gone through."""

    taken: int = 0
    holders: list[str] = field(default_factory=list)
    wanted: int = 0
    ahead: list[str] = field(default_factory=list)


def judge(figures: Figures, promised: Iterable[Need], line: Iterable[Need]) -> dict[Need, Verdict]:
    """What each claim of the line is told, first come first served in each quota.

    A claim that is short of a quota holds up those after it that need the same quota, however little they need: else a
    large one would starve. It takes nothing of the quotas it is not short of, so those of other families pass it by.
    """
    lines: defaultdict[str, _Line] = defaultdict(_Line)
    for promise in promised:
        _take(lines, promise)
    verdicts: dict[Need, Verdict] = {}
    served: set[str] = set()
    for need in sorted(line, key=lambda each: each.turn):
        if need.uid in served:  # it waits for several sizes, and has the cores of one
            verdicts[need] = Fits()
            continue
        verdict = verdicts[need] = _judge(figures, lines, need)
        if isinstance(verdict, Fits):
            served.add(need.uid)
            _take(lines, need)
    return verdicts


def _take(lines: Mapping[str, _Line], need: Need) -> None:
    for quota in need.quotas:
        line = lines[quota.lower()]
        line.taken += need.cores
        line.holders.append(need.name)


def _judge(figures: Figures, lines: Mapping[str, _Line], need: Need) -> Verdict:
    counted = [quota for name in need.quotas if (quota := figures.of(name)) is not None]
    for quota in counted:
        if need.cores > quota.limit:
            return Exceeds(quota)
    short: Short | None = None
    for quota in counted:
        line = lines[quota.name.lower()]
        missing = line.wanted + need.cores - (quota.free - line.taken)
        if missing <= 0:  # never where somebody is ahead: what they want is more than there is
            continue
        if short is None:
            ahead = tuple(name for name in line.ahead if name != need.name)
            short = Short(quota, line.taken, missing, ahead, tuple(line.holders))
        line.wanted += need.cores
        line.ahead.append(need.name)
    return short or Fits()


@dataclass(slots=True)
class _Promise:
    need: Need
    renewed: float
    settled: float | None = None


class Ledger:
    """The promises and the line of one region. Moments are those of `Clock.now`.

    patience: seconds after which a claim that no longer asks has left the line. longest: seconds after which a promise
    that nobody renews ends. lag: seconds for which the cloud's figures may not yet show a machine that runs.
    """

    def __init__(self, *, patience: float, longest: float, lag: float) -> None:
        self._patience = patience
        self._longest = longest
        self._lag = lag
        self._promises: dict[str, _Promise] = {}
        self._line: dict[Need, float] = {}

    @property
    def promised(self) -> list[Need]:
        return [promise.need for promise in self._promises.values()]

    @property
    def line(self) -> list[Need]:
        """Those that wait, the first that came first."""
        return sorted(self._line, key=lambda need: need.turn)

    def renew(self, uid: str, instance_type: str, now: float, *, spot: bool) -> bool:
        """Whether cores for such a machine are promised to the claim already; the promise then starts anew."""
        promise = self._promises.get(uid)
        if promise is None or promise.need.instance_type.lower() != instance_type.lower():
            return False
        if (promise.need.quotas == (SPOT,)) != spot:
            return False
        promise.renewed = now
        return True

    def promise(self, need: Need, now: float) -> None:
        """The cores are the claim's, instead of any that it had or waited for."""
        self.forget(need.uid)
        self._promises[need.uid] = _Promise(need, now)

    def restore(self, need: Need, now: float) -> None:
        """Promises what an earlier process must have promised, unless the ledger knows the claim."""
        if need.uid not in self._promises:
            self.promise(need, now)

    def wait(self, need: Need, now: float) -> None:
        """The claim stands in the line; what it was promised before, if anything, is free again."""
        self._promises.pop(need.uid, None)
        self._line[need] = now

    def leave(self, need: Need) -> None:
        """It no longer waits for this."""
        self._line.pop(need, None)

    def settle(self, uid: str, now: float) -> None:
        """From now on the cloud counts the cores itself, but for its delay; figures asked for later end the promise."""
        for need in [each for each in self._line if each.uid == uid]:
            del self._line[need]
        promise = self._promises.get(uid)
        if promise is not None and promise.settled is None:
            promise.settled = now

    def forget(self, uid: str) -> None:
        """Nothing will come of the claim."""
        self._promises.pop(uid, None)
        for need in [each for each in self._line if each.uid == uid]:
            del self._line[need]

    def update(self, figures: Figures) -> None:
        """Ends the promises that these figures are certain to show."""
        for uid, promise in list(self._promises.items()):
            if promise.settled is not None and figures.asked >= promise.settled + self._lag:
                del self._promises[uid]

    def expire(self, now: float) -> bool:
        """Lets go of those that nobody speaks for any more; whether there were any."""
        promises = [uid for uid, each in self._promises.items() if now >= each.renewed + self._longest]
        waiting = [need for need, asked in self._line.items() if now >= asked + self._patience]
        for uid in promises:
            del self._promises[uid]
        for need in waiting:
            del self._line[need]
        return bool(promises or waiting)
