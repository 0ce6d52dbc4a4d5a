"""Turns on the cluster: pure events and times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kaito.provisioner.aks.queue import (
    ALONE,
    ALONE_LIMIT,
    BEHIND,
    CALL_EXPIRES,
    LONG,
    PROBE_AFTER,
    RUNNING_EXPIRES,
    LaunchQueue,
    Mode,
    Order,
    Wait,
)


def order(number: int) -> Order:
    return Order(1, f"{number:04d}")


DELETION = Order(0, "")


def exclusive() -> LaunchQueue:
    """`a` runs; `b` was refused meanwhile and is in line."""
    queue = LaunchQueue()
    assert queue.ask("a", order(1), 0) is None
    queue.accepted("a", 1)
    assert queue.ask("b", order(2), 1) is None
    queue.refused("b", None, 2)
    return queue


def test_the_first_request_goes_alone() -> None:
    queue = LaunchQueue()
    assert queue.ask("a", order(1), 0) is None
    wait = queue.ask("b", order(2), 0)
    assert wait == Wait(5, 1, ())
    assert queue.calls(0) == []


def test_who_waits_for_an_answer_is_called_when_it_comes() -> None:
    queue = LaunchQueue()
    queue.ask("a", order(1), 0)
    queue.ask("b", order(2), 0)
    queue.accepted("a", 1)
    assert queue.calls(1) == ["b"]
    assert queue.calls(1) == [], "once"


def test_a_second_one_that_is_accepted_opens_the_cluster_for_numbers_that_double() -> None:
    queue = LaunchQueue()
    names = [f"p{number:02d}" for number in range(20)]
    for number, name in enumerate(names):
        queue.ask(name, order(number), 0)
    queue.accepted("p00", 1)
    assert queue.ask("p01", order(1), 1) is None
    queue.accepted("p01", 2)
    assert queue.mode is Mode.PARALLEL
    rounds = []
    while called := queue.calls(2):
        rounds.append(len(called))
        for name in called:
            assert queue.ask(name, order(int(name[1:])), 2) is None
        for name in called:
            queue.accepted(name, 2)
    assert rounds == [2, 4, 8, 4]


def test_after_a_refusal_nobody_goes_before_the_operation_has_ended() -> None:
    queue = exclusive()
    assert queue.mode is Mode.EXCLUSIVE
    assert queue.ask("b", order(2), 10) == Wait(LONG, 0, ("a",))
    assert queue.ask("c", order(3), 10) == Wait(BEHIND, 1, ("a",))
    assert queue.calls(10) == []
    queue.rests("a")
    assert queue.calls(20) == ["b"]
    assert isinstance(queue.ask("c", order(3), 20), Wait), "b was there first"
    assert queue.ask("b", order(2), 20) is None


def test_what_came_first_goes_first_whoever_asked_first() -> None:
    queue = exclusive()
    for number in (9, 5, 7):
        queue.ask(f"p{number}", order(number), 3)
    queue.left("b")
    queue.rests("a")
    assert queue.calls(4) == ["p5"]


def test_deletions_go_before_creations() -> None:
    queue = exclusive()
    queue.ask("old", DELETION, 3)
    queue.rests("a")
    assert queue.calls(4) == ["old"]


def test_a_pool_may_be_deleted_while_it_is_being_made() -> None:
    queue = exclusive()
    assert queue.ask("a", DELETION, 3) is None


def test_while_somebody_elses_operation_runs_the_first_tries_again_ever_more_slowly() -> None:
    queue = exclusive()
    queue.rests("a")
    pauses, now = [], 100.0
    for _ in range(4):
        assert queue.ask("b", order(2), now) is None
        pause = queue.refused("b", None, now)
        assert queue.ask("b", order(2), now + pause - 0.5) == Wait(1, 0, ())
        pauses.append(pause)
        now += pause
    assert pauses == [ALONE, 30, ALONE_LIMIT, ALONE_LIMIT]


def test_the_clouds_own_figure_counts_for_more() -> None:
    queue = exclusive()
    queue.rests("a")
    assert queue.ask("b", order(2), 100) is None
    assert queue.refused("b", 7, 100) == 7


def test_who_is_called_and_does_not_come_loses_the_turn() -> None:
    queue = exclusive()
    queue.ask("c", order(3), 3)
    queue.rests("a")
    assert queue.calls(4) == ["b"]
    assert queue.calls(4 + CALL_EXPIRES) == ["c"]
    assert queue.waiting == 1


def test_an_operation_that_nobody_looks_at_holds_nobody_up_for_ever() -> None:
    queue = exclusive()
    assert queue.ask("b", order(2), 1 + RUNNING_EXPIRES) is None


def test_a_quarter_of_an_hour_after_a_refusal_it_is_tried_once_whether_several_go_now() -> None:
    queue = exclusive()
    for now in range(100, 1000, 100):
        queue.runs("a", now)
        if now < 2 + PROBE_AFTER:
            assert isinstance(queue.ask("b", order(2), now), Wait)
    assert queue.ask("b", order(2), 2 + PROBE_AFTER) is None
    queue.accepted("b", 2 + PROBE_AFTER)
    assert queue.mode is Mode.PARALLEL


def test_a_refusal_among_many_ends_the_parallel_mode() -> None:
    queue = LaunchQueue()
    for number, name in enumerate("abc"):
        assert queue.ask(name, order(number), number) is None
        queue.accepted(name, number)
    assert [queue.ask("d", order(4), 5), queue.ask("e", order(5), 5)] == [None, None], "both at once"
    queue.refused("d", None, 5)
    queue.left("e")
    assert queue.mode is Mode.EXCLUSIVE
    assert queue.any_running(5)


def test_a_cloud_that_counts_requests_gets_one_at_a_time_in_order() -> None:
    queue = LaunchQueue()
    for number, name in enumerate("abcd"):
        queue.ask(name, order(number), number)
        queue.accepted(name, number)
    assert queue.ask("f", order(6), 10) is None
    queue.stand("f", order(6), 70)
    queue.stand("e", order(5), 70)
    assert queue.calls(69) == []
    assert isinstance(queue.ask("e", order(5), 69), Wait)
    assert isinstance(queue.ask("f", order(6), 70), Wait)
    assert queue.ask("e", order(5), 70) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from(["ask", "delete", "accepted", "refused", "left", "rests", "runs"]),
            st.floats(0, 400),
        ),
        max_size=60,
    )
)
def test_in_an_exclusive_cluster_no_second_request_is_ever_on_its_way(
    events: list[tuple[str, str, float]],
) -> None:
    queue, now, sending = LaunchQueue(), 0.0, set[str]()
    for name, event, passes in events:
        now += passes
        match event:
            case "ask" | "delete" if name not in sending:
                place = order(ord(name)) if event == "ask" else DELETION
                before = queue.mode
                if queue.ask(name, place, now) is None:
                    sending.add(name)
                    assert before is Mode.PARALLEL or len(sending) == 1
            case "accepted" if name in sending:
                sending.discard(name)
                queue.accepted(name, now)
            case "refused" if name in sending:
                sending.discard(name)
                assert queue.refused(name, None, now) > 0
            case "left":
                sending.discard(name)
                queue.left(name)
            case "rests":
                queue.rests(name)
            case "runs":
                queue.runs(name, now)
        assert not set(queue.calls(now)) & sending
