"""What the API server admits and refuses under KAITO's CRDs, and with which words."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, WORKSPACES, WORKSPACES_V1ALPHA1
from kaito.runtime.client import PatchType
from kaito.runtime.errors import Invalid
from kaito.runtime.resources import CRDS, Resource
from kaito.runtime.testing.virtual import VirtualClock
from support.control_plane import ControlPlane, control_plane

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = sorted(REPOSITORY.glob("examples/inference/*.yaml")) + sorted(
    REPOSITORY.glob("examples/fine-tuning/*.yaml")
)
VERSIONS = (WORKSPACES_V1ALPHA1, WORKSPACES)
SELECTOR = {"labelSelector": {"matchLabels": {"apps": "phi-3"}}}
PRESET = {"preset": {"name": "phi-3-mini-4k-instruct"}}
TUNING = {
    "preset": {"name": "phi-3-mini-4k-instruct"},
    "method": "QLoRA",
    "input": {"urls": ["https://example.com/data.parquet?download=true"]},
    "output": {"image": "registry.example/out:1", "imagePushSecret": "push"},
}
ADAPTER = {"source": {"name": "friendly", "image": "registry.example/a:1"}, "strength": "0.5"}
Object = dict[str, Any]


@pytest.fixture
async def world(virtual_clock: VirtualClock) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        yield plane


async def create(world: ControlPlane, resource: Resource, body: Object) -> Object:
    return await world.client.create(
        resource, {**body, "apiVersion": resource.api_version, "kind": resource.kind}
    )


def workspace(**changes: Any) -> Object:
    """A valid Workspace; a block set to None is left out."""
    made = {
        "metadata": {"name": "ws", "namespace": "default"},
        "resource": {"instanceType": "Standard_NC6s_v3", **SELECTOR},
        "inference": PRESET,
        **changes,
    }
    return {key: copy.deepcopy(value) for key, value in made.items() if value is not None}


async def refusal(world: ControlPlane, body: Object, resource: Resource = WORKSPACES) -> dict[str, str]:
    """Field to message of each cause."""
    with pytest.raises(Invalid) as caught:
        await create(world, resource, body)
    return {cause["field"]: cause["message"] for cause in caught.value.details["causes"]}


def example(path: Path) -> Object:
    loaded: Object = yaml.safe_load(path.read_text())
    return loaded


# --- what must be admitted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("resource", VERSIONS, ids=lambda each: each.version)
async def test_the_examples_are_admitted_under_both_names(
    world: ControlPlane, path: Path, resource: Resource
) -> None:
    body = example(path)
    body["metadata"]["namespace"] = "default"
    made = await create(world, resource, {**body, "apiVersion": resource.api_version})
    for block in ("resource", "inference", "tuning"):
        if block in body:
            assert _without_defaults(made[block]) == body[block]


def _without_defaults(block: Object) -> Object:
    block = copy.deepcopy(block)
    if (preset := block.get("preset")) is not None:
        assert preset.pop("accessMode") == "public"
    return block


EVERYTHING: Object = {
    "resource": {
        "count": 1,
        "instanceTypes": ["Standard_NC6s_v3", "Standard_NC24ads_A100_v4"],
        "preferredNodes": ["a"],
        "labelSelector": {
            "matchLabels": {"apps": "x"},
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}],
        },
    },
    "inference": {
        "preset": {
            "name": "phi-3",
            "accessMode": "private",
            "presetOptions": {"image": "x/y:1", "imagePullSecrets": ["s"], "modelAccessSecret": "hf"},
        },
        "config": "my-config",
        "adapters": [
            ADAPTER,
            {"adapterRef": {"name": "shared"}},
            {"source": {"name": "disk", "volumeSource": {"hostPath": {"path": "/a", "odd": {"deep": [1]}}}}},
        ],
    },
}
STATUS: Object = {
    "state": "Ready",
    "reason": "Ready",
    "workerNodes": ["n"],
    "targetNodeCount": 1,
    "instanceType": "Standard_NC6s_v3",
    "endpoint": "http://10.96.0.5",
    "nodes": [
        {
            "slot": 0, "attempt": 2, "claimName": "ws1", "claimUID": "u", "nodeName": "n", "instanceType": "t",
            "state": "Ready", "reason": "Ready", "message": "m", "failedAt": "2026-11-21T12:00:00Z",
        }
    ],
    "adapters": [{"name": "friendly", "adapter": "ws-friendly", "state": "Ready", "reason": "Fits", "message": ""}],
    "performance": {"metrics": {"tps": {"description": "d", "value": "1", "unit": "t/s", "config": {"a": "b"}}}},
    "resolved": {"anything": {"deep": [1, {"x": "y"}]}},
    "conditions": [
        {
            "type": "ResourceReady", "status": "True", "reason": "ok", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-11-21T12:00:00Z",
        }
    ],
}  # fmt: skip


@pytest.mark.parametrize("write", VERSIONS, ids=lambda each: f"write-{each.version}")
@pytest.mark.parametrize("read", VERSIONS, ids=lambda each: f"read-{each.version}")
async def test_nothing_is_lost_whichever_version_writes_and_reads(
    world: ControlPlane, write: Resource, read: Resource
) -> None:
    await create(world, write, workspace(**EVERYTHING))
    await world.client.patch_status(write, "ws", "default", STATUS)
    await world.client.patch(write, "ws", "default", patch={"metadata": {"labels": {"touched": "yes"}}})
    found = await world.client.get(read, "ws", "default")
    assert found["apiVersion"] == read.api_version
    assert {key: found[key] for key in EVERYTHING} == EVERYTHING
    assert found["status"] == STATUS


async def test_a_whole_object_can_be_replaced_through_the_older_version(world: ControlPlane) -> None:
    await create(world, WORKSPACES, workspace(**EVERYTHING))
    found = await world.client.get(WORKSPACES_V1ALPHA1, "ws", "default")
    found["metadata"]["labels"] = {"a": "b"}
    await world.client.update(WORKSPACES_V1ALPHA1, found)
    again = await world.client.get(WORKSPACES, "ws", "default")
    assert {key: again[key] for key in EVERYTHING} == EVERYTHING


async def test_nothing_that_costs_money_is_filled_in(world: ControlPlane) -> None:
    made = await create(world, WORKSPACES, workspace(resource=SELECTOR))
    assert made["resource"] == SELECTOR


async def test_a_template_of_any_shape_is_kept(world: ControlPlane) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i", "whatever": {"a": [1, None, "x"]}}]}}
    made = await create(world, WORKSPACES, workspace(inference={"template": template}))
    assert made["inference"]["template"] == template


@pytest.mark.parametrize("strength", ["0", "1", "1.0", "0.25", ".5", "5e-1", "1e0", "+0.5", "0."])
async def test_every_way_to_write_a_strength(world: ControlPlane, strength: str) -> None:
    adapter = {**ADAPTER, "strength": strength}
    await create(world, WORKSPACES, workspace(inference={**PRESET, "adapters": [adapter]}))


# --- what must be refused, with the path and what to write -------------------------------------------------


def adapters(*entries: Object) -> Object:
    return {"inference": {**PRESET, "adapters": list(entries)}}


def tuning(**changes: Any) -> Object:
    block = {key: value for key, value in {**TUNING, **changes}.items() if value is not None}
    return {"inference": None, "tuning": block}


REFUSED: list[tuple[str, Object, str, str]] = [
    ("neither", {"inference": None}, "inference", "write `inference: {preset: {name:"),
    ("both", {"tuning": TUNING}, "tuning", "exclude one another: keep one"),
    ("no resource", {"resource": None}, "resource", "write `resource: {instanceType:"),
    (
        "no selector",
        {"resource": {"instanceType": "a"}},
        "resource.labelSelector",
        "write for example `labelSelector:",
    ),
    (
        "selector without value",
        {"resource": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}},
        "resource.labelSelector.matchExpressions",
        "write matchLabels, or the operator In with exactly one value",
    ),
    ("count 0", {"resource": {**SELECTOR, "count": 0}}, "resource.count", "greater than or equal to 1"),
    (
        "type and types",
        {"resource": {**SELECTOR, "instanceType": "a", "instanceTypes": ["b"]}},
        "resource.instanceTypes",
        "keep instanceTypes for a list",
    ),
    (
        "a type twice",
        {"resource": {**SELECTOR, "instanceTypes": ["b", "b"]}},
        "resource.instanceTypes",
        "write each once, best first",
    ),
    (
        "17 types",
        {"resource": {**SELECTOR, "instanceTypes": [str(each) for each in range(17)]}},
        "resource.instanceTypes",
        "must have at most 16 items",
    ),
    (
        "partition",
        {"resource": {**SELECTOR, "partition": {"mode": "mig", "count": 1}}},
        "resource.partition",
        "write profile (and no count) in mode mig",
    ),
    (
        "neither preset nor template",
        {"inference": {}},
        "inference.preset",
        "write preset (a model KAITO knows",
    ),
    ("preset and template", {"inference": {**PRESET, "template": {}}}, "inference.template", "keep one"),
    ("preset without name", {"inference": {"preset": {}}}, "inference.preset.name", "Required value"),
    ("adapter twice", adapters(ADAPTER, ADAPTER), "inference.adapters", "give each its own source.name"),
    (
        "adapter and reference of one name",
        adapters(ADAPTER, {"adapterRef": {"name": "friendly"}}),
        "inference.adapters",
        "give each its own source.name",
    ),
    (
        "adapter without source",
        adapters({"strength": "0.5"}),
        "inference.adapters[0]",
        "write exactly one of source (where the adapter's files are) and adapterRef",
    ),
    (
        "adapter with both",
        adapters({**ADAPTER, "adapterRef": {"name": "x"}}),
        "inference.adapters[0]",
        "write exactly one of source",
    ),
    (
        "adapter without name",
        adapters({"source": {"image": "x/y:1"}}),
        "inference.adapters[0].source",
        "source.name is missing: write the adapter's name",
    ),
    (
        "adapter of a bad name",
        adapters({"source": {"name": "My Adapter", "image": "x/y:1"}}),
        "inference.adapters[0].source.name",
        "write lower-case letters, digits",
    ),
    (
        "adapter from nowhere",
        adapters({"source": {"name": "a"}}),
        "inference.adapters[0].source",
        "write exactly one of image",
    ),
    (
        "adapter from image and volume",
        adapters({"source": {"name": "a", "image": "x/y:1", "volumeSource": {}}}),
        "inference.adapters[0].source",
        "write exactly one of image",
    ),
    (
        "adapter from URLs",
        adapters({"source": {"name": "a", "image": "x/y:1", "urls": ["https://x"]}}),
        "inference.adapters[0].source.urls",
        "cannot be downloaded from URLs; write source.image",
    ),
    (
        "11 adapters",
        adapters(*({"adapterRef": {"name": f"a{each}"}} for each in range(11))),
        "inference.adapters",
        "must have at most 10 items",
    ),
    *(
        (
            f"strength {strength}",
            adapters({**ADAPTER, "strength": strength}),
            "inference.adapters[0].strength",
            'write a number from "0" to "1" as text',
        )
        for strength in ("1.5", "-0.1", "much", "", "1e9", "NaN", "0.5 ", "0x1")
    ),
    ("tuning without preset", tuning(preset=None), "tuning.preset", "write `preset: {name:"),
    ("tuning without method", tuning(method=None), "tuning.method", "write `method: lora`"),
    ("tuning by another method", tuning(method="full"), "tuning.method", "write lora or qlora"),
    ("tuning without input", tuning(input=None), "tuning.input", "write `input: {urls:"),
    ("tuning of nothing", tuning(input={"name": "x"}), "tuning.input", "write exactly one of urls, image"),
    ("tuning without output", tuning(output=None), "tuning.output", "write `output: {image:"),
    ("tuning to nowhere", tuning(output={}), "tuning.output", "write exactly one of image and volumeSource"),
    (
        "tuning without secret",
        tuning(output={"image": "x/y"}),
        "tuning.output.imagePushSecret",
        "needs the name of",
    ),
    (
        "tuning on two nodes",
        {**tuning(), "resource": {**SELECTOR, "count": 2}},
        "resource.count",
        "fine-tuning runs on one node; write 1",
    ),
    (
        "name with a dot",
        {"metadata": {"name": "a.b", "namespace": "default"}},
        "<nil>",
        "metadata.name: a Service gets this name, so write at most 63",
    ),
    (
        "name that starts with a digit",
        {"metadata": {"name": "3phi", "namespace": "default"}},
        "<nil>",
        "starting with a letter",
    ),
]


@pytest.mark.parametrize(
    ("changes", "field", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
async def test_bad_input_is_refused_with_its_path_and_what_to_write(
    world: ControlPlane, changes: Object, field: str, words: str
) -> None:
    causes = await refusal(world, workspace(**changes))
    assert field in causes
    assert words in causes[field]


async def test_both_versions_refuse_alike(world: ControlPlane) -> None:
    body = workspace(inference=None)
    assert await refusal(world, body) == await refusal(world, body, WORKSPACES_V1ALPHA1)


# --- what may not change -----------------------------------------------------------------------------------


async def changed(world: ControlPlane, before: Object, patch: Object) -> str:
    """The refusal of a merge patch, "" when it passes."""
    await create(world, WORKSPACES, workspace(**before))
    try:
        await world.client.patch(WORKSPACES, "ws", "default", patch=patch)
    except Invalid as error:
        return str(error)
    return ""


RESOURCE = {"instanceType": "Standard_NC6s_v3", **SELECTOR}
TYPES = {"instanceTypes": ["a", "b"], **SELECTOR}
FIXED: list[tuple[str, Object, Object, str]] = [
    ("toggled", {}, {"inference": None, "tuning": TUNING}, "cannot be swapped once set"),
    ("preset", {}, {"inference": {"preset": {"name": "other"}}}, "inference.preset: cannot change"),
    ("to template", {}, {"inference": {"preset": None, "template": {"spec": {}}}}, "cannot be swapped once set"),
    ("selector", {}, {"resource": {"labelSelector": {"matchLabels": {"x": "y"}}}}, "labelSelector: cannot change"),
    ("selector gone", {}, {"resource": {"labelSelector": None}}, "labelSelector is missing"),
    ("type", {}, {"resource": {"instanceType": "other"}}, "instanceType: cannot change once set"),
    ("type gone", {}, {"resource": {"instanceType": None}}, "instanceType: cannot change once set"),
    ("count", {"resource": {**RESOURCE, "count": 2}}, {"resource": {"count": 3}}, "count: cannot change once set"),
    ("count gone", {"resource": {**RESOURCE, "count": 2}}, {"resource": {"count": None}}, "count: cannot change"),
    ("fewer types", {"resource": TYPES}, {"resource": {"instanceTypes": ["b"]}}, "not taken away"),
    ("types gone", {"resource": TYPES}, {"resource": {"instanceTypes": None}}, "not taken away"),
    ("partition", {}, {"resource": {"partition": {"mode": "mig", "profile": "1g.5gb"}}}, "partition: cannot be added"),
    ("tuning preset", tuning(), {"tuning": {"preset": {"name": "other"}}}, "tuning.preset: cannot change"),
    ("method", tuning(), {"tuning": {"method": "lora"}}, "tuning.method: cannot change"),
    ("input gone", tuning(), {"tuning": {"input": None}}, "tuning.input is missing"),
    ("data name", tuning(input={**TUNING["input"], "name": "a"}), {"tuning": {"input": {"name": "b"}}}, "name: cannot"),
]  # fmt: skip
FREE: list[tuple[str, Object, Object]] = [
    ("first type", {"resource": SELECTOR}, {"resource": {"instanceType": "a"}}),
    ("first count", {}, {"resource": {"count": 2}}),
    ("count 1 gone", {"resource": {**RESOURCE, "count": 1}}, {"resource": {"count": None}}),
    ("more types", {"resource": TYPES}, {"resource": {"instanceTypes": ["c", "b", "a"]}}),
    ("type to types", {}, {"resource": {"instanceType": None, "instanceTypes": ["x", "Standard_NC6s_v3"]}}),
    ("adapters", {}, {"inference": {"adapters": [ADAPTER]}}),
    ("strength", adapters(ADAPTER), {"inference": {"adapters": [{**ADAPTER, "strength": "1"}]}}),
    ("config", {}, {"inference": {"config": "other"}}),
    ("template", {"inference": {"template": {"a": 1}}}, {"inference": {"template": {"a": 2}}}),
    ("method's letter case", tuning(), {"tuning": {"method": "qlora"}}),
    ("annotations", {}, {"metadata": {"annotations": {"a": "b"}}}),
]


@pytest.mark.parametrize(
    ("before", "patch", "words"), [case[1:] for case in FIXED], ids=[case[0] for case in FIXED]
)
async def test_what_is_fixed_says_so(world: ControlPlane, before: Object, patch: Object, words: str) -> None:
    assert words in await changed(world, before, patch)


@pytest.mark.parametrize(("before", "patch"), [case[1:] for case in FREE], ids=[case[0] for case in FREE])
async def test_what_may_change_does(world: ControlPlane, before: Object, patch: Object) -> None:
    assert await changed(world, before, patch) == ""


# --- what was stored before the rules came -----------------------------------------------------------------


STORED_INVALID: list[tuple[str, Object]] = [
    ("neither", {"inference": None}),
    ("both", {"tuning": TUNING}),
    ("no resource", {"resource": None}),
    ("no selector", {"resource": {"instanceType": "a"}}),
    ("adapter twice", adapters(ADAPTER, ADAPTER)),
    ("adapter without source", adapters({"strength": "7"})),
    ("preset and template", {"inference": {**PRESET, "template": {}}}),
    ("type and types", {"resource": {**SELECTOR, "instanceType": "a", "instanceTypes": ["b"]}}),
    ("tuning on two nodes", {**tuning(), "resource": {**SELECTOR, "count": 2}}),
    ("name", {"metadata": {"name": "3phi", "namespace": "default"}}),
]


async def without_rules(world: ControlPlane) -> None:
    """The CRD as an older release had it: the same fields, no rules."""
    manifest = await world.client.get(CRDS, "workspaces.kaito.sh")
    for version in manifest["spec"]["versions"]:
        _strip(version["schema"]["openAPIV3Schema"])
    await world.client.update(CRDS, manifest)


def _strip(node: Any) -> None:
    if isinstance(node, dict):
        node.pop("x-kubernetes-validations", None)
        for child in node.values():
            _strip(child)


@pytest.mark.parametrize(
    "changes", [case[1] for case in STORED_INVALID], ids=[case[0] for case in STORED_INVALID]
)
async def test_a_stored_invalid_object_still_takes_status_and_loses_its_finalizer(
    world: ControlPlane, changes: Object
) -> None:
    rules = await world.client.get(CRDS, "workspaces.kaito.sh")
    await without_rules(world)
    body = workspace(**changes)
    body["metadata"]["finalizers"] = ["workspace.finalizer.kaito.sh"]
    name = body["metadata"]["name"]
    await create(world, WORKSPACES, body)
    current = await world.client.get(CRDS, "workspaces.kaito.sh")
    await world.client.update(CRDS, {**current, "spec": rules["spec"]})

    await world.client.patch_status(WORKSPACES, name, "default", STATUS)
    await world.client.patch(WORKSPACES, name, "default", patch={"metadata": {"annotations": {"a": "b"}}})
    await world.client.delete(WORKSPACES, name, "default")
    patch = [{"op": "remove", "path": "/metadata/finalizers/0"}]
    await world.client.patch(WORKSPACES, name, "default", patch=patch, patch_type=PatchType.JSON)
    assert await world.client.list(WORKSPACES) == []


@pytest.mark.parametrize(
    ("changes", "repair"),
    [
        ({"inference": None}, {"inference": PRESET}),
        ({"tuning": TUNING}, {"tuning": None}),
        ({"resource": {"instanceType": "a"}}, {"resource": SELECTOR}),
        ({"inference": {**PRESET, "template": {}}}, {"inference": {"template": None}}),
        (adapters({"strength": "7"}), {"inference": {"adapters": [ADAPTER]}}),
    ],
)
async def test_a_stored_invalid_object_can_be_repaired(
    world: ControlPlane, changes: Object, repair: Object
) -> None:
    rules = await world.client.get(CRDS, "workspaces.kaito.sh")
    await without_rules(world)
    await create(world, WORKSPACES, workspace(**changes))
    current = await world.client.get(CRDS, "workspaces.kaito.sh")
    await world.client.update(CRDS, {**current, "spec": rules["spec"]})
    await world.client.patch(WORKSPACES, "ws", "default", patch=repair)


# --- the other kinds ---------------------------------------------------------------------------------------


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
