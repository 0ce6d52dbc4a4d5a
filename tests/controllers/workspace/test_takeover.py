"""Workspaces of Go KAITO: their workloads and nodes stay as they are until the user changes the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import (
    NOW,
    condition,
    decided,
    gpu_node,
    kinds,
    later,
    rolled_out,
    seed,
    with_status,
    written,
)
from kaito.api.views import InvalidSpec
from kaito.controllers.workspace import Decision, NodeProvisioner, Observed, WorkspaceConfig
from kaito.controllers.workspace.decide.takeover import remembered, spec_hash
from kaito.controllers.workspace.model import Answer
from kaito.runtime.resources import SERVICES
from support import gokaito

Object = dict[str, Any]

CONFIGS = {
    "template": WorkspaceConfig(node_provisioner=NodeProvisioner.BYO),
    "machine-era": WorkspaceConfig(node_provisioner=NodeProvisioner.MACHINE),
}
NODECLAIM = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM)


def config(case: str) -> WorkspaceConfig:
    return CONFIGS.get(case, NODECLAIM)


def adopted(case: str) -> Observed:
    """The case after the first pass."""
    observed = gokaito.observed(case)
    return with_status(observed, decided(observed, config(case)))


def edited(observed: Observed, edit: Callable[[Object], object]) -> Observed:
    """The world after the user changed the Workspace."""
    workspace = copy.deepcopy(observed.workspace)
    edit(workspace)
    workspace["metadata"]["generation"] += 1
    return replace(observed, workspace=workspace)


def with_workload(observed: Observed, workload: Object) -> Observed:
    if workload["kind"] == "Deployment":
        return replace(observed, deployment=workload)
    return replace(observed, stateful_set=workload)


def reasons(decision: Decision) -> list[str]:
    return [event.reason for event in decision.events]


@pytest.mark.parametrize("case", gokaito.CASES)
def test_nothing_but_the_status_is_written(case: str) -> None:
    observed = gokaito.observed(case)
    decision = decided(observed, config(case))
    assert (decision.finalizer, decision.writes, decision.deletions) == (None, (), ())
    for type in ("NodesReady", "ResourceReady", "InferenceReady", "WorkspaceReady", "WorkspaceSucceeded"):
        assert condition(decision.status, type)["status"] == "True", type
    assert decision.status is not None
    assert decision.status["state"] == "Ready"
    assert decision.status["endpoint"] == "http://10.96.44.7"
    assert reasons(decision)[0] == "WorkloadAdopted"

    again = decided(with_status(observed, decision), config(case), later(3600))
    assert (again.writes, again.deletions, again.events) == ((), (), ())
    assert again.status == decision.status, "the second pass has nothing to say"


@pytest.mark.parametrize("case", gokaito.CASES)
def test_what_go_kaito_told_stays(case: str) -> None:
    old = gokaito.observed(case).workspace["status"]
    new = adopted(case).workspace["status"]
    ours = {"NodesReady", "ResourceReady", "InferenceReady", "WorkspaceSucceeded", "NodeClaimReady"}
    kept = [each for each in old["conditions"] if each["type"] not in ours]
    assert [each for each in new["conditions"] if each in kept] == kept
    assert new.get("performance") == old.get("performance")
    assert new["targetNodeCount"] == (old.get("targetNodeCount") or 1)
    assert new["workerNodes"] == old["workerNodes"]


def test_claims_fill_slots_under_their_own_names() -> None:
    status = adopted("multi-node").workspace["status"]
    assert [(each["slot"], each["claimName"], each["state"]) for each in status["nodes"]] == [
        (0, "ws1a2b3c4d5", "Ready"),
        (1, "ws6e7f8a9b0", "Ready"),
    ]
    assert status["instanceType"] == "Standard_ND96isr_H100_v5"


def test_count_buys_no_node_that_go_kaito_did_not() -> None:
    observed = adopted("multi-node")
    assert observed.workspace["resource"]["count"] == 3
    assert decided(observed, NODECLAIM, later(60)).writes == ()


def test_what_this_operator_cannot_serve_runs_on_and_says_so() -> None:
    def unknown(workspace: Object) -> None:
        workspace["inference"]["preset"]["name"] = "no-such-model"

    observed = edited(gokaito.observed("multi-node"), unknown)
    decision = decided(observed, NODECLAIM)
    message = condition(decision.status, "WorkloadAdopted")["message"]
    assert "no-such-model is not known" in message
    assert "could not serve the present spec itself" in message
    assert (
        "could not" not in condition(adopted("single-node").workspace["status"], "WorkloadAdopted")["message"]
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda ws: ws["metadata"].update(labels={"app.kubernetes.io/instance": "other"}),
        lambda ws: ws["metadata"]["annotations"].update({"argocd.argoproj.io/sync-wave": "3"}),
        lambda ws: ws["resource"].pop("count"),
        lambda ws: ws["inference"]["preset"].pop("accessMode"),
        lambda ws: ws["inference"]["preset"].update(presetOptions={}),
        lambda ws: ws["inference"].update(adapters=[], config=""),
        lambda ws: ws["resource"].update(preferredNodes=None),
    ],
    ids=["label", "annotation", "no-count", "no-access-mode", "empty-options", "empty-lists", "null"],
)
def test_the_same_spec_written_otherwise_is_no_change(edit: Callable[[Object], object]) -> None:
    observed = edited(adopted("single-node"), edit)
    decision = decided(observed, NODECLAIM, later(60))
    assert decision.writes == ()
    assert remembered({"status": decision.status}) == remembered(observed.workspace)


@pytest.mark.parametrize(
    "edit",
    [
        lambda ws: ws["inference"].update(config="mine"),
        lambda ws: ws["inference"]["preset"].update(presetOptions={"image": "example.com/mine:1"}),
        lambda ws: ws["resource"].update(count=2),
        lambda ws: ws["resource"]["labelSelector"]["matchLabels"].update(more="label"),
    ],
    ids=["config", "image", "count", "labels"],
)
def test_another_spec_is_a_change(edit: Callable[[Object], object]) -> None:
    observed = adopted("single-node")
    assert spec_hash(observed.workspace) != spec_hash(edited(observed, edit).workspace)


def test_the_hash_stays_what_it_is_over_releases() -> None:
    assert spec_hash(gokaito.observed("single-node").workspace) == "e4a7b67a4a92af8b"


def changed(ws: Object) -> None:
    ws["inference"]["preset"]["presetOptions"] = {"image": "example.com/mine:1"}


@pytest.mark.parametrize(
    ("case", "workload"), [("single-node", "StatefulSet"), ("machine-era", "Deployment")]
)
def test_a_changed_spec_replaces_the_workload_in_place(case: str, workload: str) -> None:
    observed = edited(adopted(case), changed)
    decision = decided(observed, config(case), later(60))
    assert decision.deletions == ()
    write = decision.writes[-1]
    assert (write.resource.kind, write.verb) == (workload, "adopt")
    assert write.before is not None
    assert write.before.reason == "WorkloadReplaced"
    assert "its pods restart" in write.before.message
    (container,) = write.body["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example.com/mine:1"
    assert decision.status is not None
    assert all(each["type"] != "WorkloadAdopted" for each in decision.status["conditions"])
    assert remembered({"status": decision.status}) == remembered(observed.workspace), (
        "kept until the write is known to have been done: without it the new spec would be adopted instead"
    )
    assert [each["claimName"] for each in decision.status["nodes"]] == ["ws1a2b3c4d5"], "the node stays"

    done = with_workload(with_status(observed, decision), rolled_out(write.body))
    after = decided(done, config(case), later(120))
    assert [each for each in after.writes if each.resource.kind == workload] == []
    assert after.status is not None
    assert set(after.status["resolved"]) == {"serving"}
    assert condition(after.status, "WorkspaceReady")["status"] == "True"


def test_the_service_keeps_its_address_and_its_way_to_the_pod() -> None:
    observed = edited(adopted("single-node"), changed)
    services = [
        each.body for each in decided(observed, NODECLAIM, later(60)).writes if each.resource == SERVICES
    ]
    body = next(each for each in services if each["metadata"]["name"] == "workspace-phi-4-mini")
    assert "clusterIP" not in body["spec"]
    assert body["spec"]["selector"].items() <= observed.pods[0]["metadata"]["labels"].items()
    assert body["spec"]["publishNotReadyAddresses"] is False
    assert {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 5000} in body["spec"]["ports"]


def test_the_hub_is_not_asked_about_an_adopted_model_before_its_spec_changes() -> None:
    observed = adopted("multi-node")
    assert decided(observed, NODECLAIM, later(60)).needs == ()
    message = condition(observed.workspace["status"], "WorkloadAdopted")["message"]
    assert "then the hub is asked about deepseek-ai/DeepSeek-R1" in message


def test_a_change_that_cannot_be_served_leaves_the_old_model_running() -> None:
    observed = edited(adopted("multi-node"), lambda ws: ws["inference"].update(config="mine"))
    decision = decided(observed, NODECLAIM, later(60))
    assert (decision.writes, decision.deletions) == ((), ())
    assert condition(decision.status, "ModelLookup")["status"] == "True"
    (need,) = decision.needs
    refused = Answer(reason="ModelNotFound", message="the hub has no such model")
    decision = decided(
        replace(with_status(observed, decision), answers={need: refused}), NODECLAIM, later(60)
    )
    assert (decision.writes, decision.deletions) == ((), ())
    assert condition(decision.status, "ModelNotFound")["status"] == "True"
    assert remembered({"status": decision.status}) is not None
    back = edited(with_status(observed, decision), lambda ws: ws["inference"].pop("config"))
    decision = decided(back, NODECLAIM, later(120))
    assert decision.writes == ()
    assert condition(decision.status, "WorkspaceReady")["status"] == "True"
    assert condition(decision.status, "WorkloadAdopted")["status"] == "True"


def test_a_change_made_while_nobody_looked_is_told_and_not_applied() -> None:
    observed = edited(gokaito.observed("single-node"), changed)
    decision = decided(observed, NODECLAIM)
    assert decision.writes == ()
    message = condition(decision.status, "WorkloadAdopted")["message"]
    assert "`kubectl delete statefulset workspace-phi-4-mini` has it made anew" in message
    again = decided(with_status(observed, decision), NODECLAIM, later(60))
    assert condition(again.status, "WorkloadAdopted")["message"] == message
    assert (
        "kubectl delete"
        not in condition(adopted("single-node").workspace["status"], "WorkloadAdopted")["message"]
    )


def test_a_workload_that_the_user_deletes_is_made_anew() -> None:
    observed = replace(adopted("single-node"), stateful_set=None, pods=())
    decision = decided(observed, NODECLAIM, later(60))
    assert kinds(decision) == ["Service", "Deployment"]
    assert decision.status is not None
    assert set(decision.status["resolved"]) == {"serving"}


def test_a_node_that_is_lost_is_replaced() -> None:
    observed = adopted("multi-node")
    first, second = observed.claims
    decision = decided(replace(observed, claims=(second,)), NODECLAIM, later(60))
    claim = written(decision, "NodeClaim")
    assert claim["spec"]["requirements"][1]["values"] == ["Standard_ND96isr_H100_v5"]
    assert claim["metadata"]["labels"]["kaito.sh/node-slot"] == "0"
    assert decision.replaces is not None
    assert set(decision.replaces) == {second["metadata"]["uid"]}
    assert first["metadata"]["name"] != claim["metadata"]["name"]


def test_nodes_beyond_the_count_are_given_back_once_the_workload_runs_without_them() -> None:
    def smaller(ws: Object) -> None:
        ws["resource"]["count"] = 1
        ws["inference"]["preset"]["name"] = "phi-4-mini-instruct"

    observed = edited(adopted("multi-node"), smaller)
    decision = decided(observed, NODECLAIM, later(60))
    assert decision.deletions == ()
    write = decision.writes[-1]
    assert (write.resource.kind, write.body["spec"]["replicas"]) == ("StatefulSet", 1)
    first, second = observed.claims
    observed = with_status(replace(observed, stateful_set={**write.body, "status": {}}), decision)
    assert decided(observed, NODECLAIM, later(70)).deletions == (), "its pods are not there yet"
    observed = replace(observed, stateful_set=rolled_out(write.body))
    assert decided(observed, NODECLAIM, later(80)).deletions == (), "its pods run on both"
    observed = replace(observed, pods=observed.pods[:1])
    (given_back,) = decided(observed, NODECLAIM, later(90)).deletions
    assert (given_back.name, given_back.uid) == (second["metadata"]["name"], second["metadata"]["uid"])
    assert observed.pods[0]["spec"]["nodeName"] == first["status"]["nodeName"]


def test_without_claims_of_a_known_kind_nothing_is_bought() -> None:
    observed = gokaito.observed("single-node")
    for provisioner in (NodeProvisioner.MACHINE, NodeProvisioner.BYO):
        decision = decided(
            replace(observed, claims=()), WorkspaceConfig(node_provisioner=provisioner), later(60)
        )
        assert decision.writes == ()
        assert condition(decision.status, "WorkspaceReady")["status"] == "True"
        assert decision.status is not None
        assert decision.status["workerNodes"] == ["aks-ws1a2b3c4d5-12345678-vmss000000"]


def test_a_model_that_stops_answering_is_told() -> None:
    observed = adopted("single-node")
    assert observed.stateful_set is not None
    down = {**observed.stateful_set, "status": {**observed.stateful_set["status"], "readyReplicas": 0}}
    waiting = {"name": "c", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    pod = {**observed.pods[0], "status": {"containerStatuses": [waiting]}}
    decision = decided(replace(observed, stateful_set=down, pods=(pod,)), NODECLAIM, later(60))
    assert condition(decision.status, "InferenceReady")["reason"] == "ContainerCrashLoopBackOff"
    assert decision.status is not None
    assert decision.status["state"] == "NotReady"
    assert decision.writes == ()


def test_an_unready_node_is_told() -> None:
    observed = adopted("single-node")
    ((name, _),) = observed.nodes.items()
    decision = decided(replace(observed, nodes={name: gpu_node(name, ready="False")}), NODECLAIM, later(60))
    assert condition(decision.status, "NodesReady")["reason"] == "NodeNotReady"
    assert decision.writes == ()


def test_a_missing_service_is_made_for_the_first_pod() -> None:
    observed = replace(gokaito.observed("single-node"), service=None)
    service = written(decided(observed, NODECLAIM), "Service")
    assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "workspace-phi-4-mini-0"


def test_a_workload_without_the_annotation_that_was_ours_is_not_adopted() -> None:
    observed = gokaito.observed("single-node")
    assert observed.stateful_set is not None
    theirs = copy.deepcopy(observed.stateful_set)
    theirs["metadata"].pop("annotations")
    workspace = {**observed.workspace, "status": {**observed.workspace["status"], "reason": "Ready"}}
    decision = decided(replace(observed, workspace=workspace, stateful_set=theirs), NODECLAIM)
    assert decision.writes[-1].verb == "adopt"


def test_a_spec_that_does_not_fit_this_api_runs_on() -> None:
    observed = gokaito.observed("single-node")
    workspace = {**observed.workspace, "resource": "nonsense"}
    workspace["status"] = {**workspace["status"], "resolved": ["of another time"]}
    observed = replace(observed, workspace=workspace, invalid=InvalidSpec("resource", "is no object"))
    decision = decided(observed, NODECLAIM)
    assert decision.writes == ()
    assert condition(decision.status, "WorkspaceReady")["status"] == "True"
    assert "resource: is no object" in condition(decision.status, "WorkloadAdopted")["message"]


def test_a_workload_of_somebody_else_is_never_adopted() -> None:
    observed = gokaito.observed("single-node")
    assert observed.stateful_set is not None
    theirs = copy.deepcopy(observed.stateful_set)
    theirs["metadata"]["ownerReferences"][0]["uid"] = "uid-of-another"
    decision = decided(replace(observed, stateful_set=theirs), NODECLAIM)
    assert condition(decision.status, "NameTaken")["status"] == "True"


def test_a_workspace_whose_node_is_being_made_goes_on_with_that_node() -> None:
    observed = gokaito.observed("starting")
    decision = decided(observed, NODECLAIM)
    assert "NodeClaim" not in kinds(decision)
    assert decision.status is not None
    assert [each["claimName"] for each in decision.status["nodes"]] == ["ws1a2b3c4d5"]
    assert condition(decision.status, "NodeClaimReady")["reason"] == "NodeNotFound"


@pytest.mark.parametrize("case", gokaito.CASES)
def test_deletion_takes_the_workload_first_and_then_the_claims(case: str) -> None:
    observed = adopted(case)
    workspace = copy.deepcopy(observed.workspace)
    workspace["metadata"]["deletionTimestamp"] = "2026-11-21T13:00:00Z"
    observed = replace(observed, workspace=workspace)
    first = decided(observed, config(case), NOW)
    assert [each.resource.kind for each in first.deletions] == [
        "Deployment" if case == "machine-era" else "StatefulSet"
    ]
    observed = replace(observed, deployment=None, stateful_set=None, pods=())
    second = decided(observed, config(case), later(10))
    assert {each.name for each in second.deletions} == {each["metadata"]["name"] for each in observed.claims}
    last = decided(replace(observed, claims=()), config(case), later(20))
    assert last.finalizer == "remove"


def test_a_tuning_job_of_go_kaito_keeps_what_was_told_of_it() -> None:
    told = [
        {
            "type": "JobStarted",
            "status": "True",
            "reason": "WorkspaceTuningJobStatusStarted",
            "message": "started",
        },
        {"type": "WorkspaceSucceeded", "status": "True", "reason": "workspaceSucceeded", "message": "done"},
    ]
    made = seed("tuning")
    observed = Observed({**made, "status": {"state": "Succeeded", "conditions": told}})
    decision = decided(observed, NODECLAIM)
    assert (decision.writes, decision.deletions, decision.finalizer) == ((), (), None)
    assert decision.status is not None
    assert decision.status["state"] == "Succeeded"
    assert decision.status["conditions"][:2] == told
    assert "neither followed" in condition(decision.status, "TuningNotImplemented")["message"]
    assert reasons(decision) == ["TuningNotImplemented"]
    again = decided(with_status(observed, decision), NODECLAIM, later(60))
    assert (again.status, again.events) == (decision.status, ())
    ours = decided(Observed(made), NODECLAIM)
    assert condition(ours.status, "JobStarted")["reason"] == "TuningNotImplemented"
