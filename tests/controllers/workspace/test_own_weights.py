"""Weights of the user's own: looked at before a node is bought, kept at their commit, and what a pod gets for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import (
    CATALOG,
    CONFIG,
    Object,
    as_read,
    condition,
    decided,
    provisioned,
    step,
    workspace,
)
from kaito.catalog import Preset
from kaito.catalog.hub import HubError
from kaito.catalog.hub.client import HubClient
from kaito.catalog.hub.tensors import Held
from kaito.catalog.tensors import expectation, expected_config, expected_tensors
from kaito.controllers.workspace import Observed
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.own_weights import pinned
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.controllers.workspace.decide.weights import weights_part
from kaito.controllers.workspace.decide.weights_source import Baked, Hub, NodePath, Pulled, Volume
from kaito.controllers.workspace.hub_lookup import ModelLookup
from kaito.controllers.workspace.model import Answer, Need
from kaito.controllers.workspace.needs import NO_LOOKUP
from kaito.runtime.clock import LoopClock
from kaito.runtime.resources import DEPLOYMENTS
from kaito.testing.memory_api import MemoryApi
from kaito_presets import demo
from presets.hub_server import HubServer

NAME = "phi-3-mini-4k-instruct"
COMMIT = "c" * 40
NEED = Need("weights", "me/mine")


def known(name: str = NAME) -> Preset:
    found = CATALOG.preset(name)
    assert found is not None
    return found


def owned(name: str = NAME, secret: str | None = None, **weights: Any) -> Object:
    options: Object = {"presetOptions": {"modelAccessSecret": secret}} if secret else {}
    made: Object = workspace(
        name,
        instance_type="Standard_NC24ads_A100_v4",
        inference={"preset": {"name": name, "weights": weights, **options}},
    )
    return made


def fitting(preset: Preset) -> Object:
    """What the hub says of weights that are the preset's."""
    assert preset.dimensions is not None
    tensors = {
        pattern.replace("*", str(layer)): [each or 7 for each in shape]
        for pattern, shape in expected_tensors(preset).items()
        for layer in range(preset.dimensions.layers)
    }
    config = {"architectures": [preset.architecture], **expected_config(preset)}
    return {"revision": COMMIT, "config": config, "tensors": tensors, "bytes": 7_642_000_000}


GOOD = Answer(fitting(known()))


def test_nothing_is_bought_before_the_hub_has_said_what_the_weights_are() -> None:
    found = decided(as_read(owned(huggingFace="me/mine")))
    assert found.needs == (NEED,)
    assert [write for write in found.writes if write.resource is DEPLOYMENTS or write.verb == "create"] == []
    ready = condition(found.status, "ResourceReady")
    assert (ready["status"], ready["reason"]) == ("False", "WeightsLookup")
    assert "inference.preset.weights.huggingFace: the hub is asked what is in me/mine" in ready["message"]


def test_the_commit_is_kept_and_every_pod_gets_it() -> None:
    observed = replace(as_read(owned(huggingFace="me/mine")), answers={NEED: GOOD})
    first = decided(observed)
    assert (first.writes, first.requeue_after) == ((), 0.0)
    assert first.status is not None
    part = first.status["resolved"]["weights"]
    assert (part["id"], part["revision"]) == ("me/mine", COMMIT)
    assert part["bytes"] == 7_642_000_000
    assert "quantization" not in part
    observed, _ = step(observed)
    observed, decision = step(replace(observed, answers={}))
    assert decision.needs == ()
    assert any(write.verb == "create" for write in decision.writes)
    observed, decision = step(provisioned(observed))
    assert observed.deployment is not None
    inits = observed.deployment["spec"]["template"]["spec"]["initContainers"]
    assert [each["name"] for each in inits] == [f"weights-{part}-of-4" for part in range(1, 5)]
    assert all(f"--revision={COMMIT}" in each["args"] for each in inits)
    assert decision.status is not None
    assert decision.status["resolved"]["weights"] == part


