"""The adapter controller's rules: what is read, what is refused, what is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kaito.api.adapter import Adapter
from kaito.api.views import parse
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.adapter import decide as rules
from kaito.controllers.adapter.decide import Decision, Refusal, decide
from kaito.controllers.adapter.facts import Facts

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SEED = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
MAPPED = "registry.example/adapters/friendly:2"
OPTIONS = AdapterOptions({MAPPED: Path("/layouts/friendly")}, host_paths=True)
FACTS = Facts("sha256:aa", 1200, "microsoft/Phi-3", 8, "16", ("o_proj",), "float16")


def adapter(**changes: Any) -> dict[str, Any]:
    spec = changes.pop("spec", {"source": {"name": "friendly", "image": MAPPED}})
    return {
        "metadata": {"name": "a", "namespace": "default", "generation": 1, **changes.pop("metadata", {})},
        "spec": spec,
        **changes,
    }


def asked(
    obj: dict[str, Any], outcome: Facts | Refusal | None = None, options: AdapterOptions = OPTIONS
) -> Decision:
    return decide(obj, parse(Adapter, obj), outcome, options, NOW)


def reason(decision: Decision) -> tuple[str, str, str]:
    assert decision.status is not None
    (condition,) = decision.status["conditions"]
    return condition["status"], condition["reason"], condition["message"]


def test_a_mapped_image_is_read_from_its_layout() -> None:
    assert asked(adapter()).read == rules.ReadLayout(Path("/layouts/friendly"), "2")


def test_a_placeholder_may_be_mapped_word_for_word() -> None:
    options = AdapterOptions({SEED: Path("/layouts/demo")})
    decision = asked(adapter(spec={"source": {"image": SEED}}), options=options)
    assert decision.read == rules.ReadLayout(Path("/layouts/demo"), None)


def test_a_host_path_is_read_where_nodes_and_operator_share_a_disk() -> None:
    obj = adapter(spec={"source": {"volumeSource": {"hostPath": {"path": "/adapters/a"}}}})
    assert asked(obj).read == rules.ReadDirectory(Path("/adapters/a"))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"image": "registry.example/a:1"}, "spec.source.image is pulled and read by the pod that serves it"),
        (
            {"volumeSource": {"hostPath": {"path": "/adapters/a"}}},
            "spec.source.volumeSource is read by the pod",
        ),
        (
            {"volumeSource": {"persistentVolumeClaim": {"claimName": "x"}}},
            "spec.source.volumeSource is read by the pod",
        ),
    ],
)
def test_in_a_cluster_pods_read_what_the_operator_does_not_see(source: dict[str, Any], told: str) -> None:
    in_cluster = AdapterOptions({MAPPED: Path("/layouts/friendly")})
    before = adapter(spec={"source": source}, status=asked(adapter(), FACTS).status)
    before["metadata"]["generation"] = 2
    decision = asked(before, options=in_cluster)
    status, why, message = reason(decision)
    assert (status, why) == ("True", "ReadByPod")
    assert told in message
    assert decision.status is not None
    assert [decision.status[key] for key in rules.FACT_KEYS] == [None] * len(rules.FACT_KEYS)
    assert decision.requeue_after is None
    before["status"] = decision.status
    assert asked(before, options=in_cluster) == Decision()


def test_in_a_cluster_a_placeholder_is_told_all_the_same() -> None:
    decision = asked(adapter(spec={"source": {"image": SEED}}), options=AdapterOptions({}))
    assert reason(decision)[:2] == ("False", "InvalidImageReference")


def test_facts_become_the_status() -> None:
    decision = asked(adapter(), FACTS)
    assert decision.status is not None
    assert {key: value for key, value in decision.status.items() if key != "conditions"} == {
        "source": MAPPED,
        "digest": "sha256:aa",
        "sizeBytes": 1200,
        "baseModel": "microsoft/Phi-3",
        "rank": 8,
        "alpha": "16",
        "targetModules": ["o_proj"],
        "dtype": "float16",
        "format": "safetensors",
    }
    assert reason(decision) == ("True", "Readable", "rank 8, 1200 bytes, made for microsoft/Phi-3")
    assert decision.requeue_after is None


def test_facts_are_kept_until_the_spec_changes() -> None:
    known = adapter(status=asked(adapter(), FACTS).status)
    assert asked(known) == Decision()
    known["metadata"]["generation"] = 2
    assert asked(known).read is not None


def test_a_placeholder_that_nothing_maps_says_what_to_write() -> None:
    decision = asked(adapter(spec={"source": {"image": SEED}}))
    status, why, message = reason(decision)
    assert (status, why) == ("False", "InvalidImageReference")
    assert "spec.source.image" in message
    assert "still holds the placeholder ACR_REPO_HERE; write your registry's name" in message
    assert "ADAPTER_HERE" in message
    assert decision.requeue_after == rules.RETRY
    assert decision.warning == Refusal(why, message)


def test_an_image_of_a_registry_says_how_to_go_on() -> None:
    status, why, message = reason(asked(adapter(spec={"source": {"image": "registry.example/a:1"}})))
    assert (status, why) == ("False", "Unreadable")
    assert "on one machine images are not pulled from registries" in message
    assert "--image registry.example/a:1=oci:DIRECTORY" in message


def test_another_volume_is_named() -> None:
    obj = adapter(spec={"source": {"volumeSource": {"persistentVolumeClaim": {"claimName": "x"}}}})
    assert "volumeSource is persistentVolumeClaim; only hostPath" in reason(asked(obj))[2]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({}, "spec.source: write `source: {image:"),
        ({"source": {}}, "spec.source: write exactly one of image (an image with the files under /data)"),
        ({"source": {"image": "a", "volumeSource": {}}}, "spec.source: write exactly one"),
        ({"source": {"urls": ["https://x"]}}, "spec.source.urls: an adapter cannot be downloaded"),
        ({"source": {"image": 7}}, "spec.source.image: input should be a valid string"),
    ],
)
def test_an_object_stored_under_older_rules_is_an_answer(spec: dict[str, Any], path: str) -> None:
    decision = asked(adapter(spec=spec))
    status, why, message = reason(decision)
    assert (status, why) == ("False", "InvalidSpec")
    assert message.startswith(path)
    assert decision.requeue_after is None


def test_facts_of_an_earlier_source_go_when_the_new_one_cannot_be_read() -> None:
    known = adapter(status=asked(adapter(), FACTS).status, metadata={"generation": 2})
    decision = asked(known, Refusal("Unreadable", "gone"))
    assert decision.status is not None
    assert all(decision.status[key] is None for key in rules.FACT_KEYS)


def test_the_same_refusal_is_told_once() -> None:
    refusal = Refusal("Unreadable", "gone")
    told = adapter(status=asked(adapter(), refusal).status)
    again = asked(told, refusal)
    assert again.warning is None
    assert again.status == told["status"]


def test_an_adapter_on_its_way_out_is_left_alone() -> None:
    assert asked(adapter(metadata={"deletionTimestamp": "2026-11-21T12:00:00Z"})) == Decision()
