"""Probes: the state machine by tables, their timing in exact virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kaito.embedded.kubelet.prober import Answer, watch
from kaito.embedded.kubelet.probes import ProbeKind, ProbeSpec, ProbeState, advance
from kaito.runtime.testing.virtual import VirtualClock


@pytest.mark.parametrize(
    ("success", "failure", "answers", "verdicts"),
    [
        (1, 3, "nnnyn", [None, None, False, True, True]),
        (1, 1, "yn", [True, False]),
        (2, 1, "yyny", [None, True, False, False]),
        (2, 2, "nyny", [None, None, None, None]),
    ],
)
def test_thresholds(success: int, failure: int, answers: str, verdicts: list[bool | None]) -> None:
    spec = ProbeSpec(ProbeKind.READINESS, {}, success_threshold=success, failure_threshold=failure)
    state, seen = ProbeState(), []
    for answer in answers:
        state = advance(spec, state, answer == "y")
        seen.append(state.passing)
    assert seen == verdicts


def test_defaults_are_the_apis() -> None:
    assert ProbeSpec.of(ProbeKind.LIVENESS, {"livenessProbe": {"exec": {}}}) == ProbeSpec(
        ProbeKind.LIVENESS, {"exec": {}}, 0, 10, 1, 1, 3, None
    )
    assert ProbeSpec.of(ProbeKind.LIVENESS, {}) is None


async def observe(
    clock: VirtualClock,
    container: dict[str, Any],
    answers: dict[str, list[bool]],
    until: float,
    takes: float = 0,
) -> list[tuple[float, str, bool | None]]:
    """(time, kind, passing) of every answer up to `until`; the last answer of a kind repeats."""
    seen: list[tuple[float, str, bool | None]] = []

    async def ask(spec: ProbeSpec) -> Answer:
        await clock.sleep(takes)
        series = answers[spec.kind.value]
        return Answer(series.pop(0) if len(series) > 1 else series[0])

    def report(spec: ProbeSpec, state: ProbeState, answer: Answer) -> None:
        seen.append((clock.now(), spec.kind.value, state.passing))

    task = asyncio.create_task(watch(container, ask, report, clock))
    await clock.sleep(until)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return seen


async def test_initial_delay_and_period(virtual_clock: VirtualClock) -> None:
    container = {"readinessProbe": {"initialDelaySeconds": 30, "periodSeconds": 10, "httpGet": {}}}
    seen = await observe(virtual_clock, container, {"Readiness": [False, True]}, 55)
    assert seen == [(30.0, "Readiness", None), (40.0, "Readiness", True), (50.0, "Readiness", True)]


async def test_liveness_and_readiness_wait_for_startup(virtual_clock: VirtualClock) -> None:
    container = {
        "startupProbe": {"periodSeconds": 5, "failureThreshold": 10, "httpGet": {}},
        "livenessProbe": {"initialDelaySeconds": 3, "periodSeconds": 10, "httpGet": {}},
        "readinessProbe": {"initialDelaySeconds": 12, "periodSeconds": 10, "httpGet": {}},
    }
    answers = {"Startup": [False, False, True], "Liveness": [True], "Readiness": [True]}
    seen = await observe(virtual_clock, container, answers, 21)
    assert seen == [
        (0.0, "Startup", None),
        (5.0, "Startup", None),
        (10.0, "Startup", True),
        (10.0, "Liveness", True),
        (12.0, "Readiness", True),
        (20.0, "Liveness", True),
    ]


async def test_a_failed_startup_probe_ends_all_probing(virtual_clock: VirtualClock) -> None:
    container = {
        "startupProbe": {"periodSeconds": 1, "failureThreshold": 2, "httpGet": {}},
        "livenessProbe": {"httpGet": {}},
    }
    seen = await observe(virtual_clock, container, {"Startup": [False], "Liveness": [True]}, 60)
    assert seen == [(0.0, "Startup", None), (1.0, "Startup", False)]


async def test_slow_answers_shift_nothing_but_what_they_overlap(virtual_clock: VirtualClock) -> None:
    container = {"livenessProbe": {"periodSeconds": 10, "httpGet": {}}}
    seen = await observe(virtual_clock, container, {"Liveness": [True]}, 35, takes=4)
    assert [at for at, _, _ in seen] == [4.0, 14.0, 24.0, 34.0]