def test_how_weights_are_quantised_is_kept() -> None:
    answer = Answer({**GOOD.facts, "quantization": "gptq"}) if GOOD.facts is not None else GOOD
    found = decided(replace(as_read(owned(huggingFace="me/mine")), answers={NEED: answer}))
    assert found.status is not None
    assert found.status["resolved"]["weights"]["quantization"] == "gptq"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"config": {"architectures": ["LlamaForCausalLM"]}},
            "the architecture is LlamaForCausalLM, not Phi3",
        ),
        ({"config": {"num_hidden_layers": 40}}, "num_hidden_layers is 40, not 32"),
        ({"tensors": {"model.norm.weight": [5120]}}, "model.norm.weight has the shape 5120, not 3072"),
        (
            {"tensors": {"model.layers.31.mlp.down_proj.weight": None}},
            "there is no tensor model.layers.31.mlp",
        ),
    ],
)
def test_weights_of_another_model_cost_nothing(change: Any, says: str) -> None:
    facts = fitting(known())
    for part, values in change.items():
        facts[part] = {key: value for key, value in {**facts[part], **values}.items() if value is not None}
    answer = Answer(facts)
    found = decided(replace(as_read(owned(huggingFace="me/mine")), answers={NEED: answer}))
    assert not any(write.verb == "create" for write in found.writes)
    assert (found.needs, found.requeue_after) == ((NEED,), 660.0)  # mended on the hub, they are taken
    ready = condition(found.status, "ResourceReady")
    assert ready["reason"] == "WeightsDoNotFit"
    assert says in ready["message"]
    assert "name the preset that they were made from" in ready["message"]


@pytest.mark.parametrize(
    ("reason", "secret", "bought"),
    [
        ("ModelNotFound", None, False),
        ("ModelNotFound", "hf", False),
        ("UnsupportedModel", None, False),
        ("ModelAccessDenied", None, False),
        ("ModelAccessDenied", "hf", True),  # the pod gets the Secret that the operator may not read
        ("HubUnreachable", None, True),
        (NO_LOOKUP, None, True),
    ],
)
def test_only_what_a_pod_would_be_told_as_well_keeps_a_node_from_being_bought(
    reason: str, secret: str | None, bought: bool
) -> None:
    need = Need("weights", "me/mine", secret=secret)
    answer = Answer(reason=reason, message="the hub says no")
    found = decided(replace(as_read(owned(huggingFace="me/mine", secret=secret)), answers={need: answer}))
    assert any(write.verb == "create" for write in found.writes) is bought
    assert found.needs == (need,)


def test_a_commit_is_kept_for_the_repository_that_it_is_of() -> None:
    observed, _ = step(replace(as_read(owned(huggingFace="me/mine")), answers={NEED: GOOD}))
    other = {**observed.workspace, "inference": owned(huggingFace="me/other")["inference"]}
    found = decided(replace(observed, workspace=other, answers={}))
    assert found.needs == (Need("weights", "me/other"),)
    assert pinned(plan_of(other), other).weights == Hub("me/other", None, own=True)
    assert pinned(plan_of(observed.workspace), observed.workspace).weights == Hub("me/mine", COMMIT, own=True)


def test_a_model_that_runs_is_not_asked_about() -> None:
    observed = replace(
        as_read(owned(huggingFace="me/mine")), answers={NEED: Answer(reason=NO_LOOKUP, message="x")}
    )
    observed, _ = step(observed)
    observed, _ = step(provisioned(observed))
    assert observed.deployment is not None
    assert decided(replace(observed, answers={})).needs == ()


def plan_of(made: Object, config: WorkspaceConfig = CONFIG) -> Plan:
    found = make_plan(made, None, CATALOG, config)
    assert isinstance(found, Plan), found
    return found


