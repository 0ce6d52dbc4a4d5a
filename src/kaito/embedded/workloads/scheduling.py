"""Which node a pod may run on, as pure functions in kube-scheduler's words.

Filters: cordons, taints, node selector and required node affinity, host ports, and resources against what the node
can allocate. A pod is put on the feasible node that its preferences like best and that is emptiest. Preemption is not
implemented, nor are pod affinity, topology spread and claims of devices: a pod that demands one of these is refused by
name, a mere preference for one is not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kaito.embedded.kubelet.quantity import parse
from kaito.embedded.workloads.pods import Tree, find_condition
from kaito.runtime.objects import CachedObject

UNSCHEDULABLE = "node(s) were unschedulable"
NO_AFFINITY = "node(s) didn't match Pod's node affinity/selector"
NO_PORTS = "node(s) didn't have free ports for the requested pod ports"
TOO_MANY = "Too many pods"
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
"""A node that is not Ready is treated as if it had this taint, which on a cluster another controller sets."""
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}

Resources = Mapping[str, Decimal]
quantity = lru_cache(maxsize=4096)(parse)


@dataclass(frozen=True, slots=True)
class PodNeeds:
    """What the scheduler reads of a pod."""

    requests: Resources
    selector: Mapping[str, str]
    required: Sequence[Tree] | None
    """nodeSelectorTerms; None: no requirement."""
    preferred: Sequence[Tree]
    tolerations: Sequence[Tree]
    host_ports: frozenset[tuple[str, int]]
    node: str
    uid: str
    counts: bool
    """Takes up room on its node: it is neither Succeeded nor Failed."""
    gates: tuple[str, ...] = ()
    """Names of the scheduling gates that somebody has yet to remove."""
    refusal: str = ""
    """Which of its demands this scheduler cannot meet, as a sentence; "" if there is none."""


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """What the scheduler reads of a node."""

    name: str
    labels: Mapping[str, str]
    taints: Sequence[Tree]
    unschedulable: bool
    allocatable: Resources
    ready: bool


def pod_needs(obj: CachedObject) -> PodNeeds:
    """Use through `obj.cached_view(pod_needs)`."""
    tree = obj.decode()
    spec = tree.get("spec") or {}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    containers = spec.get("containers") or []
    return PodNeeds(
        requests=_requests(spec),
        selector=spec.get("nodeSelector") or {},
        required=None if required is None else required.get("nodeSelectorTerms") or [],
        preferred=affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or (),
        tolerations=spec.get("tolerations") or (),
        host_ports=frozenset(
            (port.get("protocol", "TCP"), port["hostPort"])
            for container in containers
            for port in container.get("ports") or ()
            if port.get("hostPort")
        ),
        node=spec.get("nodeName") or "",
        uid=obj.meta.uid,
        counts=(tree.get("status") or {}).get("phase") not in ("Succeeded", "Failed"),
        gates=tuple(str(gate.get("name")) for gate in spec.get("schedulingGates") or ()),
        refusal=refusal(spec),
    )


def refusal(spec: Tree) -> str:
    """What a pod's spec demands of a scheduler and this one does not implement: a sentence, "" if nothing."""
    demands = [
        f"spec.affinity.{kind}.requiredDuringSchedulingIgnoredDuringExecution"
        for kind in ("podAffinity", "podAntiAffinity")
        if ((spec.get("affinity") or {}).get(kind) or {}).get(
            "requiredDuringSchedulingIgnoredDuringExecution"
        )
    ]
    demands += [
        f"spec.topologySpreadConstraints[{index}] (whenUnsatisfiable: DoNotSchedule)"
        for index, each in enumerate(spec.get("topologySpreadConstraints") or ())
        if each.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
    ]
    if spec.get("resourceClaims"):
        demands.append("spec.resourceClaims")
    if not demands:
        return ""
    return f"this scheduler does not implement {', '.join(demands)}: remove it, or run the pod on another cluster"


def node_offer(obj: CachedObject) -> NodeOffer:
    """Use through `obj.cached_view(node_offer)`."""
    tree = obj.decode()
    spec, status = tree.get("spec") or {}, tree.get("status") or {}
    allocatable = status.get("allocatable") or status.get("capacity") or {}
    return NodeOffer(
        name=obj.meta.name,
        labels=obj.meta.labels,
        taints=spec.get("taints") or (),
        unschedulable=bool(spec.get("unschedulable")),
        allocatable={name: quantity(str(value)) for name, value in allocatable.items()},
        ready=find_condition(status, "Ready").get("status") == "True",
    )


