"""Where pods may run: a table of filters in kube-scheduler's words, and the scheduler at work."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from kaito.embedded.workloads.pods import find_condition
from kaito.embedded.workloads.scheduling import (
    NodeOffer,
    PodNeeds,
    explain,
    misfit,
    node_offer,
    pod_needs,
    score,
    shortages,
)
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import NODES, PODS
from kaito.runtime.testing.virtual import VirtualClock
from workloadworld import Cluster, Tree, template

CORDONED = "node(s) were unschedulable"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"


def pod(*containers: Tree, **spec: Any) -> PodNeeds:
    return pod_needs(
        CachedObject.from_dict(
            {
                "metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"containers": containers, **spec},
            }
        )
    )


def node(labels: Tree | None = None, ready: str = "True", room: Tree | None = None, **spec: Any) -> NodeOffer:
    conditions = [{"type": "Ready", "status": ready}]
    return node_offer(
        CachedObject.from_dict(
            {
                "metadata": {"name": "n1", "labels": labels or {}},
                "spec": spec,
                "status": {"allocatable": room or {}, "conditions": conditions},
            }
        )
    )


def needing(**requests: str) -> Tree:
    return {
        "resources": {"requests": {key.replace("gpu", "nvidia.com/gpu"): v for key, v in requests.items()}}
    }


def required(*terms: Tree) -> Tree:
    return {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    }


def term(key: str, operator: str, *values: str, kind: str = "matchExpressions") -> Tree:
    return {kind: [{"key": key, "operator": operator, "values": list(values)}]}


GPU_TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("needs", "offer", "reason"),
    [
        (pod(), node(), ""),
        (pod(), node(unschedulable=True), CORDONED),
        (
            pod(tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]),
            node(unschedulable=True),
            "",
        ),
        (pod(), node(ready="False"), "node(s) had untolerated taint {node.kubernetes.io/not-ready: }"),
        (pod(tolerations=[{"operator": "Exists"}]), node(ready="Unknown"), ""),
        (pod(), node(taints=[GPU_TAINT]), "node(s) had untolerated taint {sku: gpu}"),
        (pod(), node(taints=[{**GPU_TAINT, "effect": "PreferNoSchedule"}]), ""),
        (pod(), node(taints=[{"key": "x", "effect": "NoExecute"}]), "node(s) had untolerated taint {x: }"),
        (pod(tolerations=[{"key": "sku", "value": "gpu"}]), node(taints=[GPU_TAINT]), ""),
        (
            pod(tolerations=[{"key": "sku", "value": "cpu"}]),
            node(taints=[GPU_TAINT]),
            "node(s) had untolerated taint {sku: gpu}",
        ),
        (
            pod(tolerations=[{"key": "sku", "operator": "Exists", "effect": "NoSchedule"}]),
            node(taints=[GPU_TAINT]),
            "",
        ),
        (
            pod(tolerations=[{"key": "sku", "operator": "Exists", "effect": "NoExecute"}]),
            node(taints=[GPU_TAINT]),
            "node(s) had untolerated taint {sku: gpu}",
        ),
        (pod(nodeSelector={"a": "1"}), node({"a": "1", "b": "2"}), ""),
        (pod(nodeSelector={"a": "1"}), node({"a": "2"}), AFFINITY),
        (pod(affinity=required(term("a", "In", "1", "2"))), node({"a": "2"}), ""),
        (pod(affinity=required(term("a", "In", "1"))), node(), AFFINITY),
        (pod(affinity=required(term("a", "NotIn", "1"))), node({"a": "1"}), AFFINITY),
        (pod(affinity=required(term("a", "NotIn", "1"))), node(), ""),
        (pod(affinity=required(term("a", "Exists"))), node({"a": ""}), ""),
        (pod(affinity=required(term("a", "DoesNotExist"))), node({"a": ""}), AFFINITY),
        (pod(affinity=required(term("a", "Gt", "5"))), node({"a": "6"}), ""),
        (pod(affinity=required(term("a", "Gt", "5"))), node({"a": "5"}), AFFINITY),
        (pod(affinity=required(term("a", "Lt", "5"))), node({"a": "4"}), ""),
        (pod(affinity=required(term("a", "Lt", "5"))), node({"a": "x"}), AFFINITY),
        (pod(affinity=required(term("metadata.name", "In", "n1", kind="matchFields"))), node(), ""),
        (pod(affinity=required(term("metadata.name", "In", "n2", kind="matchFields"))), node(), AFFINITY),
        (pod(affinity=required(term("a", "Exists"), term("b", "Exists"))), node({"b": ""}), ""),
        (pod(affinity=required({**term("a", "Exists"), **term("b", "Exists")})), node({"a": ""}), AFFINITY),
        (pod(affinity=required({})), node(), AFFINITY),
        (pod(affinity=required()), node(), AFFINITY),
    ],
)
def test_filters(needs: PodNeeds, offer: NodeOffer, reason: str) -> None:
    assert misfit(needs, offer) == reason


ROOM = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1", "pods": "3"}
PORT = {"ports": [{"containerPort": 80, "hostPort": 80}]}


@pytest.mark.parametrize(
    ("needs", "others", "found"),
    [
        (pod(needing(cpu="2", memory="4096Mi", gpu="1")), [], []),
        (pod(needing(cpu="2001m")), [], ["Insufficient cpu"]),
        (pod(needing(gpu="2", memory="5Gi")), [], ["Insufficient memory", "Insufficient nvidia.com/gpu"]),
        (pod(needing(gpu="1")), [pod(needing(gpu="1"))], ["Insufficient nvidia.com/gpu"]),
        (pod({"resources": {"limits": {"nvidia.com/gpu": "2"}}}), [], ["Insufficient nvidia.com/gpu"]),
        (pod(needing(cpu="1"), needing(cpu="1500m")), [], ["Insufficient cpu"]),
        (pod(needing(cpu="1"), initContainers=[needing(cpu="2")]), [], []),
        (pod(needing(cpu="1"), initContainers=[needing(cpu="3")]), [], ["Insufficient cpu"]),
        (
            pod(needing(cpu="1"), initContainers=[{**needing(cpu="2"), "restartPolicy": "Always"}]),
            [],
            ["Insufficient cpu"],
        ),
        (pod(needing(**{"example.com/dongle": "1"})), [], ["Insufficient example.com/dongle"]),
        (pod(), [pod(), pod(), pod()], ["Too many pods"]),
        (pod(PORT), [pod(PORT)], ["node(s) didn't have free ports for the requested pod ports"]),
        (pod(PORT), [pod()], []),
    ],
)
def test_shortages(needs: PodNeeds, others: list[PodNeeds], found: list[str]) -> None:
    assert shortages(needs, node(room=ROOM), others) == found


def test_preferences_come_before_free_room() -> None:
    preference = {"weight": 5, "preference": term("fast", "Exists")}
    needs = pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}})
    busy = [pod(needing(cpu="1"))]
    assert score(needs, node({"fast": ""}, room=ROOM), busy) > score(needs, node(room=ROOM), [])
    assert score(pod(), node(room=ROOM), []) > score(pod(), node(room=ROOM), busy)


def test_reasons_are_counted_and_sorted() -> None:
    assert explain(0, []) == "no nodes available to schedule pods"
    text = explain(3, [CORDONED, "Insufficient cpu", "Insufficient cpu"])
    assert text == "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu."


def make(name: str, gpus: int = 1, **spec: Any) -> Tree:
    body = template(name, **spec)["spec"]
    body["containers"][0]["resources"] = {"requests": {"nvidia.com/gpu": str(gpus)}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": body}


def unschedulable(pod: Tree) -> str:
    found = find_condition(pod["status"], "PodScheduled")
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    return str(found["message"])


async def test_a_pod_waits_until_a_node_fits(virtual_clock: VirtualClock) -> None:
    cluster = Cluster(virtual_clock)
    async with cluster.running():
        cluster.api.put(PODS, make("p"))
        await virtual_clock.sleep(1)
        assert unschedulable(cluster.get(PODS, "p")) == "no nodes available to schedule pods"
        cluster.node("cordoned", unschedulable=True)
        small = cluster.node("small")
        await virtual_clock.sleep(1)
        message = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) were unschedulable."
        assert unschedulable(cluster.get(PODS, "p")) == message
        assert cluster.events("FailedScheduling")[-1] == message
        before = cluster.requests()
        await virtual_clock.sleep(1000)
        assert cluster.requests() == before, "waiting costs nothing"
        small["status"]["allocatable"]["nvidia.com/gpu"] = "1"
        cluster.api.put(NODES, small)
        await virtual_clock.sleep(1)
        assert cluster.get(PODS, "p")["spec"]["nodeName"] == "small"
        assert cluster.events("Scheduled") == ["Successfully assigned default/p to small"]


async def test_room_that_a_pod_leaves_is_used(virtual_clock: VirtualClock) -> None:
    cluster = Cluster(virtual_clock)
    cluster.node(allocatable={"nvidia.com/gpu": "1"})
    cluster.kubelet.outcome = {"first": "Succeeded"}
    cluster.kubelet.delay = 10
    async with cluster.running():
        cluster.api.put(PODS, make("first"))
        await virtual_clock.sleep(1)
        cluster.api.put(PODS, make("second"))
        await virtual_clock.sleep(5)
        assert "nodeName" not in cluster.get(PODS, "second")["spec"]
        await virtual_clock.sleep(10)
        assert cluster.get(PODS, "second")["spec"]["nodeName"] == "n1"
        cluster.api.put(PODS, make("third"))
        await virtual_clock.sleep(1)
        assert "nodeName" not in cluster.get(PODS, "third")["spec"]
        cluster.api.remove(PODS, "second", "default")
        await virtual_clock.sleep(1)
        assert cluster.get(PODS, "third")["spec"]["nodeName"] == "n1"


async def test_two_pods_never_get_the_same_room(virtual_clock: VirtualClock) -> None:
    """Bindings take a while to show; what was decided meanwhile counts all the same."""
    cluster = Cluster(virtual_clock)
    for name in ("a", "b", "c"):
        cluster.node(name, allocatable={"nvidia.com/gpu": "2"})

    async def slow(request: Any) -> None:
        if request.path.endswith("/binding"):
            await virtual_clock.sleep(3)

    cluster.api.before = slow
    async with cluster.running():
        for number in range(8):
            cluster.api.put(PODS, make(f"p{number}"))
        await virtual_clock.sleep(30)
        nodes = [pod["spec"].get("nodeName") for pod in cluster.pods()]
    assert sorted(filter(None, nodes)) == ["a", "a", "b", "b", "c", "c"]
    assert nodes.count(None) == 2


async def test_others_pods_are_left_alone(virtual_clock: VirtualClock) -> None:
    cluster = Cluster(virtual_clock)
    cluster.node(allocatable={"nvidia.com/gpu": "9"})
    async with cluster.running():
        cluster.api.put(PODS, make("custom", schedulerName="other"))
        await virtual_clock.sleep(1)
        assert "nodeName" not in cluster.get(PODS, "custom")["spec"]
        assert "status" not in cluster.get(PODS, "custom")


async def test_a_gated_pod_waits_for_its_gates_and_no_longer(virtual_clock: VirtualClock) -> None:
    cluster = Cluster(virtual_clock)
    cluster.node(allocatable={"nvidia.com/gpu": "9"})
    async with cluster.running():
        cluster.api.put(PODS, make("gated", schedulingGates=[{"name": "example.com/x"}]))
        await virtual_clock.sleep(1)
        found = deepcopy(cluster.get(PODS, "gated"))
        condition = find_condition(found["status"], "PodScheduled")
        assert (condition["status"], condition["reason"]) == ("False", "SchedulingGated")
        assert condition["message"] == "waits until its scheduling gates are removed: example.com/x"
        assert cluster.events("FailedScheduling") == []
        del found["spec"]["schedulingGates"]
        cluster.api.put(PODS, found)
        await virtual_clock.sleep(1)
        assert cluster.get(PODS, "gated")["spec"]["nodeName"] == "n1"


TERMS = [{"labelSelector": {"matchLabels": {"app": "p"}}, "topologyKey": "kubernetes.io/hostname"}]
REQUIRED = {"requiredDuringSchedulingIgnoredDuringExecution": TERMS}
PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": TERMS[0]}]}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {}}


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (
            {"affinity": {"podAffinity": REQUIRED}},
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution",
        ),
        (
            {"affinity": {"podAntiAffinity": REQUIRED}},
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution",
        ),
        (
            {"topologySpreadConstraints": [{**SPREAD, "whenUnsatisfiable": "DoNotSchedule"}]},
            "spec.topologySpreadConstraints[0] (whenUnsatisfiable: DoNotSchedule)",
        ),
        ({"resourceClaims": [{"name": "gpu"}]}, "spec.resourceClaims"),
    ],
)
async def test_demands_that_are_not_implemented_are_refused_by_name(
    virtual_clock: VirtualClock, spec: dict[str, Any], named: str
) -> None:
    cluster = Cluster(virtual_clock)
    cluster.node(allocatable={"nvidia.com/gpu": "9"})
    async with cluster.running():
        cluster.api.put(PODS, make("p", **spec))
        await virtual_clock.sleep(1)
        assert unschedulable(cluster.get(PODS, "p")).startswith(f"this scheduler does not implement {named}:")
        before = cluster.requests()
        cluster.node("another", allocatable={"nvidia.com/gpu": "9"})
        await virtual_clock.sleep(1000)
        assert "nodeName" not in cluster.get(PODS, "p")["spec"]
        assert cluster.requests() == before, "another node is no news for it"


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": {"podAffinity": PREFERRED, "podAntiAffinity": PREFERRED}},
        {"topologySpreadConstraints": [{**SPREAD, "whenUnsatisfiable": "ScheduleAnyway"}]},
    ],
)
def test_preferences_that_are_not_implemented_are_no_obstacle(spec: dict[str, Any]) -> None:
    assert misfit(pod(**spec), node()) == ""
