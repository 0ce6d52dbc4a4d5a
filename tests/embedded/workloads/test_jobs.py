"""Jobs from end to end, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from kaito.embedded.workloads.pods import find_condition
from kaito.runtime.resources import JOBS
from kaito.runtime.testing.virtual import VirtualClock
from workloadworld import Cluster, Tree, template


@pytest.fixture
async def cluster(virtual_clock: VirtualClock) -> Cluster:
    cluster = Cluster(virtual_clock)
    cluster.node()
    return cluster


def job(**spec: Any) -> Tree:
    return {
        "metadata": {"name": "work", "namespace": "default"},
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 6,
            "template": template("work", restartPolicy="Never"),
            **spec,
        },
    }


def ended(cluster: Cluster) -> tuple[str, str]:
    conditions = cluster.get(JOBS, "work")["status"]["conditions"]
    final = [
        each for each in conditions if each["type"] in ("Complete", "Failed") and each["status"] == "True"
    ]
    return (final[0]["type"], final[0]["reason"]) if final else ("", "")


async def test_a_job_runs_once_and_is_complete(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"work": "Succeeded"}
    async with cluster.running():
        cluster.api.put(JOBS, job())
        await cluster.clock.sleep(0.5)
        assert cluster.get(JOBS, "work")["status"]["active"] == 1
        await cluster.clock.sleep(10)
        status = cluster.get(JOBS, "work")["status"]
    assert ended(cluster) == ("Complete", "CompletionsReached")
    assert find_condition(status, "SuccessCriteriaMet")["status"] == "True"
    assert (status["active"], status["succeeded"], status["failed"]) == (0, 1, 0)
    assert status["startTime"] == "2026-01-01T00:00:00Z"
    assert status["completionTime"] > status["startTime"]
    assert cluster.events("Completed") == ["Job completed"]
    assert len(cluster.pods()) == 1, "finished pods stay, for their logs"


async def test_completions_run_at_most_parallelism_at_a_time(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"work": "Succeeded"}
    async with cluster.running():
        cluster.api.put(JOBS, job(completions=5, parallelism=2))
        most = 0
        for _ in range(200):
            await cluster.clock.sleep(0.1)
            running = [pod for pod in cluster.pods() if pod.get("status", {}).get("phase") != "Succeeded"]
            most = max(most, len(running))
        assert most == 2
        assert ended(cluster)[0] == "Complete"
        assert len(cluster.pods()) == 5


async def test_failures_are_tried_again_with_a_growing_pause_until_the_limit(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"work": "Failed"}
    cluster.kubelet.delay = 0
    async with cluster.running():
        cluster.api.put(JOBS, job(backoffLimit=2))
        starts: list[float] = []
        for _ in range(100):
            await cluster.clock.sleep(1)
            if len(cluster.pods()) > len(starts):
                starts.append(cluster.clock.now())
        status = cluster.get(JOBS, "work")["status"]
    assert ended(cluster) == ("Failed", "BackoffLimitExceeded")
    assert status["failed"] == 3
    assert [round(b - a) for a, b in pairwise(starts)] == [10, 20]
    assert cluster.events("BackoffLimitExceeded") == ["Job has reached the specified backoff limit"]


async def test_a_deadline_ends_the_job_and_its_pods(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(JOBS, job(activeDeadlineSeconds=20))
        await cluster.clock.sleep(15)
        assert ended(cluster) == ("", "")
        await cluster.clock.sleep(6)
        target = find_condition(cluster.get(JOBS, "work")["status"], "FailureTarget")
        assert target["reason"] == "DeadlineExceeded"
        assert ended(cluster) == ("", ""), "not over while a pod still runs"
        await cluster.clock.sleep(5)
    assert ended(cluster) == ("Failed", "DeadlineExceeded")
    assert cluster.pods() == []


async def test_a_finished_job_goes_after_its_ttl(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"work": "Succeeded"}
    async with cluster.running():
        cluster.api.put(JOBS, job(ttlSecondsAfterFinished=30))
        await cluster.clock.sleep(25)
        assert len(cluster.api.all(JOBS)) == 1
        await cluster.clock.sleep(10)
        assert cluster.api.all(JOBS) == []
        assert cluster.pods() == []


async def test_a_suspended_job_has_no_pods_until_it_is_resumed(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(JOBS, job(suspend=True))
        await cluster.clock.sleep(5)
        assert cluster.pods() == []
        live = cluster.get(JOBS, "work")
        assert find_condition(live["status"], "Suspended")["status"] == "True"
        cluster.api.put(JOBS, {**live, "spec": {**live["spec"], "suspend": False}})
        await cluster.clock.sleep(5)
        assert len(cluster.pods()) == 1
        assert find_condition(cluster.get(JOBS, "work")["status"], "Suspended")["status"] == "False"


async def test_a_work_queue_ends_with_its_first_success(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"work": "Succeeded"}
    async with cluster.running():
        cluster.api.put(JOBS, job(completions=None, parallelism=3))
        await cluster.clock.sleep(10)
        assert ended(cluster)[0] == "Complete"
        assert len(cluster.pods()) == 3


async def test_deleting_a_finished_pod_starts_no_other(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"work": "Succeeded"}
    async with cluster.running():
        cluster.api.put(JOBS, job(completions=2, parallelism=1))
        await cluster.clock.sleep(1.4)
        done = next(pod for pod in cluster.pods() if pod.get("status", {}).get("phase") == "Succeeded")
        cluster.api.objects.pop(("/api/v1/pods", "default", done["metadata"]["name"]))
        await cluster.clock.sleep(10)
        assert cluster.get(JOBS, "work")["status"]["succeeded"] == 2
        assert len(cluster.events("SuccessfulCreate")) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"completionMode": "Indexed"}, "spec.completionMode Indexed is not implemented here"),
        ({"podFailurePolicy": {"rules": [{}]}}, "spec.podFailurePolicy is not implemented here"),
    ],
)
async def test_what_is_not_implemented_is_refused_by_name(cluster: Cluster, spec: Tree, message: str) -> None:
    async with cluster.running():
        cluster.api.put(JOBS, job(**spec))
        await cluster.clock.sleep(5)
    assert cluster.pods() == []
    assert cluster.events("NotImplemented")[0].startswith(message)


async def test_a_settled_job_costs_no_request(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"work": "Succeeded"}
    async with cluster.running():
        cluster.api.put(JOBS, job())
        await cluster.clock.sleep(20)
        before = cluster.requests()
        live = cluster.get(JOBS, "work")
        cluster.api.put(JOBS, {**live, "metadata": {**live["metadata"], "labels": {"touched": "yes"}}})
        await cluster.clock.sleep(1000)
        assert cluster.requests() == before
