"""Tables of what happens next to a pod's containers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaito.embedded.kubelet import lifecycle
from kaito.embedded.kubelet.lifecycle import Plan
from kaito.embedded.kubelet.records import ContainerRecord, Termination, records_of, restore

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def pod(
    policy: str, *mains: str, inits: tuple[str, ...] = (), sidecars: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {
        "restartPolicy": policy,
        "initContainers": [
            *({"name": name, "image": "i"} for name in inits),
            *({"name": name, "image": "i", "restartPolicy": "Always"} for name in sidecars),
        ],
        "containers": [{"name": name, "image": "i"} for name in mains],
    }


def put(record: ContainerRecord, state: str) -> None:
    """`run`, `ready`, `exit:N`, or `back:SECONDS` (exited with 1, restart due at that clock reading)."""
    word, _, number = state.partition(":")
    if word in ("run", "ready"):
        record.run(T0, "id")
        record.started = record.ready = word == "ready"
    elif word == "exit":
        record.run(T0, "id")
        record.end(Termination(int(number), "Error" if int(number) else "Completed", T0, T0))
    elif word == "back":
        put(record, "exit:1")
        record.retry_at = float(number)


@pytest.mark.parametrize(
    ("spec", "states", "expected", "phase"),
    [
        pytest.param(pod("Always", "a", "b"), {}, Plan(start=("a", "b")), "Pending", id="all start at once"),
        pytest.param(
            pod("Always", "a", inits=("i", "j")), {}, Plan(start=("i",)), "Pending", id="inits one by one"
        ),
        pytest.param(
            pod("Always", "a", inits=("i", "j")),
            {"i": "run"},
            Plan(),
            "Pending",
            id="wait for the running init",
        ),
        pytest.param(
            pod("Always", "a", inits=("i", "j")),
            {"i": "exit:0"},
            Plan(start=("j",)),
            "Pending",
            id="next init",
        ),
        pytest.param(
            pod("Always", "a", inits=("i",)),
            {"i": "exit:0"},
            Plan(start=("a",)),
            "Pending",
            id="inits are done",
        ),
        pytest.param(
            pod("Always", "a", inits=("i",)), {"i": "exit:1"}, Plan(start=("i",)), "Pending", id="init again"
        ),
        pytest.param(
            pod("Never", "a", inits=("i",)), {"i": "exit:1"}, Plan(), "Failed", id="init failed for good"
        ),
        pytest.param(
            pod("Always", "a", sidecars=("s",)), {"s": "run"}, Plan(), "Pending", id="sidecar not started"
        ),
        pytest.param(
            pod("Always", "a", sidecars=("s",)),
            {"s": "ready"},
            Plan(start=("a",)),
            "Pending",
            id="sidecar started",
        ),
        pytest.param(
            pod("Never", "a", sidecars=("s",)),
            {"s": "ready", "a": "exit:0"},
            Plan(stop=("s",)),
            "Succeeded",
            id="sidecar ends with the pod",
        ),
        pytest.param(
            pod("Always", "a", sidecars=("s",)),
            {"a": "run", "s": "exit:1"},
            Plan(start=("s",)),
            "Running",
            id="a crashed sidecar does not undo the initialisation",
        ),
        pytest.param(
            pod("Always", "a"), {"a": "exit:0"}, Plan(start=("a",)), "Running", id="Always restarts"
        ),
        pytest.param(pod("OnFailure", "a"), {"a": "exit:0"}, Plan(), "Succeeded", id="OnFailure, success"),
        pytest.param(
            pod("OnFailure", "a"), {"a": "exit:3"}, Plan(start=("a",)), "Running", id="OnFailure, failure"
        ),
        pytest.param(pod("Never", "a"), {"a": "exit:3"}, Plan(), "Failed", id="Never"),
        pytest.param(
            pod("Never", "a", "b"), {"a": "exit:3", "b": "run"}, Plan(), "Running", id="Never, one still runs"
        ),
        pytest.param(
            pod("Never", "a", "b"), {"a": "exit:3", "b": "exit:0"}, Plan(), "Failed", id="Never, one failed"
        ),
        pytest.param(
            pod("Always", "a", "b"),
            {"a": "back:25", "b": "run"},
            Plan(back_off=("a",), wake_at=25.0),
            "Running",
            id="held back",
        ),
        pytest.param(pod("Always", "a"), {"a": "back:9"}, Plan(start=("a",)), "Running", id="time has come"),
    ],
)
def test_plan_and_phase(spec: dict[str, Any], states: dict[str, str], expected: Plan, phase: str) -> None:
    records = records_of(spec)
    for name, state in states.items():
        put(records[name], state)
    assert lifecycle.plan(records, now=10.0) == expected
    assert lifecycle.phase(records) == phase


def test_a_waiting_container_that_ran_before_keeps_the_pod_running() -> None:
    records = records_of(pod("Always", "a"))
    put(records["a"], "exit:1")
    records["a"].wait("CrashLoopBackOff", "back-off 10s")
    assert lifecycle.phase(records) == "Running"
    status = records["a"].to_status()
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert status["lastState"]["terminated"]["exitCode"] == 1


def test_crash_back_off_starts_at_once_then_doubles_to_five_minutes() -> None:
    delays, delay = [], 0.0
    for restart in range(9):
        delay = lifecycle.next_back_off(delay, ran_seconds=1, restarts=restart)
        delays.append(delay)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_container_that_ran_ten_minutes_starts_afresh() -> None:
    assert lifecycle.next_back_off(300, ran_seconds=600, restarts=9) == 0
    assert lifecycle.next_back_off(300, ran_seconds=599, restarts=9) == 300


def test_pull_back_off() -> None:
    assert [lifecycle.pull_back_off(n) for n in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]


def test_restart_count_counts_starts_after_an_end() -> None:
    record = records_of(pod("Always", "a"))["a"]
    record.run(T0, "1")
    assert record.restart_count == 0
    record.end(Termination(1, "Error", T0 + timedelta(seconds=3), T0))
    record.wait("CrashLoopBackOff")
    record.run(T0, "2")
    assert record.restart_count == 1
    assert record.last is not None
    assert record.last.ran_seconds == 3


def test_restore_takes_over_counts_and_ends_what_ran() -> None:
    spec = pod("Always", "a", "b", inits=("i",))
    before = records_of(spec)
    put(before["i"], "exit:0")
    put(before["a"], "ready")
    before["a"].restart_count = 4
    status = {
        "initContainerStatuses": [before["i"].to_status()],
        "containerStatuses": [before["a"].to_status(), {"name": "unknown", "state": {}}],
    }
    records = records_of(spec)
    restore(records, status, T0 + timedelta(seconds=60))
    assert records["i"].succeeded
    assert records["a"].restart_count == 4
    ended = records["a"].terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason, ended.ran_seconds) == (137, "ContainerStatusUnknown", 60)
    assert lifecycle.plan(records, now=0).start == ("a", "b")
