"""What may change in a Workspace, and what was stored before the rules came."""

from __future__ import annotations

from typing import Any

import pytest

from api.workspaces import (
    ADAPTER,
    PRESET,
    SELECTOR,
    STATUS,
    STORED_INVALID,
    TUNING,
    Object,
    adapters,
    create,
    refusal,
    strip_rules,
    tuning,
    workspace,
)
from kaito.api import sentences
from kaito.api.resources import WORKSPACES
from kaito.runtime.client import PatchType
from kaito.runtime.errors import Invalid
from kaito.runtime.resources import CRDS
from support.control_plane import ControlPlane

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
NAMED_DATA = {"urls": ["https://example.com/a"], "name": "a"}
FIXED: list[tuple[str, Object, Object, str]] = [
    ("toggled", {}, {"inference": None, "tuning": TUNING}, "cannot be swapped once set"),
    ("preset", {}, {"inference": {"preset": {"name": "other"}}}, "inference.preset: … cannot change;"),
    ("to template", {}, {"inference": {"preset": None, "template": {"spec": {}}}}, "cannot be swapped once set"),
    ("selector", {}, {"resource": {"labelSelector": {"matchLabels": {"x": "y"}}}}, "labelSelector: … cannot change;"),
    ("selector gone", {}, {"resource": {"labelSelector": None}}, "resource.labelSelector: … write for example"),
    ("type", {}, {"resource": {"instanceType": "other"}}, "resource.instanceType: … cannot change once set"),
    ("type gone", {}, {"resource": {"instanceType": None}}, "resource.instanceType: … cannot change once set"),
    ("count", {"resource": {**RESOURCE, "count": 2}}, {"resource": {"count": 3}}, "count: … cannot change"),
    ("count gone", {"resource": {**RESOURCE, "count": 2}}, {"resource": {"count": None}}, "count: … cannot change"),
    ("fewer types", {"resource": TYPES}, {"resource": {"instanceTypes": ["b"]}}, "not taken away"),
    ("types gone", {"resource": TYPES}, {"resource": {"instanceTypes": None}}, "not taken away"),
    ("partition", {}, {"resource": {"partition": {"mode": "mig", "profile": "1g.5gb"}}}, "cannot be added"),
    ("tuning preset", tuning(), {"tuning": {"preset": {"name": "other"}}}, "tuning.preset: … cannot change;"),
    ("method", tuning(), {"tuning": {"method": "lora"}}, "tuning.method: … cannot change;"),
    ("input gone", tuning(), {"tuning": {"input": None}}, "tuning.input: … write `input:"),
    ("data name", tuning(input=NAMED_DATA), {"tuning": {"input": {"name": "b"}}}, "input.name: … cannot change"),
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
    refusal = await changed(world, before, patch)
    assert all(part in refusal for part in words.split("…"))


@pytest.mark.parametrize(("before", "patch"), [case[1:] for case in FREE], ids=[case[0] for case in FREE])
async def test_what_may_change_does(world: ControlPlane, before: Object, patch: Object) -> None:
    assert await changed(world, before, patch) == ""


# --- what was stored before the rules came -----------------------------------------------------------------


async def without_rules(world: ControlPlane) -> None:
    """The CRD as an older release had it: the same fields, no rules."""
    manifest = await world.client.get(CRDS, "workspaces.kaito.sh")
    for version in manifest["spec"]["versions"]:
        strip_rules(version["schema"]["openAPIV3Schema"])
    await world.client.update(CRDS, manifest)


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


def rules_of_state(node: Any) -> set[str]:
    """The sentences of all rules in a schema that look at an object as it is, not at what changes."""
    found: set[str] = set()
    if isinstance(node, dict):
        for rule in node.get("x-kubernetes-validations") or ():
            if "oldSelf" not in rule["rule"] or (
                rule.get("optionalOldSelf") and rule["message"] != sentences.SWAPPED
            ):
                found.add(rule["message"])
        for child in node.values():
            found |= rules_of_state(child)
    return found


async def test_every_rule_was_broken_by_something_stored(world: ControlPlane) -> None:
    """So that the tests of stored objects, here and on a real API server, are about every rule there is."""
    manifest = await world.client.get(CRDS, "workspaces.kaito.sh")
    said = []
    for _, changes in STORED_INVALID:
        said += (await refusal(world, workspace(**changes))).values()
    spoken = "\n".join(said)
    silent = {
        each for each in rules_of_state(manifest["spec"]["versions"][0]["schema"]) if each not in spoken
    }
    assert silent == set()
