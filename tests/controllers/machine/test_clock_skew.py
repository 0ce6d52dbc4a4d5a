"""Clocks that disagree: the API server's stamps, the cloud's and ours are of different machines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controllers.machine.builders import NC6, SHAPES, launched, stored
from kaito.controllers.machine import ClaimShape, Limits
from kaito.controllers.machine.decide import Decision, Observed, decide
from kaito.controllers.machine.garbage import orphans
from kaito.provisioner.cloud import Instance
from kaito.provisioner.errors import CloudError, InstancePending
from kaito.runtime.clock import rfc3339

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMITS = Limits(launch_timeout=600, registration_timeout=300, initialization_timeout=120)

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)


def made_at(shape: ClaimShape, when: datetime, answer: CloudError) -> Decision:
    """What becomes of a claim with that stamp at that answer of the cloud."""
    claim = stored(shape, metadata={"creationTimestamp": rfc3339(when)})
    return decide(Observed(shape, claim, launch=answer), NOW, LIMITS)


def being_made(since: datetime) -> CloudError:
    return InstancePending("the pool is being made", retry_after=3600, since=since)


@each_shape
def test_a_server_that_is_an_hour_behind_costs_no_machine(shape: ClaimShape) -> None:
    """Its claims look an hour old at birth; what counts is when the cloud began, by our own clock."""
    decision = made_at(shape, NOW - HOUR, being_made(since=NOW))
    assert decision.step is None
    assert decision.requeue_after == 600


@each_shape
def test_stamps_from_the_future_lengthen_no_deadline(shape: ClaimShape) -> None:
    strange = CloudError("something strange", retry_after=3600)
    assert made_at(shape, NOW + HOUR, strange).requeue_after == 600
    assert made_at(shape, NOW, being_made(since=NOW + HOUR)).requeue_after == 600
    waiting = launched(shape, at=rfc3339(NOW + HOUR))
    assert decide(Observed(shape, waiting, running=True), NOW, LIMITS).requeue_after == 300


def test_a_machine_whose_age_is_in_the_future_is_no_garbage() -> None:
    def instance(created: datetime) -> Instance:
        return Instance("azure:///1", NC6, claim_uid="gone", claim_name="ws1", created=created)

    ahead, old = instance(NOW + HOUR), instance(NOW - HOUR)
    assert orphans([ahead, old], set(), NOW) == [old]
    assert orphans([ahead], set(), NOW + HOUR + timedelta(seconds=31)) == [ahead], "late, but not for ever"
    assert orphans([old], {"gone"}, NOW) == [], "with its claim it is none, whatever its age"
