"""A pod's status from its records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kaito.embedded.kubelet.records import Termination, records_of
from kaito.embedded.kubelet.status import PodFacts, changed, pod_status

T0 = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = PodFacts("10.244.0.1", T0)
SPEC = {
    "restartPolicy": "Never",
    "initContainers": [{"name": "i", "image": "x"}],
    "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}],
}


def by_type(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in status["conditions"]}


def test_life_of_a_pod() -> None:
    records = records_of(SPEC)
    status = pod_status(records, FACTS, {}, T0)
    assert status["phase"] == "Pending"
    assert by_type(status) == {
        "PodReadyToStartContainers": ("True", ""),
        "Initialized": ("False", "ContainersNotInitialized"),
        "Ready": ("False", "ContainersNotReady"),
        "ContainersReady": ("False", "ContainersNotReady"),
        "PodScheduled": ("True", ""),
    }
    assert status["conditions"][1]["message"] == "containers with incomplete status: [i]"
    assert status["conditions"][2]["message"] == "containers with unready status: [a b]"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}

    records["i"].end(Termination(0, "Completed", T0))
    for name in "ab":
        records[name].run(T0, f"kaito://{name}")
        records[name].started = records[name].ready = True
    later = pod_status(records, FACTS, status, T0 + timedelta(seconds=5))
    assert (later["phase"], by_type(later)["Ready"]) == ("Running", ("True", ""))
    times = {c["type"]: c["lastTransitionTime"] for c in later["conditions"]}
    assert times["Ready"] == "2026-01-01T00:00:05Z"
    assert times["PodScheduled"] == "2026-01-01T00:00:00Z", "an unchanged condition keeps its time"
    assert changed(pod_status(records, FACTS, later, T0 + timedelta(hours=1)), later) == {}

    for name in "ab":
        records[name].end(Termination(0, "Completed", T0))
    done = pod_status(records, FACTS, later, T0)
    assert done["phase"] == "Succeeded"
    assert by_type(done)["Ready"] == ("False", "PodCompleted")
    assert by_type(done)["Initialized"] == ("True", "PodCompleted")


def test_an_init_container_is_ready_once_it_has_ended_well_and_not_while_it_runs() -> None:
    record = records_of(SPEC)["i"]
    record.run(T0, "kaito://i")
    record.started = record.ready = True  # as every container without probes
    assert record.to_status()["ready"] is False
    record.end(Termination(1, "Error", T0))
    assert record.to_status()["ready"] is False
    record.run(T0, "kaito://i")
    record.end(Termination(0, "Completed", T0))
    assert record.to_status()["ready"] is True


def test_conditions_of_others_are_kept_and_gates_hold_readiness_back() -> None:
    records = records_of({"containers": [{"name": "a", "image": "x"}]})
    records["a"].run(T0, "id")
    records["a"].started = records["a"].ready = True
    foreign = {"type": "example.com/gate", "status": "False"}
    status = pod_status(records, FACTS, {"conditions": [foreign]}, T0, ["example.com/gate"])
    assert by_type(status)["Ready"] == ("False", "ReadinessGatesNotReady")
    assert by_type(status)["ContainersReady"] == ("True", "")
    assert foreign in status["conditions"]
    opened = {**foreign, "status": "True"}
    status = pod_status(records, FACTS, {"conditions": [opened]}, T0, ["example.com/gate"])
    assert by_type(status)["Ready"] == ("True", "")


def test_a_phase_decided_for_the_pod_as_a_whole() -> None:
    records = records_of({"containers": [{"name": "a", "image": "x"}]})
    facts = PodFacts("10.244.0.1", T0, reason="DeadlineExceeded", message="too long", phase="Failed")
    status = pod_status(records, facts, {}, T0)
    assert (status["phase"], status["reason"], status["message"]) == (
        "Failed",
        "DeadlineExceeded",
        "too long",
    )
    assert by_type(status)["Ready"] == ("False", "PodFailed")
