"""Which pods are asked to go, waited for, or deleted: Karpenter's rules, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kaito.api import labels
from kaito.controllers.machine.drain import Plan, Pod, parse_duration, plan, read_pod, slim_pod
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import PODS

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PLAIN = Pod("default", "web", "u-web")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def pod(**changes: Any) -> CachedObject:
    metadata = {"name": "web", "namespace": "default", "uid": "u-web", "resourceVersion": "5"}
    tree = {
        "metadata": {**metadata, **changes.pop("metadata", {})},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}], **changes.pop("spec", {})},
        "status": {"phase": "Running", **changes.pop("status", {})},
    }
    return CachedObject.from_dict(tree, PODS)


def owned(kind: str) -> dict[str, Any]:
    return {"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u"}]}


class TestReading:
    def test_what_is_read_survives_the_slimming(self) -> None:
        whole = pod(
            metadata={
                **owned("DaemonSet"),
                "annotations": {labels.DO_NOT_DISRUPT_ANNOTATION: "true", "other": "x" * 1000},
                "deletionTimestamp": "2026-11-21T12:00:30Z",
            },
            spec={
                "priorityClassName": "system-node-critical",
                "terminationGracePeriodSeconds": 0,
                "volumes": [
                    {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}},
                    {"name": "c", "configMap": {"name": "settings"}},
                ],
            },
        )
        expected = Pod(
            "default", "web", "u-web", 0, after(30), tier=3, protected=True, claims=("data", "web-b")
        )
        assert read_pod(whole) == read_pod(slim_pod(whole)) == expected
        assert len(slim_pod(whole).raw) < 700

    @pytest.mark.parametrize(
        ("changes", "tier"),
        [
            ({}, 0),
            ({"metadata": owned("DaemonSet")}, 1),
            ({"spec": {"priorityClassName": "system-cluster-critical"}}, 2),
            ({"metadata": owned("DaemonSet"), "spec": {"priorityClassName": "system-node-critical"}}, 3),
        ],
    )
    def test_daemons_go_after_others_and_critical_ones_last(self, changes: Any, tier: int) -> None:
        assert read_pod(pod(**changes)).tier == tier

    @pytest.mark.parametrize(
        ("changes", "waited_for"),
        [
            ({}, True),
            ({"metadata": owned("Node")}, False),
            ({"metadata": owned("ReplicaSet")}, True),
            ({"status": {"phase": "Succeeded"}}, False),
            ({"status": {"phase": "Failed"}}, False),
            ({"status": {"phase": "Pending"}}, True),
        ],
    )
    def test_static_and_finished_pods_are_not_waited_for(self, changes: Any, waited_for: bool) -> None:
        assert read_pod(pod(**changes)).waited_for is waited_for

    @pytest.mark.parametrize(
        ("toleration", "stays"),
        [
            ({"operator": "Exists"}, True),
            ({"operator": "Exists", "effect": "NoSchedule"}, True),
            ({"operator": "Exists", "effect": "NoExecute"}, False),
            ({"key": labels.DISRUPTED_TAINT, "operator": "Exists"}, True),
            ({"key": labels.DISRUPTED_TAINT, "operator": "Equal", "effect": "NoSchedule"}, True),
            ({"key": labels.DISRUPTED_TAINT, "operator": "Equal", "value": "other"}, False),
            ({"key": "sku", "operator": "Exists"}, False),
        ],
    )
    def test_pods_that_tolerate_the_taint_stay(self, toleration: Any, stays: bool) -> None:
        assert read_pod(pod(spec={"tolerations": [toleration]})).waited_for is not stays


class TestPlan:
    def test_nothing_keeps_an_empty_node(self) -> None:
        assert plan([], NOW, None) == Plan()
        assert plan([replace(PLAIN, waited_for=False)], NOW, None) == Plan()

    def test_one_tier_is_evicted_at_a_time(self) -> None:
        tiers = [replace(PLAIN, uid=f"u{tier}", tier=tier) for tier in (3, 2, 1, 0)]
        while tiers:
            assert plan(tiers, NOW, None).evict == (tiers[-1],)
            leaving = replace(tiers[-1], ends=after(30))
            assert plan([*tiers[:-1], leaving], NOW, None).evict == (), "the next tier waits for it"
            tiers.pop()

    def test_a_protected_pod_is_waited_for_and_never_evicted(self) -> None:
        found = plan([replace(PLAIN, protected=True)], NOW, None)
        assert (len(found.waiting), found.evict, found.next_look) == (1, (), None)

    def test_a_pod_a_minute_past_its_grace_period_is_not_waited_for(self) -> None:
        leaving = replace(PLAIN, ends=NOW)
        assert plan([leaving], after(59), None) == Plan((leaving,), next_look=1.0)
        assert plan([leaving], after(60), None) == Plan()

    def test_pods_are_deleted_in_time_for_the_deadline_whatever_protects_them(self) -> None:
        kept = replace(PLAIN, grace=30, protected=True)
        assert plan([kept], after(69), after(100)).delete == ()
        assert plan([kept], after(69), after(100)).next_look == 1.0
        assert plan([kept], after(70), after(100)).delete == ((kept, 30),)
        assert plan([kept], after(90), after(100)).delete == ((kept, 10),)

    def test_a_pod_that_needs_longer_than_is_left_gets_what_is_left_at_once(self) -> None:
        slow = replace(PLAIN, uid="u-slow", grace=3600, tier=3)
        found = plan([PLAIN, slow], NOW, after(600))
        assert found.delete == ((slow, 600),)
        assert found.evict == (PLAIN,), "it is not evicted besides"

    def test_a_deadline_that_is_over_leaves_a_second_and_then_nobody_is_waited_for(self) -> None:
        assert plan([PLAIN], after(5), NOW).delete == ((PLAIN, 1),)
        assert plan([replace(PLAIN, ends=after(6))], after(6), NOW) == Plan()

    def test_a_deletion_that_would_end_too_late_is_cut_short_once(self) -> None:
        late = replace(PLAIN, ends=after(3600))
        assert plan([late], NOW, after(60)).delete == ((late, 60),)
        assert plan([replace(PLAIN, ends=after(60))], NOW, after(60)).delete == ()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("1m1s", 61), ("0s", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "1d", "m", "1h 30m"])
def test_other_words_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)
