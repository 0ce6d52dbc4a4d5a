"""Nodes that are there already (`--node-provisioner=byo`): found by label, counted only where our pods may land."""

from __future__ import annotations

from collections.abc import Sequence

from kaito.api.conditions import is_true
from kaito.api.labels import INSTANCE_TYPE_LABEL
from kaito.controllers.workspace.decide.node_state import NodesOutcome, Part, gpu_capacity
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.tolerations import tolerated, tolerations
from kaito.controllers.workspace.model import Object, Observed, conditions, deleting, labels_of


def decide_existing(observed: Observed, plan: Plan) -> NodesOutcome:
    """Whether enough of the labelled nodes can take a pod each."""
    wanted = plan.preset.gpus if plan.preset is not None else 0
    faults: list[str] = []
    fit: list[str] = []
    for name, node in sorted(observed.nodes.items()):
        if any(labels_of(node).get(key) != value for key, value in plan.match_labels.items()):
            continue
        fault = _fault(node, observed, wanted, plan)
        if fault is None:
            fit.append(name)
        else:
            faults.append(f"{name} {fault}")
    chosen = [observed.nodes[name] for name in fit]
    types = sorted({labels_of(node).get(INSTANCE_TYPE_LABEL, "") for node in chosen} - {""})
    return NodesOutcome(
        nodes=_condition(fit, faults, plan),
        worker_nodes=tuple(fit),
        instance_type=types[0] if types else "",
        gpus=min((gpu_capacity(node) for node in chosen), default=wanted) if wanted else 0,
    )


def _fault(node: Object, observed: Observed, gpus: int, plan: Plan) -> str | None:
    if deleting(node):
        return "is being deleted"
    if not is_true(conditions(node), "Ready"):
        return "is not ready"
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return "is cordoned"
    allowed = tolerations(plan.template)
    taint = next((taint for taint in spec.get("taints") or () if not tolerated(taint, allowed)), None)
    if taint is not None:
        return f"has the taint {taint.get('key')}={taint.get('value', '')}:{taint.get('effect')}"
    asked = (observed.workspace.get("resource") or {}).get("instanceType")
    has = labels_of(node).get(INSTANCE_TYPE_LABEL)
    if asked and has and has != asked:
        return f"is a {has}, not a {asked}"
    if gpus and gpu_capacity(node) < gpus:
        return f"offers {gpu_capacity(node)} of {gpus} GPUs"
    return None


def _condition(fit: Sequence[str], faults: Sequence[str], plan: Plan) -> Part:
    if len(fit) >= plan.count:
        return Part({}, "Ready", "NodesReady", f"{len(fit)} nodes match, {plan.count} wanted")
    selector = ",".join(f"{key}={value}" for key, value in sorted(plan.match_labels.items()))
    text = f"{len(fit)} of {plan.count} nodes with {selector} can take a pod"
    if faults:
        text += f"; {'; '.join(faults[:5])}" + (f" and {len(faults) - 5} more" if len(faults) > 5 else "")
    else:
        text += f"; label your GPU nodes: kubectl label node NODE {selector.replace(',', ' ')}"
    return Part({}, "Pending", "NodeNotReady", text)
