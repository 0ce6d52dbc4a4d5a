"""Which pods keep a Node from being ended, and what is done about each. Pure: no I/O, no clock.

The rules are Karpenter's. Pods go in four tiers, one after the other: those that nobody needs to shut the others down
first, daemons and critical ones last. Pods that would stay anyway (they tolerate the taint of a Node that goes, they
are the kubelet's own, they are over) are neither asked to go nor waited for. A claim may have a last moment
(terminationGracePeriod, or a sick Node): pods are deleted early enough to have their whole grace period before it,
whatever a budget or an annotation says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from kaito.api.labels import DISRUPTED_TAINT, DO_NOT_DISRUPT_ANNOTATION
from kaito.runtime.clock import parse_time
from kaito.runtime.objects import CachedObject

Object = Mapping[str, Any]

CRITICAL: Final = frozenset({"system-cluster-critical", "system-node-critical"})
"""Priority classes of pods that go last."""
DEFAULT_GRACE: Final = 30
"""Seconds of `spec.terminationGracePeriodSeconds` where a pod does not say (Kubernetes)."""
STUCK_AFTER: Final = 60.0
"""Seconds past the end of its grace period after which a pod is not waited for any more (Karpenter)."""
SHORTEST_GRACE: Final = 1
"""Seconds; 0 would take the pod out of the API while its processes still run."""
_OVER: Final = frozenset({"Succeeded", "Failed"})
_PART: Final = re.compile(r"([0-9]+)([smh])")
_DURATION: Final = re.compile(r"([0-9]+[smh])+")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_SLACK: Final = 2.0
"""Seconds by which whole-second times may be off."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What matters of a pod on a Node that is going away.

    grace: seconds it may take to end. ends: when its grace period is over; None while nobody has deleted it.
    tier: 0 goes first. waited_for: whether the Node cannot end before it. protected: it must not be evicted.
    claims: names of its PersistentVolumeClaims, in its own namespace.
    """

    namespace: str
    name: str
    uid: str
    grace: int = DEFAULT_GRACE
    ends: datetime | None = None
    tier: int = 0
    waited_for: bool = True
    protected: bool = False
    claims: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a Node's pods need next.

    waiting: pods without which the Node would be drained. evict: those to be asked now, all of one tier.
    delete: those to be deleted at once, with the seconds each gets. next_look: seconds until time alone changes
    something; None: only an event can.
    """

    waiting: tuple[Pod, ...] = ()
    evict: tuple[Pod, ...] = ()
    delete: tuple[tuple[Pod, int], ...] = ()
    next_look: float | None = None


def plan(pods: Iterable[Pod], now: datetime, deadline: datetime | None) -> Plan:
    """`deadline`: when the Node goes whatever its pods do; None: it waits for them."""
    waiting = [pod for pod in pods if pod.waited_for and not _is_stuck(pod, now, deadline)]
    if not waiting:
        return Plan()
    delete = [(pod, grace) for pod in waiting if (grace := _grace_left(pod, now, deadline)) is not None]
    deleted = {pod.uid for pod, _ in delete}
    first = min(pod.tier for pod in waiting)
    evict = [
        pod
        for pod in waiting
        if pod.tier == first and pod.ends is None and not pod.protected and pod.uid not in deleted
    ]
    return Plan(tuple(waiting), tuple(evict), tuple(delete), _next_look(waiting, now, deadline))


def _is_stuck(pod: Pod, now: datetime, deadline: datetime | None) -> bool:
    """Whether its grace period ended so long ago that its kubelet cannot be there any more."""
    if pod.ends is None:
        return False
    patience = 0.0 if deadline is not None and now >= deadline else STUCK_AFTER
    return now >= pod.ends + timedelta(seconds=patience)


def _grace_left(pod: Pod, now: datetime, deadline: datetime | None) -> int | None:
    """Seconds with which the pod must be deleted now to be gone by the deadline; None: not yet, or no need."""
    if deadline is None:
        return None
    left = (deadline - now).total_seconds()
    if pod.ends is None:
        return max(SHORTEST_GRACE, int(left)) if left <= pod.grace else None
    too_late = pod.ends > max(deadline, now) + timedelta(seconds=_SLACK)
    return max(SHORTEST_GRACE, int(left)) if too_late else None


