"""`--node-provisioner=byo`: a node counts only where a pod of the Workspace may land."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.workspace.builders import Observed, condition, decided, gpu_node, workspace
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.node_facts import ExistingNodes, facts_of

Object = dict[str, Any]
BYO = WorkspaceConfig(node_provisioner=NodeProvisioner.BYO)


def told(node: Object, template: Object | None = None) -> Object:
    """The condition NodesReady of a Workspace that finds this node alone."""
    given = workspace(instance_type=None)
    if template is not None:
        containers = {"containers": [{"name": "a", "image": "b"}]}
        inference = {"template": {"spec": {**containers, **template}}}
        given = workspace(preset=None, instance_type=None, inference=inference)
    existing = ExistingNodes([facts_of(node)])
    return condition(decided(Observed(given, existing=existing), BYO).status, "NodesReady")


def node(**spec: Any) -> Object:
    found = gpu_node("gpu-1", labels={"apps": "phi", "disk": "ssd", "cores": "24"})
    return {**found, "spec": {**found["spec"], **spec}}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (node(), None),
        (node(unschedulable=True), "gpu-1 is cordoned"),
        (gpu_node("gpu-1", ready="Unknown"), "gpu-1 is not ready"),
        (gpu_node("gpu-1", 0), "gpu-1 offers 0 of 1 GPUs"),
        (
            node(taints=[{"key": "team", "value": "a", "effect": "NoSchedule"}]),
            "has the taint team=a:NoSchedule",
        ),
        (node(taints=[{"key": "gone", "effect": "NoExecute"}]), "has the taint gone=:NoExecute"),
        (node(taints=[{"key": "busy", "effect": "PreferNoSchedule"}]), None),
        (node(taints=[{"key": "nvidia.com/gpu", "value": "x", "effect": "NoSchedule"}]), None),
        (
            node(taints=[{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]),
            "has the taint karpenter.sh/disrupted=:NoSchedule",
        ),
    ],
)
def test_a_node_that_takes_no_pods_does_not_count(found: Object, says: str | None) -> None:
    answer = told(found)
    assert answer["status"] == ("True" if says is None else "False")
    if says is not None:
        assert "0 of 1 nodes with apps=phi can take a pod" in answer["message"]
        assert says in answer["message"]


def affinity(*terms: list[Object]) -> Object:
    required = {"nodeSelectorTerms": [{"matchExpressions": each} for each in terms]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, None),
        (
            {"nodeSelector": {"disk": "nvme"}},
            "lacks the label disk=nvme of the template's nodeSelector",
        ),
        (affinity([expression("disk", "In", "ssd", "nvme")]), None),
        (affinity([expression("disk", "NotIn", "ssd")]), "does not fit the template's node affinity"),
        (affinity([expression("zone", "Exists")]), "does not fit"),
        (affinity([expression("zone", "Exists")], [expression("zone", "DoesNotExist")]), None),
        (affinity([expression("cores", "Gt", "16")]), None),
        (affinity([expression("cores", "Lt", "16")]), "does not fit"),
        (affinity([expression("disk", "Gt", "16")]), "does not fit"),
        (affinity([expression("disk", "In", "ssd"), expression("zone", "Exists")]), "does not fit"),
        ({"tolerations": [{"operator": "Exists"}]}, None),
    ],
)
def test_what_a_template_of_one_s_own_asks_of_nodes_is_heeded(template: Object, says: str | None) -> None:
    answer = told(node(), template)
    assert answer["status"] == ("True" if says is None else "False")
    assert says is None or says in answer["message"]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            {"nvidia.com/mig.config": "all-1g.10gb", "nvidia.com/mig.config.state": "success"},
            "n: the GPUs are split (nvidia.com/mig.config=all-1g.10gb); whole ones are needed",
        ),
        (
            {"nvidia.com/gpu.product": "NVIDIA-A100", "nvidia.com/gpu.count": "lots"},
            "n: the label nvidia.com/gpu.count is 'lots', and a number above 0 is needed",
        ),
        ({}, ""),
    ],
)
def test_nodes_whose_labels_do_not_tell_their_gpus_are_taken_and_that_is_told(
    labels: dict[str, str], says: str
) -> None:
    found = gpu_node("n", labels={"apps": "phi", **labels})
    observed = Observed(workspace(instance_type=None), existing=ExistingNodes([facts_of(found)]))
    told = condition(decided(observed, BYO).status, "NodesReady")
    assert told["status"] == "True"
    because = f"; whether the model fits is not known, because of {says}" if says else ""
    assert told["message"] == f"1 nodes match, 1 wanted{because}"