def _requests(spec: Tree) -> Resources:
    """A pod's requests: its containers and sidecars together, or the largest init container if that is more."""
    total: Counter[str] = Counter()
    peak: dict[str, Decimal] = {}
    sidecars: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        _add(total, _of(container))
    for container in spec.get("initContainers") or ():
        needs = _of(container)
        if container.get("restartPolicy") == "Always":
            _add(total, needs)
            _add(sidecars, needs)
        else:
            for name, value in needs.items():
                peak[name] = max(peak.get(name, Decimal(0)), value + sidecars[name])
    result: dict[str, Decimal] = {name: Decimal(value) for name, value in total.items()}
    for name, value in peak.items():
        result[name] = max(result.get(name, Decimal(0)), value)
    for name, text in (spec.get("overhead") or {}).items():
        result[name] = result.get(name, Decimal(0)) + quantity(str(text))
    return result


def _of(container: Tree) -> Resources:
    """Requests of one container; a limit without a request is one."""
    resources = container.get("resources") or {}
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity(str(value)) for name, value in merged.items()}


def _add(total: Any, more: Resources) -> None:
    for name, value in more.items():
        total[name] += value


def misfit(pod: PodNeeds, node: NodeOffer) -> str:
    """Why the pod may not run on this node whatever else runs there, in kube-scheduler's words; "" if it may."""
    if pod.refusal:
        return pod.refusal
    if node.unschedulable and not tolerates(pod.tolerations, CORDONED):
        return UNSCHEDULABLE
    taints = node.taints if node.ready else [*node.taints, NOT_READY]
    for taint in taints:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not tolerates(pod.tolerations, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if any(node.labels.get(key) != value for key, value in pod.selector.items()):
        return NO_AFFINITY
    if pod.required is not None and not any(_term_matches(term, node) for term in pod.required):
        return NO_AFFINITY
    return ""


def shortages(pod: PodNeeds, node: NodeOffer, others: Iterable[PodNeeds]) -> list[str]:
    """What the node lacks for this pod beside the others that run there."""
    used: Counter[str] = Counter()
    count, ports = 0, set[tuple[str, int]]()
    for other in others:
        _add(used, other.requests)
        ports |= other.host_ports
        count += 1
    found = [NO_PORTS] if pod.host_ports & ports else []
    room = node.allocatable
    if "pods" in room and count + 1 > room["pods"]:
        found.append(TOO_MANY)
    found += [
        f"Insufficient {name}"
        for name, value in sorted(pod.requests.items())
        if value > 0 and value > room.get(name, Decimal(0)) - used[name]
    ]
    return found


Score = tuple[float, float, int]


def score(pod: PodNeeds, node: NodeOffer, others: Sequence[PodNeeds]) -> Score:
    """Higher is better: preferred affinity less untolerated soft taints, then free room, then fewer pods."""
    liked = sum(
        term.get("weight", 0) for term in pod.preferred if _term_matches(term.get("preference") or {}, node)
    )
    disliked = sum(
        taint.get("effect") == "PreferNoSchedule" and not tolerates(pod.tolerations, taint)
        for taint in node.taints
    )
    shares = []
    for name in ("cpu", "memory", *(each for each in pod.requests if "/" in each)):
        if room := node.allocatable.get(name):
            used = sum((other.requests.get(name, Decimal(0)) for other in others), Decimal(0))
            shares.append(float(1 - used / room))
    return float(liked - disliked), sum(shares) / len(shares) if shares else 0.0, -len(others)


def tolerates(tolerations: Iterable[Tree], taint: Mapping[str, Any]) -> bool:
    return any(_tolerates(each, taint) for each in tolerations)


def _tolerates(toleration: Tree, taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _term_matches(term: Tree, node: NodeOffer) -> bool:
    """All expressions and fields of a term; an empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(each, node.labels.get(each["key"])) for each in expressions) and all(
        _matches(each, node.name if each["key"] == "metadata.name" else None) for each in fields
    )


def _matches(requirement: Tree, value: str | None) -> bool:
    values = requirement.get("values") or []
    match requirement["operator"]:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                left, right = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
        case _:
            return False


def explain(nodes: int, reasons: Iterable[str]) -> str:
    """kube-scheduler's sentence: `0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable.`"""
    if nodes == 0:
        return "no nodes available to schedule pods"
    parts = sorted(f"{count} {reason}" for reason, count in Counter(reasons).items())
    return f"0/{nodes} nodes are available: {', '.join(parts)}."


def explain_gates(gates: Sequence[str]) -> str:
    """What a gated pod waits for."""
    return f"waits until its scheduling gates are removed: {', '.join(gates)}"
