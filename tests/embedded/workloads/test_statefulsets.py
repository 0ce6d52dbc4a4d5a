"""StatefulSets from end to end, in virtual time."""

from __future__ import annotations

from copy import deepcopy

import pytest

from kaito.runtime.resources import CONTROLLERREVISIONS, PODS, STATEFULSETS
from kaito.runtime.testing.virtual import VirtualClock
from workloadworld import Cluster, Tree, template, workload


@pytest.fixture
async def cluster(virtual_clock: VirtualClock) -> Cluster:
    cluster = Cluster(virtual_clock)
    cluster.node()
    return cluster


def change(cluster: Cluster, **spec: object) -> None:
    statefulset = deepcopy(cluster.get(STATEFULSETS, "web"))
    statefulset["spec"] |= spec
    cluster.api.put(STATEFULSETS, statefulset)


def image(number: int) -> Tree:
    changed = template("web")
    changed["spec"]["containers"][0]["image"] = f"img:{number}"
    return changed


def images(cluster: Cluster) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["spec"]["containers"][0]["image"] for pod in cluster.pods()}


async def test_pods_come_in_order_each_after_the_one_before_is_ready(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(STATEFULSETS, workload(replicas=3, serviceName="web"))
        seen: list[tuple[int, int]] = []
        for _ in range(100):
            await cluster.clock.sleep(0.1)
            ready = sum(pod.get("status", {}).get("phase") == "Running" for pod in cluster.pods())
            if not seen or seen[-1] != (len(cluster.pods()), ready):
                seen.append((len(cluster.pods()), ready))
        statefulset = cluster.get(STATEFULSETS, "web")
    assert all(pods - ready <= 1 for pods, ready in seen)
    assert cluster.pod_names() == ["web-0", "web-1", "web-2"]
    revision = statefulset["status"]["updateRevision"]
    pod = cluster.get(PODS, "web-1")
    assert pod["metadata"]["labels"] == {
        "app": "web",
        "statefulset.kubernetes.io/pod-name": "web-1",
        "apps.kubernetes.io/pod-index": "1",
        "controller-revision-hash": revision,
    }
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-1", "web")
    assert statefulset["status"] == {
        "observedGeneration": 1,
        "replicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "currentReplicas": 3,
        "updatedReplicas": 3,
        "currentRevision": revision,
        "updateRevision": revision,
        "collisionCount": 0,
    }
    assert [each["metadata"]["name"] for each in cluster.api.all(CONTROLLERREVISIONS)] == [revision]


async def test_a_name_that_somebody_elses_pod_has_is_tried_again(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(
            PODS, {"metadata": {"name": "web-0", "namespace": "default"}, "spec": {"containers": []}}
        )
        cluster.api.put(STATEFULSETS, workload(replicas=1, serviceName="web"))
        await cluster.clock.sleep(30)
        assert "ownerReferences" not in cluster.get(PODS, "web-0")["metadata"]
        cluster.api.remove(PODS, "web-0", "default")
        await cluster.clock.sleep(15)
        assert cluster.get(PODS, "web-0")["metadata"]["ownerReferences"][0]["name"] == "web"


async def test_parallel_pods_come_at_once_and_numbers_can_start_elsewhere(cluster: Cluster) -> None:
    cluster.kubelet.unready = {"web"}
    async with cluster.running():
        cluster.api.put(
            STATEFULSETS, workload(replicas=3, podManagementPolicy="Parallel", ordinals={"start": 5})
        )
        await cluster.clock.sleep(3)
        assert cluster.pod_names() == ["web-5", "web-6", "web-7"]


async def test_scaling_down_takes_the_highest_first_one_by_one(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(STATEFULSETS, workload(replicas=3))
        await cluster.clock.sleep(10)
        change(cluster, replicas=1)
        await cluster.clock.sleep(1)
        leaving = [
            pod["metadata"]["name"] for pod in cluster.pods() if "deletionTimestamp" in pod["metadata"]
        ]
        assert leaving == ["web-2"]
        await cluster.clock.sleep(10)
        assert cluster.pod_names() == ["web-0"]
        assert cluster.get(STATEFULSETS, "web")["status"]["replicas"] == 1


async def test_an_update_goes_from_the_highest_down_and_waits_for_each(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(STATEFULSETS, workload(replicas=3))
        await cluster.clock.sleep(10)
        change(cluster, template=image(2))
        order: list[str] = []
        for _ in range(300):
            await cluster.clock.sleep(0.1)
            for name, ref in images(cluster).items():
                if ref == "img:2" and name not in order:
                    order.append(name)
            assert len(cluster.pods()) >= 2
        status = cluster.get(STATEFULSETS, "web")["status"]
    assert order == ["web-2", "web-1", "web-0"]
    assert status["currentRevision"] == status["updateRevision"]
    assert sorted(each["revision"] for each in cluster.api.all(CONTROLLERREVISIONS)) == [1, 2]


async def test_a_partition_keeps_the_lower_pods_on_the_old_revision(cluster: Cluster) -> None:
    async with cluster.running():
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
        cluster.api.put(STATEFULSETS, workload(replicas=3, updateStrategy=rolling))
        await cluster.clock.sleep(10)
        change(cluster, template=image(2))
        await cluster.clock.sleep(20)
        assert images(cluster) == {"web-0": "img:1", "web-1": "img:1", "web-2": "img:2"}
        cluster.api.remove(PODS, "web-0", "default")
        await cluster.clock.sleep(10)
        assert images(cluster)["web-0"] == "img:1", "a lost pod below the partition comes back as it was"
        status = cluster.get(STATEFULSETS, "web")["status"]
        assert (status["updatedReplicas"], status["currentReplicas"]) == (1, 2)
        change(cluster, updateStrategy={"type": "RollingUpdate"})
        await cluster.clock.sleep(30)
        assert set(images(cluster).values()) == {"img:2"}


async def test_on_delete_replaces_only_what_is_deleted(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(STATEFULSETS, workload(replicas=2, updateStrategy={"type": "OnDelete"}))
        await cluster.clock.sleep(10)
        change(cluster, template=image(2))
        await cluster.clock.sleep(10)
        assert set(images(cluster).values()) == {"img:1"}
        cluster.api.remove(PODS, "web-0", "default")
        await cluster.clock.sleep(10)
        assert images(cluster) == {"web-0": "img:2", "web-1": "img:1"}


async def test_a_failed_pod_is_made_again(cluster: Cluster) -> None:
    cluster.kubelet.outcome = {"web-0": "Failed"}
    async with cluster.running():
        cluster.api.put(STATEFULSETS, workload())
        await cluster.clock.sleep(1.5)
        cluster.kubelet.outcome = {}
        await cluster.clock.sleep(10)
        assert cluster.get(PODS, "web-0")["status"]["phase"] == "Running"


async def test_claim_templates_are_refused_by_name(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(STATEFULSETS, workload(volumeClaimTemplates=[{"metadata": {"name": "data"}}]))
        await cluster.clock.sleep(10)
        assert cluster.pods() == []
        (message,) = cluster.events("FailedCreate")
    assert message.startswith("spec.volumeClaimTemplates is not implemented here")


async def test_a_settled_statefulset_costs_no_request(cluster: Cluster) -> None:
    async with cluster.running():
        cluster.api.put(STATEFULSETS, workload(replicas=2))
        await cluster.clock.sleep(20)
        before = cluster.requests()
        statefulset = cluster.get(STATEFULSETS, "web")
        touched = {**statefulset["metadata"], "labels": {"touched": "yes"}}
        cluster.api.put(STATEFULSETS, {**statefulset, "metadata": touched})
        await cluster.clock.sleep(1000)
        assert cluster.requests() == before
