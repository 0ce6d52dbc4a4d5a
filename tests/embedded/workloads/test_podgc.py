"""Pods whose node is gone."""

from __future__ import annotations

from kaito.runtime.resources import DEPLOYMENTS, NODES
from kaito.runtime.testing.virtual import VirtualClock
from workloadworld import Cluster, workload


async def test_pods_of_a_node_that_is_gone_are_removed_and_made_elsewhere(
    virtual_clock: VirtualClock,
) -> None:
    cluster = Cluster(virtual_clock)
    cluster.node("n1")
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload())
        await virtual_clock.sleep(5)
        (first,) = cluster.pod_names()
        cluster.api.remove(NODES, "n1")
        cluster.node("n2")
        await virtual_clock.sleep(30)
        assert cluster.pod_names() == [first], "the node may come back"
        await virtual_clock.sleep(20)
        (pod,) = cluster.pods()
    assert pod["metadata"]["name"] != first
    assert pod["spec"]["nodeName"] == "n2"


async def test_a_node_that_comes_back_keeps_its_pods(virtual_clock: VirtualClock) -> None:
    cluster = Cluster(virtual_clock)
    cluster.node("n1")
    async with cluster.running():
        cluster.api.put(DEPLOYMENTS, workload())
        await virtual_clock.sleep(5)
        (first,) = cluster.pod_names()
        cluster.api.remove(NODES, "n1")
        await virtual_clock.sleep(20)
        cluster.node("n1")
        await virtual_clock.sleep(100)
        assert cluster.pod_names() == [first]
