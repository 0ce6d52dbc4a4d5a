"""Deployments from end to end, in virtual time."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kaito.embedded.workloads.deployment import REVISION
from kaito.embedded.workloads.pods import find_condition
from kaito.runtime.errors import Forbidden
from kaito.runtime.resources import DEPLOYMENTS, ENDPOINTS, ENDPOINTSLICES, PODS, REPLICASETS, SERVICES
from kaito.runtime.testing.virtual import VirtualClock
from workloadworld import Cluster, template, workload


@pytest.fixture
def cluster(virtual_clock: VirtualClock) -> Cluster:
    return Cluster(virtual_clock)


def condition(tree: dict[str, Any], kind: str) -> tuple[str, str, str]:
    found = find_condition(tree["status"], kind)
    return found["status"], found["reason"], found["message"]


async def test_a_deployment_gets_its_pods_and_says_so(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        await cluster.clock.sleep(1)
        cluster.api.put(DEPLOYMENTS, workload(replicas=2))
        await cluster.clock.sleep(10)
        deployment = cluster.get(DEPLOYMENTS, "web")
        (replicaset,) = cluster.api.all(REPLICASETS)
    name = replicaset["metadata"]["name"]
    assert {key: value for key, value in deployment["status"].items() if key != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 0,
    }
    available = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    assert condition(deployment, "Available") == available
    done = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
    assert condition(deployment, "Progressing") == done
    assert deployment["metadata"]["annotations"][REVISION] == "1"
    assert replicaset["metadata"]["annotations"] == {
        REVISION: "1",
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
    }
    hashed = replicaset["metadata"]["labels"]["pod-template-hash"]
    assert name == f"web-{hashed}"
    assert [pod["metadata"]["labels"] for pod in cluster.pods()] == [
        {"app": "web", "pod-template-hash": hashed}
    ] * 2
    assert all(pod.startswith(f"{name}-") for pod in cluster.pod_names())
    owner = cluster.pods()[0]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("ReplicaSet", True, True)
    assert cluster.events("ScalingReplicaSet") == [f"Scaled up replica set {name} from 0 to 2"]
    assert len(cluster.events("SuccessfulCreate")) == 2


async def test_a_settled_world_costs_no_request(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload(replicas=2))
        cluster.api.put(SERVICES, SERVICE)
        await cluster.clock.sleep(30)
        before = cluster.requests()
        deployment = cluster.get(DEPLOYMENTS, "web")
        cluster.api.put(
            DEPLOYMENTS, {**deployment, "metadata": {**deployment["metadata"], "labels": {"touched": "yes"}}}
        )
        await cluster.clock.sleep(1000)
        assert cluster.requests() == before
    statuses = [request for request in before if request.endswith("/status")]
    assert len([each for each in statuses if "/deployments/" in each]) <= 4
    assert len([each for each in statuses if "/replicasets/" in each]) <= 3


async def test_a_rolling_update_keeps_within_its_limits(cluster: Cluster) -> None:
    cluster.node()
    limits = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload(replicas=4, strategy=limits))
        await cluster.clock.sleep(20)
        changed = workload(replicas=4, strategy=limits)
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = "img:2"
        deployment = cluster.get(DEPLOYMENTS, "web")
        cluster.api.put(DEPLOYMENTS, {**deployment, "spec": changed["spec"]})
        most, least = 0, 99
        for _ in range(400):
            await cluster.clock.sleep(0.1)
            live = [pod for pod in cluster.pods() if "deletionTimestamp" not in pod["metadata"]]
            ready = [pod for pod in live if _ready(pod)]
            most, least = max(most, len(live)), min(least, len(ready))
        deployment = cluster.get(DEPLOYMENTS, "web")
    assert (most, least) == (5, 3)
    assert {pod["spec"]["containers"][0]["image"] for pod in cluster.pods()} == {"img:2"}
    assert deployment["metadata"]["annotations"][REVISION] == "2"
    assert deployment["status"]["updatedReplicas"] == 4
    assert condition(deployment, "Progressing")[1] == "NewReplicaSetAvailable"
    sizes = {
        rs["metadata"]["annotations"][REVISION]: rs["spec"]["replicas"] for rs in cluster.api.all(REPLICASETS)
    }
    assert sizes == {"1": 0, "2": 4}


async def test_going_back_takes_up_the_old_replicaset_under_a_new_revision(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        first = cluster.api.put(DEPLOYMENTS, workload())
        await cluster.clock.sleep(10)
        changed = deepcopy(first["spec"])
        changed["template"]["spec"]["containers"][0]["image"] = "img:2"
        for spec in (changed, first["spec"]):
            deployment = cluster.get(DEPLOYMENTS, "web")
            cluster.api.put(DEPLOYMENTS, {**deployment, "spec": spec})
            await cluster.clock.sleep(20)
        assert cluster.get(DEPLOYMENTS, "web")["metadata"]["annotations"][REVISION] == "3"
        by_size = {
            rs["spec"]["replicas"]: rs["metadata"]["annotations"] for rs in cluster.api.all(REPLICASETS)
        }
    assert by_size[1][REVISION] == "3"
    assert by_size[1]["deployment.kubernetes.io/revision-history"] == "1"
    assert by_size[0][REVISION] == "2"


async def test_recreate_lets_everything_old_go_first(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        first = cluster.api.put(DEPLOYMENTS, workload(replicas=2, strategy={"type": "Recreate"}))
        await cluster.clock.sleep(10)
        changed = deepcopy(cluster.get(DEPLOYMENTS, "web"))
        changed["spec"] = deepcopy(first["spec"])
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = "img:2"
        cluster.api.put(DEPLOYMENTS, changed)
        for _ in range(100):
            await cluster.clock.sleep(0.1)
            assert len({pod["spec"]["containers"][0]["image"] for pod in cluster.pods()}) <= 1
        assert [pod["spec"]["containers"][0]["image"] for pod in cluster.pods()] == ["img:2"] * 2


async def test_no_progress_is_told_after_the_deadline(cluster: Cluster) -> None:
    cluster.node()
    cluster.kubelet.unready = {"web"}
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload(progressDeadlineSeconds=60))
        await cluster.clock.sleep(30)
        assert condition(cluster.get(DEPLOYMENTS, "web"), "Progressing")[0] == "True"
        unavailable = (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
        assert condition(cluster.get(DEPLOYMENTS, "web"), "Available") == unavailable
        await cluster.clock.sleep(40)
        deployment = cluster.get(DEPLOYMENTS, "web")
    assert condition(deployment, "Progressing")[:2] == ("False", "ProgressDeadlineExceeded")


async def test_scaling_and_minimum_ready_seconds(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload(minReadySeconds=20))
        await cluster.clock.sleep(10)
        assert cluster.get(DEPLOYMENTS, "web")["status"]["availableReplicas"] == 0
        await cluster.clock.sleep(20)
        assert cluster.get(DEPLOYMENTS, "web")["status"]["availableReplicas"] == 1
        for replicas in (3, 0):
            deployment = cluster.get(DEPLOYMENTS, "web")
            cluster.api.put(DEPLOYMENTS, {**deployment, "spec": {**deployment["spec"], "replicas": replicas}})
            await cluster.clock.sleep(30)
            assert len(cluster.pods()) == replicas
            assert cluster.get(DEPLOYMENTS, "web")["status"]["replicas"] == replicas


async def test_a_lost_pod_is_replaced_and_history_is_cut(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload(revisionHistoryLimit=1))
        await cluster.clock.sleep(5)
        (name,) = cluster.pod_names()
        cluster.api.remove(PODS, name, "default")
        await cluster.clock.sleep(5)
        assert cluster.pod_names() != [name]
        assert len(cluster.pods()) == 1
        for number in range(3):
            deployment = deepcopy(cluster.get(DEPLOYMENTS, "web"))
            deployment["spec"]["template"] = template("web", priority=number)
            cluster.api.put(DEPLOYMENTS, deployment)
            await cluster.clock.sleep(20)
        revisions = sorted(rs["metadata"]["annotations"][REVISION] for rs in cluster.api.all(REPLICASETS))
    assert revisions == ["3", "4"]


async def test_a_paused_deployment_scales_but_does_not_roll_out(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload())
        await cluster.clock.sleep(5)
        deployment = deepcopy(cluster.get(DEPLOYMENTS, "web"))
        deployment["spec"] |= {"paused": True, "replicas": 2, "template": template("web", priority=9)}
        cluster.api.put(DEPLOYMENTS, deployment)
        await cluster.clock.sleep(10)
        assert len(cluster.api.all(REPLICASETS)) == 1
        assert len(cluster.pods()) == 2
        assert condition(cluster.get(DEPLOYMENTS, "web"), "Progressing")[:2] == (
            "Unknown",
            "DeploymentPaused",
        )


async def test_pods_that_the_api_refuses_are_told(cluster: Cluster) -> None:
    def refuse(request: Any) -> None:
        if request.method == "POST" and request.path.endswith("/pods"):
            raise Forbidden("exceeded quota")

    cluster.api.before = refuse
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload(replicas=3))
        await cluster.clock.sleep(0.004)
        assert len([each for each in cluster.requests() if each.endswith("/pods")]) == 0
        await cluster.clock.sleep(10)
        found = condition(cluster.get(DEPLOYMENTS, "web"), "ReplicaFailure")
        assert found[:2] == ("True", "FailedCreate")
        assert "exceeded quota" in found[2]
        cluster.api.before = None
        cluster.node()
        await cluster.clock.sleep(60)
        assert len(cluster.pods()) == 3
        assert find_condition(cluster.get(DEPLOYMENTS, "web")["status"], "ReplicaFailure") == {}


SERVICE = {
    "metadata": {"name": "web", "namespace": "default", "labels": {"made": "by us"}},
    "spec": {
        "selector": {"app": "web"},
        "clusterIP": "10.96.0.7",
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "torch", "port": 29500}],
    },
}


async def test_a_service_knows_its_pods(cluster: Cluster) -> None:
    cluster.node()
    async with cluster.running():
        cluster.api.put(SERVICES, SERVICE)
        cluster.api.put(DEPLOYMENTS, workload(replicas=2))
        await cluster.clock.sleep(10)
        (found,) = cluster.api.all(ENDPOINTSLICES)
        assert found["addressType"] == "IPv4"
        assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
        assert found["ports"] == [
            {"name": "http", "port": 5000, "protocol": "TCP"},
            {"name": "torch", "port": 29500, "protocol": "TCP"},
        ]
        assert sorted(each["addresses"][0] for each in found["endpoints"]) == ["10.244.0.1", "10.244.0.2"]
        assert found["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}
        endpoints = cluster.get(ENDPOINTS, "web")
        assert len(endpoints["subsets"][0]["addresses"]) == 2
        deployment = cluster.get(DEPLOYMENTS, "web")
        cluster.api.put(DEPLOYMENTS, {**deployment, "spec": {**deployment["spec"], "replicas": 1}})
        await cluster.clock.sleep(1)
        (found,) = cluster.api.all(ENDPOINTSLICES)
        terminating = [each["conditions"] for each in found["endpoints"] if each["conditions"]["terminating"]]
        assert terminating == [{"ready": False, "serving": True, "terminating": True}]
        assert len(cluster.get(ENDPOINTS, "web")["subsets"][0]["addresses"]) == 1
        await cluster.clock.sleep(10)
        (found,) = cluster.api.all(ENDPOINTSLICES)
        assert len(found["endpoints"]) == 1
        cluster.api.remove(SERVICES, "web", "default")
        await cluster.clock.sleep(1)
        assert cluster.api.all(ENDPOINTSLICES) == []
        assert cluster.api.all(ENDPOINTS) == []


def _ready(pod: dict[str, Any]) -> bool:
    return bool(find_condition(pod.get("status") or {}, "Ready").get("status") == "True")
