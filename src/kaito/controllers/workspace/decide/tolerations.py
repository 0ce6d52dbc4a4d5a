"""Where pods may land: tolerations and node affinity, ours merged with what a user's own template says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kaito.controllers.workspace.model import Object

OURS: Final[tuple[Object, ...]] = (
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
    {
        "key": "kubernetes.azure.com/scalesetpriority",
        "operator": "Equal",
        "value": "spot",
        "effect": "NoSchedule",
    },
)
"""GPU nodes carry one or the other of the first two taints; AKS puts the third on spot nodes."""


def tolerations(template: Object | None) -> list[Object]:
    """The user's tolerations first, then ours that they do not have."""
    theirs = list(((template or {}).get("spec") or {}).get("tolerations") or ())
    return [*theirs, *(dict(each) for each in OURS if each not in theirs)]


def tolerated(taint: Mapping[str, Any], allowed: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a pod with these tolerations may land on a node with this taint."""
    if taint.get("effect") == "PreferNoSchedule":
        return True
    return any(_tolerates(each, taint) for each in allowed)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    key = toleration.get("key")
    if toleration.get("operator") == "Exists":
        return not key or key == taint.get("key")
    return key == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")


def label_expressions(labels: Mapping[str, str]) -> list[Object]:
    """Expressions of a node selector term that ask for these labels."""
    return [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(labels.items())]


def node_affinity(alternatives: Sequence[Sequence[Object]], template: Object | None) -> Object | None:
    """The pod's affinity: the user's own, with every one of its node terms also asking for one of these alternatives,
    each a list of expressions."""
    theirs: Object = dict(((template or {}).get("spec") or {}).get("affinity") or {})
    if not alternatives:
        return theirs or None
    node = dict(theirs.get("nodeAffinity") or {})
    selector = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = selector.get("nodeSelectorTerms") or [{}]
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {
        "nodeSelectorTerms": [
            {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *expressions]}
            for term in terms
            for expressions in alternatives
        ]
    }
    return {**theirs, "nodeAffinity": node}
