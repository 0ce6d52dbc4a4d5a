"""The workload controllers on the embedded API server: real defaulting, validation, binding, garbage collection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kaito.embedded import workloads
from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.embedded.workloads.pods import find_condition
from kaito.runtime.client import Client, PatchType, RequestRecord
from kaito.runtime.manager import Manager
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import (
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    JOBS,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    STATEFULSETS,
)
from kaito.runtime.testing.virtual import VirtualClock
from workloadworld import Kubelet, Tree, template, workload


class World:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.server = ApiServer(ApiServerOptions(clock=clock))
        self.requests: list[RequestRecord] = []
        self.client = self.named("user")
        self.manager = Manager(self.named("workloads", observe=True), clock=clock)
        self.kubelet = Kubelet(self.named("kubelet"), clock)

    def named(self, agent: str, *, observe: bool = False) -> Client:
        transport = MemoryTransport(self.server.handle, self.clock)
        observer = self.requests.append if observe else None
        return Client(transport, clock=self.clock, user_agent=agent, observer=observer)

    async def node(self, name: str, **allocatable: str) -> None:
        await self.client.create(
            NODES, {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
        )
        room = {"cpu": "64", "memory": "256Gi", "pods": "1000", **allocatable}
        ready = {"type": "Ready", "status": "True"}
        await self.client.patch_status(NODES, name, None, {"allocatable": room, "conditions": [ready]})

    def writes(self) -> list[str]:
        return [
            f"{each.method} {each.path}"
            for each in self.requests
            if each.method != "GET" and "/events" not in each.path
        ]


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[World]:
    world = World(virtual_clock)
    workloads.setup(world.manager)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(world.manager.run(stop)), asyncio.create_task(world.kubelet.run())]
    yield world
    stop.set()
    await tasks[0]
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await world.server.stop()


def deployment(name: str, **spec: Any) -> Tree:
    body = workload(name, **spec)
    return {"apiVersion": "apps/v1", "kind": "Deployment", **body}


async def test_a_deployment_with_a_service_from_birth_to_death(world: World) -> None:
    await world.node("n1")
    ports = [{"port": 80, "targetPort": "http"}]
    service = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": ports},
    }
    await world.client.create(SERVICES, service)
    await world.client.create(DEPLOYMENTS, deployment("web", replicas=2))
    await world.clock.sleep(10)
    found = await world.client.get(DEPLOYMENTS, "web", "default")
    assert found["status"]["availableReplicas"] == 2
    assert find_condition(found["status"], "Progressing")["reason"] == "NewReplicaSetAvailable"
    (replicaset,) = await world.client.list(REPLICASETS, "default")
    pods = await world.client.list(PODS, "default")
    assert [pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods] == [
        replicaset["metadata"]["uid"]
    ] * 2
    assert find_condition(pods[0]["status"], "PodScheduled")["status"] == "True"
    (slice_,) = await world.client.list(
        ENDPOINTSLICES, "default", label_selector="kubernetes.io/service-name=web"
    )
    assert len(slice_["endpoints"]) == 2
    assert slice_["ports"] == [{"name": "", "port": 5000, "protocol": "TCP"}]
    endpoints = await world.client.get(ENDPOINTS, "web", "default")
    assert len(endpoints["subsets"][0]["addresses"]) == 2

    settled = world.writes()
    await world.client.patch(
        DEPLOYMENTS, "web", "default", patch={"metadata": {"labels": {"touched": "yes"}}}
    )
    await world.client.patch(
        SERVICES, "web", "default", patch={"metadata": {"annotations": {"touched": "yes"}}}
    )
    await world.clock.sleep(600)
    assert world.writes() == settled

    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "img:2"}]

    await world.client.patch(DEPLOYMENTS, "web", "default", patch=image, patch_type=PatchType.JSON)
    await world.clock.sleep(30)
    pods = await world.client.list(PODS, "default")
    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["img:2"] * 2

    await world.client.delete(DEPLOYMENTS, "web", "default")
    await world.client.delete(SERVICES, "web", "default")
    await world.clock.sleep(30)
    for resource in (REPLICASETS, PODS):
        assert await world.client.list(resource, "default") == []
    left = await world.client.list(ENDPOINTSLICES, "default", label_selector="kubernetes.io/service-name=web")
    assert left == []
    reasons = {event["reason"] for event in await world.client.list(EVENTS, "default")}
    assert {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"} <= reasons


async def test_statefulsets_and_jobs(world: World) -> None:
    await world.node("n1")
    world.kubelet.outcome = {"work": "Succeeded"}
    await world.client.create(STATEFULSETS, workload("db", replicas=2, serviceName="db"))
    body = {"metadata": {"name": "work", "namespace": "default"}}
    spec = {"completions": 2, "template": template("work", restartPolicy="Never")}
    await world.client.create(JOBS, {**body, "spec": spec})
    await world.clock.sleep(20)
    statefulset = await world.client.get(STATEFULSETS, "db", "default")
    assert statefulset["status"]["readyReplicas"] == 2
    assert statefulset["status"]["currentRevision"] == statefulset["status"]["updateRevision"]
    job = await world.client.get(JOBS, "work", "default")
    assert find_condition(job["status"], "Complete")["status"] == "True"
    settled = world.writes()
    for resource, name in ((STATEFULSETS, "db"), (JOBS, "work")):
        await world.client.patch(
            resource, name, "default", patch={"metadata": {"labels": {"touched": "yes"}}}
        )
    await world.clock.sleep(600)
    assert world.writes() == settled


async def test_an_unschedulable_pod_says_why(world: World) -> None:
    await world.node("n1")
    body = template("gpu")["spec"]
    body["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    await world.client.create(PODS, {"metadata": {"name": "gpu", "namespace": "default"}, "spec": body})
    await world.clock.sleep(5)
    pod = await world.client.get(PODS, "gpu", "default")
    condition = find_condition(pod["status"], "PodScheduled")
    assert condition["reason"] == "Unschedulable"
    assert condition["message"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    await world.node("n2", **{"nvidia.com/gpu": "1"})
    await world.clock.sleep(5)
    assert (await world.client.get(PODS, "gpu", "default"))["spec"]["nodeName"] == "n2"


async def test_three_hundred_deployments_converge_without_needless_writes(world: World) -> None:
    for number in range(10):
        await world.node(f"n{number}")
    world.kubelet.delay = 0.0
    for number in range(300):
        await world.client.create(DEPLOYMENTS, deployment(f"d{number}"))
    await world.clock.sleep(5)
    found = await world.client.list(DEPLOYMENTS, "default")
    assert all((each.get("status") or {}).get("availableReplicas") == 1 for each in found)
    nodes = Counter(pod["spec"]["nodeName"] for pod in await world.client.list(PODS))
    assert len(nodes) == 10, "pods are spread"
    kinds = Counter(each.split()[0] + " " + _kind(each) for each in world.writes())
    assert kinds["POST pods"] == kinds["POST replicasets"] == kinds["POST pods/binding"] == 300
    assert kinds["PATCH deployments/status"] <= 300 * 4
    assert kinds["PATCH replicasets/status"] <= 300 * 3
    assert sum(kinds.values()) <= 300 * 11, kinds


def _kind(write: str) -> str:
    parts = write.split()[1].split("/namespaces/")[1].split("/")
    return parts[1] + (f"/{parts[3]}" if len(parts) > 3 else "")
