"""A Workspace's life, decision by decision: nodes, workload, readiness, edits, nothing more to do."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from controllers.workspace.builders import (
    CONFIG,
    NOW,
    Object,
    adapter_status,
    alive,
    condition,
    decided,
    kinds,
    later,
    provisioned,
    seed,
    served,
    settled,
    step,
    workspace,
    written,
)
from kaito.controllers.workspace import NodeProvisioner, Observed, WorkspaceConfig
from kaito.controllers.workspace.act import headline, merge_patch

NODECLAIM = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM)
TINY = WorkspaceConfig(stand_in_weights="tiny-phi-3")


@pytest.mark.parametrize("config", [CONFIG, NODECLAIM], ids=["machine", "nodeclaim"])
def test_the_seed_goes_from_nothing_to_served(config: WorkspaceConfig) -> None:
    observed, first = step(Observed(seed("inference")), config)
    claim_kind = config.node_provisioner.claims
    assert claim_kind is not None
    assert kinds(first) == [claim_kind.kind, "Service"]
    assert condition(first.status, "ResourceReady")["status"] == "False"
    assert condition(first.status, "InferenceReady")["message"] == "waits for its nodes"
    assert first.status is not None
    assert first.status["state"] == "Pending"
    assert first.status["reason"] == "NodeClaimNotReady"
    assert first.status["instanceType"] == "Standard_NC6s_v3"
    assert [event.reason for event in first.events] == ["InstanceTypeRetired"]
    assert "retired Standard_NC6s_v3 on 2025-09-30; sizes that fit:" in first.events[0].message

    observed, second = step(provisioned(observed), config)
    assert kinds(second) == ["Deployment"]
    for type in ("NodeClaimReady", "NodesReady", "ResourceReady"):
        assert condition(second.status, type)["status"] == "True"
    assert second.status is not None
    assert second.status["workerNodes"] == list(observed.nodes)
    assert second.status["endpoint"] == "http://10.96.0.7"
    assert second.status["reason"] == "ModelStarting"
    assert condition(second.status, "InferenceReady")["reason"] == "WorkspaceInferenceStatusPending"

    observed, third = step(served(observed), config)
    assert kinds(third) == []
    for type in ("InferenceReady", "WorkspaceReady", "WorkspaceSucceeded"):
        assert condition(third.status, type)["status"] == "True"
    assert third.status is not None
    assert (third.status["state"], third.status["reason"]) == ("Ready", "Ready")
    assert [event.reason for event in third.events] == ["WorkspaceReady"]


def test_a_settled_world_asks_for_nothing() -> None:
    observed = settled(seed("inference"))
    again = decided(observed, now=later(3600))
    assert again.writes == ()
    assert again.deletions == ()
    assert again.events == ()
    assert again.finalizer is None
    assert again.requeue_after is None
    assert again.status == observed.workspace["status"]
    assert merge_patch(observed.workspace["status"], again.status) == {}


def test_the_first_pass_adopts_the_workspace() -> None:
    fresh = seed("inference")
    fresh["metadata"]["finalizers"] = ["somebody/else"]
    assert decided(Observed(fresh)).finalizer == "add"
    assert decided(Observed(seed("inference"))).finalizer is None


def test_times_move_only_with_a_condition() -> None:
    observed, _ = step(Observed(seed("inference")))
    observed, second = step(provisioned(observed), now=later(60))
    assert condition(second.status, "ResourceReady")["lastTransitionTime"] == "2026-11-21T13:01:00Z"
    assert condition(second.status, "InferenceReady")["lastTransitionTime"] == "2026-11-21T13:00:00Z"
    assert condition(second.status, "InferenceReady")["observedGeneration"] == 1


def test_words_alone_are_no_headline() -> None:
    observed, first = step(Observed(seed("inference")))
    claim = dict(observed.claims[0])
    claim["status"] = {
        "conditions": [
            {
                "type": "MachineLaunched",
                "status": "Unknown",
                "reason": "LaunchInProgress",
                "message": "creating",
            }
        ]
    }
    second = decided(replace(observed, claims=(claim,)))
    assert first.status is not None
    assert second.status is not None
    assert condition(second.status, "ResourceReady")["reason"] == "LaunchInProgress"
    assert headline(first.status) == headline(second.status)
    third = decided(provisioned(observed))
    assert third.status is not None
    assert headline(third.status) != headline(first.status)


@pytest.mark.parametrize(
    ("change", "shows"),
    [
        ({"config": "my-config"}, "--config=/mnt/config/inference_config.yaml"),
        ({"adapters": [{"adapterRef": {"name": "shared"}, "strength": "0.5"}]}, "--adapter=shared=0.5"),
    ],
)
def test_edits_roll_out(change: Object, shows: str) -> None:
    observed = settled(workspace(), TINY)
    edited = {**observed.workspace, "inference": {**observed.workspace["inference"], **change}}
    edited["metadata"] = {**edited["metadata"], "generation": 2}
    shared = alive(
        {
            "metadata": {"name": "shared", "namespace": "default"},
            "spec": {"source": {"image": "registry/adapter:1"}},
            "status": adapter_status(),
        }
    )
    decision = decided(
        replace(observed, workspace=edited, adapters={"shared": shared}, config_hash="1234"), TINY
    )
    body = written(decision, "Deployment")
    assert shows in body["spec"]["template"]["spec"]["containers"][0]["args"]
    assert condition(decision.status, "InferenceReady")["status"] == "False"
    assert condition(decision.status, "InferenceReady")["message"] == "Deployment phi is being rolled out"
    assert decision.status is not None
    assert decision.status["state"] == "NotReady"
    assert [event.reason for event in decision.events] == ["WorkspaceNotReady"]


def test_what_somebody_else_changed_is_put_back() -> None:
    observed = settled(workspace())
    assert observed.service is not None
    spec = {**observed.service["spec"], "type": "NodePort"}
    decision = decided(replace(observed, service={**observed.service, "spec": spec}))
    assert kinds(decision) == ["Service"]
    assert observed.deployment is not None
    metadata = {**observed.deployment["metadata"], "generation": 2}
    spec = {**observed.deployment["spec"], "replicas": 0}
    decision = decided(
        replace(observed, deployment={**observed.deployment, "metadata": metadata, "spec": spec})
    )
    assert kinds(decision) == ["Deployment"]
    metadata = {**observed.deployment["metadata"], "labels": {}}
    decision = decided(replace(observed, deployment={**observed.deployment, "metadata": metadata}))
    assert kinds(decision) == ["Deployment"]


def test_a_value_that_the_server_writes_in_its_own_way_does_not_hold_up_readiness() -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i", "odd": "1"}]}}
    observed = settled(workspace(None, inference={"template": template}))
    assert observed.deployment is not None
    changed = copy.deepcopy(observed.deployment)
    changed["spec"]["template"]["spec"]["containers"][0]["odd"] = "one"
    changed["metadata"]["uid"] = "another"
    decision = decided(replace(observed, deployment=changed))
    assert kinds(decision) == ["Deployment"]
    assert condition(decision.status, "InferenceReady")["status"] == "True"


def test_a_load_balancer_and_an_external_address() -> None:
    observed = settled(workspace(annotations={"kaito.sh/enablelb": "True"}))
    assert observed.service is not None
    assert observed.service["spec"]["type"] == "LoadBalancer"
    service = dict(observed.service)
    service["metadata"] = {
        **service["metadata"],
        "annotations": {
            **service["metadata"]["annotations"],
            "kaito.sh/external-url": "http://127.0.0.1:4000",
        },
    }
    decision = decided(replace(observed, service=service))
    assert decision.writes == ()
    assert decision.status is not None
    assert decision.status["endpoint"] == "http://127.0.0.1:4000"
    assert (
        settled(workspace(annotations={"kaito.sh/enablelb": "true"})).service["spec"]["type"] == "ClusterIP"
    )  # type: ignore[index]


def test_several_nodes_serve_copies_of_a_small_model() -> None:
    observed = settled(workspace(resource={"count": 3}))
    assert observed.deployment is not None
    assert observed.deployment["spec"]["replicas"] == 3
    assert observed.stateful_set is None
    assert len(observed.claims) == 3
    assert observed.workspace["status"]["targetNodeCount"] == 3
    assert len(observed.workspace["status"]["workerNodes"]) == 3


def test_several_nodes_serve_one_large_model_together() -> None:
    large = workspace("deepseek-v3-0324", instance_type="Standard_NC80adis_H100_v5", resource={"count": 6})
    observed = settled(large, gpus=2)
    assert observed.deployment is None
    assert observed.stateful_set is not None
    assert observed.stateful_set["spec"]["podManagementPolicy"] == "Parallel"
    assert observed.stateful_set["spec"]["serviceName"] == "phi-headless"
    assert observed.headless is not None
    assert observed.service is not None
    assert observed.service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "phi-0"
    args = observed.stateful_set["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--rendezvous=phi-0.phi-headless.default.svc.cluster.local:29500" in args
    assert observed.workspace["status"]["state"] == "Ready"


def test_a_stateful_set_of_another_operator_is_adopted() -> None:
    observed, _ = step(Observed(workspace()))
    observed = provisioned(observed)
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "phi",
            "namespace": "default",
            "uid": "uid-of-theirs",
            "generation": 3,
            "labels": {"kaito.sh/workspace": "phi"},
        },
        "spec": {
            "replicas": 1,
            "serviceName": "phi-headless",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"kaito.sh/workspace": "phi", "extra": "label"}},
            "template": {"spec": {"containers": [{"name": "phi", "image": "theirs"}]}},
        },
    }
    decision = decided(replace(observed, stateful_set=theirs))
    assert kinds(decision) == ["Service", "StatefulSet"]
    write = decision.writes[-1]
    assert write.verb == "adopt"
    assert write.event is not None
    assert write.event.reason == "WorkloadAdopted"
    assert write.body["spec"]["selector"] == theirs["spec"]["selector"]
    assert write.body["spec"]["template"]["metadata"]["labels"]["extra"] == "label"
    observed, _ = step(replace(observed, stateful_set=theirs))
    observed, last = step(served(observed))
    assert condition(last.status, "WorkspaceReady")["status"] == "True"
    assert observed.deployment is None


def test_stand_in_weights_are_said_plainly() -> None:
    observed, _ = step(Observed(seed("inference")), TINY)
    observed, _ = step(provisioned(observed), TINY)
    pod = {
        "metadata": {
            "name": "p",
            "namespace": "default",
            "annotations": {"kaito.sh/stand-in-weights": "tiny-phi-3"},
        }
    }
    observed, decision = step(replace(served(observed), pods=(pod,)), TINY)
    assert (
        "the stand-in weights tiny-phi-3 answer, not the real model"
        in (condition(decision.status, "InferenceReady")["message"])
    )
    assert [event.reason for event in decision.events] == ["WorkspaceReady", "StandInWeights"]
    assert decision.events[0].message == (
        "phi-3-mini-4k-instruct served on 1 node; the stand-in weights tiny-phi-3 answer, not the real model; "
        "address: http://10.96.0.7"
    )
    assert decided(observed, TINY).events == ()


def test_a_node_that_falls_ill_is_reported_and_the_workload_stays() -> None:
    observed = settled(workspace())
    (name,) = observed.nodes
    node = {**observed.nodes[name], "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    decision = decided(replace(observed, nodes={name: node}))
    assert decision.writes == ()
    assert condition(decision.status, "ResourceReady")["reason"] == "NodeNotReady"
    assert condition(decision.status, "WorkspaceReady")["status"] == "False"
    assert decision.status is not None
    assert decision.status["state"] == "NotReady"
    assert "workerNodes" not in decision.status


def test_pods_wait_for_the_device_plugin() -> None:
    observed, _ = step(Observed(workspace()))
    decision = decided(provisioned(observed, gpus=0))
    assert kinds(decision) == []
    assert condition(decision.status, "NodesReady")["reason"] == "NodePluginsNotReady"
    assert "0 of 1 GPUs" in condition(decision.status, "ResourceReady")["message"]


def test_a_model_for_the_cpu_asks_for_no_gpu() -> None:
    observed, _ = step(Observed(workspace("tiny-phi-3", instance_type="Standard_D4s_v5")))
    decision = decided(provisioned(observed, gpus=0))
    container = written(decision, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "250m", "memory": "1027Mi"}}


def test_foreign_statuses_are_left_alone() -> None:
    fresh = seed("inference")
    fresh["status"] = {
        "resolved": {"revision": "abc"},
        "conditions": [{"type": "BenchmarkCompleted", "status": "True"}],
    }
    decision = decided(Observed(fresh), now=NOW)
    assert decision.status is not None
    assert decision.status["resolved"]["revision"] == "abc"
    assert condition(decision.status, "BenchmarkCompleted")["status"] == "True"
