"""What cannot be carried out says so, in which field, with what to write instead; children stay."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from controllers.workspace.builders import (
    CONFIG,
    Object,
    adapter_status,
    alive,
    as_read,
    condition,
    decided,
    inline,
    kinds,
    provisioned,
    refused,
    seed,
    settled,
    step,
    with_adapter,
    workspace,
    written,
)
from kaito.api.views import InvalidSpec
from kaito.controllers.workspace import Observed, WorkspaceConfig
from kaito.controllers.workspace.decide.settings import faults, unreadable
from kaito.controllers.workspace.names import adapter_name, part_name

TINY = WorkspaceConfig(stand_in_weights="tiny-phi-3")


@pytest.mark.parametrize(
    ("given", "reason", "says"),
    [
        (
            workspace("phi-3-mini-4k"),
            "UnknownPreset",
            "inference.preset.name: phi-3-mini-4k is not known; nearest: phi-3-mini-4k-instruct",
        ),
        (workspace("phi-2"), "DeprecatedPreset", "no longer supported; instead use phi-4"),
        (
            workspace(instance_type="Standard_NC6s_v33"),
            "UnknownInstanceType",
            "resource.instanceType: Standard_NC6s_v33 is not known; nearest: Standard_NC6s_v3",
        ),
        (
            workspace(instance_type="Standard_D4s_v5"),
            "UnknownInstanceType",
            "sizes that fit phi-3-mini-4k-instruct",
        ),
        (
            workspace(instance_type="Standard_NG32adms_V620_v1"),
            "UnsupportedInstanceType",
            "resource.instanceType: Standard_NG32adms_V620_v1 cannot serve phi-3-mini-4k-instruct: its accelerators "
            "are AMD Radeon PRO V620, and every runtime here needs NVIDIA GPUs; sizes that fit: Standard_NC4as_T4_v3",
        ),
        (
            workspace(instance_type="p5.48xlarge"),
            "UnknownInstanceType",
            "resource.instanceType: p5.48xlarge is a size of aws, and this operator's are those of azure; nearest:",
        ),
        (
            workspace("llama-2-7b"),
            "InvalidSpec",
            "inference.preset.weights: llama-2-7b may not be published as an image; say where your own copy of its",
        ),
        (
            workspace("llama-3.1-8b-instruct", instance_type="Standard_NC24ads_A100_v4"),
            "InvalidSpec",
            "modelAccessSecret: the hub gives llama-3.1-8b-instruct only to accounts that accepted its licence",
        ),
        (
            workspace(None, instance_type=None, inference={"template": {"spec": {}}}),
            "InstanceTypeMissing",
            "resource.instanceType: write the machine size",
        ),
        (
            workspace("phi-4", instance_type="Standard_NC6s_v3"),
            "InsufficientGpuMemory",
            "Standard_NC6s_v3: phi-4 with a context of 8,192 tokens needs 33.1 GiB on each GPU; of NVIDIA V100 13.4 "
            "GiB can be used, so 19.7 GiB are missing; sizes that fit:",
        ),
        (
            workspace(
                instance_type=None, resource={"instanceTypes": ["Standard_NC24ads_A100_v4", "nonsense"]}
            ),
            "UnknownInstanceType",
            "resource.instanceTypes[1]: nonsense is not known",
        ),
        (
            workspace(resource={"partition": {"mode": "mig", "profile": "1g.10gb"}}),
            "PartitionNotImplemented",
            "not available yet",
        ),
        (
            workspace(
                None, inference={"template": {"spec": {}}, "adapters": [{"adapterRef": {"name": "a"}}]}
            ),
            "InvalidSpec",
            "inference.adapters: adapters are mounted on presets only",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) and each[:1].isupper() else "",
)
def test_nothing_is_bought_for_what_cannot_work(given: Object, reason: str, says: str) -> None:
    decision = decided(as_read(given))
    assert decision.writes == ()
    assert decision.deletions == ()
    assert decision.status is not None
    assert decision.status["reason"] == reason
    assert condition(decision.status, reason)["status"] == "True"
    assert says in condition(decision.status, reason)["message"]
    for type in ("ResourceReady", "InferenceReady", "WorkspaceReady"):
        assert condition(decision.status, type)["reason"] == reason
    assert [event.reason for event in decision.events] == [reason]
    again = decided(as_read({**given, "status": decision.status}))
    assert again.status == decision.status
    assert again.events == ()


def test_all_problems_are_told_at_once() -> None:
    decision = decided(Observed(workspace("phi-3-mini-4k", instance_type="Standard_NC6_v3")))
    assert decision.status is not None
    assert decision.status["reason"] == "UnknownPreset"
    for type in ("UnknownPreset", "UnknownInstanceType"):
        assert condition(decision.status, type)["status"] == "True"
    assert [event.reason for event in decision.events] == ["UnknownPreset", "UnknownInstanceType"]


def test_tuning_is_accepted_and_says_what_is_missing() -> None:
    decision = decided(Observed(seed("tuning")))
    assert decision.writes == ()
    assert decision.status is not None
    assert decision.status["reason"] == "TuningNotImplemented"
    assert condition(decision.status, "JobStarted")["status"] == "False"
    assert (
        "no node is bought and no job is started" in condition(decision.status, "WorkspaceReady")["message"]
    )


def test_a_problem_that_was_fixed_leaves_no_trace() -> None:
    broken = workspace(instance_type="Standard_NC6s_v33")
    status = decided(Observed(broken)).status
    fixed = {**workspace(), "status": status}
    decision = decided(Observed(fixed))
    assert kinds(decision) == ["Machine", "Service"]
    assert all(each["type"] != "UnknownInstanceType" for each in (decision.status or {})["conditions"])


def test_an_object_that_does_not_fit_the_model_keeps_its_children() -> None:
    observed = settled(workspace())
    broken = replace(
        observed, invalid=InvalidSpec("inference.adapters[0].strength", 'it is "2"; write 0 to 1')
    )
    decision = decided(broken)
    assert decision.writes == ()
    assert decision.deletions == ()
    assert decision.status is not None
    assert condition(decision.status, "InvalidSpec")["message"].startswith("inference.adapters[0].strength: ")
    assert decision.status["workerNodes"] == observed.workspace["status"]["workerNodes"]
    assert decision.status["endpoint"] == "http://10.96.0.7"
    assert [event.reason for event in decision.events] == ["WorkspaceNotReady", "InvalidSpec"]


def test_the_bypass_annotation_lets_any_size_pass() -> None:
    bypass = {"kaito.sh/bypass-resource-checks": ""}
    observed, decision = step(Observed(workspace(instance_type="Standard_NX1", annotations=bypass)))
    assert kinds(decision) == ["Machine", "Service"]
    decision = decided(provisioned(observed))
    limits = written(decision, "Deployment")["spec"]["template"]["spec"]["containers"][0]["resources"][
        "limits"
    ]
    assert limits == {"nvidia.com/gpu": "1"}


def test_a_config_map_that_is_missing_and_one_that_changes() -> None:
    given = workspace(inference={"config": "mine"})
    observed, decision = step(Observed(given))
    assert [event.reason for event in decision.events] == ["ConfigMapNotFound"]
    assert kinds(decision) == ["Service"]
    assert condition(decision.status, "InferenceReady")["reason"] == "ConfigMapNotFound"
    observed, decision = step(replace(observed, config_hash="1"))
    assert kinds(decision) == ["Machine"]
    missing = decided(replace(provisioned(observed), config_hash=None))
    assert kinds(missing) == []
    assert condition(missing.status, "InferenceReady")["reason"] == "ConfigMapNotFound"
    observed, decision = step(provisioned(observed))
    pod = written(decision, "Deployment")["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"kaito.sh/config-hash": "1"}
    assert {"name": "config-volume", "configMap": {"name": "mine"}} in pod["spec"]["volumes"]
    assert kinds(decided(observed)) == []
    assert kinds(decided(replace(observed, config_hash="2"))) == ["Deployment"]
    gone = decided(replace(observed, config_hash=None))
    assert kinds(gone) == []
    assert "served as before" in condition(gone.status, "InferenceReady")["message"]


def test_a_config_map_that_nobody_can_read_buys_nothing_and_changes_nothing() -> None:
    given = workspace(inference={"config": "mine"})
    fault = unreadable("vllm: [\n")
    observed, decision = step(Observed(given, config_hash="1", config_fault=fault))
    assert kinds(decision) == ["Service"]
    found = condition(decision.status, "ResourceReady")
    assert found["reason"] == "InvalidSpec"
    assert (
        "inference.config: inference_config.yaml in ConfigMap mine is not YAML (line 2)" in found["message"]
    )
    observed, decision = step(replace(observed, config_hash="2", config_fault=""))
    assert kinds(decision) == ["Machine"]
    observed, _ = step(provisioned(observed))
    broken = decided(replace(observed, config_hash="3", config_fault=fault))
    assert kinds(broken) == []
    assert "served as before" in condition(broken.status, "InferenceReady")["message"]


def test_a_setting_that_the_server_would_end_with_buys_nothing_and_changes_nothing() -> None:
    given = workspace(inference={"config": "mine"})
    text = "vllm: {max-modl-len: 4096}"
    observed, decision = step(Observed(given, config_hash="1", config_faults=faults(text)))
    assert kinds(decision) == ["Service"]
    found = condition(decision.status, "ResourceReady")
    assert found["reason"] == "InvalidSpec"
    assert (
        "inference.config: vllm.max-modl-len: vLLM 0.32.0 has no such option; did you mean max-model-len? "
        "(inference_config.yaml in ConfigMap mine)"
    ) in found["message"]
    observed, decision = step(replace(observed, config_hash="2", config_faults={}))
    assert kinds(decision) == ["Machine"]
    observed, _ = step(provisioned(observed))
    broken = decided(replace(observed, config_hash="3", config_faults=faults(text)))
    assert kinds(broken) == []
    assert "served as before" in condition(broken.status, "InferenceReady")["message"]


def test_a_setting_of_another_server_or_of_an_image_of_ones_own_holds_up_nothing() -> None:
    told = faults("vllm: {max-modl-len: 4096}")
    other = workspace(inference={"config": "mine"}, annotations={"kaito.sh/runtime": "transformers"})
    assert kinds(decided(Observed(other, config_hash="1", config_faults=told))) == ["Machine", "Service"]
    own = workspace(inference={"config": "mine"})
    own["inference"]["preset"]["presetOptions"] = {"image": "registry.example.com/own:1"}
    assert kinds(decided(Observed(own, config_hash="1", config_faults=told))) == ["Machine", "Service"]


def foreign(kind: str) -> Object:
    return {"kind": kind, "metadata": {"name": "phi", "namespace": "default", "uid": "theirs"}, "spec": {}}


@pytest.mark.parametrize(("field", "kind"), [("deployment", "Deployment"), ("service", "Service")])
def test_somebody_elses_children_are_never_touched(field: str, kind: str) -> None:
    observed = Observed(workspace(), **{field: foreign(kind)})
    decision = decided(observed)
    assert kinds(decision) == [], "no node is bought for a model that nobody could reach"
    assert condition(decision.status, "NameTaken")["message"].startswith(f"a {kind} phi exists already")
    assert condition(decision.status, "InferenceReady")["reason"] == "NameTaken"


def test_an_adapter_goes_from_asked_for_to_mounted() -> None:
    observed, decision = step(Observed(inline(strength="0.5")), TINY)
    assert kinds(decision) == ["Adapter", "Service"]
    adapter = written(decision, "Adapter")
    assert adapter["metadata"]["name"] == "phi-pirate"
    assert adapter["metadata"]["ownerReferences"][0]["controller"] is True
    assert adapter["spec"]["source"] == {"name": "pirate", "image": "registry.example/adapter:1"}
    assert condition(decision.status, "InferenceReady")["reason"] == "AdapterPending"
    observed, decision = step(with_adapter(observed, adapter_status()), TINY)
    assert kinds(decision) == ["Machine"]
    observed, decision = step(provisioned(observed), TINY)
    pod = written(decision, "Deployment")["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["args"] == [
        "--image=registry.example/adapter:1",
        "--output=/mnt/adapter/pirate",
    ]
    assert "--adapter=pirate=0.5" in pod["containers"][0]["args"]
    assert decision.status is not None
    (use,) = decision.status["adapters"]
    assert (use["state"], use["reason"]) == ("Ready", "FitsStandIn")


@pytest.mark.parametrize(
    ("status", "config", "reason", "says"),
    [
        (
            refused(
                "InvalidImageReference",
                "still holds the placeholder ACR_REPO_HERE; write your registry's name",
            ),
            TINY,
            "InvalidImageReference",
            "adapter pirate: still holds the placeholder ACR_REPO_HERE; write your registry's name",
        ),
        (
            refused("Unreadable", "no adapter_config.json"),
            TINY,
            "AdapterUnreadable",
            "no adapter_config.json",
        ),
        (adapter_status(), CONFIG, "AdapterDoesNotFit", "trained on tiny-phi-3"),
        (adapter_status("microsoft/Phi-3-mini-4k-instruct"), TINY, "AdapterDoesNotFit", "stand-in weights"),
    ],
)
def test_an_adapter_that_cannot_be_used(
    status: Object, config: WorkspaceConfig, reason: str, says: str
) -> None:
    observed, _ = step(Observed(inline()), config)
    observed, first = step(with_adapter(observed, status), config)
    decision = decided(provisioned(observed), config)
    assert kinds(decision) == []
    ready = condition(decision.status, "InferenceReady")
    assert ready["reason"] == reason
    assert says in ready["message"]
    assert reason in [event.reason for event in first.events]
    assert decision.status is not None
    assert decision.status["reason"] == reason


def test_a_served_model_goes_on_when_an_adapter_is_edited_into_a_bad_one() -> None:
    observed = settled(workspace())
    edited = {**inline(), "status": observed.workspace["status"]}
    observed, decision = step(replace(observed, workspace=edited))
    assert kinds(decision) == ["Adapter"]
    observed = with_adapter(observed, refused("Unreadable", "gone"))
    decision = decided(observed)
    assert kinds(decision) == []
    assert decision.deletions == ()
    assert condition(decision.status, "InferenceReady")["message"].endswith(
        "until then the model is served as before"
    )


def test_a_changed_source_waits_for_fresh_facts() -> None:
    observed, _ = step(Observed(inline()), TINY)
    observed = with_adapter(provisioned(observed), adapter_status())
    changed = {**inline("registry.example/adapter:2"), "status": observed.workspace["status"]}
    decision = decided(replace(observed, workspace=changed), TINY)
    assert kinds(decision) == ["Adapter"]
    assert condition(decision.status, "InferenceReady")["reason"] == "AdapterPending"


def test_an_old_condition_of_an_adapter_does_not_count() -> None:
    observed, _ = step(Observed(inline()), TINY)
    status = adapter_status()
    status["conditions"][0]["observedGeneration"] = 0
    decision = decided(with_adapter(provisioned(observed), status), TINY)
    assert condition(decision.status, "InferenceReady")["reason"] == "AdapterPending"


def test_somebody_elses_adapter_is_never_touched() -> None:
    theirs = alive({"metadata": {"name": "phi-pirate", "namespace": "default", "uid": "theirs"}, "spec": {}})
    decision = decided(Observed(inline(), adapters={"phi-pirate": theirs}))
    assert "Adapter" not in kinds(decision)
    assert decision.deletions == ()
    assert condition(decision.status, "AdapterNameTaken")["status"] == "True"
    assert condition(decision.status, "InferenceReady")["reason"] == "AdapterNameTaken"


def test_an_adapter_that_was_edited_out_is_deleted_and_a_shared_one_is_not() -> None:
    observed, _ = step(Observed(inline()))
    shared = alive(
        {"metadata": {"name": "shared", "namespace": "default"}, "spec": {"source": {"image": "r/a:1"}}}
    )
    plain = {**workspace(), "status": observed.workspace["status"]}
    decision = decided(replace(observed, workspace=plain, adapters={**observed.adapters, "shared": shared}))
    assert [each.name for each in decision.deletions] == ["phi-pirate"]


def test_a_shared_adapter_that_is_missing() -> None:
    decision = decided(Observed(workspace(inference={"adapters": [{"adapterRef": {"name": "nobody"}}]})))
    assert kinds(decision) == ["Service"]
    assert (
        "there is no Adapter nobody in namespace default"
        in (condition(decision.status, "InferenceReady")["message"])
    )


def test_long_adapter_names_are_cut_and_hashed() -> None:
    short = adapter_name("workspace-phi-3-mini", "phi-3-adapter")
    assert short == "workspace-phi-3-mini-phi-3-adapter"
    long = adapter_name("w" * 40, "a" * 40)
    assert len(long) == 63
    assert long != adapter_name("w" * 40, "a" * 39 + "b")
    assert long == adapter_name("w" * 40, "a" * 40)


def test_adapters_with_similar_names_do_not_share_a_volume() -> None:
    names = ["a.b", "a-b", "x" * 70, "x" * 69 + "y", "x" * 69 + ".", "."]
    parts = [part_name("adapter-volume", name) for name in names]
    assert parts[1] == "adapter-volume-a-b"
    assert len(set(parts)) == len(names)
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", part) for part in parts), parts
