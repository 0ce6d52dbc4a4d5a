"""Where pods may land: tolerations and node affinity, ours merged with what a user's own template says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a kind of pod may land, as far as its own template says."""

    tolerations: tuple[Object, ...]
    selector: Mapping[str, str]
    """`spec.nodeSelector`."""
    terms: tuple[Object, ...]
    """Node selector terms of its required affinity, of which one must fit; none: every node fits."""

    @classmethod
    def of(cls, template: Object | None) -> Landing:
        """That of a user's template, or of a preset's pods."""
        spec = (template or {}).get("spec") or {}
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        terms = tuple(required.get("nodeSelectorTerms") or ())
        return cls(tuple(tolerations(template)), spec.get("nodeSelector") or {}, terms)

    def refusal(self, labels: Mapping[str, str], taints: Sequence[Mapping[str, Any]]) -> str | None:
        """What keeps such a pod off a node with these labels and taints; None where it may land."""
        taint = next((each for each in taints if not tolerated(each, self.tolerations)), None)
        if taint is not None:
            return f"has the taint {taint.get('key')}={taint.get('value', '')}:{taint.get('effect')}"
        for key, value in self.selector.items():
            if labels.get(key) != value:
                return f"lacks the label {key}={value} of the template's nodeSelector"
        if self.terms and not any(_fits(term, labels) for term in self.terms):
            return "does not fit the template's node affinity"
        return None


def _fits(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels fits the term. Fields of a node, such as its name, are for the scheduler."""
    return all(_holds(each, labels) for each in term.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    has, values = labels.get(str(expression.get("key"))), list(expression.get("values") or ())
    match expression.get("operator"):
        case "In":
            return has in values
        case "NotIn":
            return has not in values
        case "Exists":
            return has is not None
        case "DoesNotExist":
            return has is None
        case "Gt" | "Lt" as operator:
            if has is None or not has.isdecimal() or len(values) != 1 or not str(values[0]).isdecimal():
                return False
            return int(has) > int(values[0]) if operator == "Gt" else int(has) < int(values[0])
        case _:
            return True


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
