"""What KAITO's controllers rely on: Deployments, StatefulSets and Jobs roll out, scale, and go with what they own."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.runtime.client import PatchType
from kaito.runtime.resources import (
    DEPLOYMENTS,
    ENDPOINTSLICES,
    EVENTS,
    JOBS,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
    Resource,
)
from kaito.testing.backends import READY_NODES, simulated_node
from support.cluster import GC_LIMIT, Object, World

pytestmark = pytest.mark.needs("workloads", "ready-pods")


def template(name: str, **spec: Any) -> Object:
    container = {
        "name": "main",
        "image": "example.com/app:1",
        "ports": [{"name": "http", "containerPort": 80}],
    }
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **spec}}


def workload(world: World, name: str, **spec: Any) -> Object:
    return {
        "metadata": world.meta(name),
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name), **spec},
    }


async def status_of(world: World, resource: Resource, name: str) -> Object:
    found = await world.find(resource, name)
    status: Object = (found or {}).get("status") or {}
    current = found is not None and status.get("observedGeneration") == found["metadata"].get("generation")
    return status if current else {}


async def reaches(world: World, resource: Resource, name: str, **wanted: Any) -> None:
    """Waits for these values in the status of the current generation; 0 is also what is not there."""

    async def there() -> bool:
        status = await status_of(world, resource, name)
        return bool(status) and all(status.get(key, 0) == value for key, value in wanted.items())

    await world.until(there, f"{resource} {name} has {wanted}")


async def pods(world: World, app: str) -> list[Object]:
    found = await world.client.list(PODS, world.namespace, label_selector=f"app={app}")
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


async def all_gone(world: World, *resources: Resource) -> None:
    async def empty() -> bool:
        return not any([await world.client.list(each, world.namespace) for each in resources])

    await world.until(empty, f"no {', '.join(map(str, resources))}", GC_LIMIT)


def owner(obj: Object) -> str:
    (reference,) = obj["metadata"]["ownerReferences"]
    assert reference["controller"] is True
    assert reference["blockOwnerDeletion"] is True
    return str(reference["uid"])


async def test_a_deployment_rolls_out_scales_and_goes(world: World) -> None:
    client, space = world.client, world.namespace
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
    await client.create(SERVICES, {"metadata": world.meta("web"), "spec": service})
    made = await client.create(DEPLOYMENTS, workload(world, "web", replicas=2))
    full = {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2}
    await reaches(world, DEPLOYMENTS, "web", **full)
    conditions = {each["type"]: each for each in (await status_of(world, DEPLOYMENTS, "web"))["conditions"]}
    assert conditions["Available"]["status"] == "True"

    async def progressed() -> bool:
        status = await status_of(world, DEPLOYMENTS, "web")
        reasons = {each["type"]: each["reason"] for each in status["conditions"]}
        return bool(reasons["Progressing"] == "NewReplicaSetAvailable")

    await world.until(progressed, "the rollout is complete")
    (replicaset,) = await client.list(REPLICASETS, space)
    assert owner(replicaset) == made["metadata"]["uid"]
    running = await pods(world, "web")
    assert [owner(each) for each in running] == [replicaset["metadata"]["uid"]] * 2
    assert {each["spec"]["nodeName"] for each in running} == set(READY_NODES), "spread over the nodes"
    assert {each["status"]["phase"] for each in running} == {"Running"}

    async def two_endpoints() -> bool:
        slices = await client.list(ENDPOINTSLICES, space, label_selector="kubernetes.io/service-name=web")
        ready = [e for each in slices for e in each.get("endpoints") or () if e["conditions"]["ready"]]
        return len(ready) == 2

    await world.until(two_endpoints, "the Service leads to both")

    image = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.com/app:2"}
    ]
    await client.patch(DEPLOYMENTS, "web", space, patch=image, patch_type=PatchType.JSON)
    await reaches(world, DEPLOYMENTS, "web", **full)
    await world.until(progressed, "the second rollout is complete")
    assert {each["spec"]["containers"][0]["image"] for each in await pods(world, "web")} == {
        "example.com/app:2"
    }
    revisions = {
        each["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: each["spec"]["replicas"]
        for each in await client.list(REPLICASETS, space)
    }
    assert revisions == {"1": 0, "2": 2}

    for replicas in (3, 0, 1):
        await client.scale(DEPLOYMENTS, "web", space, replicas=replicas)
        await reaches(world, DEPLOYMENTS, "web", replicas=replicas, readyReplicas=replicas)

    await client.delete(DEPLOYMENTS, "web", space)
    await all_gone(world, REPLICASETS, PODS)
    reasons = {each["reason"] for each in await client.list(EVENTS, space)}
    assert {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"} <= reasons


async def test_a_statefulset_keeps_names_and_order(world: World) -> None:
    client, space = world.client, world.namespace
    made = await client.create(
        STATEFULSETS, workload(world, "db", replicas=3, serviceName="db", podManagementPolicy="OrderedReady")
    )
    await reaches(world, STATEFULSETS, "db", replicas=3, readyReplicas=3, availableReplicas=3)
    members = await pods(world, "db")
    assert sorted(each["metadata"]["name"] for each in members) == ["db-0", "db-1", "db-2"]
    assert {owner(each) for each in members} == {made["metadata"]["uid"]}
    by_age = sorted(members, key=lambda each: int(each["metadata"]["labels"]["apps.kubernetes.io/pod-index"]))
    versions = [int(each["metadata"]["resourceVersion"]) for each in by_age]
    assert versions == sorted(versions), "one after the other"
    first = await status_of(world, STATEFULSETS, "db")
    assert first["currentRevision"] == first["updateRevision"]

    image = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.com/app:2"}
    ]
    await client.patch(STATEFULSETS, "db", space, patch=image, patch_type=PatchType.JSON)

    async def rolled() -> bool:
        status = await status_of(world, STATEFULSETS, "db")
        updated = status.get("updateRevision") not in (None, first["updateRevision"])
        return updated and status.get("currentRevision") == status["updateRevision"]

    await world.until(rolled, "every pod is of the new revision")
    assert {each["spec"]["containers"][0]["image"] for each in await pods(world, "db")} == {
        "example.com/app:2"
    }
    await client.scale(STATEFULSETS, "db", space, replicas=1)
    await reaches(world, STATEFULSETS, "db", replicas=1, readyReplicas=1)
    assert [each["metadata"]["name"] for each in await pods(world, "db")] == ["db-0"]
    await client.delete(STATEFULSETS, "db", space)
    await all_gone(world, PODS)


async def test_a_job_ends(world: World) -> None:
    client, space = world.client, world.namespace
    spec = {"completions": 2, "parallelism": 1, "template": template("once", restartPolicy="Never")}
    made = await client.create(JOBS, {"metadata": world.meta("once"), "spec": spec})

    async def complete() -> bool:
        found = await client.get(JOBS, "once", space)
        conditions = (found.get("status") or {}).get("conditions") or ()
        return any(each["type"] == "Complete" and each["status"] == "True" for each in conditions)

    await world.until(complete, "the Job is Complete")
    status = (await client.get(JOBS, "once", space))["status"]
    assert status["succeeded"] == 2
    assert "completionTime" in status
    ended = await pods(world, "once")
    assert [(owner(each), each["status"]["phase"]) for each in ended] == [
        (made["metadata"]["uid"], "Succeeded")
    ] * 2
    await client.delete(JOBS, "once", space)
    await all_gone(world, PODS)


async def test_a_pod_that_fits_nowhere_waits_for_its_node(world: World) -> None:
    client, space = world.client, world.namespace
    body = template("gpu")["spec"]
    body["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "2"}}
    await client.create(PODS, {"metadata": world.meta("gpu", labels={"app": "gpu"}), "spec": body})

    async def scheduled() -> Object:
        pod = await client.get(PODS, "gpu", space)
        conditions = (pod.get("status") or {}).get("conditions") or ()
        return next((dict(each) for each in conditions if each["type"] == "PodScheduled"), {})

    async def refused() -> bool:
        return bool((await scheduled()).get("reason") == "Unschedulable")

    await world.until(refused, "it is said that nothing fits")
    assert "Insufficient nvidia.com/gpu" in (await scheduled())["message"]
    node = f"gpu-{space}"
    await client.create(NODES, simulated_node(node, gpus=2))
    try:

        async def runs() -> bool:
            pod = await client.get(PODS, "gpu", space)
            return bool(pod["spec"].get("nodeName") == node and pod["status"].get("phase") == "Running")

        await world.until(runs, "it runs on the new node")
        await client.delete(PODS, "gpu", space)
        await world.gone(PODS, "gpu")
    finally:
        await client.delete(NODES, node)
