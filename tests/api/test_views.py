"""Read views: typed where an object fits, an answer where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from api.workspaces import weighed
from kaito.api.adapter import Adapter
from kaito.api.machine import Machine
from kaito.api.nodeclaim import NodeClaim
from kaito.api.resources import WORKSPACES
from kaito.api.views import InvalidSpec, parse, view
from kaito.api.workspace import Workspace, labels_of
from kaito.runtime.objects import CachedObject


def workspace(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "ws", "namespace": "default", "resourceVersion": "5", "generation": 2},
        "resource": {"instanceType": "Standard_NC6s_v3", "labelSelector": {"matchLabels": {"apps": "phi-3"}}},
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
        **changes,
    }


def parsed(**changes: Any) -> Workspace:
    found = parse(Workspace, workspace(**changes))
    assert isinstance(found, Workspace)
    return found


def test_fields_read_by_their_python_names() -> None:
    found = parsed()
    assert found.resource is not None
    assert found.resource.wanted_types == ["Standard_NC6s_v3"]
    assert found.inference is not None
    assert found.inference.preset is not None
    assert found.inference.preset.name == "phi-3-mini-4k-instruct"
    assert found.metadata.generation == 2
    assert labels_of(found) == {"apps": "phi-3"}


def test_selectors_of_both_kinds_become_labels() -> None:
    selector = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [{"key": "b", "operator": "In", "values": ["2"]}],
    }
    assert labels_of(parsed(resource={"labelSelector": selector})) == {"a": "1", "b": "2"}


def test_instance_types_come_in_order() -> None:
    found = parsed(resource={"instanceTypes": ["b", "a"], "labelSelector": {}})
    assert found.resource is not None
    assert found.resource.wanted_types == ["b", "a"]


def test_adapters_have_a_name_and_a_strength() -> None:
    adapters = [
        {"source": {"name": "x", "image": "i"}, "strength": "0.5"},
        {"adapterRef": {"name": "shared"}},
    ]
    found = parsed(inference={"preset": {"name": "p"}, "adapters": adapters})
    assert found.inference is not None
    entries = found.inference.adapters or []
    assert [(each.name, each.strength_value) for each in entries] == [("x", 0.5), ("shared", 1.0)]


def test_fields_of_a_newer_version_do_not_get_in_the_way() -> None:
    found = parsed(inference={"preset": {"name": "p", "tomorrow": {"deep": 1}}, "also": True})
    assert found.inference is not None
    assert found.inference.model_extra == {"also": True}


PRESET = {"preset": {"name": "p"}}
SELECTOR = {"labelSelector": {"matchLabels": {"a": "b"}}}
TUNING = {
    "preset": {"name": "p"},
    "method": "QLoRA",
    "input": {"urls": ["https://x/y"]},
    "output": {"image": "x/y:1", "imagePushSecret": "s"},
}


def adapters(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"inference": {**PRESET, "adapters": list(entries)}}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"resource": None}, "resource"),
        ({"resource": {}}, "resource.labelSelector"),
        ({"resource": {"labelSelector": {"matchLabels": {"a": 1}}}}, "resource.labelSelector.matchLabels.a"),
        (
            {"resource": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}},
            "resource.labelSelector.matchExpressions[0]",
        ),
        ({"resource": {**SELECTOR, "count": "2"}}, "resource.count"),
        ({"resource": {**SELECTOR, "instanceType": "a", "instanceTypes": ["a"]}}, "resource.instanceTypes"),
        ({"inference": None}, "inference"),
        ({"tuning": TUNING}, "tuning"),
        ({"inference": {}}, "inference.preset"),
        ({"inference": {**PRESET, "template": {}}}, "inference.template"),
        ({"inference": {"preset": {}}}, "inference.preset.name"),
        ({"inference": {"preset": "phi"}}, "inference.preset"),
        (weighed(), "inference.preset.weights"),
        (weighed(image="x/y:1", path="/models"), "inference.preset.weights"),
        (weighed(huggingFace="phi-3"), "inference.preset.weights.huggingFace"),
        (weighed(huggingFace="a/b\n"), "inference.preset.weights.huggingFace"),
        (weighed(huggingFace="a/b", revision="../x"), "inference.preset.weights.revision"),
        (weighed(image="x/y:1", revision="main"), "inference.preset.weights.revision"),
        (weighed(path="models"), "inference.preset.weights.path"),
        (weighed(path="/models/../etc"), "inference.preset.weights.path"),
        (weighed(path="/models", storageClassName="nvme"), "inference.preset.weights.storageClassName"),
        (adapters({}), "inference.adapters[0]"),
        (
            adapters({"source": {"name": "a", "image": "i"}, "adapterRef": {"name": "b"}}),
            "inference.adapters[0]",
        ),
        (adapters({"source": {"image": "i"}}), "inference.adapters[0].source.name"),
        (adapters({"source": {"name": "../../up", "image": "i"}}), "inference.adapters[0].source.name"),
        (adapters({"source": {"name": "a=1\n", "image": "i"}}), "inference.adapters[0].source.name"),
        (adapters({"source": {"name": "a"}}), "inference.adapters[0].source"),
        (adapters({"source": {"name": "a", "urls": ["u"]}}), "inference.adapters[0].source.urls"),
        (adapters(*[{"source": {"name": "a", "image": "i"}}] * 2), "inference.adapters"),
        (adapters({"adapterRef": {"name": "b"}, "strength": "1.5"}), "inference.adapters[0].strength"),
        (adapters({"adapterRef": {"name": "b"}, "strength": "much"}), "inference.adapters[0].strength"),
        (adapters({"adapterRef": {"name": "b"}, "strength": "nan"}), "inference.adapters[0].strength"),
        ({"inference": None, "tuning": {**TUNING, "preset": None}}, "tuning.preset"),
        ({"inference": None, "tuning": {**TUNING, "method": "full"}}, "tuning.method"),
        ({"inference": None, "tuning": {**TUNING, "input": None}}, "tuning.input"),
        ({"inference": None, "tuning": {**TUNING, "output": {}}}, "tuning.output"),
        (
            {"inference": None, "tuning": {**TUNING, "output": {"image": "a"}}},
            "tuning.output.imagePushSecret",
        ),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(changes: dict[str, Any], path: str) -> None:
    found = parse(Workspace, workspace(**changes))
    assert isinstance(found, InvalidSpec)
    assert found.path == path
    assert found.message


def test_a_tuning_workspace_fits() -> None:
    assert parsed(inference=None, tuning=TUNING).tuning is not None


def test_the_sentence_shows_the_value() -> None:
    found = parse(Workspace, workspace(resource={**SELECTOR, "count": "2"}))
    assert str(found) == "resource.count: input should be a valid integer (it is '2')"


def cached(obj: dict[str, Any]) -> CachedObject:
    return CachedObject.from_dict(obj, WORKSPACES)


def test_a_view_is_made_once_for_each_version() -> None:
    obj = cached(workspace())
    assert view(Workspace, obj) is view(Workspace, obj)
    assert isinstance(view(Workspace, cached(workspace(inference=None))), InvalidSpec)


def test_other_kinds_read_too() -> None:
    machine = parse(Machine, {"metadata": {"name": "m"}, "status": {"providerID": "instant://m"}})
    assert isinstance(machine, Machine)
    assert machine.status is not None
    assert machine.status.provider_id == "instant://m"
    claim = parse(NodeClaim, {"metadata": {"name": "m"}, "spec": {}})
    assert isinstance(claim, InvalidSpec)
    assert claim.path == "spec.nodeClassRef"
    assert isinstance(parse(Adapter, {"spec": {"source": {"image": "a"}}}), Adapter)