def test_where_weights_come_from() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "models"}}
    assert plan_of(workspace(NAME)).weights == Baked()
    assert plan_of(owned(image="r.example/w:1", imagePullSecrets=["a"])).weights == Pulled(
        "r.example/w:1", ("a",)
    )
    assert plan_of(owned(volumeSource=claim)).weights == Volume(claim)
    assert plan_of(owned(path="/models/mine")).weights == NodePath("/models/mine", own=True)
    mine = plan_of(owned(huggingFace="me/mine", revision="v1", storageClassName="nvme")).weights
    assert mine == Hub("me/mine", "v1", None, "nvme", own=True)
    local = workspace(NAME, annotations={"kaito.sh/use-local-weights": "true"})
    assert plan_of(local).weights == NodePath(f"/opt/kaito/models/{NAME}")
    large = "Standard_ND96isr_H100_v5"
    published = plan_of(workspace("deepseek-v3-0324", instance_type=large)).weights
    assert isinstance(published, Hub)
    assert published.pinned
    assert not published.own
    stand_in = replace(CONFIG, stand_in_weights="tiny-phi-3")
    refused = make_plan(workspace("deepseek-v3-0324", instance_type=large), None, CATALOG, stand_in)
    assert isinstance(refused, tuple)
    assert (
        "deepseek-v3-0324 is downloaded when it is served, and this operator serves the stand-in"
        in refused[0].message
    )


def test_weights_beside_an_image_are_mounted_into_it() -> None:
    made = owned(path="/models/mine")
    made["inference"]["preset"]["presetOptions"] = {"image": "r.example/server:1"}
    observed, _ = step(Observed(made))
    observed, _ = step(provisioned(observed))
    assert observed.deployment is not None
    spec = observed.deployment["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "r.example/server:1"
    assert {"name": "weights", "mountPath": "/workspace/weights", "readOnly": True} in spec["containers"][0][
        "volumeMounts"
    ]
    assert {"name": "weights", "hostPath": {"path": "/models/mine", "type": "Directory"}} in spec["volumes"]


def test_what_a_pod_gets_for_each_source() -> None:
    preset = known()
    part = weights_part(Hub("me/mine", None, "hf", "nvme", own=True), preset, CONFIG)
    claim = part.volumes[0]["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim["storageClassName"] == "nvme"
    assert claim["resources"]["requests"]["storage"] == "10Gi"  # 7.12 GiB of files
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "HF_TOKEN"}}}
    assert all(each["env"] == [token] for each in part.init_containers)
    assert json.loads(part.init_containers[0]["args"][2].removeprefix("--expect=")) == expectation(preset)
    mirror = weights_part(Hub("me/mine", None), preset, replace(CONFIG, hub_endpoint="https://hub.example"))
    assert mirror.init_containers[0]["env"] == [{"name": "HF_ENDPOINT", "value": "https://hub.example"}]
    assert not any("--expect" in each for each in mirror.init_containers[0]["args"])
    pulled = weights_part(Pulled("r.example/w:1", ("a", "a")), preset, CONFIG)
    assert [each["name"] for each in pulled.volumes] == ["weights", "docker-config-a"]
    assert pulled.init_containers[0]["volumeMounts"][1]["mountPath"] == "/root/.docker/config.d/a"
    mounted = weights_part(Volume({"nfs": {"server": "s", "path": "/"}, "name": "x"}), preset, CONFIG)
    assert mounted.volumes == ({"name": "weights", "nfs": {"server": "s", "path": "/"}},)
    assert mounted.init_containers[0]["args"][0] == "--check=/workspace/weights"
    assert mounted.init_containers[0]["volumeMounts"][0]["readOnly"] is True
    assert weights_part(Baked(), preset, CONFIG).volumes == ()
    expected = [
        any(each.startswith("--expect=") for each in part.init_containers[0]["args"])
        for own in (True, False)
        for part in [weights_part(NodePath("/models/mine", own), preset, CONFIG)]
    ]
    assert expected == [True, False], "the preset's own weights are not held against the catalogue"


