"""How long a key waits before its next try: small, composable rate limiters.

A limiter remembers failures per key. `when` counts one more failure and returns the delay in seconds,
`forget` wipes the key's history after a success, `failures` tells the count. The constants are client-go's
and controller-runtime's (util/workqueue/default_rate_limiters.go, pkg/controller): 5 ms doubling up to 1000 s
per key. controller-runtime's priority queue adds no overall bucket, neither do we; combine with `MaxOf` where
one is wanted.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from kaito.runtime.clock import Clock

BASE_DELAY = 0.005
"""Seconds before the first retry of a key (client-go: 5 ms)."""
MAX_DELAY = 1000.0
"""Seconds at which the delay of a failing key stops growing (client-go: 1000 s)."""


class RateLimiter(Protocol):
    """What the work queue asks when something is added `rate_limited`."""

    def when(self, key: Hashable) -> float:
        """Counts one failure of `key` and returns how many seconds its next try has to wait."""
        ...

    def forget(self, key: Hashable) -> None:
        """Wipes the history of `key`: it succeeded, or nobody is interested any more."""
        ...

    def failures(self, key: Hashable) -> int:
        """How often `key` failed since it was last forgotten."""
        ...


class ItemExponential:
    """`base * 2**failures` seconds for each key by itself, at most `cap`; never overflows."""

    def __init__(self, base: float = BASE_DELAY, cap: float = MAX_DELAY) -> None:
        if not 0 < base <= cap:
            raise ValueError(f"base ({base}) must be above 0 and not above cap ({cap})")
        self._base = base
        self._cap = cap
        self._failures: dict[Hashable, int] = {}

    def when(self, key: Hashable) -> float:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        # 2**1023 is the largest power a float holds; long before that the cap has won.
        return min(self._base * 2.0 ** min(count, 1000), self._cap)

    def forget(self, key: Hashable) -> None:
        self._failures.pop(key, None)

    def failures(self, key: Hashable) -> int:
        return self._failures.get(key, 0)


class ItemFastSlow:
    """`fast` seconds for the first `fast_tries` tries of a key, `slow` seconds afterwards."""

    def __init__(self, fast: float, slow: float, fast_tries: int) -> None:
        self._fast = fast
        self._slow = slow
        self._fast_tries = fast_tries
        self._failures: dict[Hashable, int] = {}

    def when(self, key: Hashable) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return self._fast if count <= self._fast_tries else self._slow

    def forget(self, key: Hashable) -> None:
        self._failures.pop(key, None)

    def failures(self, key: Hashable) -> int:
        return self._failures.get(key, 0)


class Bucket:
    """One token bucket for all keys: `rate` tokens per second, at most `burst` saved up.

    Each call reserves a token, so callers line up behind one another; history per key does not exist.
    """

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"rate ({rate}) must be above 0 and burst ({burst}) at least 1")
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._updated = clock.now()

    def when(self, key: Hashable) -> float:
        del key
        self._refill()
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def try_take(self) -> bool:
        """Takes a token if one is there now; reserves nothing otherwise."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def forget(self, key: Hashable) -> None:
        del key

    def failures(self, key: Hashable) -> int:
        del key
        return 0

    def _refill(self) -> None:
        now = self._clock.now()
        self._tokens = min(float(self._burst), self._tokens + (now - self._updated) * self._rate)
        self._updated = now


class MaxOf:
    """The longest delay that any of its limiters asks for."""

    def __init__(self, *limiters: RateLimiter) -> None:
        if not limiters:
            raise ValueError("MaxOf needs at least one limiter")
        self._limiters = limiters

    def when(self, key: Hashable) -> float:
        return max([limiter.when(key) for limiter in self._limiters])

    def forget(self, key: Hashable) -> None:
        for limiter in self._limiters:
            limiter.forget(key)

    def failures(self, key: Hashable) -> int:
        return max(limiter.failures(key) for limiter in self._limiters)


class MaxWait:
    """Another limiter's delay, cut off at `cap` seconds."""

    def __init__(self, limiter: RateLimiter, cap: float) -> None:
        self._limiter = limiter
        self._cap = cap

    def when(self, key: Hashable) -> float:
        return min(self._limiter.when(key), self._cap)

    def forget(self, key: Hashable) -> None:
        self._limiter.forget(key)

    def failures(self, key: Hashable) -> int:
        return self._limiter.failures(key)
