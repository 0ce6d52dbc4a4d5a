"""What a GitOps tool writes on a Workspace stays there: nothing of it reaches a child, and nothing comes back."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from controllers.workspace.builders import (
    adapter_status,
    condition,
    decided,
    gpu_node,
    provisioned,
    served,
    step,
    stored,
    with_adapter,
    workspace,
)
from kaito.api.resources import WORKSPACES
from kaito.controllers.workspace import Decision, NodeProvisioner, Observed, WorkspaceConfig
from kaito.controllers.workspace.node_facts import ExistingNodes, facts_of
from kaito.runtime.resources import PODS
from support import gokaito

Object = dict[str, Any]

OWN = ("kaito.sh/", "karpenter.sh/")
"""Prefixes of what the controller writes itself."""
MARK = "mark-of-gitops"
TRACKING = (
    "app.kubernetes.io/instance",
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/sync-wave",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.sh/chart",
    "kubectl.kubernetes.io/last-applied-configuration",
    "team.example.com/owner",
)
PRESETS = ("phi-3-mini-4k-instruct", "phi-4-mini-instruct", "falcon-7b")


def made_up(dice: random.Random) -> Object:
    """A Workspace that carries what tools write, on metadata and, as a label of its nodes, too."""
    inference: Object = {}
    preset: str | None = dice.choice(PRESETS)
    if dice.random() < 0.3:
        preset = None
        inference["template"] = {"spec": {"containers": [{"name": "own", "image": "example.com/own:1"}]}}
    elif dice.random() < 0.4:
        inference["adapters"] = [{"source": {"name": "pirate", "image": "registry.example/a:1"}}]
    labels = {"apps": "phi"}
    if dice.random() < 0.5:
        labels[dice.choice(TRACKING[:4])] = MARK
    found = workspace(
        preset,
        resource={"count": dice.randint(1, 2), "labelSelector": {"matchLabels": labels}},
        inference=inference,
    )
    for field in ("labels", "annotations"):
        found["metadata"][field] = dict.fromkeys(dice.sample(TRACKING, dice.randint(1, 8)), f"{MARK}-{field}")
    return stored(found)


def check(decision: Decision, labels: Object) -> None:
    """Nothing of the marks is written, and only words that are ours."""
    for write in decision.writes:
        assert write.resource not in (WORKSPACES, PODS)
        assert MARK not in orjson.dumps(write.body).decode(), write.body
        metadata = write.body["metadata"]
        for key in (*metadata.get("labels", {}), *metadata.get("annotations", {})):
            assert key.startswith(OWN) or key in labels, key


@pytest.mark.parametrize("seed", range(60))
def test_no_child_carries_what_the_workspace_carries(seed: int) -> None:
    dice = random.Random(seed)
    mode = dice.choice([NodeProvisioner.MACHINE, NodeProvisioner.NODECLAIM])
    config = WorkspaceConfig(node_provisioner=mode)
    observed = Observed(made_up(dice))
    before = copy.deepcopy(observed.workspace)
    written = 0
    for _ in range(4):
        observed, decision = step(observed, config)
        check(decision, {"apps": "phi"})
        written += len(decision.writes)
        if observed.adapters:
            observed = with_adapter(observed, adapter_status("phi-3-mini-4k-instruct"))
        observed = provisioned(observed)
        if observed.deployment is not None:
            observed = served(observed)
    assert {key: each for key, each in observed.workspace.items() if key != "status"} == before
    unknown = any(each["type"] == "UnknownPreset" for each in observed.workspace["status"]["conditions"])
    assert written or unknown


def test_a_label_of_existing_nodes_may_be_any() -> None:
    """With byo nothing is made with the labels: they only say which nodes are meant."""
    labels = {"app.kubernetes.io/instance": "gpu-pool"}
    observed = Observed(
        workspace(instance_type=None, resource={"labelSelector": {"matchLabels": labels}}),
        existing=ExistingNodes([facts_of(gpu_node("own", labels=labels))]),
    )
    decision = decided(observed, WorkspaceConfig(node_provisioner=NodeProvisioner.BYO))
    assert condition(decision.status, "NodesReady")["status"] == "True"


@pytest.mark.parametrize("case", gokaito.CASES)
def test_a_workload_that_is_replaced_carries_none_of_it_either(case: str) -> None:
    observed = gokaito.observed(case)
    observed.workspace["metadata"]["labels"] = dict.fromkeys(TRACKING, MARK)
    observed.workspace["metadata"]["annotations"] = dict.fromkeys(TRACKING, MARK)
    config = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM)
    check(decided(observed, config), {})
    gone = replace(observed, stateful_set=None, deployment=None, service=None, headless=None, pods=())
    check(decided(gone, config), {"apps": ""})