def _next_look(waiting: Iterable[Pod], now: datetime, deadline: datetime | None) -> float | None:
    moments = []
    for pod in waiting:
        if pod.ends is not None:
            moments.append(pod.ends + timedelta(seconds=STUCK_AFTER))
        if deadline is not None and deadline > now:
            moments.append(deadline if pod.ends is not None else deadline - timedelta(seconds=pod.grace))
        elif deadline is not None and pod.ends is not None:
            moments.append(pod.ends)
    seconds = [(moment - now).total_seconds() for moment in moments]
    return max(1.0, min(seconds)) if seconds else None


def read_pod(pod: CachedObject) -> Pod:
    """What matters of a pod; works on `slim_pod`'s as well as on whole ones."""
    tree = pod.decode()
    metadata, spec, status = tree["metadata"], tree.get("spec") or {}, tree.get("status") or {}
    kinds = {each.get("kind") for each in metadata.get("ownerReferences") or ()}
    ends = metadata.get("deletionTimestamp")
    grace = spec.get("terminationGracePeriodSeconds")
    annotations = metadata.get("annotations") or {}
    critical, daemon = spec.get("priorityClassName") in CRITICAL, "DaemonSet" in kinds
    stays = "Node" in kinds or status.get("phase") in _OVER or tolerates_disruption(spec)
    return Pod(
        metadata.get("namespace", ""),
        metadata["name"],
        metadata["uid"],
        grace=DEFAULT_GRACE if grace is None else int(grace),
        ends=None if ends is None else parse_time(ends),
        tier=2 * critical + daemon,
        waited_for=not stays,
        protected=annotations.get(DO_NOT_DISRUPT_ANNOTATION) == "true",
        claims=tuple(_claims(metadata["name"], spec)),
    )


def slim_pod(pod: CachedObject) -> CachedObject:
    """The pod with nothing but what `read_pod` reads; an informer's transform."""
    tree = pod.decode()
    metadata, spec = tree["metadata"], tree.get("spec") or {}
    identity = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
    protected = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key == DO_NOT_DISRUPT_ANNOTATION
    }
    kept = {
        "metadata": {
            **{key: metadata[key] for key in identity if key in metadata},
            "annotations": protected,
            "ownerReferences": metadata.get("ownerReferences") or [],
        },
        "spec": {
            **{
                key: spec[key]
                for key in ("priorityClassName", "terminationGracePeriodSeconds", "tolerations")
                if key in spec
            },
            "volumes": [
                {key: each[key] for key in ("name", "persistentVolumeClaim", "ephemeral") if key in each}
                for each in spec.get("volumes") or ()
                if "persistentVolumeClaim" in each or "ephemeral" in each
            ],
        },
        "status": {"phase": (tree.get("status") or {}).get("phase", "")},
    }
    return CachedObject.from_dict(kept, pod.resource)


def tolerates_disruption(spec: Object) -> bool:
    """Whether a pod tolerates the taint of a Node that is going away, and so would come back to it."""
    return any(_tolerates(each) for each in spec.get("tolerations") or ())


def _tolerates(toleration: Object) -> bool:
    if toleration.get("effect") not in (None, "", "NoSchedule"):
        return False
    key, exists = toleration.get("key") or "", toleration.get("operator") == "Exists"
    if not key:
        return exists
    return bool(key == DISRUPTED_TAINT and (exists or not toleration.get("value")))


def parse_duration(text: str) -> float:
    """Seconds in a duration as claims write it: `90s`, `1h30m`. Raises ValueError for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write it like 90s or 1h30m")
    return float(sum(int(amount) * _UNITS[unit] for amount, unit in _PART.findall(text)))


def _claims(pod: str, spec: Object) -> Iterable[str]:
    for volume in spec.get("volumes") or ():
        if named := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            yield named
        elif "ephemeral" in volume:
            yield f"{pod}-{volume['name']}"
