"""Rate limiters: exact delays."""

from __future__ import annotations

from kaito.runtime.ratelimit import Bucket, ItemExponential, ItemFastSlow, MaxOf, MaxWait


class StillClock:
    """Only `now` is ever asked."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time


def test_exponential_doubles_per_key_up_to_the_cap() -> None:
    limiter = ItemExponential(1, 10)
    assert [limiter.when("a") for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert limiter.when("b") == 1
    assert (limiter.failures("a"), limiter.failures("b")) == (6, 1)
    limiter.forget("a")
    assert (limiter.failures("a"), limiter.when("a")) == (0, 1)


def test_exponential_never_overflows() -> None:
    limiter = ItemExponential(0.001, 1000)
    assert [limiter.when("a") for _ in range(2000)][-1] == 1000


def test_default_constants_are_those_of_client_go() -> None:
    limiter = ItemExponential()
    delays = [limiter.when("a") for _ in range(20)]
    assert (delays[0], delays[1], delays[-1]) == (0.005, 0.01, 1000)


def test_fast_then_slow() -> None:
    limiter = ItemFastSlow(0.005, 10, 3)
    assert [limiter.when("a") for _ in range(5)] == [0.005, 0.005, 0.005, 10, 10]
    limiter.forget("a")
    assert limiter.when("a") == 0.005


def test_bucket_serves_a_burst_and_then_lines_callers_up() -> None:
    clock = StillClock()
    bucket = Bucket(10, 2, clock)  # type: ignore[arg-type]
    assert [bucket.when("any") for _ in range(4)] == [0, 0, 0.1, 0.2]
    clock.time += 60
    assert [round(bucket.when("any"), 9) for _ in range(3)] == [0, 0, 0.1]
    assert bucket.failures("any") == 0


def test_bucket_gives_a_token_only_when_there_is_one() -> None:
    clock = StillClock()
    bucket = Bucket(1, 2, clock)  # type: ignore[arg-type]
    assert [bucket.try_take() for _ in range(3)] == [True, True, False]
    clock.time += 1
    assert [bucket.try_take() for _ in range(2)] == [True, False]


def test_max_of_takes_the_longest_and_forgets_in_all() -> None:
    limiter = MaxOf(ItemFastSlow(5, 3, 3), ItemExponential(1, 100))
    assert [limiter.when("a") for _ in range(5)] == [5, 5, 5, 8, 16]
    assert limiter.failures("a") == 5
    limiter.forget("a")
    assert (limiter.failures("a"), limiter.when("a")) == (0, 5)


def test_max_wait_cuts_the_delay_off() -> None:
    limiter = MaxWait(ItemExponential(1, 1000), 3)
    assert [limiter.when("a") for _ in range(4)] == [1, 2, 3, 3]
    limiter.forget("a")
    assert (limiter.failures("a"), limiter.when("a")) == (0, 1)
