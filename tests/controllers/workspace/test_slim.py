"""What the caches keep of others' objects: all that is read, and nothing of what makes them large."""

from __future__ import annotations

from typing import Any

from controllers.workspace.builders import gpu_node
from kaito.api.resources import NODEPOOLS
from kaito.controllers.workspace.decide.pods import pod_problem, stand_in_weights
from kaito.controllers.workspace.node_facts import facts_of, read_facts
from kaito.controllers.workspace.slim import apart_from_version, slim_child, slim_node, slim_pod, slim_pool
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import DEPLOYMENTS, NODES, PODS


def cached(tree: dict[str, Any], resource: Any) -> CachedObject:
    return CachedObject.from_dict(tree, resource)


def pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p",
            "namespace": "default",
            "uid": "u",
            "resourceVersion": "7",
            "annotations": {"kaito.sh/stand-in-weights": "tiny", "large": "x" * 10_000},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "c", "env": ["x" * 10_000]}]},
        "status": status,
    }


def test_a_node_keeps_what_is_asked_of_it() -> None:
    node = gpu_node("n", 4, labels={"apps": "phi"})
    node["spec"] = {"taints": [{"key": "team", "effect": "NoSchedule"}], "unschedulable": True}
    node["status"]["images"] = [{"names": ["x" * 200]}] * 50
    slim = slim_node(cached(node, NODES))
    assert read_facts(slim) == facts_of(node)
    assert len(slim.raw) < 1000


def test_a_node_that_merely_lives_on_is_no_news() -> None:
    def beat(version: str, at: str) -> CachedObject:
        node = gpu_node("n")
        node["metadata"]["resourceVersion"] = version
        node["status"]["conditions"][0]["lastHeartbeatTime"] = at
        return slim_node(cached(node, NODES))

    first, second = beat("1", "2026-11-21T12:00:00Z"), beat("2", "2026-11-21T12:05:00Z")
    assert read_facts(first) == read_facts(second)
    assert apart_from_version(first) == apart_from_version(second)


def test_a_pod_keeps_its_node_and_its_troubles() -> None:
    crash = {"name": "c", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    fine = {"name": "d", "ready": True, "image": "x" * 10_000}
    whole = pod(containerStatuses=[fine, crash], conditions=[{"type": "PodScheduled", "status": "True"}])
    slim = slim_pod(cached(whole, PODS))
    tree = slim.decode()
    assert tree["spec"] == {"nodeName": "n"}
    assert pod_problem([tree]) == pod_problem([whole])
    assert pod_problem([tree]) is not None
    assert stand_in_weights([tree]) == "tiny"
    assert len(slim.raw) < 1000
    waits = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}]
    unplaced = pod(conditions=waits)
    assert pod_problem([slim_pod(cached(unplaced, PODS)).decode()]) == pod_problem([unplaced])


def test_a_child_that_may_be_ours_keeps_all_but_its_conditions() -> None:
    owner = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "name": "phi",
        "uid": "w",
        "controller": True,
    }
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A"}]}]}}}
    status = {"readyReplicas": 1, "conditions": [{"type": "Available"}]}
    for metadata in (
        {"name": "phi", "ownerReferences": [owner]},
        {"name": "phi", "labels": {"kaito.sh/workspace": "phi"}},
    ):
        tree = {"metadata": metadata, "spec": spec, "status": status}
        kept = slim_child(cached(tree, DEPLOYMENTS)).decode()
        assert kept["metadata"] == metadata
        assert kept["spec"] == spec
        assert kept["status"] == {"readyReplicas": 1}


def test_of_a_strangers_child_it_is_enough_that_it_is_there_and_what_it_runs() -> None:
    container = {"name": "c", "image": "kaito/workspace:1", "args": ["--x"], "env": ["x" * 10_000]}
    tree = {
        "metadata": {"name": "other", "labels": {"app": "a"}, "annotations": {"large": "x" * 10_000}},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [container], "volumes": ["x" * 10_000]}}},
        "status": {"readyReplicas": 2},
    }
    kept = slim_child(cached(tree, DEPLOYMENTS)).decode()
    assert kept["metadata"] == {"name": "other", "labels": {"app": "a"}}
    assert kept["spec"]["replicas"] == 2
    (runs,) = kept["spec"]["template"]["spec"]["containers"]
    assert runs == {"name": "c", "image": "kaito/workspace:1", "args": ["--x"]}


def test_of_a_pool_only_what_is_counted_and_told_is_kept() -> None:
    labels = {"karpenter.kaito.sh/workspace-name": "phi"}
    reference = {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "default"}
    condition = {"type": "Ready", "status": "True"}
    template = {
        "metadata": {"labels": labels, "annotations": {"a": "b"}},
        "spec": {"nodeClassRef": reference},
    }
    template["spec"]["requirements"] = [{"key": "x", "operator": "Exists"}] * 50
    pool = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": "p", "uid": "u", "resourceVersion": "1", "annotations": {"hash": "x" * 1000}},
        "spec": {"replicas": 2, "template": template, "disruption": {"budgets": [{"nodes": "1"}]}},
        "status": {"conditions": [condition], "resources": {"cpu": "4"}, "nodes": 2},
    }
    kept = slim_pool(CachedObject.from_dict(pool, NODEPOOLS)).decode()
    assert kept["metadata"] == {"name": "p", "uid": "u", "resourceVersion": "1"}
    assert kept["spec"] == {
        "replicas": 2,
        "template": {"metadata": {"labels": labels}, "spec": {"nodeClassRef": reference}},
    }
    assert kept["status"] == {"conditions": [condition]}
