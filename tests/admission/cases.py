"""One case for each rule of docs/admission.md: a Workspace that breaks it, and its neighbour that does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from api.workspaces import ADAPTER, PRESET, SELECTOR, TUNING, adapters, tuning, workspace
from kaito.catalog import Catalog, load_catalog
from kaito.catalog.models import Preset
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig

Object = dict[str, Any]

MACHINE = WorkspaceConfig()
BYO = WorkspaceConfig(node_provisioner=NodeProvisioner.BYO)
KARPENTER = WorkspaceConfig(node_provisioner=NodeProvisioner.KARPENTER, node_class_names=("gpu-spot",))
_LOADED = load_catalog()
CATALOG = Catalog(
    presets=(*_LOADED.presets, Preset(name="no-lora", runtimes=("vllm",), tag="1", lora=False)),
    skus=_LOADED.skus,
)
"""Ours, and a preset that takes no adapters, which ours all do."""

A100 = {"resource": {"instanceType": "Standard_NC24ads_A100_v4", **SELECTOR}}
RESOURCE = {"instanceType": "Standard_NC6s_v3", **SELECTOR}
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Case:
    """`wrong` breaks the rule, `fine` does not. With `before` both are what that is changed to."""

    wrong: Object
    fine: Object
    before: Object | None = None
    config: WorkspaceConfig = MACHINE
    config_maps: Mapping[str, str] = field(default_factory=dict)
    """Name to the contents of the key inference_config.yaml."""


def of(kind: str, name: str) -> Object:
    made: Object = yaml.safe_load((EXAMPLES / kind / f"{name}.yaml").read_text())
    made["metadata"]["namespace"] = "default"
    return {key: value for key, value in made.items() if key not in ("apiVersion", "kind")}


def named(name: str, **more: Any) -> Object:
    return workspace(**A100, **more, metadata={"name": name, "namespace": "default"})


def annotated(name: str, value: str, **more: str) -> Object:
    annotations = {name: value, **more}
    return workspace(**A100, metadata={"name": "ws", "namespace": "default", "annotations": annotations})


def sized(*, preset: str = "phi-3-mini-4k-instruct", **resource: Any) -> Object:
    known = CATALOG.preset(preset)
    secret = {"presetOptions": {"modelAccessSecret": "hf"}} if known is not None and known.gated else {}
    return workspace(resource={**SELECTOR, **resource}, inference={"preset": {"name": preset, **secret}})


def running(preset: str, runtime: str) -> Object:
    """A model and the runtime that it is asked of."""
    metadata = {"name": "ws", "namespace": "default", "annotations": {"kaito.sh/runtime": runtime}}
    inference = {"preset": {"name": preset, "presetOptions": {"image": "example.com/mine:1"}}}
    resource = {**SELECTOR, "instanceType": "Standard_NC24ads_A100_v4"}
    return workspace(resource=resource, inference=inference, metadata=metadata)


def spread(*, runtime: str) -> Object:
    """A model that no single node of its size holds."""
    metadata = {"name": "ws", "namespace": "default", "annotations": {"kaito.sh/runtime": runtime}}
    resource = {**SELECTOR, "instanceType": "Standard_NC24ads_A100_v4"}
    return workspace(resource=resource, inference=LLAMA, metadata=metadata)


def selected(**selector: Any) -> Object:
    return workspace(resource={"instanceType": "Standard_NC24ads_A100_v4", "labelSelector": selector})


def served(**inference: Any) -> Object:
    return workspace(**A100, inference={**PRESET, **inference})


def owned(**weights: Any) -> Object:
    return served(preset={**PRESET["preset"], "weights": weights})


def many(number: int) -> Object:
    return workspace(**A100, **adapters(*({"adapterRef": {"name": f"a{each}"}} for each in range(number))))


LARGE = "Standard_NC24ads_A100_v4"
LLAMA = {"preset": {"name": "llama-3.3-70b-instruct", "presetOptions": {"image": "example.com/llama:1"}}}
MIG = {"mode": "mig", "profile": "1g.10gb"}
PLAIN = workspace(**A100)
TRANSFORMERS = {"kaito.sh/runtime": "transformers"}
TUNED = workspace(**tuning())

CASES: Mapping[str, tuple[Case, ...]] = {
    "W1": (Case(named("3phi"), named("phi-3")), Case(named("a.b"), named("a-b"))),
    "W2": (Case(workspace(inference=None), PLAIN),),
    "W3": (Case(workspace(tuning=TUNING), TUNED),),
    "W4": (
        Case(
            workspace(resource=SELECTOR, inference={"template": {"spec": {}}}),
            sized(),
        ),
    ),
    "W5": (Case(sized(instanceType="Standard_NC24ads_A100_v4"), sized(), config=BYO),),
    "W6": (
        Case(
            annotated("kaito.sh/node-image-family", "windows"),
            annotated("kaito.sh/node-image-family", " AzureLinux "),
        ),
    ),
    "W7": (
        Case(
            annotated("kaito.sh/performance-mode", "fast"),
            annotated("kaito.sh/performance-mode", "throughput"),
        ),
    ),
    "W8": (
        Case(
            annotated("kaito.sh/use-local-weights", "yes"),
            annotated("kaito.sh/use-local-weights", "true"),
        ),
    ),
    "W10": (Case(sized(preset="phi-2", instanceType="Standard_NC24ads_A100_v4"), PLAIN),),
    "W11": (
        Case(
            selected(matchExpressions=[{"key": "a", "operator": "Exists"}]),
            selected(matchExpressions=[{"key": "a", "operator": "In", "values": ["b"]}]),
        ),
    ),
    "W12": (
        Case(
            selected(matchLabels={"kaito.sh/workspace": "x"}),
            selected(matchLabels={"kaito.sh/workspace": "x", "apps": "y"}),
        ),
    ),
    "W9": (
        Case(
            annotated("kaito.sh/node-class-name", "somebody-elses"),
            annotated("kaito.sh/node-class-name", "gpu-spot"),
            config=KARPENTER,
        ),
    ),
    "W13": (Case(sized(instanceType="Standard_NC24ads_A100_v4", partition=MIG), PLAIN),),
    "W14": (Case(sized(partition=MIG), sized(), config=BYO),),
    "W15": (
        Case(sized(partition={"mode": "mig", "count": 1}), sized(partition=MIG), config=BYO),
        Case(
            sized(partition={"mode": "accelerator"}),
            sized(partition={"mode": "accelerator", "count": 2}),
            config=BYO,
        ),
    ),
    "W20": (Case(sized(instanceType="Standard_NC6s_v33"), PLAIN),),
    "W22": (Case(sized(preset="phi-4", instanceType="Standard_NC6s_v3"), PLAIN),),
    "W23": (
        Case(
            spread(runtime="transformers"),
            spread(runtime="vllm"),
        ),
    ),
    "K30": (
        Case(
            workspace(resource={**RESOURCE, "instanceType": LARGE, "count": 2}, inference=LLAMA),
            workspace(resource={**RESOURCE, "instanceType": LARGE, "count": 3}, inference=LLAMA),
        ),
    ),
    "K42": (
        Case(workspace(resource={**RESOURCE, "count": 5001}), workspace(resource={**RESOURCE, "count": 2})),
    ),
    "K43": (
        Case(annotated("kaito.sh/concurrency", "0"), annotated("kaito.sh/concurrency", "8")),
        Case(annotated("kaito.sh/concurrency", "many"), annotated("kaito.sh/concurrency", "1024")),
    ),
    "K44": (
        Case(
            served(config="broken"),
            served(config="good"),
            config_maps={
                "broken": "vllm: {max-modl-len: 1}",
                "good": "vllm: {seed: 1}\ntransformers: {more: 1}",
            },
        ),
    ),
    "W24": (Case(workspace(**A100, inference={}), PLAIN),),
    "W25": (Case(served(template={"spec": {}}), workspace(**A100, inference={"template": {"spec": {}}})),),
    "W26": (Case(sized(preset="phi-3-mini", instanceType="Standard_NC24ads_A100_v4"), PLAIN),),
    "W27": (Case(served(preset={"name": "acme/writer"}), PLAIN),),
    "W28": (
        Case(
            running("granite-4.1-8b", "transformers"),
            running("granite-4.1-8b", "vllm"),
        ),
    ),
    "W29": (
        Case(
            workspace(**A100, inference={"preset": {"name": "no-lora"}, "adapters": [ADAPTER]}),
            workspace(**A100, inference={"preset": {"name": "no-lora"}}),
        ),
    ),
    "W30": (
        Case(
            served(preset={"name": "llama-3.1-8b-instruct"}),
            served(preset={"name": "llama-3.1-8b-instruct", "presetOptions": {"modelAccessSecret": "hf"}}),
        ),
    ),
    "W31": (
        Case(
            served(preset={**PRESET["preset"], "presetOptions": {"modelAccessSecret": "hf"}}),
            served(preset={**PRESET["preset"], "presetOptions": {"imagePullSecrets": ["s"]}}),
        ),
    ),
    "W32": (Case(many(11), many(10)),),
    "W33": (Case(workspace(**A100, **adapters(ADAPTER, ADAPTER)), workspace(**A100, **adapters(ADAPTER))),),
    "W34": (
        Case(
            served(config="broken"),
            served(config="good"),
            config_maps={"broken": "vllm: [", "good": "vllm: {max-model-len: 2048}"},
        ),
    ),
    "U1": (Case(TUNED, served(adapters=[ADAPTER]), before=PLAIN),),
    "U2": (
        Case(
            sized(**A100["resource"], count=3),
            sized(**A100["resource"], count=2, preferredNodes=["n"]),
            before=sized(**A100["resource"], count=2),
        ),
    ),
    "U3": (Case(sized(partition=MIG), sized(preferredNodes=["n"]), before=sized(), config=BYO),),
    "U4": (
        Case(
            sized(instanceType="Standard_NC48ads_A100_v4"),
            sized(instanceTypes=["Standard_NC48ads_A100_v4", "Standard_NC24ads_A100_v4"]),
            before=PLAIN,
        ),
    ),
    "U5": (
        Case(
            sized(instanceType="Standard_NC24ads_A100_v4"),
            sized(preferredNodes=["n"]),
            before=sized(),
            config=BYO,
        ),
    ),
    "U6": (Case(selected(matchLabels={"apps": "other"}), served(adapters=[ADAPTER]), before=PLAIN),),
    "U7": (
        Case(served(preset={"name": "phi-3-mini-128k-instruct"}), served(adapters=[ADAPTER]), before=PLAIN),
    ),
    "U8": (
        Case(workspace(**A100, inference={"template": {"spec": {}}}), served(config="other"), before=PLAIN),
    ),
    "U9": (
        Case(
            workspace(**A100, **adapters({"source": {"name": "a"}})), workspace(**A100, **adapters(ADAPTER))
        ),
        Case(
            workspace(**A100, **adapters({"source": {"name": "a"}})),
            workspace(**A100, **adapters(ADAPTER)),
            before=PLAIN,
        ),
    ),
    "U10": (
        Case(
            workspace(**tuning(preset={"name": "phi-3-mini-128k-instruct"})),
            workspace(**tuning(method="qlora")),
            before=TUNED,
        ),
    ),
    "W35": (
        Case(
            annotated("kaito.sh/streaming-service-account", "mine"),
            annotated("kaito.sh/model-streaming", "disabled"),
        ),
    ),
    "K40": (
        Case(
            annotated("kaito.sh/performance-mode", "throughput", **TRANSFORMERS),
            annotated("kaito.sh/performance-mode", "throughput"),
        ),
    ),
    "K1": (Case(workspace(resource=None), PLAIN),),
    "K2": (Case(workspace(resource={"instanceType": "Standard_NC24ads_A100_v4"}), PLAIN),),
    "K3": (
        Case(
            sized(instanceType="Standard_NC24ads_A100_v4", instanceTypes=["Standard_NC48ads_A100_v4"]),
            sized(instanceTypes=["Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4"]),
        ),
    ),
    "K4": (
        Case(
            sized(instanceTypes=["Standard_NC24ads_A100_v4", "Standard_NC24ads_A100_v4"]),
            sized(instanceTypes=["Standard_NC24ads_A100_v4"]),
        ),
    ),
    "K5": (
        Case(
            sized(instanceTypes=["Standard_NC48ads_A100_v4"]),
            sized(instanceTypes=["Standard_NC48ads_A100_v4", "Standard_NC24ads_A100_v4"]),
            before=sized(instanceTypes=["Standard_NC24ads_A100_v4"]),
        ),
    ),
    "K6": (
        Case(
            workspace(**A100, inference={"template": {"spec": {}}, "adapters": [ADAPTER]}),
            workspace(**A100, inference={"template": {"spec": {}}}),
        ),
    ),
    "K7": (
        Case(
            workspace(**A100, **adapters({"source": {"name": "base", "image": "r.example/a:1"}})),
            workspace(**A100, **adapters({"source": {"name": "based", "image": "r.example/a:1"}})),
        ),
    ),
    "K8": (
        Case(
            workspace(**A100, **adapters({**ADAPTER, "strength": "1.5"})),
            workspace(**A100, **adapters({**ADAPTER, "strength": "1.0"})),
        ),
    ),
    "K9": (
        Case(of("inference", "kaito_workspace_phi_3_with_adapters"), workspace(**A100, **adapters(ADAPTER))),
    ),
    "K10": (Case(of("inference", "kaito_workspace_phi_3"), PLAIN),),
    "K11": (Case(TUNED, PLAIN),),
    "K12": (Case(served(config="absent"), served(config="good"), config_maps={"good": ""}),),
    "K13": (Case(of("fine-tuning", "kaito_workspace_tuning_phi_3"), TUNED),),
    "K14": (Case(annotated("kaito.sh/enablelb", "true"), annotated("kaito.sh/enablelb", "True")),),
    "K15": (Case(workspace(resource={"labelSelector": {}}), sized(), config=BYO),),
    "K16": (
        Case(
            workspace(**{**tuning(), "resource": {**SELECTOR, "count": 2}}),
            workspace(**{**tuning(), "resource": {**SELECTOR, "count": 1}}),
        ),
    ),
    "K17": (
        Case(sized(instanceType="Standard_NG32ads_V620_v1"), PLAIN),
        Case(
            sized(instanceType="trn1.2xlarge"),
            sized(instanceType="g5.xlarge"),
            config=WorkspaceConfig(cloud="aws"),
        ),
    ),
    "K18": (
        Case(
            served(preset={"name": "llama-2-7b"}),
            served(preset={"name": "llama-2-7b", "presetOptions": {"image": "r.example/llama:1"}}),
        ),
        Case(
            served(preset={"name": "llama-2-7b"}),
            served(preset={"name": "llama-2-7b", "weights": {"path": "/models/llama-2-7b"}}),
        ),
    ),
    "K19": (
        Case(owned(image="r.example/w:1", path="/models"), owned(image="r.example/w:1")),
        Case(owned(), owned(volumeSource={"persistentVolumeClaim": {"claimName": "models"}})),
    ),
    "K20": (Case(owned(huggingFace="phi-3"), owned(huggingFace="me/phi-3")),),
    "K21": (Case(owned(path="models"), owned(path="/models")),),
    "K22": (Case(owned(path="/models", revision="main"), owned(huggingFace="me/phi-3", revision="main")),),
    "K23": (
        Case(
            owned(path="/models", storageClassName="nvme"),
            owned(huggingFace="me/phi-3", storageClassName="nvme"),
        ),
    ),
    "K31": (
        Case(
            workspace(resource=RESOURCE, inference={**PRESET, "config": "bf16"}),
            workspace(**A100, inference={**PRESET, "config": "bf16"}),
            config_maps={"bf16": "vllm: {dtype: bfloat16}"},
        ),
        Case(
            workspace(resource=RESOURCE, inference={**PRESET, "config": "half"}),
            workspace(resource=RESOURCE, inference={**PRESET, "config": "fp16"}),
            config_maps={
                "half": "transformers: {dtype: bfloat16}",
                "fp16": "transformers: {dtype: float16}\nvllm: {dtype: bfloat16}",
            },
        ),
    ),
    "K41": (Case(annotated("kaito.sh/runtime", "vlm"), annotated("kaito.sh/runtime", "Transformers")),),
}
"""`fine` is fine by its own rule; another may have something to say."""
