"""Nodes that are there already (`--node-provisioner=byo`): found by label, counted only where our pods may land."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from kaito.api.labels import INSTANCE_TYPE_LABEL
from kaito.controllers.workspace.decide.node_state import NodesOutcome, Part
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.tolerations import Landing
from kaito.controllers.workspace.model import Observed, deleting
from kaito.controllers.workspace.node_facts import NodeFacts

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


def decide_existing(observed: Observed, plan: Plan) -> NodesOutcome:
    """Whether enough of the labelled nodes can take a pod each."""
    wanted = plan.preset.gpus if plan.preset is not None else 0
    asked = str((observed.workspace.get("resource") or {}).get("instanceType") or "")
    landing = Landing.of(plan.template)

    def find(nodes: Sequence[NodeFacts]) -> Fit:
        return _fit(nodes, wanted, asked, landing)

    fit = observed.existing.answer((wanted, asked, orjson.dumps(landing)), find)
    return NodesOutcome(
        nodes=_condition(fit, plan),
        worker_nodes=_workers(observed),
        instance_type=fit.instance_type,
        gpus=(wanted if fit.gpus is None else fit.gpus) if wanted else 0,
    )


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
    types = {node.labels.get(INSTANCE_TYPE_LABEL, "") for node in fit} - {""}
    return Fit(
        count=len(fit),
        faults=tuple(faults[:SHOWN]),
        faulty=len(faults),
        instance_type=min(types, default=""),
        gpus=min((node.gpus for node in fit), default=None),
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


def _condition(fit: Fit, plan: Plan) -> Part:
    if fit.count >= plan.count:
        return Part({}, "Ready", "NodesReady", f"{fit.count} nodes match, {plan.count} wanted")
    selector = ",".join(f"{key}={value}" for key, value in sorted(plan.match_labels.items()))
    text = f"{fit.count} of {plan.count} nodes with {selector} can take a pod"
    if fit.faults:
        more = fit.faulty - len(fit.faults)
        text += f"; {'; '.join(fit.faults)}" + (f" and {more} more" if more else "")
    else:
        text += f"; label your GPU nodes: kubectl label node NODE {selector.replace(',', ' ')}"
    return Part({}, "Pending", "NodeNotReady", text)
