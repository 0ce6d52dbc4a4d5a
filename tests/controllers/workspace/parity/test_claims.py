"""Claims of the backend `nodeclaim`: what Go KAITO's tests of its own say, in this operator's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import (
    Observed,
    condition,
    gpu_node,
    machine_ready,
    provisioned,
    step,
    workspace,
)
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.claims import claim_ready

Object = dict[str, Any]
CONFIG = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM)
BYPASS = {"kaito.sh/bypass-resource-checks": "true"}
FAMILY = "kaito.sh/node-image-family"
SIZE = "Standard_NC24ads_A100_v4"


def asked(given: Object, config: WorkspaceConfig = CONFIG) -> Object:
    """The first claim of a Workspace."""
    observed, _ = step(Observed(given), config)
    return observed.claims[0]


@pytest.mark.parametrize(
    ("annotation", "flag", "family"),
    [
        (None, "ubuntu", "ubuntu"),
        (None, "azurelinux", "azurelinux"),
        ("Ubuntu", "azurelinux", "ubuntu"),
        (" AzureLinux ", "ubuntu", "azurelinux"),
        ("windows", "azurelinux", "azurelinux"),
        ("", "ubuntu", "ubuntu"),
    ],
    ids=[
        "the default",
        "the flag",
        "the annotation before the flag",
        "however it is written",
        "a wrong annotation leaves the flag",
        "an empty annotation leaves the flag",
    ],
)
def test_the_image_family_is_the_annotation_s_or_the_flag_s(
    annotation: str | None, flag: str, family: str
) -> None:
    annotations = {} if annotation is None else {FAMILY: annotation}
    claim = asked(workspace(annotations=annotations), replace(CONFIG, node_image_family=flag))
    assert claim["metadata"]["annotations"][FAMILY] == family
    assert claim["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert claim["spec"]["nodeClassRef"] == {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
    keys = [each["key"] for each in claim["spec"]["requirements"]]
    assert keys == [
        "karpenter.sh/nodepool",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "karpenter.azure.com/sku-name",
    ]
    assert claim["spec"]["requirements"][1]["values"] == [SIZE]
    assert claim["spec"]["expireAfter"] == "Never"
    assert claim["spec"]["taints"] == [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]


def test_on_aws_it_is_of_ec2_and_asks_for_gpus() -> None:
    claim = asked(workspace(instance_type="p4d.24xlarge", annotations=BYPASS), replace(CONFIG, cloud="aws"))
    assert claim["spec"]["nodeClassRef"] == {
        "group": "karpenter.k8s.aws",
        "kind": "EC2NodeClass",
        "name": "default",
    }
    assert claim["spec"]["requirements"][3] == {
        "key": "karpenter.k8s.aws/instance-gpu-count",
        "operator": "Gt",
        "values": ["0"],
    }


def test_a_model_of_unknown_size_gets_the_largest_disk() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "b"}]}}
    own = asked(workspace(preset=None, inference={"template": template}))
    assert own["spec"]["resources"]["requests"] == {"storage": "1024Gi"}


@pytest.mark.parametrize(("target", "have", "more"), [(3, 1, 2), (2, 2, 0), (1, 0, 1), (3, 0, 3), (3, 3, 0)])
def test_as_many_claims_as_are_missing_are_made(target: int, have: int, more: int) -> None:
    full, _ = step(Observed(workspace(resource={"count": target})), CONFIG)
    observed = replace(full, claims=full.claims[:have], workspace=workspace(resource={"count": target}))
    _, decision = step(observed, CONFIG)
    made = [write for write in decision.writes if write.resource.kind == "NodeClaim"]
    assert len(made) == more
    assert {each.event.reason for each in made if each.event} <= {"NodeClaimCreated"}
    assert len({each.body["metadata"]["name"] for each in made}) == more


@pytest.mark.parametrize(
    ("target", "states", "ready"),
    [
        (2, ["ready", "ready"], True),
        (2, ["ready", "pending"], False),
        (1, ["leaving"], False),
        (1, ["ready"], True),
    ],
    ids=["enough", "too few", "one on its way out does not count", "one"],
)
def test_claims_are_ready_when_enough_of_them_are(target: int, states: list[str], ready: bool) -> None:
    observed, _ = step(Observed(workspace(resource={"count": target})), CONFIG)
    observed, _ = step(observed, CONFIG)
    claims = []
    for state, claim in zip(states, observed.claims, strict=True):
        changed = machine_ready(claim, f"node-{claim['metadata']['name']}") if state != "pending" else claim
        if state == "leaving":
            changed["metadata"]["deletionTimestamp"] = "2026-11-21T13:00:00Z"
        claims.append(changed)
    observed, decision = step(replace(observed, claims=tuple(claims)), CONFIG)
    assert (condition(decision.status, "NodeClaimReady")["status"] == "True") is ready


@pytest.mark.parametrize(
    ("metadata", "status", "ready"),
    [
        ({}, {"conditions": [{"type": "Ready", "status": "True"}]}, True),
        ({}, {"conditions": [{"type": "Ready", "status": "Unknown"}], "nodeName": "n"}, False),
        ({}, {"nodeName": "n"}, True),
        ({}, {}, False),
        ({"deletionTimestamp": "x"}, {"conditions": [{"type": "Ready", "status": "True"}]}, False),
    ],
    ids=["Ready", "not Ready", "no condition but a node", "nothing", "on its way out"],
)
def test_a_claim_is_ready_by_its_condition_or_else_by_its_node(
    metadata: Object, status: Object, ready: bool
) -> None:
    assert claim_ready({"metadata": metadata, "status": status}) is ready


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (gpu_node("n"), None),
        (None, "NodeNotReady"),
        (gpu_node("n", ready="False"), "NodeNotReady"),
        (gpu_node("n", 0), "NodePluginsNotReady"),
    ],
    ids=["as it should be", "not there", "not ready", "no GPU shows yet"],
)
def test_a_node_counts_when_it_is_ready_and_its_gpus_are_there(
    node: Object | None, reason: str | None
) -> None:
    observed, _ = step(Observed(workspace()), CONFIG)
    observed, _ = step(observed, CONFIG)
    world = provisioned(observed)
    (name,) = world.nodes
    observed, decision = step(replace(world, nodes={name: node} if node else {}), CONFIG)
    told = condition(decision.status, "NodesReady")
    assert (told["status"], told["reason"]) == (
        ("True", "NodesReady") if reason is None else ("False", reason)
    )
