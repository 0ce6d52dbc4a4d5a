"""What the API server admits and refuses of Adapters, Machines and NodeClaims."""

from __future__ import annotations

from typing import Any

import pytest

from api.workspaces import (
    Object,
    create,
    refusal,
)
from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS
from kaito.runtime.errors import Invalid
from support.control_plane import ControlPlane


async def test_an_adapter_needs_one_source(world: ControlPlane) -> None:
    def adapter(**spec: Any) -> Object:
        return {"metadata": {"name": "a", "namespace": "default"}, **spec}

    seed = {"image": "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1", "name": "phi-3-adapter"}
    await create(world, ADAPTERS, adapter(spec={"source": seed}))
    assert "write `spec: {source:" in (await refusal(world, adapter(), ADAPTERS))["spec"]
    assert "write `source:" in (await refusal(world, adapter(spec={}), ADAPTERS))["spec.source"]
    causes = await refusal(world, adapter(spec={"source": {}}), ADAPTERS)
    assert "write exactly one of image" in causes["spec.source"]


async def test_a_machine_is_permissive(world: ControlPlane) -> None:
    made = await create(
        world, MACHINES, {"metadata": {"name": "m"}, "spec": {"taints": [{"key": "a", "effect": "Odd"}]}}
    )
    assert made["spec"]["taints"] == [{"key": "a", "effect": "Odd"}]
    await world.client.patch(MACHINES, "m", patch={"spec": {"taints": []}})


def node_claim(**spec: Any) -> Object:
    return {
        "metadata": {"name": "ws123456789"},
        "spec": {
            "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
            "requirements": [{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["a"]}],
            "resources": {"requests": {"storage": "50Gi"}},
            **spec,
        },
    }


async def test_a_node_claim_is_immutable_and_takes_karpenters_default(world: ControlPlane) -> None:
    made = await create(world, NODECLAIMS, node_claim())
    assert made["spec"]["expireAfter"] == "720h"
    with pytest.raises(Invalid, match="spec is immutable"):
        await world.client.patch(NODECLAIMS, "ws123456789", patch={"spec": {"expireAfter": "Never"}})


def required(**requirement: Any) -> Object:
    return {
        "requirements": [
            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["a"], **requirement}
        ]
    }


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"nodeClassRef": {"group": "", "kind": "a", "name": "b"}}, "nodeClassRef.group: write the group"),
        ({"expireAfter": "1 day"}, "expireAfter"),
        (required(key="kubernetes.io/hostname"), "kubernetes.io/hostname cannot be required"),
        (required(key="kubernetes.io/other"), "this label of kubernetes.io is the node's own"),
        (required(key="sub.k8s.io/a"), "labels of k8s.io are restricted"),
        (required(key="karpenter.sh/initialized"), "only capacity-type and nodepool"),
        (required(operator="Like"), "Unsupported value"),
        (required(values=[]), "the operator In needs at least one value"),
        (required(operator="Gt", values=["1", "2"]), "need exactly one value"),
        (required(operator="Gt", values=["-1"]), "Invalid value"),
        (required(minValues=2), "minValues is greater"),
        ({"taints": [{"key": "a", "effect": "Odd"}]}, "Unsupported value"),
    ],
)  # fmt: skip
async def test_karpenters_rules_hold_for_node_claims(world: ControlPlane, spec: Object, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        await create(world, NODECLAIMS, node_claim(**spec))
    assert words in str(caught.value)


async def test_kaitos_requirements_pass_karpenters_rules(world: ControlPlane) -> None:
    keys = ("karpenter.sh/nodepool", "node.kubernetes.io/instance-type", "kubernetes.io/os", "kubernetes.io/arch",
            "karpenter.azure.com/sku-name", "kaito.sh/machine-type")  # fmt: skip
    requirements = [{"key": key, "operator": "In", "values": ["x"]} for key in keys]
    await create(world, NODECLAIMS, node_claim(requirements=requirements, expireAfter="Never"))
