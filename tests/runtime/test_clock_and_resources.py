"""Time stamps and URLs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from kaito.runtime.clock import LoopClock, parse_time, rfc3339, rfc3339_micro
from kaito.runtime.resources import CRDS, DEPLOYMENTS, NODES, PODS, ObjectKey, Resource


def test_time_stamps() -> None:
    moment = datetime(2026, 11, 21, 15, 0, 5, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-11-21T13:00:05Z"
    assert rfc3339_micro(moment) == "2026-11-21T13:00:05.123456Z"
    assert parse_time(rfc3339_micro(moment)) == moment
    assert parse_time("2026-11-21T13:00:05Z") == datetime(2026, 11, 21, 13, 0, 5, tzinfo=UTC)
    assert parse_time("2026-11-21T15:00:05+02:00").tzinfo is UTC
    assert parse_time("2026-11-21T13:00:05.123456789Z").microsecond == 123456
    with pytest.raises(ValueError, match="has no offset"):
        parse_time("2026-11-21T13:00:05")
    with pytest.raises(ValueError, match="yesterday"):
        parse_time("yesterday")


async def test_the_loop_clock() -> None:
    clock = LoopClock()
    before = clock.now()
    await clock.sleep(0)
    assert clock.now() >= before
    assert clock.wall().tzinfo is UTC
    fired: list[int] = []
    clock.call_later(60, fired.append, 1).cancel()
    async with clock.timeout(None):
        await clock.sleep(0)
    with pytest.raises(TimeoutError):
        async with clock.timeout(0):
            await clock.sleep(60)
    assert fired == []


def test_paths() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("ns") == "/api/v1/namespaces/ns/pods"
    assert PODS.path("ns", "p", "log") == "/api/v1/namespaces/ns/pods/p/log"
    assert DEPLOYMENTS.path("ns", "d") == "/apis/apps/v1/namespaces/ns/deployments/d"
    assert NODES.path("ignored", "n") == "/api/v1/nodes/n"
    assert CRDS.path(None, "a.b") == "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/a.b"
    assert PODS.path("ns", "a/b?c") == "/api/v1/namespaces/ns/pods/a%2Fb%3Fc"
    with pytest.raises(ValueError, match="needs a namespace"):
        PODS.path(None, "p")


def test_names() -> None:
    assert (PODS.api_version, PODS.name, str(PODS)) == ("v1", "pods", "pods")
    assert (DEPLOYMENTS.api_version, DEPLOYMENTS.name) == ("apps/v1", "deployments.apps")
    assert Resource("g", "v1", "xs", "X") == Resource("g", "v1", "xs", "X", namespaced=True)
    assert [str(ObjectKey("ns", "a")), str(ObjectKey(None, "a"))] == ["ns/a", "a"]
