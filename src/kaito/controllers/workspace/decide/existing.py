"""Nodes that are there already (`--node-provisioner=byo`): found by label, counted only where our pods may land."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from kaito.api.labels import INSTANCE_TYPE_LABEL
from kaito.catalog import (
    Catalog,
    Machine,
    Refused,
    UnreadableGpus,
    machine_of_labels,
    machine_of_sku,
    part_of,
)
from kaito.controllers.workspace.decide.node_state import NodesOutcome, Part
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.tolerations import Landing
from kaito.controllers.workspace.model import Observed, deleting
from kaito.controllers.workspace.node_facts import NodeFacts

NVIDIA_LABELS: Final = ("nvidia.com/gpu.", "nvidia.com/mig.")
"""How labels begin that tell a node's GPUs."""
SHOWN: Final = 5
"""Nodes whose faults a message tells."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What one kind of pod finds among the nodes: how many can take one, what they offer, what is wrong with others."""

    count: int = 0
    faults: tuple[str, ...] = ()
    """Of the first few."""
    faulty: int = 0
    instance_type: str = ""
    gpus: int | None = None
    """Fewest GPUs that one of the fit nodes offers; None where none is fit."""
    machines: tuple[Machine, ...] = ()
    """The kinds of GPUs that the labels tell, the smallest first: of the fit, and of those that come back."""
    untold: str = ""
    """A fit node whose labels speak of GPUs and do not tell them, and why."""


def decide_existing(observed: Observed, plan: Plan, catalog: Catalog) -> NodesOutcome:
    """Whether enough of the labelled nodes can take a pod each. How many that is follows from their GPUs."""
    wanted = plan.preset.gpus if plan.preset is not None else 0
    asked = str((observed.workspace.get("resource") or {}).get("instanceType") or "")
    landing = Landing.of(plan.template)

    def find(nodes: Sequence[NodeFacts]) -> Fit:
        return _fit(nodes, wanted, asked, landing)

    fit = observed.existing.answer((wanted, asked, orjson.dumps(landing)), find)
    sized = _sized(plan, fit, catalog)
    if isinstance(sized, Refused):
        text = f"the nodes with {_selector(plan)}: {sized.sentence}"
        part = Part({}, "Failed", "InsufficientGpuMemory", text)
    else:
        plan, part = sized, _condition(fit, sized)
    return NodesOutcome(
        nodes=part,
        plan=plan,
        worker_nodes=_workers(observed),
        instance_type=fit.instance_type,
        gpus=(wanted if fit.gpus is None else fit.gpus) if wanted else 0,
    )


def _sized(plan: Plan, fit: Fit, catalog: Catalog) -> Plan | Refused:
    """The plan on the smallest GPUs among the nodes, since pods may land on any of them; the plan as it is where
    nothing tells what GPUs they have."""
    if plan.serving is None or not plan.needs_gpu or not fit.count:
        return plan
    machine = fit.machines[0] if fit.machines else _by_name(fit, catalog)
    if machine is None:
        return plan
    stored = plan.serving.stored
    if stored is not None and stored.instance_type == machine.name:
        return replace(plan, choice=stored, count=stored.nodes, seen=machine)
    found = plan.serving.on(machine)
    if isinstance(found, Refused):
        return found
    return replace(plan, choice=found, count=found.nodes, seen=machine)


def _by_name(fit: Fit, catalog: Catalog) -> Machine | None:
    """The GPUs of nodes that only tell their machine size."""
    sku = catalog.sku(fit.instance_type) if fit.instance_type else None
    if sku is None or sku.unusable:
        return None
    return part_of(machine_of_sku(sku), min(sku.gpus, fit.gpus or sku.gpus))


def _up(node: NodeFacts) -> NodeFacts:
    """The node as it is when nothing is wrong with it for a while."""
    return replace(node, ready=True)


def _untold(node: NodeFacts) -> str:
    """What is wrong with labels that NVIDIA's feature discovery wrote; "" where there are none."""
    if not any(label.startswith(NVIDIA_LABELS) for label in node.labels):
        return ""
    try:
        machine_of_labels(node.labels)
    except UnreadableGpus as error:
        return f"{node.name}: {error}"
    return ""


def _machine(node: NodeFacts) -> Machine | None:
    """What a node's labels tell of the GPUs that it offers; None where they tell too little."""
    try:
        found = machine_of_labels(node.labels)
    except UnreadableGpus:
        return None
    if node.gpus:
        found = part_of(found, min(node.gpus, found.gpus))
    return replace(found, name=node.labels.get(INSTANCE_TYPE_LABEL) or found.model)


def _workers(observed: Observed) -> tuple[str, ...]:
    """The nodes of its pods. Which of a pool's nodes those will be is for the scheduler to say."""
    names = {str((pod.get("spec") or {}).get("nodeName") or "") for pod in observed.pods if not deleting(pod)}
    return tuple(sorted(names - {""}))


def _fit(nodes: Sequence[NodeFacts], gpus: int, asked: str, landing: Landing) -> Fit:
    fit: list[NodeFacts] = []
    faults: list[str] = []
    for node in nodes:
        fault = fault_of(node, gpus, asked, landing)
        if fault is None:
            fit.append(node)
        else:
            faults.append(f"{node.name} {fault}")
    possible = [node for node in nodes if fault_of(_up(node), gpus, asked, landing) is None]
    types = {node.labels.get(INSTANCE_TYPE_LABEL, "") for node in fit} - {""}
    return Fit(
        count=len(fit),
        faults=tuple(faults[:SHOWN]),
        faulty=len(faults),
        instance_type=min(types, default=""),
        gpus=min((node.gpus for node in fit), default=None),
        machines=tuple(
            sorted(
                {found for node in possible if (found := _machine(node)) is not None},
                key=lambda each: (each.memory_gib, each.gpus, each.name),
            )
        ),
        untold=next((text for node in fit if gpus and (text := _untold(node))), ""),
    )


def fault_of(node: NodeFacts, gpus: int, asked: str, landing: Landing) -> str | None:
    """Why a pod that asks for so many GPUs may not land on the node; None where it may."""
    if node.leaving:
        return "is being deleted"
    if not node.ready:
        return "is not ready"
    if node.cordoned:
        return "is cordoned"
    if (refusal := landing.refusal(node.labels, node.taints)) is not None:
        return refusal
    has = node.labels.get(INSTANCE_TYPE_LABEL)
    if asked and has and has != asked:
        return f"is a {has}, not a {asked}"
    if gpus and node.gpus < gpus:
        return f"offers {node.gpus} of {gpus} GPUs"
    return None


def _selector(plan: Plan) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(plan.match_labels.items()))


def _condition(fit: Fit, plan: Plan) -> Part:
    if fit.count >= plan.count:
        text = f"{fit.count} nodes match, {plan.count} wanted"
        if len({(each.model, each.memory_gib, each.gpus) for each in fit.machines}) > 1:
            text += f"; their GPUs differ, and the model is served as {fit.machines[0].model} can"
        if plan.seen is None and fit.untold:
            text += f"; whether the model fits is not known, because of {fit.untold}"
        return Part({}, "Ready", "NodesReady", text)
    selector = _selector(plan)
    text = f"{fit.count} of {plan.count} nodes with {selector} can take a pod"
    if fit.faults:
        more = fit.faulty - len(fit.faults)
        text += f"; {'; '.join(fit.faults)}" + (f" and {more} more" if more else "")
    else:
        text += f"; label your GPU nodes: kubectl label node NODE {selector.replace(',', ' ')}"
    return Part({}, "Pending", "NodeNotReady", text)
