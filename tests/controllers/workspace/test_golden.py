"""Every manifest that is rendered, to the letter. KAITO_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controllers.workspace.builders import Object, adapter_status, provisioned, seed, step, workspace
from kaito.controllers.workspace import NodeClass, NodeProvisioner, Observed, WorkspaceConfig

GOLDEN = Path(__file__).parent / "golden"
LOCAL = WorkspaceConfig(stand_in_weights="tiny-phi-3")
NODECLAIM = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM)
KARPENTER = WorkspaceConfig(
    node_provisioner=NodeProvisioner.NODECLAIM,
    node_class=NodeClass("karpenter.azure.com", "AKSNodeClass", "gpu"),
)
AWS = WorkspaceConfig(node_provisioner=NodeProvisioner.NODECLAIM, cloud="aws")


def readable(observed: Observed, base: str) -> Observed:
    adapters = {name: {**each, "status": adapter_status(base)} for name, each in observed.adapters.items()}
    return replace(observed, adapters=adapters)


def everything(
    given: Object, config: WorkspaceConfig, base: str = "tiny-phi-3", gpus: int = 1
) -> list[Object]:
    """All children that the Workspace gets until its workload is there."""
    named = (given.get("inference") or {}).get("config")
    observed, first = step(Observed(given, config_hash="0123456789abcdef" if named else None), config)
    observed, second = step(readable(observed, base), config)
    _, third = step(provisioned(observed, gpus), config)
    return [write.body for write in (*first.writes, *second.writes, *third.writes)]


def adapters_of_all_kinds() -> Object:
    return workspace(
        "phi-3-mini-128k-instruct",
        inference={
            "config": "my-config",
            "adapters": [
                {
                    "source": {"name": "pirate", "image": "r.example/a:1", "imagePullSecrets": ["reg"]},
                    "strength": "0.5",
                },
                {"source": {"name": "poet.v2", "volumeSource": {"hostPath": {"path": "/adapters/poet"}}}},
            ],
        },
    )


def look_at(weights: Object) -> list[Object]:
    """The pod that looks at weights before anything is bought for them."""
    preset = {"name": "phi-3-mini-4k-instruct", "weights": weights}
    _, first = step(Observed(workspace(inference={"preset": preset})))
    return [write.body for write in first.writes if write.resource.kind == "Pod"]


CASES: dict[str, Callable[[], list[Object]]] = {
    "seed-inference": lambda: everything(seed("inference"), LOCAL),
    "seed-adapters": lambda: everything(seed("adapters"), LOCAL),
    "seed-tuning": lambda: everything(seed("tuning"), LOCAL),
    "nodeclaim": lambda: everything(
        workspace(annotations={"kaito.sh/node-image-family": "AzureLinux"}), NODECLAIM
    ),
    "nodeclaim-karpenter": lambda: everything(workspace(), KARPENTER),
    "nodeclaim-aws": lambda: everything(
        workspace(instance_type="p4d.24xlarge", annotations=BYPASS), AWS, gpus=8
    ),
    "tiny-on-cpu": lambda: everything(workspace("tiny-phi-3", instance_type="Standard_D4s_v5"), LOCAL),
    "adapters-image-and-volume": lambda: everything(
        adapters_of_all_kinds(), WorkspaceConfig(), "microsoft/Phi-3-mini-128k-instruct"
    ),
    "distributed": lambda: everything(
        workspace("deepseek-v3-0324", instance_type="Standard_NC80adis_H100_v5", resource={"count": 6}),
        WorkspaceConfig(),
        gpus=2,
    ),
    "look-at-weights": lambda: [
        *look_at({"image": "r.example/mine:1", "imagePullSecrets": ["reg"]}),
        *look_at({"volumeSource": {"persistentVolumeClaim": {"claimName": "models"}}}),
    ],
    "v100": lambda: everything(workspace(instance_type="Standard_NC6s_v3"), WorkspaceConfig()),
    "copies": lambda: everything(
        workspace(resource={"count": 2}, annotations={"kaito.sh/performance-mode": "throughput"}),
        WorkspaceConfig(),
    ),
    "template-copies": lambda: everything(
        workspace(None, resource={"count": 2}, inference={"template": OWN_PODS}), WorkspaceConfig()
    ),
    "template": lambda: everything(
        workspace(None, inference={"template": {"spec": {"containers": [{"name": "mine", "image": "i:1"}]}}}),
        WorkspaceConfig(),
    ),
}
OWN_PODS: Object = {
    "metadata": {"labels": {"app": "mine"}, "annotations": {"team": "a"}},
    "spec": {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "mine", "operator": "Exists"}],
        "containers": [
            {"name": "mine", "image": "i:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}},
            {"name": "beside", "image": "i:2"},
        ],
    },
}
BYPASS = {"kaito.sh/bypass-resource-checks": ""}


class Dumper(yaml.SafeDumper):
    """Lists indented under their key, no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize("name", sorted(CASES))
def test_manifests(name: str) -> None:
    bodies = CASES[name]()
    text = "".join("---\n" + yaml.dump(body, Dumper=Dumper, sort_keys=False, width=110) for body in bodies)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("KAITO_UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == sorted(CASES)


def test_the_engine_is_the_images_affair() -> None:
    for name, bodies in CASES.items():
        for body in bodies():
            text = yaml.safe_dump(body)
            assert "KAITO_" not in text, f"{name}: {body['kind']} sets an environment variable of the server"