# --- the hub


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    server.repositories = {
        "me/mine": {path.name: path.read_bytes() for path in demo.weights_path().iterdir()}
    }
    try:
        yield server
    finally:
        server.close()


async def test_the_hub_is_asked_for_a_few_kilobytes(hub: HubServer) -> None:
    held = await HubClient(hub.url, LoopClock()).held("me/mine")
    assert held.revision == COMMIT
    assert held.config["architectures"] == ["Phi3ForCausalLM"]
    assert held.tensors["model.layers.1.self_attn.qkv_proj.weight"] == (256, 128)
    files = hub.repositories["me/mine"]
    assert held.size == sum(len(each) for name, each in files.items() if name.endswith(".safetensors"))
    assert held.quantization is None
    assert [wanted for _, wanted in hub.file_requests()][-1] == "bytes=0-131071"


async def test_the_hub_tells_how_large_weights_are_and_how_they_are_quantised(hub: HubServer) -> None:
    files = hub.repositories["me/mine"]
    config = json.loads(files["config.json"]) | {"quantization_config": {"quant_method": "GPTQ", "bits": 4}}
    hub.repositories["me/mine"] = {
        **files,
        "config.json": json.dumps(config).encode(),
        "extra/b.safetensors": b"x",
    }
    held = await HubClient(hub.url, LoopClock()).held("me/mine")
    assert held.quantization == "gptq"
    assert held.size == sum(
        len(each) for name, each in files.items() if name.endswith(".safetensors") and "/" not in name
    )


async def test_the_token_stays_with_the_hub(hub: HubServer) -> None:
    elsewhere = HubServer()
    try:
        elsewhere.repositories = hub.repositories
        hub.cdn_at = elsewhere.url
        held = await HubClient(hub.url, LoopClock()).held("me/mine", token="secret")
        assert held.tensors
        assert {headers.get("Authorization") for _, headers in hub.requests} == {"Bearer secret"}
        assert {headers.get("Authorization") for _, headers in elsewhere.requests} == {None}
    finally:
        elsewhere.close()


async def test_a_repository_without_safetensors_is_refused(hub: HubServer) -> None:
    hub.repositories["me/mine"] = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    with pytest.raises(HubError, match=r"me/mine has no \*\.safetensors at its top") as refused:
        await HubClient(hub.url, LoopClock()).held("me/mine")
    assert refused.value.reason == "UnsupportedModel"
    hub.repositories["me/mine"] = {"config.json": b"{}", "model.safetensors": b"x" * 20}
    with pytest.raises(HubError, match=r"model\.safetensors of me/mine is no safetensors file"):
        await HubClient(hub.url, LoopClock()).held("me/mine")
    for name in ("m-q4.gguf", "Q4_0/m-q4.gguf"):
        hub.repositories["me/mine"] = {"config.json": b"{}", name: b"x"}
        assert (await HubClient(hub.url, LoopClock()).held("me/mine")).tensors == {}


class Shelf:
    """Stands for the hub's client."""

    async def preset(self, id: str, revision: str | None = None, token: str | None = None) -> Preset:
        raise AssertionError("the model is known")

    async def held(self, id: str, revision: str | None = None, token: str | None = None) -> Held:
        return Held(f"{id}@{revision}:{token}", {"a": 1}, {"t": (2,)}, 8, "awq")


async def test_the_lookup_answers_what_is_compared(memory_api: MemoryApi) -> None:
    lookup = ModelLookup(memory_api.client(), Shelf(), own_token="hf_own")
    answer = await lookup(Need("weights", "me/mine", "v1"), "default")
    assert answer.facts == {
        "revision": "me/mine@v1:hf_own",
        "config": {"a": 1},
        "tensors": {"t": (2,)},
        "bytes": 8,
        "quantization": "awq",
    }
