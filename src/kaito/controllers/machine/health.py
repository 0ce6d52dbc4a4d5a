"""Which Nodes are so sick that their machine is replaced. Pure: no I/O, no clock.

The rules are Karpenter's: a Node that is not Ready, or of which nobody knows, for ten minutes. Where more than a fifth
of the Nodes are sick something else is wrong than a machine (the network, the control plane), and nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

from kaito.api import labels
from kaito.api.conditions import find_condition
from kaito.runtime.clock import parse_time, rfc3339

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Policy:
    """A Node whose condition `type` has this status for so many seconds is sick beyond waiting."""

    type: str
    status: str
    patience: float


POLICIES: Final = (Policy("Ready", "False", 600.0), Policy("Ready", "Unknown", 600.0))
"""As gpu-provisioner has them for AKS."""
SICK_SHARE: Final = 0.2
"""Of the Nodes of a pool; rounded up, so that a single Node may always be replaced."""


@dataclass(frozen=True, slots=True)
class Sickness:
    """What a Node suffers from, since when, and when waiting ends."""

    type: str
    status: str
    since: datetime
    due: datetime

    def __str__(self) -> str:
        return f"{self.type}={self.status} since {rfc3339(self.since)}"


def sickness(node: Object, policies: Iterable[Policy] = POLICIES) -> Sickness | None:
    """The Node's sickness whose time is over first; None for a healthy one."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    found = []
    for policy in policies:
        condition = find_condition(conditions, policy.type)
        if condition is not None and condition.get("status") == policy.status:
            if not (turned := condition.get("lastTransitionTime")):
                continue  # no kubelet writes that, and nobody knows since when
            since = parse_time(turned)
            due = since + timedelta(seconds=policy.patience)
            found.append(Sickness(policy.type, policy.status, since, due))
    return min(found, key=lambda each: each.due) if found else None


def pool_of(node: Object, nodes: Iterable[Object]) -> list[Object]:
    """The Nodes that are counted together with this one: of its pool, or all where it is in none."""
    pool = (node["metadata"].get("labels") or {}).get(labels.NODEPOOL_LABEL)
    if not pool:
        return list(nodes)
    return [
        each for each in nodes if (each["metadata"].get("labels") or {}).get(labels.NODEPOOL_LABEL) == pool
    ]


def too_many(pool: Iterable[Object], policies: Iterable[Policy] = POLICIES) -> str:
    """Why nothing of this pool is replaced; "" where it may be."""
    everything, policies = list(pool), tuple(policies)
    sick = sum(sickness(each, policies) is not None for each in everything)
    allowed = ceil(len(everything) * SICK_SHARE)
    if sick <= allowed:
        return ""
    return (
        f"{sick} of {len(everything)} nodes are not healthy, and no more than {allowed} may be replaced at once: look "
        "for what they have in common, such as the network or the control plane"
    )


def termination_patch(claim: Object, now: datetime) -> dict[str, Any] | None:
    """The claim's deadline is now; None where it has one that is over already."""
    noted = (claim["metadata"].get("annotations") or {}).get(labels.TERMINATION_TIMESTAMP_ANNOTATION)
    if noted:
        try:
            if parse_time(noted) <= now:
                return None
        except ValueError:
            pass  # no time: it is replaced by one
    annotations = {labels.TERMINATION_TIMESTAMP_ANNOTATION: rfc3339(now)}
    return {"metadata": {"resourceVersion": claim["metadata"]["resourceVersion"], "annotations": annotations}}
