"""What a test wants to go wrong: answers that are errors, connections that drop, operations that end badly.

Rules are asked in the order in which they were made; one that is used up is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import ceil
from typing import Literal, TypeAlias

from kaito.provisioner.testing.messages import ArmRequest, ErrorDetail, Refused
from kaito.provisioner.testing.state import Pool

Kind: TypeAlias = Literal["create", "update", "delete", "stop", "start"]
Status: TypeAlias = Literal["Succeeded", "Failed", "Canceled", "InProgress"]
"""How an operation ends; InProgress: never."""


@dataclass(kw_only=True)
class Rule:
    """Something scripted. times: how often it still happens; None: until `cancel`. used: how often it has happened."""

    times: int | None = 1
    used: int = field(default=0, init=False)

    @property
    def live(self) -> bool:
        return self.times is None or self.times > 0

    def use(self) -> None:
        self.used += 1
        if self.times is not None:
            self.times -= 1

    def cancel(self) -> None:
        """From now on it does not happen any more."""
        self.times = 0


@dataclass(kw_only=True)
class AnswerRule(Rule):
    """An answer to a request of that call (a pattern such as `put_pool` or `*`) about that pool (a pattern).

    error: None: the connection drops. applied: what was asked for is done nevertheless, only the answer is lost or
    wrong. until: clock seconds at which the rule ends.
    """

    call: str
    pool: str = "*"
    error: Refused | None = None
    applied: bool = False
    until: float = float("inf")

    def fits(self, request: ArmRequest, about: str) -> bool:
        return (
            self.live
            and request.at < self.until
            and fnmatchcase(request.call, self.call)
            and fnmatchcase(about, self.pool)
        )


@dataclass(kw_only=True)
class EndingRule(Rule):
    """How operations of that kind on matching pools end.

    pool, vm_size: patterns, the size in any case. zone: only pools that ask for this zone. spot: only spot pools, or
    only others. after: seconds that the operation takes; None: as ever. error: of a Failed one.
    """

    kind: Kind
    status: Status
    error: ErrorDetail | None = None
    pool: str = "*"
    vm_size: str = "*"
    zone: str = ""
    spot: bool | None = None
    after: float | None = None

    def fits(self, kind: Kind, pool: Pool | None) -> bool:
        if not self.live or kind != self.kind:
            return False
        if pool is None:
            return self.pool == self.vm_size == "*"
        return (
            fnmatchcase(pool.name, self.pool)
            and fnmatchcase(pool.vm_size.lower(), self.vm_size.lower())
            and (not self.zone or self.zone in pool.zones)
            and (self.spot is None or self.spot == pool.spot)
        )


@dataclass(kw_only=True)
class RateLimit:
    """A token bucket for these calls. since: clock seconds of the last look. refused: how many found it empty."""

    calls: tuple[str, ...]
    burst: int
    per_second: float
    since: float
    refused: int = 0
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = float(self.burst)

    def take(self, now: float) -> float:
        """Seconds until a request may come again; 0: this one may."""
        self.left = min(self.burst, self.left + (now - self.since) * self.per_second)
        self.since = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        self.refused += 1
        return ceil((1 - self.left) / self.per_second)


def throttled(retry_after: float | None) -> Refused:
    """429 as Azure words it."""
    words = "The request is being throttled as the limit has been reached for operation type."
    return Refused(429, ErrorDetail("TooManyRequests", words), nested=True, retry_after=retry_after)


@dataclass
class Script:
    """All rules of one fake, and the actions that its caller may not do."""

    answers: list[AnswerRule] = field(default_factory=list)
    endings: list[EndingRule] = field(default_factory=list)
    rates: list[RateLimit] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)

    def check_rate(self, request: ArmRequest) -> None:
        """Raises `Refused` where too many requests of the kind came."""
        for rate in self.rates:
            if any(fnmatchcase(request.call, call) for call in rate.calls):
                wait = rate.take(request.at)
                if wait:
                    raise throttled(wait)

    def answer(self, request: ArmRequest, about: str) -> AnswerRule | None:
        """The rule for this request, used once; `about`: the pool, also that of an operation."""
        for rule in self.answers:
            if rule.fits(request, about):
                rule.use()
                return rule
        return None

    def ending(self, kind: Kind, pool: Pool | None) -> EndingRule | None:
        for rule in self.endings:
            if rule.fits(kind, pool):
                rule.use()
                return rule
        return None

    def clear(self) -> None:
        for rule in (*self.answers, *self.endings):
            rule.cancel()
        self.answers.clear()
        self.endings.clear()
        self.rates.clear()
        self.denied.clear()
