"""What a Machine or NodeClaim tells: ready, failed for good, or how far it is. Reads only the claim's status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Final

from kaito.api.conditions import find_condition, is_false, is_true
from kaito.api.labels import (
    INSTANCE_TYPE_LABEL,
    NODE_ATTEMPT_LABEL,
    NODE_IMAGE_FAMILY_ANNOTATION,
    NODE_SLOT_LABEL,
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
    WORKSPACE_UID_LABEL,
)
from kaito.api.reasons import DEAD_GPU, SIZE_REFUSED
from kaito.controllers.workspace.compare import stamped
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.children import cut
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.wanted import Problem, Size
from kaito.controllers.workspace.model import (
    Object,
    annotations_of,
    conditions,
    deleting,
    labels_of,
    metadata,
)
from kaito.controllers.workspace.names import claim_name
from kaito.controllers.workspace.render import render

STAGES: Final = (
    ("Launched", "MachineLaunched"),
    ("Registered", "MachineRegistered"),
    ("Initialized", "MachineInitialized"),
)
"""Conditions of a claim in the order they come True, as NodeClaims and Machines call them."""
AWAITING: Final = "AwaitingReconciliation"
DEFAULT_DISK: Final = "1024Gi"
"""Asked for where the model's need is not known."""
IMAGE_FAMILIES: Final = frozenset({"ubuntu", "azurelinux"})


def claim_ready(claim: Object) -> bool:
    """Whether the claim's node has joined and is initialized."""
    if deleting(claim):
        return False
    ready = find_condition(conditions(claim), "Ready")
    if ready is None:
        return bool((claim.get("status") or {}).get("nodeName"))
    return ready.get("status") == "True"


def failure(claim: Object) -> Problem | None:
    """Why the claim will never become a node: its launch is False, where Unknown means it is still tried."""
    found = conditions(claim)
    for name in STAGES[0]:
        condition = find_condition(found, name)
        if condition is not None and is_false(found, name):
            reason = str(condition.get("reason") or "LaunchFailed")
            return Problem(reason, cut(str(condition.get("message") or "the machine could not be launched")))
    return None


def refusal(claim: Object) -> Problem | None:
    """Why the cloud does not give the claim's machine size now, where another size might be had."""
    found = conditions(claim)
    for name in STAGES[0]:
        condition = find_condition(found, name)
        if condition is not None and not is_true(found, name) and condition.get("reason") in SIZE_REFUSED:
            return Problem(str(condition["reason"]), cut(str(condition.get("message") or "")))
    return None


def dead_gpu(claim: Object) -> Problem | None:
    """That the claim's node has joined without the GPUs of its size, as its controller says."""
    found = conditions(claim)
    for name in STAGES[2]:
        condition = find_condition(found, name)
        if condition is not None and is_false(found, name) and condition.get("reason") == DEAD_GPU:
            return Problem(DEAD_GPU, cut(str(condition.get("message") or "")))
    return None


def progress(claims: Iterable[Object]) -> Problem | None:
    """The first thing that claims wait for: stage by stage, a stated reason before one that says nothing."""
    present = [claim for claim in claims if not deleting(claim)]
    fallback = None
    for names in STAGES:
        for claim in present:
            found = conditions(claim)
            for name in names:
                condition = find_condition(found, name)
                if condition is None or is_true(found, name) or not condition.get("message"):
                    continue
                reason = str(condition.get("reason") or "NodeClaimNotReady")
                problem = Problem(reason, cut(str(condition["message"])))
                if reason != AWAITING:
                    return problem
                fallback = fallback or problem
    return fallback


def claim_manifest(workspace: Object, plan: Plan, config: WorkspaceConfig, slot: int, attempt: int) -> Object:
    """The claim for a slot's attempt."""
    size = plan.size(attempt)
    assert size is not None  # a plan that asks for nodes has sizes
    values = {
        "name": claim_name(plan.uid, slot, attempt),
        "labels": {
            **plan.match_labels,
            WORKSPACE_LABEL: plan.name,
            WORKSPACE_NAMESPACE_LABEL: plan.namespace,
            WORKSPACE_UID_LABEL: plan.uid,
            NODE_SLOT_LABEL: str(slot),
            NODE_ATTEMPT_LABEL: str(attempt),
        },
        "instance_type": size.name,
        "storage": _disk(plan),
        "image_family": _image_family(workspace, config),
        "cloud": config.cloud,
        "node_class": asdict(config.node_class.on(config.cloud)),
    }
    template = "machine" if config.node_provisioner is NodeProvisioner.MACHINE else "nodeclaim"
    return stamped(render(template, {"claim": values}))


def instance_type(claim: Object) -> str | None:
    """The machine size that the claim got, or the first that it asks for."""
    if given := labels_of(claim).get(INSTANCE_TYPE_LABEL):
        return given
    for requirement in (claim.get("spec") or {}).get("requirements") or ():
        if requirement.get("key") == INSTANCE_TYPE_LABEL:
            return str((requirement.get("values") or [""])[0]) or None
    return None


def retired(size: Size) -> str:
    """What to say about a machine size that is no longer sold; empty where there is nothing to say."""
    if size.sku is None or size.sku.retired is None:
        return ""
    return f"{size.sku.cloud.capitalize()} retired {size.name} on {size.sku.retired}"


def describe(claim: Object) -> str:
    """Kind and name, for messages."""
    return f"{claim.get('kind', 'claim')} {metadata(claim).get('name')}"


def _disk(plan: Plan) -> str:
    if plan.preset is None or plan.preset.disk_gib is None:
        return DEFAULT_DISK
    return f"{plan.preset.disk_gib}Gi"


def _image_family(workspace: Object, config: WorkspaceConfig) -> str:
    asked = annotations_of(workspace).get(NODE_IMAGE_FAMILY_ANNOTATION, "").strip().lower()
    return asked if asked in IMAGE_FAMILIES else config.node_image_family
