"""What the API server admits and refuses of a Workspace, and with which words."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from api.workspaces import (
    ADAPTER,
    EVERYTHING,
    PRESET,
    SELECTOR,
    STATUS,
    TUNING,
    VERSIONS,
    Object,
    adapters,
    create,
    refusal,
    tuning,
    workspace,
)
from kaito.api.resources import WORKSPACES, WORKSPACES_V1ALPHA1
from kaito.runtime.resources import Resource
from support.control_plane import ControlPlane

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = sorted(REPOSITORY.glob("examples/inference/*.yaml")) + sorted(
    REPOSITORY.glob("examples/fine-tuning/*.yaml")
)


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
        "write source.name, the adapter's name",
    ),
    (
        "adapter of a bad name",
        adapters({"source": {"name": "My Adapter", "image": "x/y:1"}}),
        "inference.adapters[0].source.name",
        "write lower-case letters, digits",
    ),
    (
        "adapter named as the base",
        adapters({"source": {"name": "base", "image": "x/y:1"}}),
        "inference.adapters[0].source",
        "give the adapter another name",
    ),
    (
        "reference named as the base",
        adapters({"adapterRef": {"name": "base"}}),
        "inference.adapters[0].adapterRef.name",
        "give the adapter another name",
    ),
    (
        "adapters beside a template",
        {"inference": {"template": {}, "adapters": [ADAPTER]}},
        "inference.adapters",
        "adapters are mounted on presets only",
    ),
    (
        "nothing but reserved labels",
        {"resource": {"labelSelector": {"matchLabels": {"kaito.sh/workspace": "x"}}}},
        "resource.labelSelector",
        "write at least one label of your own",
    ),
    (
        "odd profile",
        {"resource": {**SELECTOR, "partition": {"mode": "mig", "profile": "small"}}},
        "resource.partition.profile",
        "write a MIG profile",
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
