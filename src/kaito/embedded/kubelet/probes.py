"""Probes as a pure state machine: when to look, and what a series of answers means.

The prober (`prober.py`) asks; nothing here does I/O. Defaults are the Kubernetes API's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class ProbeKind(StrEnum):
    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"

    @property
    def field(self) -> str:
        """The container field that holds this probe."""
        return f"{self.value.lower()}Probe"


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """One probe of one container. Times in seconds; `handler` is the probe as written."""

    kind: ProbeKind
    handler: Mapping[str, Any]
    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace: float | None = None

    @classmethod
    def of(cls, kind: ProbeKind, container: Mapping[str, Any]) -> ProbeSpec | None:
        """The container's probe of this kind, or None."""
        probe = container.get(kind.field)
        if not probe:
            return None
        grace = probe.get("terminationGracePeriodSeconds")
        return cls(
            kind,
            probe,
            float(probe.get("initialDelaySeconds") or 0),
            float(probe.get("periodSeconds") or 10),
            float(probe.get("timeoutSeconds") or 1),
            int(probe.get("successThreshold") or 1),
            int(probe.get("failureThreshold") or 3),
            None if grace is None else float(grace),
        )


@dataclass(frozen=True, slots=True)
class ProbeState:
    """Consecutive results so far. `passing` is None until a threshold has been reached."""

    successes: int = 0
    failures: int = 0
    passing: bool | None = None


def advance(spec: ProbeSpec, state: ProbeState, success: bool) -> ProbeState:
    """The state after one more answer."""
    if success:
        successes = state.successes + 1
        passing = True if successes >= spec.success_threshold else state.passing
        return ProbeState(successes, 0, passing)
    failures = state.failures + 1
    passing = False if failures >= spec.failure_threshold else state.passing
    return replace(state, successes=0, failures=failures, passing=passing)


def first_look(spec: ProbeSpec, started_at: float, allowed_at: float) -> float:
    """When to probe first (clock seconds).

    `started_at` is the container's start, `allowed_at` the moment its startup probe passed (or its start).
    """
    return max(started_at + spec.initial_delay, allowed_at)
