"""How long objects stay in phases: counted as they move, worked out when asked."""

from __future__ import annotations

from kaito.runtime.stays import STAY_BUCKETS, Stays


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.value = 100.0

    def __call__(self) -> float:
        return self.value


def test_every_phase_is_there_at_zero() -> None:
    stays = Stays(("a", "b"), Now())
    assert stays.counts() == {"a": 0, "b": 0}
    assert stays.oldest() == {"a": 0.0, "b": 0.0}
    assert {phase: numbers.count for phase, numbers in stays.seconds.items()} == {"a": 0, "b": 0}


def test_moving_ends_a_stay_and_staying_does_not() -> None:
    now = Now()
    stays = Stays(("a", "b"), now)
    assert stays.enter("x", "a") is None
    now.value += 7
    assert stays.enter("x", "a") == "a"
    assert stays.seconds["a"].count == 0
    assert stays.oldest() == {"a": 7.0, "b": 0.0}
    assert stays.enter("x", "b") == "a"
    assert (stays.seconds["a"].count, stays.seconds["a"].sum) == (1, 7.0)
    assert stays.counts() == {"a": 0, "b": 1}


def test_an_object_seen_late_has_the_age_that_it_says() -> None:
    now = Now()
    stays = Stays(("a",), now)
    stays.enter("x", "a", age=30)
    stays.enter("y", "a", age=-5)  # a clock of another machine is ahead
    now.value += 1
    assert stays.oldest() == {"a": 31.0}
    stays.leave("x")
    assert stays.oldest() == {"a": 1.0}
    assert stays.seconds["a"].sum == 31.0


def test_leaving_twice_counts_once() -> None:
    stays = Stays(("a",), Now())
    stays.enter("x", "a")
    stays.leave("x")
    stays.leave("x")
    assert stays.seconds["a"].count == 1
    assert stays.counts() == {"a": 0}


def test_bounds_rise() -> None:
    assert list(STAY_BUCKETS) == sorted(set(STAY_BUCKETS))
